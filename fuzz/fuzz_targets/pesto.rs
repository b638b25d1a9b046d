#![no_main]

use control::hello::Hello;
use control::{
    ConfigurationDecoder, Error, PifTable, UpdateDecoder, encode_configuration, encode_update,
};
use libfuzzer_sys::fuzz_target;
use stack::rule::{Capabilities, Pif};
use zerocopy::IntoBytes as _;

type Outcome = Result<Option<Vec<PifTable>>, Error>;

/// Feeds pieces of `length` bytes until something comes of it.
fn fed(data: &[u8], length: usize, mut feed: impl FnMut(&mut &[u8]) -> Outcome) -> Outcome {
    for mut piece in data.chunks(length) {
        let outcome = feed(&mut piece);
        if outcome != Ok(None) {
            return outcome;
        }
        assert!(piece.is_empty());
    }
    Ok(None)
}

fn configuration(data: &[u8], length: usize) -> Outcome {
    let mut decoder = ConfigurationDecoder::new();
    // Few inputs would guess the hello: half of the lengths have it in front.
    if length & 1 == 0 {
        decoder.feed(&mut Hello::CURRENT.as_bytes())?;
    }
    fed(data, length, |piece| decoder.feed(piece))
}

fn update(data: &[u8], length: usize) -> Outcome {
    let mut decoder = UpdateDecoder::new(Pif::ALL.map(|pif| (pif, Capabilities::ALL)));
    fed(data, length, |piece| decoder.feed(piece))
}

// The first byte is the length of the pieces; the others are what a peer sends.
fuzz_target!(|data: &[u8]| {
    let Some((&length, data)) = data.split_first() else { return };
    let length = usize::from(length).max(1);
    let (from_server, from_client) = (configuration(data, length), update(data, length));
    assert_eq!(from_server, configuration(data, length + 2));
    assert_eq!(from_client, update(data, data.len().max(1)));
    if let Ok(Some(tables)) = from_server {
        let mut decoder = ConfigurationDecoder::new();
        let mut again = decoder.feed(&mut &*encode_configuration(&tables)).unwrap().unwrap();
        // Encoded, they are in order.
        again.sort_by_key(|entry| tables.iter().position(|other| other.pif == entry.pif));
        assert_eq!(again, tables);
    }
    if let Ok(Some(tables)) = from_client {
        assert_eq!(update(&encode_update(&tables), length), Ok(Some(tables)));
    }
});

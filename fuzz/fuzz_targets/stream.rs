#![no_main]

use engine::guest::stream::{BadLength, Inbound};
use libfuzzer_sys::fuzz_target;

type Outcome = (Vec<Vec<u8>>, Result<(), BadLength>);

/// What comes out if the stream arrives in pieces.
fn received(stream: &[u8], mut piece: impl FnMut() -> usize) -> Outcome {
    let mut buffer = Inbound::buffer();
    let mut inbound = Inbound::default();
    let (mut rest, mut out) = (stream, Vec::new());
    while !rest.is_empty() {
        let room = inbound.room(&mut buffer);
        assert!(room.len() >= 256 << 10, "no room for as much as a socket holds");
        let (now, later) = rest.split_at(piece().clamp(1, room.len()).min(rest.len()));
        room[..now.len()].copy_from_slice(now);
        inbound.received(now.len());
        rest = later;
        loop {
            match inbound.next(&buffer) {
                Ok(Some(frame)) => out.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => return (out, Err(error)),
            }
        }
    }
    (out, Ok(()))
}

/// The same from the definition: the whole stream at once.
fn expected(mut stream: &[u8]) -> Outcome {
    let mut out = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let length = u32::from_be_bytes(*length);
        if !(14..=65_535).contains(&length) {
            return (out, Err(BadLength(length)));
        }
        let Some((frame, rest)) = rest.split_at_checked(length as usize) else { break };
        out.push(frame.to_vec());
        stream = rest;
    }
    (out, Ok(()))
}

/// Most lengths are good ones: few inputs would guess them. Three bytes make a frame, or the first length
/// that is none and what follows.
fn stream(data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut chunks = data.chunks_exact(3);
    for (index, chunk) in (&mut chunks).enumerate() {
        let &[kind, high, low] = chunk else { continue };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let length = match kind {
            0 => return [&stream, data].concat(),
            // As they are, or most of them short.
            1..64 => length,
            _ => 14 + length % 2000,
        };
        stream.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
        stream.resize(stream.len() + length, index.to_le_bytes()[0]);
    }
    stream.extend(chunks.remainder());
    stream
}

// The first two bytes say in which pieces the stream arrives; the others are what a hypervisor sends.
fuzz_target!(|data: &[u8]| {
    let Some((&[most, seed], data)) = data.split_first_chunk() else { return };
    let stream = stream(data);
    let wanted = expected(&stream);
    let mut state = u64::from(seed);
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        1 + (state >> 33) as usize % (1 << (most % 20))
    };
    // Single bytes of megabytes would take their time.
    let floor = stream.len() / 10_000;
    assert_eq!(received(&stream, || random().max(floor)), wanted);
    assert_eq!(received(&stream, || usize::MAX), wanted);
});

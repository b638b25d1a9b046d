//! Whole messages, in whatever pieces they come.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::hello::{self, HelloError};
use control::record::RecordError;
use control::{
    ConfigurationDecoder, Error, PifTable, UpdateDecoder, encode_configuration, encode_update,
};
use proptest::prelude::*;
use stack::rule::{Capabilities, Listen, Pif, Protocol, Rule, RuleError, Table};

const BOTH: [(Pif, Capabilities); 2] =
    [(Pif::Host, Capabilities::ALL), (Pif::Splice, Capabilities::ALL)];

fn rule(port: u16) -> Rule {
    Rule {
        protocol: Protocol::Tcp,
        listen: Listen::DualStack,
        device: None,
        first: port,
        last: port,
        to: port,
        target: None,
        best_effort: false,
        scan: false,
    }
}

fn table(pif: Pif, rules: impl IntoIterator<Item = Rule>) -> PifTable {
    let mut entry = PifTable { pif, caps: Capabilities::ALL, table: Table::default() };
    rules.into_iter().for_each(|rule| entry.table.add(rule, Capabilities::ALL).unwrap());
    entry
}

/// Feeds `bytes` in pieces of these lengths, the last of which repeats; 0 counts as 1.
fn pieces<T>(
    mut bytes: &[u8],
    lengths: &[usize],
    mut feed: impl FnMut(&mut &[u8]) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let mut lengths = lengths.iter().chain(std::iter::repeat(lengths.last().unwrap_or(&1)));
    while !bytes.is_empty() {
        let length = (*lengths.next().unwrap()).clamp(1, bytes.len());
        let (mut piece, rest) = bytes.split_at(length);
        let complete = feed(&mut piece)?;
        if complete.is_some() {
            assert!(piece.is_empty() && rest.is_empty(), "complete before the end");
            return Ok(complete);
        }
        assert!(piece.is_empty(), "left over");
        bytes = rest;
    }
    Ok(None)
}

fn configuration(bytes: &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
    let mut decoder = ConfigurationDecoder::new();
    decoder.feed(&mut &*bytes)
}

fn update(bytes: &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
    UpdateDecoder::new(BOTH).feed(&mut &*bytes)
}

/// What a server without rules says, byte by byte.
fn empty_configuration() -> Vec<u8> {
    let mut bytes =
        vec![0x62, 0x61, 0x73, 0x69, 0x6c, 0x3a, 0x73, 0, 0, 0, 0, 2, 0, 0, 0, 0x80, 0, 0, 0, 0x10];
    for (number, name) in [(1, "HOST"), (3, "SPLICE")] {
        bytes.push(number);
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(bytes.len() + 128 - name.len(), 0);
        bytes.extend_from_slice(&[0, 0, 0, 0x3f, 0, 0, 0, 0]);
    }
    bytes.push(0);
    bytes
}

#[test]
fn bytes_of_a_configuration() {
    let empty = [table(Pif::Splice, []), table(Pif::Host, [])];
    let bytes = encode_configuration(&empty);
    assert_eq!(bytes, empty_configuration());
    let tables = configuration(&bytes).unwrap().unwrap();
    assert_eq!(tables, [table(Pif::Host, []), table(Pif::Splice, [])]);
    // A rule stands behind the count.
    let bytes = encode_configuration(&[table(Pif::Host, [rule(8000)])]);
    assert_eq!(bytes.len(), 20 + 1 + 136 + 56 + 1);
    assert_eq!(bytes[153..157], [0, 0, 0, 1]);
    assert_eq!(bytes[205..], [0x1f, 0x40, 0x1f, 0x40, 0x1f, 0x40, 6, 1, 0]);
}

#[test]
fn bytes_of_an_update() {
    let bytes = encode_update(&[table(Pif::Host, [rule(8000)]), table(Pif::Splice, [])]);
    let mut wanted = vec![1, 0, 0, 0, 1];
    wanted.resize(5 + 48, 0);
    wanted.extend_from_slice(&[0x1f, 0x40, 0x1f, 0x40, 0x1f, 0x40, 6, 1]);
    wanted.extend_from_slice(&[3, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, wanted);
}

#[test]
fn tables_that_are_not_sent_become_empty() {
    let only_splice = encode_update(&[table(Pif::Splice, [rule(1)])]);
    let tables = update(&only_splice).unwrap().unwrap();
    assert_eq!(tables, [table(Pif::Host, []), table(Pif::Splice, [rule(1)])]);
    assert_eq!(update(&[0]).unwrap().unwrap(), [table(Pif::Host, []), table(Pif::Splice, [])]);
}

#[test]
fn a_client_that_only_reads_has_not_started() {
    let mut decoder = UpdateDecoder::new(BOTH);
    assert_eq!(decoder.feed(&mut &[][..]), Ok(None));
    assert!(!decoder.started());
    assert_eq!(decoder.feed(&mut &[1][..]), Ok(None));
    assert!(decoder.started());
}

#[test]
fn the_end_is_the_end() {
    let bytes = [encode_update(&[]), vec![1, 2]].concat();
    let mut input = &bytes[..];
    let mut decoder = UpdateDecoder::new(BOTH);
    assert!(decoder.feed(&mut input).unwrap().is_some());
    assert_eq!(input, [1, 2]);
    assert_eq!(decoder.feed(&mut input), Err(Error::Behind));
    let mut decoder = ConfigurationDecoder::new();
    assert!(decoder.feed(&mut &[0; 20][..]).is_err());
    assert_eq!(decoder.feed(&mut &[0; 20][..]), Err(Error::Behind));
}

#[test]
fn what_a_server_refuses() {
    let record = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = encode_update(&[table(Pif::Host, [rule(8000)])]);
        change(&mut bytes[5..61]);
        update(&bytes).unwrap_err()
    };
    assert_eq!(record(&|rule| rule[55] |= 8), Error::Record(RecordError::Flags(8)));
    assert_eq!(record(&|rule| rule[54] = 1), Error::Record(RecordError::Protocol(1)));
    assert_eq!(
        record(&|rule| rule[32..48].fill(b'x')),
        Error::Record(RecordError::UnterminatedDevice)
    );
    assert!(matches!(
        record(&|rule| rule[15] = 1),
        Error::Record(RecordError::DualStackAddress(_))
    ));
    let refused = record(&|rule| rule[48..50].fill(0));
    assert_eq!(
        refused.to_string(),
        "Forwarding rule attempts to map from port 0\nUnable to add rule TCP [*]:0-8000  =>  8000-16000 "
    );
    let families = record(&|rule| {
        rule[10..16].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        rule[16] = 0xfd;
        rule[55] = 0;
    });
    assert!(matches!(families, Error::Rule(_, RuleError::MixedFamilies(..))), "{families:?}");

    // Of a table.
    for number in [2, 4, 255] {
        assert_eq!(update(&[number]), Err(Error::NoTable(number)));
        assert!(Error::NoTable(number).to_string().contains("rules for non-existent table"));
    }
    let mut passt = UpdateDecoder::new([(Pif::Host, Capabilities::ALL)]);
    assert_eq!(passt.feed(&mut &[3][..]), Err(Error::NoTable(3)));
    assert_eq!(update(&[1, 0, 0, 0, 0, 1]), Err(Error::Duplicate(Pif::Host)));
    assert_eq!(update(&[3, 0, 0, 1, 0]), Err(Error::TooManyRules { pif: Pif::Splice, count: 256 }));
    assert_eq!(
        update(&[1, 0xff, 0xff, 0xff, 0xff]),
        Err(Error::TooManyRules { pif: Pif::Host, count: u32::MAX })
    );

    // In view of the server.
    let bytes = encode_update(&[table(Pif::Host, [rule(1)])]);
    let caps = Capabilities { ipv6: false, ..Capabilities::ALL };
    let error = UpdateDecoder::new([(Pif::Host, caps)]).feed(&mut &*bytes).unwrap_err();
    assert_eq!(error, Error::Rule(Box::new(rule(1)), RuleError::DualStackFamily("IPv6")));
    let once = encode_update(&[table(Pif::Host, [rule(1)])]);
    let twice = [&[1, 0, 0, 0, 2], &once[5..61], &once[5..61]].concat();
    assert!(matches!(update(&twice), Err(Error::Rule(_, RuleError::Conflict(..)))));
}

#[test]
fn what_a_client_refuses() {
    let changed = |at: usize, byte: u8| {
        let mut bytes = empty_configuration();
        bytes[at] = byte;
        configuration(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, b'c'), Error::Hello(HelloError::Magic));
    assert_eq!(changed(11, 0), Error::Hello(HelloError::Experimental));
    assert_eq!(changed(11, 1), Error::Hello(HelloError::Old(1)));
    assert_eq!(changed(11, 3), Error::Hello(HelloError::Unknown(3)));
    assert_eq!(changed(19, 15), Error::Hello(HelloError::Sizes(128, 15)));
    assert_eq!(changed(20, 2), Error::UnknownTable(2, "HOST".into()));
    assert_eq!(changed(20, 3), Error::UnknownTable(3, "HOST".into()));
    assert_eq!(changed(21, b'M'), Error::UnknownTable(1, "MOST".into()));
    assert_eq!(changed(155, 1), Error::TooManyRules { pif: Pif::Host, count: 256 });
    // The hello is looked at before anything else comes.
    let mut decoder = ConfigurationDecoder::new();
    let mut hello = empty_configuration();
    hello.truncate(hello::LEN);
    hello[11] = 9;
    assert_eq!(decoder.feed(&mut &*hello), Err(Error::Hello(HelloError::Unknown(9))));
    // Twice the same.
    let once = empty_configuration();
    let twice = [&once[..157], &once[20..]].concat();
    assert_eq!(configuration(&twice), Err(Error::Duplicate(Pif::Host)));
}

#[test]
fn full_tables() {
    let full = [Pif::Host, Pif::Splice].map(|pif| table(pif, (1..=255).map(rule)));
    assert_eq!(configuration(&encode_configuration(&full)).unwrap().unwrap(), full);
    assert_eq!(update(&encode_update(&full)).unwrap().unwrap(), full);
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).to_canonical()),
        prop_oneof![Just("0.0.0.0"), Just("::"), Just("::1"), Just("127.0.0.1")]
            .prop_map(|text| text.parse().unwrap()),
    ]
}

prop_compose! {
    fn any_rule()(
        tcp in any::<bool>(),
        on in proptest::option::of(address()),
        device in proptest::option::of("[a-z0-9.-]{1,15}"),
        first in 1_u16..,
        len in 0_u16..100,
        to in 1_u16..,
        target in proptest::option::of(address()),
        flags in any::<[bool; 2]>(),
    ) -> Rule {
        Rule {
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
            listen: on.map_or(Listen::DualStack, Listen::On),
            device,
            first,
            last: first.saturating_add(len),
            to,
            // As bytes, :: is none.
            target: target.filter(|&target| target != Ipv6Addr::UNSPECIFIED),
            best_effort: flags[0],
            scan: flags[1],
        }
    }
}

/// Tables out of those rules that go together.
fn tables() -> impl Strategy<Value = Vec<PifTable>> {
    let caps = any::<[bool; 6]>().prop_map(|[ipv4, ipv6, tcp, udp, scan, device]| Capabilities {
        ipv4: ipv4 || !ipv6,
        ipv6,
        tcp: tcp || !udp,
        udp,
        scan,
        device,
    });
    let table = (caps, proptest::collection::vec(any_rule(), 0..40)).prop_map(|(caps, rules)| {
        let mut table = Table::default();
        for rule in rules {
            let _ = table.add(rule, caps);
        }
        (caps, table)
    });
    let table = table.boxed();
    (table.clone(), proptest::option::of(table)).prop_map(|(host, splice)| {
        let splice = splice.map(|splice| (Pif::Splice, splice));
        std::iter::once((Pif::Host, host))
            .chain(splice)
            .map(|(pif, (caps, table))| PifTable { pif, caps, table })
            .collect()
    })
}

/// Bytes that go further than arbitrary ones: a message, spoilt a little.
fn nearly(message: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (message, changes).prop_map(|(mut message, changes)| {
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message
    })
}

proptest! {
    #[test]
    fn tables_survive_any_pieces(
        tables in tables(),
        lengths in proptest::collection::vec(0_usize..200, 0..20),
    ) {
        let mut decoder = ConfigurationDecoder::new();
        let bytes = encode_configuration(&tables);
        let read = pieces(&bytes, &lengths, |piece| decoder.feed(piece));
        prop_assert_eq!(read.unwrap().unwrap(), &tables[..]);

        let server = tables.iter().map(|entry| (entry.pif, entry.caps));
        let mut decoder = UpdateDecoder::new(server);
        let read = pieces(&encode_update(&tables), &lengths, |piece| decoder.feed(piece));
        prop_assert_eq!(read.unwrap().unwrap(), &tables[..]);
    }

    #[test]
    fn nothing_is_complete_before_its_end(tables in tables(), cut in any::<prop::sample::Index>()) {
        let bytes = encode_configuration(&tables);
        prop_assert_eq!(configuration(&bytes[..cut.index(bytes.len())]), Ok(None));
        let bytes = encode_update(&tables);
        let server = tables.iter().map(|entry| (entry.pif, entry.caps));
        let mut decoder = UpdateDecoder::new(server);
        prop_assert_eq!(decoder.feed(&mut &bytes[..cut.index(bytes.len())]), Ok(None));
    }

    #[test]
    fn pieces_make_no_difference_to_nonsense(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            nearly(tables().prop_map(|tables| encode_update(&tables))),
            nearly(tables().prop_map(|tables| encode_configuration(&tables))),
        ],
        length in 1_usize..100,
    ) {
        let whole = (configuration(&bytes), update(&bytes));
        let (mut server, mut client) = (ConfigurationDecoder::new(), UpdateDecoder::new(BOTH));
        let mut split = (Ok(None), Ok(None));
        for mut piece in bytes.chunks(length) {
            if split.0 == Ok(None) {
                split.0 = server.feed(&mut piece);
            }
        }
        for mut piece in bytes.chunks(length) {
            if split.1 == Ok(None) {
                split.1 = client.feed(&mut piece);
            }
        }
        prop_assert_eq!(whole, split);
    }
}

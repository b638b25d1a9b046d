use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn ip(protocol: u8) -> Ip {
    Ip {
        src: Ipv4Addr::new(192, 0, 2, 1).into(),
        dst: Ipv4Addr::new(198, 51, 100, 7).into(),
        protocol,
        ttl: 64,
        flow_label: 0,
    }
}

fn ip6() -> Ip {
    Ip { src: "2001:db8::1".parse().unwrap(), dst: "2001:db8::2".parse().unwrap(), ..ip(17) }
}

fn piece(ip: Ip, id: u32, offset: usize, more: bool, data: &[u8]) -> Fragment<'_> {
    Fragment { ip, id, offset, more, data }
}

const NOW: Instant = Instant::from_millis(1_000);

#[test]
fn overlaps_are_refused_and_so_is_what_follows() {
    for ip in [ip(17), ip6()] {
        let mut reassembly = Reassembly::default();
        let mut add = |offset, more, data: &[u8]| {
            reassembly.insert(NOW, &piece(ip, 1, offset, more, data)).map(|(_, data)| data.to_vec())
        };
        assert_eq!(add(0, true, &[1; 16]), None);
        assert_eq!(add(8, true, &[2; 16]), None);
        assert_eq!(add(16, false, &[3; 8]), None, "the whole datagram is lost");
        assert_eq!(add(0, true, &[1; 16]), None);
        assert_eq!(add(16, false, &[3; 8]), None);
    }
}

#[test]
fn exact_copies_are_duplicates() {
    let mut reassembly = Reassembly::default();
    let mut add = |offset, more, data: &[u8]| {
        reassembly.insert(NOW, &piece(ip(17), 1, offset, more, data)).map(|(_, d)| d.to_vec())
    };
    assert_eq!(add(0, true, &[1; 16]), None);
    assert_eq!(add(0, true, &[1; 16]), None);
    assert_eq!(add(24, false, &[3; 3]), None);
    assert_eq!(add(24, false, &[3; 3]), None);
    assert_eq!(add(16, true, &[2; 8]).unwrap().len(), 27);
}

#[test]
fn ends_that_contradict_each_other() {
    let cases: [&[(usize, bool, usize)]; 4] = [
        &[(16, false, 8), (8, false, 8), (0, true, 16)],
        &[(16, false, 8), (24, true, 8), (0, true, 16)],
        &[(32, true, 8), (16, false, 8), (0, true, 16)],
        // The same end, but once it is not the last.
        &[(16, false, 8), (16, true, 8), (0, true, 16)],
    ];
    for case in cases {
        let mut reassembly = Reassembly::default();
        for &(offset, more, len) in case {
            let data = vec![1; len];
            let done = reassembly.insert(NOW, &piece(ip(17), 1, offset, more, &data));
            // In the last case the copy is a duplicate in content, so only the flag is lost.
            assert!(done.is_none() || case[1] == (16, true, 8), "{case:?}");
        }
    }
}

#[test]
fn impossible_pieces() {
    let mut reassembly = Reassembly::default();
    for (offset, more, len) in [(0, true, 0), (0, true, 7), (65_528, false, 8), (8, false, 0)] {
        let data = vec![1; len];
        assert!(reassembly.insert(NOW, &piece(ip(17), 1, offset, more, &data)).is_none());
    }
    assert!(reassembly.datagrams.is_empty());
}

#[test]
fn the_first_fragment_says_what_it_is() {
    let mut reassembly = Reassembly::default();
    let late = Ip { protocol: 99, ttl: 3, ..ip6() };
    assert!(reassembly.insert(NOW, &piece(late, 1, 8, false, &[2; 8])).is_none());
    let (ip, data) = reassembly.insert(NOW, &piece(ip6(), 1, 0, true, &[1; 8])).unwrap();
    assert_eq!((ip, data.len()), (ip6(), 16));
}

#[test]
fn keys_and_timeouts() {
    let mut reassembly = Reassembly::default();
    let start = |ip, id| piece(ip, id, 0, true, &[1; 8]);
    let end = |ip, id| piece(ip, id, 8, false, &[2; 8]);
    assert!(reassembly.insert(NOW, &start(ip(17), 1)).is_none());
    assert!(reassembly.insert(NOW, &end(ip(1), 1)).is_none(), "another protocol");
    assert!(reassembly.insert(NOW, &end(ip(17), 2)).is_none(), "another identification");
    let later = NOW + Duration::from_secs(30);
    assert!(reassembly.insert(later, &end(ip(17), 1)).is_none(), "too late");
    assert!(reassembly.insert(NOW, &start(ip6(), 9)).is_none());
    assert!(reassembly.insert(later, &end(ip6(), 9)).is_some());
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut reassembly = Reassembly::default();
    for id in 0..1000u32 {
        let now = NOW + Duration::from_millis(id.into());
        assert!(reassembly.insert(now, &piece(ip(17), id, 65_000, true, &[1; 8])).is_none());
    }
    assert_eq!(reassembly.datagrams.len(), MAX_DATAGRAMS);
    assert!(reassembly.datagrams.iter().all(|datagram| datagram.data.capacity() <= MAX_LEN));
    let now = NOW + Duration::from_secs(2);
    assert!(reassembly.datagrams.iter().all(|datagram| datagram.key.id >= 968));
    // Everything expires, and places are used again.
    let later = now + Duration::from_secs(60);
    assert!(reassembly.insert(later, &piece(ip(17), 5000, 0, true, &[1; 8])).is_none());
    assert!(reassembly.insert(later, &piece(ip(17), 5000, 8, false, &[1; 1])).is_some());
    assert_eq!(reassembly.datagrams.len(), MAX_DATAGRAMS);
}

proptest! {
    /// Pieces of random sizes in random order, some of them twice, make the datagram they were cut from.
    #[test]
    fn random_cuts(
        data in prop::collection::vec(any::<u8>(), 1..5000),
        cuts in prop::collection::vec(1usize..100, 1..20),
        seed in any::<u64>(),
    ) {
        let mut pieces = Vec::new();
        let mut offset = 0;
        for units in cuts.iter().cycle() {
            let end = (offset + units * 8).min(data.len());
            pieces.push((offset, end));
            offset = end;
            if end == data.len() {
                break;
            }
        }
        prop_assume!(pieces.len() > 1);
        let mut random = seed | 1;
        let last = pieces.len();
        for i in (1..last).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(i, (random >> 33) as usize % (i + 1));
        }
        let mut reassembly = Reassembly::default();
        let mut done = 0;
        for (i, &(from, to)) in pieces.iter().enumerate() {
            for copy in 0..2 {
                let fragment = piece(ip(17), 7, from, to < data.len(), &data[from..to]);
                if let Some((_, whole)) = reassembly.insert(NOW, &fragment) {
                    prop_assert_eq!(whole, &data[..]);
                    done += 1;
                    prop_assert_eq!((i, copy), (last - 1, 0));
                }
                if i == last - 1 {
                    break;
                }
            }
        }
        prop_assert_eq!(done, 1);
    }

    #[test]
    fn random_pieces_are_survived(
        pieces in prop::collection::vec((0u32..4, 0usize..8192, any::<bool>(), 0usize..1500), 0..200),
    ) {
        let mut reassembly = Reassembly::default();
        for (id, unit, more, len) in pieces {
            let data = vec![1; len];
            let fragment = piece(ip(17), id, unit * 8, more, &data);
            if let Some((_, whole)) = reassembly.insert(NOW, &fragment) {
                prop_assert!(whole.len() <= MAX_LEN);
            }
        }
    }
}

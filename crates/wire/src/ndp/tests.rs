use super::*;
use crate::checksum;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn verify(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let len = u32::try_from(message.len()).unwrap();
    assert!(checksum::verify(checksum::pseudo_header_v6(src, dst, 58, len), message));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn reference_advertisement() {
    let (src, dst) = (addr("fe80::1"), addr("fe80::2"));
    let mut out = [0xee; 400];
    let mut ra = RouterAdvertisementWriter::new(&mut out, 255, RA_MANAGED, 65535).unwrap();
    ra.prefix(addr("2001:db8:1::1"), 64, PREFIX_ON_LINK | PREFIX_AUTONOMOUS).unwrap();
    ra.source_link(MAC).unwrap();
    ra.mtu(65520).unwrap();
    ra.rdnss(&[addr("2001:db8::53")]).unwrap();
    ra.dnssl(["example.org", "lab.example.org"].into_iter()).unwrap();
    let len = ra.finish(src, dst);
    let message = &out[..len];
    verify(message, src, dst);
    let mut expected = hex("86 00 0000 ff 80 ffff 00000000 00000000
         03 04 40 c0 ffffffff ffffffff 00000000 20010db8000100000000000000000000
         01 01 9a559a559a55 05 01 0000 0000fff0
         19 03 0000 ffffffff 20010db8000000000000000000000053
         1f 05 0000 ffffffff");
    expected.extend_from_slice(b"\x07example\x03org\0\x03lab\x07example\x03org\0");
    expected.extend_from_slice(&[0, 0]);
    // Everything but the checksum. The last option: 8 + 13 + 17 + 2 of padding are 5 units of 8.
    assert_eq!(message[..2], expected[..2]);
    assert_eq!(message[4..], expected[4..]);

    let (view, options) = RouterAdvertisement::parse(message).unwrap();
    assert_eq!((view.lifetime.get(), view.flags, view.hop_limit), (65535, 0x80, 255));
    let options: Vec<_> = options.collect();
    assert_eq!(options.len(), 5);
    assert_eq!(options[1], NdpOption::SourceLink(MAC));
    assert_eq!(options[2], NdpOption::Mtu(65520));
    assert_eq!(
        options[3],
        NdpOption::Rdnss { lifetime: INFINITE, servers: &[addr("2001:db8::53").octets()] }
    );
}

#[test]
fn search_list_of_every_length_has_a_right_option_length() {
    for n in 1..=63 {
        let name = "n".repeat(n);
        let mut out = [0xee; 200];
        let mut ra = RouterAdvertisementWriter::new(&mut out, 255, 0, 0).unwrap();
        ra.dnssl([name.as_str()].into_iter()).unwrap();
        let len = ra.finish(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        assert_eq!(len, 16 + (8 + n + 2).next_multiple_of(8));
        let (_, mut options) = RouterAdvertisement::parse(&out[..len]).unwrap();
        let Some(NdpOption::Dnssl { names, .. }) = options.next() else { panic!("{n}") };
        assert_eq!(names.len(), (n + 2).next_multiple_of(8));
        assert!(names[n + 2..].iter().all(|b| *b == 0));
        assert_eq!(options.next(), None);
    }
}

#[test]
fn search_list_that_does_not_fit() {
    let mut out = [0; 16 + 8 + 24];
    let mut ra = RouterAdvertisementWriter::new(&mut out, 255, 0, 0).unwrap();
    // 22 bytes fit with 2 of padding, the next name no more, a short one neither.
    ra.dnssl(["example.org", "..", "too.long.example", "xyz.abc", "a"].into_iter()).unwrap();
    let len = ra.finish(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    assert_eq!(len, out.len());
    assert_eq!(&out[24..], b"\x07example\x03org\0\x03xyz\x03abc\0\0\0");
    let mut ra = RouterAdvertisementWriter::new(&mut out, 255, 0, 0).unwrap();
    assert_eq!(ra.dnssl(["."].into_iter()), None);
    assert_eq!(ra.rdnss(&[]), Some(()));
    assert_eq!(ra.finish(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), 16);
}

#[test]
fn neighbour_messages() {
    let (src, dst, target) = (addr("fe80::1"), addr("fe80::2"), addr("2001:db8::9"));
    let mut out = [0; 64];
    let len = write_neighbor_advertisement(
        &mut out,
        NA_ROUTER | NA_SOLICITED | NA_OVERRIDE,
        (target, MAC),
        src,
        dst,
    )
    .unwrap();
    verify(&out[..len], src, dst);
    assert_eq!(out[4..8], [0xe0, 0, 0, 0]);
    let (view, mut options) = NeighborMessage::parse(&out[..len]).unwrap();
    assert_eq!((view.kind, view.target_addr()), (136, target));
    assert_eq!(options.next(), Some(NdpOption::TargetLink(MAC)));

    let len = write_neighbor_solicitation(&mut out, target, None, src, dst).unwrap();
    assert_eq!((len, out[0]), (24, 135));
    let len = write_neighbor_solicitation(&mut out, target, Some(MAC), src, dst).unwrap();
    let (_, options) = NeighborMessage::parse(&out[..len]).unwrap();
    assert_eq!(options.source_link(), Some(MAC));
    assert_eq!(write_neighbor_solicitation(&mut out[..31], target, Some(MAC), src, dst), None);
}

#[test]
fn malformed_messages() {
    let mut out = [0; 32];
    let any = Ipv6Addr::UNSPECIFIED;
    let len = write_neighbor_solicitation(&mut out, addr("fe80::3"), Some(MAC), any, any).unwrap();
    assert!(NeighborMessage::parse(&out[..len]).is_some());
    for len in (0..24).chain(25..32) {
        assert!(NeighborMessage::parse(&out[..len]).is_none(), "{len}");
    }
    let with = |at: usize, value: u8| {
        let mut bad = out;
        bad[at] = value;
        NeighborMessage::parse(&bad).is_some()
    };
    assert!(!with(1, 1), "code");
    assert!(!with(8, 0xff), "group as target");
    assert!(!with(25, 0), "option of length 0");
    assert!(!with(25, 2), "option beyond the end");
    assert!(parse_router_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0]).is_some());
    assert!(parse_router_solicitation(&[133, 0, 0, 0, 0, 0, 0]).is_none());
    assert!(parse_router_solicitation(&[133, 9, 0, 0, 0, 0, 0, 0]).is_none());
}

proptest! {
    #[test]
    fn options_cover_what_was_checked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(options) = Options::new(&bytes) {
            prop_assert!(options.count() <= bytes.len() / 8);
            prop_assert_eq!(bytes.len() % 8, 0);
        }
        let _ = NeighborMessage::parse(&bytes);
        let _ = RouterAdvertisement::parse(&bytes);
        let _ = parse_router_solicitation(&bytes);
    }
}

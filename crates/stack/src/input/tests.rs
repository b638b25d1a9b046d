//! Whole frames through the whole stack, and rubbish.

use etherparse::{IpFragOffset, IpHeaders, Ipv4Header, Ipv6RawExtHeader, PacketBuilder};
use proptest::prelude::*;
use wire::ethernet::MacAddr;

use crate::io::Gso;
use crate::testing::{
    GUEST_MAC, OUR_MAC, Rig, config, echo_frame, from_guest, udp_frame, unreachable_frame,
};

const GUEST: &str = "192.0.2.1:4000";
const PEER: &str = "198.51.100.7:9002";

fn sent(rig: &Rig) -> Vec<Vec<u8>> {
    rig.udp().borrow().sent.iter().map(|(data, _, _)| data.clone()).collect()
}

#[test]
fn padding_is_no_payload() {
    let mut rig = Rig::new(config());
    let mut frame = udp_frame(GUEST, PEER, b"abc");
    frame.resize(60, 0);
    rig.frame(&frame);
    assert_eq!(sent(&rig), [b"abc"]);
    let mut frame = udp_frame("[2001:db8:1::1]:4000", "[2001:db8::7]:9002", b"abc");
    frame.extend_from_slice(&[0; 9]);
    rig.frame(&frame);
    assert_eq!(rig.host.udp[1].borrow().sent[0].0, b"abc");
    assert_eq!(rig.stack.stats().frames_dropped, 0);
}

#[test]
fn ipv4_options_are_skipped() {
    let mut rig = Rig::new(config());
    let mut ip =
        Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, [192, 0, 2, 1], [198, 51, 100, 7])
            .unwrap();
    ip.options = [1, 1, 1, 1, 7, 4, 4, 0].into();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GUEST_MAC.0, OUR_MAC.0)
        .ip(IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()))
        .udp(4000, 9002)
        .write(&mut frame, b"options")
        .unwrap();
    rig.frame(&frame);
    assert_eq!(sent(&rig), [b"options"]);
}

/// The last extension header of a chain must be stepped over too: otherwise its bytes are ports.
#[test]
fn ipv6_extension_headers_are_walked() {
    let mut rig = Rig::new(config());
    let mut frame = Vec::new();
    let mut ip = etherparse::Ipv6Header {
        hop_limit: 9,
        source: "2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        destination: "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        ..etherparse::Ipv6Header::default()
    };
    let options = Ipv6RawExtHeader::new_raw(17.into(), &[1, 4, 0, 0, 0, 0]).unwrap();
    ip.next_header = 60.into();
    let extensions = etherparse::Ipv6Extensions {
        hop_by_hop_options: Some(options.clone()),
        destination_options: Some(options),
        ..etherparse::Ipv6Extensions::default()
    };
    PacketBuilder::ethernet2(GUEST_MAC.0, OUR_MAC.0)
        .ip(IpHeaders::Ipv6(ip, extensions))
        .udp(4000, 9002)
        .write(&mut frame, b"ext")
        .unwrap();
    rig.frame(&frame);
    assert_eq!(rig.udp().borrow().to.unwrap().to_string(), "[2001:db8::7]:9002");
    assert_eq!(rig.udp().borrow().sent, [(b"ext".to_vec(), 3, 9)]);
}

#[test]
fn what_is_dropped() {
    let mut rig = Rig::new(config());
    let mut vlan = udp_frame(GUEST, PEER, b"x");
    vlan[12..14].copy_from_slice(&[0x81, 0]);
    let mut long = udp_frame(GUEST, PEER, b"x");
    long[16..18].copy_from_slice(&[0, 200]);
    let mut version = udp_frame(GUEST, PEER, b"x");
    version[14] = 0x65;
    let mut udp_length = udp_frame(GUEST, PEER, b"x");
    udp_length[38..40].copy_from_slice(&[0, 50]);
    let mut igmp = udp_frame(GUEST, PEER, b"x");
    igmp[23] = 2;
    let frames = [
        vec![],
        vec![0; 13],
        vlan,
        long,
        version,
        udp_length,
        igmp,
        udp_frame("127.0.0.1:4000", PEER, b"x"),
        udp_frame(GUEST, "127.0.0.1:53", b"x"),
        udp_frame("[::1]:4000", "[2001:db8::1]:1", b"x"),
        udp_frame("[2001:db8::1]:4000", "[::1]:1", b"x"),
        udp_frame("224.0.0.1:4000", PEER, b"x"),
        udp_frame("0.0.0.0:4000", PEER, b"x"),
        udp_frame(GUEST, "0.0.0.0:9", b"x"),
        udp_frame("192.0.2.1:0", PEER, b"x"),
        udp_frame(GUEST, "198.51.100.7:0", b"x"),
        echo_frame("224.0.0.1", "198.51.100.7", 64, (1, 1), b"x"),
    ];
    for (i, frame) in frames.iter().enumerate() {
        rig.frame(frame);
        assert_eq!(rig.stack.stats().frames_dropped, i as u64 + 1, "frame {i}");
    }
    assert!(rig.host.udp.is_empty() && rig.host.ping.is_empty() && rig.host.tcp.is_empty());
    assert!(rig.frames().is_empty());
}

fn syn(src: &str, dst: &str, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    from_guest(src, dst, 64).tcp(4000, port, 1, 65535).syn().write(&mut frame, &[]).unwrap();
    frame
}

#[test]
fn tcp_goes_where_the_address_is_mapped() {
    let mut rig = Rig::new(config());
    rig.frame(&syn("192.0.2.1", "192.0.2.2", 80));
    rig.frame(&syn("2001:db8:1::1", "2001:db8::9", 443));
    let to: Vec<_> = rig.host.tcp.iter().map(|(to, _)| to.to_string()).collect();
    assert_eq!(to, ["127.0.0.1:80", "[2001:db8::9]:443"]);
    for (dst, port) in [("224.0.0.1", 80), ("255.255.255.255", 80), ("192.0.2.2", 0)] {
        rig.frame(&syn("192.0.2.1", dst, port));
    }
    assert_eq!((rig.host.tcp.len(), rig.stack.stats().frames_dropped), (2, 3));
}

/// To a socket of the host, `::ffff:127.0.0.1` is `127.0.0.1`.
#[test]
fn ipv4_does_not_hide_in_ipv6() {
    let mut rig = Rig::new(config());
    let seen = rig.stack.link().v6_seen();
    for dst in ["::ffff:127.0.0.1", "::ffff:198.51.100.7", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
        rig.frame(&syn("2001:db8:1::1", dst, 80));
        rig.frame(&udp_frame("[2001:db8:1::1]:4000", &format!("[{dst}]:53"), b"x"));
        rig.frame(&echo_frame("2001:db8:1::1", dst, 64, (1, 1), b"x"));
    }
    rig.frame(&syn("::ffff:192.0.2.1", "2001:db8::9", 80));
    rig.frame(&udp_frame("[::ffff:192.0.2.1]:4000", "[2001:db8::9]:53", b"x"));
    assert!(rig.host.tcp.is_empty() && rig.host.udp.is_empty() && rig.host.ping.is_empty());
    assert_eq!(rig.stack.stats().frames_dropped, 14);
    assert_eq!(rig.stack.link().v6_seen(), seen, "nor is the guest there");
}

#[test]
fn switches() {
    let mut off = config();
    off.services.tcp = false;
    off.services.udp = false;
    off.services.icmp = false;
    let mut rig = Rig::new(off);
    rig.frame(&syn("192.0.2.1", "192.0.2.2", 80));
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    rig.frame(&echo_frame("192.0.2.1", "192.0.2.2", 64, (1, 1), b"x"));
    assert_eq!(rig.stack.stats().frames_dropped, 3);
    let mut off = config();
    off.v4 = None;
    off.v6 = None;
    let mut rig = Rig::new(off);
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    rig.frame(&udp_frame("[2001:db8:1::1]:4000", "[2001:db8::7]:9002", b"x"));
    assert_eq!(rig.stack.stats().frames_dropped, 2);
}

#[test]
fn sources_are_observed() {
    let mut rig = Rig::new(config());
    assert!(rig.stack.link().guest_mac().is_broadcast());
    rig.frame(&udp_frame("192.0.2.50:4000", PEER, b"x"));
    rig.frame(&udp_frame("[fe80::50]:4000", "[2001:db8::7]:9002", b"x"));
    let link = rig.stack.link();
    assert_eq!(link.guest_mac(), GUEST_MAC);
    assert_eq!(link.v4_seen(), Some([192, 0, 2, 50].into()));
    assert_eq!(link.v6_link_local_seen(), Some("fe80::50".parse().unwrap()));
}

/// IPv4 fragments of `data`, made by etherparse, cut at `cut`.
fn fragments_v4(payload: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let whole = udp_frame(GUEST, PEER, payload);
    let data = &whole[34..];
    let pieces = data.chunks(cut).enumerate().map(|(i, piece)| {
        let len = u16::try_from(piece.len()).unwrap();
        let mut ip =
            Ipv4Header::new(len, 5, etherparse::IpNumber::UDP, [192, 0, 2, 1], [198, 51, 100, 7])
                .unwrap();
        ip.identification = 77;
        ip.dont_fragment = false;
        ip.fragment_offset = IpFragOffset::try_new(u16::try_from(i * cut / 8).unwrap()).unwrap();
        ip.more_fragments = i * cut + piece.len() < data.len();
        ip.header_checksum = ip.calc_header_checksum();
        let mut frame = whole[..14].to_vec();
        ip.write(&mut frame).unwrap();
        frame.extend_from_slice(piece);
        frame
    });
    pieces.collect()
}

/// IPv6 fragments of `data`, cut at `cut`.
fn fragments_v6(payload: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let whole = udp_frame("[2001:db8:1::1]:4000", "[2001:db8::7]:9002", payload);
    let data = &whole[54..];
    let pieces = data.chunks(cut).enumerate().map(|(i, piece)| {
        let more = i * cut + piece.len() < data.len();
        let mut frame = whole[..54].to_vec();
        frame[18..20].copy_from_slice(&u16::try_from(piece.len() + 8).unwrap().to_be_bytes());
        frame[20] = 44;
        let header = etherparse::Ipv6FragmentHeader::new(
            17.into(),
            IpFragOffset::try_new(u16::try_from(i * cut / 8).unwrap()).unwrap(),
            more,
            0x1234_5678,
        );
        frame.extend_from_slice(&header.to_bytes());
        frame.extend_from_slice(piece);
        frame
    });
    pieces.collect()
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let payload: Vec<u8> = (0..8000u32).map(|i| (i * 7 % 251) as u8).collect();
    for frames in [fragments_v4(&payload, 1480), fragments_v6(&payload, 1448)] {
        let mut rig = Rig::new(config());
        let mut order: Vec<usize> = (0..frames.len()).collect();
        for round in 0..frames.len() {
            order.rotate_left(round);
            for &i in &order {
                rig.frame(&frames[i]);
            }
            assert_eq!(rig.udp().borrow().sent.len(), round + 1);
            assert!(rig.udp().borrow().sent.iter().all(|(data, _, _)| *data == payload));
        }
        assert_eq!(rig.stack.stats().frames_dropped, 0);
    }
}

#[test]
fn fragments_that_never_complete() {
    let mut rig = Rig::new(config());
    let frames = fragments_v4(&[7; 8000], 1480);
    for frame in &frames[1..] {
        rig.frame(frame);
    }
    rig.pass(std::time::Duration::from_secs(31));
    rig.frame(&frames[0]);
    assert!(rig.host.udp.is_empty(), "too late");
}

#[test]
fn start_says_hello_and_router_advertisements_follow() {
    let mut rig = Rig::new(config());
    rig.start();
    let hello = rig.frames();
    assert_eq!(hello.len(), 2);
    assert_eq!(hello[0].0[12..14], [8, 6]);
    rig.pass(std::time::Duration::from_secs(601));
    let later = rig.frames();
    assert!((1..=3).contains(&later.len()), "{}", later.len());
    assert!(later.iter().all(|(frame, _)| frame[54] == 134));
}

#[test]
fn neighbours_are_announced_translated() {
    let mut rig = Rig::new(config());
    let mac = MacAddr([2, 0, 0, 0, 0, 99]);
    rig.neighbor("192.0.2.99", Some(mac));
    rig.neighbor("192.0.2.99", Some(mac));
    rig.neighbor("192.0.2.1", Some(mac));
    rig.neighbor("ff02::16", Some(MacAddr([0x33, 0x33, 0, 0, 0, 0x16])));
    rig.neighbor("192.0.2.255", Some(MacAddr::BROADCAST));
    assert_eq!(rig.frames().len(), 1, "news only, not about the guest's own address or groups");
    rig.frame(&udp_frame(GUEST, "192.0.2.99:7", b"x"));
    let socket = rig.udp();
    socket.borrow_mut().incoming.push_back((b"y".to_vec(), 1));
    rig.readable(&socket);
    assert_eq!(rig.frames()[0].0[6..12], mac.0);
    rig.neighbor("192.0.2.99", None);
    socket.borrow_mut().incoming.push_back((b"y".to_vec(), 1));
    rig.readable(&socket);
    assert_eq!(rig.frames()[0].0[6..12], OUR_MAC.0);
}

#[test]
fn services_answer() {
    let mut rig = Rig::new(config());
    let mut discover = vec![0; 240];
    discover[..3].copy_from_slice(&[1, 1, 6]);
    discover[236..].copy_from_slice(&[99, 130, 83, 99]);
    discover.extend_from_slice(&[53, 1, 1, 255]);
    rig.frame(&udp_frame("0.0.0.0:68", "255.255.255.255:67", &discover));
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(&frames[0].0[34..38], [0, 67, 0, 68]);
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&GUEST_MAC.0);
    arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend_from_slice(&GUEST_MAC.0);
    arp.extend_from_slice(&[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2]);
    rig.frame(&arp);
    assert_eq!(rig.frames()[0].0[28..32], [192, 0, 2, 2]);
    let mut solicitation = Vec::new();
    let mut body = vec![0; 4];
    body.extend_from_slice(&"fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    from_guest("fe80::2", "ff02::1:ff00:1", 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut solicitation, &body[4..])
        .unwrap();
    rig.frame(&solicitation);
    assert_eq!(rig.frames()[0].0[54], 136);
    assert!(rig.host.udp.is_empty() && rig.host.ping.is_empty());
}

fn valid_frames() -> Vec<Vec<u8>> {
    let mut frames = vec![
        udp_frame(GUEST, PEER, b"some payload"),
        udp_frame("[2001:db8:1::1]:4000", "[2001:db8::7]:9002", b"some payload"),
        echo_frame("192.0.2.1", "192.0.2.2", 64, (1, 1), b"ping"),
        echo_frame("2001:db8:1::1", "2001:db8::2", 64, (1, 1), b"ping"),
        syn("192.0.2.1", "198.51.100.1", 80),
        syn("2001:db8:1::1", "2001:db8::9", 443),
        udp_frame("0.0.0.0:68", "255.255.255.255:67", &[1; 300]),
        udp_frame("[fe80::2]:546", "[ff02::1:2]:547", &[1; 100]),
        unreachable_frame("192.0.2.1", "198.51.100.7", 3, &udp_frame(PEER, GUEST, b"late")[14..]),
        unreachable_frame(
            "2001:db8:1::1",
            "2001:db8::7",
            4,
            &udp_frame("[2001:db8::7]:9002", "[2001:db8:1::1]:4000", b"late")[14..],
        ),
    ];
    frames.extend(fragments_v4(&[1; 3000], 1480));
    frames.extend(fragments_v6(&[1; 3000], 1448));
    frames
}

proptest! {
    #[test]
    fn rubbish_is_survived(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut rig = Rig::new(config());
        for frame in &frames {
            rig.frame_of_burst(frame, Gso::None);
            rig.frame_of_burst(frame, Gso::Udp(3));
        }
        rig.end_of_burst();
    }

    #[test]
    fn mutated_frames_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), any::<prop::sample::Index>(), any::<bool>()), 1..60),
    ) {
        let mut rig = Rig::with(config(), 1500);
        let valid = valid_frames();
        for (which, bytes, cut, whole) in changes {
            let mut frame = which.get(&valid).clone();
            for (at, value) in bytes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if !whole {
                frame.truncate(cut.index(frame.len()));
            }
            rig.frame_of_burst(&frame, Gso::None);
            rig.frame_of_burst(&frame, Gso::Udp(7));
            rig.frame_of_burst(&frame, Gso::Tcp(100));
        }
        rig.end_of_burst();
        rig.pass(std::time::Duration::from_secs(200));
        prop_assert!(rig.host.udp.iter().all(|socket| socket.borrow().closed));
        prop_assert!(rig.host.ping.iter().all(|socket| socket.borrow().closed));
    }
}

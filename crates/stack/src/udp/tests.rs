use std::io::ErrorKind;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::io::{FrameMeta, Gso};
use crate::testing::{Rig, config, icmp_error, udp_frame, udp_frame_ttl};
use crate::{fragment, segment};

const GUEST: &str = "192.0.2.1:4000";
const PEER: &str = "198.51.100.7:9002";
const GUEST6: &str = "[2001:db8:1::1]:4000";
const PEER6: &str = "[2001:db8::7]:9002";

/// A frame for the guest as it would arrive over a link without offload, read by etherparse:
/// (source, destination, TTL, TOS, payload).
fn read(frame: &[u8]) -> (String, String, u8, u8, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP: {packet:?}") };
    let (src, dst, ttl, tos) = match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let udp_header = udp.to_header();
            let sum = udp_header.calc_checksum_ipv4(&header.to_header(), udp.payload()).unwrap();
            assert_eq!(sum, udp.checksum());
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
            (src, dst, header.ttl(), header.to_header().dscp.value() << 2)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let sum = udp.to_header().calc_checksum_ipv6(&header.to_header(), udp.payload());
            assert_eq!(sum.unwrap(), udp.checksum());
            let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
            (src, dst, header.hop_limit(), header.traffic_class())
        }
        _ => panic!("no IP"),
    };
    let src = std::net::SocketAddr::new(src, udp.source_port()).to_string();
    let dst = std::net::SocketAddr::new(dst, udp.destination_port()).to_string();
    (src, dst, ttl, tos, udp.payload().to_vec())
}

/// All datagrams in frames for the guest, superframes cut.
fn datagrams(frames: Vec<(Vec<u8>, FrameMeta)>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (mut frame, meta) in frames {
        segment::segments(&mut frame, &meta, wire::checksum::sum, |headers, data| {
            out.push(read(&[headers, data].concat()).4);
        });
    }
    out
}

#[test]
fn there_and_back() {
    for (guest, peer) in [(GUEST, PEER), (GUEST6, PEER6)] {
        let mut rig = Rig::new(config());
        rig.frame(&udp_frame_ttl(guest, peer, 3, b"question"));
        let socket = rig.udp();
        {
            let mut socket = socket.borrow_mut();
            assert_eq!(socket.to.unwrap().to_string(), peer);
            assert_eq!(socket.from.unwrap().port(), 4000, "the guest's port is kept");
            assert!(socket.from.unwrap().ip().is_unspecified());
            assert_eq!(socket.sent, [(b"question".to_vec(), 8, 3)]);
            socket.incoming.push_back((b"answer".to_vec(), 6));
            (socket.ttl, socket.tos) = (Some(57), Some(0xb8));
        }
        rig.readable(&socket);
        let [(mut frame, meta)] = <[_; 1]>::try_from(rig.frames()).unwrap();
        assert_eq!(meta.gso, Gso::None);
        segment::complete_checksum(&mut frame, &meta, wire::checksum::sum);
        let expected = (peer.to_owned(), guest.to_owned(), 57, 0xb8, b"answer".to_vec());
        assert_eq!(read(&frame), expected);
        rig.frame(&udp_frame(guest, peer, b"more"));
        assert_eq!((rig.host.udp.len(), rig.stack.stats().udp_opened), (1, 1));
    }
}

#[test]
fn mapped_addresses_come_back_as_the_guest_knows_them() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, "192.0.2.2:53", b"q"));
    let socket = rig.udp();
    assert_eq!(socket.borrow().to.unwrap().to_string(), "127.0.0.1:53");
    socket.borrow_mut().incoming.push_back((b"a".to_vec(), 1));
    rig.readable(&socket);
    let (mut frame, meta) = rig.frames().remove(0);
    segment::complete_checksum(&mut frame, &meta, wire::checksum::sum);
    assert_eq!(read(&frame).0, "192.0.2.2:53");
}

#[test]
fn empty_datagrams_both_ways() {
    let mut rig = Rig::new(config());
    rig.frame_of_burst(&udp_frame(GUEST, PEER, b"x"), Gso::None);
    rig.frame_of_burst(&udp_frame(GUEST, PEER, b""), Gso::None);
    rig.frame_of_burst(&udp_frame(GUEST, PEER, b"y"), Gso::None);
    rig.end_of_burst();
    let socket = rig.udp();
    let sent: Vec<_> = socket.borrow().sent.iter().map(|(data, ..)| data.clone()).collect();
    assert_eq!(sent, [&b"x"[..], b"", b"y"]);
    for data in [&b""[..], b"z", b"", b""] {
        socket.borrow_mut().incoming.push_back((data.to_vec(), data.len()));
    }
    rig.readable(&socket);
    assert_eq!(datagrams(rig.frames()), [&b""[..], b"z", b"", b""]);
}

#[test]
fn equal_datagrams_of_a_burst_leave_together() {
    let mut rig = Rig::new(config());
    let frame = |peer: &str, ttl, len: usize| udp_frame_ttl(GUEST, peer, ttl, &vec![7; len]);
    for len in [100, 100, 100, 40] {
        rig.frame_of_burst(&frame(PEER, 64, len), Gso::None);
    }
    // Nothing joins behind a shorter one, a longer one, or with another TTL or flow.
    rig.frame_of_burst(&frame(PEER, 64, 40), Gso::None);
    rig.frame_of_burst(&frame(PEER, 64, 41), Gso::None);
    rig.frame_of_burst(&frame(PEER, 9, 41), Gso::None);
    rig.frame_of_burst(&frame("198.51.100.7:9003", 9, 41), Gso::None);
    rig.end_of_burst();
    let lens = |i: usize| -> Vec<_> {
        let socket = rig.host.udp[i].borrow();
        socket.sent.iter().map(|(data, segment, ttl)| (data.len(), *segment, *ttl)).collect()
    };
    assert_eq!(lens(0), [(340, 100, 64), (40, 40, 64), (41, 41, 64), (41, 41, 9)]);
    assert_eq!(lens(1), [(41, 41, 9)]);
}

#[test]
fn a_batch_keeps_to_what_the_kernel_takes() {
    let mut rig = Rig::new(config());
    for _ in 0..100 {
        rig.frame_of_burst(&udp_frame(GUEST, PEER, &[1; 1400]), Gso::None);
    }
    for _ in 0..100 {
        rig.frame_of_burst(&udp_frame(GUEST, PEER, &[1; 10]), Gso::None);
    }
    rig.end_of_burst();
    let socket = rig.udp();
    let socket = socket.borrow();
    assert!(
        socket.sent.iter().all(|(data, segment, _)| {
            data.len() <= 65_507 && data.len().div_ceil(*segment) <= 64
        })
    );
    assert_eq!(socket.sent.iter().map(|(data, ..)| data.len()).sum::<usize>(), 141_000);
    assert!(socket.sent.len() < 8, "{}", socket.sent.len());
}

#[test]
fn a_superframe_leaves_as_it_came() {
    let mut rig = Rig::new(config());
    rig.frame_of_burst(&udp_frame(GUEST, PEER, &[1; 5000]), Gso::Udp(1200));
    // A superframe of one datagram is held back with the others.
    rig.frame_of_burst(&udp_frame(GUEST, PEER, &[1; 10]), Gso::Udp(10));
    rig.frame_of_burst(&udp_frame(GUEST, PEER, &[1; 10]), Gso::None);
    rig.end_of_burst();
    let socket = rig.udp();
    let lens: Vec<_> =
        socket.borrow().sent.iter().map(|(data, segment, _)| (data.len(), *segment)).collect();
    assert_eq!(lens, [(5000, 1200), (20, 10)]);
}

#[test]
fn datagrams_of_a_burst_reach_the_guest_as_superframes() {
    let mut rig = Rig::with(config(), 1500);
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    let socket = rig.udp();
    let mut expected = Vec::new();
    {
        let mut socket = socket.borrow_mut();
        let mut add = |len: usize, segment: usize, fill: u8| {
            let data = vec![fill; len];
            expected.extend(data.chunks(segment).map(<[u8]>::to_vec));
            socket.incoming.push_back((data, segment));
        };
        add(14_000, 1400, 1); // what GRO put together
        add(1400, 1400, 2); // joins
        add(700, 700, 3); // joins as the last one
        add(700, 700, 4);
        add(701, 701, 5);
        add(65_000, 1000, 6);
        add(1000, 1000, 7);
        add(8000, 8000, 8); // fragments
    }
    rig.readable(&socket);
    let frames = rig.frames();
    let (whole, pieces): (Vec<_>, Vec<_>) = frames
        .into_iter()
        .partition(|(frame, _)| u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff == 0);
    let lens: Vec<_> = whole.iter().map(|(frame, meta)| (frame.len() - 42, meta.gso)).collect();
    assert_eq!(
        lens,
        [
            (16_100, Gso::Udp(1400)),
            (700, Gso::None),
            (701, Gso::None),
            (65_000, Gso::Udp(1000)),
            (1000, Gso::None),
        ]
    );
    assert_eq!(datagrams(whole), expected[..expected.len() - 1]);
    assert_eq!(pieces.len(), 6);
    assert!(pieces.iter().all(|(frame, meta)| frame.len() <= 1514 && meta.csum_start.is_none()));
    assert_eq!(reassembled(&pieces), expected[expected.len() - 1]);
}

/// Puts fragments for the guest together with our own reassembly, and checks the UDP checksum.
fn reassembled(pieces: &[(Vec<u8>, FrameMeta)]) -> Vec<u8> {
    let mut reassembly = fragment::Reassembly::default();
    for (frame, _) in pieces {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let (ip, id, offset, more, data) = match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert!(!header.dont_fragment);
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let addresses =
                    (ip.header().source_addr().into(), ip.header().destination_addr().into());
                let offset = usize::from(header.fragment_offset.value()) * 8;
                let id = u32::from(header.identification);
                (addresses, id, offset, header.more_fragments, ip.payload().payload.to_vec())
            }
            NetSlice::Ipv6(ip) => {
                let fragment = ip.extensions().clone().into_iter().next().unwrap();
                let etherparse::Ipv6ExtensionSlice::Fragment(fragment) = fragment else { panic!() };
                let header = fragment.to_header();
                let addresses =
                    (ip.header().source_addr().into(), ip.header().destination_addr().into());
                let offset = usize::from(header.fragment_offset.value()) * 8;
                (
                    addresses,
                    header.identification,
                    offset,
                    header.more_fragments,
                    ip.payload().payload.to_vec(),
                )
            }
            NetSlice::Arp(_) => panic!("ARP"),
        };
        let ip = crate::input::Ip { src: ip.0, dst: ip.1, protocol: 17, ttl: 1, flow_label: 0 };
        let piece = fragment::Fragment { ip, id, offset, more, data: &data };
        let now = crate::time::Instant::default();
        if let Some((ip, packet)) = reassembly.insert(now, &piece) {
            let len = u32::try_from(packet.len()).unwrap();
            let pseudo = wire::checksum::pseudo_header(ip.src, ip.dst, 17, len);
            assert!(wire::checksum::verify(pseudo, packet));
            return packet[8..].to_vec();
        }
    }
    panic!("incomplete");
}

#[test]
fn long_datagrams_are_fragmented_towards_the_guest() {
    for (guest, peer, mtu) in [(GUEST, PEER, 1500), (GUEST6, PEER6, 1280), (GUEST, PEER, 576)] {
        let mut rig = Rig::with(config(), mtu);
        rig.frame(&udp_frame(guest, peer, b"x"));
        let socket = rig.udp();
        for len in [1472 + 1, 8000, 65_507] {
            let data: Vec<u8> = (0..=252u8).cycle().take(len).collect();
            socket.borrow_mut().incoming.push_back((data.clone(), len));
            rig.readable(&socket);
            let frames = rig.frames();
            assert!(frames.iter().all(|(frame, _)| frame.len() <= usize::from(mtu) + 14));
            assert_eq!(reassembled(&frames), data);
        }
    }
}

#[test]
fn reading_is_bounded_and_goes_on() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    let socket = rig.udp();
    for i in 0..300usize {
        socket.borrow_mut().incoming.push_back((vec![7; i % 7 + 1], i % 7 + 1));
    }
    rig.readable(&socket);
    assert!(!socket.borrow().incoming.is_empty());
    assert!(rig.stack.next_deadline().unwrap() <= rig.now);
    rig.pass(Duration::ZERO);
    assert!(socket.borrow().incoming.is_empty());
    assert!(rig.stack.next_deadline().unwrap() > rig.now);
    assert_eq!(datagrams(rig.frames()).len(), 300);
}

#[test]
fn a_guest_that_takes_nothing_now_is_asked_again() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    let socket = rig.udp();
    socket.borrow_mut().incoming.push_back((b"y".to_vec(), 1));
    rig.guest.full = true;
    rig.readable(&socket);
    rig.guest.full = false;
    assert_eq!(socket.borrow().receives, 0);
    rig.pass(Duration::ZERO);
    assert_eq!(datagrams(rig.frames()), [b"y"]);
}

#[test]
fn timeouts() {
    let exchange = |from_guest: usize, from_host: usize| {
        let mut rig = Rig::new(config());
        rig.frame(&udp_frame(GUEST, PEER, b"x"));
        let socket = rig.udp();
        for _ in 1..from_guest {
            rig.frame(&udp_frame(GUEST, PEER, b"x"));
        }
        for _ in 0..from_host {
            socket.borrow_mut().incoming.push_back((b"y".to_vec(), 1));
            rig.readable(&socket);
        }
        let mut seconds = 0;
        while !socket.borrow().closed {
            rig.pass(Duration::from_secs(1));
            seconds += 1;
        }
        seconds
    };
    assert_eq!(exchange(1, 0), 30);
    assert_eq!(exchange(5, 0), 30, "nobody answers");
    assert_eq!(exchange(1, 1), 30, "a question and its answer");
    assert_eq!(exchange(2, 1), 120);
    assert_eq!(exchange(1, 2), 120);
}

#[test]
fn traffic_keeps_a_flow() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    for _ in 0..10 {
        rig.pass(Duration::from_secs(29));
        rig.frame(&udp_frame(GUEST, PEER, b"x"));
    }
    let socket = rig.udp();
    assert_eq!(socket.borrow().sent.len(), 11);
    rig.pass(Duration::from_secs(31));
    assert!(socket.borrow().closed);
    rig.frame(&udp_frame(GUEST, PEER, b"x"));
    assert_eq!(rig.host.udp.len(), 2, "a new flow");
    assert_eq!(rig.host.udp[1].borrow().sent.len(), 1);
}

#[test]
fn a_port_that_cannot_be_had_is_no_reason_to_drop() {
    let mut rig = Rig::new(config());
    rig.host.refusals.push_back(ErrorKind::PermissionDenied);
    rig.frame(&udp_frame("192.0.2.1:123", PEER, b"ntp"));
    assert_eq!(rig.host.binds.iter().map(|a| a.port()).collect::<Vec<_>>(), [123, 0]);
    assert_eq!(rig.udp().borrow().sent.len(), 1);
    rig.host.refusals.push_back(ErrorKind::OutOfMemory);
    rig.frame(&udp_frame("192.0.2.1:124", PEER, b"x"));
    assert_eq!((rig.host.udp.len(), rig.stack.stats().flows_refused), (1, 1));
}

/// Inner IP and UDP header of an ICMP error, as etherparse reads them:
/// (kind, code, source, inner total length, UDP length, quoted payload).
fn read_error(frame: &[u8]) -> (u8, u8, String, usize, u16, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (source, message, inner_len) = match packet.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let message = ip.payload().payload.to_vec();
            assert!(wire::checksum::verify(0, &message));
            (ip.header().source_addr().to_string(), message, 20)
        }
        NetSlice::Ipv6(ip) => {
            let message = ip.payload().payload.to_vec();
            let header = ip.header();
            let len = u32::try_from(message.len()).unwrap();
            let pseudo = wire::checksum::pseudo_header_v6(
                header.source_addr(),
                header.destination_addr(),
                58,
                len,
            );
            assert!(wire::checksum::verify(pseudo, &message));
            (header.source_addr().to_string(), message, 40)
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let inner = &message[8..];
    let total = if inner_len == 20 {
        let header = etherparse::Ipv4HeaderSlice::from_slice(inner).unwrap();
        assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        usize::from(header.total_len())
    } else {
        let header = etherparse::Ipv6HeaderSlice::from_slice(inner).unwrap();
        usize::from(header.payload_length()) + 40
    };
    let udp = &inner[inner_len..];
    let udp_len = u16::from_be_bytes([udp[4], udp[5]]);
    (message[0], message[1], source, total, udp_len, udp[8..].to_vec())
}

#[test]
fn errors_quote_the_datagram_as_it_was() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, PEER, b"twenty bytes of data"));
    let socket = rig.udp();
    socket.borrow_mut().errors.extend([
        (icmp_error("198.51.100.7", 3, 3, 0), b"twenty b".to_vec()),
        (icmp_error("203.0.113.1", 11, 0, 0), b"twenty bytes of data".to_vec()),
        (icmp_error("203.0.113.1", 3, 4, 1400), vec![]),
        (icmp_error("192.0.2.1", 3, 1, 0), vec![]),
        (icmp_error("203.0.113.1", 5, 1, 0), vec![]),
    ]);
    rig.error(&socket);
    let frames = rig.frames();
    assert_eq!(frames.len(), 3, "not from the guest's own address, no redirect");
    let read: Vec<_> = frames.iter().map(|(frame, _)| read_error(frame)).collect();
    assert_eq!(read[0], (3, 3, "198.51.100.7".into(), 48, 28, b"twenty b".to_vec()));
    assert_eq!(read[1], (11, 0, "203.0.113.1".into(), 48, 28, b"twenty bytes of data".to_vec()));
    assert_eq!(read[2], (3, 4, "203.0.113.1".into(), 48, 28, vec![]));
    assert_eq!(frames[2].0.len(), 14 + 20 + 8 + 20 + 8, "no trailing bytes");
    assert_eq!(frames[2].0[40..42], 1400u16.to_be_bytes(), "MTU of the next hop");
    // The whole datagram is quoted: its checksum is the one the guest sent.
    let sent = udp_frame(GUEST, PEER, b"twenty bytes of data");
    assert_eq!(frames[1].0[62..70], sent[34..42]);
}

#[test]
fn errors_of_ipv6() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST6, PEER6, &[3; 2000]));
    let socket = rig.udp();
    socket.borrow_mut().errors.extend([
        (icmp_error("2001:db8::7", 1, 4, 0), vec![3; 2000]),
        (icmp_error("2001:db8:5::1", 2, 0, 1280), vec![3; 5]),
        (icmp_error("198.51.100.7", 3, 3, 0), vec![3; 5]),
    ]);
    rig.error(&socket);
    let frames = rig.frames();
    assert_eq!(frames.len(), 2, "none of the other family");
    assert_eq!(frames[0].0.len(), 14 + 1280);
    let (kind, code, source, total, udp_len, quoted) = read_error(&frames[0].0);
    assert_eq!((kind, code, source.as_str()), (1, 4, "2001:db8::7"));
    assert_eq!((total, udp_len, quoted.len()), (2048, 2008, 1280 - 40 - 8 - 40 - 8));
    assert_eq!(frames[1].0[58..62], 1280u32.to_be_bytes());
}

#[test]
fn the_error_of_a_mapped_peer_comes_from_where_the_guest_sent() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, "192.0.2.2:99", b"x"));
    let socket = rig.udp();
    socket.borrow_mut().errors.push_back((icmp_error("127.0.0.1", 3, 3, 0), b"x".to_vec()));
    rig.error(&socket);
    assert_eq!(read_error(&rig.frames()[0].0).2, "192.0.2.2");
}

#[test]
fn an_error_in_the_way_costs_no_datagram() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, PEER, b"1"));
    let socket = rig.udp();
    socket.borrow_mut().send_results.push_back(ErrorKind::ConnectionRefused);
    socket.borrow_mut().errors.push_back((icmp_error("198.51.100.7", 3, 3, 0), b"1".to_vec()));
    rig.frame(&udp_frame(GUEST, PEER, b"2"));
    assert_eq!(socket.borrow().sent.len(), 2);
    assert_eq!(rig.frames().len(), 1);
    // The same on the receiving side.
    socket.borrow_mut().recv_results.push_back(ErrorKind::ConnectionRefused);
    socket.borrow_mut().errors.push_back((icmp_error("198.51.100.7", 3, 3, 0), b"2".to_vec()));
    socket.borrow_mut().incoming.push_back((b"late".to_vec(), 4));
    rig.readable(&socket);
    let frames = rig.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(datagrams(frames[1..].to_vec()), [b"late"]);
}

#[test]
fn broadcast_and_multicast_go_out() {
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(GUEST, "255.255.255.255:9", b"x"));
    rig.frame(&udp_frame(GUEST, "239.255.255.250:1900", b"x"));
    rig.frame(&udp_frame("[fe80::2]:4000", "[ff02::fb]:5353", b"x"));
    let to: Vec<_> = rig.host.udp.iter().map(|s| s.borrow().to.unwrap().to_string()).collect();
    assert_eq!(to, ["255.255.255.255:9", "239.255.255.250:1900", "[ff02::fb%7]:5353"]);
}

#[test]
fn a_peer_may_begin() {
    let mut rig = Rig::new(config());
    rig.arrived("192.0.2.1:5300", "198.51.100.7:9000", b"ask", 3);
    let socket = rig.udp();
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    let (src, dst, ttl, _, payload) = read_whole(frames);
    assert_eq!((src.as_str(), dst.as_str()), ("198.51.100.7:9000", "192.0.2.1:5300"));
    assert_eq!((ttl, payload.as_slice()), (61, &b"ask"[..]));
    assert_eq!(socket.borrow().to, Some("198.51.100.7:9000".parse().unwrap()));
    // The answer goes out by that socket, and what was on its way to the listening one comes in.
    rig.frame(&udp_frame("192.0.2.1:5300", "198.51.100.7:9000", b"answer"));
    assert_eq!(socket.borrow().sent[0].0, b"answer");
    rig.arrived("192.0.2.1:5300", "198.51.100.7:9000", b"again", 5);
    assert_eq!(rig.frames().len(), 1);
    assert_eq!(rig.stack.stats().udp_opened, 1);
    // With an answer it is an exchange, and lasts longer.
    rig.pass(Duration::from_secs(100));
    assert!(!socket.borrow().closed);
    rig.pass(Duration::from_secs(21));
    assert!(socket.borrow().closed);
}

#[test]
fn bursts_of_a_peer_stay_together() {
    let mut rig = Rig::new(config());
    rig.arrived("192.0.2.1:5300", "198.51.100.7:9000", &[7; 3000], 1000);
    assert_eq!(datagrams(rig.frames()), vec![vec![7; 1000]; 3]);
}

#[test]
fn a_group_is_told_and_has_no_flow() {
    let mut rig = Rig::new(config());
    rig.arrived("224.0.0.251:53", "198.51.100.7:5353", b"who", 3);
    let frames = rig.frames();
    assert_eq!(frames[0].0[..6], [0x01, 0x00, 0x5e, 0, 0, 0xfb]);
    assert_eq!(read_whole(frames).1, "224.0.0.251:53");
    assert_eq!(rig.stack.stats().udp_opened, 0);
}

/// The only frame, with its checksum completed.
fn read_whole(frames: Vec<(Vec<u8>, FrameMeta)>) -> (String, String, u8, u8, Vec<u8>) {
    let (mut frame, meta) = frames.into_iter().next().unwrap();
    segment::complete_checksum(&mut frame, &meta, wire::checksum::sum);
    read(&frame)
}

#[test]
fn a_full_link_is_waited_for() {
    for (guest, peer) in [(GUEST, PEER), (GUEST6, PEER6)] {
        let mut rig = Rig::new(config());
        rig.frame(&udp_frame(guest, peer, b"question"));
        let socket = rig.udp();
        rig.fill_link();
        let before = socket.borrow().receives;
        for n in 0..300u16 {
            let data = n.to_be_bytes().to_vec();
            socket.borrow_mut().incoming.push_back((data, 2));
        }
        rig.readable(&socket);
        let deadlines = rig.pass(Duration::from_secs(10));
        assert!(deadlines <= 1, "{deadlines} deadlines");
        assert_eq!(socket.borrow().receives, before, "the kernel keeps them better");
        assert_eq!(rig.frames(), []);
        // Some of them, and then no more for now.
        rig.empty_link(Some(1));
        rig.pass(Duration::ZERO);
        let mut got = datagrams(rig.frames());
        assert!(!got.is_empty() && got.len() < 300);
        assert_eq!(rig.pass(Duration::from_secs(5)), 0);
        rig.empty_link(None);
        rig.pass(Duration::ZERO);
        got.extend(datagrams(rig.frames()));
        // What had been received when the link became full is lost, as datagrams are.
        assert!(got.len() >= 298, "{}", got.len());
        assert!(got.is_sorted());
        assert_eq!(got.last().unwrap()[..], 299u16.to_be_bytes());
    }
}

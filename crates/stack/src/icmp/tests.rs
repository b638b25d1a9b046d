use std::io::ErrorKind;
use std::time::Duration;

use wire::{checksum, icmp4, icmp6};

use crate::io::Gso;
use crate::testing::{Rig, config, echo_frame, icmp_error, udp_frame, unreachable_frame};

const V4: (&str, &str) = ("192.0.2.1", "198.51.100.7");
const V6: (&str, &str) = ("2001:db8:1::1", "2001:db8::7");

/// The reply of the host's kernel to what was sent last, with the socket's own identifier.
fn reply(sent: &[u8], v6: bool) -> Vec<u8> {
    let mut reply = sent.to_vec();
    reply[0] = if v6 { 129 } else { 0 };
    reply[4..6].copy_from_slice(&[0xab, 0xcd]);
    reply
}

#[test]
fn there_and_back() {
    for (guest, peer) in [V4, V6] {
        let v6 = guest.contains(':');
        let mut rig = Rig::new(config());
        rig.frame(&echo_frame(guest, peer, 5, (0x1234, 9), b"hello"));
        let socket = rig.ping();
        assert_eq!(socket.borrow().to.unwrap().ip().to_string(), peer);
        let (sent, _, ttl) = socket.borrow().sent[0].clone();
        assert_eq!((sent.len(), ttl), (13, 5));
        socket.borrow_mut().incoming.push_back((reply(&sent, v6), 13));
        socket.borrow_mut().ttl = Some(61);
        rig.readable(&socket);
        let (frame, meta) = rig.frames().remove(0);
        assert_eq!(meta, crate::io::FrameMeta::default());
        let message = if v6 { &frame[54..] } else { &frame[34..] };
        assert_eq!(message[4..8], [0x12, 0x34, 0, 9], "the guest's identifier");
        assert_eq!(&message[8..], b"hello");
        let pseudo = if v6 {
            let (src, dst) = (peer.parse().unwrap(), guest.parse().unwrap());
            assert_eq!((message[0], frame[21]), (icmp6::ECHO_REPLY, 61));
            checksum::pseudo_header_v6(src, dst, 58, 13)
        } else {
            assert_eq!((message[0], frame[22]), (icmp4::ECHO_REPLY, 61));
            0
        };
        assert!(checksum::verify(pseudo, message));
    }
}

#[test]
fn one_flow_per_identifier_and_destination() {
    let mut rig = Rig::new(config());
    for seq in 0..3 {
        rig.frame(&echo_frame(V4.0, V4.1, 64, (1, seq), b""));
    }
    rig.frame(&echo_frame(V4.0, V4.1, 64, (2, 0), b""));
    rig.frame(&echo_frame(V4.0, "192.0.2.2", 64, (2, 0), b""));
    let sent: Vec<_> = rig.host.ping.iter().map(|s| s.borrow().sent.len()).collect();
    assert_eq!(sent, [3, 1, 1]);
    assert_eq!(rig.host.ping[2].borrow().to.unwrap().to_string(), "127.0.0.1:0");
}

#[test]
fn anything_but_replies_stays_outside() {
    let mut rig = Rig::new(config());
    rig.frame(&echo_frame(V4.0, V4.1, 64, (1, 0), b""));
    let socket = rig.ping();
    for message in [&[8u8, 0, 0, 0, 0, 1, 0, 0][..], &[0, 1, 0, 0, 0, 1, 0, 0], &[0, 0, 0], &[]] {
        socket.borrow_mut().incoming.push_back((message.to_vec(), message.len()));
    }
    rig.readable(&socket);
    assert!(rig.frames().is_empty());
}

#[test]
fn other_messages_of_the_guest_are_dropped() {
    let mut rig = Rig::new(config());
    for kind in [0, 3, 13] {
        let mut frame = echo_frame(V4.0, V4.1, 64, (1, 0), b"");
        frame[34] = kind;
        rig.frame(&frame);
    }
    assert_eq!(rig.stack.stats().frames_dropped, 3);
    assert!(rig.host.ping.is_empty());
}

#[test]
fn ends_after_a_minute_without_request() {
    let mut rig = Rig::new(config());
    rig.frame(&echo_frame(V4.0, V4.1, 64, (1, 0), b""));
    rig.pass(Duration::from_secs(59));
    rig.frame(&echo_frame(V4.0, V4.1, 64, (1, 1), b""));
    let socket = rig.ping();
    rig.pass(Duration::from_secs(59));
    assert!(!socket.borrow().closed);
    rig.pass(Duration::from_secs(1));
    assert!(socket.borrow().closed);
}

#[test]
fn long_replies_come_in_fragments() {
    for (guest, peer) in [V4, V6] {
        let mut rig = Rig::with(config(), 1500);
        rig.frame(&echo_frame(guest, peer, 64, (1, 0), &[5; 4000]));
        let socket = rig.ping();
        let sent = socket.borrow().sent[0].0.clone();
        let reply = reply(&sent, guest.contains(':'));
        let len = reply.len();
        socket.borrow_mut().incoming.push_back((reply, len));
        rig.readable(&socket);
        let frames = rig.frames();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().all(|(frame, _)| frame.len() <= 1514));
    }
}

/// Several requests are on their way; the error names one by its sequence number.
#[test]
fn errors_about_the_right_request() {
    for (guest, peer) in [V4, V6] {
        let v6 = guest.contains(':');
        let mut rig = Rig::new(config());
        for (seq, ttl) in [(1, 1), (2, 2), (3, 3)] {
            rig.frame(&echo_frame(guest, peer, ttl, (0x77, seq), &[seq.to_be_bytes()[1]; 32]));
        }
        let socket = rig.ping();
        let mut quoted = socket.borrow().sent[1].0.clone();
        quoted[4..6].copy_from_slice(&[0xab, 0xcd]);
        let (router, kind) = if v6 { ("2001:db8:5::1", 3) } else { ("203.0.113.1", 11) };
        socket.borrow_mut().errors.push_back((icmp_error(router, kind, 0, 0), quoted));
        socket.borrow_mut().errors.push_back((icmp_error(router, kind, 0, 0), vec![]));
        rig.error(&socket);
        let frames = rig.frames();
        let request = |seq, data: &[u8]| {
            let frame = echo_frame(guest, peer, 1, (0x77, seq), data);
            frame[if v6 { 54 } else { 34 }..].to_vec()
        };
        let inner = |i: usize| {
            let frame: &Vec<u8> = &frames[i].0;
            frame[if v6 { 54 + 8 + 40 } else { 34 + 8 + 20 }..].to_vec()
        };
        if v6 {
            // The kernel's checksum is one for its own source address.
            assert_eq!(inner(0)[4..], request(2, &[2; 32])[4..]);
        } else {
            let mut expected = request(2, &[2; 32]);
            // The host's kernel had left the checksum as the guest made it; only the identifier differs.
            let sum = u16::from_be_bytes([expected[2], expected[3]]);
            let sum = !checksum::fold(u64::from(!sum) + u64::from(!0xabcdu16) + 0x77);
            expected[2..4].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(inner(0), expected);
        }
        assert_eq!(inner(1)[4..8], [0, 0x77, 0, 3], "the last one, if it is not named");
        assert_eq!(inner(1).len(), 8);
        for (frame, _) in &frames {
            let length = if v6 { &frame[54 + 8 + 4..][..2] } else { &frame[34 + 8 + 2..][..2] };
            let expected: u16 = if v6 { 40 } else { 60 };
            assert_eq!(length, expected.to_be_bytes(), "inner length of the whole request");
        }
    }
}

#[test]
fn a_refused_socket_is_counted_and_told_once_in_a_while() {
    let mut rig = Rig::new(config());
    for seq in 0..20 {
        rig.host.refusals.push_back(ErrorKind::PermissionDenied);
        rig.frame(&echo_frame(V4.0, V4.1, 64, (1, seq), b""));
    }
    assert_eq!(rig.stack.stats().flows_refused, 20);
    assert!(rig.frames().is_empty());
}

#[test]
fn an_error_in_the_way_costs_no_request() {
    let mut rig = Rig::new(config());
    rig.frame(&echo_frame(V4.0, V4.1, 64, (1, 0), b""));
    let socket = rig.ping();
    socket.borrow_mut().send_results.push_back(ErrorKind::HostUnreachable);
    socket.borrow_mut().errors.push_back((icmp_error("203.0.113.1", 3, 1, 0), vec![]));
    rig.frame(&echo_frame(V4.0, V4.1, 64, (1, 1), b""));
    assert_eq!((socket.borrow().sent.len(), rig.frames().len()), (2, 1));
}

#[test]
fn not_mixed_up_with_udp() {
    let mut rig = Rig::new(config());
    rig.frame(&echo_frame(V4.0, V4.1, 64, (4000, 0), b""));
    rig.frame(&udp_frame("192.0.2.1:4000", "198.51.100.7:9", b""));
    assert_eq!((rig.host.ping.len(), rig.host.udp.len()), (1, 1));
}

const UDP: [(&str, &str); 2] =
    [("192.0.2.1:4000", "198.51.100.7:9002"), ("[2001:db8:1::1]:4000", "[2001:db8::7]:9002")];
/// Codes of "destination unreachable" that mean nobody is there: host, protocol, port.
const NOBODY_V4: [u8; 3] = [1, 2, 3];
/// The same for ICMPv6: address, port.
const NOBODY_V6: [u8; 2] = [3, 4];

fn ip_of(endpoint: &str) -> String {
    endpoint.parse::<std::net::SocketAddr>().unwrap().ip().to_string()
}

/// An IP packet with a datagram from `src` to `dst`, as the guest quotes what it got.
fn packet(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    udp_frame(src, dst, payload)[14..].to_vec()
}

/// The guest's word, from `guest` to `peer`, about a datagram from `peer` to `guest`.
fn unreachable(guest: &str, peer: &str, code: u8, quoted: &[u8]) -> Vec<u8> {
    unreachable_frame(&ip_of(guest), &ip_of(peer), code, quoted)
}

#[test]
fn nobody_there_ends_the_flow() {
    for (guest, peer) in UDP {
        let codes = if guest.starts_with('[') { &NOBODY_V6[..] } else { &NOBODY_V4 };
        for &code in codes {
            let mut rig = Rig::new(config());
            rig.frame(&udp_frame(guest, peer, b"question"));
            let first = rig.udp();
            let quoted = packet(peer, guest, b"late answer");
            rig.frame(&unreachable(guest, peer, code, &quoted));
            assert!(first.borrow().closed, "{guest} {code}");
            assert_eq!(rig.stack.stats().frames_dropped, 0);
            // Said again, it is about nothing.
            rig.frame(&unreachable(guest, peer, code, &quoted));
            assert_eq!(rig.stack.stats().frames_dropped, 1);
            // An event of the closed socket, and its deadline, find nothing.
            rig.readable(&first);
            // The next datagram has a socket of its own, which lives as long as any.
            rig.frame(&udp_frame(guest, peer, b"new question"));
            let second = rig.host.udp.last().unwrap().clone();
            assert_eq!(second.borrow().sent[0].0, b"new question");
            rig.pass(Duration::from_secs(29));
            assert!(!second.borrow().closed);
            rig.pass(Duration::from_secs(1));
            assert!(second.borrow().closed);
            assert!(rig.frames().is_empty() && rig.host.ping.is_empty());
        }
    }
}

#[test]
fn only_final_words_about_this_flow_end_it() {
    for (guest, peer) in UDP {
        let v6 = guest.starts_with('[');
        let mut rig = Rig::new(config());
        rig.frame(&udp_frame(guest, peer, b"question"));
        let quoted = packet(peer, guest, b"answer");
        let nobody = if v6 { &NOBODY_V6[..] } else { &NOBODY_V4 };
        let port = nobody[nobody.len() - 1];
        let mut frames = Vec::new();
        for code in (0..=255).filter(|code| !nobody.contains(code)) {
            frames.push(unreachable(guest, peer, code, &quoted));
        }
        // Time exceeded, parameter problem, the type that it is in the other family.
        for kind in if v6 { [3, 4, 0] } else { [11, 12, 1] } {
            let mut frame = unreachable(guest, peer, port, &quoted);
            frame[if v6 { 54 } else { 34 }] = kind;
            frames.push(frame);
        }
        // Other endpoints, and the guest's own packet.
        let (other_guest, other_peer, third) = if v6 {
            ("[2001:db8:1::1]:4001", "[2001:db8::7]:9003", "[2001:db8::8]:9002")
        } else {
            ("192.0.2.1:4001", "198.51.100.7:9003", "198.51.100.8:9002")
        };
        for (src, dst) in [(peer, other_guest), (other_peer, guest), (third, guest), (guest, peer)]
        {
            frames.push(unreachable(guest, src, port, &packet(src, dst, b"answer")));
        }
        // Addressed to somebody else than whom it concerns.
        frames.push(unreachable(guest, third, port, &quoted));
        // Another protocol, another version, another header's length, a later fragment.
        let protocol = if v6 { 6 } else { 9 };
        for (at, value) in [(protocol, 6), (0, if v6 { 0x40 } else { 0x65 })] {
            let mut quoted = quoted.clone();
            quoted[at] = value;
            frames.push(unreachable(guest, peer, port, &quoted));
        }
        if v6 {
            let mut later = quoted[..40].to_vec();
            later[6] = 44;
            later.extend_from_slice(&[17, 0, 0, 8, 0, 0, 0, 1]);
            later.extend_from_slice(&quoted[40..]);
            frames.push(unreachable(guest, peer, port, &later));
        } else {
            for (at, value) in [(0, 0x44), (0, 0x40), (0, 0x4f), (7, 1)] {
                let mut quoted = quoted.clone();
                quoted[at] = value;
                frames.push(unreachable(guest, peer, port, &quoted));
            }
        }
        // Cut short before the ports and the rest of the header have been said.
        for len in 0..if v6 { 48 } else { 28 } {
            frames.push(unreachable(guest, peer, port, &quoted[..len]));
        }
        for (i, frame) in frames.iter().enumerate() {
            rig.frame(frame);
            assert!(!rig.udp().borrow().closed, "frame {i}");
            assert_eq!(rig.stack.stats().frames_dropped, i as u64 + 1, "frame {i}");
        }
        // Eight bytes of the datagram are enough (RFC 792).
        rig.frame(&unreachable(guest, peer, port, &quoted[..if v6 { 48 } else { 28 }]));
        assert!(rig.udp().borrow().closed);
    }
}

#[test]
fn quoted_options_and_extension_headers_are_skipped() {
    let (guest, peer) = UDP[0];
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(guest, peer, b"question"));
    let whole = packet(peer, guest, b"answer");
    let mut quoted = whole[..20].to_vec();
    quoted[0] = 0x46;
    quoted.extend_from_slice(&[1, 1, 1, 0]);
    quoted.extend_from_slice(&whole[20..]);
    rig.frame(&unreachable(guest, peer, 3, &quoted));
    assert!(rig.udp().borrow().closed);

    let (guest, peer) = UDP[1];
    let mut rig = Rig::new(config());
    rig.frame(&udp_frame(guest, peer, b"question"));
    let whole = packet(peer, guest, b"answer");
    let mut quoted = whole[..40].to_vec();
    quoted[6] = 60;
    // Destination options, then the first fragment of a datagram.
    quoted.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 1]);
    quoted.extend_from_slice(&whole[40..]);
    rig.frame(&unreachable(guest, peer, 4, &quoted));
    assert!(rig.udp().borrow().closed);
}

#[test]
fn a_mapped_peer_is_quoted_as_the_guest_knows_it() {
    let mut rig = Rig::new(config());
    let (guest, peer) = ("192.0.2.1:4000", "192.0.2.2:53");
    rig.frame(&udp_frame(guest, peer, b"question"));
    assert_eq!(rig.udp().borrow().to.unwrap().to_string(), "127.0.0.1:53");
    rig.frame(&unreachable(guest, peer, 3, &packet(peer, guest, b"answer")));
    assert!(rig.udp().borrow().closed);
}

#[test]
fn what_was_held_back_leaves_before_the_flow_ends() {
    let (guest, peer) = UDP[0];
    let mut rig = Rig::new(config());
    rig.frame_of_burst(&udp_frame(guest, peer, b"last words"), Gso::None);
    let frame = unreachable(guest, peer, 3, &packet(peer, guest, b"answer"));
    rig.frame_of_burst(&frame, Gso::None);
    rig.end_of_burst();
    let socket = rig.udp();
    assert_eq!(socket.borrow().sent, [(b"last words".to_vec(), 10, 64)]);
    assert!(socket.borrow().closed);
}

#[test]
fn without_echo_errors_still_count() {
    let (guest, peer) = UDP[0];
    let mut off = config();
    off.services.icmp = false;
    let mut rig = Rig::new(off);
    rig.frame(&udp_frame(guest, peer, b"question"));
    rig.frame(&unreachable(guest, peer, 3, &packet(peer, guest, b"answer")));
    assert!(rig.udp().borrow().closed);
}

/// Flows that end leave their timers behind, so a guest may not make and end any number of them.
#[test]
fn so_many_ends_per_second() {
    let (guest, peer) = UDP[0];
    let mut rig = Rig::new(config());
    let question = udp_frame(guest, peer, b"question");
    let error = unreachable(guest, peer, 3, &packet(peer, guest, b"answer"));
    for _ in 0..3000 {
        rig.frame(&question);
        rig.frame(&error);
    }
    assert_eq!(rig.stack.stats().udp_opened, 1001);
    assert_eq!(rig.stack.stats().frames_dropped, 2000);
    rig.pass(Duration::from_millis(1001));
    rig.frame(&error);
    assert!(rig.host.udp.last().unwrap().borrow().closed);
}

#[test]
fn a_full_link_is_waited_for() {
    for (guest, peer) in [V4, V6] {
        let mut rig = Rig::new(config());
        rig.frame(&echo_frame(guest, peer, 5, (0x1234, 9), b"hello"));
        let socket = rig.ping();
        let sent = socket.borrow().sent[0].0.clone();
        rig.fill_link();
        for _ in 0..100 {
            let reply = reply(&sent, guest.contains(':'));
            socket.borrow_mut().incoming.push_back((reply, 13));
        }
        rig.readable(&socket);
        let deadlines = rig.pass(Duration::from_secs(10));
        assert!(deadlines <= 1, "{deadlines} deadlines");
        assert_eq!((socket.borrow().receives, rig.frames().len()), (0, 0));
        rig.empty_link(Some(30));
        rig.pass(Duration::ZERO);
        assert_eq!(rig.frames().len(), 30);
        assert_eq!(rig.pass(Duration::from_secs(5)), 0);
        rig.empty_link(None);
        rig.pass(Duration::ZERO);
        assert_eq!(rig.frames().len(), 70);
    }
}

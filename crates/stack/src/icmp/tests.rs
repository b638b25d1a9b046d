use std::io::ErrorKind;
use std::time::Duration;

use wire::{checksum, icmp4, icmp6};

use crate::testing::{Rig, config, echo_frame, icmp_error, udp_frame};

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

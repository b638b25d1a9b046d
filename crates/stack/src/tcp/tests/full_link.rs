//! A link that takes nothing for a while, and tells when it does again.

use super::*;
use crate::io::Limits;

const READABLE: Readiness = Readiness { readable: true, ..WRITABLE };

#[test]
fn data_waits_without_a_timer() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.fill_link();
    socket.borrow_mut().incoming = b"later".to_vec();
    rig.tcp_ready(&socket, READABLE);
    assert_eq!(segments(&mut rig), []);
    let deadlines = rig.pass(Duration::from_secs(100));
    assert!(deadlines < 5, "{deadlines} deadlines, and there is none before the keep-alive");
    rig.empty_link(None);
    let data = only(&mut rig);
    assert_eq!((data.seq, &data.payload[..]), (next, &b"later"[..]));
}

#[test]
fn what_is_in_flight_is_not_sent_again_and_again() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().incoming = b"on its way".to_vec();
    rig.tcp_ready(&socket, READABLE);
    assert_eq!(only(&mut rig).seq, next);
    rig.fill_link();
    let deadlines = rig.pass(Duration::from_secs(100));
    assert!(deadlines < 80, "{deadlines} deadlines in 100 s");
    rig.empty_link(None);
    rig.frame(&frame(&after("A", 0, next + 10, b"")));
    rig.pass(Duration::from_secs(10));
    assert_eq!(segments(&mut rig), [], "it had only been late");
}

#[test]
fn what_was_lost_with_the_link_is_sent_again() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().incoming = b"lost".to_vec();
    rig.tcp_ready(&socket, READABLE);
    assert_eq!(only(&mut rig).seq, next);
    rig.fill_link();
    rig.pass(Duration::from_secs(100));
    rig.empty_link(None);
    rig.pass(Duration::from_secs(9));
    assert!(segments(&mut rig).iter().any(|again| again.seq == next && again.payload == b"lost"));
}

#[test]
fn what_was_lost_with_the_link_does_not_wait_for_a_timeout() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().incoming = vec![b'x'; 50_000];
    rig.tcp_ready(&socket, READABLE);
    let before = segments(&mut rig);
    assert!(!before.is_empty());
    // Nobody answers, and after a while nobody is there.
    rig.pass(Duration::from_secs(3));
    rig.fill_link();
    rig.pass(Duration::from_secs(100));
    segments(&mut rig);
    rig.renew_link();
    let again = segments(&mut rig);
    let mut end = next;
    for segment in &again {
        assert_eq!(segment.seq, end, "in order");
        end = end.wrapping_add(u32::try_from(segment.payload.len()).unwrap());
    }
    assert_eq!(end, next.wrapping_add(50_000), "all of it, at once");
    assert_eq!(again[0].payload, before[0].payload);
    // And if that is lost as well, the wait is short again.
    rig.pass(Duration::from_secs(1));
    assert!(!segments(&mut rig).is_empty());
    rig.frame(&frame(&after("A", 0, next + 50_000, b"")));
    segments(&mut rig);
    rig.pass(Duration::from_secs(100));
    assert_eq!(segments(&mut rig), []);
}

#[test]
fn a_fin_and_an_ack_that_were_lost_with_the_link_are_sent_again() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.frame(&frame(&after("PA", 0, next, b"bytes")));
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(6));
    rig.renew_link();
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(6), "the guest may not have seen it");
    socket.borrow_mut().ended = true;
    rig.tcp_ready(&socket, Readiness { read_closed: true, ..READABLE });
    let fin = only(&mut rig);
    assert_eq!((fin.flags.as_str(), fin.seq), ("FA", next));
    rig.renew_link();
    assert_eq!(only(&mut rig), fin);
}

#[test]
fn a_handshake_that_was_lost_with_the_link_goes_on() {
    let mut rig = Rig::new(config());
    rig.connected("192.0.2.1:1000", "198.51.100.7:80");
    let lost = only(&mut rig);
    assert_eq!(lost.flags, "S");
    rig.renew_link();
    let again = only(&mut rig);
    assert_eq!((again.flags.as_str(), again.seq), ("S", lost.seq));
    // One that the host does not know about yet has nothing to say.
    let mut rig = Rig::new(config());
    rig.frame(&frame(&syn(SYN_OPTIONS)));
    rig.renew_link();
    assert_eq!(segments(&mut rig), []);
    let socket = rig.host.tcp_sockets[0].clone();
    rig.tcp_ready(&socket, WRITABLE);
    let lost = only(&mut rig);
    rig.renew_link();
    let again = only(&mut rig);
    assert_eq!((again.flags.as_str(), again.seq), ("SA", lost.seq));
}

#[test]
fn an_ack_is_owed() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.fill_link();
    for n in 0..3 {
        rig.frame(&frame(&after("PA", n * 5, next, b"bytes")));
    }
    assert_eq!(socket.borrow().sent, b"bytesbytesbytes", "this way the link is open");
    let deadlines = rig.pass(Duration::from_secs(100));
    assert!(deadlines < 20, "{deadlines} deadlines in 100 s");
    assert_eq!(segments(&mut rig), []);
    rig.empty_link(None);
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(16), "one for all");
}

#[test]
fn an_ack_of_a_gap_or_of_a_fin_is_owed() {
    for (flags, offset, ack) in [("PA", 100, 1), ("FA", 0, 1 + 5 + 1)] {
        let mut rig = Rig::new(config());
        let (_socket, next) = established(&mut rig);
        rig.fill_link();
        rig.frame(&frame(&after(flags, offset, next, b"bytes")));
        rig.empty_link(None);
        assert_eq!(only(&mut rig).ack, IRS.wrapping_add(ack));
    }
}

#[test]
fn a_fin_is_owed() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.fill_link();
    socket.borrow_mut().ended = true;
    rig.tcp_ready(&socket, Readiness { read_closed: true, ..READABLE });
    assert!(rig.pass(Duration::from_secs(100)) < 5);
    assert_eq!(segments(&mut rig), []);
    rig.empty_link(None);
    let fin = only(&mut rig);
    assert_eq!((fin.flags.as_str(), fin.seq), ("FA", next));
}

#[test]
fn a_syn_ack_is_owed() {
    let mut rig = Rig::new(config());
    rig.frame(&frame(&syn(SYN_OPTIONS)));
    rig.fill_link();
    let socket = rig.host.tcp_sockets[0].clone();
    rig.tcp_ready(&socket, WRITABLE);
    rig.pass(Duration::from_secs(20));
    assert_eq!(segments(&mut rig), []);
    rig.empty_link(None);
    let answer = only(&mut rig);
    assert_eq!((answer.flags.as_str(), answer.ack), ("SA", IRS.wrapping_add(1)));
    rig.fill_link();
    rig.empty_link(None);
    assert_eq!(segments(&mut rig), [], "once");
}

#[test]
fn a_syn_and_the_last_ack_of_the_handshake_are_owed() {
    let mut rig = Rig::new(config());
    rig.fill_link();
    rig.connected("192.0.2.1:1000", "198.51.100.7:80");
    rig.pass(Duration::from_secs(2));
    rig.empty_link(None);
    let syn = only(&mut rig);
    assert_eq!(syn.flags, "S");
    rig.fill_link();
    let ack = syn.seq + 1;
    rig.frame(&frame(&Out { flags: "SA", seq: IRS, ack, window: 64240, ..Out::default() }));
    rig.empty_link(None);
    let last = only(&mut rig);
    assert_eq!((last.flags.as_str(), last.seq, last.ack), ("A", ack, IRS.wrapping_add(1)));
}

#[test]
fn a_reset_is_owed() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.fill_link();
    socket.borrow_mut().error = Some(SocketError { errno: 104, icmp: None });
    rig.tcp_ready(&socket, Readiness { error: true, hang_up: true, ..READABLE });
    rig.pass(Duration::from_secs(100));
    assert!(socket.borrow().closed, "it waits for nobody");
    assert_eq!(segments(&mut rig), []);
    rig.empty_link(None);
    let reset = only(&mut rig);
    assert_eq!((reset.flags.as_str(), reset.seq), ("RA", next));
    rig.fill_link();
    rig.empty_link(None);
    assert_eq!(segments(&mut rig), [], "once");
}

/// A frame from another port of the guest.
fn from_port(port: u16, out: &Out<'_>) -> Vec<u8> {
    let mut frame = frame(out);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame
}

/// Ports that frames went to, in order.
fn ports(rig: &mut Rig) -> Vec<u16> {
    let port = |frame: &[u8]| u16::from_be_bytes([frame[36], frame[37]]);
    rig.frames().iter().map(|(frame, _)| port(frame)).collect()
}

/// Connections of ports 1 to `count` that have more to send than the link will take.
fn greedy(count: u16) -> (Rig, Vec<Rc<RefCell<TcpState>>>) {
    let mut rig = Rig::with(config(), 576);
    rig.guest.limits = Limits { mtu: 576, max_packet: 576 };
    let mut sockets = Vec::new();
    for port in 1..=count {
        rig.frame(&from_port(port, &syn(&[])));
        let socket = rig.host.tcp_sockets.last().unwrap().clone();
        rig.tcp_ready(&socket, WRITABLE);
        let next = only(&mut rig).seq + 1;
        rig.frame(&from_port(port, &after("A", 0, next, b"")));
        socket.borrow_mut().incoming = vec![1; 60_000];
        sockets.push(socket);
    }
    rig.fill_link();
    for socket in &sockets {
        rig.tcp_ready(socket, READABLE);
    }
    assert_eq!(segments(&mut rig), []);
    (rig, sockets)
}

#[test]
fn everybody_has_a_turn() {
    // Rooms for less than a turn, for a whole one, and for more.
    for room in [1, 3, 8, 11] {
        let (mut rig, sockets) = greedy(5);
        let mut turns = Vec::new();
        for round in 0..20 {
            rig.empty_link(Some(room));
            let mut served = ports(&mut rig);
            assert_eq!(served.len(), room);
            served.dedup();
            turns.extend(served);
            if round % 3 == 0 {
                // Something happens to one of them.
                rig.tcp_ready(&sockets[0], READABLE);
            }
        }
        let all: std::collections::BTreeSet<_> = turns.iter().copied().collect();
        assert_eq!(all.len(), 5, "{turns:?}");
        for port in 1..=5 {
            let mut last = 0;
            let positions = turns.iter().enumerate().filter(|(_, other)| **other == port);
            for (at, _) in positions {
                assert!(at - last <= 10, "port {port} waits long for its turn, {room}: {turns:?}");
                last = at;
            }
        }
    }
}

#[test]
fn a_link_that_fills_again_at_once_does_not_spin() {
    let (mut rig, _sockets) = greedy(50);
    for _ in 0..10 {
        rig.empty_link(Some(2));
        let deadlines = rig.pass(Duration::from_millis(500));
        assert!(deadlines <= 100, "{deadlines} deadlines");
        assert_eq!(ports(&mut rig).len(), 2);
    }
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let (mut rig, sockets) = greedy(3);
    rig.frame(&from_port(2, &after("R", 0, 0, b"")));
    assert!(sockets[1].borrow().closed);
    rig.empty_link(Some(2));
    assert_eq!(ports(&mut rig), [1, 1]);
    rig.empty_link(Some(2));
    assert_eq!(ports(&mut rig), [3, 3]);
}

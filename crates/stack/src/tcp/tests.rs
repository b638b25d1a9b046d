//! Handshakes, strays and ends, segment by segment. What needs a whole TCP on the other side is in the
//! simulation.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use etherparse::{SlicedPacket, TcpHeader, TransportSlice};

use crate::io::{Gso, IcmpOrigin, Readiness, SendRoom, SocketError};
use crate::testing::{Rig, TcpState, config, from_guest};

mod full_link;

const GUEST: &str = "192.0.2.1";
const PEER: &str = "198.51.100.7";
const PEER_IP: [u8; 4] = [198, 51, 100, 7];
const IRS: u32 = 0xffff_fff0;

const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    read_closed: false,
    hang_up: false,
    error: false,
    urgent: false,
};

/// A segment from the guest, port 1000, to the peer's port 80.
#[derive(Clone, Copy, Debug, Default)]
struct Out<'a> {
    flags: &'a str,
    seq: u32,
    ack: u32,
    window: u16,
    options: &'a [u8],
    payload: &'a [u8],
}

fn frame(out: &Out<'_>) -> Vec<u8> {
    let mut header = TcpHeader::new(1000, 80, out.seq, out.window);
    header.acknowledgment_number = out.ack;
    for flag in out.flags.chars() {
        match flag {
            'S' => header.syn = true,
            'A' => header.ack = true,
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            _ => panic!("no such flag"),
        }
    }
    header.set_options_raw(out.options).unwrap();
    let builder = from_guest(GUEST, PEER, 64).tcp_header(header);
    let mut frame = Vec::new();
    builder.write(&mut frame, out.payload).unwrap();
    frame
}

/// A segment to the guest, as somebody else's parser sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct In {
    flags: String,
    seq: u32,
    ack: u32,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

fn segments(rig: &mut Rig) -> Vec<In> {
    rig.frames()
        .iter()
        .map(|(frame, _)| {
            let packet = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
            let flags = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.ack(), 'A'),
            ];
            In {
                flags: flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect(),
                seq: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                window: tcp.window_size(),
                options: tcp.options().to_vec(),
                payload: tcp.payload().to_vec(),
            }
        })
        .collect()
}

fn only(rig: &mut Rig) -> In {
    let mut segments = segments(rig);
    assert_eq!(segments.len(), 1, "{segments:#?}");
    segments.remove(0)
}

const SYN_OPTIONS: &[u8] = &[
    2, 4, 0x05, 0xb4, // MSS 1460
    4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0, // SACK permitted, timestamps
    1, 3, 3, 7, // window scale
];

fn syn<'a>(options: &'a [u8]) -> Out<'a> {
    Out { flags: "S", seq: IRS, window: 64240, options, ..Out::default() }
}

/// A connection up to the SYN-ACK.
fn accepted(rig: &mut Rig, options: &[u8]) -> (Rc<RefCell<TcpState>>, In) {
    rig.frame(&frame(&syn(options)));
    assert_eq!(segments(rig), [], "nothing before the remote has answered");
    let socket = rig.host.tcp_sockets.last().unwrap().clone();
    rig.tcp_ready(&socket, WRITABLE);
    let answer = only(rig);
    (socket, answer)
}

/// An established connection without options, and our next sequence number.
fn established(rig: &mut Rig) -> (Rc<RefCell<TcpState>>, u32) {
    let (socket, answer) = accepted(rig, &[]);
    let next = answer.seq + 1;
    rig.frame(&frame(&Out {
        flags: "A",
        seq: IRS + 1,
        ack: next,
        window: 64240,
        ..Out::default()
    }));
    assert_eq!(segments(rig), [], "a handshake needs no further ACK");
    (socket, next)
}

/// The guest's segment behind the handshake.
fn after<'a>(flags: &'a str, offset: u32, ack: u32, payload: &'a [u8]) -> Out<'a> {
    let seq = IRS.wrapping_add(1 + offset);
    Out { flags, seq, ack, window: 64240, payload, ..Out::default() }
}

#[test]
fn syn_ack_offers_what_the_guest_offered() {
    let mut rig = Rig::with(config(), 1500);
    let (_, answer) = accepted(&mut rig, SYN_OPTIONS);
    assert_eq!((answer.flags.as_str(), answer.ack), ("SA", IRS + 1));
    let clock = u32::try_from(rig.now.millis()).unwrap().to_be_bytes();
    let mut options = vec![2, 4, 0x05, 0xb4, 4, 2, 8, 10];
    options.extend(clock);
    options.extend([0, 0, 1, 0, 1, 3, 3, 8]);
    assert_eq!(answer.options, options);
    assert_eq!(answer.window, u16::MAX, "not scaled, and not more than 16 bits");

    let mut rig = Rig::with(config(), 1500);
    let (_, answer) = accepted(&mut rig, &[2, 4, 2, 24]);
    assert_eq!(answer.options, [2, 4, 0x05, 0xb4], "nothing that was not offered");
}

#[test]
fn a_lost_syn_ack_is_sent_again_as_it_was() {
    let mut rig = Rig::with(config(), 1500);
    let (socket, first) = accepted(&mut rig, &[]);
    rig.pass(Duration::from_millis(1100));
    assert_eq!(only(&mut rig), first, "by the timer");
    rig.frame(&frame(&syn(&[])));
    assert_eq!(only(&mut rig), first, "for a repeated SYN");
    rig.pass(Duration::from_secs(130));
    let rest = segments(&mut rig);
    assert_eq!(rest.last().unwrap().flags, "RA", "given up");
    assert!(rest[..rest.len() - 1].iter().all(|segment| *segment == first));
    assert!(socket.borrow().reset && socket.borrow().closed);
}

#[test]
fn a_repeated_syn_opens_no_second_connection() {
    let mut rig = Rig::new(config());
    rig.frame(&frame(&syn(&[])));
    rig.frame(&frame(&syn(&[])));
    assert_eq!(rig.host.tcp.len(), 1);
    assert_eq!(segments(&mut rig), []);
}

#[test]
fn refusal_is_a_reset() {
    let mut rig = Rig::new(config());
    rig.frame(&frame(&syn(&[])));
    let socket = rig.host.tcp_sockets[0].clone();
    socket.borrow_mut().error = Some(SocketError { errno: 111, icmp: None });
    rig.tcp_ready(&socket, Readiness { error: true, hang_up: true, ..WRITABLE });
    let reset = only(&mut rig);
    assert_eq!((reset.flags.as_str(), reset.seq, reset.ack), ("RA", 0, IRS + 1));
    assert!(socket.borrow().closed);
}

#[test]
fn unreachable_is_told_by_icmp_and_then_by_reset() {
    let mut rig = Rig::new(config());
    rig.frame(&frame(&syn(&[])));
    let socket = rig.host.tcp_sockets[0].clone();
    let offender = "203.0.113.9".parse().unwrap();
    let icmp = Some(IcmpOrigin { offender, kind: 3, code: 1, info: 0 });
    socket.borrow_mut().error = Some(SocketError { errno: 113, icmp });
    rig.tcp_ready(&socket, Readiness { error: true, hang_up: true, ..WRITABLE });
    let frames = rig.frames();
    let packet = SlicedPacket::from_ethernet(&frames[0].0).unwrap();
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("not ICMP") };
    assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 1));
    // The quotation names the guest's SYN: its addresses, ports and sequence number.
    let head = &icmp.payload()[20..28];
    assert_eq!(head[..4], [0x03, 0xe8, 0, 80]);
    assert_eq!(head[4..], IRS.to_be_bytes());
    rig.frame(&frame(&syn(&[])));
    let reset = only(&mut rig);
    assert_eq!((reset.flags.as_str(), reset.ack), ("RA", IRS + 1), "it insisted");
}

#[test]
fn no_route_is_told_at_once_and_shortage_not_at_all() {
    let mut rig = Rig::new(config());
    rig.host.tcp_errors.extend([101, 24]);
    rig.frame(&frame(&syn(&[])));
    let frames = rig.frames();
    let packet = SlicedPacket::from_ethernet(&frames[0].0).unwrap();
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("not ICMP") };
    assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 0));
    rig.frame(&frame(&syn(&[])));
    assert_eq!(rig.host.tcp.len(), 2);
    assert_eq!(rig.frames(), [], "out of descriptors: the guest may try again");
}

#[test]
fn segments_without_a_flow_are_reset_by_the_book() {
    let mut rig = Rig::new(config());
    rig.frame(&frame(&Out { flags: "A", seq: 5, ack: 77, ..Out::default() }));
    let reset = only(&mut rig);
    assert_eq!((reset.flags.as_str(), reset.seq), ("R", 77));
    // SEG.LEN counts FIN.
    rig.frame(&frame(&Out { flags: "F", seq: 5, payload: b"abc", ..Out::default() }));
    let reset = only(&mut rig);
    assert_eq!((reset.flags.as_str(), reset.seq, reset.ack), ("RA", 0, 9));
    rig.frame(&frame(&Out { flags: "R", seq: 5, ..Out::default() }));
    assert_eq!(segments(&mut rig), []);
    assert!(rig.host.tcp.is_empty());
}

#[test]
fn resets_and_syns_must_prove_themselves() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    // In the window, not at its start: challenged (RFC 5961 3).
    rig.frame(&frame(&after("R", 100, 0, b"")));
    let challenge = only(&mut rig);
    assert_eq!((challenge.flags.as_str(), challenge.seq, challenge.ack), ("A", next, IRS + 1));
    // Outside of it: ignored.
    rig.frame(&frame(&after("R", 500_000_000, 0, b"")));
    assert_eq!(segments(&mut rig), []);
    // SYN: challenged (RFC 5961 4). ACK of what was never sent: the same (RFC 5961 5).
    rig.frame(&frame(&syn(&[])));
    assert_eq!(only(&mut rig), challenge);
    rig.frame(&frame(&after("A", 0, next + 5, b"")));
    assert_eq!(only(&mut rig), challenge);
    assert!(!socket.borrow().closed);
    rig.frame(&frame(&after("R", 0, 0, b"")));
    assert!(socket.borrow().reset && socket.borrow().closed, "the exact number");
    assert_eq!(segments(&mut rig), []);
}

#[test]
fn challenges_are_rationed() {
    let mut rig = Rig::new(config());
    established(&mut rig);
    for _ in 0..500 {
        rig.frame(&frame(&syn(&[])));
    }
    assert_eq!(segments(&mut rig).len(), 100);
    rig.pass(Duration::from_secs(1));
    rig.frame(&frame(&syn(&[])));
    assert_eq!(segments(&mut rig).len(), 1);
}

#[test]
fn payload_goes_through_both_ways() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.frame(&frame(&after("PA", 0, next, b"ping")));
    assert_eq!(socket.borrow().sent, b"ping");
    let ack = only(&mut rig);
    assert_eq!((ack.flags.as_str(), ack.seq, ack.ack), ("A", next, IRS.wrapping_add(5)));
    socket.borrow_mut().incoming = b"pong".to_vec();
    rig.tcp_ready(&socket, Readiness { readable: true, ..WRITABLE });
    let data = only(&mut rig);
    assert_eq!((data.flags.as_str(), data.seq, &data.payload[..]), ("PA", next, &b"pong"[..]));
    assert_eq!(socket.borrow().discarded, 0, "not before the guest has it");
}

#[test]
fn one_ack_for_a_burst() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    for n in 0..8 {
        rig.frame_of_burst(&frame(&after("A", n * 1000, next, &[7; 1000])), Gso::None);
    }
    rig.end_of_burst();
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(8001));
    assert_eq!(socket.borrow().sent.len(), 8000);
}

#[test]
fn what_the_socket_refuses_waits_in_order() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().takes = 3;
    socket.borrow_mut().room = SendRoom { sndbuf: 4096, queued: 4096 };
    rig.frame(&frame(&after("A", 0, next, b"abcdef")));
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(7), "the spill holds the rest");
    rig.frame(&frame(&after("FA", 6, next, b"ghi")));
    assert!(!socket.borrow().shut, "FIN waits for the spill");
    segments(&mut rig);
    socket.borrow_mut().takes = usize::MAX;
    rig.tcp_ready(&socket, WRITABLE);
    assert_eq!(socket.borrow().sent, b"abcdefghi");
    assert!(socket.borrow().shut);
}

#[test]
fn a_gap_is_answered_at_once_and_filled() {
    let mut rig = Rig::new(config());
    let (socket, answer) = accepted(&mut rig, SYN_OPTIONS);
    let next = answer.seq + 1;
    let ts = [1, 1, 8, 10, 0, 0, 1, 1, 0, 0, 0, 0];
    let with_ts = |out: Out<'_>| frame(&Out { options: &ts, ..out });
    rig.frame(&with_ts(after("A", 0, next, b"")));
    segments(&mut rig);
    rig.frame_of_burst(&with_ts(after("A", 3, next, b"def")), Gso::None);
    let duplicate = only(&mut rig);
    assert_eq!(duplicate.ack, IRS.wrapping_add(1));
    let mut sack = vec![1, 1, 5, 10];
    sack.extend(IRS.wrapping_add(4).to_be_bytes());
    sack.extend(IRS.wrapping_add(7).to_be_bytes());
    assert_eq!(duplicate.options[12..], sack);
    rig.end_of_burst();
    segments(&mut rig);
    rig.frame(&with_ts(after("A", 0, next, b"abc")));
    assert_eq!(socket.borrow().sent, b"abcdef");
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(7));
}

#[test]
fn half_close_either_way_and_the_end() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.frame(&frame(&after("FA", 0, next, b"")));
    assert!(socket.borrow().shut);
    assert_eq!(only(&mut rig).ack, IRS.wrapping_add(2));
    socket.borrow_mut().incoming = b"late".to_vec();
    rig.tcp_ready(&socket, Readiness { readable: true, ..WRITABLE });
    assert_eq!(only(&mut rig).payload, b"late");
    socket.borrow_mut().ended = true;
    rig.tcp_ready(&socket, Readiness { readable: true, read_closed: true, ..WRITABLE });
    let fin = only(&mut rig);
    assert_eq!((fin.flags.as_str(), fin.seq), ("FA", next + 4));
    rig.frame(&frame(&after("A", 1, next + 5, b"")));
    let state = socket.borrow();
    assert!(state.closed && !state.reset);
    assert_eq!(state.discarded, 4, "a close with unread data would be a reset");
}

#[test]
fn a_reset_by_the_remote_comes_behind_its_data() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().incoming = b"last words".to_vec();
    socket.borrow_mut().ended = true;
    socket.borrow_mut().error = Some(SocketError { errno: 104, icmp: None });
    let everything = Readiness {
        readable: true,
        writable: true,
        read_closed: true,
        hang_up: true,
        error: true,
        urgent: false,
    };
    rig.tcp_ready(&socket, everything);
    let segments = segments(&mut rig);
    assert_eq!(segments.len(), 2);
    assert_eq!((segments[0].flags.as_str(), &segments[0].payload[..]), ("PA", &b"last words"[..]));
    assert_eq!((segments[1].flags.as_str(), segments[1].seq), ("RA", next + 10));
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.frame(&frame(&Out { window: 0, ..after("A", 0, next, b"") }));
    socket.borrow_mut().incoming = b"patience".to_vec();
    rig.tcp_ready(&socket, Readiness { readable: true, ..WRITABLE });
    assert_eq!(segments(&mut rig), []);
    rig.pass(Duration::from_secs(20));
    let probes = segments(&mut rig);
    assert!((3..=10).contains(&probes.len()), "{}", probes.len());
    assert!(probes.iter().all(|probe| (probe.seq, &probe.payload[..]) == (next, &b"p"[..])));
    rig.frame(&frame(&Out { window: 100, ..after("A", 0, next, b"") }));
    let rest: Vec<u8> = segments(&mut rig).iter().flat_map(|s| s.payload.clone()).collect();
    assert_eq!(rest, b"patience");
}

#[test]
fn a_paused_guest_is_not_given_up() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    socket.borrow_mut().incoming = b"wake up".to_vec();
    rig.tcp_ready(&socket, Readiness { readable: true, ..WRITABLE });
    rig.pass(Duration::from_secs(300));
    assert!(!socket.borrow().closed);
    let tries = segments(&mut rig);
    assert!(tries.iter().all(|try_| try_.flags == "PA" && try_.seq == next));
    assert!((30..60).contains(&tries.len()), "{}", tries.len());
    rig.pass(Duration::from_secs(700));
    assert!(socket.borrow().reset && socket.borrow().closed, "not for ever");
}

#[test]
fn a_silent_guest_is_asked() {
    let mut rig = Rig::new(config());
    let (socket, next) = established(&mut rig);
    rig.pass(Duration::from_secs(310));
    let ask = only(&mut rig);
    assert_eq!((ask.flags.as_str(), ask.seq, ask.payload.len()), ("A", next - 1, 0));
    rig.pass(Duration::from_secs(7300));
    assert!(socket.borrow().closed, "it never answered, and the remote is silent, too");
}

/// Whoever connects to a port at which the guest answers nothing must not keep the guest from connecting,
/// nor the other way round.
#[test]
fn half_open_connections_of_one_side_leave_the_other_alone() {
    const MANY: u16 = 5000;
    let from_guest = |rig: &mut Rig, port: u16| {
        let mut frame = frame(&syn(&[]));
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        rig.frame(&frame);
    };
    let from_host = |rig: &mut Rig, port: u16| {
        let ends = (format!("{GUEST}:22").parse().unwrap(), (PEER_IP, port).into());
        rig.try_connected(ends)
    };
    let mut rig = Rig::new(config());
    let taken = (1..=MANY).filter(|port| from_host(&mut rig, *port)).count();
    assert!(taken < usize::from(MANY), "they are bounded");
    let before = rig.host.tcp.len();
    from_guest(&mut rig, 1000);
    assert_eq!(rig.host.tcp.len(), before + 1, "the guest connects");

    let mut rig = Rig::new(config());
    (1..=MANY).for_each(|port| from_guest(&mut rig, port));
    assert!(rig.host.tcp.len() < usize::from(MANY), "they are bounded");
    assert!(from_host(&mut rig, 1000), "the guest is connected to");

    // Each counts until it is over, once.
    let socket = rig.host.tcp_sockets[0].clone();
    let refused = rig.host.tcp.len();
    from_guest(&mut rig, MANY + 1);
    assert_eq!(rig.host.tcp.len(), refused);
    rig.tcp_ready(&socket, WRITABLE);
    from_guest(&mut rig, MANY + 1);
    from_guest(&mut rig, MANY + 2);
    assert_eq!(rig.host.tcp.len(), refused + 1);
}

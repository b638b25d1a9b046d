use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener as StdListener, TcpStream};
use std::time::{Duration, Instant};

use sys::epoll::Events;
use sys::socket::{Binding, Kind, TcpListener};

use super::*;
use crate::worker::readiness;

/// Spliced connections between real sockets of loopback.
struct Rig {
    epoll: Epoll,
    connections: Connections,
}

impl Rig {
    fn new() -> Self {
        Self { epoll: Epoll::new().unwrap(), connections: Connections::default() }
    }

    /// A client connected to somebody who is spliced to `to`.
    fn client(&mut self, to: SocketAddr) -> TcpStream {
        let place = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let binding = Binding {
            address: Some(place.ip()),
            port: place.port(),
            device: None,
            scope_id: 0,
            freebind: false,
        };
        let listener = TcpListener::open(&binding).unwrap();
        let client = TcpStream::connect(place).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let (accepted, _) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => assert!(
                    error.kind() == ErrorKind::WouldBlock && Instant::now() < end,
                    "{error}"
                ),
            }
        };
        let socket = Unbound::new(Kind::Tcp, to.is_ipv6());
        self.connections.open(&self.epoll, Stream::accepted(accepted), socket, to);
        client.set_nonblocking(true).unwrap();
        client
    }

    /// A connected pair: a client, and the server to which it is spliced.
    fn pair(&mut self) -> (TcpStream, TcpStream) {
        let server = StdListener::bind("127.0.0.1:0").unwrap();
        let client = self.client(server.local_addr().unwrap());
        let (accepted, _) = server.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        (client, accepted)
    }

    /// Handles what is ready; returns how many events that were.
    fn step(&mut self, timeout: Duration) -> usize {
        let mut events = Events::with_capacity(16);
        self.epoll.wait(&mut events, Some(timeout)).unwrap();
        for event in events.iter() {
            let Some(Token::Spliced(slot, side)) = Token::from_cookie(event.cookie) else {
                panic!("{event:?}");
            };
            self.connections.on_event(&self.epoll, slot, side, readiness(&event));
        }
        self.connections.resume(&self.epoll);
        events.len()
    }

    /// Goes on until `done` has a result.
    fn until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(result) = done() {
                return result;
            }
            assert!(Instant::now() < end, "nothing happens");
            self.step(Duration::from_millis(1));
        }
    }

    fn is_empty(&self) -> bool {
        self.connections.table.is_empty()
    }
}

fn read(stream: &mut TcpStream) -> Option<io::Result<Vec<u8>>> {
    let mut buffer = [0; 1 << 16];
    match stream.read(&mut buffer) {
        Ok(len) => Some(Ok(buffer[..len].to_vec())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(Err(error)),
    }
}

fn pattern(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

#[test]
fn small_exchanges_take_no_pipe() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.pair();
    for round in 0..50u8 {
        client.write_all(&[round; 100]).unwrap();
        assert_eq!(rig.until(|| read(&mut server)).unwrap(), [round; 100]);
        server.write_all(&[round; 10_000]).unwrap();
        let mut got = 0;
        while got < 10_000 {
            got += rig.until(|| read(&mut client)).unwrap().len();
        }
    }
    assert!(rig.connections.pipes.is_unused());
}

#[test]
fn bulk_arrives_whole_and_in_order_both_ways() {
    const LEN: usize = 8 << 20;
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.pair();
    let (mut sent, mut got) = ([0usize; 2], [0usize; 2]);
    let end = Instant::now() + Duration::from_secs(30);
    let mut round = 0u32;
    while got != [LEN; 2] {
        assert!(Instant::now() < end, "sent {sent:?}, got {got:?}");
        for way in 0..2 {
            let (from, to) =
                if way == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let data: Vec<u8> = (sent[way]..LEN.min(sent[way] + 100_000)).map(pattern).collect();
            match from.write(&data) {
                Ok(len) => sent[way] += len,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            // A reader that takes its time: back-pressure reaches the writer.
            round = round.wrapping_add(1);
            if round % 3 == 0 {
                if let Some(data) = read(to) {
                    let data = data.unwrap();
                    for (index, byte) in data.iter().enumerate() {
                        assert_eq!(*byte, pattern(got[way] + index), "at {}", got[way] + index);
                    }
                    got[way] += data.len();
                }
            }
        }
        rig.step(Duration::ZERO);
    }
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.until(|| read(&mut server)).unwrap(), []);
    assert_eq!(rig.until(|| read(&mut client)).unwrap(), []);
    assert!(rig.is_empty());
    assert!(!rig.connections.pipes.is_unused(), "pipes were used, and are kept");
}

#[test]
fn a_closed_half_leaves_the_other_one_open() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.pair();
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.until(|| read(&mut server)).unwrap(), b"last");
    assert_eq!(rig.until(|| read(&mut server)).unwrap(), b"");
    for _ in 0..3 {
        server.write_all(b"answer").unwrap();
        assert_eq!(rig.until(|| read(&mut client)).unwrap(), b"answer");
    }
    drop(server);
    assert_eq!(rig.until(|| read(&mut client)).unwrap(), b"");
    assert!(rig.is_empty());
}

#[test]
fn an_end_may_be_seen_before_the_connection() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.pair();
    server.write_all(b"all").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut events = Events::with_capacity(16);
    rig.epoll.wait(&mut events, Some(Duration::from_secs(5))).unwrap();
    for event in events.iter() {
        let Some(Token::Spliced(slot, side)) = Token::from_cookie(event.cookie) else {
            panic!("{event:?}");
        };
        let ready = readiness(&event);
        if side == Side::Far {
            assert!(ready.writable && ready.read_closed && !ready.hang_up, "{ready:?}");
            let early = Readiness { writable: false, ..ready };
            rig.connections.on_event(&rig.epoll, slot, side, early);
        }
        rig.connections.on_event(&rig.epoll, slot, side, ready);
    }
    assert_eq!(rig.until(|| read(&mut client)).unwrap(), b"all");
    assert_eq!(rig.until(|| read(&mut client)).unwrap(), b"");
    client.write_all(b"more").unwrap();
    assert_eq!(rig.until(|| read(&mut server)).unwrap(), b"more");
}

#[test]
fn a_reset_is_passed_on_in_both_directions() {
    for from_client in [true, false] {
        let mut rig = Rig::new();
        let (mut client, mut server) = rig.pair();
        client.write_all(b"x").unwrap();
        rig.until(|| read(&mut server)).unwrap();
        let (gone, mut left) = if from_client { (client, server) } else { (server, client) };
        // Closing with SO_LINGER 0 resets.
        Stream::accepted(gone.into()).reset_on_close();
        let error = rig.until(|| read(&mut left)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(rig.is_empty());
    }
}

#[test]
fn a_refused_target_resets_the_client() {
    let mut rig = Rig::new();
    let nobody = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = rig.client(nobody);
    let error = rig.until(|| read(&mut client)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(rig.is_empty());
    // No route at all: known at once.
    let mut client = rig.client("[ff3e::1]:9".parse().unwrap());
    let error = rig.until(|| read(&mut client)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn who_is_idle_is_not_looked_at() {
    let mut rig = Rig::new();
    let mut pairs: Vec<_> = (0..8).map(|_| rig.pair()).collect();
    while rig.step(Duration::from_millis(20)) > 0 {}
    assert!(!rig.connections.has_pending());
    let (client, server) = &mut pairs[0];
    client.write_all(b"x").unwrap();
    assert_eq!(rig.step(Duration::from_secs(5)), 1, "one event for one message");
    assert_eq!(read(server).unwrap().unwrap(), b"x");
}

#[test]
fn urgent_data_is_data() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.pair();
    client.write_all(b"before").unwrap();
    rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
    client.write_all(b"behind").unwrap();
    let mut got = Vec::new();
    while got.len() < 13 {
        got.extend(rig.until(|| read(&mut server)).unwrap());
    }
    assert_eq!(got, b"before!behind");
}

/// Pieces of every size both ways, with readers that stop and go on, over small buffers.
#[test]
fn nothing_is_stuck_whatever_comes() {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
    for seed in 1..=16u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = move |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap() % limit
        };
        let mut rig = Rig::new();
        let (mut client, mut server) = rig.pair();
        for socket in [&client, &server] {
            // Less than some segments of loopback (64 KiB each), and the kernel itself takes its time.
            set_socket_recv_buffer_size(socket, 262_144 << below(2)).unwrap();
            set_socket_send_buffer_size(socket, 4096 << below(6)).unwrap();
        }
        let (mut sent, mut got) = ([0usize; 2], [0usize; 2]);
        let end = Instant::now() + Duration::from_secs(20);
        for round in 0.. {
            // In the end everything is read, and nothing more is written.
            let over = round > 400;
            if over && sent == got {
                break;
            }
            assert!(
                Instant::now() < end,
                "seed {seed}: sent {sent:?}, got {got:?}, {:?}",
                rig.connections.table.iter().next()
            );
            for way in 0..2 {
                let (from, to) =
                    if way == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let len = [0, 1, 3000, 20_000, 300_000][below(5)];
                if !over && len > 0 {
                    let data: Vec<u8> = (sent[way]..sent[way] + len).map(pattern).collect();
                    match from.write(&data) {
                        Ok(len) => sent[way] += len,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                if over || below(3) == 0 {
                    if let Some(data) = read(to) {
                        let data = data.unwrap();
                        let right = (got[way]..).zip(&data).all(|(at, byte)| *byte == pattern(at));
                        assert!(right, "seed {seed}: wrong bytes behind {}", got[way]);
                        got[way] += data.len();
                    }
                }
            }
            rig.step(if over { Duration::from_millis(1) } else { Duration::ZERO });
        }
    }
}

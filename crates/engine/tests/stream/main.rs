//! A worker whose guest is behind a stream socket: smoltcp, which checks every checksum and has no
//! offload of any kind.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/mod.rs"]
mod common;
mod device;
mod guest;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{FAMILIES, SHORT, receive_pattern, rig, send_pattern};
use engine::{ExitReason, Hypervisor};
use guest::{Guest, Machine, host_udp, loopback};
use testkit::{Family, Rig};

const MTUS: [u16; 3] = [1500, 9000, 65_520];
const MIB: usize = 1 << 20;

/// How long something goes on where that matters.
fn for_a_while() -> Duration {
    let seconds = std::env::var("E2E_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// A server of the host's loopback for one connection: its address as the guest sees it.
fn serve<T: Send + 'static>(
    family: Family,
    job: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let (_, own) = loopback(family, 0);
    let listener = TcpListener::bind(own).unwrap();
    let (to, _) = loopback(family, listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(SHORT * 6)).unwrap();
        stream.set_write_timeout(Some(SHORT * 6)).unwrap();
        job(stream)
    });
    (to, server)
}

/// `len` bytes each way over connections of their own, at the same time.
fn both_ways(guest: &mut Guest, family: Family, len: usize) {
    let (to_host, receiver) = serve(family, move |stream| receive_pattern(stream, len));
    let (from_host, sender) = serve(family, move |stream| send_pattern(stream, len));
    let (up, down) = (guest.connect(to_host, len), guest.connect(from_host, 0));
    guest.run("transfers", SHORT * 3, |guest| guest.is_over(up) && guest.is_over(down));
    receiver.join().unwrap();
    sender.join().unwrap();
    assert_eq!((guest.conns[up].sent, guest.conns[down].received), (len, len));
}

#[test]
fn bytes_of_every_size_of_frame() {
    rig("bytes_of_every_size_of_frame", |_| {
        for mtu in MTUS {
            let (mut guest, machine) = Guest::with_machine(mtu);
            for family in FAMILIES {
                both_ways(&mut guest, family, 4 * MIB);
            }
            let seen = &guest.wire.seen;
            assert!(seen.advertisements > 0, "{seen:?}");
            // Cut to the last byte of the MTU, less what timestamps would take.
            let headers = 14 + usize::from(mtu) - seen.longest;
            assert!(headers <= 12, "the longest frame has {} of {mtu} bytes", seen.longest);
            drop(guest);
            assert!(matches!(machine.wait().0, ExitReason::HypervisorGone));
        }
        Ok(())
    });
}

/// A frame of a guest.
fn from_guest(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let len = u32::try_from(14 + packet.len()).unwrap();
    let ends = [[0xff; 6], [2, 0, 0, 0, 0, 0x77]].concat();
    [&len.to_be_bytes()[..], &ends, &ethertype.to_be_bytes(), packet].concat()
}

/// Reads frames until there is one of this type from us that is no broadcast.
fn answer(client: &mut UnixStream, ethertype: u16) -> Vec<u8> {
    client.set_read_timeout(Some(SHORT)).unwrap();
    loop {
        let mut len = [0; 4];
        client.read_exact(&mut len).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        client.read_exact(&mut frame).unwrap();
        if frame[..6] == [2, 0, 0, 0, 0, 0x77] && frame[12..14] == ethertype.to_be_bytes() {
            return frame;
        }
    }
}

/// Asks for the gateway's link-layer address, and asserts that the answer is right.
fn asks_for_the_gateway(client: &mut UnixStream) {
    let request = [
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x77, 203, 0, 113, 2][..],
        &[0, 0, 0, 0, 0, 0, 203, 0, 113, 1],
    ];
    client.write_all(&from_guest(0x0806, &request.concat())).unwrap();
    let reply = answer(client, 0x0806);
    let wanted = [
        &[0, 1, 8, 0, 6, 4, 0, 2, 0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55, 203, 0, 113, 1][..],
        &[2, 0, 0, 0, 0, 0x77, 203, 0, 113, 2],
    ];
    assert_eq!(reply[14..42], wanted.concat());
    assert_eq!(reply[42..], [0; 18], "padding up to 60 bytes");
}

#[test]
fn neighbours_are_told() {
    rig("neighbours_are_told", |_| {
        let (mut client, theirs) = UnixStream::pair()?;
        let machine = Machine::start(Hypervisor::Connected(theirs), 1500);
        for _ in 0..3 {
            asks_for_the_gateway(&mut client);
        }
        assert!(machine.is_alive());
        Ok(())
    });
}

#[test]
fn pieces_of_any_length() {
    rig("pieces_of_any_length", |_| {
        for (mtu, pieces) in [(1500, 3000), (65_520, 100_000), (1500, 7)] {
            let (mut guest, machine) = Guest::with_machine(mtu);
            guest.wire.pieces = Some(pieces);
            let len = if pieces < 100 { MIB / 8 } else { 2 * MIB };
            for family in FAMILIES {
                both_ways(&mut guest, family, len);
            }
            drop(guest);
            assert!(matches!(machine.wait().0, ExitReason::HypervisorGone));
        }
        Ok(())
    });
}

/// A socket of the guest that the host has heard of, the host's, and each other's addresses.
fn acquainted(
    guest: &mut Guest,
    family: Family,
) -> (smoltcp::iface::SocketHandle, UdpSocket, SocketAddr, SocketAddr) {
    let (host, to) = host_udp(family);
    let socket = guest.udp(512);
    host.set_nonblocking(true).unwrap();
    guest.send_datagram(socket, to, b"hello");
    let mut from = None;
    guest.run("first datagram", SHORT, |_| {
        from = host.recv_from(&mut [0; 9]).ok().map(|(_, from)| from);
        from.is_some()
    });
    host.set_nonblocking(false).unwrap();
    (socket, host, from.unwrap(), to)
}

#[test]
fn datagrams_and_bursts_of_them() {
    rig("datagrams_and_bursts_of_them", |_| {
        for mtu in MTUS {
            let (mut guest, machine) = Guest::with_machine(mtu);
            for family in FAMILIES {
                datagrams(&mut guest, family, mtu);
            }
            drop(guest);
            assert!(matches!(machine.wait().0, ExitReason::HypervisorGone));
        }
        Ok(())
    });
}

fn datagrams(guest: &mut Guest, family: Family, mtu: u16) {
    let (socket, host, peer, to) = acquainted(guest, family);
    let mut buffer = vec![0; 65_536];
    let most = usize::from(mtu) - if family == Family::V4 { 28 } else { 48 };
    for len in [1, 2, 17, 18, 19, 100, most - 1, most] {
        let data: Vec<u8> =
            (0..len).map(|index: usize| (index * 7 + len).to_le_bytes()[0]).collect();
        host.send_to(&data, peer).unwrap();
        guest.run("a datagram", SHORT, |guest| guest.udp_socket(socket).can_recv());
        assert_eq!(guest.udp_socket(socket).recv().unwrap().0, data);
        guest.send_datagram(socket, to, &data);
        guest.run_for(Duration::from_millis(1));
        let (got, from) = host.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..got], from), (&data[..], peer));
    }
    // One call of the host, one superframe, many frames.
    let own = host.local_addr().unwrap();
    drop(host);
    let mut host = sys::socket::UdpSocket::open(own, peer, &sys::socket::Ties::default()).unwrap();
    for (segment, whole, last) in [(1200, 40, 77), (100, 64, 0), (11, 63, 10), (1, 60, 0)] {
        let data: Vec<u8> = (0..whole * segment + last)
            .map(|index: usize| (index / segment + index).to_le_bytes()[0])
            .collect();
        let sent = host.send(&[IoSlice::new(&data)], segment, 64).unwrap();
        assert_eq!(sent, data.len());
        for (index, wanted) in data.chunks(segment).enumerate() {
            guest.run("a burst", SHORT, |guest| guest.udp_socket(socket).can_recv());
            let (got, _) = guest.udp_socket(socket).recv().unwrap();
            assert_eq!(got, wanted, "datagram {index} of {segment} bytes");
        }
    }
    // Small ones, which the worker passes on together.
    let handle = socket;
    for index in 0..200u32 {
        guest.send_datagram(handle, to, &index.to_be_bytes());
    }
    let mut next = 0u32;
    guest.run("datagrams of the guest", SHORT, |_| {
        while let Ok(burst) = host.recv(&mut buffer) {
            for datagram in buffer[..burst.len].chunks(4) {
                assert_eq!(datagram, next.to_be_bytes());
                next += 1;
            }
        }
        next == 200
    });
}

/// Connections to servers that send without end, until told to stop; they never hear of the guest's end.
struct Fountains {
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
    conns: Vec<usize>,
}

impl Fountains {
    fn open(guest: &mut Guest, family: Family, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut all = Self { stop: stop.clone(), servers: Vec::new(), conns: Vec::new() };
        for _ in 0..count {
            let stop = stop.clone();
            let (to, server) = serve(family, move |mut stream| {
                stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let next: Vec<u8> = (sent..sent + 65_536).map(common::pattern).collect();
                    match stream.write(&next) {
                        Ok(len) => sent += len,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                    }
                }
            });
            all.servers.push(server);
            all.conns.push(guest.connect(to, 0));
        }
        let conns = all.conns.clone();
        guest.run("first bytes", SHORT, |guest| {
            conns.iter().all(|index| guest.conns[*index].received > 0)
        });
        all
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers {
            server.join().unwrap();
        }
    }
}

#[test]
fn a_guest_that_pauses_gets_everything() {
    rig("a_guest_that_pauses_gets_everything", |_| {
        for (mtu, family) in [(1500, Family::V4), (65_520, Family::V6)] {
            let len = 8 * MIB;
            let (mut guest, machine) = Guest::with_machine(mtu);
            let (to_host, receiver) = serve(family, move |stream| receive_pattern(stream, len));
            let (from_host, sender) = serve(family, move |stream| send_pattern(stream, len));
            let (up, down) = (guest.connect(to_host, len), guest.connect(from_host, 0));
            for pause in 1..=3 {
                guest.run("some more", SHORT, |guest| {
                    guest.conns[down].received >= pause * MIB && guest.conns[up].sent >= pause * MIB
                });
                guest.wire.paused = true;
                guest.run_for(Duration::from_millis(300));
                let (busy, began) = (machine.busy(), Instant::now());
                guest.run_for(Duration::from_millis(500));
                let share = (machine.busy() - busy).as_secs_f64() / began.elapsed().as_secs_f64();
                eprintln!("pause {pause} at {mtu}: busy {:.2} %", share * 100.0);
                assert!(share < 0.1, "{share}");
                guest.wire.paused = false;
            }
            guest.run("the rest", SHORT * 3, |guest| guest.is_over(up) && guest.is_over(down));
            receiver.join().unwrap();
            sender.join().unwrap();
            assert_eq!(guest.conns[down].received, len);
            drop(guest);
            machine.wait();
        }
        Ok(())
    });
}

#[test]
fn a_full_link_is_shared() {
    rig("a_full_link_is_shared", |_| {
        for mtu in [1500, 65_520] {
            let (mut guest, machine) = Guest::with_machine(mtu);
            let fountains = Fountains::open(&mut guest, Family::V4, 8);
            // Far less than they could send.
            guest.wire.allowance = Some(0);
            let mut next = Instant::now();
            for _ in 0..4 {
                let before: Vec<_> =
                    fountains.conns.iter().map(|index| guest.conns[*index].received).collect();
                let end = Instant::now() + Duration::from_millis(800);
                guest.run("sharing", SHORT * 2, |guest| {
                    if Instant::now() >= next {
                        next += Duration::from_millis(4);
                        guest.wire.allowance = Some(100_000);
                    }
                    Instant::now() >= end
                });
                let got: Vec<_> = (fountains.conns.iter().zip(before))
                    .map(|(index, before)| guest.conns[*index].received - before)
                    .collect();
                eprintln!("at {mtu}: {got:?}");
                // Turns are equal. What a connection has to send in its turn depends on how far the kernel
                // has let its receive buffer grow.
                let (least, sum) = (*got.iter().min().unwrap(), got.iter().sum::<usize>());
                assert!(least > sum / 8 / 40, "{got:?}");
            }
            guest.wire.allowance = None;
            fountains.stop();
            drop(guest);
            machine.wait();
        }
        Ok(())
    });
}

/// Sends datagrams as fast as a core can, with pauses in which others have it.
fn flood(host: UdpSocket, to: SocketAddr) -> (Arc<AtomicBool>, JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let flood = std::thread::spawn(move || {
        let mut sent = 0;
        while !stopped.load(Ordering::Relaxed) {
            for _ in 0..100 {
                sent += u64::from(host.send_to(&[7; 1000], to).is_ok());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        sent
    });
    (stop, flood)
}

/// Memory of this process in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_guest_that_never_reads() {
    rig("a_guest_that_never_reads", |_| {
        let (mut guest, machine) = Guest::with_machine(1500);
        let (_, host, peer, _) = acquainted(&mut guest, Family::V4);
        let (stop, flood) = flood(host, peer);
        let (talker, listener, _, to) = acquainted(&mut guest, Family::V6);
        listener.set_nonblocking(true)?;
        let fountains = Fountains::open(&mut guest, Family::V4, 4);
        guest.wire.paused = true;
        guest.run_for(Duration::from_millis(500));
        let (busy, sleeps, memory, began) =
            (machine.busy(), machine.sleeps(), resident(), Instant::now());
        let mut heard = 0;
        while began.elapsed() < for_a_while() {
            guest.send_datagram(talker, to, b"still here");
            guest.run_for(Duration::from_millis(50));
            while listener.recv(&mut [0; 99]).is_ok() {
                heard += 1;
            }
        }
        let elapsed = began.elapsed().as_secs_f64();
        let share = (machine.busy() - busy).as_secs_f64() / elapsed;
        let sleeps = (machine.sleeps() - sleeps) as f64 / elapsed;
        let grown = resident().saturating_sub(memory);
        eprintln!("busy {:.2} %, {sleeps:.0} sleeps/s, {grown} KiB more", share * 100.0);
        assert!(share < 0.05, "busy {share}");
        assert!(sleeps < 200.0, "woken {sleeps} times a second");
        assert!(grown < 4 << 10, "{grown} KiB more");
        assert!(heard >= 10 && machine.is_alive(), "heard {heard}");
        stop.store(true, Ordering::Relaxed);
        assert!(flood.join().unwrap() > 1000);
        // And there is a way back.
        guest.wire.paused = false;
        let before: Vec<_> =
            fountains.conns.iter().map(|index| guest.conns[*index].received).collect();
        guest.run("more bytes", SHORT, |guest| {
            let mut conns = fountains.conns.iter().zip(&before);
            conns.all(|(index, before)| guest.conns[*index].received > before + MIB)
        });
        fountains.stop();
        drop(guest);
        machine.wait();
        Ok(())
    });
}

/// A worker that listens for its hypervisor, and where.
fn listening(rig: &Rig, one_off: bool) -> (Machine, PathBuf) {
    let path = rig.tmp().join("hypervisor.socket");
    let _ = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    (Machine::start(Hypervisor::Listener { socket, one_off }, 1500), path)
}

/// Waits for what a client is told first: `true` for a frame, `false` for the end.
fn is_served(client: &mut UnixStream) -> bool {
    client.set_read_timeout(Some(SHORT)).unwrap();
    let mut len = [0; 4];
    match client.read(&mut len) {
        Ok(0) => false,
        Ok(_) => {
            client.read_exact(&mut vec![0; u32::from_be_bytes(len) as usize]).unwrap();
            true
        }
        Err(error) => {
            // It was refused with what it had sent still unread.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

/// A client that says something and is served.
fn client(path: &PathBuf) -> UnixStream {
    let mut client = UnixStream::connect(path).unwrap();
    assert!(is_served(&mut client), "nothing was said");
    client
}

#[test]
fn the_next_hypervisor_goes_on() {
    rig("the_next_hypervisor_goes_on", |rig| {
        let (_machine, path) = listening(rig, false);
        for (family, absence) in [(Family::V4, 0), (Family::V6, 3000)] {
            let len = 24 * MIB;
            let mut guest = Guest::new(1500);
            guest.wire.connect(UnixStream::connect(&path)?);
            let (to_host, receiver) = serve(family, move |stream| receive_pattern(stream, len));
            let (from_host, sender) = serve(family, move |stream| send_pattern(stream, len));
            let (up, down) = (guest.connect(to_host, len), guest.connect(from_host, 0));
            guest.run("some bytes", SHORT, |guest| {
                guest.conns[down].received > MIB && guest.conns[up].sent > MIB
            });
            guest.wire.leave_with_half_a_frame();
            guest.run_for(Duration::from_millis(absence));
            guest.wire.connect(UnixStream::connect(&path)?);
            let (began, before) = (Instant::now(), guest.conns[down].received);
            guest.run("more bytes", SHORT, |guest| guest.conns[down].received > before + MIB);
            eprintln!("{absence} ms without a link, {:?} until it flows again", began.elapsed());
            guest.run("the rest", SHORT * 5, |guest| guest.is_over(up) && guest.is_over(down));
            receiver.join().unwrap();
            sender.join().unwrap();
        }
        Ok(())
    });
}

#[test]
fn one_hypervisor_at_a_time() {
    rig("one_hypervisor_at_a_time", |rig| {
        let (machine, path) = listening(rig, false);
        let first = client(&path);
        for _ in 0..3 {
            assert!(!is_served(&mut UnixStream::connect(&path)?), "a second one");
        }
        drop(first);
        // However much the old one left behind, whoever comes after its end is the next one.
        for count in (0..200).step_by(4) {
            let mut old = client(&path);
            old.set_nonblocking(true)?;
            let frame = [&[0, 0, 4, 0][..], &[0; 1024]].concat();
            for _ in 0..count {
                if old.write(&frame).is_err() {
                    break;
                }
            }
            drop(old);
            asks_for_the_gateway(&mut client(&path));
        }
        assert!(machine.is_alive());
        Ok(())
    });
}

#[test]
fn a_bad_length_ends_that_client_only() {
    rig("a_bad_length_ends_that_client_only", |rig| {
        let (machine, path) = listening(rig, false);
        for length in [0, 13, 65_536, u32::MAX] {
            let mut bad = client(&path);
            bad.write_all(&length.to_be_bytes())?;
            let mut rest = Vec::new();
            bad.set_read_timeout(Some(SHORT))?;
            match bad.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
            }
            let mut guest = Guest::new(1500);
            guest.wire.connect(UnixStream::connect(&path)?);
            both_ways(&mut guest, Family::V4, 10_000);
        }
        assert!(machine.is_alive());
        Ok(())
    });
}

#[test]
fn the_only_hypervisor_is_the_last() {
    rig("the_only_hypervisor_is_the_last", |rig| {
        let (machine, path) = listening(rig, true);
        let first = client(&path);
        assert!(!is_served(&mut UnixStream::connect(&path)?));
        drop(first);
        assert!(matches!(machine.wait().0, ExitReason::HypervisorGone));
        let (mut bad, theirs) = UnixStream::pair()?;
        let machine = Machine::start(Hypervisor::Connected(theirs), 1500);
        bad.write_all(&[0; 4])?;
        assert!(matches!(machine.wait().0, ExitReason::HypervisorGone));
        Ok(())
    });
}

#[test]
fn frames_take_no_memory() {
    rig("frames_take_no_memory", |_| {
        for (family, mtu) in [(Family::V4, 1500), (Family::V6, 9000)] {
            let allocations = |len| {
                let (mut guest, machine) = Guest::with_machine(mtu);
                both_ways(&mut guest, family, len);
                drop(guest);
                machine.wait().1
            };
            let (some, more) = (allocations(2 * MIB), allocations(64 * MIB));
            eprintln!("memory taken {some} times for 4 MiB, {more} times for 128 MiB");
            // Spills take buffers when the host falls behind, and keep them. There are some 90 000 frames.
            assert!(more <= some + 200, "{some} {more}");
        }
        Ok(())
    });
}

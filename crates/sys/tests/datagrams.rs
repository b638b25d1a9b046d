//! UDP and ping sockets between namespaces of a rig, against this machine's kernel.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use sys::socket::{Burst, ErrorSource, PingSocket, SocketError, Ties, UdpSocket};
use testkit::{Family, Place, Rig, in_rig};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/init.sh");
const LIMIT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(5);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

fn rig(name: &str, body: impl FnOnce(&Rig) -> Result<()>) {
    in_rig(name, Path::new(INIT), LIMIT, body);
}

/// Runs `job` in another network namespace of the rig.
fn inside<T: Send>(place: &str, job: impl FnOnce() -> T + Send) -> T {
    let namespace = sys::netns::open(Path::new(&format!("/run/netns/{place}"))).unwrap();
    sys::netns::in_network(OwnedFd::as_fd(&namespace), job).unwrap()
}

fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < SHORT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

fn wait_for_error(mut take: impl FnMut() -> Option<SocketError>) -> SocketError {
    let start = Instant::now();
    loop {
        if let Some(error) = take() {
            return error;
        }
        assert!(start.elapsed() < SHORT, "no error");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Two sockets connected to each other: one on the rig's host, one at the usual peer.
fn pair(family: Family, port: u16) -> (UdpSocket, UdpSocket) {
    let here = SocketAddr::new(family.host(), port);
    let there = SocketAddr::new(family.peer(), port + 1);
    let ties = Ties::default();
    let ours = UdpSocket::open(here, there, &ties).unwrap();
    let theirs = inside("outside", || UdpSocket::open(there, here, &ties).unwrap());
    (ours, theirs)
}

/// Everything that arrives up to `total` bytes, as datagrams.
fn receive(socket: &mut UdpSocket, total: usize) -> (Vec<Vec<u8>>, Vec<Burst>) {
    let mut buf = vec![0; 65536];
    let (mut datagrams, mut bursts, mut sum) = (Vec::new(), Vec::new(), 0);
    while sum < total {
        let burst = retry(|| socket.recv(&mut buf)).unwrap();
        sum += burst.len;
        datagrams.extend(buf[..burst.len].chunks(burst.segment).map(<[u8]>::to_vec));
        bursts.push(burst);
    }
    (datagrams, bursts)
}

#[test]
fn bursts_arrive_as_the_datagrams_they_are() {
    rig("bursts_arrive_as_the_datagrams_they_are", |_| {
        let data: Vec<u8> = (0..100_000usize).map(|i| ((i * 31) >> 4).to_le_bytes()[0]).collect();
        for (family, port) in FAMILIES.into_iter().zip([4000, 4010]) {
            let (mut ours, mut theirs) = pair(family, port);
            for (len, segment) in [
                (1400, 1400),
                (14_000, 1400),
                (14_001, 1400),
                (13_999, 1400),
                // More segments, and more bytes, than one call takes.
                (10_000, 50),
                (100_000, 1000),
                // As large as it gets.
                (65_507, 65_507),
                (60_000, 30_000),
                (7, 1),
            ] {
                // Slices that have nothing to do with the datagrams.
                let slices: Vec<_> = data[..len].chunks(3_333).map(IoSlice::new).collect();
                assert_eq!(ours.send(&slices, segment, 64).unwrap(), len, "{len} {segment}");
                let (datagrams, bursts) = receive(&mut theirs, len);
                let expected: Vec<_> = data[..len].chunks(segment).map(<[u8]>::to_vec).collect();
                assert!(datagrams == expected, "{len} {segment} {bursts:?}");
                let from = SocketAddr::new(family.host(), port);
                assert!(bursts.iter().all(|burst| burst.source.unwrap() == from));
                if segment == 1400 && len > segment {
                    assert!(bursts.len() < 3, "UDP_GRO: {bursts:?}");
                }
            }
            assert_eq!(ours.send(&[], 1, 64).unwrap(), 0);
            let empty = retry(|| theirs.recv(&mut [0; 10])).unwrap();
            assert_eq!((empty.len, empty.segment), (0, 0));
        }
        Ok(())
    });
}

#[test]
fn many_tiny_slices_are_sent_in_turn() {
    rig("many_tiny_slices_are_sent_in_turn", |_| {
        let (mut ours, mut theirs) = pair(Family::V4, 4100);
        let data: Vec<u8> = (0..=255).collect();
        let slices: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
        assert_eq!(ours.send(&slices, 10, 64).unwrap(), 256);
        let (datagrams, _) = receive(&mut theirs, 256);
        assert_eq!(datagrams, data.chunks(10).map(<[u8]>::to_vec).collect::<Vec<_>>());
        let error = ours.send(&slices, 200, 64).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(90), "EMSGSIZE");
        Ok(())
    });
}

#[test]
fn the_host_fragments_what_the_path_does_not_take() {
    rig("the_host_fragments_what_the_path_does_not_take", |rig| {
        rig.run(&Place::Host, SHORT, &["ip", "link", "set", "eth0", "mtu", "1500"])?;
        rig.run(
            &Place::Host,
            SHORT,
            &["nsenter", "--net=/run/netns/outside", "ip", "link", "set", "out0", "mtu", "1500"],
        )?;
        for (family, port) in FAMILIES.into_iter().zip([4200, 4210]) {
            let (mut ours, mut theirs) = pair(family, port);
            let data = vec![0x5a; 24_000];
            for _ in 0..2 {
                assert_eq!(ours.send(&[IoSlice::new(&data)], 8000, 64).unwrap(), 24_000);
                let (datagrams, _) = receive(&mut theirs, 24_000);
                assert_eq!(datagrams, vec![vec![0x5a; 8000]; 3]);
            }
            // Smaller ones still go together.
            assert_eq!(ours.send(&[IoSlice::new(&data[..14_000])], 1400, 64).unwrap(), 14_000);
            let (datagrams, bursts) = receive(&mut theirs, 14_000);
            assert_eq!((datagrams.len(), bursts.len()), (10, 1));
            assert_eq!(ours.take_error(), None);
        }
        Ok(())
    });
}

#[test]
fn ttl_goes_with_a_datagram() {
    rig("ttl_goes_with_a_datagram", |_| {
        for (family, port) in FAMILIES.into_iter().zip([4300, 4310]) {
            let (mut ours, mut theirs) = pair(family, port);
            for ttl in [64, 3, 3, 255, 1] {
                ours.send(&[IoSlice::new(b"x")], 1, ttl).unwrap();
                let burst = retry(|| theirs.recv(&mut [0; 10])).unwrap();
                assert_eq!((burst.len, burst.ttl, burst.tos), (1, Some(ttl), Some(0)));
            }
        }
        Ok(())
    });
}

#[test]
fn errors_come_with_the_message_behind_them() {
    rig("errors_come_with_the_message_behind_them", |_| {
        for family in FAMILIES {
            let v4 = family == Family::V4;
            let from = SocketAddr::new(family.host(), 0);
            let ties = Ties::default();

            // Nobody listens there, at a distance of two hops.
            let to = SocketAddr::new(family.far(), 33_434);
            let mut ours = UdpSocket::open(from, to, &ties).unwrap();
            assert_eq!(ours.take_error(), None);
            ours.send(&[IoSlice::new(b"hello, world")], 12, 64).unwrap();
            let error = wait_for_error(|| ours.take_error());
            let (kind, code) = if v4 { (3, 3) } else { (1, 4) };
            let source = ErrorSource { offender: family.far(), kind, code, info: 0 };
            assert_eq!(error, SocketError { errno: ECONNREFUSED, source: Some(source) });
            assert_eq!(ours.quoted(), b"hello, world");
            assert_eq!(ours.take_error(), None, "said once");
            assert!(ours.quoted().is_empty());

            // An error that waits does not cost a datagram.
            ours.send(&[IoSlice::new(b"one")], 3, 64).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(ours.send(&[IoSlice::new(b"two")], 3, 64).unwrap(), 3);
            std::thread::sleep(Duration::from_millis(50));
            ours.take_error().unwrap();
            assert_eq!(ours.quoted(), b"one");
            ours.take_error().unwrap();
            assert_eq!(ours.quoted(), b"two");

            // The first hop of a traceroute.
            ours.send(&[IoSlice::new(b"hop")], 3, 1).unwrap();
            let error = wait_for_error(|| ours.take_error());
            let source = error.source.unwrap();
            assert_eq!((source.kind, source.code), if v4 { (11, 0) } else { (3, 0) });
            let routers = [family.gateway(), family.peer(), family.dns()];
            assert!(routers.contains(&source.offender), "{source:?}");
            assert_eq!((error.errno, ours.quoted()), (EHOSTUNREACH, &b"hop"[..]));

            // The same with an echo request.
            let mut ping =
                PingSocket::open(None, SocketAddr::new(family.far(), 0), 77, &ties).unwrap();
            let request: &[u8] =
                if v4 { b"\x08\0\0\0\0\0\0\x05payload" } else { b"\x80\0\0\0\0\0\0\x05payload" };
            ping.send(request, 1).unwrap();
            let error = wait_for_error(|| ping.take_error());
            let source = error.source.unwrap();
            assert_eq!((source.kind, source.code), if v4 { (11, 0) } else { (3, 0) });
            assert!(routers.contains(&source.offender), "{source:?}");
            assert_eq!(&ping.quoted()[6..], b"\0\x05payload", "the sequence number tells which");
        }
        Ok(())
    });
}

#[test]
fn echo_requests_are_answered() {
    rig("echo_requests_are_answered", |_| {
        for family in FAMILIES {
            let to = SocketAddr::new(family.far(), 0);
            let request: &[u8] = match family {
                Family::V4 => b"\x08\0\0\0\xff\xff\x01\x02ping",
                Family::V6 => b"\x80\0\0\0\xff\xff\x01\x02ping",
            };
            let open = |ident| PingSocket::open(None, to, ident, &Ties::default()).unwrap();
            let (mut first, mut second) = (open(4711), open(4711));
            let mut buf = [0; 100];
            first.send(request, 64).unwrap();
            let reply = retry(|| first.recv(&mut buf)).unwrap();
            assert_eq!((reply.len, reply.segment, reply.ttl), (12, 12, Some(63)));
            let kind = if family == Family::V4 { 0 } else { 129 };
            assert_eq!((buf[0], buf[1]), (kind, 0));
            assert_eq!(u16::from_be_bytes([buf[4], buf[5]]), 4711);
            assert_eq!(&buf[6..12], b"\x01\x02ping");
            // The identifier is taken: the kernel chooses another.
            second.send(request, 64).unwrap();
            retry(|| second.recv(&mut buf)).unwrap();
            assert_ne!(u16::from_be_bytes([buf[4], buf[5]]), 4711);
            assert_eq!(first.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(first.send(b"\x0d\0\0\0\0\0\0\0", 64).is_err(), "nothing but echo requests");
        }
        Ok(())
    });
}

#[test]
fn broadcast_and_multicast_go_out() {
    rig("broadcast_and_multicast_go_out", |rig| {
        let link = rig.run(&Place::Host, SHORT, &["ip", "-o", "link", "show", "eth0"])?;
        let scope_id = link.split(':').next().unwrap().parse()?;
        let listener = inside("outside", || std::net::UdpSocket::bind("[::]:4400").unwrap());
        inside("outside", || {
            let index =
                rig.run(&Place::Outside, SHORT, &["ip", "-o", "link", "show", "out0"]).unwrap();
            let index = index.split(':').next().unwrap().parse().unwrap();
            listener.join_multicast_v6(&"ff02::1234".parse().unwrap(), index).unwrap();
        });
        let v4_listener = inside("outside", || std::net::UdpSocket::bind("0.0.0.0:4401").unwrap());
        let group = Ipv4Addr::new(239, 1, 2, 3);
        v4_listener.join_multicast_v4(&group, &Ipv4Addr::new(203, 0, 113, 10))?;
        for (to, listener) in [
            ("[ff02::1234]:4400", &listener),
            ("255.255.255.255:4401", &v4_listener),
            ("203.0.113.255:4401", &v4_listener),
            ("239.1.2.3:4401", &v4_listener),
        ] {
            let to: SocketAddr = to.parse()?;
            let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
            let from: IpAddr = if to.is_ipv4() { family.host() } else { "::".parse()? };
            let device = sys::socket::Device::new("eth0").unwrap();
            let ties = Ties { device: Some(&device), scope_id, freebind: false };
            let mut ours = UdpSocket::open((from, 0).into(), to, &ties)?;
            ours.send(&[IoSlice::new(to.to_string().as_bytes())], 64, 5)?;
            listener.set_read_timeout(Some(SHORT))?;
            let mut buf = [0; 64];
            let (len, _) = listener.recv_from(&mut buf)?;
            assert_eq!(std::str::from_utf8(&buf[..len])?, to.to_string());
        }
        Ok(())
    });
}

#[test]
fn strangers_are_not_heard() {
    rig("strangers_are_not_heard", |_| {
        // A socket that is bound to a port another flow uses, towards another peer.
        let here = SocketAddr::new(Family::V4.host(), 4500);
        let first = SocketAddr::new(Family::V4.peer(), 1);
        let second = SocketAddr::new(Family::V4.dns(), 1);
        let ties = Ties::default();
        let mut one = UdpSocket::open(here, first, &ties)?;
        let mut two = UdpSocket::open(here, second, &ties)?;
        let mut theirs = inside("outside", || UdpSocket::open(second, here, &ties).unwrap());
        theirs.send(&[IoSlice::new(b"for two")], 64, 64)?;
        assert_eq!(retry(|| two.recv(&mut [0; 64]))?.len, 7);
        assert_eq!(one.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
        Ok(())
    });
}

//! Listening sockets against this machine's kernel.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::net::{SendFlags, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::fd::Spare;
use sys::socket::{
    Binding, Datagram, Device, Peek, Stream, TcpListener, TcpSocket, Ties, UdpListener, UdpSocket,
    can_bind_device, has_ipv6, local_address,
};
use testkit::{Family, Place, Rig, in_rig};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/init.sh");
const SHORT: Duration = Duration::from_secs(5);

const EMFILE: i32 = 24;
const ENODEV: i32 = 19;

fn rig(name: &str, body: impl FnOnce(&Rig) -> Result<()>) {
    in_rig(name, Path::new(INIT), Duration::from_secs(60), body);
}

/// Runs `job` in another network namespace of the rig.
fn inside<T: Send>(place: &str, job: impl FnOnce() -> T + Send) -> T {
    let namespace = sys::netns::open(Path::new(&format!("/run/netns/{place}"))).unwrap();
    sys::netns::in_network(OwnedFd::as_fd(&namespace), job).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// `any` is any address of both families.
fn binding(address: &str, port: u16) -> Binding<'static> {
    let address = (address != "any").then(|| ip(address));
    Binding { address, port, device: None, scope_id: 0, freebind: false }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, SHORT)
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

#[test]
fn one_socket_for_both_families() {
    assert!(has_ipv6());
    let listener = TcpListener::open(&binding("any", 0)).unwrap();
    let local = local_address(&listener).unwrap();
    assert_eq!(local.ip(), ip("::"));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    for address in ["127.0.0.1", "127.3.2.1", "::1"] {
        let client = connect(at(address, local.port())).unwrap();
        let (accepted, peer) = retry(|| listener.accept()).unwrap();
        assert_eq!(peer, client.local_addr().unwrap(), "IPv4 as IPv4");
        assert_eq!(local_address(&accepted).unwrap(), at(address, local.port()));
    }
}

#[test]
fn connections_that_were_reset_are_still_there() {
    for address in ["127.0.0.1", "::1"] {
        let listener = TcpListener::open(&binding(address, 0)).unwrap();
        let to = local_address(&listener).unwrap();
        for _ in 0..2 {
            let client = connect(to).unwrap();
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        let client = connect(to).unwrap();
        for _ in 0..2 {
            let reset = Stream::accepted(retry(|| listener.accept()).unwrap().0);
            let error = retry(|| reset.recv(&mut [0])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn accepted_sockets_inherit_what_they_need() {
    for address in ["any", "127.0.0.1", "::1"] {
        let listener = TcpListener::open(&binding(address, 0)).unwrap();
        let port = local_address(&listener).unwrap().port();
        let to = at(if address == "::1" { address } else { "127.0.0.1" }, port);
        let mut client = connect(to).unwrap();
        let (accepted, _) = retry(|| listener.accept()).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_oobinline(&accepted).unwrap());
        let flags = rustix::io::fcntl_getfd(&accepted).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let flags = rustix::fs::fcntl_getfl(&accepted).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));

        // Urgent bytes stand where they were sent, although the kernel pauses there once.
        rustix::net::send(&client, b"urgent", SendFlags::OOB).unwrap();
        client.write_all(b" and more").unwrap();
        let mut ours = TcpSocket::connected(accepted, Peek::probe(to.ip()).unwrap());
        let mut buf = [0; 100];
        let (mut peeked, mut discarded) = (0, 0);
        while peeked < 15 {
            let offset = peeked - discarded;
            let len = retry(|| ours.peek(offset, &mut buf[peeked as usize..])).unwrap();
            peeked += u32::try_from(len).unwrap();
            discarded += ours.discard(peeked - discarded).unwrap();
        }
        assert_eq!(&buf[..15], b"urgent and more");
        assert_eq!(ours.send(&[IoSlice::new(b"yes")]).unwrap(), 3);
        client.read_exact(&mut buf[..3]).unwrap();
    }
}

#[test]
fn one_family_leaves_the_other_alone() {
    rig("one_family_leaves_the_other_alone", |_| {
        // The opposite of what is asked for, each time.
        for default in ["0", "1"] {
            std::fs::write("/proc/sys/net/ipv6/bindv6only", default)?;
            let v6 = TcpListener::open(&binding("::", 700))?;
            assert!(connect(at("::1", 700)).is_ok());
            assert_eq!(
                connect(at("127.0.0.1", 700)).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            let v4 = TcpListener::open(&binding("0.0.0.0", 700))?;
            let client = connect(at("127.0.0.1", 700))?;
            assert_eq!(retry(|| v4.accept())?.1, client.local_addr()?);
            for again in ["any", "::", "0.0.0.0", "127.0.0.1", "::1"] {
                let error = TcpListener::open(&binding(again, 700)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AddrInUse, "{again}");
            }
            drop((v4, v6));
            // What was accepted or is closing does not keep the port from being used again.
            let both = TcpListener::open(&binding("any", 700))?;
            for address in ["127.0.0.1", "::1"] {
                let client = connect(at(address, 700))?;
                assert_eq!(retry(|| both.accept())?.1, client.local_addr()?);
            }
        }
        Ok(())
    });
}

#[test]
fn a_burst_of_clients_is_not_lost() {
    rig("a_burst_of_clients_is_not_lost", |_| {
        let listener = TcpListener::open(&binding("any", 701))?;
        // Nobody accepts meanwhile. A SYN that is dropped is sent again after a second.
        let short = Duration::from_millis(900);
        let to = at("127.0.0.1", 701);
        let clients = (0..2000)
            .map(|_| TcpStream::connect_timeout(&to, short))
            .collect::<io::Result<Vec<_>>>()?;
        for client in &clients {
            assert_eq!(listener.accept()?.1, client.local_addr()?);
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        Ok(())
    });
}

#[test]
fn without_descriptors_connections_are_turned_away() {
    rig("without_descriptors_connections_are_turned_away", |_| {
        let listener = TcpListener::open(&binding("127.0.0.1", 702))?;
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(connect(at("127.0.0.1", 702))?);
        }
        let mut spare = Spare::new()?;
        let before = getrlimit(Resource::Nofile);
        // As many as are open now.
        let next = rustix::io::dup(&listener)?;
        let limit = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next))?;
        drop(next);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..before })?;
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(EMFILE));
        spare.release();
        let (first, _) = listener.accept()?;
        spare.regain();
        drop(first);
        spare.regain();
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(EMFILE));
        setrlimit(Resource::Nofile, before)?;
        let (_second, peer) = listener.accept()?;
        assert_eq!(peer, clients[1].local_addr()?);
        assert_eq!(clients[0].read(&mut [0])?, 0, "turned away");
        Ok(())
    });
}

#[test]
fn an_interface_is_a_filter() {
    rig("an_interface_is_a_filter", |_| {
        assert!(can_bind_device());
        for (family, port) in [(Family::V4, 703), (Family::V6, 704)] {
            let device = Device::new("eth0").unwrap();
            let binding = Binding { device: Some(&device), ..binding("any", port) };
            let listener = TcpListener::open(&binding)?;
            let udp = UdpListener::open(&binding)?;
            let to = SocketAddr::new(family.host(), port);
            let loopback = at(if to.is_ipv4() { "127.0.0.1" } else { "::1" }, port);
            let error = connect(loopback).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let client = inside("outside", || connect(to).unwrap());
            assert_eq!(retry(|| listener.accept())?.1, client.local_addr()?);
            let here = local_sender(loopback);
            let there = inside("outside", || local_sender(to));
            here.send(b"no")?;
            there.send(b"yes")?;
            assert_eq!(receive(&udp).0, b"yes");

            let missing = Device::new("missing0").unwrap();
            let binding = Binding { device: Some(&missing), ..binding };
            let error = TcpListener::open(&binding).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(ENODEV));
            let error = UdpListener::open(&binding).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(ENODEV));
        }
        Ok(())
    });
}

/// A UDP socket of the standard library.
fn local_sender(to: SocketAddr) -> std::net::UdpSocket {
    let any = if to.is_ipv4() { at("0.0.0.0", 0) } else { at("::", 0) };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn receive(listener: &UdpListener) -> (Vec<u8>, Datagram) {
    let mut buf = vec![0; 65536];
    let datagram = retry(|| listener.recv(&mut buf)).unwrap();
    buf.truncate(datagram.burst.len);
    (buf, datagram)
}

#[test]
fn addresses_that_are_not_there_yet() {
    rig("addresses_that_are_not_there_yet", |_| {
        for address in ["192.0.2.77", "2001:db8:77::77"] {
            let refused = binding(address, 705);
            for error in [
                TcpListener::open(&refused).map(drop).unwrap_err(),
                UdpListener::open(&refused).map(drop).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            }
            let free = Binding { freebind: true, ..refused };
            assert_eq!(local_address(&TcpListener::open(&free)?)?, at(address, 705));
            assert_eq!(local_address(&UdpListener::open(&free)?)?, at(address, 705));
        }
        Ok(())
    });
}

#[test]
fn a_flow_with_an_address_that_is_only_routed_here() {
    rig("a_flow_with_an_address_that_is_only_routed_here", |rig| {
        // IPv4 takes a local route for an address of the host, IPv6 does not.
        for (prefix, address, refused) in
            [("192.0.2.64/26", "192.0.2.77", false), ("2001:db8:77::/48", "2001:db8:77::77", true)]
        {
            rig.run(&Place::Host, SHORT, &["ip", "route", "add", "local", prefix, "dev", "lo"])?;
            let listener = UdpListener::open(&binding("any", 707))?;
            let sender = local_sender(at(address, 707));
            sender.send(b"hello")?;
            let Datagram { burst, destination, .. } = receive(&listener).1;
            let (from, to) = (at(address, 707), burst.source.unwrap());
            assert_eq!(destination, Some(from.ip()));
            let strict = UdpSocket::open(from, to, &Ties::default());
            assert_eq!(strict.is_err(), refused);
            let ties = Ties { freebind: true, ..Ties::default() };
            let mut flow = UdpSocket::open(from, to, &ties)?;
            flow.send(&[IoSlice::new(b"answer")], 6, 64)?;
            sender.set_read_timeout(Some(SHORT))?;
            assert_eq!(sender.recv(&mut [0; 10])?, 6, "its peer hears only that address");
        }
        Ok(())
    });
}

#[test]
fn link_local_addresses_have_a_scope() {
    rig("link_local_addresses_have_a_scope", |rig| {
        let index = |place: &Place, name: &str| -> Result<u32> {
            let link = rig.run(place, SHORT, &["ip", "-o", "link", "show", name])?;
            Ok(link.split(':').next().unwrap().parse()?)
        };
        let here = index(&Place::Host, "eth0")?;
        let there = index(&Place::Outside, "out0")?;
        let without = binding("fe80::1", 706);
        let bound = Binding { scope_id: there, ..without };
        let (error, tcp, udp) = inside("outside", || {
            (
                TcpListener::open(&without).map(drop).unwrap_err(),
                TcpListener::open(&bound).unwrap(),
                UdpListener::open(&bound).unwrap(),
            )
        });
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let to = format!("[fe80::1%{here}]:706").parse()?;
        let client = connect(to)?;
        let (accepted, peer) = retry(|| tcp.accept())?;
        let from = client.local_addr()?;
        assert_eq!((peer.ip(), peer.port()), (from.ip(), from.port()));
        assert!(matches!(peer, SocketAddr::V6(v6) if v6.scope_id() == there), "{peer}");
        let local = local_address(&accepted)?;
        assert!(matches!(local, SocketAddr::V6(v6) if v6.scope_id() == there), "{local}");

        let sender = local_sender(to);
        sender.send(b"hello")?;
        let datagram = receive(&udp).1;
        let source = datagram.burst.source.unwrap();
        assert!(matches!(source, SocketAddr::V6(v6) if v6.scope_id() == there), "{source}");
        assert_eq!(datagram.destination, Some(ip("fe80::1")));

        // The flow's own socket takes over the scope from the peer.
        let ties = Ties { scope_id: there, ..Ties::default() };
        let mut flow = inside("outside", || UdpSocket::open(at("fe80::1", 706), source, &ties))?;
        sender.send(b"again")?;
        let burst = retry(|| flow.recv(&mut [0; 10]))?;
        assert!(burst.len == 5 && flow.is_peer(&burst.source.unwrap()));
        Ok(())
    });
}

#[test]
fn datagrams_say_where_they_were_sent() {
    for (listen, destinations) in [
        ("any", &["127.0.0.1", "127.9.8.7", "::1"][..]),
        ("0.0.0.0", &["127.0.0.1", "127.9.8.7", "127.255.255.255"]),
        ("::", &["::1"]),
        ("127.0.0.1", &["127.0.0.1"]),
        ("::1", &["::1"]),
    ] {
        let listener = UdpListener::open(&binding(listen, 0)).unwrap();
        let port = local_address(&listener).unwrap().port();
        for destination in destinations {
            let to = at(destination, port);
            let from = at(if to.is_ipv4() { "127.0.0.3" } else { "::1" }, 0);
            let mut sender = UdpSocket::open(from, to, &Ties::default()).unwrap();
            for (ttl, text) in [(64, "hello"), (3, "")] {
                sender.send(&[IoSlice::new(text.as_bytes())], 9, ttl).unwrap();
                let (bytes, datagram) = receive(&listener);
                assert_eq!(bytes, text.as_bytes());
                assert_eq!(datagram.destination, Some(to.ip()));
                let burst = datagram.burst;
                assert_eq!(burst.source, Some(sender.local_address().unwrap()));
                assert_eq!((burst.ttl, burst.tos), (Some(ttl), Some(0)), "{listen} {to}");
            }
            let data = [0x5a; 12_345];
            sender.send(&[IoSlice::new(&data)], 1000, 64).unwrap();
            let (mut bytes, mut bursts) = (Vec::new(), 0);
            while bytes.len() < data.len() {
                let (part, datagram) = receive(&listener);
                assert_eq!(datagram.burst.segment, 1000);
                bytes.extend(part);
                bursts += 1;
            }
            assert_eq!((bytes.len(), bursts), (data.len(), 1), "UDP_GRO");
        }
        listener.clear_error();
        assert_eq!(listener.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_connected_socket_takes_over_its_peer() {
    for (listen, to) in [("any", "127.0.0.1"), ("any", "::1"), ("0.0.0.0", "127.0.0.1")] {
        let listener = UdpListener::open(&binding(listen, 0)).unwrap();
        let port = local_address(&listener).unwrap().port();
        let senders = [local_sender(at(to, port)), local_sender(at(to, port))];
        for sender in &senders {
            sender.send(b"first").unwrap();
        }
        let Datagram { burst, destination, .. } = receive(&listener).1;
        let (source, here) = (burst.source.unwrap(), SocketAddr::new(destination.unwrap(), port));
        assert_eq!(source, senders[0].local_addr().unwrap());
        let mut flow = UdpSocket::open(here, source, &Ties::default()).unwrap();
        for sender in &senders {
            sender.send(b"second").unwrap();
        }
        let burst = retry(|| flow.recv(&mut [0; 10])).unwrap();
        assert_eq!((burst.len, burst.source), (6, Some(source)));
        for expected in [&b"first"[..], b"second"] {
            let (bytes, datagram) = receive(&listener);
            assert_eq!(bytes, expected);
            assert_eq!(datagram.burst.source, Some(senders[1].local_addr().unwrap()));
        }
        // It answers from the address that was asked.
        flow.send(&[IoSlice::new(b"answer")], 6, 64).unwrap();
        senders[0].set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(senders[0].recv(&mut [0; 10]).unwrap(), 6);
    }
}

#[test]
fn an_ordinary_user_can_bind_to_an_interface() {
    std::thread::spawn(|| {
        sys::privileges::drop_capabilities().unwrap();
        // Since Linux 5.7; what the kernel says and what we say must be the same.
        let device = Device::new("lo").unwrap();
        let bound = TcpListener::open(&Binding { device: Some(&device), ..binding("any", 0) });
        assert_eq!(can_bind_device(), bound.is_ok(), "{bound:?}");
    })
    .join()
    .unwrap();
}

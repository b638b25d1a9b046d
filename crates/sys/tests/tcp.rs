//! TCP sockets against this machine's kernel.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests"
)]

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use sys::epoll::{Epoll, Events, Interest};
use sys::socket::{ErrorSource, Peek, SocketError, TcpSocket, Ties};
use testkit::{Family, Place, in_rig};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/init.sh");

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn pair(ip: IpAddr, peek: Peek) -> (TcpSocket, TcpStream) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let ours = TcpSocket::connect(to, None, &Ties::default(), peek).unwrap();
    let (theirs, from) = listener.accept().unwrap();
    assert_eq!(from, ours.local_address().unwrap());
    (ours, theirs)
}

/// Byte number `index` of the stream that the other end sends.
fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13 & 0xff) as u8
}

fn stream(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(pattern).collect()
}

/// Waits for what the other end sent to arrive.
fn retry<T>(mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    && start.elapsed() < Duration::from_secs(5) =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

fn modes() -> impl Iterator<Item = (IpAddr, Peek)> {
    LOOPBACKS.into_iter().flat_map(|ip| {
        let probed = Peek::probe(ip).unwrap();
        if probed == Peek::Skip {
            eprintln!("SO_PEEK_OFF is not there for TCP: only the other way is tested");
        }
        [(ip, probed), (ip, Peek::Skip)]
    })
}

#[test]
fn peeks_and_discards_in_any_order() {
    const LEN: usize = 100_000;
    for (ip, peek) in modes() {
        let (mut ours, mut theirs) = pair(ip, peek);
        theirs.write_all(&stream(0..LEN)).unwrap();
        // Until all of it is there.
        let mut last = [0];
        retry(|| ours.peek(LEN as u32 - 1, &mut last)).unwrap();
        let (mut front, mut random) = (0usize, 12345usize);
        for step in 0..4000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            let choice = random >> 33;
            if choice % 4 == 0 {
                let n = (choice / 4 % 60).min(LEN - front);
                if n > 0 {
                    assert_eq!(ours.discard(n as u32).unwrap() as usize, n, "step {step}");
                    front += n;
                }
            } else {
                // Half of the time go on where the last peek ended, or where it began.
                let offset = choice / 4 % (LEN - front);
                let mut buf = vec![0; 1 + choice % 700];
                for offset in [offset, offset + buf.len(), offset] {
                    let rest = (LEN - front).saturating_sub(offset).min(buf.len());
                    match ours.peek(offset as u32, &mut buf) {
                        Ok(len) => {
                            assert_eq!(len, rest, "step {step}");
                            let from = front + offset;
                            assert_eq!(buf[..len], stream(from..from + len), "step {step}");
                        }
                        Err(error) => {
                            assert_eq!((error.kind(), rest), (ErrorKind::WouldBlock, 0));
                        }
                    }
                }
            }
        }
        assert!(front > 20_000);
        // More than there is: what there is.
        assert_eq!(ours.discard(1 << 20).unwrap() as usize, LEN - front);
        assert_eq!(ours.discard(1).unwrap_err().kind(), ErrorKind::WouldBlock);
        theirs.write_all(b"more").unwrap();
        let mut buf = [0; 8];
        assert_eq!(retry(|| ours.peek(1, &mut buf)).unwrap(), 3);
        assert_eq!(&buf[..3], b"ore");
    }
}

#[test]
fn the_end_of_the_stream_is_seen_where_it_is() {
    for (ip, peek) in modes() {
        let (mut ours, mut theirs) = pair(ip, peek);
        theirs.write_all(b"0123456789").unwrap();
        let mut buf = [0; 20];
        assert_eq!(retry(|| ours.peek(3, &mut buf)).unwrap(), 7);
        assert_eq!(ours.peek(10, &mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(ours.peek(12, &mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(retry(|| ours.peek(10, &mut buf)).unwrap(), 0, "{peek:?}");
        assert_eq!(ours.peek(2, &mut buf).unwrap(), 8);
        assert_eq!(ours.discard(10).unwrap(), 10);
        assert_eq!(ours.peek(0, &mut buf).unwrap(), 0);
        // The other direction lives.
        assert_eq!(ours.send(&[IoSlice::new(b"an"), IoSlice::new(b"swer")]).unwrap(), 6);
        ours.shutdown_write().unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        assert_eq!(ours.take_error(), None);
    }
}

#[test]
fn skipping_has_a_limit() {
    let (mut ours, mut theirs) = pair(LOOPBACKS[0], Peek::Skip);
    theirs.write_all(b"x").unwrap();
    let mut buf = [0; 4];
    retry(|| ours.peek(0, &mut buf)).unwrap();
    assert_eq!(ours.peek(16 << 20, &mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(ours.peek((16 << 20) + 1, &mut buf).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn resets_both_ways() {
    for ip in LOOPBACKS {
        let (mut ours, mut theirs) = pair(ip, Peek::probe(ip).unwrap());
        ours.reset_on_close();
        ours.send(&[IoSlice::new(b"x")]).unwrap();
        drop(ours);
        theirs.read_exact(&mut [0]).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

        let (mut ours, theirs) = pair(ip, Peek::probe(ip).unwrap());
        // Unread data makes a close a reset.
        ours.send(&[IoSlice::new(b"x")]).unwrap();
        theirs.peek(&mut [0]).unwrap();
        drop(theirs);
        let error = loop {
            if let Some(error) = ours.take_error() {
                break error;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(error, SocketError { errno: libc_errno::ECONNRESET, source: None });
    }
}

#[test]
fn what_the_kernel_says_about_a_connection() {
    for ip in LOOPBACKS {
        let (mut ours, mut theirs) = pair(ip, Peek::probe(ip).unwrap());
        let chunk = [7; 60_000];
        let mut sent = 0;
        while let Ok(n) = ours.send(&[IoSlice::new(&chunk)]) {
            sent += n as u64;
        }
        let (sndbuf, queued) = ours.send_memory();
        assert!(queued > sndbuf / 2, "the send buffer is full: {queued} of {sndbuf}");
        let mut left = sent;
        while left > 0 {
            left -= theirs.read(&mut [0; 65536]).unwrap() as u64;
        }
        // The SYN counts.
        let start = Instant::now();
        while ours.info().bytes_acked != Some(sent + 1) && start.elapsed().as_secs() < 5 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let info = ours.info();
        assert_eq!(info.bytes_acked, Some(sent + 1));
        assert!(info.rtt > Duration::ZERO && info.min_rtt.unwrap() <= info.rtt);
        assert!(info.delivery_rate.unwrap() > 0);
        assert_eq!(ours.send_memory().1, 0);
        ours.set_keepalive();
    }
}

#[test]
fn a_refused_connection() {
    for ip in LOOPBACKS {
        let closed = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let peek = Peek::probe(ip).unwrap();
        let mut ours = TcpSocket::connect(closed, None, &Ties::default(), peek).unwrap();
        let error = wait_for_error(&mut ours);
        assert_eq!(error, SocketError { errno: libc_errno::ECONNREFUSED, source: None });
        assert_eq!(ours.take_error(), None);
    }
}

fn wait_for_error(socket: &mut TcpSocket) -> SocketError {
    let start = Instant::now();
    loop {
        if let Some(error) = socket.take_error() {
            return error;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no error");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes a socket in another network namespace of the rig.
fn inside<T: Send>(place: &str, job: impl FnOnce() -> T + Send) -> T {
    let namespace = sys::netns::open(Path::new(&format!("/run/netns/{place}"))).unwrap();
    sys::netns::in_network(OwnedFd::as_fd(&namespace), job).unwrap()
}

#[test]
fn routers_say_why_there_is_no_connection() {
    let name = "routers_say_why_there_is_no_connection";
    in_rig(name, Path::new(INIT), Duration::from_secs(60), |_rig| {
        use libc_errno::{EACCES, EHOSTUNREACH, ENETUNREACH};
        for (family, ip, kind, code, errnos) in [
            (Family::V4, Family::V4.unreachable(), 3, 1, [EHOSTUNREACH, ENETUNREACH]),
            (Family::V4, Family::V4.prohibited(), 3, 13, [EHOSTUNREACH, EACCES]),
            (Family::V6, Family::V6.unreachable(), 1, 0, [ENETUNREACH, EHOSTUNREACH]),
            (Family::V6, Family::V6.prohibited(), 1, 1, [EACCES, EACCES]),
        ] {
            let to = SocketAddr::new(ip, 9);
            let peek = Peek::probe(ip).unwrap();
            let mut ours = TcpSocket::connect(to, None, &Ties::default(), peek).unwrap();
            let error = wait_for_error(&mut ours);
            assert!(errnos.contains(&error.errno), "{to}: {error:?}");
            let source = error.source.unwrap();
            // A router answers from any of its addresses on the link.
            let offender = source.offender;
            let routers = [family.gateway(), family.peer(), family.dns()];
            assert!(routers.contains(&offender), "{offender}");
            assert_eq!(source, ErrorSource { offender, kind, code, info: 0 });
        }
        Ok(())
    });
}

#[test]
fn a_connection_outlives_errors_of_its_path() {
    let name = "a_connection_outlives_errors_of_its_path";
    in_rig(name, Path::new(INIT), Duration::from_secs(60), |rig| {
        for (family, port) in [(Family::V4, 7100), (Family::V6, 7101)] {
            let to = SocketAddr::new(family.far(), port);
            let listener = inside("far", || TcpListener::bind(to).unwrap());
            let mut ours = TcpSocket::connect(to, None, &Ties::default(), Peek::probe(to.ip())?)?;
            let mut theirs = listener.accept()?.0;
            for _ in 0..3 {
                retry(|| ours.send(&[IoSlice::new(b"x")]))?;
                theirs.read_exact(&mut [0])?;
            }
            let route = |change: &str, how: &str| {
                let to = format!("ip {} route {change} {how}", family.flag());
                let argv: Vec<_> = to.split(' ').collect();
                rig.run(&Place::Outside, Duration::from_secs(5), &argv)
            };
            let old = route("show", &family.far().to_string())?;
            let mask = if family == Family::V4 { 32 } else { 128 };
            route("del", old.trim().split(" proto").next().unwrap().trim_end())?;
            route("add", &format!("unreachable {}/{mask}", family.far()))?;
            ours.send(&[IoSlice::new(b"y")])?;
            std::thread::sleep(Duration::from_millis(400));
            // SO_ERROR would tell what happened, but nothing tells us to ask for it.
            let (epoll, mut events) = (Epoll::new()?, Events::with_capacity(1));
            epoll.add(&ours, 1, Interest::Edges)?;
            epoll.wait(&mut events, None)?;
            assert!(events.iter().all(|event| event.writable && !event.error && !event.readable));
            assert_eq!(ours.peek(0, &mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            route("del", &format!("unreachable {}/{mask}", family.far()))?;
            let via = if family == Family::V4 { "192.0.2.2" } else { "2001:db8:98::2" };
            route("add", &format!("{}/{mask} via {via}", family.far()))?;
            theirs.set_read_timeout(Some(Duration::from_secs(10)))?;
            theirs.read_exact(&mut [0])?;
        }
        Ok(())
    });
}

#[test]
fn ties_of_a_connection() {
    let name = "ties_of_a_connection";
    in_rig(name, Path::new(INIT), Duration::from_secs(60), |rig| {
        let listener = inside("outside", || TcpListener::bind("[::]:7000").unwrap());
        let accept = || listener.accept().unwrap().1;
        let device = sys::socket::Device::new("eth0").unwrap();
        let link = ["ip", "-o", "link", "show", "eth0"];
        let link = rig.run(&Place::Host, Duration::from_secs(5), &link)?;
        let scope_id = link.split(':').next().unwrap().parse()?;
        let ties = Ties { device: Some(&device), scope_id, freebind: false };
        // Link-local, without a scope of its own.
        let to = "[fe80::1]:7000".parse()?;
        let ours = TcpSocket::connect(to, None, &ties, Peek::Skip)?;
        assert_eq!(accept().port(), ours.local_address()?.port());
        // From an address that is not the one the kernel would choose.
        let from = "127.0.0.2".parse()?;
        let here = TcpListener::bind("127.0.0.1:0")?;
        let to = here.local_addr()?;
        let _ours = TcpSocket::connect(to, Some(from), &ties, Peek::Skip)?;
        assert_eq!(here.accept()?.1.ip(), from, "loopback is not bound to a device");
        let from = Some("192.0.2.77".parse()?);
        let error = TcpSocket::connect(to, from, &ties, Peek::Skip).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        Ok(())
    });
}

mod libc_errno {
    pub(super) const EACCES: i32 = 13;
    pub(super) const ENETUNREACH: i32 = 101;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const ECONNREFUSED: i32 = 111;
    pub(super) const EHOSTUNREACH: i32 = 113;
}

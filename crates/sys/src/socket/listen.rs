//! Sockets that listen.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::address::RawAddress;
use super::udp::Datagram;
use super::{Device, bind, check, needs_scope, open, set, set_int, udp};

/// Connections that may wait to be accepted; the kernel takes at most `net.core.somaxconn`. A burst of
/// clients that comes while we do something else is not to be turned away.
const BACKLOG: libc::c_int = 4096;

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Address; `None` is any of both families, by one socket.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Interface, if only one (`SO_BINDTODEVICE`).
    pub device: Option<&'a Device>,
    /// Interface index of link-local addresses.
    pub scope_id: u32,
    /// The address need not exist (`IP_FREEBIND`).
    pub freebind: bool,
}

impl Binding<'_> {
    /// A socket bound here.
    fn socket(&self, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
        let address = self.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let socket = open(super::family(address), kind, protocol)?;
        if address.is_ipv6() {
            // Whatever net.ipv6.bindv6only says.
            let only = self.address.is_some();
            set_int(&socket, libc::SOL_IPV6, libc::IPV6_V6ONLY, only.into())?;
        }
        set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if let Some(Device(name)) = self.device {
            // Whoever names an interface relies on it.
            let name = name.as_bytes_with_nul();
            set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name)?;
        }
        if self.freebind {
            free_bind(&socket, address);
        }
        if protocol == libc::IPPROTO_UDP {
            udp::prepare_listener(&socket, self.address)?;
        }
        let at = match address {
            IpAddr::V6(ip) if needs_scope(&ip) => {
                SocketAddrV6::new(ip, self.port, 0, self.scope_id).into()
            }
            IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, self.port),
        };
        bind(&socket, at)?;
        Ok(socket)
    }
}

/// `IP_FREEBIND`, `IPV6_FREEBIND`. Without it, binding may fail, and says so.
pub(super) fn free_bind(socket: &OwnedFd, address: IpAddr) {
    /// Of `linux/in6.h`.
    const IPV6_FREEBIND: libc::c_int = 78;
    let set = match address {
        IpAddr::V4(_) => set_int(socket, libc::SOL_IP, libc::IP_FREEBIND, 1),
        IpAddr::V6(_) => set_int(socket, libc::SOL_IPV6, IPV6_FREEBIND, 1),
    };
    if let Err(error) = set {
        log::debug!("FREEBIND: {error}");
    }
}

/// A TCP socket that listens.
#[derive(Debug)]
pub struct TcpListener(OwnedFd);

impl TcpListener {
    /// Listens.
    ///
    /// # Errors
    /// `EMFILE` and the like; `ENODEV` without the interface, `EPERM` where binding to one takes a
    /// privilege (before Linux 5.7); `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
    pub fn open(binding: &Binding<'_>) -> io::Result<Self> {
        let socket = binding.socket(libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        // Accepted sockets inherit both. Urgent data would leave a hole in the count of bytes.
        set_int(&socket, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
        set_int(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        // SAFETY: no memory is involved.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(Self(socket))
    }

    /// Accepts the connection that waits first, with the address of its other end.
    ///
    /// # Errors
    /// Would-block if there is none; `EMFILE` and the like, with the connection left waiting; errors that
    /// the network had for that connection.
    pub fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let mut from = RawAddress::empty();
        let mut length = from.length();
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the kernel writes at most `length` bytes of an address structure of that size.
        let fd = unsafe {
            libc::accept4(self.0.as_raw_fd(), from.pointer_mut(), &raw mut length, flags)
        };
        check(fd)?;
        // SAFETY: the descriptor is new and ours.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let from = from.read().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        Ok((socket, canonical(from)))
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A UDP socket that takes datagrams of anybody.
#[derive(Debug)]
pub struct UdpListener(OwnedFd);

impl UdpListener {
    /// Listens.
    ///
    /// # Errors
    /// As [`TcpListener::open`].
    pub fn open(binding: &Binding<'_>) -> io::Result<Self> {
        binding.socket(libc::SOCK_DGRAM, libc::IPPROTO_UDP).map(Self)
    }

    /// Receives datagrams of one sender. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// Would-block.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Datagram> {
        Datagram::receive(&self.0, buf)
    }

    /// Forgets a pending error (`SO_ERROR`).
    pub fn clear_error(&self) {
        let _ = super::pending_error(&self.0);
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An IPv4 address as such, also where a socket of both families shows it v4-mapped.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Address and port a socket is bound to (`getsockname(2)`).
///
/// # Errors
/// None for a socket of the Internet.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    super::bound_address(socket.as_fd()).map(canonical)
}

/// Whether sockets may be bound to an interface without a privilege (since Linux 5.7).
#[must_use]
pub fn can_bind_device() -> bool {
    open(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).is_ok_and(|socket| {
        set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, c"lo".to_bytes_with_nul()).is_ok()
    })
}

/// Whether there are IPv6 sockets.
#[must_use]
pub fn has_ipv6() -> bool {
    open(libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::socket::get_int;

    fn binding(address: Option<&str>, port: u16) -> Binding<'static> {
        let address = address.map(|address| address.parse().unwrap());
        Binding { address, port, device: None, scope_id: 0, freebind: false }
    }

    fn port_of(listener: &TcpListener) -> u16 {
        local_address(&listener.0).unwrap().port()
    }

    fn wait<T>(mut take: impl FnMut() -> io::Result<T>) -> T {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match take() {
                Ok(value) => return value,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "nothing came");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn one_socket_for_both_families() {
        let listener = TcpListener::open(&binding(None, 0)).unwrap();
        let port = port_of(&listener);
        for to in ["127.0.0.1", "::1"] {
            let ip: IpAddr = to.parse().unwrap();
            let mut client = TcpStream::connect((ip, port)).unwrap();
            let (socket, from) = wait(|| listener.accept());
            assert_eq!(from, client.local_addr().unwrap(), "canonical");
            assert_eq!(local_address(&socket).unwrap(), client.peer_addr().unwrap());
            assert_eq!(get_int(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY).unwrap(), 1);
            assert_eq!(get_int(&socket, libc::SOL_SOCKET, libc::SO_OOBINLINE).unwrap(), 1);
            let mut accepted = TcpStream::from(socket);
            client.write_all(b"x").unwrap();
            accepted.set_nonblocking(false).unwrap();
            accepted.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn families_side_by_side() {
        let v4 = TcpListener::open(&binding(Some("0.0.0.0"), 0)).unwrap();
        let port = port_of(&v4);
        TcpListener::open(&binding(Some("::"), port)).unwrap();
        let error = TcpListener::open(&binding(Some("127.0.0.1"), port)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn addresses_that_do_not_exist_and_interfaces() {
        let nowhere = binding(Some("192.0.2.99"), 0);
        let error = TcpListener::open(&nowhere).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        TcpListener::open(&Binding { freebind: true, ..nowhere }).unwrap();
        assert!(can_bind_device() && has_ipv6());
        let lo = Device::new("lo").unwrap();
        TcpListener::open(&Binding { device: Some(&lo), ..binding(None, 0) }).unwrap();
        let none = Device::new("nosuch").unwrap();
        let error = TcpListener::open(&Binding { device: Some(&none), ..binding(None, 0) });
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_listening_socket_answers_from_where_it_was_asked() {
        for (listen, from, to) in [
            (None, "127.0.0.1:0", "127.0.0.7"),
            (None, "[::1]:0", "::1"),
            (Some("0.0.0.0"), "127.0.0.1:0", "127.0.0.7"),
            (Some("::"), "[::1]:0", "::1"),
        ] {
            let listener = UdpListener::open(&binding(listen, 0)).unwrap();
            let port = local_address(&listener.0).unwrap().port();
            let client = UdpSocket::bind(from).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // Connected: an answer from elsewhere is none.
            client.connect((to, port)).unwrap();
            client.send(b"ask").unwrap();
            let mut buffer = [0; 2000];
            let asked = wait(|| listener.recv(&mut buffer));
            let mut socket = crate::socket::UdpSocket::answering(
                &listener,
                asked.destination.unwrap(),
                asked.burst.source.unwrap(),
                &crate::socket::Ties::default(),
            )
            .unwrap();
            assert!(!socket.receives());
            assert_eq!(socket.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let answer = [io::IoSlice::new(&[7; 2500])];
            assert_eq!(socket.send(&answer, 1000, 9).unwrap(), 2500);
            for len in [1000, 1000, 500] {
                assert_eq!(client.recv(&mut buffer).unwrap(), len, "{to}");
            }
        }
    }

    #[test]
    fn datagrams_tell_where_they_were_sent() {
        let listener = UdpListener::open(&binding(None, 0)).unwrap();
        let port = local_address(&listener.0).unwrap().port();
        for (from, to) in [("127.0.0.1:0", "127.0.0.7"), ("[::1]:0", "::1")] {
            let client = UdpSocket::bind(from).unwrap();
            let to: IpAddr = to.parse().unwrap();
            client.send_to(b"abc", (to, port)).unwrap();
            let mut buffer = [0; 2000];
            let datagram = wait(|| listener.recv(&mut buffer));
            assert_eq!(datagram.destination, Some(to));
            assert_eq!(datagram.burst.source, Some(client.local_addr().unwrap()));
            assert_eq!((datagram.burst.len, datagram.burst.ttl), (3, Some(64)));
            assert!(!datagram.is_to_group());
        }
    }
}

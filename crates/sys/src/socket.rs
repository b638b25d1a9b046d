//! Sockets of the host: non-blocking, close-on-exec, without an allocation per call.

mod ability;
mod address;
mod cmsg;
mod errqueue;
mod icmp;
mod listen;
mod repair;
mod stream;
mod tcp;
mod udp;

use std::ffi::CString;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use address::RawAddress;

pub(crate) use ability::open_ping;
pub use ability::{can_batch_datagrams, can_repair};
pub use errqueue::{ErrorSource, SocketError};
pub use icmp::PingSocket;
pub use listen::{Binding, TcpListener, UdpListener, can_bind_device, has_ipv6, local_address};
pub use repair::Repair;
pub use stream::{Kind, Stream, Unbound};
pub use tcp::{Peek, TcpInfo, TcpSocket};
pub use udp::{Burst, Datagram, UdpSocket};

/// Name of an interface that sockets are bound to (`SO_BINDTODEVICE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(CString);

impl Device {
    /// `None` if no interface can be called that: empty, 16 bytes and more, or with a null byte.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..libc::IFNAMSIZ).contains(&name.len());
        CString::new(name).ok().filter(|_| fits).map(Self)
    }
}

/// Where a socket is tied to besides its peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ties<'a> {
    /// Interface to use (`SO_BINDTODEVICE`), except towards loopback addresses.
    pub device: Option<&'a Device>,
    /// Interface index of link-local IPv6 destinations that come without a scope.
    pub scope_id: u32,
    /// The address to send from need not exist (`IP_FREEBIND`).
    pub freebind: bool,
}

impl Ties<'_> {
    /// `to` with a scope if it needs one and has none.
    fn scoped(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V6(v6) if v6.scope_id() == 0 && needs_scope(v6.ip()) => {
                SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), self.scope_id).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }

    /// Failing to use the interface is no reason to refuse the flow: the route decides then.
    fn bind_device(&self, socket: &OwnedFd, to: IpAddr) {
        let Some(Device(name)) = self.device.filter(|_| !to.is_loopback()) else { return };
        let name = name.as_bytes_with_nul();
        if let Err(error) = set(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name) {
            log::debug!("SO_BINDTODEVICE: {error}");
        }
    }
}

/// Link-local unicast (RFC 4291 2.5.6), and multicast of interface or link scope (2.7).
fn needs_scope(ip: &Ipv6Addr) -> bool {
    let [first, ..] = ip.segments();
    first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff01 || first & 0xff0f == 0xff02
}

fn family(ip: IpAddr) -> libc::c_int {
    match ip {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    }
}

/// The unspecified address of the same family.
#[must_use]
pub fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved; the descriptor returned is new and ours.
    unsafe {
        match libc::socket(family, kind, protocol) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

fn bind(socket: &OwnedFd, from: SocketAddr) -> io::Result<()> {
    let from = RawAddress::new(from);
    // SAFETY: the address is valid for the length that goes with it.
    check(unsafe { libc::bind(socket.as_raw_fd(), from.pointer(), from.length()) })
}

/// Success includes a connection that has only begun.
fn connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    let to = RawAddress::new(to);
    // SAFETY: the address is valid for the length that goes with it.
    match check(unsafe { libc::connect(socket.as_raw_fd(), to.pointer(), to.length()) }) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

/// Address and port a socket is bound to (`getsockname(2)`).
fn bound_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut address = RawAddress::empty();
    let mut length = address.length();
    // SAFETY: the kernel writes at most `length` bytes of an address structure of that size.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), address.pointer_mut(), &raw mut length)
    })?;
    address.read().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// `setsockopt(2)` with bytes.
fn set(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of the value.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length)
    })
}

/// `setsockopt(2)` with an int.
fn set_int(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
}

/// `getsockopt(2)` into `value`; returns how much of it the kernel filled.
pub(crate) fn get<'a>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &'a mut [u8],
) -> io::Result<&'a [u8]> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes of the value, and then how many it wrote.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(value.get(..length as usize).unwrap_or_default())
}

/// `getsockopt(2)` of an int.
fn get_int(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<i32> {
    let mut value = [0; 4];
    get(socket, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// `recvmsg(2)` of a plain buffer, without waiting.
fn recv(socket: &OwnedFd, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most `buf.len()` bytes of the buffer.
    check_len(unsafe { libc::recv(socket.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) })
}

/// `sendmsg(2)` on a connected socket, without waiting and without `SIGPIPE`. `control` must come from
/// [`cmsg`].
pub(crate) fn send_message(fd: RawFd, bufs: &[IoSlice<'_>], control: &[u8]) -> io::Result<usize> {
    send_message_to(fd, None, bufs, control)
}

/// As [`send_message`], to an address.
fn send_message_to(
    fd: RawFd,
    to: Option<&RawAddress>,
    bufs: &[IoSlice<'_>],
    control: &[u8],
) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        message.msg_name = to.pointer().cast_mut().cast();
        message.msg_namelen = to.length();
    }
    // IoSlice is guaranteed to be ABI-compatible with iovec; sendmsg only reads through it.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len() as _;
    if !control.is_empty() {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = control.len() as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to slices and to bytes that live for the duration of the call.
    check_len(unsafe { libc::sendmsg(fd, &raw const message, flags) })
}

/// What `recvmsg(2)` said besides the bytes.
#[derive(Clone, Copy, Debug)]
struct Received {
    len: usize,
    control_len: usize,
    source: Option<SocketAddr>,
}

/// `recvmsg(2)` into one buffer, without waiting.
fn receive_message(
    socket: &OwnedFd,
    buf: &mut [u8],
    control: &mut cmsg::Buffer,
    flags: libc::c_int,
) -> io::Result<Received> {
    let mut source = RawAddress::empty();
    let mut slice = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes_mut().as_mut_ptr().cast();
    message.msg_controllen = control.bytes_mut().len() as _;
    message.msg_name = source.pointer_mut().cast();
    message.msg_namelen = source.length();
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to buffers that live for the duration of the call, with their lengths.
    let len = check_len(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    #[allow(clippy::unnecessary_cast, reason = "the width of msg_controllen depends on the libc")]
    let control_len = message.msg_controllen as usize;
    Ok(Received { len, control_len, source: source.read() })
}

/// `SO_LINGER` with zero seconds: closing resets the connection.
fn linger_zero(socket: &OwnedFd) {
    // `struct linger`: on, for no seconds.
    let [a, b, c, d] = 1i32.to_ne_bytes();
    let value = [a, b, c, d, 0, 0, 0, 0];
    if let Err(error) = set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &value) {
        log::debug!("SO_LINGER: {error}");
    }
}

/// `SO_ERROR`.
fn pending_error(socket: &OwnedFd) -> Option<SocketError> {
    match get_int(socket, libc::SOL_SOCKET, libc::SO_ERROR) {
        Ok(0) | Err(_) => None,
        Ok(errno) => Some(SocketError { errno, source: None }),
    }
}

/// `IP_RECVERR`, `IPV6_RECVERR`: ICMP errors go to the error queue, with all they say.
fn receive_errors(socket: &OwnedFd, ip: IpAddr, on: bool) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => set_int(socket, libc::SOL_IP, libc::IP_RECVERR, on.into()),
        IpAddr::V6(_) => set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, on.into()),
    }
}

/// `IP_RECVTTL`, `IPV6_RECVHOPLIMIT`; `IP_RECVTOS`, `IPV6_RECVTCLASS`.
fn receive_ttl_and_tos(socket: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => {
            set_int(socket, libc::SOL_IP, libc::IP_RECVTTL, 1)?;
            set_int(socket, libc::SOL_IP, libc::IP_RECVTOS, 1)
        }
        IpAddr::V6(_) => {
            set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
            set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1)
        }
    }
}

/// TTL or hop limit of what a socket sends, set when it changes.
#[derive(Clone, Copy, Debug)]
struct SentTtl {
    to: IpAddr,
    last: Option<u8>,
}

impl SentTtl {
    fn new(to: IpAddr) -> Self {
        Self { to, last: None }
    }

    fn set(&mut self, socket: &OwnedFd, ttl: u8) -> io::Result<()> {
        if self.last == Some(ttl) {
            return Ok(());
        }
        let (level, name) = match (self.to, self.to.is_multicast()) {
            (IpAddr::V4(_), false) => (libc::SOL_IP, libc::IP_TTL),
            (IpAddr::V4(_), true) => (libc::SOL_IP, libc::IP_MULTICAST_TTL),
            (IpAddr::V6(_), false) => (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS),
            (IpAddr::V6(_), true) => (libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS),
        };
        // A TTL of zero cannot be asked for: nothing may leave the guest with it.
        set_int(socket, level, name, ttl.max(1).into())?;
        self.last = Some(ttl);
        Ok(())
    }
}

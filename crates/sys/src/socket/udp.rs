//! UDP sockets that move bursts of equal datagrams (`UDP_GRO`, `UDP_SEGMENT`).

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::address::RawAddress;
use super::listen::{UdpListener, canonical, free_bind};
use super::{
    SentTtl, SocketError, Ties, Unbound, bind, bound_address, cmsg, connect, errqueue::Quoted,
    family, get_int, open, receive_errors, receive_message, receive_ttl_and_tos, recv,
    send_message_to, set_int,
};

/// Segments of one send (`UDP_MAX_SEGMENTS` of the kernels that have the fewest).
const MAX_SEGMENTS: usize = 64;
/// Payload bytes of one send: what an IPv4 packet can carry.
const MAX_PAYLOAD: usize = 65_507;
/// Slices of one send. Two more than a datagram of every segment takes.
const MAX_SLICES: usize = MAX_SEGMENTS + 2;

/// Receive buffer asked for, in bytes.
const RECEIVE_BUFFER: i32 = 4 << 20;

pub(super) const SOL_UDP: libc::c_int = 17;
pub(super) const UDP_SEGMENT: libc::c_int = 103;
pub(super) const UDP_GRO: libc::c_int = 104;

/// A burst of equal datagrams: all of `segment` bytes, the last one shorter or equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Bytes received in all; 0 is one empty datagram.
    pub len: usize,
    /// Bytes per datagram.
    pub segment: usize,
    /// Source address.
    pub source: Option<SocketAddr>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// TOS or traffic class.
    pub tos: Option<u8>,
}

impl Burst {
    pub(super) fn receive(socket: &OwnedFd, buf: &mut [u8]) -> io::Result<Self> {
        Self::receive_with(socket, buf, &mut |_| {})
    }

    /// Receives a burst; control messages that are of no use here go to `other`.
    fn receive_with(
        socket: &OwnedFd,
        buf: &mut [u8],
        other: &mut dyn FnMut(&cmsg::Message<'_>),
    ) -> io::Result<Self> {
        let mut control = cmsg::Buffer::new();
        let received = receive_message(socket, buf, &mut control, 0)?;
        let len = received.len;
        let source = received.source.map(canonical);
        let mut burst = Self { len, segment: len, source, ttl: None, tos: None };
        for message in control.messages(received.control_len) {
            let Some(number) = message.number() else { continue };
            match (message.level, message.kind) {
                (SOL_UDP, UDP_GRO) => {
                    burst.segment = usize::try_from(number).unwrap_or(len).clamp(1, len.max(1));
                }
                (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                    burst.ttl = u8::try_from(number).ok();
                }
                (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    burst.tos = u8::try_from(number).ok();
                }
                _ => other(&message),
            }
        }
        Ok(burst)
    }
}

/// What a listening socket receives at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Equal datagrams of one sender.
    pub burst: Burst,
    /// The address they were sent to.
    pub destination: Option<IpAddr>,
    /// The address of ours that stands for it, where that is known: another one if they were sent to a
    /// group.
    pub local: Option<IpAddr>,
}

impl Datagram {
    pub(super) fn receive(socket: &OwnedFd, buf: &mut [u8]) -> io::Result<Self> {
        let (mut destination, mut local) = (None, None);
        let burst = Burst::receive_with(socket, buf, &mut |message| {
            match (message.level, message.kind, message.data) {
                // struct in_pktinfo: ipi_ifindex, ipi_spec_dst, ipi_addr.
                (libc::SOL_IP, libc::IP_PKTINFO, [_, _, _, _, a, b, c, d, e, f, g, h, ..]) => {
                    local = Some(Ipv4Addr::new(*a, *b, *c, *d).into());
                    destination = Some(Ipv4Addr::new(*e, *f, *g, *h).into());
                }
                // struct in6_pktinfo: ipi6_addr, ipi6_ifindex.
                (libc::SOL_IPV6, libc::IPV6_PKTINFO, data) => {
                    // For IPv4 on a socket of both families there is a message of IPv4, too.
                    let ip = data.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes));
                    let ip = ip.map(|ip| IpAddr::V6(ip).to_canonical());
                    destination = destination.or(ip);
                }
                _ => {}
            }
        })?;
        Ok(Self { burst, destination, local })
    }

    /// Whether they were sent to a multicast or broadcast address.
    #[must_use]
    pub fn is_to_group(&self) -> bool {
        self.destination.is_some_and(|to| {
            // The kernel knows which addresses are broadcast addresses of a subnet: it names another one
            // as ours.
            let another = to.is_ipv4() && self.local.is_some_and(|local| local != to);
            to.is_multicast() || (another && !to.is_loopback())
        })
    }
}

/// Options of a socket that takes datagrams of anybody. There is no `IP_RECVERR`: it sends nothing, and
/// errors about flows that ended are nobody's business.
pub(super) fn prepare_listener(socket: &OwnedFd, address: Option<IpAddr>) -> io::Result<()> {
    if address.is_none_or(|address| address.is_ipv6()) {
        set_int(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        receive_ttl_and_tos(socket, Ipv6Addr::UNSPECIFIED.into())?;
    }
    if address.is_none_or(|address| address.is_ipv4()) {
        set_int(socket, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
        receive_ttl_and_tos(socket, Ipv4Addr::UNSPECIFIED.into())?;
    }
    if address.is_none() {
        // What came to a group that somebody on this host has joined: IPv4 sockets are given it unless
        // they object, IPv6 ones only if they ask for it. Without it, there are still the others.
        let _ = set_int(socket, libc::SOL_IP, libc::IP_MULTICAST_ALL, 1);
    }
    for_bursts(socket);
    Ok(())
}

/// Options of the socket of a flow. Another one may have the same port, towards another peer.
pub(super) fn prepare_flow(socket: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    receive_errors(socket, ip, true)?;
    receive_ttl_and_tos(socket, ip)?;
    for_bursts(socket);
    Ok(())
}

fn for_bursts(socket: &OwnedFd) {
    // Without it, datagrams come one by one.
    let _ = set_int(socket, SOL_UDP, UDP_GRO, 1);
    // As much as the host allows (net.core.rmem_max), which is twice the default even where that is
    // the limit: datagrams of a burst come faster than anybody can be woken up.
    let _ = set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER);
}

/// A UDP socket with one peer.
#[derive(Debug)]
pub struct UdpSocket {
    socket: OwnedFd,
    peer: (IpAddr, u16),
    ttl: SentTtl,
    quoted: Quoted,
    /// Bursts of datagrams of this many bytes or more go one by one.
    burst_below: usize,
    /// The socket is a listening one, and takes nothing for this flow.
    answering: Option<Answering>,
}

/// What has to be said with every datagram from a socket that is not connected.
struct Answering {
    to: RawAddress,
    /// The source address, as control message: level, kind, data.
    from: (libc::c_int, libc::c_int, Vec<u8>),
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to.read())
    }
}

impl UdpSocket {
    /// Opens a socket bound to `from` (port 0: any) and connected to `to`, which may be a broadcast or
    /// multicast address.
    ///
    /// # Errors
    /// `EMFILE` and the like from `socket(2)`; `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` from `bind(2)`;
    /// `ENETUNREACH` from `connect(2)`.
    pub fn open(from: SocketAddr, to: SocketAddr, ties: &Ties<'_>) -> io::Result<Self> {
        let to = ties.scoped(to);
        let socket = open(family(to.ip()), libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
        prepare_flow(&socket, to.ip())?;
        Self::from_unbound(Unbound(socket), from, to, ties)
    }

    /// As [`UdpSocket::open`], with a socket that is there already.
    ///
    /// # Errors
    /// As there.
    pub fn from_unbound(
        socket: Unbound,
        from: SocketAddr,
        to: SocketAddr,
        ties: &Ties<'_>,
    ) -> io::Result<Self> {
        let (from, to) = (ties.scoped(from), ties.scoped(to));
        let Unbound(socket) = socket;
        ties.bind_device(&socket, to.ip());
        if from.port() != 0 {
            // Another flow may use this port towards another peer.
            set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        }
        if ties.freebind {
            free_bind(&socket, from.ip());
        }
        if from.port() != 0 || !from.ip().is_unspecified() {
            bind(&socket, from)?;
        }
        if to.ip() == Ipv4Addr::BROADCAST {
            set_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        }
        match connect(&socket, to) {
            // The broadcast address of a subnet, which only the kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) && to.is_ipv4() => {
                set_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
                connect(&socket, to)?;
            }
            result => result?,
        }
        let (ip, port) = (to.ip(), to.port());
        Ok(Self {
            socket,
            peer: (ip, port),
            ttl: SentTtl::new(ip),
            quoted: Quoted::default(),
            burst_below: usize::MAX,
            answering: None,
        })
    }

    /// A socket that answers `to` from the address `from` by way of a listening one, for where a socket of
    /// its own cannot be bound to the port. It receives nothing: that is the listening one's business.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn answering(
        listener: &UdpListener,
        from: IpAddr,
        to: SocketAddr,
        ties: &Ties<'_>,
    ) -> io::Result<Self> {
        let socket = listener.as_fd().try_clone_to_owned()?;
        let v6 = get_int(&socket, libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_INET6;
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let to = ties.scoped(to);
        let (name, from) = match (v6, from, to) {
            // struct in_pktinfo: ipi_ifindex, ipi_spec_dst, ipi_addr.
            (false, IpAddr::V4(from), _) => {
                let data = [&[0; 4][..], &from.octets(), &[0; 4]].concat();
                (to, (libc::SOL_IP, libc::IP_PKTINFO, data))
            }
            // struct in6_pktinfo: ipi6_addr, ipi6_ifindex.
            (_, from, to) => {
                let (name, scope) = match to {
                    SocketAddr::V6(to) => (to, to.scope_id()),
                    SocketAddr::V4(to) => {
                        (SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0), 0)
                    }
                };
                let data = [&mapped(from).octets()[..], &scope.to_ne_bytes()].concat();
                (name.into(), (libc::SOL_IPV6, libc::IPV6_PKTINFO, data))
            }
        };
        Ok(Self {
            socket,
            peer: (to.ip(), to.port()),
            ttl: SentTtl::new(to.ip()),
            quoted: Quoted::default(),
            burst_below: usize::MAX,
            answering: Some(Answering { to: RawAddress::new(name), from }),
        })
    }

    /// Whether there can be anything to report about the socket.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.answering.is_none()
    }

    /// Receives one burst, or one datagram. What does not fit into `buf` is lost. Between bind() and
    /// connect() anybody could send us something: [`UdpSocket::is_peer`] tells whose it is.
    ///
    /// # Errors
    /// Would-block; an error of the network that is pending (it is in [`UdpSocket::take_error`] too).
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Burst> {
        if !self.receives() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Burst::receive(&self.socket, buf)
    }

    /// Whether the socket is connected to this address.
    #[must_use]
    pub fn is_peer(&self, source: &SocketAddr) -> bool {
        (source.ip(), source.port()) == self.peer
    }

    /// Whether a datagram waits.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.receives() && recv(&self.socket, &mut [], libc::MSG_PEEK).is_ok()
    }

    /// Sends the bytes of `bufs` as datagrams of `segment` bytes, the last one shorter or equal, or one
    /// empty datagram if there are no bytes. Returns the number of bytes sent.
    ///
    /// Datagrams larger than the MTU of the path are fragmented by the kernel.
    ///
    /// # Errors
    /// Would-block and other errors, if nothing was sent. `EMSGSIZE` for more than a datagram can hold.
    pub fn send(&mut self, bufs: &[IoSlice<'_>], segment: usize, ttl: u8) -> io::Result<usize> {
        if !self.receives() {
            // Others may have set it since.
            self.ttl.last = None;
        }
        self.ttl.set(&self.socket, ttl)?;
        let total = bufs.iter().map(|slice| slice.len()).sum::<usize>();
        if total == 0 {
            return self.send_once(&[], 0);
        }
        let segment = segment.clamp(1, total);
        let mut sent = 0;
        while sent < total {
            let left = total - sent;
            let segments = if left <= segment || segment >= self.burst_below {
                1
            } else {
                MAX_SEGMENTS.min(MAX_PAYLOAD / segment).max(1)
            };
            let want = left.min(segment * segments);
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let (mut count, mut len) = gather(bufs, sent, want, &mut slices);
            if len < want {
                // Too many small slices: as many datagrams as are whole.
                (count, len) = gather(bufs, sent, len - len % segment, &mut slices);
            }
            let slices = slices.get(..count).unwrap_or_default();
            let result = if len == 0 {
                Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
            } else {
                self.send_once(slices, if len > segment { segment } else { 0 })
            };
            match result {
                Ok(_) => sent += len,
                // Larger than the path takes, no checksum offload, no such option.
                Err(error) if len > segment && refuses_bursts(&error) => {
                    self.burst_below = segment;
                }
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// One `sendmsg(2)`. An error of the past that is pending costs one attempt: the datagram has
    /// nothing to do with it.
    fn send_once(&self, slices: &[IoSlice<'_>], segment: usize) -> io::Result<usize> {
        let fd = self.socket.as_raw_fd();
        let mut control = cmsg::Outgoing::new();
        if let Some(segment) = u16::try_from(segment).ok().filter(|segment| *segment > 0) {
            control.push(SOL_UDP, UDP_SEGMENT, &segment.to_ne_bytes());
        }
        let name = self.answering.as_ref().map(|Answering { to, from: (level, kind, data) }| {
            control.push(*level, *kind, data);
            to
        });
        match send_message_to(fd, name, slices, control.bytes()) {
            Err(error) if may_be_of_the_past(&error) => {
                send_message_to(fd, name, slices, control.bytes())
            }
            result => result,
        }
    }

    /// Takes the next error: from the error queue, else `SO_ERROR`.
    pub fn take_error(&mut self) -> Option<SocketError> {
        if !self.receives() {
            return None;
        }
        self.quoted.take_error(&self.socket)
    }

    /// The beginning of what the error taken last is about, from the UDP payload on. Empty if
    /// the kernel returned nothing.
    #[must_use]
    pub fn quoted(&self) -> &[u8] {
        self.quoted.get()
    }

    /// Address and port of our side.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        bound_address(self.socket.as_fd())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What `UDP_SEGMENT` fails with where single datagrams may still go.
fn refuses_bursts(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}

/// What ICMP errors about earlier datagrams look like in the next call.
fn may_be_of_the_past(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
        )
    )
}

/// Fills `slices` with the `len` bytes of `bufs` from `from` on, as far as there is room. Returns the
/// number of slices and of bytes in them.
fn gather<'a>(
    bufs: &'a [IoSlice<'_>],
    from: usize,
    len: usize,
    slices: &mut [IoSlice<'a>],
) -> (usize, usize) {
    let (mut skip, mut left, mut count) = (from, len, 0);
    for buf in bufs {
        let Some(buf) = buf.get(skip..) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let part = buf.get(..left).unwrap_or(buf);
        if part.is_empty() {
            continue;
        }
        let Some(slice) = slices.get_mut(count) else { break };
        *slice = IoSlice::new(part);
        left -= part.len();
        count += 1;
    }
    (count, len - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_where_asked() {
        let bufs = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defgh")];
        for (from, len, room, expected) in [
            (0, 8, 4, vec!["abc", "defgh"]),
            (1, 3, 4, vec!["bc", "d"]),
            (3, 2, 4, vec!["de"]),
            (2, 6, 1, vec!["c"]),
            (8, 0, 4, vec![]),
            (0, 0, 4, vec![]),
        ] {
            let mut slices = [IoSlice::new(&[]); 4];
            let (count, taken) = gather(&bufs, from, len, &mut slices[..room]);
            let parts: Vec<_> =
                slices[..count].iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect();
            assert_eq!(parts, expected);
            assert_eq!(taken, expected.iter().map(|part| part.len()).sum::<usize>());
        }
    }
}

//! The traits through which the stack calls down: the guest's link and the host's sockets.
//!
//! `engine` implements them with the kernel, [`crate::sim`] in memory. Dispatch is static: on the fast
//! path each call is one inlined system call.
//!
//! Sockets are non-blocking. "Would block" is [`std::io::ErrorKind::WouldBlock`] throughout.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::flow::FlowId;

/// Room in front of the payload in every [`Guest::slot`]: virtio-net header (12), Ethernet (14),
/// IPv6 (40), TCP with options (60), rounded up.
pub const HEADROOM: usize = 128;

/// What a guest link can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// MTU of the link in bytes: IP header and everything behind it. Segments and the TCP MSS keep to it.
    pub mtu: u16,
    /// Largest IP packet accepted by [`Guest::send`] when it is to be cut into segments, in bytes.
    pub max_packet: usize,
}

/// How a frame is to be cut into packets of the link's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// One packet, sent as it is.
    #[default]
    None,
    /// TCP segments of this many payload bytes, the last one shorter or equal.
    Tcp(u16),
    /// UDP datagrams of this many payload bytes, the last one shorter or equal.
    Udp(u16),
}

/// What a link must know about a frame besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// Segmentation wanted. Links without offload do it in software ([`crate::segment`]).
    pub gso: Gso,
    /// Offset of the transport header in the frame, if the transport checksum is still to be completed:
    /// its field holds the (not inverted) sum of the pseudo-header.
    pub csum_start: Option<u16>,
    /// Offset of the checksum field from `csum_start`: 16 for TCP, 6 for UDP, 2 for ICMPv6.
    pub csum_offset: u16,
}

/// The link to the guest.
pub trait Guest {
    /// Capabilities of the link; constant while a client is connected.
    fn limits(&self) -> Limits;

    /// A buffer of exactly [`HEADROOM`] + `room` bytes in which to build the next frame, or `None` if the
    /// link takes nothing now. Its content is unspecified. Asking again without [`send`](Self::send)
    /// hands out the same buffer.
    fn slot(&mut self, room: usize) -> Option<&mut [u8]>;

    /// Sends bytes `start..end` of the buffer handed out last as one Ethernet frame. `false`: the link did
    /// not take it and it is gone; the caller may try again later.
    ///
    /// Frames shorter than the Ethernet minimum are padded by the link.
    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool;

    /// Hands over everything batched so far.
    fn flush(&mut self);

    /// Whether the link takes nothing now and its owner will call [`Stack::on_link_ready`] when it does
    /// again. A link that cannot tell refuses frames one by one, and is tried again.
    ///
    /// [`Stack::on_link_ready`]: crate::Stack::on_link_ready
    fn is_full(&self) -> bool {
        false
    }
}

/// What `TCP_INFO` and `SO_MEMINFO` say about a host socket. Fields a kernel lacks are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// `tcpi_bytes_acked`: bytes acknowledged by the remote, including the SYN of a connect().
    pub bytes_acked: Option<u64>,
    /// `tcpi_delivery_rate` in bytes per second.
    pub delivery_rate: Option<u64>,
    /// `tcpi_rtt`: smoothed round-trip time.
    pub rtt: Duration,
    /// `tcpi_min_rtt`.
    pub min_rtt: Option<Duration>,
}

/// Send-buffer state of a host socket (`SO_MEMINFO`), in bytes of kernel accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendRoom {
    /// `sk_sndbuf`.
    pub sndbuf: u32,
    /// `sk_wmem_queued`; may exceed `sndbuf`.
    pub queued: u32,
}

/// An ICMP or ICMPv6 error, or a local error, that the host kernel reported for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketError {
    /// errno of the error (`ee_errno`, or `SO_ERROR` if there is no extended error).
    pub errno: i32,
    /// The ICMP message behind it, if any.
    pub icmp: Option<IcmpOrigin>,
}

/// Where an ICMP error came from and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpOrigin {
    /// Address of the node that sent the error (`SO_EE_OFFENDER`).
    pub offender: IpAddr,
    /// ICMP or ICMPv6 type.
    pub kind: u8,
    /// ICMP or ICMPv6 code.
    pub code: u8,
    /// `ee_info`: the MTU of "fragmentation needed" and "packet too big".
    pub info: u32,
}

/// A TCP socket of the host.
pub trait TcpSocket {
    /// Copies bytes of the receive queue from `offset` on into `buf` without removing them.
    ///
    /// `Ok(0)` (for a non-empty `buf`): the remote's FIN stands at `offset`. Would-block: nothing there yet.
    fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize>;

    /// Removes `n` bytes from the front of the receive queue; returns how many were removed.
    fn discard(&mut self, n: u32) -> io::Result<u32>;

    /// Queues bytes for the remote; returns how many were taken.
    fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends FIN behind everything queued.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes the close to come a reset (`SO_LINGER` 0).
    fn reset_on_close(&mut self);

    /// `TCP_INFO`.
    fn info(&mut self) -> TcpInfo;

    /// `SO_MEMINFO`.
    fn send_room(&mut self) -> SendRoom;

    /// Turns on `SO_KEEPALIVE`.
    fn set_keepalive(&mut self);

    /// Takes the pending error: the first one of the error queue, else `SO_ERROR`.
    fn take_error(&mut self) -> Option<SocketError>;
}

/// A burst of equal datagrams: all of `segment` bytes, the last one shorter or equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramBurst {
    /// Bytes received in all; 0 is one empty datagram.
    pub len: usize,
    /// Bytes per datagram.
    pub segment: usize,
    /// Source, where the socket is not connected or asks for it.
    pub source: Option<SocketAddr>,
    /// TTL or hop limit, if the kernel said.
    pub ttl: Option<u8>,
    /// TOS or traffic class, if the kernel said.
    pub tos: Option<u8>,
}

/// A UDP socket of the host, bound and connected to one peer.
pub trait UdpSocket {
    /// Receives one burst (`UDP_GRO`) into `buf`.
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst>;

    /// Sends datagrams of `segment` bytes from `bufs` (`UDP_SEGMENT`), with this TTL or hop limit, in as
    /// many steps as the kernel and the path want. Empty `bufs` send one empty datagram. Returns the
    /// number of bytes sent.
    fn send(&mut self, bufs: &[IoSlice<'_>], segment: usize, ttl: u8) -> io::Result<usize>;

    /// Next entry of the error queue, else `SO_ERROR`.
    fn take_error(&mut self) -> Option<SocketError>;

    /// The beginning of the datagram that the error taken last is about, from the UDP payload on: what
    /// the error queue returned as data. Empty if that is not known.
    fn quoted(&self) -> &[u8] {
        &[]
    }
}

/// A ping socket (`SOCK_DGRAM`, `IPPROTO_ICMP` or `IPPROTO_ICMPV6`).
pub trait PingSocket {
    /// Receives one ICMP message, header included; the identifier is the socket's own.
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst>;

    /// Sends one echo request, header included; identifier and checksum are the kernel's business.
    fn send(&mut self, message: &[u8], ttl: u8) -> io::Result<usize>;

    /// Next entry of the error queue, else `SO_ERROR`.
    fn take_error(&mut self) -> Option<SocketError>;

    /// The beginning of the echo request that the error taken last is about, ICMP header included: what
    /// the error queue returned as data. Empty if that is not known. Without it, errors about requests
    /// that are on their way together (traceroute) cannot be told apart.
    fn quoted(&self) -> &[u8] {
        &[]
    }
}

/// The host: where sockets come from.
///
/// Events of a socket come back to the stack with the `id` given here.
pub trait Host {
    /// TCP sockets.
    type Tcp: TcpSocket + std::fmt::Debug;
    /// UDP sockets.
    type Udp: UdpSocket + std::fmt::Debug;
    /// Ping sockets.
    type Ping: PingSocket + std::fmt::Debug;

    /// Starts a connection to `to`, from `from` if given; the outcome arrives as an event. An immediate
    /// error means that there is no socket.
    fn connect_tcp(
        &mut self,
        id: FlowId,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Self::Tcp>;

    /// Opens a UDP socket bound to `from` (port 0: any) and connected to `to`.
    fn open_udp(&mut self, id: FlowId, from: SocketAddr, to: SocketAddr) -> io::Result<Self::Udp>;

    /// Opens a ping socket connected to `to` (port 0; a link-local address has its scope), bound to
    /// `from` and, where the kernel lets us, to the identifier `ident`.
    fn open_ping(
        &mut self,
        id: FlowId,
        from: Option<IpAddr>,
        to: SocketAddr,
        ident: u16,
    ) -> io::Result<Self::Ping>;
}

/// What happened on a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Something to read (`EPOLLIN`).
    pub readable: bool,
    /// Room to write, or connect() is over (`EPOLLOUT`).
    pub writable: bool,
    /// The remote sent FIN (`EPOLLRDHUP`).
    pub read_closed: bool,
    /// Both directions are over (`EPOLLHUP`).
    pub hang_up: bool,
    /// An error is pending (`EPOLLERR`).
    pub error: bool,
    /// Urgent data is on the way (`EPOLLPRI`): a read stops at it once, whatever comes behind.
    pub urgent: bool,
}

//! The host's sockets, as the kernel makes them.

mod icmp;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use stack::flow::FlowId;
use stack::io::{DatagramBurst, Host, IcmpOrigin, SocketError};
use sys::epoll::{Epoll, Interest};
use sys::socket::{self, Burst, Device, ErrorSource, Peek, Ties, UdpListener};

use crate::forward::drain;

pub use icmp::Ping;
pub use tcp::Tcp;
pub use udp::Udp;

/// What host sockets are tied to, and how they are used.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Interface of IPv4 sockets (`--outbound-if4`).
    pub device_v4: Option<Device>,
    /// Interface of IPv6 sockets (`--outbound-if6`).
    pub device_v6: Option<Device>,
    /// Interface index of link-local IPv6 destinations that come without a scope; 0 if there is none.
    pub scope_id: u32,
    /// How receive queues are peeked at; `None` asks the kernel what it can do.
    pub peek: Option<Peek>,
}

/// Makes sockets and has them watched.
///
/// Every socket is added to epoll once, for every change of its state, and leaves by being closed.
#[derive(Debug)]
pub struct KernelHost {
    epoll: Epoll,
    options: HostOptions,
    peek_v4: Peek,
    peek_v6: Peek,
    /// The lack of descriptors was reported, and has not ended since.
    out_of_descriptors: bool,
}

impl KernelHost {
    /// Reports go to `epoll`.
    pub fn new(epoll: Epoll, options: HostOptions) -> Self {
        // A family that has no sockets has no connections to peek at either.
        let probe = |ip: IpAddr| Peek::probe(ip).unwrap_or(Peek::Skip);
        Self {
            epoll,
            peek_v4: options.peek.unwrap_or_else(|| probe(Ipv4Addr::LOCALHOST.into())),
            peek_v6: options.peek.unwrap_or_else(|| probe(Ipv6Addr::LOCALHOST.into())),
            options,
            out_of_descriptors: false,
        }
    }

    /// The epoll instance.
    pub fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    fn ties(&self, to: IpAddr) -> Ties<'_> {
        let device = match to {
            IpAddr::V4(_) => &self.options.device_v4,
            IpAddr::V6(_) => &self.options.device_v6,
        };
        Ties { device: device.as_ref(), scope_id: self.options.scope_id, freebind: false }
    }

    /// The socket of a flow that was accepted. It is reset if it cannot be watched.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn accept_tcp(&mut self, id: FlowId, socket: OwnedFd) -> io::Result<Tcp> {
        // A listening socket of both families makes IPv6 sockets for IPv4 connections, too.
        let both = self.peek_v4 == Peek::Offset && self.peek_v6 == Peek::Offset;
        let peek = if both { Peek::Offset } else { Peek::Skip };
        let mut socket = socket::TcpSocket::connected(socket, peek);
        let watched = self.epoll.add(&socket, id.to_cookie(), Interest::Edges);
        if watched.is_err() {
            socket.reset_on_close();
        }
        watched.map(|()| Tcp(socket))
    }

    /// A socket for the answers to datagrams that `to` sent to `from`, where `listener` took them. What came
    /// to it before it was connected goes to `each`.
    ///
    /// # Errors
    /// As [`Host::open_udp`].
    pub(crate) fn answer_udp(
        &mut self,
        id: FlowId,
        from: SocketAddr,
        to: SocketAddr,
        (device, freebind): (Option<&Device>, bool),
        listener: &UdpListener,
        each: &mut dyn FnMut(Burst, &[u8]),
    ) -> io::Result<Udp> {
        let ties = Ties { device, scope_id: self.options.scope_id, freebind };
        let mut socket =
            answering(listener, from, to, &ties, |from| socket::UdpSocket::open(from, to, &ties))?;
        drain(&mut socket, each);
        if socket.receives() {
            return self.watched(id, Ok(socket)).map(Udp);
        }
        Ok(Udp(socket))
    }

    /// Has a new socket watched. Nothing is refused for lack of descriptors without a word, once.
    fn watched<S: std::os::fd::AsFd>(&mut self, id: FlowId, made: io::Result<S>) -> io::Result<S> {
        let result = made.and_then(|socket| {
            self.epoll.add(&socket, id.to_cookie(), Interest::Edges)?;
            Ok(socket)
        });
        match &result {
            Ok(_) => self.out_of_descriptors = false,
            Err(error) if is_out_of_descriptors(error) && !self.out_of_descriptors => {
                self.out_of_descriptors = true;
                log::warn!("New connections are refused: {error}");
            }
            Err(_) => {}
        }
        result
    }
}

/// A socket made by `open`, from which `to` expects answers to what it sent to `from`. A port that takes a
/// privilege was listened on while we had that: then the listening socket answers.
pub(crate) fn answering(
    listener: &UdpListener,
    from: SocketAddr,
    to: SocketAddr,
    ties: &Ties<'_>,
    open: impl FnOnce(SocketAddr) -> io::Result<socket::UdpSocket>,
) -> io::Result<socket::UdpSocket> {
    match open(from) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            socket::UdpSocket::answering(listener, from.ip(), to, ties)
        }
        opened => opened,
    }
}

/// `EMFILE`, `ENFILE`.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

impl Host for KernelHost {
    type Tcp = Tcp;
    type Udp = Udp;
    type Ping = Ping;

    fn connect_tcp(&mut self, id: FlowId, to: SocketAddr, from: Option<IpAddr>) -> io::Result<Tcp> {
        let peek = if to.is_ipv4() { self.peek_v4 } else { self.peek_v6 };
        let made = socket::TcpSocket::connect(to, from, &self.ties(to.ip()), peek);
        self.watched(id, made).map(Tcp)
    }

    fn open_udp(&mut self, id: FlowId, from: SocketAddr, to: SocketAddr) -> io::Result<Udp> {
        let made = socket::UdpSocket::open(from, to, &self.ties(to.ip()));
        self.watched(id, made).map(Udp)
    }

    fn open_ping(
        &mut self,
        id: FlowId,
        from: Option<IpAddr>,
        to: SocketAddr,
        ident: u16,
    ) -> io::Result<Ping> {
        let made = socket::PingSocket::open(from, to, ident, &self.ties(to.ip()));
        self.watched(id, made).map(Ping)
    }
}

fn error_of(error: socket::SocketError) -> SocketError {
    let socket::SocketError { errno, source } = error;
    let icmp = source.map(|ErrorSource { offender, kind, code, info }| IcmpOrigin {
        offender,
        kind,
        code,
        info,
    });
    SocketError { errno, icmp }
}

pub(crate) fn burst_of(burst: Burst) -> DatagramBurst {
    let Burst { len, segment, source, ttl, tos } = burst;
    DatagramBurst { len, segment, source, ttl, tos }
}

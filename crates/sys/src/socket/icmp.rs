//! Ping sockets: echo requests and replies without privileges (`net.ipv4.ping_group_range`).

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{
    Burst, SentTtl, SocketError, Ties, bind, connect, errqueue::Quoted, family, open,
    receive_errors, receive_ttl_and_tos, send_message, set_int, unspecified,
};

/// A ping socket (`SOCK_DGRAM`, `IPPROTO_ICMP` or `IPPROTO_ICMPV6`) with one peer.
#[derive(Debug)]
pub struct PingSocket {
    socket: OwnedFd,
    ttl: SentTtl,
    quoted: Quoted,
}

impl PingSocket {
    /// Opens a socket connected to `to` (port 0), bound to `from` if given and to the echo identifier
    /// `ident` if nobody else has it; else the kernel chooses one.
    ///
    /// # Errors
    /// `EACCES` if none of our groups is in `ping_group_range`; `EMFILE` and the like;
    /// `ENETUNREACH` from `connect(2)`.
    pub fn open(
        from: Option<IpAddr>,
        to: SocketAddr,
        ident: u16,
        ties: &Ties<'_>,
    ) -> io::Result<Self> {
        let protocol = match to {
            SocketAddr::V4(_) => libc::IPPROTO_ICMP,
            SocketAddr::V6(_) => libc::IPPROTO_ICMPV6,
        };
        let address = ties.scoped(to);
        let to = to.ip();
        let socket = open(family(to), libc::SOCK_DGRAM, protocol)?;
        receive_errors(&socket, to, true)?;
        receive_ttl_and_tos(&socket, to)?;
        // On by default for these: two sockets could have one identifier, and one of them the replies.
        set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0)?;
        ties.bind_device(&socket, to);
        let any = unspecified(to);
        let from = from.unwrap_or(any);
        if let Err(error) = bind(&socket, ties.scoped((from, ident).into())) {
            log::debug!("ping socket, identifier {ident}: {error}");
            if from != any {
                bind(&socket, ties.scoped((from, 0).into()))?;
            }
        }
        connect(&socket, address)?;
        Ok(Self { socket, ttl: SentTtl::new(to), quoted: Quoted::default() })
    }

    /// Receives one ICMP message, header included, with the identifier of the socket.
    ///
    /// # Errors
    /// Would-block; an error of the network that is pending (it is in [`PingSocket::take_error`] too).
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Burst> {
        Burst::receive(&self.socket, buf)
    }

    /// Sends one echo request, header included. The kernel fills in identifier and checksum.
    ///
    /// # Errors
    /// Would-block; `EINVAL` for anything but an echo request.
    pub fn send(&mut self, message: &[u8], ttl: u8) -> io::Result<usize> {
        self.ttl.set(&self.socket, ttl)?;
        send_message(self.socket.as_raw_fd(), &[IoSlice::new(message)], &[])
    }

    /// Takes the next error: from the error queue, else `SO_ERROR`.
    pub fn take_error(&mut self) -> Option<SocketError> {
        self.quoted.take_error(&self.socket)
    }

    /// The beginning of what the error taken last is about, from the ICMP header on. Empty if
    /// the kernel returned nothing.
    #[must_use]
    pub fn quoted(&self) -> &[u8] {
        self.quoted.get()
    }
}

impl AsFd for PingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

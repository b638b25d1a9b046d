//! TCP sockets read in the ordinary way, and sockets made ahead of their use.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{connect, linger_zero, open, pending_error, recv, send_message, set_int, udp};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket that is neither bound nor connected. It belongs to the network namespace of the thread that
/// made it, and can be used from any other.
#[derive(Debug)]
pub struct Unbound(pub(super) OwnedFd);

impl Unbound {
    /// A socket in the network namespace of the calling thread, with the options that all of its kind
    /// have.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS`, `EAFNOSUPPORT`.
    pub fn new(kind: Kind, ipv6: bool) -> io::Result<Self> {
        let any: IpAddr =
            if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let family = super::family(any);
        let socket = match kind {
            Kind::Tcp => {
                let socket = open(family, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
                set_int(&socket, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
                set_int(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
                socket
            }
            Kind::Udp => {
                let socket = open(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
                udp::prepare_flow(&socket, any)?;
                socket
            }
        };
        Ok(Self(socket))
    }
}

/// A TCP socket that is connected, or about to be.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// Starts to connect. How it went shows as readiness to write, and in [`Stream::take_error`].
    ///
    /// # Errors
    /// Those that `connect(2)` knows at once: `ENETUNREACH` and the like.
    pub fn connect(socket: Unbound, to: SocketAddr) -> io::Result<Self> {
        connect(&socket.0, to)?;
        Ok(Self(socket.0))
    }

    /// A socket that `accept(2)` made.
    #[must_use]
    pub fn accepted(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Receives bytes; 0 at the end of the stream.
    ///
    /// # Errors
    /// Would-block; `ECONNRESET` and the like.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        recv(&self.0, buf, 0)
    }

    /// Sends bytes; returns how many were taken.
    ///
    /// # Errors
    /// Would-block if none was taken; `EPIPE`, `ECONNRESET`.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        send_message(self.0.as_raw_fd(), &[IoSlice::new(buf)], &[])
    }

    /// Sends what was held back because more was announced: setting `TCP_NODELAY`, which is set, does that.
    ///
    /// # Errors
    /// None for a TCP socket.
    pub fn push(&self) -> io::Result<()> {
        set_int(&self.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
    }

    /// `shutdown(SHUT_WR)`: FIN behind everything queued.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write)?)
    }

    /// `SO_LINGER` with zero seconds: closing resets the connection.
    pub fn reset_on_close(&self) {
        linger_zero(&self.0);
    }

    /// Takes the pending error (`SO_ERROR`), as an errno.
    #[must_use]
    pub fn take_error(&self) -> Option<i32> {
        pending_error(&self.0).map(|error| error.errno)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn connected(address: &str) -> (Stream, std::net::TcpStream) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let stream = Stream::connect(Unbound::new(Kind::Tcp, to.is_ipv6()).unwrap(), to).unwrap();
        let (other, _) = listener.accept().unwrap();
        other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (stream, other)
    }

    #[test]
    fn bytes_both_ways_and_the_end() {
        for address in ["127.0.0.1", "::1"] {
            let (stream, mut other) = connected(address);
            assert_eq!(stream.send(b"there").unwrap(), 5);
            other.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(stream.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            other.write_all(b"back").unwrap();
            assert_eq!(stream.recv(&mut [0; 9]).unwrap(), 4);
            stream.shutdown_write().unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_reset_is_a_reset() {
        let (stream, mut other) = connected("127.0.0.1");
        stream.reset_on_close();
        drop(stream);
        let error = other.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = Stream::connect(Unbound::new(Kind::Tcp, false).unwrap(), to).unwrap();
        assert_eq!(stream.take_error(), Some(libc::ECONNREFUSED));
        assert_eq!(stream.take_error(), None);
    }
}

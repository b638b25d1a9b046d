//! UDP sockets.

use std::io::{self, IoSlice};

use stack::io::{DatagramBurst, SocketError, UdpSocket};
use sys::socket;

use super::{burst_of, error_of};

/// A UDP socket of the host.
#[derive(Debug)]
pub struct Udp(pub(super) socket::UdpSocket);

impl UdpSocket for Udp {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        loop {
            let burst = self.0.recv(buf)?;
            // Nobody else is meant by this socket.
            if burst.source.is_none_or(|source| self.0.is_peer(&source)) {
                return Ok(burst_of(burst));
            }
        }
    }

    fn send(&mut self, bufs: &[IoSlice<'_>], segment: usize, ttl: u8) -> io::Result<usize> {
        self.0.send(bufs, segment, ttl)
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.0.take_error().map(error_of)
    }

    fn quoted(&self) -> &[u8] {
        self.0.quoted()
    }
}

//! Ping sockets.

use std::io;

use stack::io::{DatagramBurst, PingSocket, SocketError};
use sys::socket;

use super::{burst_of, error_of};

/// A ping socket of the host.
#[derive(Debug)]
pub struct Ping(pub(super) socket::PingSocket);

impl PingSocket for Ping {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.0.recv(buf).map(burst_of)
    }

    fn send(&mut self, message: &[u8], ttl: u8) -> io::Result<usize> {
        self.0.send(message, ttl)
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.0.take_error().map(error_of)
    }

    fn quoted(&self) -> &[u8] {
        self.0.quoted()
    }
}

//! TCP sockets.

use std::io::{self, IoSlice};

use stack::io::{SendRoom, SocketError, TcpInfo, TcpSocket};
use sys::socket;

use super::error_of;

/// A TCP socket of the host.
#[derive(Debug)]
pub struct Tcp(pub(super) socket::TcpSocket);

impl TcpSocket for Tcp {
    fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(offset, buf)
    }

    fn discard(&mut self, n: u32) -> io::Result<u32> {
        self.0.discard(n)
    }

    fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(bufs)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    fn reset_on_close(&mut self) {
        self.0.reset_on_close();
    }

    fn info(&mut self) -> TcpInfo {
        let socket::TcpInfo { bytes_acked, delivery_rate, rtt, min_rtt } = self.0.info();
        TcpInfo { bytes_acked, delivery_rate, rtt, min_rtt }
    }

    fn send_room(&mut self) -> SendRoom {
        let (sndbuf, queued) = self.0.send_memory();
        SendRoom { sndbuf, queued }
    }

    fn set_keepalive(&mut self) {
        self.0.set_keepalive();
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.0.take_error().map(error_of)
    }
}

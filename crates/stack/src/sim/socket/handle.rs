//! The stack's end of a socket: its system calls.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;

use super::{Fault, Shared, SocketModel, State, errno};
use crate::io::{SendRoom, SocketError, TcpInfo, TcpSocket};

/// The stack's end of a [`SocketModel`]: dropping it closes the socket.
#[derive(Debug)]
pub struct SimSocket {
    model: Rc<RefCell<SocketModel>>,
    shared: Rc<Shared>,
}

impl SimSocket {
    /// A handle to `model`.
    pub fn new(model: Rc<RefCell<SocketModel>>, shared: Rc<Shared>) -> Self {
        Self { model, shared }
    }

    /// Marks the socket as one to be looked at.
    fn dirty(&self, model: &SocketModel) {
        self.shared.dirty.borrow_mut().push(model.index);
    }
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl TcpSocket for SimSocket {
    fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        let mut model = self.model.borrow_mut();
        if matches!(model.state, State::Connecting { .. }) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let unread = model.inward.unread();
        let offset = u64::from(offset);
        let position = model.inward.read + offset;
        if offset < unread {
            let n = usize::try_from(unread - offset).unwrap_or(buf.len()).min(buf.len());
            let again = position < model.peeked;
            if again && self.shared.fault.get() == Fault::HoleNotPeeked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            model.to_guest.fill(position, &mut buf[..n]);
            model.peeked = model.peeked.max(position + n as u64);
            if again && self.shared.fault.get() == Fault::HolePeekedWrong {
                buf[n / 2] ^= 0x55;
            }
            return Ok(n);
        }
        if let Some(error) = model.error.take() {
            return Err(os(error));
        }
        if model.inward.fin_received || model.state == State::Dead {
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn discard(&mut self, n: u32) -> io::Result<u32> {
        let mut model = self.model.borrow_mut();
        let n = u64::from(n).min(model.inward.unread());
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let now = self.shared.now.get();
        model.inward.take(n, now);
        self.dirty(&model);
        u32::try_from(n).map_err(io::Error::other)
    }

    fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut model = self.model.borrow_mut();
        if let Some(error) = model.error.take() {
            return Err(os(error));
        }
        match model.state {
            State::Connecting { .. } => return Err(io::ErrorKind::WouldBlock.into()),
            State::Dead => return Err(os(errno::EPIPE)),
            State::Established if model.outward.fin_queued => return Err(os(errno::EPIPE)),
            State::Established => {}
        }
        let lose = model.short && self.shared.fault.get() == Fault::SpillByteLost;
        let mut taken = 0;
        let mut all = 0;
        for buf in bufs {
            all += buf.len();
            let skip = usize::from(lose && taken == 0 && buf.len() > 1);
            let n = model.take(&buf[skip..]);
            taken += if n > 0 { n + skip } else { 0 };
            if n + skip < buf.len() {
                break;
            }
        }
        model.short = taken < all;
        model.no_space |= taken < all;
        let now = self.shared.now.get();
        model.outward.pump(now);
        self.dirty(&model);
        if taken == 0 && all > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut model = self.model.borrow_mut();
        let now = self.shared.now.get();
        model.outward.fin_queued = true;
        model.outward.pump(now);
        model.edge = true;
        self.dirty(&model);
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.model.borrow_mut().linger_zero = true;
    }

    fn info(&mut self) -> TcpInfo {
        let model = self.model.borrow();
        let new = !model.plan.old_info;
        let syn = u64::from(model.connected_here && model.state == State::Established);
        TcpInfo {
            bytes_acked: new.then_some(model.outward.acked + syn),
            delivery_rate: new.then_some(model.outward.delivery_rate),
            rtt: model.rtt(),
            min_rtt: new.then_some(model.rtt()),
        }
    }

    fn send_room(&mut self) -> SendRoom {
        let model = self.model.borrow();
        SendRoom {
            sndbuf: u32::try_from(model.sndbuf).unwrap_or(u32::MAX),
            queued: u32::try_from(model.queued).unwrap_or(u32::MAX),
        }
    }

    fn set_keepalive(&mut self) {}

    fn take_error(&mut self) -> Option<SocketError> {
        let mut model = self.model.borrow_mut();
        let queued = model.queued_error.take();
        if queued.is_some() {
            return queued;
        }
        model.error.take().map(|errno| SocketError { errno, icmp: None })
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut model = self.model.borrow_mut();
        let now = self.shared.now.get();
        model.closed = true;
        match model.state {
            State::Established => {
                if model.linger_zero || model.inward.unread() > 0 {
                    model.die(now, None, true);
                } else if !model.outward.fin_queued {
                    model.outward.fin_queued = true;
                    model.outward.pump(now);
                }
            }
            State::Connecting { .. } => {
                model.state = State::Dead;
                model.app.failed = true;
            }
            State::Dead => {}
        }
        self.dirty(&model);
    }
}

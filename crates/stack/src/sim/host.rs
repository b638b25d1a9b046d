//! The host: where the stack's sockets come from.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::pattern::Pattern;
use super::socket::{Shared, SimSocket, SocketModel, SocketPlan};
use crate::flow::FlowId;
use crate::io::{DatagramBurst, Host, PingSocket, SocketError, UdpSocket};
use crate::time::Instant;

/// First port of the remote: flow number `n` of a scenario goes to, or comes from, port `BASE + n`.
pub const REMOTE_PORT: u16 = 1000;

/// Makes sockets by plan.
#[derive(Debug)]
pub struct SimHost {
    /// All TCP sockets made, by number.
    pub sockets: Vec<Rc<RefCell<SocketModel>>>,
    /// All UDP and ping sockets made.
    pub echoes: Vec<Rc<RefCell<EchoModel>>>,
    shared: Rc<Shared>,
    plans: Vec<SocketPlan>,
}

/// The streams of flow `n`: to the remote, to the guest.
pub fn patterns(n: u64) -> (Pattern, Pattern) {
    (Pattern::new(2 * n), Pattern::new(2 * n + 1))
}

impl SimHost {
    /// A host for flows with these plans; the last plan serves for all further flows.
    pub fn new(plans: Vec<SocketPlan>, shared: Rc<Shared>) -> Self {
        Self { sockets: Vec::new(), echoes: Vec::new(), shared, plans }
    }

    /// The plan of the flow with this remote port, and its number.
    fn plan(&self, port: u16) -> io::Result<(u64, SocketPlan)> {
        let n = port.wrapping_sub(REMOTE_PORT);
        let plan = self.plans.get(usize::from(n)).or_else(|| self.plans.last());
        plan.map(|plan| (u64::from(n), *plan)).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// A socket that accept() returned, for the flow `id` from `peer`.
    pub fn accept(&mut self, id: FlowId, peer: SocketAddr) -> io::Result<SimSocket> {
        let (n, plan) = self.plan(peer.port())?;
        let (index, now) = (self.sockets.len(), self.shared.now.get());
        Ok(self.add(SocketModel::accepted(index, id, peer, plan, patterns(n), now)))
    }

    fn add(&mut self, model: SocketModel) -> SimSocket {
        self.shared.dirty.borrow_mut().push(self.sockets.len());
        let model = Rc::new(RefCell::new(model));
        self.sockets.push(Rc::clone(&model));
        SimSocket::new(model, Rc::clone(&self.shared))
    }

    fn echo(&mut self, id: FlowId, peer: SocketAddr) -> EchoSocket {
        let model = EchoModel { id, peer, queue: VecDeque::new(), closed: false };
        let model = Rc::new(RefCell::new(model));
        self.echoes.push(Rc::clone(&model));
        EchoSocket { model, shared: Rc::clone(&self.shared) }
    }
}

impl Host for SimHost {
    type Tcp = SimSocket;
    type Udp = EchoSocket;
    type Ping = EchoSocket;

    fn connect_tcp(
        &mut self,
        id: FlowId,
        to: SocketAddr,
        _from: Option<IpAddr>,
    ) -> io::Result<SimSocket> {
        let (n, plan) = self.plan(to.port())?;
        let (index, now) = (self.sockets.len(), self.shared.now.get());
        Ok(self.add(SocketModel::connect(index, id, to, plan, patterns(n), now)))
    }

    fn open_udp(
        &mut self,
        id: FlowId,
        _from: SocketAddr,
        to: SocketAddr,
    ) -> io::Result<EchoSocket> {
        Ok(self.echo(id, to))
    }

    fn open_ping(
        &mut self,
        id: FlowId,
        _from: Option<IpAddr>,
        to: SocketAddr,
        _ident: u16,
    ) -> io::Result<EchoSocket> {
        Ok(self.echo(id, to))
    }
}

/// How long a datagram takes there and back.
const ECHO_TIME: Duration = Duration::from_millis(3);

/// A socket whose remote sends everything back.
#[derive(Debug)]
pub struct EchoModel {
    /// The flow whose socket it is.
    pub id: FlowId,
    /// The remote.
    pub peer: SocketAddr,
    /// What comes back, and when.
    pub queue: VecDeque<(Instant, Vec<u8>)>,
    /// The stack holds it no longer.
    pub closed: bool,
}

impl EchoModel {
    fn send(&mut self, message: Vec<u8>, now: Instant) {
        self.queue.push_back((now + ECHO_TIME, message));
    }

    fn recv(&mut self, buf: &mut [u8], now: Instant) -> io::Result<DatagramBurst> {
        if self.queue.front().is_none_or(|(at, _)| *at > now) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some((_, message)) = self.queue.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let len = message.len().min(buf.len());
        buf[..len].copy_from_slice(&message[..len]);
        Ok(DatagramBurst { len, segment: len, source: None, ttl: Some(64), tos: None })
    }
}

/// The stack's end of an [`EchoModel`].
#[derive(Debug)]
pub struct EchoSocket {
    model: Rc<RefCell<EchoModel>>,
    shared: Rc<Shared>,
}

impl UdpSocket for EchoSocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.model.borrow_mut().recv(buf, self.shared.now.get())
    }

    fn send(&mut self, bufs: &[IoSlice<'_>], segment: usize, _ttl: u8) -> io::Result<usize> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let now = self.shared.now.get();
        let mut model = self.model.borrow_mut();
        if all.is_empty() {
            model.send(Vec::new(), now);
        }
        for datagram in all.chunks(segment.max(1)) {
            model.send(datagram.to_vec(), now);
        }
        Ok(all.len())
    }

    fn take_error(&mut self) -> Option<SocketError> {
        None
    }
}

impl PingSocket for EchoSocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.model.borrow_mut().recv(buf, self.shared.now.get())
    }

    fn send(&mut self, message: &[u8], _ttl: u8) -> io::Result<usize> {
        let mut reply = message.to_vec();
        if let Some(kind) = reply.first_mut() {
            *kind = if *kind == 128 { 129 } else { 0 };
        }
        self.model.borrow_mut().send(reply, self.shared.now.get());
        Ok(message.len())
    }

    fn take_error(&mut self) -> Option<SocketError> {
        None
    }
}

impl Drop for EchoSocket {
    fn drop(&mut self) {
        self.model.borrow_mut().closed = true;
    }
}

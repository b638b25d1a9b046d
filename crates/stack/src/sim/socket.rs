//! A model of a Linux TCP socket, and of the program at the other end of the network.
//!
//! What matters of Linux here: the receive queue can be peeked at any offset and keeps what has not been
//! discarded, also after a reset; the send buffer accounts with overhead, takes a whole packet more than it
//! has room for, and grows only when a writer has filled it; readiness comes in edges, and the edge for
//! writing only after a short write and when a third of the buffer is free.

mod handle;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::app::{App, AppPlan};
use super::fault::Fault;
use super::pattern::Pattern;
use super::pipe::{Pipe, PipePlan};
use crate::flow::FlowId;
use crate::io::{IcmpOrigin, Readiness, SocketError};
use crate::time::Instant;

pub use self::handle::SimSocket;

/// errno values, as Linux numbers them.
pub mod errno {
    /// Connection reset by peer.
    pub const ECONNRESET: i32 = 104;
    /// Connection timed out.
    pub const ETIMEDOUT: i32 = 110;
    /// Connection refused.
    pub const ECONNREFUSED: i32 = 111;
    /// No route to host.
    pub const EHOSTUNREACH: i32 = 113;
    /// Broken pipe.
    pub const EPIPE: i32 = 32;
}

/// How connect() ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectPlan {
    /// Accepted after one round trip and this long.
    #[default]
    Accept,
    /// Accepted late.
    Late(Duration),
    /// RST.
    Refuse,
    /// A router says so, with an entry in the error queue.
    Unreachable(IcmpOrigin),
    /// Nobody answers: ETIMEDOUT in the end.
    Silence,
}

/// A host socket and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SocketPlan {
    /// How connect() ends.
    pub connect: ConnectPlan,
    /// Network and receive buffer at the remote, for what the guest sends.
    pub outward: PipePlan,
    /// Network and receive buffer of the socket, for what the remote sends.
    pub inward: PipePlan,
    /// Send buffer at the start, in bytes of kernel accounting.
    pub sndbuf: u64,
    /// `net.ipv4.tcp_wmem[2]`.
    pub sndbuf_max: u64,
    /// Kernel accounting beyond the payload, in per cent.
    pub overhead: u64,
    /// What the program at the remote does.
    pub app: AppPlan,
    /// The kernel lacks `tcpi_bytes_acked`, `tcpi_delivery_rate` and `tcpi_min_rtt`.
    pub old_info: bool,
}

/// Accounting of a packet besides its payload, in bytes.
const PACKET_OVERHEAD: u64 = 832;
/// Payload of the largest packet the kernel builds for sending.
const PACKET_MAX: u64 = 65_160;

/// What the sockets of a simulation share: the clock, and who has news.
#[derive(Debug, Default)]
pub struct Shared {
    /// The virtual time.
    pub now: Cell<Instant>,
    /// Sockets to be looked at: they were called, or closed.
    pub dirty: RefCell<Vec<usize>>,
    /// A fault of the models that the checks must find.
    pub fault: Cell<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting { until: Instant },
    Established,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    end: u64,
    accounted: u64,
}

/// Socket and remote.
#[derive(Debug)]
pub struct SocketModel {
    /// The flow whose socket it is.
    pub id: FlowId,
    /// Where it connects to, or who connected.
    pub peer: SocketAddr,
    /// What the remote's program does and did.
    pub app: App,
    /// What the guest sent, on its way.
    pub outward: Pipe,
    /// What the remote sent, on its way.
    pub inward: Pipe,
    /// The first thing found wrong.
    pub wrong: Option<String>,
    /// The stack holds it no longer.
    pub closed: bool,
    /// Both ends have seen the end of the connection, or a reset.
    pub finished: bool,
    index: usize,
    plan: SocketPlan,
    state: State,
    to_remote: Pattern,
    to_guest: Pattern,
    packets: VecDeque<Packet>,
    queued: u64,
    sndbuf: u64,
    no_space: bool,
    error: Option<i32>,
    queued_error: Option<SocketError>,
    edge: bool,
    linger_zero: bool,
    mss: u64,
    /// The farthest byte that was ever peeked.
    peeked: u64,
    short: bool,
    connected_here: bool,
}

impl SocketModel {
    /// A socket that starts to connect now.
    pub fn connect(
        index: usize,
        id: FlowId,
        peer: SocketAddr,
        plan: SocketPlan,
        patterns: (Pattern, Pattern),
        now: Instant,
    ) -> Self {
        let rtt = plan.outward.delay + plan.inward.delay;
        let until = now
            + match plan.connect {
                ConnectPlan::Accept | ConnectPlan::Refuse => rtt,
                ConnectPlan::Late(by) => rtt + by,
                ConnectPlan::Unreachable(_) => rtt + Duration::from_secs(1),
                ConnectPlan::Silence => Duration::from_secs(131),
            };
        Self {
            state: State::Connecting { until },
            ..Self::new(index, id, peer, plan, patterns, now)
        }
    }

    /// A socket that accept() returned.
    pub fn accepted(
        index: usize,
        id: FlowId,
        peer: SocketAddr,
        plan: SocketPlan,
        patterns: (Pattern, Pattern),
        now: Instant,
    ) -> Self {
        let mut model = Self::new(index, id, peer, plan, patterns, now);
        model.connected_here = false;
        model.app.start(now);
        model
    }

    fn new(
        index: usize,
        id: FlowId,
        peer: SocketAddr,
        plan: SocketPlan,
        (to_remote, to_guest): (Pattern, Pattern),
        now: Instant,
    ) -> Self {
        Self {
            id,
            peer,
            app: App::new(plan.app, now),
            outward: Pipe::new(plan.outward),
            inward: Pipe::new(plan.inward),
            wrong: None,
            closed: false,
            finished: false,
            index,
            plan,
            state: State::Established,
            to_remote,
            to_guest,
            packets: VecDeque::with_capacity(128),
            queued: 0,
            sndbuf: plan.sndbuf,
            no_space: false,
            error: None,
            queued_error: None,
            edge: true,
            linger_zero: false,
            mss: plan.outward.mss,
            peeked: 0,
            short: false,
            connected_here: true,
        }
    }

    /// Round-trip time to the remote.
    fn rtt(&self) -> Duration {
        self.plan.outward.delay + self.plan.inward.delay
    }

    /// Bytes that were removed from the receive queue: the guest must have acknowledged them.
    pub fn discarded(&self) -> u64 {
        self.inward.read
    }

    /// Bytes the socket took from the stack.
    pub fn taken(&self) -> u64 {
        self.outward.written
    }

    /// The edge to report, if there is one, as epoll would: with everything that holds at this moment.
    pub fn take_edge(&mut self) -> Option<Readiness> {
        if !std::mem::take(&mut self.edge) || self.closed {
            return None;
        }
        let ready = self.readiness();
        (ready != Readiness::default()).then_some(ready)
    }

    /// Whether there is something to report.
    pub fn has_edge(&self) -> bool {
        self.edge && !self.closed
    }

    fn readiness(&mut self) -> Readiness {
        match self.state {
            State::Connecting { .. } => Readiness::default(),
            State::Dead => Readiness {
                readable: true,
                writable: true,
                read_closed: true,
                hang_up: true,
                error: self.error.is_some() || self.queued_error.is_some(),
                urgent: false,
            },
            State::Established => {
                let writable = self.writable() || self.outward.fin_queued;
                self.no_space |= !writable;
                Readiness {
                    readable: self.inward.unread() > 0 || self.inward.fin_received,
                    writable,
                    read_closed: self.inward.fin_received,
                    hang_up: self.inward.fin_received && self.outward.fin_queued,
                    error: self.error.is_some(),
                    urgent: false,
                }
            }
        }
    }

    /// A third of the send buffer is free.
    fn writable(&self) -> bool {
        self.sndbuf.saturating_sub(self.queued) >= self.queued / 2 && self.queued < self.sndbuf
    }

    /// Asks for an edge without a reason, as epoll may.
    pub fn nudge(&mut self) {
        self.edge = true;
    }

    /// Carries out what is due; when to be called again.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Connecting { until } if until > now => return (!self.closed).then_some(until),
            State::Connecting { .. } => self.connect_ends(now),
            State::Established | State::Dead => {}
        }
        if self.state == State::Established {
            self.network(now);
        }
        if self.state == State::Established {
            self.remote_program(now);
        }
        if self.closed && self.state == State::Established {
            let over = self.outward.fin_acked && self.inward.fin_received;
            if over && self.app.done() {
                self.finished = true;
                self.state = State::Dead;
            }
        }
        if self.state == State::Dead {
            // A reset may still be on its way to the remote.
            if self.outward.poll(now).rst && !self.app.done() {
                self.app.failed = true;
            }
            self.finished |= self.app.done();
            return self.outward.next();
        }
        let readable = self.outward.unread() > 0;
        [self.inward.next(), self.outward.next(), self.app.next(now, readable)]
            .into_iter()
            .flatten()
            .min()
    }

    fn connect_ends(&mut self, now: Instant) {
        self.edge = true;
        let fail = |errno| (State::Dead, Some(errno));
        let (state, error) = match self.plan.connect {
            ConnectPlan::Accept | ConnectPlan::Late(_) => {
                self.app.start(now);
                (State::Established, None)
            }
            ConnectPlan::Refuse => fail(errno::ECONNREFUSED),
            ConnectPlan::Unreachable(icmp) => {
                let error = SocketError { errno: errno::EHOSTUNREACH, icmp: Some(icmp) };
                self.queued_error = Some(error);
                fail(errno::EHOSTUNREACH)
            }
            ConnectPlan::Silence => fail(errno::ETIMEDOUT),
        };
        self.state = state;
        self.error = error;
        if error.is_some() {
            self.app.failed = true;
        }
    }

    fn network(&mut self, now: Instant) {
        let inward = self.inward.poll(now);
        if inward.data || inward.fin {
            self.edge = true;
            if self.closed && inward.data {
                // Nobody is left to read it.
                return self.die(now, None, true);
            }
        }
        if inward.rst {
            return self.die(now, Some(errno::ECONNRESET), false);
        }
        let outward = self.outward.poll(now);
        if outward.ack {
            self.free(now);
        }
        if outward.fin_acked {
            self.edge = true;
        }
        if outward.rst {
            self.app.failed = true;
            self.state = State::Dead;
        }
    }

    /// The end of the connection at our side; `tell`: the remote gets a reset.
    fn die(&mut self, now: Instant, error: Option<i32>, tell: bool) {
        self.state = State::Dead;
        self.error = error;
        self.edge = true;
        self.packets.clear();
        self.queued = 0;
        if tell {
            self.outward.reset(now);
        }
    }

    fn free(&mut self, now: Instant) {
        while self.packets.front().is_some_and(|packet| packet.end <= self.outward.acked) {
            if let Some(packet) = self.packets.pop_front() {
                self.queued -= packet.accounted;
            }
        }
        if !self.no_space {
            return;
        }
        // tcp_check_space(): a writer waits, so the buffer may grow to twice the congestion window.
        let target = 2 * self.outward.cwnd * (100 + self.plan.overhead) / 100;
        self.sndbuf = self.sndbuf.max(target.min(self.plan.sndbuf_max));
        if self.writable() {
            self.no_space = false;
            self.edge = true;
        }
        self.outward.pump(now);
    }

    fn remote_program(&mut self, now: Instant) {
        let take = self.app.may_read(now).min(self.outward.unread());
        if take > 0 {
            self.outward.take(take, now);
            self.app.read += take;
        }
        if self.outward.fin_received && self.outward.unread() == 0 {
            self.app.peer_closed = true;
        }
        // The remote's own send buffer: a megabyte ahead of what has arrived.
        let room = (1 << 20) - (self.inward.written - self.inward.acked).min(1 << 20);
        let write = self.app.may_write(now).min(room);
        self.inward.written += write;
        self.app.written += write;
        if self.app.wants_reset() {
            self.inward.pump(now);
            self.inward.reset(now);
            self.app.reset = true;
        } else if self.app.wants_close() {
            self.inward.fin_queued = true;
            self.app.closed = true;
        }
        self.inward.pump(now);
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    /// Takes what fits of `data`; the bytes must be those that come next.
    fn take(&mut self, data: &[u8]) -> usize {
        let mut taken = 0;
        while taken < data.len() {
            let goal = PACKET_MAX.min(self.plan.outward.buffer / 2).max(self.mss);
            let unsent = self.packets.back().filter(|packet| packet.end > self.outward.sent);
            let start = self.packets.len().checked_sub(2).map_or(self.outward.acked, |before| {
                self.packets.get(before).map_or(0, |packet| packet.end)
            });
            let room = unsent.map_or(0, |packet| goal.saturating_sub(packet.end - start));
            if self.queued >= self.sndbuf {
                break;
            }
            let rest = (data.len() - taken) as u64;
            let n = if room > 0 { rest.min(room) } else { rest.min(goal) };
            let mut accounted = n * (100 + self.plan.overhead) / 100;
            let piece = &data[taken..taken + n as usize];
            if let Some(at) = self.to_remote.mismatch(self.outward.written, piece) {
                let position = self.outward.written;
                self.wrong(|| {
                    format!("the socket was given wrong bytes: byte {at}, sent at {position}")
                });
            }
            self.outward.written += n;
            if room > 0 {
                if let Some(last) = self.packets.back_mut() {
                    last.end += n;
                    last.accounted += accounted;
                }
            } else {
                accounted += PACKET_OVERHEAD;
                self.packets.push_back(Packet { end: self.outward.written, accounted });
            }
            self.queued += accounted;
            taken += n as usize;
        }
        taken
    }
}

#[cfg(test)]
mod tests;

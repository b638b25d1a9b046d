//! A guest that behaves as Linux does where it matters to its peer: SACK both ways, timestamps, window
//! scaling, superframes, delayed acknowledgements, a minimum timeout of 200 ms, a receive buffer that
//! accounts with overhead, drops what it has no room for and may shrink its window.

mod conn;
mod receiver;
mod sender;

use std::collections::HashMap;
use std::net::SocketAddr;

use wire::ethernet::MacAddr;
use wire::tcp::TcpFlags;
use wire::tcp_option::TcpOptions;

use self::conn::Conn;
use super::app::App;
use super::guest::{GuestFlow, GuestStack, Outbox};
use super::packet::{Frame, TcpOut, TcpView};
use super::rng::Rng;
use super::schedule::Schedule;
use crate::time::Instant;

/// How the guest behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxPlan {
    /// Receive buffer at the start, in bytes of accounting; half of it is offered as a window.
    pub buffer: u64,
    /// Receive buffer at most.
    pub buffer_max: u64,
    /// Accounting beyond the payload, in per cent: above 100, the window promises more than there is.
    pub overhead: u64,
    /// Bytes written and not acknowledged at most.
    pub send_buffer: u64,
    /// Under pressure, the window goes to zero whatever was advertised (Linux from 6.9 on).
    pub shrinks: bool,
    /// Window scale to offer.
    pub shift: Option<u8>,
    /// Offers SACK.
    pub sack: bool,
    /// Offers timestamps.
    pub timestamps: bool,
    /// MSS to announce.
    pub mss: u16,
    /// Payload of the largest frame sent, in bytes; the MSS, if the link takes no superframes.
    pub superframe: u64,
    /// Window probes carry a byte; otherwise they repeat the last sequence number.
    pub probe_data: bool,
}

/// The guest.
#[derive(Debug)]
pub struct LinuxGuest {
    plan: LinuxPlan,
    macs: (MacAddr, MacAddr),
    conns: Vec<Conn>,
    by_pair: HashMap<(SocketAddr, SocketAddr), usize>,
    by_number: HashMap<u64, usize>,
    schedule: Schedule<usize>,
    rng: Rng,
    wrong: Option<String>,
}

impl LinuxGuest {
    /// A guest with these addresses on the link: its own, the stack's.
    pub fn new(plan: LinuxPlan, macs: (MacAddr, MacAddr), rng: Rng) -> Self {
        Self {
            plan,
            macs,
            conns: Vec::new(),
            by_pair: HashMap::new(),
            by_number: HashMap::new(),
            schedule: Schedule::new(),
            rng,
            wrong: None,
        }
    }

    fn work(&mut self, index: usize, now: Instant, out: &mut Outbox) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.output(now, out);
        if let Some(what) = conn.wrong.take() {
            self.wrong.get_or_insert(what);
        }
        if let Some(next) = conn.next(now) {
            let next = next.max(now);
            if conn.armed.is_none_or(|armed| next < armed || armed < now) {
                conn.armed = Some(next);
                self.schedule.push(next, index);
            }
        }
    }

    /// A segment for no connection (RFC 9293 3.10.7.1).
    fn refuse(&self, view: &TcpView<'_>, out: &mut Outbox) {
        if view.has(TcpFlags::RST) {
            return;
        }
        let carried = u32::from(view.has(TcpFlags::SYN)) + u32::from(view.has(TcpFlags::FIN));
        let len = view.payload.len() as u32 + carried;
        let acks = view.has(TcpFlags::ACK);
        let reset = TcpOut {
            macs: self.macs,
            src: view.dst,
            dst: view.src,
            seq: if acks { view.header.ack.get() } else { 0 },
            ack: if acks { 0 } else { view.header.seq.get().wrapping_add(len) },
            flags: if acks { TcpFlags::RST } else { TcpFlags::RST | TcpFlags::ACK },
            window: 0,
            options: TcpOptions::default(),
        };
        let mut data = out.buffer();
        reset.build(&mut data, 0, |_| {});
        out.frames.push(Frame { data, ..Frame::default() });
    }
}

impl GuestStack for LinuxGuest {
    fn open(&mut self, flow: GuestFlow, now: Instant) {
        let iss = self.rng.next_u64() as u32;
        let index = self.conns.len();
        self.by_pair.insert((flow.local, flow.peer), index);
        self.by_number.insert(flow.n, index);
        self.conns.push(Conn::new(flow, self.plan, self.macs, iss, now));
        self.schedule.push(now, index);
    }

    fn receive(&mut self, frame: &Frame, now: Instant, out: &mut Outbox) {
        let Some(view) = TcpView::parse(&frame.data) else { return };
        if !view.checksum_ok {
            self.wrong.get_or_insert_with(|| "a checksum is wrong".into());
            return;
        }
        let Some(&index) = self.by_pair.get(&(view.dst, view.src)) else {
            return self.refuse(&view, out);
        };
        if self.conns[index].app.done() && self.conns[index].sender.timer.is_none() {
            // A closed connection of Linux is gone, unless it waits out the end.
            if self.conns[index].app.reset || self.conns[index].app.failed {
                return self.refuse(&view, out);
            }
        }
        self.conns[index].segment(&view, now);
        self.work(index, now, out);
    }

    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant> {
        while let Some(index) = self.schedule.pop(now) {
            self.conns[index].armed.take_if(|at| *at <= now);
            self.work(index, now, out);
        }
        self.schedule.next()
    }

    fn app(&self, n: u64) -> Option<&App> {
        self.by_number.get(&n).and_then(|&index| self.conns.get(index)).map(|conn| &conn.app)
    }

    fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    fn dropped(&self) -> u64 {
        self.conns.iter().map(|conn| conn.receiver.dropped).sum()
    }

    fn timeouts(&self) -> u64 {
        self.conns.iter().map(|conn| conn.sender.timeouts).sum()
    }
}

//! One connection of the Linux-like guest.

use std::time::Duration;

use wire::ethernet::MacAddr;
use wire::tcp::TcpFlags;
use wire::tcp_option::{MAX_WINDOW_SCALE, TcpOptions};

use super::LinuxPlan;
use super::receiver::{Answer, Receiver};
use super::sender::{Alarm, Sender};
use crate::io::Gso;
use crate::sim::app::App;
use crate::sim::guest::{GuestFlow, Outbox};
use crate::sim::host::patterns;
use crate::sim::packet::{Frame, TcpOut, TcpView};
use crate::sim::pattern::Pattern;
use crate::time::Instant;

const DELAYED_ACK: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
    /// Reset, by either side.
    Closed,
}

/// A connection: two halves, the program, and what was agreed.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) flow: GuestFlow,
    pub(super) app: App,
    pub(super) wrong: Option<String>,
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
    /// Earliest entry in the guest's schedule.
    pub(super) armed: Option<Instant>,
    plan: LinuxPlan,
    macs: (MacAddr, MacAddr),
    pattern: Pattern,
    state: State,
    iss: u32,
    irs: u32,
    shift_in: u8,
    shift_out: u8,
    sack: bool,
    ts_recent: Option<u32>,
    ack_at: Option<Instant>,
    /// Acknowledgements owed: each segment out of order deserves its own.
    owed: u32,
    syn_at: Instant,
}

fn millis(now: Instant) -> u32 {
    now.millis() as u32
}

/// Position of `seq` in the stream that began with `iss`, near `near`.
fn position(iss: u32, seq: u32, near: u64) -> Option<u64> {
    let offset = seq.wrapping_sub(iss.wrapping_add(near as u32)) as i32;
    near.checked_add_signed(i64::from(offset))
}

impl Conn {
    pub(super) fn new(
        flow: GuestFlow,
        plan: LinuxPlan,
        macs: (MacAddr, MacAddr),
        iss: u32,
        now: Instant,
    ) -> Self {
        let (out, incoming) = patterns(flow.n);
        Self {
            flow,
            app: App::new(flow.app, now),
            wrong: None,
            receiver: Receiver::new(&plan, incoming),
            sender: Sender::new(),
            armed: None,
            plan,
            macs,
            pattern: out,
            state: if flow.active { State::SynSent } else { State::Listen },
            iss,
            irs: 0,
            shift_in: 0,
            shift_out: 0,
            sack: false,
            ts_recent: None,
            ack_at: None,
            owed: 0,
            syn_at: now,
        }
    }

    /// When something is due.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let app = match self.state {
            State::Established => self.app.next(now, self.receiver.unread() > 0),
            State::Listen | State::SynSent | State::SynReceived | State::Closed => None,
        };
        [self.sender.timer, self.ack_at, app].into_iter().flatten().min()
    }

    /// Takes a segment.
    pub(super) fn segment(&mut self, view: &TcpView<'_>, now: Instant) {
        match self.state {
            State::Listen | State::SynSent | State::SynReceived => self.handshake(view, now),
            State::Established => self.established(view, now),
            State::Closed => {}
        }
    }

    fn handshake(&mut self, view: &TcpView<'_>, now: Instant) {
        let acks = view.has(TcpFlags::ACK) && view.header.ack.get() == self.iss.wrapping_add(1);
        if view.has(TcpFlags::RST) {
            if acks || self.state == State::SynReceived {
                self.fail();
            }
            return;
        }
        if view.has(TcpFlags::SYN) {
            if self.state == State::SynSent && !acks {
                return;
            }
            self.irs = view.header.seq.get();
            let options = &view.options;
            if let (Some(ours), Some(theirs)) = (self.plan.shift, options.window_scale) {
                self.shift_in = ours;
                self.shift_out = theirs.min(MAX_WINDOW_SCALE);
            }
            self.sack = self.plan.sack && options.sack_permitted;
            self.ts_recent =
                options.timestamps.filter(|_| self.plan.timestamps).map(|(value, _)| value);
            let overhead = if self.ts_recent.is_some() { 12 } else { 0 };
            let mss = options.mss.unwrap_or(536).min(self.plan.mss);
            self.sender.mss = u64::from(mss.saturating_sub(overhead).max(48));
            if self.state != State::SynSent {
                self.state = State::SynReceived;
                self.sender.wnd = u64::from(view.header.window.get());
                self.sender.timer = Some(now);
                return;
            }
            let window = u64::from(view.header.window.get());
            self.establish(window, now);
            self.owed = 1;
        } else if self.state == State::SynReceived && acks {
            let window = u64::from(view.header.window.get()) << self.shift_out;
            self.establish(window, now);
            self.established(view, now);
        }
    }

    fn establish(&mut self, window: u64, now: Instant) {
        self.state = State::Established;
        self.sender.sack = self.sack;
        let mss = self.sender.mss;
        self.sender.sample(now.since(self.syn_at));
        self.sender.start(mss, self.plan.superframe, window);
        self.app.start(now);
    }

    fn established(&mut self, view: &TcpView<'_>, now: Instant) {
        let header = view.header;
        let Some(at) = position(self.irs, header.seq.get(), self.receiver.nxt) else { return };
        if view.has(TcpFlags::RST) {
            if self.receiver.closed() && self.sender.all_sent() {
                // Nothing is left to be said; what the socket holds can still be read.
                self.sender.stop();
            } else if at == self.receiver.nxt {
                self.fail();
            } else if at > self.receiver.nxt {
                self.owed = self.owed.max(1);
            }
            return;
        }
        if view.has(TcpFlags::SYN) {
            self.owed = self.owed.max(1);
            return;
        }
        if let (Some(recent), Some((value, _))) = (self.ts_recent, view.options.timestamps) {
            if (value.wrapping_sub(recent) as i32) < 0 && !view.payload.is_empty() {
                // PAWS (RFC 7323 5.3).
                self.owed = self.owed.max(1);
                return;
            }
            if at <= self.receiver.nxt && (value.wrapping_sub(recent) as i32) > 0 {
                self.ts_recent = Some(value);
            }
        }
        self.acknowledged(view, at, now);
        let fin = view.has(TcpFlags::FIN);
        match self.receiver.segment(at, view.payload, fin, self.sender.mss) {
            Err(what) => self.wrong = Some(what),
            Ok(Answer::Now) => self.owed += 1,
            Ok(Answer::Delayed) if view.payload.is_empty() => {}
            Ok(Answer::Delayed) => {
                self.ack_at = self.ack_at.or(Some(now + DELAYED_ACK));
            }
        }
    }

    fn acknowledged(&mut self, view: &TcpView<'_>, at: u64, now: Instant) {
        let header = view.header;
        let near = self.sender.una;
        let Some(ack) = position(self.iss, header.ack.get(), near) else { return };
        if !view.has(TcpFlags::ACK) {
            return;
        }
        let mut blocks = [(0, 0); 4];
        let mut count = 0;
        for &(left, right) in view.options.sack_blocks() {
            let pair = (position(self.iss, left, near), position(self.iss, right, near));
            if let (Some(left), Some(right)) = pair {
                blocks[count] = (left, right);
                count += 1;
            }
        }
        let carries = !view.payload.is_empty() || view.has(TcpFlags::FIN);
        let window = u64::from(header.window.get()) << self.shift_out;
        if let Some((_, echo)) = view.options.timestamps.filter(|_| ack > near) {
            let rtt = millis(now).wrapping_sub(echo);
            if rtt < 100_000 {
                self.sender.sample(Duration::from_millis(u64::from(rtt)));
            }
        }
        self.sender.ack(ack, window, at, carries, &blocks[..count], now);
    }

    fn fail(&mut self) {
        self.state = State::Closed;
        self.app.failed |= !self.app.done();
        self.sender.timer = None;
        self.ack_at = None;
        self.owed = 0;
    }

    /// Lets the program work, and sends what may be sent.
    pub(super) fn output(&mut self, now: Instant, out: &mut Outbox) {
        match self.state {
            State::Listen | State::Closed => return,
            State::SynSent | State::SynReceived => return self.send_syn(now, out),
            State::Established => {}
        }
        self.program(now);
        if self.app.wants_reset() {
            self.app.reset = true;
            self.emit(now, out, self.sender.nxt, 0, TcpFlags::RST | TcpFlags::ACK);
            return self.fail();
        }
        match self.sender.alarm(now) {
            Alarm::None | Alarm::Retransmit => {}
            Alarm::Probe if self.plan.probe_data && self.sender.nxt < self.sender.end => {
                self.sender.probed = self.sender.nxt + 1;
                self.emit(now, out, self.sender.nxt, 1, TcpFlags::ACK);
            }
            Alarm::Probe => {
                let before = self.sender.una - 1;
                self.emit(now, out, before, 0, TcpFlags::ACK);
            }
        }
        while let Some(piece) = self.sender.next(now) {
            let mut flags = TcpFlags::ACK;
            if piece.fin {
                flags |= TcpFlags::FIN;
            }
            if piece.push {
                flags |= TcpFlags::PSH;
            }
            self.emit(now, out, piece.start, piece.len, flags);
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.owed = self.owed.max(1);
        }
        // Duplicates are told one by one, so that the other side can count them.
        for _ in 0..std::mem::take(&mut self.owed) {
            self.emit(now, out, self.sender.nxt, 0, TcpFlags::ACK);
        }
    }

    fn program(&mut self, now: Instant) {
        let n = self.app.may_read(now).min(self.receiver.unread());
        if n > 0 {
            self.app.read += n;
            if self.receiver.take(n, self.sender.mss) {
                self.owed = self.owed.max(1);
            }
        }
        if self.receiver.closed() && self.receiver.unread() == 0 {
            self.app.peer_closed = true;
        }
        let waiting = self.sender.end - self.sender.una.min(self.sender.end);
        let n = self.app.may_write(now).min(self.plan.send_buffer.saturating_sub(waiting));
        self.app.written += n;
        self.sender.end += n;
        if self.app.wants_close() {
            self.app.closed = true;
            self.sender.fin = true;
        }
    }

    fn send_syn(&mut self, now: Instant, out: &mut Outbox) {
        if self.sender.timer.is_some_and(|at| at > now) {
            return;
        }
        if self.sender.timer.is_none() && self.state == State::SynReceived {
            return;
        }
        let first = self.sender.timer.is_none() || self.state == State::SynReceived;
        if first {
            self.syn_at = now;
        }
        let _ = self.sender.alarm(now);
        self.sender.timer = Some(now + self.sender.rto());
        let answer =
            if self.state == State::SynReceived { TcpFlags::ACK } else { TcpFlags::empty() };
        let flags = TcpFlags::SYN | answer;
        self.emit(now, out, 0, 0, flags);
    }

    fn emit(&mut self, now: Instant, out: &mut Outbox, start: u64, len: u64, flags: TcpFlags) {
        let syn = flags.intersects(TcpFlags::SYN);
        let answer = flags.intersects(TcpFlags::ACK);
        let mut options = TcpOptions::default();
        let window = if syn {
            let offered = |agreed: bool| !answer || agreed;
            options.mss = Some(self.plan.mss);
            options.sack_permitted = self.plan.sack && offered(self.sack);
            options.window_scale = self.plan.shift.filter(|_| offered(self.shift_in > 0));
            let value = (millis(now), self.ts_recent.unwrap_or(0));
            let wanted = self.plan.timestamps && offered(self.ts_recent.is_some());
            options.timestamps = wanted.then_some(value);
            self.receiver.window(0, u64::from(self.plan.mss))
        } else {
            options.timestamps = self.ts_recent.map(|recent| (millis(now), recent));
            if self.sack {
                let irs = self.irs;
                self.receiver.sack_blocks(|left, right| {
                    let seq = |at: u64| irs.wrapping_add(at as u32);
                    options.push_sack(seq(left), seq(right))
                });
            }
            self.receiver.window(self.shift_in, self.sender.mss)
        };
        self.ack_at = None;
        if !syn && len > 0 {
            self.owed = 0;
        }
        let segment = TcpOut {
            macs: self.macs,
            src: self.flow.local,
            dst: self.flow.peer,
            seq: self.iss.wrapping_add(start as u32),
            ack: if answer { self.irs.wrapping_add(self.receiver.nxt as u32) } else { 0 },
            flags,
            window,
            options,
        };
        let mut data = out.buffer();
        let pattern = self.pattern;
        segment.build(&mut data, len as usize, |buf| pattern.fill(start.saturating_sub(1), buf));
        let mss = self.sender.mss;
        let gso = if len > mss { Gso::Tcp(mss as u16) } else { Gso::None };
        out.frames.push(Frame { data, gso });
    }
}

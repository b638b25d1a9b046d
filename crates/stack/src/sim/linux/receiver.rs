//! The receiving half: a buffer that accounts with overhead, may drop, and may shrink its window.

use std::collections::VecDeque;

use super::LinuxPlan;
use crate::sim::pattern::Pattern;
use crate::sim::ranges::Ranges;

/// What is to be done about an arriving segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Acknowledge at once.
    Now,
    /// Acknowledge with the next segment or soon.
    Delayed,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    end: u64,
    truesize: u64,
}

/// Positions count from the SYN, which is position 0.
#[derive(Debug)]
pub(super) struct Receiver {
    pattern: Pattern,
    overhead: u64,
    shrinks: bool,
    /// Next position expected.
    pub(super) nxt: u64,
    later: Ranges,
    recent: (u64, u64),
    unordered: Vec<Piece>,
    queue: VecDeque<Piece>,
    used: u64,
    buffer: u64,
    buffer_max: u64,
    grown_at: u64,
    /// Everything before was read by the program.
    pub(super) read: u64,
    /// Right edge of the window last advertised.
    edge: u64,
    /// Position of the FIN.
    pub(super) fin: Option<u64>,
    pressed: bool,
    /// Segments dropped for want of room.
    pub(super) dropped: u64,
    /// Segments that arrived in order.
    accepted: u64,
    unacked: u64,
}

impl Receiver {
    pub(super) fn new(plan: &LinuxPlan, pattern: Pattern) -> Self {
        Self {
            pattern,
            overhead: plan.overhead,
            shrinks: plan.shrinks,
            nxt: 1,
            later: Ranges::default(),
            recent: (0, 0),
            unordered: Vec::with_capacity(16),
            queue: VecDeque::with_capacity(64),
            used: 0,
            buffer: plan.buffer,
            buffer_max: plan.buffer_max,
            grown_at: 1,
            read: 1,
            edge: 1,
            fin: None,
            pressed: false,
            dropped: 0,
            accepted: 0,
            unacked: 0,
        }
    }

    /// Bytes that can be read.
    pub(super) fn unread(&self) -> u64 {
        let fin = u64::from(self.closed());
        self.nxt - fin - self.read
    }

    /// FIN and everything before it have arrived.
    pub(super) fn closed(&self) -> bool {
        self.fin.is_some_and(|fin| fin < self.nxt)
    }

    /// Half of what is free is offered: the other half is for overhead (`tcp_win_from_space`).
    fn room(&self) -> u64 {
        self.buffer.saturating_sub(self.used) / 2
    }

    /// The window field to send, with `shift`; remembers the edge.
    pub(super) fn window(&mut self, shift: u8, mss: u64) -> u16 {
        self.unacked = 0;
        if self.pressed && self.shrinks {
            return 0;
        }
        let unit = 1u64 << shift;
        let room = self.room();
        // Silly windows are avoided (RFC 9293 3.8.6.2.2).
        if room >= mss.min(self.buffer / 4) {
            self.edge = self.edge.max(self.nxt + room / unit * unit);
        }
        let field = self.edge.saturating_sub(self.nxt).div_ceil(unit).min(65_535);
        self.edge = self.nxt + field * unit;
        field as u16
    }

    /// Takes the payload at `start`; an error is a wrong byte.
    pub(super) fn segment(
        &mut self,
        start: u64,
        payload: &[u8],
        fin: bool,
        mss: u64,
    ) -> Result<Answer, String> {
        let end = start + payload.len() as u64;
        if start > 0 && !payload.is_empty() {
            if let Some(at) = self.pattern.mismatch(start - 1, payload) {
                return Err(format!("the guest received a wrong byte {at}, in {start}..{end}"));
            }
        }
        if fin {
            if self.fin.is_some_and(|at| at != end) {
                return Err(format!("FIN at {end}, and before at {:?}", self.fin));
            }
            if end <= self.nxt.max(self.edge) {
                self.fin = Some(end);
            }
        }
        if payload.is_empty() && !fin {
            // A keep-alive or probe has an old sequence number.
            return Ok(if start < self.nxt { Answer::Now } else { Answer::Delayed });
        }
        let edge = if self.pressed && self.shrinks { self.nxt } else { self.edge };
        if end + u64::from(fin) <= self.nxt || (end > edge && !payload.is_empty()) {
            return Ok(Answer::Now);
        }
        let truesize = 832 + payload.len() as u64 * (100 + self.overhead) / 100;
        if start <= self.nxt && self.used > self.buffer {
            self.prune();
        }
        if !payload.is_empty() && self.used > self.buffer {
            self.dropped += 1;
            self.pressed |= start <= self.nxt;
            return Ok(Answer::Now);
        }
        let piece = Piece { start: start.max(self.nxt), end, truesize };
        if !payload.is_empty() {
            if start > self.nxt && self.later.contains(piece.start, piece.end) {
                return Ok(Answer::Now);
            }
            self.used += truesize;
        }
        if start > self.nxt {
            self.later.insert(piece.start, piece.end);
            self.recent = (piece.start, piece.end);
            self.unordered.push(piece);
            return Ok(Answer::Now);
        }
        let gap = !self.later.is_empty();
        if !payload.is_empty() {
            self.queue.push_back(piece);
        }
        let before = self.nxt;
        self.nxt = self.later.end_of(end.max(self.nxt));
        self.later.forget_below(self.nxt);
        self.order();
        if self.fin == Some(self.nxt) {
            self.nxt += 1;
            return Ok(Answer::Now);
        }
        self.unacked += self.nxt - before;
        self.accepted += 1;
        let now = gap || self.unacked > mss || self.accepted <= 16;
        Ok(if now { Answer::Now } else { Answer::Delayed })
    }

    /// Gives up what is out of order, SACKed or not (`tcp_prune_ofo_queue`).
    fn prune(&mut self) {
        self.dropped += self.unordered.len() as u64;
        let freed: u64 = self.unordered.iter().map(|piece| piece.truesize).sum();
        self.used = self.used.saturating_sub(freed);
        self.unordered.clear();
        self.later.clear();
    }

    /// What has come into order moves into the queue.
    fn order(&mut self) {
        if self.unordered.is_empty() {
            return;
        }
        self.unordered.sort_by_key(|piece| piece.start);
        let ordered = self.unordered.iter().take_while(|piece| piece.start < self.nxt).count();
        self.queue.extend(self.unordered.drain(..ordered));
    }

    /// The program reads `n` bytes; whether the guest should tell that its window has opened.
    pub(super) fn take(&mut self, n: u64, mss: u64) -> bool {
        self.read += n;
        while self.queue.front().is_some_and(|piece| piece.end <= self.read) {
            if let Some(piece) = self.queue.pop_front() {
                self.used = self.used.saturating_sub(piece.truesize);
            }
        }
        if self.read - self.grown_at >= self.buffer / 4 && self.buffer < self.buffer_max {
            self.grown_at = self.read;
            self.buffer = (self.buffer * 2).min(self.buffer_max);
        }
        let was_pressed = self.pressed;
        if self.used <= self.buffer / 2 {
            self.pressed = false;
        }
        let offered = self.edge.saturating_sub(self.nxt);
        let news = self.room() >= 2 * offered && self.room() >= mss.min(self.buffer / 4);
        (news || (was_pressed && !self.pressed)) && self.fin.is_none()
    }

    /// SACK blocks, the latest first (RFC 2018 4).
    pub(super) fn sack_blocks(&self, mut push: impl FnMut(u64, u64) -> bool) {
        let first = self.later.iter().find(|&(s, e)| s <= self.recent.0 && self.recent.1 <= e);
        if let Some((start, end)) = first {
            push(start, end);
        }
        for (start, end) in self.later.iter().filter(|block| Some(*block) != first) {
            if !push(start, end) {
                return;
            }
        }
    }
}

//! The sending half: slow start, fast retransmission by SACK or duplicates, timeouts, probes.

use std::time::Duration;

use crate::sim::ranges::Ranges;
use crate::time::Instant;

const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_secs(120);

/// A piece of the stream to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    /// Payload bytes.
    pub(super) len: u64,
    pub(super) fin: bool,
    pub(super) push: bool,
}

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    None,
    Retransmit,
    Probe,
}

/// Positions count from the SYN, which is position 0.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) una: u64,
    pub(super) nxt: u64,
    /// Position behind the last byte the program wrote.
    pub(super) end: u64,
    pub(super) fin: bool,
    pub(super) wnd: u64,
    max_wnd: u64,
    wl1: u64,
    pub(super) mss: u64,
    /// Duplicates count only with SACK blocks.
    pub(super) sack: bool,
    /// Largest frame's payload.
    pub(super) superframe: u64,
    cwnd: u64,
    ssthresh: u64,
    sacked: Ranges,
    /// What is below, not SACKed and not sent again yet, is lost.
    lost: u64,
    again: u64,
    recover: Option<u64>,
    dups: u32,
    srtt: Option<Duration>,
    var: Duration,
    pub(super) timer: Option<Instant>,
    backoff: u32,
    timed: Option<(u64, Instant)>,
    pub(super) timeouts: u64,
    /// Position behind a byte that probed a closed window: it may be acknowledged, but counts as unsent.
    pub(super) probed: u64,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            una: 0,
            nxt: 0,
            end: 1,
            fin: false,
            wnd: 0,
            max_wnd: 0,
            wl1: 0,
            mss: 536,
            sack: false,
            superframe: 536,
            cwnd: 0,
            ssthresh: u64::MAX,
            sacked: Ranges::default(),
            lost: 0,
            again: 0,
            recover: None,
            dups: 0,
            srtt: None,
            var: Duration::ZERO,
            timer: None,
            backoff: 0,
            timed: None,
            timeouts: 0,
            probed: 0,
        }
    }

    /// The connection is made; the peer's segment with `window` had position `at`.
    pub(super) fn start(&mut self, mss: u64, superframe: u64, window: u64) {
        self.una = 1;
        self.nxt = 1;
        self.lost = 1;
        self.again = 1;
        self.mss = mss;
        self.superframe = superframe.max(mss) / mss * mss;
        self.cwnd = 10 * mss;
        self.wnd = window;
        self.max_wnd = window;
        self.timer = None;
        self.backoff = 0;
    }

    /// End of the stream, FIN included.
    fn limit(&self) -> u64 {
        self.end + u64::from(self.fin)
    }

    /// FIN and all before it were sent.
    pub(super) fn all_sent(&self) -> bool {
        self.fin && self.nxt == self.limit()
    }

    /// Takes everything as acknowledged.
    pub(super) fn stop(&mut self) {
        self.una = self.nxt;
        self.timer = None;
    }

    pub(super) fn rto(&self) -> Duration {
        let base = match self.srtt {
            Some(srtt) => srtt + (4 * self.var).max(MIN_RTO),
            None => Duration::from_secs(1),
        };
        (base * 2u32.pow(self.backoff.min(10))).min(MAX_RTO)
    }

    pub(super) fn sample(&mut self, rtt: Duration) {
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.var = rtt / 2;
            }
            Some(srtt) => {
                self.var = (3 * self.var + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * srtt + rtt) / 8);
            }
        }
    }

    /// An acknowledgement. `at`: position of its segment; `len`: whether that carried anything.
    pub(super) fn ack(
        &mut self,
        ack: u64,
        window: u64,
        at: u64,
        len: bool,
        blocks: &[(u64, u64)],
        now: Instant,
    ) {
        if ack > self.nxt.max(self.probed) || ack < self.una {
            return;
        }
        self.nxt = self.nxt.max(ack);
        for &(left, right) in blocks.iter().filter(|block| block.0 >= ack && block.1 <= self.nxt) {
            self.sacked.insert(left, right);
        }
        let in_flight = self.nxt - self.una;
        let duplicate = ack == self.una && !len && window == self.wnd && in_flight > 0;
        if at >= self.wl1 || ack > self.una {
            self.wl1 = at;
            let reopened = self.wnd == 0 && window > 0;
            self.wnd = window;
            self.max_wnd = self.max_wnd.max(window);
            if reopened && in_flight == 0 {
                self.timer = None;
                self.backoff = 0;
            }
        }
        if ack > self.una {
            self.progress(ack, now);
        } else if duplicate && (!self.sack || !blocks.is_empty()) {
            self.dups += 1;
        }
        let reach = self.sacked.highest().map_or(0, |high| high.saturating_sub(3 * self.mss));
        let first = if self.dups >= 3 { (self.una + self.mss).min(self.nxt) } else { 0 };
        let lost = reach.max(first);
        if lost > self.una.max(self.lost) {
            if self.recover.is_none() {
                self.recover = Some(self.nxt);
                self.ssthresh = (in_flight / 2).max(2 * self.mss);
                self.cwnd = self.ssthresh;
                self.again = self.una;
            }
            self.lost = lost;
        }
    }

    fn progress(&mut self, ack: u64, now: Instant) {
        let fresh = ack - self.una;
        self.una = ack;
        self.dups = 0;
        self.backoff = 0;
        self.sacked.forget_below(ack);
        self.again = self.again.max(ack);
        self.lost = self.lost.max(ack);
        if let Some((_, since)) = self.timed.take_if(|(end, _)| *end <= ack) {
            self.sample(now.since(since));
        }
        match self.recover {
            Some(recover) if ack >= recover => self.recover = None,
            // NewReno (RFC 6582): what follows a partial acknowledgement is lost too.
            Some(_) if self.sacked.is_empty() => {
                self.lost = self.lost.max((ack + self.mss).min(self.nxt));
            }
            Some(_) | None => {}
        }
        if self.cwnd < self.ssthresh {
            self.cwnd += fresh;
        } else {
            self.cwnd += (self.mss * fresh / self.cwnd).max(1);
        }
        self.cwnd = self.cwnd.min(16 << 20);
        self.timer = (self.una < self.nxt).then(|| now + self.rto());
    }

    /// The next piece to send, if there is one that may be sent.
    pub(super) fn next(&mut self, now: Instant) -> Option<Piece> {
        let piece = self.retransmission().or_else(|| self.fresh(now))?;
        if self.timer.is_none() {
            self.timer = Some(now + self.rto());
        }
        Some(piece)
    }

    fn retransmission(&mut self) -> Option<Piece> {
        loop {
            self.again = self.again.max(self.una);
            if self.again >= self.lost.min(self.nxt) {
                return None;
            }
            let after = self.sacked.end_of(self.again);
            if after > self.again {
                self.again = after;
                continue;
            }
            let hole = self.sacked.iter().map(|(start, _)| start).find(|&start| start > self.again);
            let stop = hole.unwrap_or(self.nxt).min(self.lost).min(self.nxt);
            let waiting = self.lost.saturating_sub(self.again);
            let pipe = (self.nxt - self.una).saturating_sub(self.sacked.len() + waiting);
            let stop = stop.min(self.again + self.mss);
            if pipe > 0 && pipe + (stop - self.again) > self.cwnd {
                return None;
            }
            self.timed = None;
            let piece = self.piece(self.again, stop);
            self.again = stop;
            return Some(piece);
        }
    }

    fn fresh(&mut self, now: Instant) -> Option<Piece> {
        let limit = self.limit();
        let in_flight = (self.nxt - self.una).saturating_sub(self.sacked.len());
        if self.nxt >= limit {
            return None;
        }
        let room = (self.una + self.wnd).saturating_sub(self.nxt);
        let room = room.min(self.cwnd.saturating_sub(in_flight));
        let rest = self.end.saturating_sub(self.nxt);
        let mut len = rest.min(room).min(self.superframe);
        if len > self.mss {
            // Whole segments, except at the end.
            len = if len == rest { len } else { len / self.mss * self.mss };
        }
        let silly = len < self.mss && len < rest && len < self.max_wnd / 2;
        if rest > 0 && (len == 0 || (silly && (in_flight > 0 || self.wnd == 0))) {
            if self.una == self.nxt && self.timer.is_none() {
                self.timer = Some(now + self.rto());
            }
            return None;
        }
        // A lone FIN fits any window.
        let fin = self.fin && self.nxt + len == self.end;
        let start = self.nxt;
        self.nxt += len + u64::from(fin);
        self.timed = self.timed.or(Some((self.nxt, now)));
        Some(self.piece(start, self.nxt))
    }

    fn piece(&self, start: u64, stop: u64) -> Piece {
        let fin = stop > self.end;
        Piece { start, len: stop - u64::from(fin) - start, fin, push: stop >= self.end }
    }

    /// The timer, if it has fired.
    pub(super) fn alarm(&mut self, now: Instant) -> Alarm {
        if self.timer.is_none_or(|at| at > now) {
            return Alarm::None;
        }
        self.backoff += 1;
        self.timer = Some(now + self.rto());
        if self.una < self.nxt {
            self.timeouts += 1;
            self.ssthresh = ((self.nxt - self.una) / 2).max(2 * self.mss);
            self.cwnd = self.mss;
            self.recover = Some(self.nxt);
            self.lost = self.nxt;
            self.again = self.una;
            self.timed = None;
            self.dups = 0;
            return Alarm::Retransmit;
        }
        if self.nxt < self.limit() {
            return Alarm::Probe;
        }
        self.timer = None;
        Alarm::None
    }
}

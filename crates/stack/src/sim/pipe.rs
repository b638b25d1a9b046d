//! One direction of a connection between the host kernel and the remote: TCP without its details.
//! Nothing is lost here (the kernel sees to that); what counts is when bytes and windows arrive.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// The path and the receiving end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipePlan {
    /// One-way delay.
    pub delay: Duration,
    /// Bytes per second of the bottleneck.
    pub rate: u64,
    /// Segment size in bytes.
    pub mss: u64,
    /// Receive buffer at the start, in bytes of payload.
    pub buffer: u64,
    /// Receive buffer at most: it grows as the reader keeps up.
    pub buffer_max: u64,
}

/// What came out of a [`Pipe::poll`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Data arrived at the receiver.
    pub data: bool,
    /// FIN arrived at the receiver.
    pub fin: bool,
    /// RST arrived at the receiver.
    pub rst: bool,
    /// An acknowledgement arrived at the sender.
    pub ack: bool,
    /// FIN was acknowledged.
    pub fin_acked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Fin,
    Rst,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    arrives: Instant,
    kind: Kind,
    /// Position behind its last byte.
    end: u64,
    sent_at: Instant,
    delivered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ack {
    arrives: Instant,
    acked: u64,
    edge: u64,
    fin: bool,
    sent_at: Instant,
    delivered: u64,
}

/// A byte stream from a sender to a receiver.
#[derive(Debug)]
pub struct Pipe {
    plan: PipePlan,
    /// Bytes the sender's program wrote.
    pub written: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes known to have arrived.
    pub acked: u64,
    /// FIN follows what is written.
    pub fin_queued: bool,
    /// FIN was sent.
    pub fin_sent: bool,
    /// FIN was acknowledged.
    pub fin_acked: bool,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// Bytes per second of the last delivery sample.
    pub delivery_rate: u64,
    edge: u64,
    /// Bytes that arrived.
    pub received: u64,
    /// Bytes the receiver's program took.
    pub read: u64,
    /// FIN arrived.
    pub fin_received: bool,
    buffer: u64,
    grown_at: u64,
    advertised: u64,
    data: VecDeque<Segment>,
    acks: VecDeque<Ack>,
    busy: Instant,
}

impl Pipe {
    /// A stream at its start, the receiver's buffer known to the sender.
    pub fn new(plan: PipePlan) -> Self {
        Self {
            plan,
            written: 0,
            sent: 0,
            acked: 0,
            fin_queued: false,
            fin_sent: false,
            fin_acked: false,
            cwnd: 10 * plan.mss,
            delivery_rate: 0,
            edge: plan.buffer,
            received: 0,
            read: 0,
            fin_received: false,
            buffer: plan.buffer,
            grown_at: 0,
            advertised: plan.buffer,
            data: VecDeque::with_capacity(64),
            acks: VecDeque::with_capacity(64),
            busy: Instant::default(),
        }
    }

    /// The receiver's window as the sender knows it.
    pub fn window(&self) -> u64 {
        self.edge.saturating_sub(self.acked)
    }

    /// Bytes that arrived and were not read.
    pub fn unread(&self) -> u64 {
        self.received - self.read
    }

    /// The receive buffer as it is now.
    pub fn buffer(&self) -> u64 {
        self.buffer
    }

    /// Sends what window and congestion window allow.
    pub fn pump(&mut self, now: Instant) {
        let limit = self.written.min(self.edge).min(self.acked + self.cwnd);
        while self.sent < limit {
            let room = limit - self.sent;
            let len = room.min(self.plan.mss * 16);
            // Silly windows are avoided (RFC 9293 3.8.6.2.1): less than a segment waits for company.
            if len < self.plan.mss && limit < self.written && self.sent > self.acked {
                break;
            }
            self.sent += len;
            self.transmit(now, Kind::Data, len);
        }
        if self.fin_queued && !self.fin_sent && self.sent == self.written {
            self.fin_sent = true;
            self.transmit(now, Kind::Fin, 0);
        }
    }

    /// Throws away what was not sent, and resets.
    pub fn reset(&mut self, now: Instant) {
        self.written = self.sent;
        self.transmit(now, Kind::Rst, 0);
    }

    /// The receiver's program takes `n` bytes.
    pub fn take(&mut self, n: u64, now: Instant) {
        self.read += n;
        if self.read - self.grown_at >= self.buffer / 2 && self.buffer < self.plan.buffer_max {
            self.grown_at = self.read;
            self.buffer = (self.buffer * 2).min(self.plan.buffer_max);
        }
        let edge = self.read + self.buffer;
        let step = (2 * self.plan.mss).min(self.buffer / 2).max(1);
        if edge >= self.advertised + step && !self.fin_received {
            self.acknowledge(now, None);
        }
    }

    /// Carries out what is due.
    pub fn poll(&mut self, now: Instant) -> Progress {
        let mut progress = Progress::default();
        while let Some(&segment) = self.data.front().filter(|segment| segment.arrives <= now) {
            self.data.pop_front();
            match segment.kind {
                Kind::Data => {
                    self.received = segment.end;
                    progress.data = true;
                }
                Kind::Fin => {
                    self.fin_received = true;
                    progress.fin = true;
                }
                Kind::Rst => {
                    progress.rst = true;
                    continue;
                }
            }
            self.acknowledge(now, Some(segment));
        }
        while let Some(&ack) = self.acks.front().filter(|ack| ack.arrives <= now) {
            self.acks.pop_front();
            let fresh = ack.acked.saturating_sub(self.acked);
            self.cwnd = (self.cwnd + fresh).min(16 << 20);
            self.acked = self.acked.max(ack.acked);
            self.edge = self.edge.max(ack.edge);
            let took = now.since(ack.sent_at).as_nanos();
            if fresh > 0 && took > 0 {
                let bytes = u128::from(self.acked.saturating_sub(ack.delivered));
                self.delivery_rate = u64::try_from(bytes * 1_000_000_000 / took).unwrap_or(0);
            }
            progress.ack = true;
            if ack.fin && self.fin_sent && !self.fin_acked {
                self.fin_acked = true;
                progress.fin_acked = true;
            }
        }
        self.pump(now);
        progress
    }

    /// When there is something to carry out.
    pub fn next(&self) -> Option<Instant> {
        let data = self.data.front().map(|segment| segment.arrives);
        let acks = self.acks.front().map(|ack| ack.arrives);
        [data, acks].into_iter().flatten().min()
    }

    fn transmit(&mut self, now: Instant, kind: Kind, len: u64) {
        let nanos = (len + 60) * 1_000_000_000 / self.plan.rate.max(1);
        self.busy = self.busy.max(now) + Duration::from_nanos(nanos);
        self.data.push_back(Segment {
            arrives: self.busy + self.plan.delay,
            kind,
            end: self.sent,
            sent_at: now,
            delivered: self.acked,
        });
    }

    fn acknowledge(&mut self, now: Instant, segment: Option<Segment>) {
        self.advertised = self.advertised.max(self.read + self.buffer);
        let ack = Ack {
            arrives: now + self.plan.delay,
            acked: self.received,
            edge: self.advertised,
            fin: self.fin_received,
            sent_at: segment.map_or(now, |segment| segment.sent_at),
            delivered: segment.map_or(self.received, |segment| segment.delivered),
        };
        match self.acks.back_mut() {
            Some(last) if last.arrives == ack.arrives => *last = ack,
            _ => self.acks.push_back(ack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: PipePlan = PipePlan {
        delay: Duration::from_millis(5),
        rate: 125_000_000,
        mss: 1448,
        buffer: 20_000,
        buffer_max: 20_000,
    };

    fn run(pipe: &mut Pipe, now: &mut Instant) -> Progress {
        let mut all = Progress::default();
        while let Some(at) = pipe.next() {
            *now = at;
            let progress = pipe.poll(at);
            all.data |= progress.data;
            all.fin |= progress.fin;
            all.rst |= progress.rst;
            all.fin_acked |= progress.fin_acked;
        }
        all
    }

    #[test]
    fn a_reader_that_sleeps_closes_the_window_and_reopens_it() {
        let mut pipe = Pipe::new(PLAN);
        let mut now = Instant::from_millis(1);
        pipe.written = 50_000;
        pipe.fin_queued = true;
        pipe.pump(now);
        assert_eq!(pipe.sent, 14_480, "ten segments at first");
        run(&mut pipe, &mut now);
        assert_eq!((pipe.received, pipe.acked, pipe.window()), (20_000, 20_000, 0));
        pipe.take(20_000, now);
        run(&mut pipe, &mut now);
        pipe.take(20_000, now);
        let progress = run(&mut pipe, &mut now);
        assert!(progress.fin && progress.fin_acked);
        assert_eq!((pipe.received, pipe.acked), (50_000, 50_000));
        assert!(pipe.delivery_rate > 0);
    }

    #[test]
    fn buffers_grow_only_for_readers() {
        let mut pipe = Pipe::new(PipePlan { buffer_max: 6 << 20, ..PLAN });
        let mut now = Instant::from_millis(1);
        pipe.written = 20_000_000;
        pipe.pump(now);
        run(&mut pipe, &mut now);
        assert_eq!(pipe.buffer(), 20_000);
        while pipe.read < pipe.written {
            let unread = pipe.unread();
            assert!(unread > 0, "stuck at {}", pipe.read);
            pipe.take(unread, now);
            run(&mut pipe, &mut now);
        }
        assert_eq!(pipe.buffer(), 6 << 20);
    }

    #[test]
    fn a_reset_comes_behind_what_was_sent() {
        let mut pipe = Pipe::new(PLAN);
        let mut now = Instant::from_millis(1);
        pipe.written = 50_000;
        pipe.pump(now);
        pipe.reset(now);
        assert!(run(&mut pipe, &mut now).rst);
        assert_eq!(pipe.received, 14_480);
    }
}

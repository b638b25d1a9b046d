//! What the programs at both ends of a flow do.

use std::time::Duration;

use crate::time::Instant;

/// Rates are kept in steps of this length.
const QUANTUM: Duration = Duration::from_millis(10);

/// When a program closes its sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// As soon as everything is written: a half-close, if the other end still sends.
    #[default]
    AfterSending,
    /// After everything is written and the other end has closed.
    AfterPeer,
}

/// A pause in reading: buffers fill up and windows close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Bytes read before it begins.
    pub at: u64,
    /// How long it lasts.
    pub lasts: Duration,
}

/// What one program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppPlan {
    /// Bytes to write in all.
    pub send: u64,
    /// Bytes per second written at most; 0: as fast as they are taken.
    pub write_rate: u64,
    /// Bytes per second read at most; 0: as fast as they come.
    pub read_rate: u64,
    /// A pause in reading.
    pub stall: Option<Stall>,
    /// When the sending side is closed.
    pub close: Close,
    /// Resets the connection after having written this many bytes.
    pub reset_after: Option<u64>,
}

/// A running program.
#[derive(Clone, Copy, Debug)]
pub struct App {
    plan: AppPlan,
    started: Instant,
    stalled: Option<Instant>,
    /// Bytes written so far.
    pub written: u64,
    /// Bytes read so far.
    pub read: u64,
    /// The other end has closed and all it sent is read.
    pub peer_closed: bool,
    /// Our sending side is closed.
    pub closed: bool,
    /// We reset the connection.
    pub reset: bool,
    /// The connection was reset under us, or could not be made.
    pub failed: bool,
}

impl App {
    /// A program that has not started yet.
    pub fn new(plan: AppPlan, now: Instant) -> Self {
        Self {
            plan,
            started: now,
            stalled: None,
            written: 0,
            read: 0,
            peer_closed: false,
            closed: false,
            reset: false,
            failed: false,
        }
    }

    /// What it is to do.
    pub fn plan(&self) -> &AppPlan {
        &self.plan
    }

    /// The connection is made: rates count from here.
    pub fn start(&mut self, now: Instant) {
        self.started = now;
    }

    /// Bytes it would write now.
    pub fn may_write(&self, now: Instant) -> u64 {
        if self.closed || self.reset || self.failed {
            return 0;
        }
        let end = self.plan.reset_after.unwrap_or(u64::MAX).min(self.plan.send);
        self.budget(self.plan.write_rate, now).min(end).saturating_sub(self.written)
    }

    /// Bytes it would read now.
    pub fn may_read(&mut self, now: Instant) -> u64 {
        if self.reset || self.failed {
            return 0;
        }
        let mut limit = self.budget(self.plan.read_rate, now);
        if let Some(stall) = self.plan.stall {
            if self.read >= stall.at && self.stalled.is_none() {
                self.stalled = Some(now);
            }
            if self.stalled.is_none_or(|since| now.since(since) < stall.lasts) {
                limit = limit.min(stall.at);
            }
        }
        limit.saturating_sub(self.read)
    }

    /// Whether it is time to close the sending side.
    pub fn wants_close(&self) -> bool {
        let over = self.closed || self.reset || self.failed || self.wants_reset();
        !over
            && self.written >= self.plan.send
            && (self.plan.close == Close::AfterSending || self.peer_closed)
    }

    /// Whether it is time to reset.
    pub fn wants_reset(&self) -> bool {
        !self.reset
            && !self.failed
            && self.plan.reset_after.is_some_and(|after| self.written >= after.min(self.plan.send))
    }

    /// Nothing is left to do.
    pub fn done(&self) -> bool {
        self.reset || self.failed || (self.closed && self.peer_closed)
    }

    /// When it may do more than now. `readable`: there is something to read.
    pub fn next(&self, now: Instant, readable: bool) -> Option<Instant> {
        if self.reset || self.failed {
            return None;
        }
        let steps = now.since(self.started).as_nanos() / QUANTUM.as_nanos();
        let next_step = self.started + QUANTUM * (u32::try_from(steps).unwrap_or(u32::MAX) + 1);
        let writes = self.plan.write_rate > 0 && self.written < self.plan.send && !self.closed;
        let reads = self.plan.read_rate > 0 && readable;
        let wakes = match (self.plan.stall, self.stalled) {
            (Some(stall), Some(since)) if readable => {
                Some(since + stall.lasts).filter(|&at| at > now)
            }
            // It has just begun.
            (Some(stall), None) if readable && self.read >= stall.at => Some(now),
            _ => None,
        };
        let step = (writes || (reads && wakes.is_none())).then_some(next_step);
        [step, wakes].into_iter().flatten().min()
    }

    fn budget(&self, rate: u64, now: Instant) -> u64 {
        if rate == 0 {
            return u64::MAX;
        }
        let steps = now.since(self.started).as_nanos() / QUANTUM.as_nanos() + 1;
        u64::try_from(u128::from(rate) * steps / 100).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_stalls_and_ends() {
        let start = Instant::from_millis(1000);
        let plan = AppPlan {
            send: 1000,
            write_rate: 10_000,
            stall: Some(Stall { at: 500, lasts: Duration::from_millis(30) }),
            close: Close::AfterPeer,
            ..AppPlan::default()
        };
        let mut app = App::new(plan, start);
        assert_eq!(app.may_write(start), 100);
        app.written = 100;
        assert_eq!(app.may_write(start), 0);
        assert_eq!(app.next(start, false), Some(start + QUANTUM));
        assert_eq!(app.may_write(start + QUANTUM), 100);
        assert_eq!(app.may_read(start), 500);
        app.read = 500;
        assert_eq!(app.may_read(start), 0);
        app.written = 1000;
        assert_eq!(app.next(start, true), Some(start + Duration::from_millis(30)));
        assert!(app.may_read(start + Duration::from_millis(30)) > 1000);
        assert!(!app.wants_close());
        app.peer_closed = true;
        assert!(app.wants_close());
    }
}

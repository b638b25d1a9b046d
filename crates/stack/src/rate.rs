//! What a guest or a peer can cause, so many per second at most: warnings above all.

use std::time::Duration;

use crate::time::Instant;

/// Lets through some events per second; one per place that logs or limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateLimit {
    window: Option<Instant>,
    count: u32,
}

impl RateLimit {
    const WINDOW: Duration = Duration::from_secs(1);
    const BURST: u32 = 5;

    /// Whether this event may be reported.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        self.allow_up_to(Self::BURST, now)
    }

    /// Whether this event is among the first `most` within a second.
    pub(crate) fn allow_up_to(&mut self, most: u32, now: Instant) -> bool {
        match self.window {
            Some(start) if now.since(start) <= Self::WINDOW => {}
            _ => *self = Self { window: Some(now), count: 0 },
        }
        self.count = self.count.saturating_add(1);
        self.count <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_a_second() {
        let mut limit = RateLimit::default();
        let passed = |limit: &mut RateLimit, at| {
            (0..100).filter(|_| limit.allow(Instant::from_millis(at))).count()
        };
        assert_eq!(passed(&mut limit, 0), 5);
        assert_eq!(passed(&mut limit, 999), 0);
        assert_eq!(passed(&mut limit, 1001), 5);
    }
}

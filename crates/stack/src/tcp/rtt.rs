//! Round-trip time towards the guest and the timeouts that follow from it (RFC 6298, RFC 8985).

use std::time::Duration;

/// Below the shortest wait for a retransmission with more than one segment in flight. The guest is a
/// virtual link away: RFC 6298's second would be an eternity, its reason (delayed ACKs) is met by
/// [`DELAYED_ACK`].
const MIN_RTO: Duration = Duration::from_millis(50);
/// No wait doubles beyond this: a guest that was paused is served soon after it wakes.
const MAX_RTO: Duration = Duration::from_secs(8);
/// RFC 6298 2.1, before there is a measurement.
const INITIAL_RTO: Duration = Duration::from_secs(1);
/// How long a receiver may sit on the ACK of a lone segment (Linux: 40 to 200 ms), with room.
const DELAYED_ACK: Duration = Duration::from_millis(250);
/// Shortest wait before the last segment is sent again as a probe.
const MIN_PROBE: Duration = Duration::from_millis(10);

/// Smoothed round-trip time and its variation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    backoff: u8,
}

impl Rtt {
    /// Takes one measurement (RFC 6298 2.2, 2.3).
    pub(super) fn sample(&mut self, rtt: Duration) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(rtt);
            self.variation = rtt / 2;
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((smoothed * 7 + rtt) / 8);
    }

    /// The guest made progress: waits are short again.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// A timeout passed: the next wait is twice as long.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Whether the last wait ended in a timeout.
    pub(super) fn backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// How long to wait for the ACK of what is in flight; `lone` if that may be a single segment.
    pub(super) fn timeout(&self, lone: bool) -> Duration {
        let base = match self.smoothed {
            None => INITIAL_RTO,
            Some(smoothed) => {
                let floor = if lone { DELAYED_ACK } else { MIN_RTO };
                (smoothed + self.variation * 4).max(floor)
            }
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(MAX_RTO)
    }

    /// How long to wait before a tail loss probe (RFC 8985 7.2), or `None` if that is no sooner than the
    /// timeout.
    pub(super) fn probe_timeout(&self, lone: bool) -> Option<Duration> {
        if lone || self.backoff > 0 {
            return None;
        }
        let wait = (self.smoothed? * 2).max(MIN_PROBE);
        (wait < self.timeout(lone)).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(false), INITIAL_RTO);
        rtt.sample(100 * MS);
        assert_eq!(rtt.timeout(false), 300 * MS);
        rtt.sample(200 * MS);
        // RTTVAR = 3/4 * 50 + 1/4 * 100, SRTT = 7/8 * 100 + 1/8 * 200.
        assert_eq!(rtt.timeout(false), Duration::from_micros(112_500 + 4 * 62_500));
    }

    #[test]
    fn bounds_and_backoff() {
        let mut rtt = Rtt::default();
        rtt.sample(MS / 10);
        assert_eq!((rtt.timeout(false), rtt.timeout(true)), (MIN_RTO, DELAYED_ACK));
        assert_eq!((rtt.probe_timeout(false), rtt.probe_timeout(true)), (Some(MIN_PROBE), None));
        rtt.back_off();
        assert_eq!((rtt.timeout(false), rtt.probe_timeout(false)), (MIN_RTO * 2, None));
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(false), MAX_RTO);
        rtt.reset_backoff();
        assert_eq!(rtt.timeout(false), MIN_RTO);
    }
}

//! Counts bytes by tenths of a second, so that stalls show.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Length of one bucket.
const BUCKET: Duration = Duration::from_millis(100);
/// Buckets in a second.
const PER_SECOND: usize = 10;
/// Ten minutes of buckets.
const BUCKETS: usize = 6000;

/// Bytes received, by tenths of a second since the first [`Meter::start`].
#[derive(Debug)]
pub(crate) struct Meter {
    start: OnceLock<Instant>,
    buckets: Vec<AtomicU64>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { start: OnceLock::new(), buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Starts the clock, unless it runs already.
    pub(crate) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// Counts `bytes` that have just arrived.
    pub(crate) fn add(&self, bytes: usize) {
        let at = self.start().elapsed().as_millis() / BUCKET.as_millis();
        if let Some(bucket) = usize::try_from(at).ok().and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// One line about the `window` after the start: bytes in it and in all, seconds in which no
    /// byte arrived (found at any phase, not only on full seconds), the longest silence in ms.
    pub(crate) fn report(&self, window: Duration) -> String {
        let buckets: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let wanted = usize::try_from(window.as_millis() / BUCKET.as_millis()).unwrap_or(BUCKETS);
        let inside = buckets.get(..wanted).unwrap_or(&buckets);
        let (stalls, longest) = silences(inside);
        format!(
            "bytes={} total={} secs={} stalls={stalls} silence_ms={}",
            inside.iter().sum::<u64>(),
            buckets.iter().sum::<u64>(),
            window.as_secs_f64(),
            longest as u128 * BUCKET.as_millis(),
        )
    }
}

/// Seconds without a byte, and the longest run of empty buckets.
fn silences(buckets: &[u64]) -> (usize, usize) {
    buckets
        .split(|&bytes| bytes != 0)
        .map(<[u64]>::len)
        .fold((0, 0), |(stalls, longest), run| (stalls + run / PER_SECOND, longest.max(run)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_silence_is_found_at_any_phase() {
        let mut buckets = vec![5; 30];
        assert_eq!(silences(&buckets), (0, 0));
        buckets[7..16].fill(0);
        assert_eq!(silences(&buckets), (0, 9));
        buckets[16] = 0;
        assert_eq!(silences(&buckets), (1, 10));
        assert_eq!(silences(&[0; 25]), (2, 25));
        assert_eq!(silences(&[]), (0, 0));
    }

    #[test]
    fn bytes_after_the_window_count_only_in_total() {
        let meter = Meter::new();
        meter.add(3);
        meter.buckets[40].store(4, Ordering::Relaxed);
        let line = meter.report(Duration::from_secs(2));
        assert!(line.starts_with("bytes=3 total=7 secs=2 stalls=1 "), "{line}");
    }
}

//! Clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds. Does not enter the kernel where there is a vDSO.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// `CLOCK_REALTIME` since 1970-01-01 00:00 UTC.
#[must_use]
pub fn realtime() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits for so long, or until a signal. By `ppoll(2)`, which a stopped process goes on with under its own
/// number: `nanosleep(2)` would be a `restart_syscall(2)` then, which a filter need not allow.
pub fn pause(duration: Duration) {
    let seconds = duration.as_secs().try_into().unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() };
    // There is nothing to be told about, and a signal may end this early.
    let _ = poll(&mut [], Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_passes() {
        let start = monotonic_nanos();
        pause(Duration::from_millis(2));
        let passed = monotonic_nanos() - start;
        assert!((2_000_000..10_000_000_000).contains(&passed), "{passed}");
    }
}

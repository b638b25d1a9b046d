//! Clocks.

use std::num::NonZeroU64;
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

/// Lets this thread, and those it makes, sleep for so much longer than they ask to (`PR_SET_TIMERSLACK`).
///
/// The timer of the processor is set for the last moment at which a sleep may end, and that only if nothing
/// ends before. With a slack of a scheduler's tick or more, short timeouts that hardly ever expire do not
/// touch it, which a virtual machine pays for with an exit to its hypervisor each time.
pub fn set_timer_slack(slack: Duration) {
    let nanos = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX);
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(nanos)) {
        log::debug!("PR_SET_TIMERSLACK: {error}");
    }
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

    #[test]
    fn slack_is_of_the_thread() {
        let slack = || rustix::thread::current_timer_slack().unwrap();
        let before = slack();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                set_timer_slack(Duration::from_millis(4));
                assert_eq!(slack(), 4_000_000);
            });
        });
        assert_eq!(slack(), before);
    }
}

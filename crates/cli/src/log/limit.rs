//! A limit for what traffic can provoke.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Messages that one place of the data path may write within [`WINDOW_MS`].
const BURST: u32 = 5;
/// Length of the window of the limit, in milliseconds.
const WINDOW_MS: u64 = 1000;
/// Slots of the limiter; places whose hashes collide share their allowance.
pub(super) const SLOTS: usize = 64;

/// Slot of a place in the source (FNV-1a).
pub(super) fn slot(file: &str, line: u32) -> usize {
    let bytes = file.bytes().chain(line.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of FNV are its weakest.
    usize::try_from((hash >> 32) % SLOTS as u64).unwrap_or(0)
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is written.
    Say {
        /// Messages that were dropped since the last one that was written.
        suppressed: u32,
        /// Further ones will be dropped for a while.
        last: bool,
    },
    /// It is dropped.
    Drop,
}

/// At most five messages a second from one place. Allocates nothing; time is an argument.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// Start of the current window, in milliseconds.
    window: AtomicU64,
    /// Messages in the current window, dropped ones included.
    count: AtomicU32,
}

impl RateLimit {
    /// A limit that has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), count: AtomicU32::new(0) }
    }

    /// Counts a message at `now`, in milliseconds on a clock that does not go back.
    pub fn admit(&self, now: u64) -> Admission {
        let mut suppressed = 0;
        let window = self.window.load(Ordering::Relaxed);
        if now.saturating_sub(window) >= WINDOW_MS {
            // Of several threads, the one that moves the window reports what was dropped in it.
            let moved =
                self.window.compare_exchange(window, now, Ordering::Relaxed, Ordering::Relaxed);
            if moved.is_ok() {
                suppressed = self.count.swap(0, Ordering::Relaxed).saturating_sub(BURST);
            }
        }
        // Saturating: a flood must not start the count anew within its window.
        let count = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_add(1)))
            .unwrap_or(u32::MAX);
        if count < BURST {
            Admission::Say { suppressed, last: count + 1 == BURST }
        } else {
            Admission::Drop
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_a_second() {
        let limit = RateLimit::new();
        let say = |suppressed, last| Admission::Say { suppressed, last };
        for _ in 0..4 {
            assert_eq!(limit.admit(10), say(0, false));
        }
        assert_eq!(limit.admit(11), say(0, true));
        for _ in 0..7 {
            assert_eq!(limit.admit(999), Admission::Drop);
        }
        assert_eq!(limit.admit(1000), say(7, false));
        assert_eq!(limit.admit(2000), say(0, false));
    }
}

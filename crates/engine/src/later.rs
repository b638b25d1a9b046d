//! Something to be done once, in a while.

use std::time::Duration;

use stack::time::Instant;

/// What is to be done by the worker, once, and how long after the beginning.
pub struct Later {
    /// How long to wait.
    pub after: Duration,
    /// What to do then.
    pub job: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("after", &self.after).finish_non_exhaustive()
    }
}

/// A job that waits for its time, or none.
#[derive(Debug)]
pub(crate) struct Pending(Option<(Instant, Later)>);

impl Pending {
    /// From `now` on, it waits.
    pub(crate) fn new(later: Option<Later>, now: Instant) -> Self {
        Self(later.map(|later| (now + later.after, later)))
    }

    /// When it is to be done.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|(at, _)| *at)
    }

    /// Does it if it is due.
    pub(crate) fn poll(&mut self, now: Instant) {
        if let Some((_, later)) = self.0.take_if(|(at, _)| *at <= now) {
            (later.job)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_job_is_done_once_and_not_early() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let job = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let start = Instant::from_nanos(5);
        let after = Duration::from_secs(1);
        let mut pending = Pending::new(Some(Later { after, job }), start);
        assert_eq!(pending.deadline(), Some(start + after));
        pending.poll(start);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            pending.poll(start + after);
            assert_eq!((count.load(Ordering::Relaxed), pending.deadline()), (1, None));
        }
    }
}

//! Waiting for conditions, with deadlines.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const STEP: Duration = Duration::from_millis(5);

/// Asks `ready` again and again until it gives something, at most for `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for: {what}");
        }
        std::thread::sleep(STEP);
    }
}

/// Like [`wait_for`], for a condition without a value.
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || Ok(ready().then_some(())))
}

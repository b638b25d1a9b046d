//! Millions of bad frames into the stack: `frame_storm COUNT [SEED]`, or `frame_storm 60s [SEED]` for a time.
//!
//! Prints the rate. A panic is the only way to fail.

use std::io::Write;
use std::time::{Duration, Instant};

use stack::sim::storm::Storm;

/// Frames between two looks at the clock; then a new stack, so that what happened can be told from the seed.
const ROUND: u64 = 1_000_000;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let amount = args.next().unwrap_or_else(|| "1000000".into());
    let seed = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1);
    let seconds = amount.strip_suffix('s').and_then(|text| text.parse().ok());
    let limit = seconds.map_or(Duration::MAX, Duration::from_secs);
    let count = if seconds.is_some() { u64::MAX } else { amount.parse().unwrap_or(ROUND) };
    let start = Instant::now();
    let (mut done, mut answers, mut round) = (0, 0, seed);
    while done < count && start.elapsed() < limit {
        let now = ROUND.min(count - done);
        // Before, so that it is known after a panic.
        writeln!(std::io::stderr(), "seed {round}: {now} frames")?;
        answers += Storm::new(round).run(now);
        done += now;
        round += 1;
    }
    let took = start.elapsed();
    let rate = done as f64 / took.as_secs_f64() / 1e6;
    writeln!(
        std::io::stdout(),
        "{done} frames in {took:.1?}: {rate:.2} million a second, {answers} answers"
    )
}

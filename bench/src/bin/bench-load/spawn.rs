//! Runs a program again and again and says how long it took.

use crate::Options;
use anyhow::{Context as _, Result, ensure};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs the program `count` times and prints the median in microseconds.
pub(crate) fn run(o: &Options) -> Result<()> {
    let (program, args) = o.program.split_first().context("no program to run")?;
    let mut took = Vec::new();
    for _ in 0..o.count.unwrap_or(1).max(1) {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {program:?}"))?;
        took.push(start.elapsed().as_micros());
        ensure!(status.success(), "{program:?}: {status}");
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    writeln!(std::io::stdout(), "runs={} median_us={median}", took.len())?;
    Ok(())
}

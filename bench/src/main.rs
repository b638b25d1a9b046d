//! `cargo xtask bench`: our pasta and passt beside the packaged C ones, slirp4netns and plain veth.
//!
//! The process that was started prepares the peers and then starts itself again as process 1 of
//! private mount, network and PID namespaces: whatever happens, nothing outlives the run.
//! In there, every measurement starts a fresh forwarder for a fresh namespace, and the peers take
//! turns within each round, so that a noisy minute hits all of them.
#![forbid(unsafe_code)]

mod args;
mod bridge;
mod command;
mod congestion;
mod measure;
mod peer;
mod proc;
mod rig;
mod rows;
mod setup;
mod table;

use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> Result<ExitCode> {
    let args = args::parse()?;
    if args.help {
        write!(std::io::stdout(), "{}", args::USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        for row in rows::all() {
            writeln!(std::io::stdout(), "{}", row.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if setup::is_inner() { inner(&args) } else { setup::outer(&args) }
}

/// Inside the private namespaces: measure, then print the table.
fn inner(args: &args::Args) -> Result<ExitCode> {
    let rig = rig::Rig::build().context("cannot build the rig")?;
    let peers = peer::Peers::find(args)?;
    let rows: Vec<_> = rows::all().into_iter().filter(|row| args.wants(&row.name)).collect();
    let mut results = table::Results::new(args)?;
    // One row at a time with all its runs would put the peers' runs of one row close together,
    // which is what a ratio wants; rounds over all rows would only spread a noisy hour evenly.
    for row in &rows {
        if row.kind != rows::Kind::StartUp {
            if let Err(why) = rig.set_congestion(row.congestion) {
                results.skip(row, &congestion::reason(row.congestion, &why));
                continue;
            }
        }
        for run in 0..row.runs(args) {
            for &peer in peers.present.iter().filter(|&&peer| row.has(peer)) {
                let sample = measure::measure(&rig, &peers, row, peer, args);
                results.add(row, peer, run, sample)?;
            }
        }
    }
    let text = results.table(&rows, &peers);
    std::io::stdout().write_all(text.as_bytes())?;
    results.save(&text)?;
    Ok(ExitCode::SUCCESS)
}

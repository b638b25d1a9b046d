//! `cargo xtask bench`: builds what is measured and hands over to the harness.

use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::process::Command;

/// Builds pasta and passt, the load generator and the harness as released, then runs the harness.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    // With PASTA_BIN another pasta is measured, and ours need not be built.
    if std::env::var_os("PASTA_BIN").is_none() {
        cargo("build --quiet --release --package cli --bins", [])?;
    }
    cargo("build --quiet --release --package bench --bins", [])?;
    cargo("run --quiet --release --package bench --bin bench --", args)
}

/// Runs cargo with the words of `line`, and `more`.
pub(crate) fn cargo(line: &str, more: impl IntoIterator<Item = OsString>) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(line.split(' ')).args(more);
    let status = command.status().with_context(|| format!("cannot run cargo {line}"))?;
    ensure!(status.success(), "cargo {line}: {status}");
    Ok(())
}

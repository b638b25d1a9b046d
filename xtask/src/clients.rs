//! `cargo xtask clients`: builds what the clients start and hands over to the harness.

use crate::bench::cargo;
use crate::tools;
use anyhow::Result;
use std::ffi::OsString;

/// Provides the rig's programs and the guest's image, builds everything as released, then runs the
/// harness, which makes the tree.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    let args: Vec<OsString> = args.collect();
    cargo("build --quiet --release --package cli --package e2e --package clients --bins", [])?;
    let mut more = Vec::new();
    if !args.iter().any(|arg| arg == "--help") {
        tools::provide()?;
        if let Some(image) = tools::provide_guest() {
            more.extend(["--guest".into(), image.into()]);
        }
    }
    cargo("run --quiet --release --package clients --", more.into_iter().chain(args))
}

//! The programs as they are given away: static or dynamic, stripped, without paths of this machine.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{directory, output, run_command};
use crate::check::root;

/// What is built. pasta is passt under another name.
pub(crate) const PROGRAMS: [&str; 4] = ["passt", "passt-repair", "pesto", "qrap"];

/// How programs are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// With nothing else: they run in an empty container.
    Static,
    /// With the C library of the system.
    Dynamic,
}

/// A target of the compiler, in which there is a static C library if one is wanted.
pub(crate) fn target(linked: Linked) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV");
    let text = output(rustc)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what host this is")?.to_owned();
    let musl = host.replace("-gnu", "-musl");
    let usable = linked == Linked::Static && (has_library(&musl) || add(&musl));
    Ok(if usable { musl } else { host })
}

/// Whether the compiler has the standard library for a target.
fn has_library(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]).stderr(Stdio::null());
    output(rustc).is_ok_and(|directory| Path::new(&directory).exists())
}

/// Asks rustup for it. Without, a static build takes glibc, of which we use nothing that needs more files.
fn add(target: &str) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["--quiet", "target", "add", target]).stdout(Stdio::null()).stderr(Stdio::null());
    rustup.status().is_ok_and(|status| status.success()) && has_library(target)
}

/// Builds the programs and says in which directory they are. `quick` ones are not optimised across crates.
pub(crate) fn programs(linked: Linked, quick: bool) -> Result<PathBuf> {
    let target = target(linked)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--profile", "dist", "--package", "cli"]);
    command.args(["--target", &target]).current_dir(root()).stdout(std::io::stderr());
    for program in PROGRAMS {
        command.args(["--bin", program]);
    }
    let crt = if linked == Linked::Static { '+' } else { '-' };
    let mut flags = format!("-C target-feature={crt}crt-static");
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), Into::into);
    // The last one that fits counts.
    for (from, to) in [(cargo_home, "/cargo"), (root().canonicalize()?, "/src")] {
        let from = from.to_str().context("paths must be text")?.to_owned();
        ensure!(!from.contains(' '), "{from}: the compiler's options cannot have a space");
        flags += &format!(" --remap-path-prefix={from}={to}");
    }
    command.env("RUSTFLAGS", flags);
    // Each kind has a directory of its own, as another kind of linking is another build of everything.
    let kind = if quick { "quick" } else { "full" };
    let directory = directory()?.join("dist-build").join(kind);
    command.arg("--target-dir").arg(&directory);
    if quick {
        command.env("CARGO_PROFILE_DIST_LTO", "off").env("CARGO_PROFILE_DIST_CODEGEN_UNITS", "16");
    }
    run_command(&mut command)?;
    Ok(directory.join(target).join("dist"))
}

//! `cargo xtask dist`: a tarball with static programs and a Debian package with dynamic ones, the same bytes for the
//! same commit and compiler.

pub(crate) mod build;
mod check;
mod deb;
mod layout;
mod licences;
mod tarball;

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::root;

/// Makes both; with `--check`, looks at them with other people's tools in a Debian sid tree.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    let mut checked = false;
    for arg in args {
        match arg.to_str() {
            Some("--check") => checked = true,
            _ => bail!("dist: unknown option {}", arg.to_string_lossy()),
        }
    }
    let to = directory()?.join("dist");
    let release = Release::new()?;
    let files = tarball::make(&release, &to)?;
    eprintln!("{}", files.display());
    let package = deb::make(&release, &to)?;
    eprintln!("{}", package.display());
    if checked { check::run(&release, &files, &package) } else { Ok(()) }
}

/// What is being made.
pub(crate) struct Release {
    /// As in `Cargo.toml`.
    version: &'static str,
    /// When the commit was made, in seconds: the time of everything (`SOURCE_DATE_EPOCH`).
    epoch: u64,
    /// Who made the commit, or who `DEBFULLNAME` and `DEBEMAIL` say: the package's maintainer.
    maintainer: String,
}

impl Release {
    fn new() -> Result<Self> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git("%ct")?,
        };
        let maintainer = match (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
            (Ok(name), Ok(email)) => format!("{name} <{email}>"),
            _ => git("%an <%ae>")?,
        };
        let epoch = epoch.trim().parse().context("SOURCE_DATE_EPOCH")?;
        Ok(Self { version: env!("CARGO_PKG_VERSION"), epoch, maintainer })
    }
}

/// Something about the newest commit.
fn git(format: &str) -> Result<String> {
    let mut command = Command::new("git");
    command.args(["log", "-1", &format!("--format={format}")]).current_dir(root());
    output(command)
}

/// Cargo's directory.
pub(crate) fn directory() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.ancestors().nth(2).context("no target directory")?.to_owned())
}

/// Runs a program that must end well.
fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// What a program that must end well prints, without the end of the line.
fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Makes an empty directory.
fn empty(directory: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

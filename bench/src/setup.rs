//! What happens before the private namespaces are entered.

use crate::args::Args;
use crate::peer::Peer;
use crate::{command, congestion, rows};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use testkit::debian;

/// Set in the environment of the process inside the private namespaces.
const INNER: &str = "BENCH_INSIDE_RIG";
/// Why the C pasta is missing, for the table.
pub(crate) const WHY_NO_C: &str = "BENCH_WHY_NO_C";
/// Programs the rig and the peers need, and the Debian packages that bring them.
const TOOLS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("slirp4netns", "slirp4netns"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
];

/// Whether this process is the one inside.
pub(crate) fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Where in PATH a program is.
pub(crate) fn which(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists())
}

/// Prepares the peers, starts the inner process and waits for it.
pub(crate) fn outer(args: &Args) -> Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the benchmark builds network namespaces: run it as root"
    );
    for program in [&args.load, &args.bridge] {
        ensure!(program.exists(), "{} is not built", program.display());
    }
    install_tools();
    let mut why_no_c = String::new();
    if args.peers.contains(&Peer::C) {
        if let Err(e) = debian::prepare(&args.sid, false) {
            why_no_c = format!("{e:#}");
        }
    }
    let (_allowed, why_not) = congestion::allow(&rows::congestions(args));
    // Neither unshare nor anything below outlives this process, however it ends.
    let status = command::words("setpriv --pdeathsig KILL unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INNER, "1")
        .env(WHY_NO_C, why_no_c)
        .env(congestion::WHY_NOT, why_not)
        .status()
        .context("cannot run unshare")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs missing tools on Debian; what is missing afterwards is named in the table.
fn install_tools() {
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, _)| which(tool).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() || !Path::new("/usr/bin/apt-get").exists() {
        return;
    }
    for line in ["update", "install --yes --no-install-recommends"] {
        let mut command = command::words(&format!("apt-get -q {line}"));
        if line != "update" {
            command.args(&missing);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        if let Err(e) = command::output(command, Duration::from_secs(300)) {
            eprintln!("bench: {e:#}");
        }
    }
}

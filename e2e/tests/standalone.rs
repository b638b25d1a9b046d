//! Static programs where nothing else is: a root directory with the program, procfs and a tun device.
//!
//! `STATIC_BIN` names the directory with the programs; `cargo xtask test` builds them.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Case, PORT, SHORT, matrix};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::peer::stream;
use testkit::{Place, Proc, User, until};

matrix!(users: versions, doctor, passt_starts);
matrix!(all: traffic);

/// Makes an empty root with the programs in the rig, and a directory for files.
fn container(case: &Case<'_>) -> Result<PathBuf> {
    let from = case.rig.static_programs()?;
    let root = case.rig.tmp().join("container");
    for directory in ["bin", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for program in ["passt", "pesto", "passt-repair", "qrap"] {
        fs::copy(from.join(program), root.join("bin").join(program))
            .with_context(|| format!("{program} in {}", from.display()))?;
    }
    fs::hard_link(root.join("bin/passt"), root.join("bin/pasta"))?;
    let path = root.display().to_string();
    case.rig.run(&Place::Host, SHORT, &["mount", "--bind", &path, &path])?;
    case.rig.run(&Place::Host, SHORT, &["chmod", "1777", &format!("{path}/tmp")])?;
    Ok(root)
}

/// The command line that runs a program in the container: its root, pivoted to, and nothing else.
///
/// A process whose root is no mount of its own may not make user namespaces, so chroot(1) would not do.
fn inside(case: &Case<'_>, root: &Path, line: &str) -> Vec<String> {
    let user = if case.user == User::Root { "0" } else { "1000" };
    let script = format!(
        "mount -t proc proc {0}/proc && mount -t tmpfs -o mode=755 dev {0}/dev && mkdir {0}/dev/net && \
         mknod -m 666 {0}/dev/net/tun c 10 200 && mknod -m 666 {0}/dev/null c 1 3 && \
         cd {0} && exec \"$0\" pivot {user} {line}",
        root.display()
    );
    let helper = case.rig.helper().display().to_string();
    ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", &script, &helper]
        .map(str::to_owned)
        .into()
}

fn versions(case: &Case<'_>) -> Result<()> {
    let root = container(case)?;
    let version = std::env::var("STATIC_VERSION");
    let version = version.unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned());
    for program in ["passt", "pasta", "pesto"] {
        let argv = inside(case, &root, &format!("/bin/{program} --version"));
        let text = case.rig.run(&Place::Host, SHORT, &argv)?;
        ensure!(text.lines().next() == Some(&format!("{program} {version}")), "{text}");
    }
    let argv = inside(case, &root, "/bin/passt-repair");
    let outcome = case.rig.outcome(&Place::Host, User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(2), "{outcome:?}");
    // There is no QEMU to become.
    let argv = inside(case, &root, "/bin/qrap -machine pc");
    let outcome = case.rig.outcome(&Place::Host, User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    Ok(())
}

fn doctor(case: &Case<'_>) -> Result<()> {
    let root = container(case)?;
    let argv = inside(case, &root, "/bin/pasta --doctor");
    let outcome = case.rig.outcome(&Place::Host, User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(outcome.stdout.contains("tun-device          ok"), "{}", outcome.stdout);
    Ok(())
}

fn passt_starts(case: &Case<'_>) -> Result<()> {
    let root = container(case)?;
    let argv = inside(case, &root, "/bin/passt --socket /tmp/s --pid /tmp/p");
    case.rig.run(&Place::Host, SHORT, &argv)?;
    let pid: u32 = fs::read_to_string(root.join("tmp/p"))?.trim().parse()?;
    ensure!(root.join("tmp/s").exists(), "no socket");
    case.rig.run(&Place::Host, SHORT, &["kill", &pid.to_string()])?;
    case.rig.wait_gone(pid, SHORT)
}

/// Moves data and asks for echo through a pasta that is in the container.
fn traffic(case: &Case<'_>) -> Result<()> {
    let root = container(case)?;
    let holder = case.rig.hold(case.user)?;
    let pid = holder.pid();
    let line = format!("/bin/pasta --config-net --foreground --quiet {pid}");
    let mut pasta =
        Proc::start(case.rig.command(&Place::Host, User::Root, &inside(case, &root, &line)))?;
    let _server = case.rig.serve(&Place::Outside, case.family.peer(), PORT)?;
    let route = ["ip", case.family.flag(), "route", "show", "default"];
    until("the default route", SHORT, || {
        let text = case.rig.run(&holder.place(), SHORT, &route);
        text.is_ok_and(|text| !text.is_empty()) || !pasta.running().unwrap_or(true)
    })?;
    if !pasta.running()? {
        bail!("pasta ended: {}", pasta.stderr());
    }
    let got = case.ask(&holder.place(), "get", case.family.peer(), "1000000")?;
    ensure!(got == stream::sum(1_000_000), "{got}");
    let got = case.ask(&holder.place(), "udp-echo", case.family.peer(), "1000")?;
    ensure!(got == "ok", "{got}");
    let peer = case.family.peer().to_string();
    case.rig.run(&holder.place(), SHORT, &["ping", "-n", "-c", "1", "-W", "3", &peer]).map(drop)
}

//! The programs that the tests use: installed on Debian as root, otherwise named.

use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Program, Debian package.
const TOOLS: &[(&str, &str)] = &[
    ("busybox", "busybox"),
    ("cpio", "cpio"),
    ("curl", "curl"),
    ("dhclient", "isc-dhcp-client"),
    ("dig", "bind9-dnsutils"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("g++", "g++"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("pkill", "procps"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("rdisc6", "ndisc6"),
    ("setcap", "libcap2-bin"),
    ("socat", "socat"),
    ("ss", "iproute2"),
    ("strace", "strace"),
    ("traceroute", "traceroute"),
    ("tshark", "tshark"),
    ("udhcpc", "udhcpc"),
    ("unshare", "util-linux"),
    ("valgrind", "valgrind"),
];

/// Whether a program is where programs are, for the caller or for root.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}

/// Installs what is missing where that is possible, and names the rest: their tests are skipped.
pub(crate) fn provide() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    if is_root() && Path::new("/etc/debian_version").exists() {
        eprintln!("installing: {}", packages.join(" "));
        // A list of packages that could not be updated may still be good enough.
        let _ = apt(["update"]);
        let _ = apt(["install", "--no-install-recommends"].into_iter().chain(packages));
    }
    let packages = missing();
    if !packages.is_empty() {
        eprintln!("not installed, so their tests are skipped: {}", packages.join(" "));
    }
    Ok(())
}

/// Unpacks, without installing it, the C implementation that Debian packages, and returns where it
/// is. Without it, the tests that need it are skipped.
pub(crate) fn provide_debian() -> Option<PathBuf> {
    if let Some(tree) = std::env::var_os(testkit::debian::SID) {
        return Some(tree.into());
    }
    let tree = std::env::current_exe().ok()?.ancestors().nth(2)?.join("sid");
    let prepared = if is_root() {
        testkit::debian::prepare(&tree, false)
    } else {
        Err(anyhow::anyhow!("needs root"))
    };
    match prepared {
        Ok(()) => {
            if let Err(error) = testkit::debian::prepare(&tree, true) {
                eprintln!("no QEMU of Debian sid, so its tests are skipped: {error:#}");
            }
            if let Err(error) = testkit::debian::prepare_policy_tools(&tree) {
                eprintln!(
                    "no tools for policies of Debian sid, so they are not checked: {error:#}"
                );
            }
            Some(tree)
        }
        Err(error) => {
            eprintln!("no packages of Debian sid, so their tests are skipped: {error:#}");
            None
        }
    }
}

/// Builds the static programs, quickly, and returns in which directory they are. Without them, their tests are
/// skipped.
pub(crate) fn provide_static() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os(testkit::STATIC_BIN) {
        return Some(directory.into());
    }
    let built = crate::dist::build::programs(crate::dist::build::Linked::Static, true);
    built
        .map_err(|error| eprintln!("no static programs, so their tests are skipped: {error:#}"))
        .ok()
}

/// Makes the image of the virtual machines' guest, if that is possible, and returns where it is. Without
/// it, the tests that need it are skipped.
pub(crate) fn provide_guest() -> Option<PathBuf> {
    if let Some(image) = std::env::var_os(testkit::guest::IMAGE) {
        return Some(image.into());
    }
    let image = guest_image()?;
    match testkit::guest::prepare(&image, false) {
        Ok(()) => Some(image),
        Err(error) => {
            eprintln!("no guest, so the tests with virtual machines are skipped: {error:#}");
            None
        }
    }
}

/// Where the guest's image is made.
fn guest_image() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.ancestors().nth(2)?.join("guest"))
}

/// Makes the guest's image of the newest packages.
pub(crate) fn guest() -> Result<()> {
    provide()?;
    let image = guest_image().context("no target directory")?;
    testkit::guest::prepare(&image, true)?;
    let accel = std::fs::read_to_string(image.join("accel"))?;
    eprintln!("{}: boots with {accel}", image.display());
    Ok(())
}

/// Packages of which a program is missing.
fn missing() -> Vec<&'static str> {
    let absent = TOOLS.iter().filter(|(program, _)| !is_installed(program));
    let mut packages: Vec<_> = absent.map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn apt<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--yes"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    // Standard output is for results.
    command.stdout(std::io::stderr());
    let status = command.status().context("cannot run apt-get")?;
    anyhow::ensure!(status.success(), "apt-get: {status}");
    Ok(())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_whitespace().nth(1)) == Some("0")
}

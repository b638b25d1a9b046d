//! The Debian sid tree with the clients: made by debootstrap, kept between runs.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::Proc;

/// What is installed beside the minimum.
const PACKAGES: &[&str] = &[
    "aardvark-dns",
    "buildah",
    "busybox-static",
    "catatonit",
    "crun",
    "curl",
    "dbus",
    "fuse-overlayfs",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "libcap2-bin",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "netavark",
    "nftables",
    "passt",
    "podman",
    "procps",
    "qemu-system-x86",
    "rootlesskit",
    "runc",
    "slirp4netns",
    "uidmap",
];
const SCRIPT: &str = include_str!("tree.sh");
/// It takes two minutes where the mirror is near.
const LIMIT: Duration = Duration::from_secs(1800);
/// Packages whose versions are told, as the table's heading.
const TOLD: &[&str] =
    &["passt", "podman", "buildah", "rootlesskit", "libvirt-daemon", "qemu-system-x86"];

/// Makes the tree in `dir` unless it is there, and says where its root is.
pub(crate) fn provide(dir: &Path) -> Result<PathBuf> {
    let (root, made_of) = (dir.join("root"), dir.join("recipe"));
    let recipe = format!("{SCRIPT}\n{}\n", PACKAGES.join("\n"));
    if root.exists() && fs::read_to_string(&made_of).is_ok_and(|old| old == recipe) {
        return Ok(root);
    }
    install_debootstrap()?;
    eprintln!("making a Debian sid tree in {}, which takes a few minutes", dir.display());
    fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let _ = fs::remove_file(&made_of);
    // Mounts and processes of an attempt that is broken off go with these namespaces.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "--propagation", "private", "--", "sh", "-c", SCRIPT, "tree.sh"]);
    command.arg(&dir).args(PACKAGES);
    Proc::run(command, LIMIT)?.ok("making the tree")?;
    fs::write(made_of, recipe)?;
    Ok(root)
}

fn install_debootstrap() -> Result<()> {
    if Path::new("/usr/sbin/debootstrap").exists() {
        return Ok(());
    }
    for line in ["update", "install --yes --no-install-recommends debootstrap"] {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(line.split(' ')).env("DEBIAN_FRONTEND", "noninteractive");
        // Lists that could not be updated may still be good enough.
        let done = Proc::run(command, LIMIT)?;
        ensure!(line == "update" || done.status.success(), "no debootstrap: {}", done.stderr);
    }
    Ok(())
}

/// Names and versions of the clients in the tree, and of the C passt.
pub(crate) fn versions(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("var/lib/dpkg/status")).context("no packages")?;
    let packages = text.split("\n\n").filter_map(|package| {
        let field = |key| package.lines().find_map(|line| line.strip_prefix(key));
        let name = field("Package: ")?;
        TOLD.contains(&name).then(|| Some(format!("{name} {}", field("Version: ")?)))?
    });
    Ok(packages.collect::<Vec<_>>().join(", "))
}

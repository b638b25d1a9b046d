//! The Debian sid tree with the clients.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::debootstrap::{Recipe, Tree};

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
/// The user everything runs as, who has ids to give to containers.
const USER: &str = "useradd --create-home --uid 1000 --shell /bin/sh user
echo user:100000:65536 > /etc/subuid
echo user:100000:65536 > /etc/subgid";
/// Packages whose versions are told, as the table's heading.
const TOLD: &[&str] =
    &["passt", "podman", "buildah", "rootlesskit", "libvirt-daemon", "qemu-system-x86"];

/// Makes the tree in `dir` unless it is there, and says where its root is.
pub(crate) fn provide(dir: &Path) -> Result<PathBuf> {
    let tree = Tree::provide(dir, Recipe { packages: PACKAGES, commands: USER })?;
    Ok(tree.root().to_owned())
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

//! Whether others can use what was made: their tools, in a Debian sid tree, and an empty container.

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::debootstrap::{Recipe, Tree};

use super::layout::APPARMOR;
use super::{Release, directory, run_command};
use crate::check::root;
use crate::tools;

const RECIPE: Recipe<'_> = Recipe {
    packages: &[
        "apparmor",
        "bzip2",
        "checkpolicy",
        "gawk",
        "groff",
        "lintian",
        "m4",
        "make",
        "man-db",
        "mandoc",
        "selinux-policy-dev",
        "semodule-utils",
        "systemd",
    ],
    // Policies of everything that Debian has, without putting them into force.
    commands: "mkdir /policy && cd /policy && apt-get -q download selinux-policy-default && \
               dpkg-deb -x selinux-policy-default_*.deb . && rm -rf *.deb",
};

/// What is looked at: a name, and a script that fails if something is wrong. The package is `/with/package.deb`,
/// the repository's `packaging/` is `/with/packaging`.
const CHECKS: [(&str, &str); 7] = [
    ("lintian", "lintian --fail-on error --profile debian --allow-root --info /with/package.deb"),
    ("the package takes the place of passt", include_str!("check/install.sh")),
    ("apparmor_parser", include_str!("check/apparmor.sh")),
    ("SELinux modules", include_str!("check/selinux.sh")),
    ("systemd units", include_str!("check/systemd.sh")),
    ("manual pages", include_str!("check/man.sh")),
    ("policies that include ours", include_str!("check/interfaces.sh")),
];

/// Looks at everything, and fails if something is wrong with anything.
pub(super) fn run(release: &Release, tarball: &Path, package: &Path) -> Result<()> {
    ensure!(tools::is_root(), "dist --check needs root");
    let tree = Tree::provide(&directory()?.join("dist-sid"), RECIPE)?;
    let with = directory()?.join("dist").join("with");
    super::empty(&with)?;
    std::fs::copy(package, with.join("package.deb"))?;
    let mut copy = Command::new("cp");
    run_command(copy.arg("-r").arg(root().join("packaging")).arg(&with))?;
    std::fs::write(with.join("profiles"), profiles())?;
    let mut failed = Vec::new();
    for (name, script) in CHECKS {
        eprintln!("== {name}");
        let status =
            tree.script(&with, script).stdin(Stdio::null()).stdout(std::io::stderr()).status()?;
        if !status.success() {
            failed.push(name);
        }
    }
    eprintln!("== the tarball in an empty container");
    if let Err(error) = container(release, tarball) {
        eprintln!("{error:#}");
        failed.push("the tarball in an empty container");
    }
    std::fs::remove_dir_all(&with)?;
    ensure!(failed.is_empty(), "dist: wrong: {}", failed.join(", "));
    eprintln!("everything is as it should be");
    Ok(())
}

fn profiles() -> String {
    let profiles = APPARMOR.iter().filter(|name| !name.contains('/'));
    profiles.map(|name| format!("{name}\n")).collect()
}

/// Runs the tests of static programs with those of the tarball.
fn container(release: &Release, tarball: &Path) -> Result<()> {
    let unpacked = directory()?.join("dist").join("unpacked");
    super::empty(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1", "--file"]).arg(tarball);
    run_command(tar.arg("--directory").arg(&unpacked))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--quiet", "--package", "e2e", "--test", "standalone"]);
    cargo.current_dir(root()).stdout(std::io::stderr());
    cargo.env(testkit::STATIC_BIN, unpacked.join("bin"));
    cargo.env("STATIC_VERSION", release.version);
    let result = run_command(&mut cargo);
    std::fs::remove_dir_all(&unpacked)?;
    result
}

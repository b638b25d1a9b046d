//! The tarball with static programs, to be unpacked below a prefix like `/usr/local`.

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{self, Linked};
use super::layout::{self, APPARMOR, Entry, Places};
use super::{Release, empty, licences, run_command};

const DOC: &str = "share/doc/passt";

/// Builds and packs; says where the tarball is. What is in it is beside it, unpacked.
pub(crate) fn make(release: &Release, to: &Path) -> Result<PathBuf> {
    let target = build::target(Linked::Static)?;
    let built = build::programs(Linked::Static, false)?;
    let places = Places { bin: "bin", share: "share", zsh: "site-functions", packed: false };
    let mut entries = layout::programs(&built, &places)?;
    for name in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        entries.push(Entry::copy(format!("{DOC}/{name}"), name));
    }
    entries.push(Entry::text(format!("{DOC}/THIRD-PARTY"), licences::third_party(&target)?));
    for name in APPARMOR {
        entries.push(Entry::copy(
            format!("{DOC}/apparmor.d/{name}"),
            &format!("packaging/apparmor/{name}"),
        ));
    }
    entries.extend(layout::packaging(&format!("{DOC}/selinux"), "selinux")?);
    entries.extend(layout::packaging(&format!("{DOC}/systemd"), "systemd")?);
    entries.push(Entry::copy(format!("{DOC}/PACKAGING.md"), "packaging/README.md"));

    let architecture = target.split('-').next().unwrap_or_default();
    let name = format!("passt-rs-{}-{architecture}-linux-static", release.version);
    let directory = to.join(&name);
    empty(&directory)?;
    layout::write(&entries, &directory, release.epoch)?;
    let tarball = to.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0"]);
    tar.args(["--numeric-owner", &format!("--mtime=@{}", release.epoch)]);
    tar.args(["--use-compress-program", "gzip -9 -n", "--file"]).arg(&tarball);
    tar.arg("--directory").arg(to).arg(&name);
    run_command(&mut tar)?;
    Ok(tarball)
}

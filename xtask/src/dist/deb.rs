//! The Debian package, with dynamic programs. It takes the place of the package passt, file by file.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{self, Linked, PROGRAMS};
use super::layout::{self, APPARMOR, Entry, Places};
use super::{Release, empty, licences, output, run_command};

/// The package's name.
const NAME: &str = "passt-rs";
const DOC: &str = "usr/share/doc/passt-rs";
const DESCRIPTION: &str = "\
network for virtual machines and namespaces, without privileges
 passt connects a virtual machine, and pasta a network namespace, to the
 network of the host. They sit at the other end of a tap device or of a
 hypervisor's socket, and speak for the guest through ordinary sockets: no
 bridge, no address translation, no root, nothing on the host is changed.
 .
 This is an independent implementation in Rust that takes the place of the
 programs of the package passt: the same command lines, the same places. It
 includes pesto, which changes forwarded ports of a running instance,
 passt-repair, which helps with migrations, and qrap for old versions of QEMU.
";

/// Builds and packs; says where the package is.
pub(crate) fn make(release: &Release, to: &Path) -> Result<PathBuf> {
    let target = build::target(Linked::Dynamic)?;
    let built = build::programs(Linked::Dynamic, false)?;
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--print-architecture");
    let architecture = output(dpkg)?;

    let places =
        Places { bin: "usr/bin", share: "usr/share", zsh: "vendor-completions", packed: true };
    let mut entries = layout::programs(&built, &places)?;
    for name in APPARMOR {
        let from = format!("packaging/apparmor/{name}");
        entries.push(Entry::copy(format!("etc/apparmor.d/{name}"), &from));
    }
    entries.extend(layout::packaging(&format!("{DOC}/examples"), "systemd")?);
    entries.push(Entry::packed(format!("{DOC}/changelog.gz"), layout::read("CHANGELOG.md")?));
    entries.push(Entry::packed(format!("{DOC}/changelog.Debian.gz"), changelog(release)?));
    let licences = licences::third_party(&target)?;
    entries.push(Entry::packed(format!("{DOC}/THIRD-PARTY.gz"), licences));
    entries
        .push(Entry::text(format!("{DOC}/copyright"), layout::read("packaging/debian/copyright")?));

    let directory = to.join(format!("{NAME}_{}-1_{architecture}", release.version));
    empty(&directory)?;
    layout::write(&entries, &directory, release.epoch)?;
    let conffiles: String =
        APPARMOR.iter().map(|name| format!("/etc/apparmor.d/{name}\n")).collect();
    let control = [
        Entry::text("DEBIAN/md5sums", sums(&entries, &directory)?),
        Entry::text("DEBIAN/conffiles", conffiles),
        Entry::text("DEBIAN/control", control(release, &architecture, &entries, &directory)?),
        Entry { program: true, ..Entry::copy("DEBIAN/postinst", "packaging/debian/postinst") },
    ];
    layout::write(&control, &directory, release.epoch)?;

    let package =
        directory.with_file_name(format!("{NAME}_{}-1_{architecture}.deb", release.version));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&directory).arg(&package);
    build.env("SOURCE_DATE_EPOCH", release.epoch.to_string()).stdout(std::io::stderr());
    run_command(&mut build)?;
    Ok(package)
}

fn changelog(release: &Release) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", &format!("--date=@{}", release.epoch)]).env("LC_ALL", "C");
    Ok(format!(
        "{NAME} ({}-1) unstable; urgency=medium\n\n  * Built from the repository; changelog.gz has what changed.\n\n -- {}  {}\n",
        release.version,
        release.maintainer,
        output(date)?
    ))
}

fn control(
    release: &Release,
    architecture: &str,
    entries: &[Entry],
    directory: &Path,
) -> Result<String> {
    let mut bytes = 0;
    for entry in entries {
        let metadata = fs::symlink_metadata(directory.join(&entry.to))?;
        // In KiB, each file rounded up, as dpkg-gencontrol counts; a further name counts once.
        if !matches!(entry.contents, layout::Contents::HardLink(_)) {
            bytes += metadata.len().div_ceil(1024);
        }
    }
    Ok(format!(
        "Package: {NAME}\n\
         Version: {}-1\n\
         Architecture: {architecture}\n\
         Maintainer: {}\n\
         Installed-Size: {bytes}\n\
         Depends: {}\n\
         Conflicts: passt\n\
         Replaces: passt\n\
         Provides: passt\n\
         Section: net\n\
         Priority: optional\n\
         Description: {DESCRIPTION}",
        release.version,
        release.maintainer,
        depends(directory)?
    ))
}

/// What the programs need of the libraries they are linked with, from their own tables of versions.
fn depends(directory: &Path) -> Result<String> {
    let mut needed = BTreeSet::new();
    let mut glibc = (0, 0);
    for program in PROGRAMS {
        let mut objdump = Command::new("objdump");
        objdump.arg("-p").arg(directory.join("usr/bin").join(program));
        let text = output(objdump)?;
        let (libraries, version) = libraries(&text);
        needed.extend(libraries);
        glibc = glibc.max(version);
    }
    let mut depends = Vec::new();
    for library in needed {
        depends.push(match library.as_str() {
            "libc.so.6" => format!("libc6 (>= {}.{})", glibc.0, glibc.1),
            // The unwinder has had its version of the interface since the package has this name.
            "libgcc_s.so.1" => "libgcc-s1 (>= 4.2)".to_owned(),
            "ld-linux-x86-64.so.2" | "ld-linux-aarch64.so.1" => continue,
            other => anyhow::bail!("which package has {other}?"),
        });
    }
    Ok(depends.join(", "))
}

/// Libraries that `objdump -p` names, and the newest version of glibc's symbols.
fn libraries(text: &str) -> (Vec<String>, (u32, u32)) {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut libraries = Vec::new();
    let mut newest = (0, 0);
    for line in text.lines().map(words) {
        match line.as_slice() {
            [key, library] if key == "NEEDED" => libraries.push(library.clone()),
            [.., version] => {
                let version = version.strip_prefix("GLIBC_").and_then(|version| {
                    let mut parts = version.split('.').map(|part| part.parse().ok());
                    Some((parts.next()??, parts.next()??))
                });
                newest = newest.max(version.unwrap_or_default());
            }
            [] => {}
        }
    }
    (libraries, newest)
}

/// Check sums of everything but what the administrator may change.
fn sums(entries: &[Entry], directory: &Path) -> Result<String> {
    let mut paths: Vec<&str> = entries
        .iter()
        .filter(|entry| !matches!(entry.contents, layout::Contents::Symlink(_)))
        .map(|entry| entry.to.as_str())
        .filter(|path| !path.starts_with("etc/"))
        .collect();
    paths.sort_unstable();
    let mut md5sum = Command::new("md5sum");
    md5sum.args(paths).current_dir(directory);
    Ok(output(md5sum).context("md5sum")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_versions_are_found() {
        let text = "Dynamic Section:\n  NEEDED               libgcc_s.so.1\n  NEEDED               libc.so.6\n\
            Version References:\n  required from libc.so.6:\n    0x069691b4 0x00 06 GLIBC_2.34\n\
            \x20   0x06969189 0x00 05 GLIBC_2.9\n    0x0d696914 0x00 04 GLIBC_2.4\n";
        let (libraries, version) = libraries(text);
        assert_eq!(libraries, ["libgcc_s.so.1", "libc.so.6"]);
        assert_eq!(version, (2, 34));
    }
}

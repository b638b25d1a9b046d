//! A small Debian sid tree with the packaged C pasta and the C library it needs.
//!
//! The tree holds three unpacked packages only. `sid-run PROGRAM ARGS` enters a private mount
//! namespace in which the tree's libraries lie over this machine's own (an older program runs
//! under a newer C library, never the other way), with a tun device for everybody, and goes on as
//! an ordinary user. `cpasta ARGS` and `cpesto ARGS` do the same for the packaged pasta, which thus
//! finds its faster twin through /proc/self/exe and runs this machine's own programs as its
//! children, and for its client.
//!
//! [`prepare`] downloads, so it is for whoever starts the tests or the benchmark. Tests are told in
//! `DEBIAN_SID` where the tree is, and ask for it with [`Rig::debian`].

use crate::pasta::PastaBuilder;
use crate::proc::Proc;
use crate::rig::{Rig, RigError, User};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The packages unpacked.
const PACKAGES: [&str; 3] = ["passt", "libc6", "libgcc-s1"];
/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);
/// How long unpacking a package may take.
const UNPACK: Duration = Duration::from_secs(60);
/// Where a rig has the tree, for every user.
const IN_RIG: &str = "/run/rig/sid";

impl Rig {
    /// The packaged C pasta, to be started by the ordinary user; ends the test as skipped if there
    /// is none.
    pub fn debian_pasta(&self) -> Result<PastaBuilder<'_>> {
        let path = self.debian()?.join("cpasta");
        Ok(PastaBuilder::wrapped(self, &path, User::Ordinary))
    }

    /// The directory with the wrappers `sid-run`, `cpasta` and `cpesto`; ends the test as skipped
    /// if there is none.
    pub fn debian(&self) -> Result<PathBuf> {
        let Some(tree) = std::env::var_os(SID) else {
            bail!(RigError(format!("no packages of Debian sid: {SID} is not set")));
        };
        let tree = PathBuf::from(tree);
        if !tree.join("cpesto").exists() {
            bail!(RigError(format!("no packages of Debian sid in {}", tree.display())));
        }
        let at = PathBuf::from(IN_RIG);
        if !at.exists() {
            // The ordinary user may not be allowed to go where the tree is.
            fs::create_dir(&at)?;
            let mut command = Command::new("mount");
            command.arg("--bind").arg(&tree).arg(&at);
            Proc::run(command, UNPACK)?.ok("mount")?;
        }
        Ok(at)
    }
}

/// The variable in the environment that names the tree.
pub const SID: &str = "DEBIAN_SID";

/// Makes the tree in `dir`, unless it is there.
///
/// # Errors
/// Without root, apt and a Debian mirror.
pub fn prepare(dir: &Path) -> Result<()> {
    let root = dir.join("root");
    if !root.join("usr/bin/pasta").exists() {
        ensure!(Path::new("/usr/bin/apt-get").exists(), "no apt-get on this machine");
        let debs = download(dir)?;
        let unpacking = dir.join("root.partial");
        let _ = fs::remove_dir_all(&unpacking);
        fs::create_dir_all(&unpacking)?;
        for deb in debs {
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(&deb).arg(&unpacking);
            Proc::run(command, UNPACK)?.ok("dpkg-deb")?;
        }
        // Only programs, libraries and copyright files are wanted.
        let _ = fs::remove_dir_all(unpacking.join("usr/share/man"));
        fs::rename(&unpacking, &root)?;
    }
    write_wrappers(dir)
}

/// Version of the C pasta in the tree, as it says it itself.
///
/// # Errors
/// If it does not run.
pub fn version(dir: &Path) -> Result<String> {
    let mut command = Command::new(dir.join("cpasta"));
    command.arg("--version");
    let text = Proc::run(command, Duration::from_secs(10))?.ok("cpasta --version")?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Fetches the packages with a configuration of apt that touches nothing of this machine's.
fn download(dir: &Path) -> Result<Vec<PathBuf>> {
    let apt = dir.join("apt");
    let debs = dir.join("debs");
    let _ = fs::remove_dir_all(&debs);
    for sub in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(sub))?;
    }
    fs::create_dir_all(&debs)?;
    fs::write(apt.join("status"), "")?;
    fs::write(
        apt.join("sources.list"),
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
         http://deb.debian.org/debian sid main\n",
    )?;
    let conf = apt.join("apt.conf");
    let at = apt.display();
    fs::write(
        &conf,
        format!(
            "Dir::Etc::SourceList \"{at}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State \"{at}\";\n\
             Dir::State::Lists \"{at}/lists\";\n\
             Dir::State::status \"{at}/status\";\n\
             Dir::Cache \"{at}/cache\";\n\
             Acquire::Check-Valid-Until \"false\";\n\
             Acquire::Languages \"none\";\n\
             APT::Sandbox::User \"root\";\n"
        ),
    )?;
    for line in [&["update"][..], &[&["download"][..], &PACKAGES].concat()] {
        let mut command = Command::new("apt-get");
        command.args(line).env("APT_CONFIG", &conf).current_dir(&debs);
        Proc::run(command, DOWNLOAD)?.ok("apt-get")?;
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&debs)? {
        found.push(entry?.path());
    }
    if found.len() < PACKAGES.len() {
        bail!("apt-get downloaded {} of {} packages", found.len(), PACKAGES.len());
    }
    Ok(found)
}

/// Enters the tree. What it runs does not depend on where the tree is: that may be somewhere else in a rig.
const SID_RUN: &str = r#"#!/bin/sh
# sid-run PROGRAM ARGS: as root, in any network namespace. Runs PROGRAM under Debian sid's C library,
# as the ordinary user $PASTA_UID (default 1000; 0 keeps root), with a /dev/net/tun for everybody.
if [ "$1" != --entered ]; then
    exec unshare -m --propagation private "$0" --entered "$@"
fi
shift
T=${0%/*}/root
L=/usr/lib/$(uname -m)-linux-gnu
mount -t overlay overlay -o "lowerdir=$T$L:$L" "$L" || exit 125
{ mount -t tmpfs -o mode=755 tun /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun; } || exit 125
U=${PASTA_UID:-1000}
[ "$U" = 0 ] && exec "$@"
exec setpriv --reuid "$U" --regid "$U" --clear-groups --inh-caps=-all "$@"
"#;

/// A program of the tree.
fn wrapper(program: &str) -> String {
    format!(
        "#!/bin/sh\n# The packaged {program} of Debian sid; see sid-run.\n\
         at=$(dirname \"$(realpath \"$0\")\")\n\
         exec \"$at/sid-run\" \"$at/root/usr/bin/{program}\" \"$@\"\n"
    )
}

fn write_wrappers(dir: &Path) -> Result<()> {
    let wrappers =
        [("sid-run", SID_RUN.into()), ("cpasta", wrapper("pasta")), ("cpesto", wrapper("pesto"))];
    for (name, text) in wrappers {
        let path = dir.join(name);
        if fs::read_to_string(&path).ok().as_ref() == Some(&text) {
            continue;
        }
        // Written beside and moved: somebody may be running the old one.
        let new = dir.join(format!("{name}.new"));
        fs::write(&new, text)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, &path)?;
    }
    Ok(())
}

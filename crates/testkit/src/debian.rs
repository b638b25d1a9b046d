//! A small Debian sid tree with the packaged C pasta and the C library it needs, and a second one with
//! the newest QEMU and its libraries.
//!
//! The tree holds three unpacked packages only. `sid-run PROGRAM ARGS` enters a private mount
//! namespace in which the tree's libraries lie over this machine's own (an older program runs
//! under a newer C library, never the other way), with a tun device for everybody, and goes on as
//! an ordinary user. `cpasta ARGS`, `cpasst ARGS` and `cpesto ARGS` do the same for the packaged programs,
//! which thus find their faster twins through /proc/self/exe and run this machine's own programs as
//! their children. `cqemu ARGS` is QEMU under the libraries of the second tree.
//!
//! [`prepare`] downloads, so it is for whoever starts the tests or the benchmark. Tests are told in
//! `DEBIAN_SID` where the tree is, and ask for it with [`Rig::debian`].

use crate::apt::{Apt, unpack};
use crate::pasta::PastaBuilder;
use crate::proc::Proc;
use crate::rig::{Rig, RigError, User};
use anyhow::{Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The packages unpacked.
const PACKAGES: [&str; 3] = ["passt", "libc6", "libgcc-s1"];
/// pasta in the tree.
const PASTA: &str = "usr/bin/pasta";
/// QEMU in its tree.
const QEMU: &str = "usr/bin/qemu-system-x86_64";
/// Limit for a short command.
const SHORT: Duration = Duration::from_secs(20);
/// Where a rig has the tree, for every user.
const IN_RIG: &str = "/run/rig/sid";

impl Rig {
    /// The packaged C pasta, to be started by the ordinary user; ends the test as skipped if there
    /// is none.
    pub fn debian_pasta(&self) -> Result<PastaBuilder<'_>> {
        let path = self.debian()?.join("cpasta");
        Ok(PastaBuilder::wrapped(self, &path, User::Ordinary))
    }

    /// The packaged QEMU, as a command line for root that goes on as `user`; ends the test as skipped if
    /// there is none.
    pub fn debian_qemu(&self, user: User) -> Result<Vec<String>> {
        let tree = self.debian()?;
        if !tree.join("qemu").join(QEMU).exists() {
            bail!(RigError("no QEMU of Debian sid".into()));
        }
        Ok(as_user(&tree.join("cqemu"), user))
    }

    /// The directory with the wrappers; ends the test as skipped if there is none.
    pub fn debian(&self) -> Result<PathBuf> {
        let Some(tree) = std::env::var_os(SID) else {
            bail!(RigError(format!("no packages of Debian sid: {SID} is not set")));
        };
        let tree = PathBuf::from(tree);
        if WRAPPERS.iter().any(|name| !tree.join(name).exists()) {
            bail!(RigError(format!("no packages of Debian sid in {}", tree.display())));
        }
        let at = PathBuf::from(IN_RIG);
        if !at.exists() {
            // The ordinary user may not be allowed to go where the tree is.
            fs::create_dir(&at)?;
            let mut command = Command::new("mount");
            command.arg("--bind").arg(&tree).arg(&at);
            Proc::run(command, SHORT)?.ok("mount")?;
        }
        Ok(at)
    }
}

/// The command line of a wrapper: it changes the user itself, to the one that the variable names.
pub(crate) fn as_user(wrapper: &Path, user: User) -> Vec<String> {
    let uid = if user == User::Root { 0 } else { 1000 };
    vec!["env".into(), format!("PASTA_UID={uid}"), wrapper.display().to_string()]
}

/// The variable in the environment that names the tree.
pub const SID: &str = "DEBIAN_SID";

/// Makes the tree in `dir`, unless it is there, with `qemu` that of QEMU, too.
///
/// # Errors
/// Without root, apt and a Debian mirror.
pub fn prepare(dir: &Path, qemu: bool) -> Result<()> {
    let trees = [dir.join("root"), dir.join("qemu")];
    let wanted = [!trees[0].join(PASTA).exists(), qemu && !trees[1].join(QEMU).exists()];
    if wanted != [false, false] {
        let apt = Apt::new(&dir.join("apt"), &[("debian", "sid")])?;
        if wanted[0] {
            unpack(&apt.download(&dir.join("debs"), &PACKAGES)?, &trees[0])?;
        }
        if wanted[1] {
            unpack(&apt.download_all("qemu-system-x86")?, &trees[1])?;
            apt.clean()?;
        }
    }
    write_wrappers(dir)
}

/// What reads policies, with the libraries it needs.
const POLICY_TOOLS: [&str; 11] = [
    "apparmor",
    "checkpolicy",
    "libapparmor1",
    "libc6",
    "libgcc-s1",
    "libpcre2-8-0",
    "libselinux1",
    "libsepol2",
    "libstdc++6",
    "libzstd1",
    "semodule-utils",
];

/// Makes a third tree in `dir`, unless it is there, with the tools that read AppArmor's and SELinux's policies.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_policy_tools(dir: &Path) -> Result<()> {
    let tree = dir.join("policy");
    if !tree.exists() {
        let apt = Apt::new(&dir.join("apt"), &[("debian", "sid")])?;
        unpack(&apt.download(&dir.join("debs"), &POLICY_TOOLS)?, &tree)?;
    }
    write_wrappers(dir)
}

/// A command that runs one of these tools as root, and where the tree has its own files: `None` if there is no such
/// tool.
#[must_use]
pub fn policy_tool(dir: &Path, program: &str) -> Option<(Command, PathBuf)> {
    let tree = dir.join("policy");
    let path = ["usr/sbin", "usr/bin"].map(|bin| tree.join(bin).join(program));
    let path = path.into_iter().find(|path| path.exists())?;
    let mut command = Command::new(dir.join("sid-run"));
    command.arg(path).env("SID_TREE", "policy").env("PASTA_UID", "0");
    Some((command, tree))
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

/// Enters the tree. What it runs does not depend on where the tree is: that may be somewhere else in a rig.
const SID_RUN: &str = r#"#!/bin/sh
# sid-run PROGRAM ARGS: as root, in any network namespace. Runs PROGRAM under Debian sid's C library,
# as the ordinary user $PASTA_UID (default 1000; 0 keeps root), with a /dev/net/tun for everybody.
# $SID_TREE names another tree than root. What runs inside may call wrappers: it has all that already.
[ -n "$SID_ENTERED" ] && exec "$@"
if [ "$1" != --entered ]; then
    exec unshare -m --propagation private "$0" --entered "$@"
fi
shift
export SID_ENTERED=1
T=${0%/*}/${SID_TREE:-root}
L=/usr/lib/$(uname -m)-linux-gnu
mount -t overlay overlay -o "lowerdir=$T$L:$L" "$L" || exit 125
{ mount -t tmpfs -o mode=755 tun /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun; } || exit 125
U=${PASTA_UID:-1000}
[ "$U" = 0 ] && exec "$@"
exec setpriv --reuid "$U" --regid "$U" --clear-groups --inh-caps=-all "$@"
"#;

/// The wrappers.
const WRAPPERS: [&str; 5] = ["sid-run", "cpasta", "cpasst", "cpesto", "cqemu"];

/// What a wrapper says. Each is named like its program, after a letter.
fn wrapper(name: &str) -> String {
    let (tree, program, more) = match name {
        "sid-run" => return SID_RUN.into(),
        "cqemu" => ("qemu", QEMU.into(), "-L \"$t/usr/share/qemu\" -L \"$t/usr/share/seabios\" "),
        _ => ("root", format!("usr/bin/{}", &name[1..]), ""),
    };
    format!(
        "#!/bin/sh\n# The packaged {program} of Debian sid; see sid-run.\n\
         at=$(dirname \"$(realpath \"$0\")\")\nt=$at/{tree}\n\
         SID_TREE={tree} exec \"$at/sid-run\" \"$t/{program}\" {more}\"$@\"\n"
    )
}

fn write_wrappers(dir: &Path) -> Result<()> {
    for name in WRAPPERS {
        let (path, text) = (dir.join(name), wrapper(name));
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

//! A small Debian sid tree with the packaged C pasta and the C library it needs.
//!
//! The tree holds three unpacked packages only. `sid-run PROGRAM ARGS` enters a private mount
//! namespace in which the tree's libraries lie over this machine's own (an older program runs
//! under a newer C library, never the other way), with a tun device for everybody, and goes on as
//! an ordinary user. `cpasta ARGS` does the same for the packaged pasta, which thus finds its
//! faster twin through /proc/self/exe and runs this machine's own programs as its children.

use crate::command;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The packages unpacked.
const PACKAGES: [&str; 3] = ["passt", "libc6", "libgcc-s1"];
/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// Makes the tree in `dir`, unless it is there. Needs root, apt and a Debian mirror.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    let root = dir.join("root");
    if !root.join("usr/bin/pasta").exists() {
        ensure!(Path::new("/usr/bin/apt-get").exists(), "no apt-get on this machine");
        let debs = download(dir)?;
        let unpacking = dir.join("root.partial");
        let _ = fs::remove_dir_all(&unpacking);
        fs::create_dir_all(&unpacking)?;
        for deb in debs {
            command::output(
                args("dpkg-deb", [Path::new("-x"), &deb, &unpacking]),
                Duration::from_secs(60),
            )?;
        }
        // Only programs, libraries and copyright files are wanted.
        let _ = fs::remove_dir_all(unpacking.join("usr/share/man"));
        fs::rename(&unpacking, &root)?;
    }
    write_wrappers(dir)
}

/// Version of the C pasta in the tree, as it says it itself.
pub(crate) fn version(dir: &Path) -> Result<String> {
    let mut command = Command::new(dir.join("cpasta"));
    command.arg("--version");
    let text = command::output(command, Duration::from_secs(10))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn args<'a>(program: &str, args: impl IntoIterator<Item = &'a Path>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Fetches the packages with a configuration of apt that touches nothing of this machine's.
fn download(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
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
        command::output(command, DOWNLOAD)?;
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

fn write_wrappers(dir: &Path) -> Result<()> {
    let at = dir.to_str().context("the tree's path is not UTF-8")?;
    let run = format!(
        r#"#!/bin/sh
# sid-run PROGRAM ARGS: as root, in any network namespace. Runs PROGRAM under Debian sid's C library,
# as the ordinary user $CPASTA_UID (default 1000; 0 keeps root), with a /dev/net/tun for everybody.
if [ "$1" != --entered ]; then
    exec unshare -m --propagation private "$0" --entered "$@"
fi
shift
T='{at}/root'
L=/usr/lib/$(uname -m)-linux-gnu
mount -t overlay overlay -o "lowerdir=$T$L:$L" "$L" || exit 125
{{ mount -t tmpfs -o mode=755 tun /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun; }} || exit 125
U=${{CPASTA_UID:-1000}}
[ "$U" = 0 ] && exec "$@"
exec setpriv --reuid "$U" --regid "$U" --clear-groups --inh-caps=-all "$@"
"#
    );
    let cpasta = format!(
        "#!/bin/sh\n# The packaged C pasta of Debian sid; see sid-run.\n\
         exec '{at}/sid-run' '{at}/root/usr/bin/pasta' \"$@\"\n"
    );
    for (name, text) in [("sid-run", run), ("cpasta", cpasta)] {
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

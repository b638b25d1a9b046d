//! The guest's kernel and its file system, made from Debian packages.

use crate::apt::{Apt, unpack};
use crate::guest::machine_arguments;
use crate::proc::Proc;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The variable in the environment that names the directory with the image.
pub const IMAGE: &str = "GUEST_IMAGE";
/// Depends on the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Packages beside the kernel.
const PACKAGES: [&str; 6] =
    ["busybox-static", "isc-dhcp-client", "klibc-utils", "libklibc", "libc6", "libgcc-s1"];
/// Programs, wherever in the packages they are.
const PROGRAMS: [&str; 3] = ["busybox", "dhclient", "ipconfig"];
/// Beginnings of the names of libraries, and where their users look for them.
const LIBRARIES: [(&str, &str); 5] = [
    ("ld-linux-x86-64.so", "lib64"),
    ("libc.so.", "lib/x86_64-linux-gnu"),
    ("libm.so.", "lib/x86_64-linux-gnu"),
    ("libgcc_s.so.", "lib/x86_64-linux-gnu"),
    ("klibc-", "lib"),
];
/// Modules that a network card needs. A kernel may have some of them built in.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "af_packet"];
/// Scripts: text, place.
const SCRIPTS: [(&str, &str); 3] = [
    (include_str!("init.sh"), "init"),
    (include_str!("udhcpc.sh"), "sbin/udhcpc-script"),
    (include_str!("dhclient.sh"), "sbin/dhclient-script"),
];
/// Limit for packing the file system.
const PACK: Duration = Duration::from_secs(60);
/// A machine on which a kernel boots under KVM does it in a fraction of this.
const PROBE: Duration = Duration::from_secs(6);

/// Makes the image in `dir` unless it is there: `vmlinuz`, `initrd`, and `accel`, which says whether this
/// machine boots it under `kvm` or has to interpret it (`tcg`). With `refresh`, looks for newer
/// packages.
///
/// # Errors
/// Without QEMU, cpio, apt and a Debian mirror.
pub fn prepare(dir: &Path, refresh: bool) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the guest is made for x86-64 only");
    fs::create_dir_all(dir)?;
    let recipe = recipe();
    let inputs = dir.join("inputs");
    let old = fs::read_to_string(&inputs).unwrap_or_default();
    if refresh || old.lines().next() != Some(&recipe) {
        let release = release()?;
        let security = format!("{release}-security");
        let archives = [("debian", release.as_str()), ("debian-security", &security)];
        let apt = Apt::new(&dir.join("apt"), &archives)?;
        let kernel = apt.first_dependency(KERNEL)?;
        let packages = [&PACKAGES[..], &[kernel.as_str()]].concat();
        let new = format!("{recipe}\n{}\n", apt.files(&packages)?.join("\n"));
        if old != new {
            let _ = fs::remove_file(&inputs);
            let packed = dir.join("packages");
            unpack(&apt.download(&dir.join("debs"), &packages)?, &packed)?;
            build(dir, &packed)?;
            for used in ["packages", "debs", "root"] {
                fs::remove_dir_all(dir.join(used))?;
            }
            fs::write(&inputs, new)?;
        }
    }
    probe(dir, &recipe)
}

/// Stands for everything that the image is made of, but for the versions of the packages.
fn recipe() -> String {
    let mut hash = Sha256::new();
    hash.update(include_str!("image.rs"));
    for (text, _) in SCRIPTS {
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of this machine's release of Debian: the guest runs programs that were built here.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    ensure!(value("ID=") == Some("debian"), "this machine does not run Debian");
    Ok(value("VERSION_CODENAME=").context("a release without a name")?.to_owned())
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether a file is a program or a library, in the format of this system.
fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let file = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    file.is_ok() && magic == *b"\x7fELF"
}

/// Copies what the guest needs out of unpacked packages, and packs it.
fn build(dir: &Path, packed: &Path) -> Result<()> {
    let root = dir.join("root");
    let _ = fs::remove_dir_all(&root);
    for sub in ["bin", "sbin", "lib64", "lib/x86_64-linux-gnu", "modules", "proc", "sys", "dev"]
        .into_iter()
        .chain(["etc", "tmp", "run", "var/lib/dhcp"])
    {
        fs::create_dir_all(root.join(sub))?;
    }
    let mut all = Vec::new();
    files(packed, &mut all)?;
    let find = |wanted: &dyn Fn(&str) -> bool| all.iter().find(|path| wanted(name(path)));
    let code = |wanted: &dyn Fn(&str) -> bool| {
        all.iter().find(|path| wanted(name(path)) && is_program(path))
    };
    for program in PROGRAMS {
        let from = code(&|name| name == program).with_context(|| format!("no {program}"))?;
        fs::copy(from, root.join("bin").join(program))?;
    }
    for (library, to) in LIBRARIES {
        let from = code(&|name| name.starts_with(library));
        let from = from.with_context(|| format!("no {library}"))?;
        fs::copy(from, root.join(to).join(name(from)))?;
    }
    let mut order = Vec::new();
    for module in MODULES {
        add_module(module, &all, &root.join("modules"), &mut order)?;
    }
    fs::write(root.join("modules/order"), order.join("\n"))?;
    for (text, place) in SCRIPTS {
        let at = root.join(place);
        fs::write(&at, text)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
    }
    symlink("busybox", root.join("bin/sh"))?;
    pack(&root, &dir.join("initrd.new"))?;
    let kernel = find(&|name| name.starts_with("vmlinuz-")).context("no kernel")?;
    fs::copy(kernel, dir.join("vmlinuz"))?;
    Ok(fs::rename(dir.join("initrd.new"), dir.join("initrd"))?)
}

/// Copies a module to `to`, and adds it to `order` after what it depends on.
fn add_module(module: &str, all: &[PathBuf], to: &Path, order: &mut Vec<String>) -> Result<()> {
    let is_it = |path: &&PathBuf| {
        let stem = name(path).trim_end_matches(".xz").strip_suffix(".ko");
        stem.is_some_and(|stem| stem.replace('-', "_") == module)
    };
    let Some(from) = all.iter().find(is_it) else { return Ok(()) };
    if order.iter().any(|there| there == module) {
        return Ok(());
    }
    let at = to.join(format!("{module}.ko"));
    if name(from).ends_with(".xz") {
        sh("xz -dc \"$0\" > \"$1\"", &[from, &at], to)?;
    } else {
        fs::copy(from, &at)?;
    }
    let code = fs::read(&at)?;
    let mut notes = code.split(|byte| *byte == 0);
    let depends = notes.find_map(|note| note.strip_prefix(b"depends=")).context("no module")?;
    for other in String::from_utf8_lossy(depends).split(',').filter(|other| !other.is_empty()) {
        add_module(other, all, to, order)?;
    }
    order.push(module.to_owned());
    Ok(())
}

/// Appends the files below `root` to `archive`, in the format that the kernel unpacks. The same files give
/// the same bytes.
pub(super) fn pack(root: &Path, archive: &Path) -> Result<()> {
    let script = "find . -exec touch -h -d @0 {} + && find . -print0 | LC_ALL=C sort -z |
        cpio --quiet -0 -o -H newc -R 0:0 --reproducible >> \"$0\"";
    sh(script, &[archive], root)
}

fn sh(script: &str, args: &[&Path], at: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).args(args).current_dir(at);
    Proc::run(command, PACK)?.ok(script).map(drop)
}

/// Finds out whether the image boots under KVM here: there are machines with a /dev/kvm that cannot.
fn probe(dir: &Path, recipe: &str) -> Result<()> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let (key, accel) = (dir.join("probed"), dir.join("accel"));
    let state = format!("{recipe} {boot}");
    if accel.exists() && fs::read_to_string(&key).is_ok_and(|old| old == state) {
        return Ok(());
    }
    let found = if Path::new("/dev/kvm").exists() && boots(dir, "kvm")? {
        "kvm"
    } else {
        let long = PROBE * 10;
        ensure!(boots_within(dir, "tcg", long)?, "the guest does not boot in {long:?}");
        "tcg"
    };
    fs::write(accel, found)?;
    Ok(fs::write(key, state)?)
}

fn boots(dir: &Path, accel: &str) -> Result<bool> {
    boots_within(dir, accel, PROBE)
}

fn boots_within(dir: &Path, accel: &str, limit: Duration) -> Result<bool> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(machine_arguments(dir, accel, "", Path::new("/dev/null")));
    let mut proc = Proc::start(command).context("QEMU")?;
    Ok(proc.wait_line(super::READY, limit).is_ok())
}

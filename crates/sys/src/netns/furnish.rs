//! What a process does to the namespaces it was just given, before a command runs in them.

use std::fs;
use std::io;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::privileges::Identity;

/// Maps uid 0 and gid 0 of our new user namespace to `outside`, and nothing else.
///
/// # Errors
/// Those of writing `/proc/self/{setgroups,uid_map,gid_map}`.
pub fn map_root_to(outside: Identity) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {} 1", outside.uid))?;
    // Whoever can drop a group could get at what that group is denied: the kernel wants this
    // before it lets an ordinary user map a group.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", outside.gid))
}

/// Keeps mounts of our new mount namespace from reaching the one it was copied from.
///
/// # Errors
/// Those of `mount(2)`.
pub fn keep_mounts_private() -> io::Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

/// Mounts a procfs that shows our new PID namespace.
///
/// # Errors
/// Those of `mount(2)`.
pub fn mount_proc() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// Lets group 0 of our new user namespace open ping sockets in our new network namespace.
///
/// # Errors
/// `EINVAL` if group 0 maps to nothing; those of writing to procfs.
pub fn allow_ping_to_group_0() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")
}

/// The host name of our UTS namespace.
#[must_use]
pub fn host_name() -> Vec<u8> {
    rustix::system::uname().nodename().to_bytes().to_vec()
}

/// Sets the host name of our new UTS namespace, at most 64 bytes of it.
///
/// # Errors
/// Those of `sethostname(2)`.
pub fn set_host_name(name: &[u8]) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.get(..64).unwrap_or(name))?)
}

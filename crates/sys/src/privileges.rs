//! Who we are to the kernel: user and group, capabilities, and giving them up.

use std::io;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getegid, geteuid, set_dumpable_behavior,
    setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use crate::netns::map_root_to;

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Identity {
    /// The effective user and group of the calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Takes on this identity for good, without supplementary groups (left as they are when they
    /// may not be changed). Acts on the calling thread: for single-threaded processes.
    ///
    /// # Errors
    /// Those of `setresgid(2)` and `setresuid(2)`.
    pub fn assume(self) -> io::Result<()> {
        drop_groups()?;
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        Ok(set_thread_res_uid(uid, uid, uid)?)
    }
}

/// Takes the calling thread out of its supplementary groups, if that may be done. Acts on the calling thread:
/// for single-threaded processes.
///
/// # Errors
/// Those of `setgroups(2)`, except `EPERM`.
pub fn drop_groups() -> io::Result<()> {
    match set_thread_groups(&[]) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process is in the initial user namespace, where uid 0 is the machine's root.
///
/// # Errors
/// Those of reading `/proc/self/uid_map`.
pub fn in_initial_user_namespace() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(maps_everything(&map))
}

/// One line that maps the whole range onto itself.
fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Moves the process into a new user namespace, with all capabilities over that and none elsewhere, as
/// user 0 and group 0 of it, which are the present ones outside. For single-threaded processes.
///
/// # Errors
/// Those of `unshare(2)`.
pub fn enter_new_user_namespace() -> io::Result<()> {
    let outside = Identity::current();
    // Whoever has changed users since it was started does not own its own files in /proc.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    // SAFETY: unshare_unsafe is about descriptor tables; CLONE_NEWUSER does not touch those.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
    // Without maps we are nobody there, which will do.
    if let Err(error) = map_root_to(outside) {
        log::debug!("user namespace: {error}");
    }
    Ok(())
}

/// Whether the calling thread has `CAP_SYS_ADMIN` in its user namespace.
#[must_use]
pub fn is_administrator() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Empties the bounding set of the calling thread: no program it executes gains a capability. `false` if it
/// may not (that takes `CAP_SETPCAP`) and the set is as it was.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn empty_bounding_set() -> io::Result<bool> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The end of those the kernel knows.
            Err(Errno::INVAL) => break,
            Err(Errno::PERM) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Gives up every capability of the calling thread that no start can need. What a program that it executes may
/// get is left alone.
///
/// # Errors
/// Those of `capget(2)` and `capset(2)`.
pub fn keep_what_a_start_needs() -> io::Result<()> {
    // To listen on low ports; to change the user, and take supplementary groups away; to make namespaces,
    // enter them and configure them; to mount and change the root; to get at files of the user we do not
    // stay, namespaces of processes among them; to map root into a user namespace; and to empty the
    // bounding set in the end.
    let needed = CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::SYS_ADMIN
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::SYS_PTRACE
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP;
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let (effective, permitted) = (effective & needed, permitted & needed);
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

/// Gives up every capability of the calling thread.
///
/// # Errors
/// Those of `capset(2)` and `prctl(2)`.
pub fn drop_capabilities() -> io::Result<()> {
    keep_capabilities(CapabilitySet::empty())
}

/// Gives up every capability of the calling thread but the one to listen on ports below 1024
/// (`CAP_NET_BIND_SERVICE`), if it has that.
///
/// # Errors
/// Those of `capset(2)` and `prctl(2)`.
pub fn keep_low_ports() -> io::Result<()> {
    let permitted = capabilities(None)?.permitted;
    keep_capabilities(permitted & CapabilitySet::NET_BIND_SERVICE)
}

/// Lets the calling thread keep its permitted capabilities when it changes from root to somebody else
/// (`PR_SET_KEEPCAPS`).
///
/// # Errors
/// Those of `prctl(2)`.
pub fn survive_change_of_user() -> io::Result<()> {
    Ok(set_keep_capabilities(true)?)
}

fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    // Kernels before 4.3 have no ambient set.
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    set_capability_sets(kept)
}

fn set_capability_sets(kept: CapabilitySet) -> io::Result<()> {
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    Ok(set_capabilities(None, sets)?)
}

/// Capabilities to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(CapabilitySet);

impl Kept {
    /// For repair mode (`CAP_NET_ADMIN`), as far as the calling thread is permitted it.
    ///
    /// # Errors
    /// Those of `capget(2)`.
    pub fn for_repair() -> io::Result<Self> {
        Ok(Self(capabilities(None)?.permitted & CapabilitySet::NET_ADMIN))
    }

    /// Those and what leads to files of others, also by `/proc/PID/root`, as far as permitted
    /// (`CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`).
    ///
    /// # Errors
    /// Those of `capget(2)`.
    pub fn with_files(self) -> io::Result<Self> {
        let files = CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::DAC_READ_SEARCH
            | CapabilitySet::SYS_PTRACE;
        Ok(Self(self.0 | capabilities(None)?.permitted & files))
    }

    /// Gives up every other capability of the calling thread.
    ///
    /// # Errors
    /// Those of `capset(2)` and `prctl(2)`.
    pub fn keep(self) -> io::Result<()> {
        keep_capabilities(self.0)
    }

    /// Like [`Kept::keep`], by `capset(2)` alone, when the ambient set is empty already.
    ///
    /// # Errors
    /// Those of `capset(2)`.
    pub fn keep_further(self) -> io::Result<()> {
        set_capability_sets(self.0)
    }
}

/// `execve(2)` may no longer grant anything (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// Those of `prctl(2)`.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// No core files of this process (`RLIMIT_CORE`), nor of programs it executes.
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn forbid_core_files() -> io::Result<()> {
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// No core dumps, and no access for debuggers of the same user (`PR_SET_DUMPABLE`).
///
/// # Errors
/// Those of `prctl(2)`.
pub fn forbid_dumping() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_identity_map_is_the_initial_one() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n"));
        assert!(!maps_everything("0 1000 1\n1 100000 65536\n"));
        assert!(!maps_everything(""));
    }

    #[test]
    fn capabilities_are_gone_for_the_thread_that_drops_them() {
        std::thread::spawn(|| {
            drop_capabilities().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                let line = status.lines().find(|line| line.starts_with(set)).unwrap();
                assert!(line.ends_with("\t0000000000000000"), "{line}");
            }
            assert!(!is_administrator());
        })
        .join()
        .unwrap();
    }
}

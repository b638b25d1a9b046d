//! Namespaces of our own, and a root directory with nothing in it.
//!
//! Everything here is for processes of one thread: what is made later shares it.

use std::io;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, mount_move,
    unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Where the empty root is mounted before it becomes the root: the first of these that is a directory. The
/// second one is there wherever we can start at all.
const PLACES: [&str; 2] = ["/tmp", "/proc"];

/// Moves the process into a mount namespace, an IPC namespace and a UTS namespace of its own.
///
/// # Errors
/// Those of `unshare(2)`: `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_new_namespaces() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)
}

/// Has the next child made in a PID namespace of its own, as pid 1 of that. Until then this process can
/// have no other thread.
///
/// # Errors
/// Those of `unshare(2)`: `EPERM` without `CAP_SYS_ADMIN`.
pub fn next_child_in_new_pid_namespace() -> io::Result<()> {
    unshare(UnshareFlags::NEWPID)
}

fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // SAFETY: unshare_unsafe is about descriptor tables; none of our flags touches those.
    Ok(unsafe { unshare_unsafe(namespaces) }?)
}

/// What gave the process its empty root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `pivot_root(2)`: the former root is mounted nowhere any more.
    Pivoted,
    /// `chroot(2)`: the former root is still mounted beneath.
    Changed,
}

/// Why the process could not be given an empty root.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RootError {
    /// What failed.
    pub what: &'static str,
    /// Why.
    #[source]
    pub error: io::Error,
    /// The root cannot be exchanged; changing it had not been allowed.
    pub could_be_changed: bool,
}

impl RootError {
    fn new(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |error| Self { what, error: error.into(), could_be_changed: false }
    }

    fn fixed(what: &'static str, error: Errno) -> Self {
        Self { could_be_changed: true, ..Self::new(what)(error) }
    }
}

/// Gives the process a root directory that is empty and takes no files. It must be in a mount namespace of its own,
/// see [`enter_new_namespaces`].
///
/// Where the root cannot be exchanged (it cannot in an initramfs, or in a mere directory that somebody made the
/// root), `may_change` says whether it may be changed by `chroot(2)` instead, which is weaker.
///
/// # Errors
/// What failed, of `mount(2)`, `pivot_root(2)` and the like.
pub fn empty_root(may_change: impl Fn() -> bool) -> Result<Root, RootError> {
    // What happens to our mounts is to reach no other namespace, nor the other way round.
    const PRIVATE: &str = "Failed to make mounts private";
    match mount_change("/", MountPropagationFlags::UNBINDABLE | MountPropagationFlags::REC) {
        Ok(()) => {}
        // Not the root of any mount: this very process lives in a chroot(2).
        Err(Errno::INVAL) if may_change() => return change_to_detached(),
        Err(error @ Errno::INVAL) => return Err(RootError::fixed(PRIVATE, error)),
        Err(error) => return Err(RootError::new(PRIVATE)(error)),
    }
    let place = mount_empty().map_err(RootError::new("Failed to mount an empty tmpfs"))?;
    chdir(place).map_err(RootError::new("Failed to change to the empty tmpfs"))?;
    match pivot_root(".", ".") {
        Ok(()) => {
            // Stacked upon the new one, the former root is where we are, and goes.
            unmount(".", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .map_err(RootError::new("Failed to unmount the former root"))?;
            Ok(Root::Pivoted)
        }
        Err(_) if may_change() => {
            mount_move(".", "/").map_err(RootError::new("Failed to move the empty tmpfs"))?;
            change_to_here()
        }
        Err(error) => Err(RootError::fixed("Failed to pivot_root()", error)),
    }
}

/// Changes to a tmpfs that is mounted nowhere: where mounts reach other namespaces, nothing may be mounted.
fn change_to_detached() -> Result<Root, RootError> {
    let make = || {
        let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&tmpfs, "nr_inodes", "2")?;
        fsconfig_create(&tmpfs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).and_then(fchdir)
    };
    make().map_err(RootError::new("Failed to make an empty tmpfs"))?;
    change_to_here()
}

fn change_to_here() -> Result<Root, RootError> {
    chroot(".").map_err(RootError::new("Failed to chroot()"))?;
    chdir("/").map_err(RootError::new("Failed to change to the empty root"))?;
    Ok(Root::Changed)
}

/// Mounts a tmpfs that is empty and stays so. Returns where.
fn mount_empty() -> Result<&'static str, Errno> {
    let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::RDONLY;
    let mut result = Err(Errno::NOENT);
    for place in PLACES {
        result = mount("tmpfs", place, "tmpfs", flags, c"nr_inodes=2,nr_blocks=0").map(|()| place);
        if !matches!(result, Err(Errno::NOENT | Errno::NOTDIR)) {
            break;
        }
    }
    result
}

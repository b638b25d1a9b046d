//! Namespaces of our own, and a root directory with nothing in it.
//!
//! Everything here is for processes of one thread: what is made later shares it.

use std::io;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
};
use rustix::process::{chdir, chroot, pivot_root};
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
pub enum RootError {
    /// `pivot_root(2)` failed.
    #[error("Failed to pivot_root()")]
    Pivot(#[source] io::Error),
    /// Something else did, named here.
    #[error("{0}")]
    Other(&'static str, #[source] io::Error),
}

/// Gives the process a root directory that is empty and takes no files. It must be in a mount namespace of its own,
/// see [`enter_new_namespaces`].
///
/// Where the root cannot be exchanged (it cannot in an initramfs), `fall_back` is asked whether it may be
/// changed by `chroot(2)` instead, which is weaker.
///
/// # Errors
/// What failed, of mount(2), `pivot_root(2)` and the like.
pub fn empty_root(fall_back: impl FnOnce(&io::Error) -> bool) -> Result<Root, RootError> {
    let failed = |what| move |error: Errno| RootError::Other(what, error.into());
    // What happens to our mounts is to reach no other namespace, nor the other way round.
    mount_change("/", MountPropagationFlags::UNBINDABLE | MountPropagationFlags::REC)
        .map_err(failed("Failed to make mounts private"))?;
    let place = mount_empty().map_err(failed("Failed to mount an empty tmpfs"))?;
    chdir(place).map_err(failed("Failed to change to the empty tmpfs"))?;
    // Stacked upon itself, the former root is where we are, and goes.
    match pivot_root(".", ".") {
        Ok(()) => {
            unmount(".", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .map_err(failed("Failed to unmount the former root"))?;
            Ok(Root::Pivoted)
        }
        Err(error) => {
            let error = error.into();
            if !fall_back(&error) {
                return Err(RootError::Pivot(error));
            }
            mount_move(".", "/").map_err(failed("Failed to move the empty tmpfs"))?;
            chroot(".").map_err(failed("Failed to chroot()"))?;
            chdir("/").map_err(failed("Failed to change to the empty root"))?;
            Ok(Root::Changed)
        }
    }
}

/// Mounts a tmpfs that is empty and stays so. Returns where.
fn mount_empty() -> Result<&'static str, Errno> {
    let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::RDONLY;
    let mut result = Err(Errno::NOENT);
    for place in PLACES {
        // One inode is the root directory's, and the kernel wants one more.
        result = mount("tmpfs", place, "tmpfs", flags, c"nr_inodes=2,nr_blocks=0").map(|()| place);
        if !matches!(result, Err(Errno::NOENT | Errno::NOTDIR)) {
            break;
        }
    }
    result
}

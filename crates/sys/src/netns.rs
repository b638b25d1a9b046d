//! Namespaces: opening and joining those that exist, furnishing those of a new process, and
//! noticing when one goes away.

mod furnish;

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, inotify, open as open_path, openat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

pub use furnish::{
    allow_ping_to_group_0, host_name, keep_mounts_private, map_root_to, mount_proc, set_host_name,
};

/// Opens a namespace file: `/proc/PID/ns/…`, a bind mount of one, or `/proc/self/fd/N`.
///
/// # Errors
/// Those of `open(2)`.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_path(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Joins a user namespace. The kernel wants the process to be single-threaded for that.
///
/// # Errors
/// Those of `setns(2)`: `EPERM` without `CAP_SYS_ADMIN` there, `EINVAL` when several threads run,
/// when we are in it already, or when it is no user namespace.
pub fn join_user(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::User))?)
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// Those of `setns(2)`: `EPERM` without `CAP_SYS_ADMIN` over it, `EINVAL` if it is none.
pub fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Runs `job` on a thread that has entered the network namespace, and waits for it to end.
/// Sockets made there stay in that namespace, and usable here.
///
/// # Errors
/// Those of starting a thread, and of `setns(2)` in it.
pub fn in_network<T: Send>(
    namespace: BorrowedFd<'_>,
    job: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let visitor =
            std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                enter_network(namespace)?;
                Ok(job())
            })?;
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into a new network namespace (`unshare(CLONE_NEWNET)`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn new_network() -> io::Result<()> {
    // SAFETY: unshare_unsafe is about descriptor tables; CLONE_NEWNET does not touch those.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Tells when the file a network namespace was named by is gone.
///
/// Watches the file's directory: by inotify, or, where the file system makes no events (procfs,
/// sysfs, devpts), by looking once a second. Its descriptor becomes readable when it is time to
/// ask [`QuitWatch::is_gone`].
#[derive(Debug)]
pub struct QuitWatch {
    directory: OwnedFd,
    name: CString,
    events: OwnedFd,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Inotify,
    Timer,
}

impl QuitWatch {
    /// Starts to watch the file at `path`; relative paths are taken from the current directory.
    ///
    /// # Errors
    /// Those of opening the directory, and of making a timer where that is needed.
    pub fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_else(|| OsStr::new("."));
        let name = CString::new(name.as_bytes())?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, parent, flags, Mode::empty())?;
        let silent = fstatfs(&directory).map_or(true, |fs| {
            #[allow(clippy::unnecessary_cast, reason = "the width of f_type depends on the target")]
            let kind = fs.f_type as i64;
            [PROC_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind)
        });
        let events = if silent { None } else { watch_directory(parent) };
        let (events, how) = match events {
            Some(events) => (events, How::Inotify),
            None => (every_second()?, How::Timer),
        };
        Ok(Self { directory, name, events, how })
    }

    /// Last component of the watched path.
    #[must_use]
    pub fn name(&self) -> PathBuf {
        OsStr::from_bytes(self.name.as_bytes()).into()
    }

    /// Takes note of what made the descriptor readable. Once `true`, the namespace's file is gone.
    pub fn is_gone(&mut self) -> bool {
        match self.how {
            How::Timer => {
                // The count of missed seconds does not matter, and neither does an early call.
                let _ = rustix::io::read(&self.events, &mut [0; 8]);
                !self.exists()
            }
            How::Inotify => self.deleted(),
        }
    }

    /// Looks for the name. `EACCES` is what procfs answers about processes of others: it is there.
    fn exists(&self) -> bool {
        let found =
            openat(&self.directory, &self.name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        matches!(found, Ok(_) | Err(Errno::ACCESS))
    }

    /// Reads the events that wait; a file made anew under the same name does not hide the loss.
    fn deleted(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    if !self.exists() {
                        return true;
                    }
                }
                Ok(event) if event.file_name() == Some(&self.name) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for QuitWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// An inotify descriptor for deletions in `directory`, `None` where that does not work.
fn watch_directory(directory: &Path) -> Option<OwnedFd> {
    let watch = || {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let events = inotify::init(flags)?;
        inotify::add_watch(
            &events,
            directory,
            inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM,
        )?;
        Ok::<_, Errno>(events)
    };
    watch().map_err(|error| log::warn!("inotify: {error}, looking once a second")).ok()
}

fn every_second() -> io::Result<OwnedFd> {
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let every = Itimerspec { it_interval: second, it_value: second };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("quit-watch-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_deletion_is_seen_and_a_neighbours_is_not() {
        let directory = directory("inotify");
        let (ours, other) = (directory.join("ours"), directory.join("other"));
        fs::write(&ours, "").unwrap();
        fs::write(&other, "").unwrap();
        let mut watch = QuitWatch::new(&ours).unwrap();
        assert_eq!(watch.how, How::Inotify);
        assert_eq!(watch.name(), Path::new("ours"));
        assert!(!watch.is_gone());
        fs::remove_file(&other).unwrap();
        assert!(!watch.is_gone());
        fs::remove_file(&ours).unwrap();
        fs::write(&ours, "").unwrap();
        assert!(watch.is_gone());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_namespace_of_a_process_goes_with_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let path = PathBuf::from(format!("/proc/{}/ns/net", child.id()));
        let mut watch = QuitWatch::new(&path).unwrap();
        assert_eq!(watch.how, How::Timer);
        assert!(!watch.is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(watch.is_gone());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let error = QuitWatch::new(Path::new("/nonexistent/directory/ns")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_socket_made_in_a_namespace_stays_there() {
        if rustix::process::geteuid().as_raw() != 0 {
            return eprintln!("skipped: making a network namespace needs root");
        }
        let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (namespace, inside) = std::thread::spawn(|| {
            new_network().unwrap();
            let path = Path::new("/proc/thread-self/ns/net");
            (open(path).unwrap(), fs::read_link(path).unwrap())
        })
        .join()
        .unwrap();
        let seen =
            in_network(namespace.as_fd(), || fs::read_link("/proc/thread-self/ns/net").unwrap());
        assert_eq!(seen.unwrap(), inside);
        assert_ne!(inside, here);
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
    }

    #[test]
    fn not_every_file_is_a_namespace() {
        let file = open(Path::new("/dev/null")).unwrap();
        let error = in_network(file.as_fd(), || ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}

//! Descriptors a process starts with: the standard three, and what else it inherited.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Makes sure that descriptors 0, 1 and 2 are open, so that nothing opened later takes the place
/// of standard error and gets its messages. Missing ones become `/dev/null`.
///
/// # Errors
/// Those of opening `/dev/null`.
pub fn ensure_standard() -> io::Result<()> {
    for fd in 0..3 {
        // SAFETY: F_GETFD takes no pointer; it only asks whether the descriptor is open.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1 {
            continue;
        }
        // The lowest free number is this one: those below are open by now. It stays open.
        let _ = open("/dev/null", OFlags::RDWR, Mode::empty())?.into_raw_fd();
    }
    Ok(())
}

/// Takes over a descriptor that we inherited, by its number. It gets another one, above 2; what had the
/// first is closed with the other inherited descriptors, or becomes `/dev/null` if it is a standard one.
///
/// # Errors
/// `EBADF` if there is none.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer; the descriptor returned is new and ours.
    let adopted = unsafe {
        match libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    match number {
        0 => dup2_stdin(null)?,
        1 => dup2_stdout(null)?,
        2 => dup2_stderr(null)?,
        _ => {}
    }
    Ok(adopted)
}

/// Closes every inherited descriptor above 2 except those in `keep`, by `close_range(2)`, or one by one where that
/// is missing (before Linux 5.9) or not allowed.
///
/// For the very start of a process, while nothing but `keep` has been opened: whoever owned one of
/// the closed descriptors would find it gone.
///
/// # Errors
/// Those of `close_range(2)`, if `/proc/self/fd` cannot be read either.
pub fn close_inherited(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    close_ranges(&kept).or_else(|error| close_each(&kept).map_err(|_| error))
}

/// Closes what is between the `kept` ones, which are in order.
fn close_ranges(kept: &[RawFd]) -> io::Result<()> {
    let mut first = 3;
    for &fd in kept {
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX)
}

/// Closes what there is but the `kept` ones.
fn close_each(kept: &[RawFd]) -> io::Result<()> {
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .collect::<io::Result<Vec<Option<RawFd>>>>()?;
    for fd in numbers.into_iter().flatten().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // The directory's own is among them, and gone already.
        // SAFETY: no pointers. That the closed descriptors have no owner is this module's contract.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Gives `fd` the number that a program to be executed expects it at; it inherits it. What has that
/// number is closed.
///
/// Like [`close_inherited`], for a process in which nothing but `fd` and the standard three is open, or
/// whose memory is about to be replaced: an owner of that number would find something else there.
///
/// # Errors
/// `EBADF` if `number` is beyond the limit of open files, or negative.
pub fn hand_on(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: neither call takes a pointer. That `number` has no owner is the contract of this function.
    let result = unsafe {
        if fd.as_raw_fd() == number {
            // dup2 would do nothing, and leave close-on-exec as it is.
            libc::fcntl(number, libc::F_SETFD, 0)
        } else {
            libc::dup2(fd.as_raw_fd(), number)
        }
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    if fd.as_raw_fd() == number {
        // From now on it belongs to the program.
        let _ = fd.into_raw_fd();
    }
    Ok(())
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: no pointers. That the closed descriptors have no owner is this module's contract.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Raises the soft limit of open files to the hard one, and returns what it was before.
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn raise_limit() -> io::Result<Rlimit> {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before })?;
    }
    Ok(before)
}

/// The number of descriptors this process may have open (`RLIMIT_NOFILE`).
#[must_use]
pub fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The number that this limit may be raised to.
#[must_use]
pub fn hard_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// A descriptor that is given up for a moment when there are no others.
#[derive(Debug)]
pub struct Spare(Option<OwnedFd>);

impl Spare {
    /// Takes a descriptor.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new() -> io::Result<Self> {
        // A socket, because making those is what its owners have to be able to anyway.
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        Ok(Self(Some(fd)))
    }

    /// Gives it up.
    pub fn release(&mut self) {
        self.0 = None;
    }

    /// Takes one again, if there is one.
    pub fn regain(&mut self) {
        if self.0.is_none() {
            *self = Self::new().unwrap_or(Self(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;

    #[test]
    fn a_number_of_choice_is_inherited() {
        /// Nobody else in this process gets as far.
        const NUMBER: RawFd = 777;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let hand_on_writer = |fd: OwnedFd| {
            hand_on(fd, NUMBER).unwrap();
            // SAFETY: it was made a moment ago and has no other owner.
            let there = unsafe { OwnedFd::from_raw_fd(NUMBER) };
            let flags = rustix::io::fcntl_getfd(&there).unwrap();
            assert!(!flags.contains(rustix::io::FdFlags::CLOEXEC));
            there
        };
        let there = hand_on_writer(writer);
        rustix::io::fcntl_setfd(&there, rustix::io::FdFlags::CLOEXEC).unwrap();
        // The number it has already.
        let there = hand_on_writer(there);
        rustix::io::write(&there, b"x").unwrap();
        drop(there);
        let mut bytes = [0; 2];
        assert_eq!(rustix::io::read(&reader, &mut bytes).unwrap(), 1);
        // The end: no other copy of the writer is left.
        assert_eq!(rustix::io::read(&reader, &mut bytes).unwrap(), 0);
        assert_eq!(hand_on(reader, RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

//! Signals that end us in an orderly way, as something to read (`signalfd(2)`), and the one that the
//! Rust runtime ignores.
//!
//! The first must be blocked already: [`crate::process::Inherited::take_over`] does that. A blocked signal
//! is queued even for pid 1 of a PID namespace, which otherwise ignores what it has no handler for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A signal that asks for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`.
    Term,
    /// `SIGQUIT`.
    Quit,
}

/// Reads `SIGTERM` and `SIGQUIT`. Non-blocking, close-on-exec.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Makes one; after the last fork, because epoll reports the signals of the process that added it.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset makes the set valid, sigaddset is given valid signal numbers, and
        // signalfd only reads the set. The descriptor it returns is new and ours.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGQUIT);
            match libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// The next signal that waits, if any.
    ///
    /// # Errors
    /// Those of `read(2)`, except that nothing waits.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // ssi_signo is the first field.
        let [a, b, c, d, ..] = info;
        Ok(match i32::try_from(u32::from_ne_bytes([a, b, c, d])) {
            Ok(libc::SIGTERM) => Some(Signal::Term),
            Ok(libc::SIGQUIT) => Some(Signal::Quit),
            Ok(_) | Err(_) => None,
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `SIGPIPE` was ignored when the process started.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before the Rust runtime, which ignores `SIGPIPE` and does not say what was before.
#[used]
// SAFETY: the section holds pointers to functions that the loader calls, once each, before main; this is
// one, and it is of the kind that may ignore the arguments it is called with.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = remember_pipe;

extern "C" fn remember_pipe() {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is set; the kernel fills what is read only if it says that it did.
    let ignored = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), before.as_mut_ptr()) == 0
            && before.assume_init_ref().sa_sigaction == libc::SIG_IGN
    };
    PIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

/// Gives `SIGPIPE` the disposition with which the process was started, for a program it executes.
///
/// # Errors
/// None that are known.
pub fn restore_pipe() -> io::Result<()> {
    let before = if PIPE_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: both are valid dispositions for SIGPIPE.
    match unsafe { libc::signal(libc::SIGPIPE, before) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

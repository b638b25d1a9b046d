//! Going to the background: one fork, a parent that leaves when the child is ready, a PID file.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::process::{Child, clone, exit_now};

/// A PID file that was opened early, with the privileges of the start.
#[derive(Debug)]
pub struct PidFile(File);

impl PidFile {
    /// Opens or creates `path` with mode 0600 and empties it.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        Ok(Self(options.write(true).create(true).truncate(true).mode(0o600).open(path)?))
    }

    /// Writes a process id and a newline.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn write(mut self, pid: u32) -> io::Result<()> {
        self.0.write_all(format!("{pid}\n").as_bytes())
    }
}

/// The two processes after [`fork`].
#[derive(Debug)]
pub enum Forked {
    /// The original, which waits for its child to be ready.
    Parent(Parent),
    /// The copy, which does the work, in a session of its own.
    Child(Background),
}

/// What the original process has of its child.
#[derive(Debug)]
pub struct Parent {
    child: Child,
    ready: OwnedFd,
}

/// What the child needs to leave the terminal.
#[derive(Debug)]
pub struct Background {
    null: OwnedFd,
    ready: OwnedFd,
    pid: u32,
}

/// Forks once. `/dev/null` is opened before, while the file system is there for certain.
///
/// # Errors
/// Those of opening `/dev/null`, and those of [`crate::process::spawn`].
pub fn fork() -> io::Result<Forked> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (wait, ready) = pipe_with(PipeFlags::CLOEXEC)?;
    match clone(0)? {
        Some((pid, pidfd)) => {
            Ok(Forked::Parent(Parent { child: Child::new(pid, pidfd), ready: wait }))
        }
        None => {
            rustix::process::setsid()?;
            Ok(Forked::Child(Background { null, ready, pid: crate::process::id_outside() }))
        }
    }
}

impl Parent {
    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits until the child is ready. `Err` has the child's exit status if it ended before.
    ///
    /// # Errors
    /// The status to exit with.
    pub fn wait(self) -> Result<(), u8> {
        loop {
            match rustix::io::read(&self.ready, &mut [0; 1]) {
                Ok(1) => return Ok(()),
                Err(Errno::INTR) => {}
                _ => return Err(self.child.wait().unwrap_or(1).max(1)),
            }
        }
    }
}

impl Background {
    /// Our process id as our parent counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Replaces standard input, output and error by `/dev/null`.
    ///
    /// # Errors
    /// Those of `dup2(2)`.
    pub fn detach(self) -> io::Result<Detached> {
        let null = self.null.as_fd();
        dup2_stdin(null)?;
        dup2_stdout(null)?;
        dup2_stderr(null)?;
        Ok(Detached(self.ready))
    }
}

/// A child that has left the terminal, and whose parent still waits for it.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Lets the parent leave.
    ///
    /// # Errors
    /// `EPIPE` if it has gone.
    pub fn release_parent(self) -> io::Result<()> {
        rustix::io::write(&self.0, &[1])?;
        Ok(())
    }
}

/// Ends the process at once, without running exit handlers.
pub fn leave(status: u8) -> ! {
    exit_now(status)
}

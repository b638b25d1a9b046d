//! What can go wrong, the words for it, and the status that says so.

use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use sys::Reason;
use sys::socket::Repair;
use sys::unix::LONGEST;

use super::message::Malformed;
use super::path::{Shown, SocketPath};
use super::sandbox::Stage;

/// Why the program ends.
#[derive(Debug)]
pub(super) enum Failure<'a> {
    /// There is not just one argument.
    Usage,
    Sandbox(Stage, io::Error),
    /// The path leads nowhere that we could see.
    Stat(Place<'a>, io::Error),
    NotSocket(&'a CStr),
    /// No socket can be connected to by a path of that length.
    TooLong(&'a CStr),
    Connect(Place<'a>, io::Error),
    Watch(&'a CStr, io::Error),
    List(&'a CStr, io::Error),
    /// The directory is not where it was.
    Gone(&'a CStr),
    Receive(io::Error),
    Malformed(Malformed),
    /// The mode, which of how many sockets, and why not.
    Repair(Repair, usize, usize, io::Error),
    Reply(io::Error),
}

/// A path as it was given, or one that was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Given(&'a CStr),
    Found(SocketPath),
}

impl Failure<'_> {
    /// The exit status: 2 if the argument is to blame.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Usage | Self::NotSocket(_) | Self::TooLong(_) => 2,
            Self::Sandbox(..)
            | Self::Stat(..)
            | Self::Connect(..)
            | Self::Watch(..)
            | Self::List(..)
            | Self::Gone(_)
            | Self::Receive(_)
            | Self::Malformed(_)
            | Self::Repair(..)
            | Self::Reply(_) => 1,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(path) => Shown(path).fmt(f),
            Self::Found(path) => Shown(path.as_c_str()).fmt(f),
        }
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str("Usage: passt-repair PATH"),
            Self::Sandbox(stage, error) => write!(f, "{}: {}", stage.failure(), Reason(error)),
            Self::Stat(path, error) => {
                // The number right behind the path is what the C implementation ends with.
                let number = error.raw_os_error().unwrap_or_default();
                write!(f, "Can't stat() {path}: {number} ({})", Reason(error))
            }
            Self::NotSocket(path) => write!(f, "{} is not a socket", Shown(path)),
            Self::TooLong(path) => {
                write!(f, "Invalid socket path, longer than {LONGEST} bytes: {}", Shown(path))
            }
            Self::Connect(path, error) => {
                write!(f, "Couldn't connect to {path}: {}", Reason(error))
            }
            Self::Watch(path, error) => {
                write!(f, "Couldn't watch {}: {}", Shown(path), Reason(error))
            }
            Self::List(path, error) => {
                write!(f, "Couldn't list {}: {}", Shown(path), Reason(error))
            }
            Self::Gone(path) => write!(f, "Directory was removed or renamed: {}", Shown(path)),
            Self::Receive(error) => write!(f, "Couldn't receive a command: {}", Reason(error)),
            Self::Malformed(malformed) => write!(f, "Invalid message from server: {malformed}"),
            Self::Repair(mode, index, of, error) => {
                let number = mode.number();
                write!(f, "Couldn't set TCP_REPAIR to {number} on socket {index} of {of}: ")?;
                write!(f, "{}", Reason(error))?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str(" (CAP_NET_ADMIN over its network namespace is needed)")?;
                }
                Ok(())
            }
            Self::Reply(error) => write!(f, "Couldn't answer the server: {}", Reason(error)),
        }
    }
}

/// Writes a line to standard error, in one piece unless it is very long.
pub(super) fn tell(message: impl fmt::Display) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    // It always takes everything.
    let _ = writeln!(line, "{message}");
    line.flush();
}

/// A buffer in front of standard error.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn flush(&mut self) {
        // Nobody is left to tell if standard error is closed.
        let _ = io::stderr().write_all(self.bytes.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn words_that_others_look_for() {
        for (failure, status, wanted) in [
            (Failure::Usage, 2, "Usage: passt-repair PATH"),
            (
                Failure::Stat(Place::Given(c"--help"), error(2)),
                1,
                "Can't stat() --help: 2 (No such file or directory)",
            ),
            (Failure::NotSocket(c"/dev/null"), 2, "/dev/null is not a socket"),
            (Failure::TooLong(c"x"), 2, "Invalid socket path, longer than 107 bytes: x"),
            (
                Failure::Connect(Place::Given(c"s"), error(111)),
                1,
                "Couldn't connect to s: Connection refused",
            ),
            (
                Failure::Repair(Repair::OffWithoutProbe, 3, 9, error(88)),
                1,
                "Couldn't set TCP_REPAIR to -1 on socket 3 of 9: Socket operation on non-socket",
            ),
            (
                Failure::Repair(Repair::On, 1, 1, error(1)),
                1,
                "Couldn't set TCP_REPAIR to 1 on socket 1 of 1: Operation not permitted \
                 (CAP_NET_ADMIN over its network namespace is needed)",
            ),
        ] {
            assert_eq!((failure.to_string().as_str(), failure.status()), (wanted, status));
        }
    }
}

//! The system's log: datagrams to `/dev/log`, as RFC 3164 has them.
//!
//! There is no time stamp. It would have to be in local time (RFC 3164 §4.1.2), which cannot be known behind the
//! sandbox, and nobody would use it: journald, rsyslog, sysklogd and busybox put the time of arrival to what comes
//! from this machine, as §4.3.2 of the RFC tells them to where there is none.
//!
//! The connection is made once. A log daemon that closes its socket has another one at the same path afterwards, to
//! which no way leads from an empty root; and a way that is kept open (a descriptor of its directory, a mount of it, a
//! current directory elsewhere) would lead to more than that socket. So that is the end of it: nothing is tried again.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use log::Level;
use sys::datagrams::Datagrams;

use super::line::Line;

/// Where the system's log is found.
pub(super) const PATH: &str = "/dev/log";
/// Bytes of a message at most (RFC 3164 §4.1).
const MAX: usize = 1024;
/// The facility `daemon` (RFC 3164 §4.1.1).
const DAEMON: u8 = 3;

/// A connection to the system's log.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: Datagrams,
    identity: &'static str,
    /// As the receiver counts processes: in our PID namespace we may have another number.
    pid: AtomicU32,
    /// The receiver has closed its socket.
    gone: AtomicBool,
}

impl Syslog {
    /// Connects to the log at `path`. Messages will be those of `identity`.
    pub(super) fn connect(path: &str, identity: &'static str) -> io::Result<Self> {
        let socket = Datagrams::connect(OsStr::new(path))?;
        let pid = AtomicU32::new(std::process::id());
        Ok(Self { socket, identity, pid, gone: AtomicBool::new(false) })
    }

    /// Messages will be those of process `pid`.
    pub(super) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Sends one line. If there is no room, or nobody any more, it is lost. `true`: it is the first to find nobody.
    pub(super) fn send(&self, level: Level, text: &str) -> bool {
        if self.gone.load(Ordering::Relaxed) {
            return false;
        }
        let pid = self.pid.load(Ordering::Relaxed);
        let message = message(level, self.identity, pid, text);
        match self.socket.send(message.bytes()) {
            Err(error) if ends(error.kind()) => !self.gone.swap(true, Ordering::Relaxed),
            // There was no room, for instance.
            Ok(()) | Err(_) => false,
        }
    }
}

/// Whether a connection over which sending failed so is none any more.
fn ends(failure: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(failure, BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
}

fn message(level: Level, identity: &str, pid: u32, text: impl fmt::Display) -> Line<MAX> {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let priority = DAEMON * 8 + severity;
    Line::new(format_args!("<{priority}>{identity}[{pid}]: {text}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn facility_severity_and_process() {
        let text = |level| message(level, "passt", 7, "ends").text().to_owned();
        assert_eq!(text(Level::Error), "<27>passt[7]: ends");
        assert_eq!(text(Level::Warn), "<28>passt[7]: ends");
        assert_eq!(text(Level::Info), "<30>passt[7]: ends");
        assert_eq!(text(Level::Debug), "<31>passt[7]: ends");
        assert_eq!(message(Level::Info, "passt", 7, "x".repeat(5000)).bytes().len(), MAX);
    }

    #[test]
    fn the_last_known_process_speaks() {
        let path = std::env::temp_dir().join(format!("syslog-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        let log = Syslog::connect(path.to_str().unwrap(), "pasta").unwrap();
        std::fs::remove_file(&path).unwrap();
        log.set_pid(4711);
        assert!(!log.send(Level::Warn, "a line"));
        let mut room = [0; 64];
        let len = receiver.recv(&mut room).unwrap();
        assert_eq!(room.get(..len).unwrap(), b"<28>pasta[4711]: a line");
        // A full queue is no end.
        receiver.set_nonblocking(true).unwrap();
        (0..5000).for_each(|_| assert!(!log.send(Level::Warn, "a line")));
        while receiver.recv(&mut room).is_ok() {}
        assert!(!log.send(Level::Warn, "a line"));
        assert!(receiver.recv(&mut room).is_ok());
        // Without anybody there it is lost, which is told once; somebody new is not found.
        drop(receiver);
        assert!(log.send(Level::Warn, "a line"));
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        assert!(!log.send(Level::Warn, "a line"));
        assert_eq!(receiver.recv(&mut room).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_file(&path).unwrap();
    }
}

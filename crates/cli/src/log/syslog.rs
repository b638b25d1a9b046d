//! The system's log: datagrams to `/dev/log`, as RFC 3164 has them.
//!
//! There is no time stamp. It would have to be in local time (RFC 3164 §4.1.2), which cannot be known behind the
//! sandbox, and nobody would use it: journald, rsyslog, sysklogd and busybox put the time of arrival to what comes
//! from this machine, as §4.3.2 of the RFC tells them to where there is none.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

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
}

impl Syslog {
    /// Connects to the log at `path`. Messages will be those of `identity`.
    pub(super) fn connect(path: &str, identity: &'static str) -> io::Result<Self> {
        let socket = Datagrams::connect(OsStr::new(path))?;
        Ok(Self { socket, identity, pid: AtomicU32::new(std::process::id()) })
    }

    /// Messages will be those of process `pid`.
    pub(super) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Sends one line. If there is no room, or nobody any more, it is lost.
    pub(super) fn send(&self, level: Level, text: &str) {
        let pid = self.pid.load(Ordering::Relaxed);
        let message = message(level, self.identity, pid, text);
        let _ = self.socket.send(message.bytes());
    }
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
        log.send(Level::Warn, "a line");
        let mut room = [0; 64];
        let len = receiver.recv(&mut room).unwrap();
        assert_eq!(room.get(..len).unwrap(), b"<28>pasta[4711]: a line");
        // Without anybody there it is lost, and nothing else happens.
        drop(receiver);
        log.send(Level::Warn, "a line");
    }
}

//! Service managers: what they hand us, and what they are told (sd_notify(3), sd_listen_fds(3), `--ready-fd`).
//!
//! Their environment variables are inherited by whatever a service starts, and then mean somebody else. So we take
//! them for ours only if they name us: `LISTEN_PID` must be there, and `SYSTEMD_EXEC_PID` must not name another
//! process. With a command to run, notifications are the command's: it inherits `NOTIFY_SOCKET`, and we are silent.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Result, bail};
use sys::datagrams::Datagrams;

use super::{fail, reason};
use crate::config::{Run, Target};

/// The first descriptor that a service manager hands over (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Those who want to know that we are ready.
#[derive(Debug)]
pub(super) struct Service {
    manager: Option<Datagrams>,
    ready: Option<OwnedFd>,
}

impl Service {
    /// Takes over the descriptor that we were handed for that. To be called while nothing else is open: a wrong
    /// number could be that of something of ours.
    pub(super) fn adopt(run: &Run) -> Result<Self> {
        let adopted = run.ready_fd.map(sys::fd::adopt).transpose();
        Ok(Self { manager: None, ready: fail("Could not use --ready-fd descriptor", adopted)? })
    }

    /// Connects to the service manager, while it can still be found.
    pub(super) fn connect(&mut self, run: &Run) {
        if !matches!(run.target, Target::Command(_)) {
            self.manager = manager();
        }
    }

    /// The descriptors that are ours.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let manager = self.manager.as_ref().map(AsFd::as_fd);
        manager.into_iter().chain(self.ready.as_ref().map(AsFd::as_fd)).collect()
    }

    /// Everything is ready. `daemon` is the process that goes on, if that is not this one.
    pub(super) fn tell_ready(&mut self, daemon: Option<u32>) {
        if let Some(manager) = &self.manager {
            let text = match daemon {
                Some(pid) => format!("READY=1\nMAINPID={pid}\n"),
                None => "READY=1\n".to_owned(),
            };
            if let Err(error) = manager.send_all(text.as_bytes()) {
                log::warn!("Couldn't notify service manager: {}", reason(&error));
            }
        }
        if let Some(ready) = self.ready.take() {
            if let Err(error) = File::from(ready).write_all(b"ready\n") {
                log::warn!("Couldn't write to --ready-fd descriptor: {}", reason(&error));
            }
        }
    }

    /// Leaves it to the other process after a fork to tell that we are ready.
    pub(super) fn leave_readiness(&mut self) {
        self.ready = None;
    }

    /// We are about to end.
    pub(super) fn tell_stopping(&self) {
        if let Some(manager) = &self.manager {
            // It sees that anyway.
            let _ = manager.send(b"STOPPING=1\n");
        }
    }
}

/// A connection to the service manager that started us, if it wants notifications.
fn manager() -> Option<Datagrams> {
    let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
    if !is_ours(env::var_os("SYSTEMD_EXEC_PID").as_deref()) {
        return None;
    }
    let manager = Datagrams::connect(&address).map_err(|error| {
        let (address, reason) = (address.to_string_lossy(), reason(&error));
        log::warn!("Couldn't connect to service manager at {address}: {reason}");
    });
    manager.ok()
}

/// Whether a service manager that says which process it started means us. Not all of them say.
fn is_ours(started: Option<&OsStr>) -> bool {
    started.is_none_or(|pid| pid == std::process::id().to_string().as_str())
}

/// The socket that a service manager handed us to listen on.
pub(super) fn listener(run: &Run) -> Result<Option<UnixListener>> {
    let count = handed(env::var_os("LISTEN_PID").as_deref(), env::var_os("LISTEN_FDS").as_deref());
    match (count, &run.target) {
        (0, _) => Ok(None),
        (1, Target::Socket(None)) => {
            let what = "Could not use socket of service manager";
            let socket = fail(what, sys::fd::adopt(FIRST))?;
            if !sys::unix::is_stream_listener(&socket) {
                bail!(
                    "Descriptor {FIRST} of LISTEN_FDS is not a listening UNIX domain stream socket"
                );
            }
            let listener = UnixListener::from(socket);
            fail(what, listener.set_nonblocking(true))?;
            Ok(Some(listener))
        }
        (1, Target::Socket(Some(_)) | Target::Descriptor(_)) => {
            bail!("Neither --socket nor --fd can be combined with a socket in LISTEN_FDS")
        }
        (_, Target::Socket(_) | Target::Descriptor(_)) => {
            bail!("{count} sockets in LISTEN_FDS, which can have one")
        }
        (_, Target::Command(_) | Target::Process(_) | Target::Path(_)) => {
            bail!("Sockets in LISTEN_FDS are for passt mode only")
        }
    }
}

/// How many descriptors a service manager has for us. Those of another process are none.
fn handed(pid: Option<&OsStr>, count: Option<&OsStr>) -> usize {
    let ours = pid.is_some_and(|pid| is_ours(Some(pid)));
    let count = count.filter(|_| ours).and_then(|count| count.to_str()?.parse().ok());
    count.unwrap_or(0)
}

/// Where a listening socket is, for people.
pub(super) fn place(listener: &UnixListener) -> io::Result<String> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(|path| path.display().to_string());
    Ok(path.unwrap_or_else(|| format!("{address:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_others_is_none_of_ours() {
        let own = std::process::id().to_string();
        let other = (std::process::id() + 1).to_string();
        let count = |pid: Option<&str>, count: Option<&str>| {
            handed(pid.map(OsStr::new), count.map(OsStr::new))
        };
        assert_eq!(count(Some(&own), Some("2")), 2);
        assert_eq!(count(Some(&other), Some("1")), 0);
        assert_eq!(count(None, Some("1")), 0);
        assert_eq!(count(Some(&own), None), 0);
        assert_eq!(count(Some(&own), Some("many")), 0);
        assert!(is_ours(None) && is_ours(Some(OsStr::new(&own))));
        assert!(!is_ours(Some(OsStr::new(&other))) && !is_ours(Some(OsStr::new(""))));
    }
}

//! UNIX domain sockets on which others find us.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::{failure, reason};

/// How many places there are for the sockets of programs that were told none.
const PLACES: u32 = 64;

/// Listens at `path`.
pub(super) fn listen(path: &Path) -> Result<UnixListener> {
    let listener = sys::unix::bind(path).map_err(|error| refusal(path, &error))?;
    tell(path);
    Ok(listener)
}

/// Listens at the first of the usual paths that is free. Returns which one that is.
pub(super) fn listen_anywhere() -> Result<(UnixListener, PathBuf)> {
    let mut last = None;
    for number in 1..=PLACES {
        let path = PathBuf::from(format!("/tmp/passt_{number}.socket"));
        match sys::unix::bind(&path) {
            Ok(listener) => {
                tell(&path);
                return Ok((listener, path));
            }
            Err(error) => last = Some(error),
        }
    }
    let why = last.map(|error| reason(&error).to_string()).unwrap_or_default();
    Err(anyhow!(
        "Failed to bind UNIX domain socket: none of /tmp/passt_1.socket to /tmp/passt_{PLACES}.socket \
         is free: {why}"
    ))
}

fn tell(path: &Path) {
    log::info!("UNIX domain socket bound at {}", path.display());
}

fn refusal(path: &Path, error: &io::Error) -> anyhow::Error {
    let shown = path.display();
    if error.kind() == ErrorKind::AddrInUse {
        anyhow!("Socket path {shown} already in use")
    } else if error.kind() == ErrorKind::AlreadyExists {
        anyhow!("Socket path {shown} is taken by another kind of file")
    } else {
        failure(&format!("Failed to bind UNIX domain socket {shown}"), error)
    }
}

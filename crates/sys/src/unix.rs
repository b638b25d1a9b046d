//! UNIX domain sockets on which others find us.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at `path`, without blocking. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` if somebody listens there; `AlreadyExists` if something other than a socket is there; those
/// of `bind(2)`.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
        },
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The process at the other end (`SO_PEERCRED`), as our PID namespace numbers it.
#[must_use]
pub fn peer_pid(stream: &UnixStream) -> Option<u32> {
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_keeps_the_place() {
        let directory = std::env::temp_dir().join(format!("unix-bind-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let first = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = {
            let _ = first.accept().unwrap();
            first.accept().unwrap()
        };
        assert_eq!(peer_pid(&server), Some(std::process::id()));
        assert_eq!(peer_pid(&client), Some(std::process::id()));
        drop((first, server));
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! UNIX domain sockets on which others find us, and on which we find others.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{FileType, stat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

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

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

impl Kind {
    /// Looks at `path`, through symbolic links, without an allocation.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn of(path: &CStr) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(stat(path)?.st_mode);
        Ok(if kind.is_dir() {
            Self::Directory
        } else if kind == FileType::Socket {
            Self::Socket
        } else {
            Self::Other
        })
    }
}

/// Bytes that the path of a socket can have, without the zero at its end.
pub const LONGEST: usize = 107;

/// Connects to the stream socket at `path`, and waits while there is no room in its queue. Without an allocation.
///
/// # Errors
/// `ENAMETOOLONG` if the path has more than [`LONGEST`] bytes; those of `connect(2)`.
pub fn connect(path: &CStr) -> io::Result<OwnedFd> {
    if path.count_bytes() > LONGEST {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Sends bytes, by `write(2)`: who has not ignored `SIGPIPE` may be ended by it.
///
/// # Errors
/// Those of `write(2)`; `WriteZero` if not everything was sent.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::io::write(socket, bytes))? {
        len if len == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
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

//! UNIX domain sockets on which others find us.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{RecvFlags, SocketType, sockopt};

use crate::socket;

/// Listens at `path`, without blocking. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` if somebody listens there; `AlreadyExists` if something other than a socket is there; those
/// of `bind(2)`.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match has_owner(path) {
            Ok(false) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
            Ok(true) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
        },
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether a stream socket at `path` still belongs to somebody, who does not learn that we asked: the
/// kernel refuses to connect sockets of different types, but only once it has found the other one.
fn has_owner(path: &Path) -> io::Result<bool> {
    match UnixDatagram::unbound()?.connect(path) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
            Some(libc::EPROTOTYPE) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Whether `fd` is a stream socket.
#[must_use]
pub fn is_stream(fd: impl AsFd) -> bool {
    sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM)
}

/// Makes room for as much as the kernel lets us (`SO_SNDBUF`, at most `net.core.wmem_max`).
pub fn enlarge_send_buffer(stream: &UnixStream) {
    // Half of the largest number, as the kernel doubles it.
    if let Err(error) = sockopt::set_socket_send_buffer_size(stream, (i32::MAX / 2) as usize) {
        log::debug!("SO_SNDBUF: {error}");
    }
}

/// Receives what is there, without waiting and whatever the mode of `stream`. 0: the other end sends no
/// more.
///
/// # Errors
/// Those of `recv(2)`.
pub fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(stream, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Sends what there is room for, without waiting, whatever the mode of `stream`, and without `SIGPIPE`.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send(stream: &UnixStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket::send_message(stream.as_raw_fd(), slices, &[])
}

/// The process at the other end (`SO_PEERCRED`), as our PID namespace numbers it.
#[must_use]
pub fn peer_pid(stream: &UnixStream) -> Option<u32> {
    let credentials = sockopt::socket_peercred(stream).ok()?;
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
        let unseen = first.accept().unwrap_err();
        assert_eq!(unseen.kind(), io::ErrorKind::WouldBlock, "looking is not connecting");
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = first.accept().unwrap();
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

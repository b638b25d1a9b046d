//! UNIX domain sockets: those on which others find us, and finding others.

use std::ffi::CStr;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, stat};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, recv,
    socket_with,
};
use rustix::path::Arg;

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

/// Takes the next connection, which will not block either.
///
/// # Errors
/// Those of `accept4(2)`.
pub fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    Ok(accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?.into())
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

/// Whether `fd` is a stream socket that was connected. The other end may be gone.
#[must_use]
pub fn is_connected_stream(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM)
        && rustix::net::getpeername(fd).is_ok_and(|peer| peer.is_some())
}

/// Whether `fd` is a UNIX domain stream socket on which somebody listens.
#[must_use]
pub fn is_stream_listener(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    sockopt::socket_domain(fd).is_ok_and(|domain| domain == AddressFamily::UNIX)
        && sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM)
        && sockopt::socket_acceptconn(fd).is_ok_and(|listens| listens)
}

/// Makes room for as much as the kernel lets us (`SO_SNDBUF`, at most `net.core.wmem_max`).
pub fn enlarge_send_buffer(stream: &UnixStream) {
    // Half of the largest number, as the kernel doubles it.
    if let Err(error) = sockopt::set_socket_send_buffer_size(stream, (i32::MAX / 2) as usize) {
        log::debug!("SO_SNDBUF: {error}");
    }
}

/// Whether the other end sends no more, although there may be something left to be received.
#[must_use]
pub fn has_hung_up(stream: &UnixStream) -> bool {
    let mut all = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    retry_on_intr(|| poll(&mut all, Some(&at_once))).is_ok()
        && all.iter().any(|fd| fd.revents().intersects(gone))
}

/// Receives what is there, without waiting and whatever the mode of `stream`. 0: the other end sends no
/// more.
///
/// # Errors
/// Those of `recv(2)`.
pub fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = recv(stream, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Sends what there is room for, without waiting, whatever the mode of `stream`, and without `SIGPIPE`.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send(stream: &UnixStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket::send_message(stream.as_raw_fd(), slices, &[])
}

/// Waits for the first byte from the other end, as long as the read timeout of the stream lets it, and
/// leaves it there. `false`: there will be none.
///
/// # Errors
/// `WouldBlock` after the timeout; those of `recv(2)`.
pub fn has_byte(stream: &UnixStream) -> io::Result<bool> {
    let (_, len) = retry_on_intr(|| recv(stream, &mut [0; 1], RecvFlags::PEEK))?;
    Ok(len > 0)
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

/// Connects to the stream socket at `path`. Where the server's queue is full, that waits: for at most
/// `limit`, if there is one, which stays the write timeout of the socket. Without an allocation for a
/// path that is a C string.
///
/// # Errors
/// `ENAMETOOLONG` if the path has more than [`LONGEST`] bytes; `WouldBlock` after `limit`; those of
/// `connect(2)`.
pub fn connect(path: impl Arg, limit: Option<Duration>) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if limit.is_some() {
        sockopt::set_socket_timeout(&socket, Timeout::Send, limit)?;
    }
    retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// The client's end of a stream socket, which waits by `ppoll(2)` alone, for no longer than it is told.
#[derive(Debug)]
pub struct Client(OwnedFd);

impl Client {
    /// Connects to the socket at `path`, without waiting for a server whose queue is full.
    ///
    /// # Errors
    /// `WouldBlock` if it is; those of `connect(2)`.
    pub fn connect(path: impl Arg) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self(socket))
    }

    /// Reads what there is, or what comes before `limit`. 0: nothing will.
    ///
    /// # Errors
    /// `TimedOut` if nothing comes; `Interrupted`; those of `read(2)`.
    pub fn read(&self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        self.wait(PollFlags::IN, limit)?;
        Ok(rustix::io::read(&self.0, buffer)?)
    }

    /// Writes as much as there is room for, or gets some before `limit`. By `write(2)`: who has not ignored
    /// `SIGPIPE` may be ended by it.
    ///
    /// # Errors
    /// `TimedOut` if there is no room; `Interrupted`; those of `write(2)`.
    pub fn write(&self, bytes: &[u8], limit: Duration) -> io::Result<usize> {
        self.wait(PollFlags::OUT, limit)?;
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write)?)
    }

    fn wait(&self, events: PollFlags, limit: Duration) -> io::Result<()> {
        let seconds = limit.as_secs().try_into().unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.0, events)], Some(&limit))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

/// Sends bytes, by `write(2)`: who has not ignored `SIGPIPE` may be ended by it.
///
/// # Errors
/// Those of `write(2)`; `WriteZero` if not everything was sent.
pub fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match retry_on_intr(|| rustix::io::write(socket, bytes))? {
        len if len == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The process at the other end (`SO_PEERCRED`), as our PID namespace numbers it. Processes outside of that, which
/// are all others once we are in the background, have the number 0 there: the kernel has no other for us.
///
/// Not by rustix, whose type for this cannot hold that number.
#[must_use]
pub fn peer_pid(stream: &UnixStream) -> u32 {
    // struct ucred: pid, uid, gid.
    let mut credentials = [0; 12];
    socket::get(stream, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials)
        .ok()
        .and_then(|filled| filled.first_chunk())
        .map_or(0, |pid| u32::from_ne_bytes(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_full_queue_is_not_waited_for_long() {
        let directory = std::env::temp_dir().join(format!("unix-connect-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let listener = bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let limit = Duration::from_millis(50);
        let first = UnixStream::from(connect(&path, Some(limit)).unwrap());
        // Rounded up to what the kernel counts in.
        assert!(first.write_timeout().unwrap().is_some_and(|timeout| timeout >= limit));
        assert_eq!(connect(&path, Some(limit)).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(
            connect(&path, Some(limit)).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn streams_have_another_end() {
        let directory = std::env::temp_dir().join(format!("unix-stream-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let listener = bind(&directory.join("socket")).unwrap();
        assert!(!is_connected_stream(&listener) && is_stream_listener(&listener));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_stream_listener(&tcp));
        let (one, other) = UnixStream::pair().unwrap();
        assert!(is_connected_stream(&one) && !is_stream_listener(&one));
        drop(other);
        assert!(is_connected_stream(&one), "what it sent may still be there");
        let (one, _other) = UnixDatagram::pair().unwrap();
        assert!(!is_connected_stream(&one));
        let flags = SocketFlags::CLOEXEC;
        let fresh = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        assert!(!is_connected_stream(&fresh));
        let file = fs::File::open("/dev/null").unwrap();
        assert!(!is_connected_stream(&file) && !is_stream_listener(&file));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn who_has_hung_up_may_have_left_something() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"ab").unwrap();
        assert!(!has_hung_up(&ours));
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(has_hung_up(&ours));
        drop(theirs);
        assert!(has_hung_up(&ours));
        let mut room = [0; 4];
        assert_eq!(receive(&ours, &mut room).unwrap(), 2);
        assert_eq!(receive(&ours, &mut room).unwrap(), 0);
    }

    #[test]
    fn a_byte_looked_at_stays() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(has_byte(&ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        theirs.write_all(b"ab").unwrap();
        assert!(has_byte(&ours).unwrap() && has_byte(&ours).unwrap());
        drop(theirs);
        let mut all = Vec::new();
        ours.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"ab");
        assert!(!has_byte(&ours).unwrap());
    }

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
        assert_eq!(peer_pid(&server), std::process::id());
        assert_eq!(peer_pid(&client), std::process::id());
        drop((first, server));
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! Datagrams to somebody at a UNIX domain socket: the system's log, a service manager.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

/// A datagram socket that is connected to a receiver.
///
/// The name of the receiver is needed only once, so this outlives the way to it. If the receiver closes its
/// socket, the connection ends with it: another one at the same name is not found again.
#[derive(Debug)]
pub struct Datagrams(OwnedFd);

impl Datagrams {
    /// Connects to the receiver at `address`: an absolute path, or a name in the abstract namespace with `@`
    /// in front.
    ///
    /// # Errors
    /// `InvalidInput` for other addresses; those of `socket(2)` and `connect(2)`.
    pub fn connect(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(address)?,
            [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        connect(&socket, &address)?;
        Ok(Self(socket))
    }

    /// Sends a datagram, whole or not at all, without waiting for room.
    ///
    /// # Errors
    /// Those of `sendto(2)`: `WouldBlock` if the receiver has no room, `ECONNREFUSED` or `ENOTCONN` if it is
    /// gone.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        Ok(send(&self.0, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)?)
    }

    /// As [`Datagrams::send`], but waits until the receiver has room.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    pub fn send_all(&self, datagram: &[u8]) -> io::Result<()> {
        Ok(retry_on_intr(|| send(&self.0, datagram, SendFlags::NOSIGNAL)).map(drop)?)
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn received(receiver: &UnixDatagram) -> Vec<u8> {
        let mut room = [0; 64];
        let len = receiver.recv(&mut room).unwrap();
        room.get(..len).unwrap().to_vec()
    }

    #[test]
    fn by_path_and_by_name() {
        let path = std::env::temp_dir().join(format!("datagrams-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = Datagrams::connect(path.as_os_str()).unwrap();
        // Whatever becomes of the name.
        std::fs::remove_file(&path).unwrap();
        sender.send(b"one").unwrap();
        sender.send_all(b"two").unwrap();
        assert_eq!((received(&receiver), received(&receiver)), (b"one".to_vec(), b"two".to_vec()));
        drop(receiver);
        assert!(sender.send(b"three").is_err());

        let name = format!("datagrams-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let sender = Datagrams::connect(format!("@{name}").as_ref()).unwrap();
        sender.send(b"one").unwrap();
        assert_eq!(received(&receiver), b"one");
    }

    #[test]
    fn a_receiver_that_does_not_read_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("datagrams-full-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = Datagrams::connect(path.as_os_str()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = (0..100_000).find_map(|_| sender.send(b"again and again").err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::WouldBlock);
        received(&receiver);
        sender.send(b"there is room").unwrap();
    }

    #[test]
    fn other_addresses() {
        for address in ["", "@", "relative/path", "vsock:2:1234"] {
            let error = Datagrams::connect(address.as_ref()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
        }
        let error = Datagrams::connect("/nonexistent/socket".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

//! Which sockets listen in a network namespace: `sock_diag(7)`, or the files of `/proc/net` where the
//! kernel lacks that.
//!
//! This is asked again and again while nothing else happens, so answers are read in place, from a buffer
//! that is used again.

mod proc;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::socket::Kind;

pub use proc::ProcNet;

/// A socket that listens (TCP), or takes datagrams of anybody (UDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address it is bound to.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// An IPv6 socket that takes no IPv4 (`IPV6_V6ONLY`). `/proc/net` does not tell: there it is `false`.
    pub ipv6_only: bool,
}

/// `SOCK_DIAG_BY_FAMILY`, `NLMSG_ERROR` and `NLMSG_DONE`.
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `TCP_LISTEN` and `TCP_CLOSE`, which is what an unconnected UDP socket is in.
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;
/// `INET_DIAG_SKV6ONLY`.
const V6ONLY: u16 = 11;

/// Length of `struct nlmsghdr`, and of `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const HEADER_LEN: usize = 16;
const REQUEST_LEN: usize = 56;
const MESSAGE_LEN: usize = 72;
/// What the kernel fills at a time.
const BUFFER_LEN: usize = 32 << 10;

/// Asks the kernel about the sockets of one network namespace.
pub struct SocketDiag {
    socket: Socket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for SocketDiag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketDiag").finish_non_exhaustive()
    }
}

impl SocketDiag {
    /// For the network namespace of the calling thread. Any thread may ask afterwards.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel lacks it.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Tells `each` about every socket of this kind and family that listens.
    ///
    /// # Errors
    /// `ENOENT` where the kernel lacks the part for this kind; `InvalidData` for answers that are none.
    pub fn listeners(
        &mut self,
        kind: Kind,
        ipv6: bool,
        each: &mut dyn FnMut(Listening),
    ) -> io::Result<()> {
        self.socket.send(&request(kind, ipv6), 0)?;
        loop {
            self.buffer.clear();
            // A dump is made while it is read: what is to come is there.
            self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
            if read(&self.buffer, each)? {
                return Ok(());
            }
        }
    }
}

/// A request for all sockets in the state that listening is.
fn request(kind: Kind, ipv6: bool) -> [u8; HEADER_LEN + REQUEST_LEN] {
    let (protocol, state) = match kind {
        Kind::Tcp => (libc::IPPROTO_TCP, LISTEN),
        Kind::Udp => (libc::IPPROTO_UDP, CLOSE),
    };
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut message = [0; HEADER_LEN + REQUEST_LEN];
    // nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid.
    put(&mut message, 0, &u32::try_from(HEADER_LEN + REQUEST_LEN).unwrap_or(0).to_ne_bytes());
    put(&mut message, 4, &BY_FAMILY.to_ne_bytes());
    put(&mut message, 6, &DUMP.to_ne_bytes());
    // sdiag_family, sdiag_protocol, idiag_ext, pad, idiag_states.
    let small = |number: libc::c_int| u8::try_from(number).unwrap_or(0);
    put(&mut message, HEADER_LEN, &[small(family), small(protocol), 0, 0]);
    put(&mut message, HEADER_LEN + 4, &(1u32 << state).to_ne_bytes());
    message
}

fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in message.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a datagram of messages; `true` if it holds the end of the answer.
fn read(mut bytes: &[u8], each: &mut dyn FnMut(Listening)) -> io::Result<bool> {
    while let (Some(len), Some(kind)) = (word(bytes, 0), short(bytes, 4)) {
        let len = len as usize;
        let body = bytes.get(HEADER_LEN..len).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let errno = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                return Err(io::Error::from_raw_os_error(-errno));
            }
            BY_FAMILY => {
                if let Some(socket) = socket(body) {
                    each(socket);
                }
            }
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What a `struct inet_diag_msg` and its attributes say.
fn socket(body: &[u8]) -> Option<Listening> {
    let (message, attributes) = body.split_at_checked(MESSAGE_LEN)?;
    // idiag_family, then id.idiag_sport and, behind id.idiag_dport, id.idiag_src.
    let [family, _, _, _, high, low, _, _, source @ ..] = message else { return None };
    let address = if libc::c_int::from(*family) == libc::AF_INET6 {
        Ipv6Addr::from(*source.first_chunk::<16>()?).into()
    } else {
        Ipv4Addr::from(*source.first_chunk::<4>()?).into()
    };
    let port = u16::from_be_bytes([*high, *low]);
    Some(Listening { address, port, ipv6_only: flag(attributes, V6ONLY) })
}

/// Whether an attribute of one byte is there and not zero.
fn flag(mut attributes: &[u8], wanted: u16) -> bool {
    // struct nlattr: nla_len, nla_type.
    while let (Some(len), Some(kind)) = (short(attributes, 0), short(attributes, 2)) {
        if kind == wanted {
            return attributes.get(4).is_some_and(|value| *value != 0);
        }
        let next = usize::from(len).max(4).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use super::*;

    fn all(kind: Kind, ipv6: bool) -> Vec<Listening> {
        let mut found = Vec::new();
        SocketDiag::open().unwrap().listeners(kind, ipv6, &mut |one| found.push(one)).unwrap();
        found
    }

    #[test]
    fn sockets_that_listen_are_found() {
        let tcp4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp4 = UdpSocket::bind("127.0.0.3:0").unwrap();
        let tcp6 = TcpListener::bind("[::]:0").unwrap();
        let udp6 = UdpSocket::bind("[::]:0").unwrap();
        let has = |kind, address: SocketAddr| {
            let wanted =
                Listening { address: address.ip(), port: address.port(), ipv6_only: false };
            let mut diag = all(kind, address.is_ipv6());
            diag.retain(|one| one.port == address.port());
            let mut proc = Vec::new();
            let mut files = ProcNet::open().unwrap();
            for _ in 0..2 {
                proc.clear();
                files.listeners(kind, address.is_ipv6(), &mut |one| proc.push(one)).unwrap();
            }
            proc.retain(|one| one.port == address.port());
            diag == [wanted] && proc == [wanted]
        };
        assert!(has(Kind::Tcp, tcp4.local_addr().unwrap()));
        assert!(has(Kind::Udp, udp4.local_addr().unwrap()));
        assert!(has(Kind::Tcp, tcp6.local_addr().unwrap()));
        assert!(has(Kind::Udp, udp6.local_addr().unwrap()));
        // Connected ones do not listen.
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(udp4.local_addr().unwrap()).unwrap();
        let port = connected.local_addr().unwrap().port();
        assert!(all(Kind::Udp, false).iter().all(|one| one.port != port));
    }

    #[test]
    fn ipv6_alone_is_told_from_both() {
        let only = crate::socket::TcpListener::open(&crate::socket::Binding {
            address: Some(Ipv6Addr::UNSPECIFIED.into()),
            port: 0,
            device: None,
            scope_id: 0,
            freebind: false,
        });
        let only = std::os::fd::AsFd::as_fd(&only.unwrap()).try_clone_to_owned().unwrap();
        let port = crate::socket::local_address(&only).unwrap().port();
        let found = all(Kind::Tcp, true);
        assert!(found.iter().any(|one| one.port == port && one.ipv6_only), "{found:?}");
    }

    #[test]
    fn nonsense_ends_with_an_error_or_nothing() {
        let mut none = |_| panic!("no socket");
        assert!(!read(&[], &mut none).unwrap());
        assert!(!read(&[1, 2, 3], &mut none).unwrap());
        let mut message = request(Kind::Tcp, false);
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert!(!read(&message, &mut none).unwrap(), "too short for a socket");
        message[0] = 8;
        assert!(read(&message, &mut none).is_err(), "shorter than its header");
        message[0] = 200;
        assert!(read(&message, &mut none).is_err(), "longer than what is there");
        assert!(!flag(&[0, 0, 0, 0, 9, 0, 99, 0], V6ONLY));
    }
}

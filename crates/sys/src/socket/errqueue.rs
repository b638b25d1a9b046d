//! The error queue (`MSG_ERRQUEUE`): errors with the ICMP message behind them.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::address::RawAddress;
use super::{cmsg, pending_error, receive_message};

/// An error the kernel reported for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketError {
    /// `ee_errno`, or `SO_ERROR`.
    pub errno: i32,
    /// The ICMP or ICMPv6 message behind it, if any.
    pub source: Option<ErrorSource>,
}

/// The ICMP or ICMPv6 message behind an error (`sock_extended_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorSource {
    /// Who sent it (`SO_EE_OFFENDER`).
    pub offender: IpAddr,
    /// `ee_type`.
    pub kind: u8,
    /// `ee_code`.
    pub code: u8,
    /// `ee_info`: the MTU of "fragmentation needed" and "packet too big".
    pub info: u32,
}

const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;

/// Length of `struct sock_extended_err`: `ee_errno` u32, `ee_origin` u8, `ee_type` u8, `ee_code`
/// u8, padding, `ee_info` u32, `ee_data` u32. The offender's address follows.
const EXTENDED_LEN: usize = 16;

/// The next entry of a socket's error queue. The beginning of the packet it is about goes to `data`:
/// for UDP from the payload on, for ping sockets from the ICMP header on. Returns its length, too.
pub(super) fn next(socket: &OwnedFd, data: &mut [u8]) -> Option<(SocketError, usize)> {
    let mut control = cmsg::Buffer::new();
    let received = receive_message(socket, data, &mut control, libc::MSG_ERRQUEUE).ok()?;
    let error = control.messages(received.control_len).find_map(|message| {
        let known = matches!(
            (message.level, message.kind),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        if known { parse(message.data) } else { None }
    })?;
    Some((error, received.len))
}

/// The beginning of the packet that the error taken last was about. Takes no memory before the first
/// error.
#[derive(Debug, Default)]
pub(super) struct Quoted {
    data: Vec<u8>,
    len: usize,
}

/// What fits into an ICMPv6 error besides the headers (RFC 4443 2.4 c), and more than ICMP wants.
const QUOTED_LEN: usize = 1232;

impl Quoted {
    /// Takes the next error of a socket: from the error queue, else `SO_ERROR`.
    pub(super) fn take_error(&mut self, socket: &OwnedFd) -> Option<SocketError> {
        self.data.resize(QUOTED_LEN, 0);
        self.len = 0;
        match next(socket, &mut self.data) {
            Some((error, len)) => {
                self.len = len;
                Some(error)
            }
            None => pending_error(socket),
        }
    }

    pub(super) fn get(&self) -> &[u8] {
        self.data.get(..self.len).unwrap_or_default()
    }
}

fn parse(data: &[u8]) -> Option<SocketError> {
    let (extended, offender) = data.split_at_checked(EXTENDED_LEN)?;
    let &[e0, e1, e2, e3, origin, kind, code, _, i0, i1, i2, i3, ..] = extended else {
        return None;
    };
    let errno = i32::from_ne_bytes([e0, e1, e2, e3]);
    let source = match origin {
        SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => RawAddress::from_bytes(offender)
            .map(|address| address.ip().to_canonical())
            .map(|offender| ErrorSource {
                offender,
                kind,
                code,
                info: u32::from_ne_bytes([i0, i1, i2, i3]),
            }),
        _ => None,
    };
    Some(SocketError { errno, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_libc() {
        assert_eq!(size_of::<libc::sock_extended_err>(), EXTENDED_LEN);
        assert_eq!(std::mem::offset_of!(libc::sock_extended_err, ee_origin), 4);
        assert_eq!(std::mem::offset_of!(libc::sock_extended_err, ee_info), 8);
    }

    #[test]
    fn short_and_foreign_entries() {
        assert_eq!(parse(&[0; 15]), None);
        let mut local = [0; 32];
        local[..4].copy_from_slice(&libc::EMSGSIZE.to_ne_bytes());
        local[4] = 1;
        assert_eq!(parse(&local), Some(SocketError { errno: libc::EMSGSIZE, source: None }));
        // An ICMP error without an address says only its errno.
        local[4] = SO_EE_ORIGIN_ICMP;
        assert_eq!(parse(&local), Some(SocketError { errno: libc::EMSGSIZE, source: None }));
    }
}

//! ICMP (RFC 792): the common header, echo, and error messages that quote a datagram.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;

/// Length in bytes of every header here.
pub const HEADER_LEN: usize = 8;

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const DEST_UNREACHABLE: u8 = 3;
/// Type: source quench (obsolete).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`DEST_UNREACHABLE`]: network unreachable.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`DEST_UNREACHABLE`]: host unreachable.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`DEST_UNREACHABLE`]: protocol unreachable.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`DEST_UNREACHABLE`]: port unreachable.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`DEST_UNREACHABLE`]: fragmentation needed and "don't fragment" set (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`DEST_UNREACHABLE`]: communication administratively prohibited (RFC 1812).
pub const ADMIN_PROHIBITED: u8 = 13;
/// Code of [`TIME_EXCEEDED`]: time to live exceeded in transit.
pub const TTL_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragment reassembly time exceeded.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;

/// The header of any ICMP message.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct IcmpHeader {
    /// One of the type constants.
    pub kind: u8,
    /// Meaning depends on the type.
    pub code: u8,
    /// Checksum over the whole message (no pseudo header).
    pub checksum: U16,
    /// Meaning depends on type and code: 0, or for "fragmentation needed" the MTU of the next hop in
    /// the low half, for a parameter problem the pointer in the highest byte.
    pub rest: U32,
}

/// The header of an echo request or reply.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct EchoHeader {
    /// [`ECHO_REQUEST`] or [`ECHO_REPLY`] (or the numbers of ICMPv6).
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Checksum over the whole message.
    pub checksum: U16,
    /// Identifier: tells one pinging program from another.
    pub id: U16,
    /// Sequence number.
    pub seq: U16,
}

const _: () = assert!(size_of::<IcmpHeader>() == HEADER_LEN);
const _: () = assert!(size_of::<EchoHeader>() == HEADER_LEN);

impl IcmpHeader {
    /// The header and the rest of the message; `None` if shorter than 8 bytes.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(message).ok()
    }

    /// The MTU of the next hop, meaningful for [`FRAGMENTATION_NEEDED`].
    #[must_use]
    pub fn next_hop_mtu(&self) -> u16 {
        (self.rest.get() & 0xffff) as u16
    }
}

impl EchoHeader {
    /// A header with checksum 0.
    #[must_use]
    pub const fn new(kind: u8, id: u16, seq: u16) -> Self {
        Self { kind, code: 0, checksum: U16::new(0), id: U16::new(id), seq: U16::new(seq) }
    }

    /// The header and the data to be echoed; `None` if shorter than 8 bytes. The type is not
    /// checked.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(message).ok()
    }
}

/// Whether `kind` is an error message, about which no error may be sent (RFC 1122 §3.2.2).
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, DEST_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Fills in the checksum of a whole ICMP message. A message shorter than 8 bytes is left alone.
pub fn set_checksum(message: &mut [u8]) {
    if let Ok((header, _)) = IcmpHeader::mut_from_prefix(message) {
        header.checksum.set(0);
    } else {
        return;
    }
    let value = !checksum::fold(checksum::sum(message));
    if let Ok((header, _)) = IcmpHeader::mut_from_prefix(message) {
        header.checksum.set(value);
    }
}

/// Writes an error message that quotes `quoted` (an IPv4 header and what followed it) to the start of
/// `out`, checksum included, and returns its length; `None` if `out` is too short. `rest` is
/// [`IcmpHeader::rest`].
pub fn write_error(out: &mut [u8], kind: u8, code: u8, rest: u32, quoted: &[u8]) -> Option<usize> {
    let len = HEADER_LEN + quoted.len();
    let message = out.get_mut(..len)?;
    let (header, body) = IcmpHeader::mut_from_prefix(message).ok()?;
    *header = IcmpHeader { kind, code, checksum: U16::ZERO, rest: U32::new(rest) };
    body.copy_from_slice(quoted);
    set_checksum(message);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_and_error() {
        let mut message = EchoHeader::new(ECHO_REQUEST, 0x1234, 7).as_bytes().to_vec();
        message.extend_from_slice(b"abc");
        set_checksum(&mut message);
        assert!(checksum::verify(0, &message));
        let (echo, data) = EchoHeader::parse(&message).unwrap();
        assert_eq!((echo.id.get(), echo.seq.get(), data), (0x1234, 7, &b"abc"[..]));

        let mut out = [0xaa; 40];
        let n = write_error(&mut out, DEST_UNREACHABLE, FRAGMENTATION_NEEDED, 1400, &message);
        assert_eq!(n, Some(19));
        assert!(checksum::verify(0, &out[..19]));
        let (header, quoted) = IcmpHeader::parse(&out[..19]).unwrap();
        assert_eq!((header.next_hop_mtu(), quoted), (1400, &message[..]));
        assert_eq!(write_error(&mut out[..18], 3, 3, 0, &message), None);
        set_checksum(&mut [1, 2, 3]);
    }
}

//! ICMPv6 (RFC 4443): types, codes, checksum and error messages. The echo header has the layout of
//! [`crate::icmp4::EchoHeader`], the neighbour discovery messages are in their own module.

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::icmp4::EchoHeader;
use crate::{checksum, protocol};

/// Length of [`Icmp6Header`] in bytes.
pub const HEADER_LEN: usize = 8;

/// Type: destination unreachable.
pub const DEST_UNREACHABLE: u8 = 1;
/// Type: packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type: multicast listener query (RFC 2710, RFC 3810).
pub const MLD_QUERY: u8 = 130;
/// Type: version 1 multicast listener report.
pub const MLD_REPORT: u8 = 131;
/// Type: version 1 multicast listener done.
pub const MLD_DONE: u8 = 132;
/// Type: router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type: router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type: neighbour solicitation (RFC 4861).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Type: neighbour advertisement (RFC 4861).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Type: redirect (RFC 4861).
pub const REDIRECT: u8 = 137;
/// Type: version 2 multicast listener report.
pub const MLD2_REPORT: u8 = 143;

/// Code of [`DEST_UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`DEST_UNREACHABLE`]: administratively prohibited.
pub const ADMIN_PROHIBITED: u8 = 1;
/// Code of [`DEST_UNREACHABLE`]: beyond the scope of the source address.
pub const BEYOND_SCOPE: u8 = 2;
/// Code of [`DEST_UNREACHABLE`]: address unreachable.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`DEST_UNREACHABLE`]: port unreachable.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`TIME_EXCEEDED`]: hop limit exceeded in transit.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragment reassembly time exceeded.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: unrecognised next header.
pub const UNRECOGNISED_NEXT_HEADER: u8 = 1;

/// The header of an ICMPv6 error message, and the first 8 bytes of any other.
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
pub struct Icmp6Header {
    /// One of the type constants; errors are below 128.
    pub kind: u8,
    /// Meaning depends on the type.
    pub code: u8,
    /// Checksum over pseudo header and message.
    pub checksum: U16,
    /// Meaning depends on the type: the MTU of "packet too big", the pointer of a parameter problem.
    pub rest: U32,
}

const _: () = assert!(size_of::<Icmp6Header>() == HEADER_LEN);

impl Icmp6Header {
    /// The header and the rest of the message; `None` if shorter than 8 bytes.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(message).ok()
    }
}

/// Whether `kind` is an error message, about which no error may be sent (RFC 4443 §2.4).
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// Fills in the checksum of a whole ICMPv6 message. A message shorter than 8 bytes is left alone.
pub fn set_checksum(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let Ok(len) = u32::try_from(message.len()) else { return };
    if let Ok((header, _)) = Icmp6Header::mut_from_prefix(message) {
        header.checksum.set(0);
    } else {
        return;
    }
    let pseudo = checksum::pseudo_header_v6(src, dst, protocol::ICMPV6, len);
    let value = checksum::transport_checksum(pseudo, protocol::ICMPV6, message);
    if let Ok((header, _)) = Icmp6Header::mut_from_prefix(message) {
        header.checksum.set(value);
    }
}

/// Writes an error message that quotes `quoted` (an IPv6 header and what followed it) to the start of
/// `out` and returns its length; `None` if `out` is too short. `rest` is [`Icmp6Header::rest`]; the
/// checksum covers `src` and `dst`, the addresses of the packet that will carry the message.
///
/// The caller keeps the whole packet within [`crate::ipv6::MIN_MTU`] (RFC 4443 §2.4): at most 1232
/// bytes of `quoted`.
pub fn write_error(
    out: &mut [u8],
    (kind, code, rest): (u8, u8, u32),
    quoted: &[u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Option<usize> {
    let len = HEADER_LEN + quoted.len();
    let message = out.get_mut(..len)?;
    let (header, body) = Icmp6Header::mut_from_prefix(message).ok()?;
    *header = Icmp6Header { kind, code, checksum: U16::ZERO, rest: U32::new(rest) };
    body.copy_from_slice(quoted);
    set_checksum(message, src, dst);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_sums_up() {
        let (src, dst) = ("fe80::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let mut out = [0; 64];
        let n = write_error(&mut out, (PACKET_TOO_BIG, 0, 1400), b"quoted!", src, dst).unwrap();
        assert_eq!(n, 15);
        let pseudo = checksum::pseudo_header_v6(src, dst, protocol::ICMPV6, 15);
        assert!(checksum::verify(pseudo, &out[..n]));
        let (header, quoted) = Icmp6Header::parse(&out[..n]).unwrap();
        assert_eq!((header.kind, header.rest.get(), quoted), (2, 1400, &b"quoted!"[..]));
        assert_eq!(write_error(&mut out[..14], (1, 4, 0), b"quoted!", src, dst), None);
        assert!(is_error(PARAMETER_PROBLEM) && !is_error(ECHO_REQUEST));
    }
}

//! ICMP errors towards the guest about packets it sent, rebuilt as it sent them.

use std::net::{IpAddr, SocketAddr};

use wire::icmp4::{self, IcmpHeader};
use wire::icmp6::{self, Icmp6Header};
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};
use wire::udp::UdpHeader;
use wire::{IntoBytes, U16, U32, protocol};

use crate::addr;
use crate::cx::Cx;
use crate::frame::{self, IpFields};
use crate::io::{FrameMeta, Guest, HEADROOM, Host, IcmpOrigin};

/// Most that an error message quotes of an IPv4 packet behind its header, in bytes: the whole message
/// stays within 576 bytes (RFC 1812 §4.3.2.3).
const MAX_QUOTED_V4: usize = 576 - 2 * ipv4::HEADER_LEN - icmp4::HEADER_LEN;
/// The same for IPv6: within the minimum MTU (RFC 4443 §2.4).
const MAX_QUOTED_V6: usize = ipv6::MIN_MTU - 2 * ipv6::HEADER_LEN - icmp6::HEADER_LEN;
/// Room for either.
const MAX_MESSAGE: usize = ipv6::MIN_MTU;

/// The packet of the guest that an error is about.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError<'a> {
    /// Who says what about it.
    pub origin: IcmpOrigin,
    /// Its source.
    pub guest: SocketAddr,
    /// Its destination, as the guest sees it. For echo requests the port is 0.
    pub peer: SocketAddr,
    /// Its transport protocol.
    pub protocol: u8,
    /// Its transport header and as much of its payload as is known.
    pub quoted: &'a [u8],
    /// Length of transport header and payload in bytes, however much of it is quoted.
    pub len: usize,
}

/// Sends an ICMP or ICMPv6 error to the guest about a packet that it sent: `quoted` is its transport
/// header and as much of its payload as is known. For UDP, the length in the quoted header counts as the
/// packet's own.
///
/// Nothing is sent if the guest has no name for the sender of the error, or the error is none of those
/// that hosts understand.
pub fn send_error<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    origin: &IcmpOrigin,
    guest: SocketAddr,
    peer: SocketAddr,
    protocol: u8,
    quoted: &[u8],
) {
    let said = match protocol {
        protocol::UDP => {
            UdpHeader::parse_unsized(quoted).map(|(header, _)| header.len.get().into())
        }
        _ => None,
    };
    let len = said.unwrap_or(quoted.len()).max(quoted.len());
    IcmpError { origin: *origin, guest, peer, protocol, quoted, len }.send(cx);
}

impl IcmpError<'_> {
    /// Sends it; see [`send_error`].
    pub fn send<G: Guest, H: Host>(&self, cx: &mut Cx<'_, G, H>) {
        let offender =
            addr::offender(cx.config, cx.link, self.protocol, self.origin.offender, self.peer);
        let Some(source) = offender else { return };
        let route = cx.link.route_to_guest(cx.config, self.guest.ip(), source);
        let Some(slot) = cx.guest.slot(MAX_MESSAGE) else { return };
        let Some(message) = slot.get_mut(HEADROOM..) else { return };
        let (protocol, len) = match (self.guest.ip(), self.peer.ip(), source) {
            (IpAddr::V4(guest), IpAddr::V4(peer), IpAddr::V4(_)) => {
                let Some(rest) = self.rest_v4() else { return };
                let quoted = self.quoted.get(..MAX_QUOTED_V4).unwrap_or(self.quoted);
                let len = u16::try_from(self.len).unwrap_or(u16::MAX);
                let inner = Ipv4Header::new(self.protocol, 255, guest, peer, len);
                let header = IcmpHeader {
                    kind: self.origin.kind,
                    code: self.origin.code,
                    checksum: U16::ZERO,
                    rest: U32::new(rest),
                };
                let Some(len) = write(message, header.as_bytes(), inner.as_bytes(), quoted) else {
                    return;
                };
                icmp4::set_checksum(message.get_mut(..len).unwrap_or_default());
                (protocol::ICMP, len)
            }
            (IpAddr::V6(guest), IpAddr::V6(peer), IpAddr::V6(source)) => {
                let Some(rest) = self.rest_v6() else { return };
                let quoted = self.quoted.get(..MAX_QUOTED_V6).unwrap_or(self.quoted);
                let len = u16::try_from(self.len).unwrap_or(u16::MAX);
                let inner = Ipv6Header::new(self.protocol, 255, guest, peer, len);
                let header = Icmp6Header {
                    kind: self.origin.kind,
                    code: self.origin.code,
                    checksum: U16::ZERO,
                    rest: U32::new(rest),
                };
                let Some(len) = write(message, header.as_bytes(), inner.as_bytes(), quoted) else {
                    return;
                };
                icmp6::set_checksum(message.get_mut(..len).unwrap_or_default(), source, guest);
                (protocol::ICMPV6, len)
            }
            _ => return,
        };
        let start = frame::write_ip(slot, HEADROOM, len, protocol, &route, &IpFields::default());
        let Some(start) = start else { return };
        cx.send(start, HEADROOM + len, FrameMeta::default());
    }

    /// The second word of an ICMP error; `None` if it is no error that is passed on.
    fn rest_v4(&self) -> Option<u32> {
        match (self.origin.kind, self.origin.code) {
            (icmp4::DEST_UNREACHABLE, icmp4::FRAGMENTATION_NEEDED) => {
                Some(self.origin.info.min(u16::MAX.into()))
            }
            (icmp4::DEST_UNREACHABLE | icmp4::TIME_EXCEEDED, _) => Some(0),
            (icmp4::PARAMETER_PROBLEM, _) => Some(self.origin.info << 24),
            _ => None,
        }
    }

    /// The second word of an ICMPv6 error; `None` if it is no error that is passed on.
    fn rest_v6(&self) -> Option<u32> {
        match self.origin.kind {
            icmp6::DEST_UNREACHABLE | icmp6::TIME_EXCEEDED => Some(0),
            icmp6::PACKET_TOO_BIG | icmp6::PARAMETER_PROBLEM => Some(self.origin.info),
            _ => None,
        }
    }
}

/// Puts the pieces of a message one behind the other; returns its length.
fn write(out: &mut [u8], header: &[u8], inner: &[u8], quoted: &[u8]) -> Option<usize> {
    let mut len = 0;
    for piece in [header, inner, quoted] {
        out.get_mut(len..len + piece.len())?.copy_from_slice(piece);
        len += piece.len();
    }
    Some(len)
}

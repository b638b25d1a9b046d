//! The guest says that nobody is there for a datagram it was sent.

use std::net::{IpAddr, SocketAddr};

use wire::icmp4::{self, IcmpHeader};
use wire::icmp6::{self, Icmp6Header};
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};
use wire::udp::UdpHeader;
use wire::{FromBytes, protocol};

use crate::flow::FlowKey;
use crate::input::Ip;

/// The UDP flow that a "destination unreachable" of the guest is about; `None` if the message is
/// anything else, or is no final word (a route that is missing now, a packet that is too big).
///
/// Whoever sends it quotes the datagram that it is about, so source and destination are swapped: the
/// quoted source is the flow's peer, to which the message must be addressed. Who sent the message does
/// not matter; behind the guest there may be routers.
pub(crate) fn udp_flow(ip: &Ip, message: &[u8]) -> Option<FlowKey> {
    let (peer, guest, datagram) = match ip.src {
        IpAddr::V4(_) => {
            let (header, quoted) = IcmpHeader::parse(message)?;
            nobody_there_v4(header).then(|| udp_v4(quoted)).flatten()?
        }
        IpAddr::V6(_) => {
            let (header, quoted) = Icmp6Header::parse(message)?;
            nobody_there_v6(header).then(|| udp_v6(quoted)).flatten()?
        }
    };
    let (header, _) = UdpHeader::parse_unsized(datagram)?;
    (peer == ip.dst).then(|| {
        FlowKey::new(
            SocketAddr::new(guest, header.dst_port.get()),
            SocketAddr::new(peer, header.src_port.get()),
        )
    })
}

fn nobody_there_v4(header: &IcmpHeader) -> bool {
    header.kind == icmp4::DEST_UNREACHABLE
        && matches!(
            header.code,
            icmp4::HOST_UNREACHABLE | icmp4::PROTOCOL_UNREACHABLE | icmp4::PORT_UNREACHABLE
        )
}

fn nobody_there_v6(header: &Icmp6Header) -> bool {
    header.kind == icmp6::DEST_UNREACHABLE
        && matches!(header.code, icmp6::ADDRESS_UNREACHABLE | icmp6::PORT_UNREACHABLE)
}

/// Source, destination and the beginning of a quoted UDP datagram. Lengths in the quoted headers are
/// those of the whole packet, of which the quotation may be a small part.
fn udp_v4(quoted: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let (header, _) = Ipv4Header::ref_from_prefix(quoted).ok()?;
    let valid = header.version_ihl >> 4 == 4
        && header.header_len() >= ipv4::HEADER_LEN
        && header.protocol == protocol::UDP
        && header.frag_offset() == 0;
    let datagram = quoted.get(header.header_len()..)?;
    valid.then(|| (header.src_addr().into(), header.dst_addr().into(), datagram))
}

/// The same for IPv6.
fn udp_v6(quoted: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let (header, rest) = Ipv6Header::ref_from_prefix(quoted).ok()?;
    let found = ipv6::walk_extensions(header.next_header, rest).ok()?;
    let valid = header.version_class_flow.get() >> 28 == 6
        && found.protocol == protocol::UDP
        && found.fragment.is_none_or(|fragment| fragment.offset() == 0);
    valid.then(|| (header.src_addr().into(), header.dst_addr().into(), found.payload))
}

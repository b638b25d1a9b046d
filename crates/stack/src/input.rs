//! Frames from the guest: checked layer by layer and handed to whom they concern.
//!
//! Whatever makes no sense, and whatever is of no protocol that we carry, is dropped and counted. The
//! frame's destination address is not looked at: everything the guest sends is for us.

use std::io::IoSlice;
use std::net::IpAddr;

use wire::arp::ArpPacket;
use wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv4::Ipv4Header;
use wire::ipv6::{self, Ipv6Header};
use wire::tcp::TcpHeader;
use wire::udp::UdpHeader;
use wire::{icmp6, protocol};

use crate::Layers;
use crate::addr::is_unicast;
use crate::answer;
use crate::cx::Cx;
use crate::fragment::{Fragment, Reassembly};
use crate::icmp;
use crate::io::{Gso, Guest, Host};
use crate::tcp;

/// Where DHCP servers listen.
const DHCP_SERVER: u16 = 67;
/// Where DHCPv6 servers listen.
const DHCPV6_SERVER: u16 = 547;

/// What an IP header says, without regard to its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// The transport protocol.
    pub(crate) protocol: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Zero for IPv4.
    pub(crate) flow_label: u32,
}

/// What a frame stands for beyond one packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct More<'a> {
    /// Packets of which it is the superframe.
    pub(crate) gso: Gso,
    /// Payloads of the TCP segments of which it is the first, its own included.
    pub(crate) payloads: &'a [IoSlice<'a>],
}

impl More<'_> {
    const NOTHING: Self = Self { gso: Gso::None, payloads: &[] };
}

/// Takes one Ethernet frame.
pub(crate) fn frame<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    reassembly: &mut Reassembly,
    frame: &[u8],
    more: More<'_>,
) {
    let frames = more.payloads.len().max(1) as u64;
    cx.stats.frames_from_guest += frames;
    let handled = ethernet(cx, layers, reassembly, frame, more);
    if handled.is_none() {
        cx.stats.frames_dropped += frames;
    }
}

fn ethernet<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    reassembly: &mut Reassembly,
    frame: &[u8],
    more: More<'_>,
) -> Option<()> {
    let (header, payload) = EthernetHeader::parse(frame)?;
    if cx.link.observe_mac(header.src) && layers.mac_changes.allow(cx.now) {
        log::info!("guest's MAC address: {}", header.src);
    }
    match header.ethertype.get() {
        ETHERTYPE_ARP => arp(cx, header.src, payload),
        ETHERTYPE_IPV4 => ipv4(cx, layers, reassembly, payload, more),
        ETHERTYPE_IPV6 => ipv6(cx, layers, reassembly, payload, more),
        _ => None,
    }
}

fn arp<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, source: MacAddr, payload: &[u8]) -> Option<()> {
    cx.config.v4.as_ref()?;
    ArpPacket::parse(payload)?;
    answer::arp::on_packet(cx, source, payload);
    Some(())
}

fn ipv4<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    reassembly: &mut Reassembly,
    packet: &[u8],
    more: More<'_>,
) -> Option<()> {
    let config = cx.config.v4.as_ref()?;
    let (header, _options, payload) = Ipv4Header::parse(packet)?;
    let (src, dst) = (header.src_addr(), header.dst_addr());
    if src.is_loopback() || dst.is_loopback() {
        return None;
    }
    cx.link.observe_v4(config, src);
    let ip = Ip {
        src: src.into(),
        dst: dst.into(),
        protocol: header.protocol,
        ttl: header.ttl,
        flow_label: 0,
    };
    if !header.is_fragment() {
        return transport(cx, layers, &ip, payload, more);
    }
    let fragment = Fragment {
        ip,
        id: header.id.get().into(),
        offset: header.frag_offset(),
        more: header.more_fragments(),
        data: payload,
    };
    match reassembly.insert(cx.now, &fragment) {
        Some((ip, payload)) => transport(cx, layers, &ip, payload, More::NOTHING),
        None => Some(()),
    }
}

fn ipv6<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    reassembly: &mut Reassembly,
    packet: &[u8],
    more: More<'_>,
) -> Option<()> {
    let config = cx.config.v6.as_ref()?;
    let (header, payload) = Ipv6Header::parse(packet)?;
    let (src, dst) = (header.src_addr(), header.dst_addr());
    if src.is_loopback() || dst.is_loopback() {
        return None;
    }
    // No such packet exists on a network, but the host's sockets would take it as one of IPv4: past every
    // check of that family, to the host's 127.0.0.1 if the guest says so.
    if src.to_ipv4_mapped().is_some() || dst.to_ipv4_mapped().is_some() {
        return None;
    }
    cx.link.observe_v6(config, src);
    let found = ipv6::walk_extensions(header.next_header, payload).ok()?;
    let ip = Ip {
        src: src.into(),
        dst: dst.into(),
        protocol: found.protocol,
        ttl: header.hop_limit,
        flow_label: header.flow_label(),
    };
    let Some(fragment) = found.fragment else {
        return transport(cx, layers, &ip, found.payload, more);
    };
    let fragment = Fragment {
        ip,
        id: fragment.id.get(),
        offset: fragment.offset(),
        more: fragment.more_fragments(),
        data: found.payload,
    };
    let Some((mut ip, payload)) = reassembly.insert(cx.now, &fragment) else { return Some(()) };
    let found = ipv6::walk_extensions(ip.protocol, payload).ok()?;
    // A fragment within the reassembled packet would be one of a packet that never existed.
    if found.fragment.is_some() {
        return None;
    }
    ip.protocol = found.protocol;
    transport(cx, layers, &ip, found.payload, More::NOTHING)
}

fn transport<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    ip: &Ip,
    packet: &[u8],
    more: More<'_>,
) -> Option<()> {
    match (ip.protocol, ip.src) {
        (protocol::TCP, _) => tcp(cx, layers, ip, packet, more.payloads),
        (protocol::UDP, _) => udp(cx, layers, ip, packet, more.gso),
        (protocol::ICMP, IpAddr::V4(_)) => icmp(cx, layers, ip, packet),
        (protocol::ICMPV6, IpAddr::V6(source)) => match packet.first().copied()? {
            icmp6::ROUTER_SOLICITATION..=icmp6::REDIRECT => {
                answer::ndp::on_message(cx, source, ip.ttl, packet);
                Some(())
            }
            _ => icmp(cx, layers, ip, packet),
        },
        _ => None,
    }
}

fn icmp<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    ip: &Ip,
    message: &[u8],
) -> Option<()> {
    match icmp::udp_flow(ip, message) {
        // Errors belong to what they are about, whether or not there is echo.
        Some(key) => layers.udp.peer_unreachable(cx, &key),
        None if cx.config.services.icmp => layers.pings.message(cx, ip, message),
        None => None,
    }
}

fn tcp<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    ip: &Ip,
    segment: &[u8],
    payloads: &[IoSlice<'_>],
) -> Option<()> {
    let (header, options, payload) = TcpHeader::parse(segment)?;
    let valid = is_unicast(ip.src)
        && is_unicast(ip.dst)
        && header.src_port.get() != 0
        && header.dst_port.get() != 0;
    if !valid || !cx.config.services.tcp {
        return None;
    }
    let packet = tcp::Packet {
        guest: ip.src,
        peer: ip.dst,
        header,
        options,
        payload,
        payloads,
        flow_label: ip.flow_label,
    };
    layers.tcp.segment(cx, &packet);
    Some(())
}

fn udp<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    layers: &mut Layers<H>,
    ip: &Ip,
    datagram: &[u8],
    gso: Gso,
) -> Option<()> {
    let (header, payload) = match gso {
        Gso::Udp(_) => UdpHeader::parse_unsized(datagram)?,
        Gso::None | Gso::Tcp(_) => UdpHeader::parse(datagram)?,
    };
    match (header.dst_port.get(), ip.src, ip.dst) {
        (DHCP_SERVER, IpAddr::V4(_), _) => {
            answer::dhcp4::on_datagram(cx, payload);
            return Some(());
        }
        (DHCPV6_SERVER, IpAddr::V6(source), IpAddr::V6(dst)) => {
            answer::dhcp6::on_datagram(cx, source, dst, payload);
            return Some(());
        }
        _ => {}
    }
    let valid = is_unicast(ip.src)
        && !ip.dst.is_unspecified()
        && header.src_port.get() != 0
        && header.dst_port.get() != 0;
    if !valid || !cx.config.services.udp {
        return None;
    }
    layers.udp.datagram(cx, ip, (header, payload), gso);
    Some(())
}

#[cfg(test)]
mod tests;

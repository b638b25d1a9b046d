//! The services a guest finds on its link: address resolution and configuration.
//!
//! In each module the decision is a pure function from a request to the bytes of an answer; the
//! `on_…` functions around them send that answer. [`announce`] is what we say unasked.

pub mod announce;
pub mod arp;
pub mod dhcp4;
pub mod dhcp6;
pub mod ndp;
#[cfg(test)]
pub(crate) mod testing;

use std::net::IpAddr;

use wire::ethernet::{ETHERTYPE_ARP, HEADER_LEN, MacAddr};
use wire::udp::UdpHeader;
use wire::{IntoBytes, checksum, protocol};

use crate::addr::Link;
use crate::cx::Cx;
use crate::frame::{self, IpFields, Route};
use crate::io::{FrameMeta, Guest, HEADROOM, Host};

/// Sends an ARP packet between these link-layer addresses. `false`: the link did not take it.
fn send_arp<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    packet: &wire::arp::ArpPacket,
    src_mac: MacAddr,
    dst_mac: MacAddr,
) -> bool {
    let end = HEADROOM + size_of_val(packet);
    let Some(buf) = cx.guest.slot(size_of_val(packet)) else { return false };
    let Some(room) = buf.get_mut(HEADROOM..end) else { return false };
    room.copy_from_slice(packet.as_bytes());
    let header = wire::ethernet::EthernetHeader::new(dst_mac, src_mac, ETHERTYPE_ARP);
    let Some(room) = buf.get_mut(HEADROOM - HEADER_LEN..HEADROOM) else { return false };
    room.copy_from_slice(header.as_bytes());
    cx.send(HEADROOM - HEADER_LEN, end, FrameMeta::default())
}

/// Sends an ICMPv6 message of at most the smallest MTU, written by `build`, which returns its length and
/// its way. `false`: nothing was built, or the link did not take it.
fn send_icmp6<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    build: impl FnOnce(&Link, &mut [u8]) -> Option<(usize, Route)>,
) -> bool {
    let Some(buf) = cx.guest.slot(ndp::ROOM) else { return false };
    let Some(room) = buf.get_mut(HEADROOM..) else { return false };
    let Some((len, route)) = build(cx.link, room) else { return false };
    let fields = IpFields::default();
    let start = frame::write_ip(buf, HEADROOM, len, protocol::ICMPV6, &route, &fields);
    start.is_some_and(|start| cx.send(start, HEADROOM + len, FrameMeta::default()))
}

/// A UDP payload that `build` wrote, and where it goes.
struct Datagram {
    len: usize,
    route: Route,
    src_port: u16,
    dst_port: u16,
    flow_label: u32,
}

/// Sends a datagram of at most `room` bytes of payload, written by `build`. `false`: nothing was built,
/// or the link did not take it.
fn send_udp<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    room: usize,
    build: impl FnOnce(&mut [u8]) -> Option<Datagram>,
) -> bool {
    let Some(buf) = cx.guest.slot(room) else { return false };
    let Some(sent) = buf.get_mut(HEADROOM..).and_then(build) else { return false };
    let Some((start, end)) = finish_udp(buf, &sent) else { return false };
    cx.send(start, end, FrameMeta::default())
}

/// Headers in front of the payload at `HEADROOM`; start and end of the frame.
fn finish_udp(buf: &mut [u8], sent: &Datagram) -> Option<(usize, usize)> {
    let l4_start = HEADROOM - wire::udp::HEADER_LEN;
    let end = HEADROOM + sent.len;
    let mut header = UdpHeader::new(sent.src_port, sent.dst_port, u16::try_from(sent.len).ok()?);
    let l4_len = wire::udp::HEADER_LEN + sent.len;
    let pseudo = checksum::pseudo_header(
        sent.route.src,
        sent.route.dst,
        protocol::UDP,
        u32::try_from(l4_len).ok()?,
    );
    let payload = checksum::sum(buf.get(HEADROOM..end)?);
    let value = checksum::transport_checksum(pseudo + payload, protocol::UDP, header.as_bytes());
    header.checksum.set(value);
    buf.get_mut(l4_start..HEADROOM)?.copy_from_slice(header.as_bytes());
    let fields = IpFields { flow_label: sent.flow_label, ..IpFields::default() };
    let start = frame::write_ip(buf, l4_start, l4_len, protocol::UDP, &sent.route, &fields)?;
    Some((start, end))
}

/// From our own link-layer address: to the group of a multicast destination, else to the guest.
fn route<G, H>(cx: &Cx<'_, G, H>, src: IpAddr, dst: IpAddr) -> Route {
    let dst_mac = match dst {
        IpAddr::V6(group) if group.is_multicast() => MacAddr::ipv6_multicast(group),
        IpAddr::V4(_) | IpAddr::V6(_) => cx.link.guest_mac(),
    };
    Route { src, dst, src_mac: cx.config.our_mac, dst_mac }
}

//! One good frame of each kind that a guest may send.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use wire::tcp::TcpFlags;
use wire::tcp_option::TcpOptions;
use wire::{IntoBytes, protocol};

use super::packet::TcpOut;
use super::rng::Rng;
use super::world::{GUEST_MAC, GUEST_V4, GUEST_V6, STACK_MAC, ends};

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const REMOTE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x15);
const DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fn ethernet(dst: MacAddr, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = EthernetHeader::new(dst, GUEST_MAC, ethertype).as_bytes().to_vec();
    frame.extend_from_slice(packet);
    frame
}

fn v4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header::new(protocol, 64, src, dst, payload.len() as u16);
    let mac = if dst.is_broadcast() { MacAddr::BROADCAST } else { STACK_MAC };
    ethernet(mac, ETHERTYPE_IPV4, &[header.as_bytes(), payload].concat())
}

fn v6(next: u8, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header::new(next, 255, src, dst, payload.len() as u16);
    let mac = if dst.is_multicast() { MacAddr::ipv6_multicast(dst) } else { STACK_MAC };
    ethernet(mac, ETHERTYPE_IPV6, &[header.as_bytes(), payload].concat())
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + 8) as u16;
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

fn echo(kind: u8) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], &[0x5a; 40]].concat()
}

fn tcp(n: u64, ipv6: bool, flags: TcpFlags, seq: u32, len: usize) -> Vec<u8> {
    let (src, dst) = ends(n, ipv6);
    let syn = flags.intersects(TcpFlags::SYN);
    let mut options = TcpOptions { timestamps: Some((1, 0)), ..TcpOptions::default() };
    if syn {
        options.mss = Some(1_460);
        options.window_scale = Some(7);
        options.sack_permitted = true;
    } else {
        options.push_sack(5, 9);
    }
    let segment =
        TcpOut { macs: (GUEST_MAC, STACK_MAC), src, dst, seq, ack: 1, flags, window: 500, options };
    let mut frame = Vec::new();
    segment.build(&mut frame, len, |buf| buf.fill(0x61));
    frame
}

/// A DHCP message of this type (RFC 2131): with the options that clients send.
fn dhcp(message: u8) -> Vec<u8> {
    let mut body = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0x80, 0];
    body.resize(28, 0);
    body.extend_from_slice(&GUEST_MAC.0);
    body.resize(236, 0);
    body.extend_from_slice(&[99, 130, 83, 99, 53, 1, message, 55, 4, 1, 3, 6, 26]);
    body.extend_from_slice(&[50, 4, 192, 0, 2, 15, 12, 1, 0x67, 255]);
    udp(68, 67, &body)
}

/// A DHCPv6 message of this type (RFC 8415): client identifier, elapsed time, one IA_NA, option request.
fn dhcp6(message: u8) -> Vec<u8> {
    let mut body = vec![message, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1];
    body.extend_from_slice(&GUEST_MAC.0);
    body.extend_from_slice(&[0, 8, 0, 2, 0, 0, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(&[0, 6, 0, 4, 0, 23, 0, 24]);
    udp(546, 547, &body)
}

fn arp() -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend_from_slice(&GUEST_MAC.0);
    body.extend_from_slice(&GUEST_V4.octets());
    body.extend_from_slice(&[0; 6]);
    body.extend_from_slice(&GATEWAY_V4.octets());
    ethernet(MacAddr::BROADCAST, ETHERTYPE_ARP, &body)
}

fn neighbour_solicitation() -> Vec<u8> {
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&ROUTER_V6.octets());
    body.extend_from_slice(&[1, 1]);
    body.extend_from_slice(&GUEST_MAC.0);
    v6(protocol::ICMPV6, LINK_LOCAL, ROUTER_V6, &body)
}

fn router_solicitation() -> Vec<u8> {
    let mut body = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    body.extend_from_slice(&GUEST_MAC.0);
    v6(protocol::ICMPV6, LINK_LOCAL, ALL_ROUTERS, &body)
}

/// Both halves of a fragmented datagram.
fn fragments() -> Vec<Vec<u8>> {
    let datagram = udp(5_000, 53, &[0x62; 120]);
    let (first, second) = datagram.split_at(64);
    let mut all = Vec::new();
    for (piece, flags) in [(first, 0x2000u16), (second, 8)] {
        let mut frame = v4(protocol::UDP, GUEST_V4, REMOTE_V4, piece);
        frame[18..20].copy_from_slice(&77u16.to_be_bytes());
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        all.push(frame);
    }
    for (piece, offset) in [(first, 1u16), (second, 64)] {
        let header = [&[protocol::UDP, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 7]].concat();
        all.push(v6(protocol::FRAGMENT, GUEST_V6, REMOTE_V6, &[&header, piece].concat()));
    }
    all
}

/// All of them.
pub(super) fn all() -> Vec<Vec<u8>> {
    let dns = udp(5_353, 53, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01");
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let hop_by_hop = [&[protocol::UDP, 0, 1, 4, 0, 0, 0, 0][..], &dns].concat();
    let mut frames = vec![
        arp(),
        neighbour_solicitation(),
        router_solicitation(),
        v4(protocol::UDP, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &dhcp(1)),
        v4(protocol::UDP, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &dhcp(3)),
        v6(protocol::UDP, LINK_LOCAL, DHCP_SERVERS, &dhcp6(1)),
        v6(protocol::UDP, LINK_LOCAL, DHCP_SERVERS, &dhcp6(3)),
        v4(protocol::ICMP, GUEST_V4, REMOTE_V4, &echo(8)),
        v6(protocol::ICMPV6, GUEST_V6, REMOTE_V6, &echo(128)),
        v4(protocol::UDP, GUEST_V4, REMOTE_V4, &dns),
        v4(protocol::UDP, GUEST_V4, GATEWAY_V4, &dns),
        v6(protocol::UDP, GUEST_V6, REMOTE_V6, &dns),
        v6(protocol::HOP_BY_HOP, GUEST_V6, REMOTE_V6, &hop_by_hop),
        v4(protocol::IGMP, GUEST_V4, Ipv4Addr::new(224, 0, 0, 22), &[0x22, 0, 0, 0, 0, 0, 0, 0]),
    ];
    frames.extend(fragments());
    for ipv6 in [false, true] {
        for n in 0..4 {
            frames.push(tcp(n, ipv6, syn, 1_000, 0));
        }
        frames.push(tcp(0, ipv6, ack, 1_001, 0));
        frames.push(tcp(0, ipv6, ack, 1_001, 100));
        frames.push(tcp(0, ipv6, ack | TcpFlags::PSH, 1_101, 1_448));
        frames.push(tcp(0, ipv6, ack | TcpFlags::FIN, 1_101, 0));
        frames.push(tcp(0, ipv6, TcpFlags::RST, 1_001, 0));
    }
    frames
}

/// Turns the beginning of a frame of the stack into what might answer it: addresses and ports swapped; for
/// TCP, the numbers that come next and other flags.
pub(super) fn answer(frame: &mut Vec<u8>, rng: &mut Rng) {
    let is_v4 = frame[12..14] == ETHERTYPE_IPV4.to_be_bytes();
    swap(frame, 0, 6, 6);
    let (l4, proto) = if is_v4 {
        swap(frame, 26, 30, 4);
        (34, frame[23])
    } else {
        swap(frame, 22, 38, 16);
        (54, frame[20])
    };
    swap(frame, l4, l4 + 2, 2);
    if proto != protocol::TCP {
        return;
    }
    let read = |frame: &[u8], at: usize| {
        u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    };
    let (seq, ack) = (read(frame, l4 + 4), read(frame, l4 + 8));
    let flags = TcpFlags(frame[l4 + 13]);
    let length = if is_v4 {
        u16::from_be_bytes([frame[16], frame[17]]).wrapping_sub(20)
    } else {
        u16::from_be_bytes([frame[18], frame[19]])
    };
    let header = u16::from(frame[l4 + 12] >> 4) * 4;
    let syn = u32::from(flags.intersects(TcpFlags::SYN));
    let fin = u32::from(flags.intersects(TcpFlags::FIN));
    let next = seq.wrapping_add(u32::from(length.wrapping_sub(header)) + syn + fin);
    let jump = [0, 0, 0, 1, 100, 1_448, u32::MAX, 70_000][rng.index(8)];
    frame[l4 + 4..l4 + 8].copy_from_slice(&ack.wrapping_add(jump).to_be_bytes());
    frame[l4 + 8..l4 + 12].copy_from_slice(&next.to_be_bytes());
    let mut flags = TcpFlags::ACK;
    match rng.below(16) {
        0 => flags |= TcpFlags::FIN,
        1 => flags |= TcpFlags::RST,
        2 => flags |= TcpFlags::SYN,
        3 => flags |= TcpFlags::PSH,
        _ => {}
    }
    frame[l4 + 13] = flags.0;
    let payload = if rng.chance(6_000) { rng.index(1_400) } else { 0 };
    frame.truncate(l4 + usize::from(header.max(20)).min(74));
    frame.resize(frame.len() + payload, 0x63);
    let total = (frame.len() - if is_v4 { 14 } else { 54 }) as u16;
    let at = if is_v4 { 16 } else { 18 };
    frame[at..at + 2].copy_from_slice(&total.to_be_bytes());
}

fn swap(frame: &mut [u8], a: usize, b: usize, len: usize) {
    for i in 0..len {
        frame.swap(a + i, b + i);
    }
}

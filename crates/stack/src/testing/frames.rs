//! Frames that the guest sends.

use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, PacketBuilderStep};

use super::{GUEST_MAC, OUR_MAC};

/// Ethernet and IP headers from the guest, made by etherparse.
pub(crate) fn from_guest(
    src: &str,
    dst: &str,
    ttl: u8,
) -> PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(GUEST_MAC.0, OUR_MAC.0);
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), ttl),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), ttl),
        _ => panic!("two families"),
    }
}

/// A UDP frame from the guest.
pub(crate) fn udp_frame(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    udp_frame_ttl(src, dst, 64, payload)
}

pub(crate) fn udp_frame_ttl(src: &str, dst: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let builder =
        from_guest(&src.ip().to_string(), &dst.ip().to_string(), ttl).udp(src.port(), dst.port());
    let mut out = Vec::new();
    builder.write(&mut out, payload).unwrap();
    out
}

/// An echo request from the guest.
pub(crate) fn echo_frame(
    src: &str,
    dst: &str,
    ttl: u8,
    (id, seq): (u16, u16),
    data: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let ip = from_guest(src, dst, ttl);
    if src.contains(':') {
        ip.icmpv6_echo_request(id, seq).write(&mut out, data).unwrap();
    } else {
        ip.icmpv4_echo_request(id, seq).write(&mut out, data).unwrap();
    }
    out
}

/// The guest's "destination unreachable" about a packet it got: `quoted` is its IP header and what
/// followed, `src` and `dst` are those of the error.
pub(crate) fn unreachable_frame(src: &str, dst: &str, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let ip = from_guest(src, dst, 64);
    if src.contains(':') {
        ip.icmpv6_raw(1, code, [0; 4]).write(&mut out, quoted).unwrap();
    } else {
        ip.icmpv4_raw(3, code, [0; 4]).write(&mut out, quoted).unwrap();
    }
    out
}

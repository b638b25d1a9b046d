//! What the kernel lets sockets do, found out by doing it with one that is dropped again.

use std::io;
use std::net::IpAddr;

use super::{Repair, family, open, set_int, udp};

/// Opens a ping socket.
///
/// # Errors
/// `EACCES` if none of our groups is in `ping_group_range`.
pub(crate) fn open_ping(ip: IpAddr) -> io::Result<()> {
    let protocol = if ip.is_ipv4() { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    open(family(ip), libc::SOCK_DGRAM, protocol).map(drop)
}

/// Sets repair mode of a TCP socket (`TCP_REPAIR`).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the network namespace.
pub fn can_repair() -> io::Result<()> {
    Repair::On.set(&open(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP)?)
}

/// Takes bursts of equal datagrams at once, and sends them so (`UDP_GRO`, `UDP_SEGMENT`).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.0.
pub fn can_batch_datagrams() -> io::Result<()> {
    let socket = open(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
    set_int(&socket, udp::SOL_UDP, udp::UDP_GRO, 1)?;
    set_int(&socket, udp::SOL_UDP, udp::UDP_SEGMENT, 1200)
}

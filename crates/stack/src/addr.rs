//! Who is who: what was observed on the guest's link, and how addresses map between guest and host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wire::ethernet::MacAddr;
use wire::protocol;

use crate::config::{Config, Ipv4Config, Ipv6Config};
use crate::frame::Route;
use crate::neigh::Neighbors;

/// What was observed on the guest's link.
#[derive(Clone, Debug)]
pub struct Link {
    guest_mac: MacAddr,
    v4_seen: Option<Ipv4Addr>,
    v6_seen: Option<Ipv6Addr>,
    v6_link_local_seen: Option<Ipv6Addr>,
    /// Stands in for the assigned IPv6 address where the configuration has none (local mode).
    v6_adopted: Option<Ipv6Addr>,
    ip_id: u16,
    /// The mirror of the host's neighbours.
    pub neighbors: Neighbors,
}

impl Link {
    /// A link on which nothing has been seen. Without `guest_mac`, frames go to the broadcast address
    /// until the guest's first frame, so that it gets them whatever its own address is.
    pub fn new(
        config: &Config,
        guest_mac: Option<MacAddr>,
        link_local_seen: Option<Ipv6Addr>,
    ) -> Self {
        Self {
            guest_mac: guest_mac.unwrap_or(MacAddr::BROADCAST),
            v4_seen: config.v4.as_ref().map(|v4| v4.addr),
            v6_seen: config.v6.as_ref().and_then(|v6| v6.addr),
            v6_link_local_seen: link_local_seen,
            v6_adopted: None,
            ip_id: 0,
            neighbors: Neighbors::new(config),
        }
    }

    /// Link-layer address of the guest: the source of its last frame.
    pub fn guest_mac(&self) -> MacAddr {
        self.guest_mac
    }

    /// Takes note of the source of a frame. `true`: it differs from the one known.
    pub fn observe_mac(&mut self, source: MacAddr) -> bool {
        let news = source != self.guest_mac && !source.is_multicast() && source != MacAddr::ZERO;
        if news {
            self.guest_mac = source;
        }
        news
    }

    /// Takes note of the IPv4 source of a packet: inbound traffic goes where the guest really is.
    pub fn observe_v4(&mut self, config: &Ipv4Config, source: Ipv4Addr) {
        if !config.addr_fixed && is_unicast_v4(source) && !source.is_loopback() {
            self.v4_seen = Some(source);
        }
    }

    /// Takes note of the IPv6 source of a packet.
    pub fn observe_v6(&mut self, config: &Ipv6Config, source: Ipv6Addr) {
        if source.is_unspecified() || source.is_loopback() || source.is_multicast() {
            return;
        }
        if source.is_unicast_link_local() {
            self.v6_link_local_seen = Some(source);
            self.v6_seen.get_or_insert(source);
            if config.addr.is_none() {
                self.v6_adopted.get_or_insert(source);
            }
        } else if !config.addr_fixed {
            self.v6_seen = Some(source);
        }
    }

    /// The guest was just given its IPv6 address: that is where it will be.
    pub fn assigned_v6(&mut self, config: &Ipv6Config) {
        if config.addr.is_some() {
            self.v6_seen = config.addr;
        }
    }

    /// Where IPv4 traffic for the guest goes.
    pub fn v4_seen(&self) -> Option<Ipv4Addr> {
        self.v4_seen
    }

    /// Where IPv6 traffic for the guest goes, unless it is link-local.
    pub fn v6_seen(&self) -> Option<Ipv6Addr> {
        self.v6_seen
    }

    /// Where link-local IPv6 traffic for the guest goes.
    pub fn v6_link_local_seen(&self) -> Option<Ipv6Addr> {
        self.v6_link_local_seen
    }

    /// The guest's IPv6 address by configuration or, in local mode, the first link-local address seen.
    pub fn v6_addr(&self, config: &Ipv6Config) -> Option<Ipv6Addr> {
        config.addr.or(self.v6_adopted)
    }

    /// Where a host-initiated flow goes whose source the guest sees as `source`.
    pub fn inbound_destination(&self, source: IpAddr) -> Option<IpAddr> {
        match source {
            IpAddr::V4(_) => self.v4_seen.map(IpAddr::V4),
            IpAddr::V6(source) if source.is_unicast_link_local() => {
                self.v6_link_local_seen.map(IpAddr::V6)
            }
            IpAddr::V6(_) => self.v6_seen.map(IpAddr::V6),
        }
    }

    /// Addresses of a frame from `peer` to `guest`, both as the guest sees them.
    pub fn route_to_guest(&self, config: &Config, guest: IpAddr, peer: IpAddr) -> Route {
        Route { src: peer, dst: guest, src_mac: self.mac_of(config, peer), dst_mac: self.guest_mac }
    }

    /// The link-layer address under which the guest sees `peer`.
    pub fn mac_of(&self, config: &Config, peer: IpAddr) -> MacAddr {
        self.neighbors.mac_of(config, peer)
    }

    /// The next identification for fragments sent to the guest.
    pub fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }
}

/// How the host reaches what the guest calls by some address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Destination on the host.
    pub to: SocketAddr,
    /// Source address for the host's socket, if configured.
    pub from: Option<IpAddr>,
}

/// Translates the destination of a packet from the guest.
pub fn outbound(config: &Config, protocol: u8, dst: SocketAddr) -> Outbound {
    match dst {
        SocketAddr::V4(dst) => {
            let Some(v4) = &config.v4 else { return Outbound { to: dst.into(), from: None } };
            let ip = outbound_v4(v4, is_dns(protocol, dst.port()), *dst.ip());
            Outbound {
                to: SocketAddrV4::new(ip, dst.port()).into(),
                from: v4.addr_out.map(IpAddr::V4),
            }
        }
        SocketAddr::V6(dst) => {
            let Some(v6) = &config.v6 else { return Outbound { to: dst.into(), from: None } };
            let ip = outbound_v6(v6, is_dns(protocol, dst.port()), *dst.ip());
            // ff02::/16 (and ff01::/16) mean nothing without an interface either.
            let scoped = ip.is_unicast_link_local()
                || matches!(ip.octets(), [0xff, scope, ..] if matches!(scope & 0x0f, 1 | 2));
            let scope_id = if scoped { v6.scope_id } else { 0 };
            Outbound {
                to: SocketAddrV6::new(ip, dst.port(), 0, scope_id).into(),
                from: v6.addr_out.map(IpAddr::V6),
            }
        }
    }
}

/// DNS and DNS over TLS are what a forwarded resolver is for.
fn is_dns(protocol: u8, port: u16) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP) && matches!(port, 53 | 853)
}

fn outbound_v4(config: &Ipv4Config, is_dns: bool, dst: Ipv4Addr) -> Ipv4Addr {
    if let (true, Some(host)) = (is_dns && config.dns_match == Some(dst), config.dns_host) {
        host
    } else if config.map_host_loopback == Some(dst) {
        Ipv4Addr::LOCALHOST
    } else if config.map_guest_addr == Some(dst) {
        config.addr
    } else {
        dst
    }
}

fn outbound_v6(config: &Ipv6Config, is_dns: bool, dst: Ipv6Addr) -> Ipv6Addr {
    if let (true, Some(host)) = (is_dns && config.dns_match == Some(dst), config.dns_host) {
        host
    } else if config.map_host_loopback == Some(dst) {
        Ipv6Addr::LOCALHOST
    } else if config.map_guest_addr == Some(dst) {
        // In local mode the host does not share the guest's address.
        config.addr.unwrap_or(dst)
    } else {
        dst
    }
}

/// The address under which the guest sees `source`, an address of the host's world. `None`: under none.
pub fn inbound_source(config: &Config, link: &Link, source: IpAddr) -> Option<IpAddr> {
    visible_source(config, link, source).or(match source {
        IpAddr::V4(_) => config.v4.as_ref()?.gateway.map(IpAddr::V4),
        IpAddr::V6(_) => Some(config.v6.as_ref()?.our_link_local.into()),
    })
}

/// As [`inbound_source`], but without the last resort of our own address: for senders of ICMP errors and
/// for neighbours, where a wrong address is worse than none.
pub fn visible_source(config: &Config, link: &Link, source: IpAddr) -> Option<IpAddr> {
    match source {
        IpAddr::V4(source) => {
            let v4 = config.v4.as_ref()?;
            visible_v4(v4, link, source).map(IpAddr::V4)
        }
        IpAddr::V6(source) => {
            let v6 = config.v6.as_ref()?;
            visible_v6(v6, link, source).map(IpAddr::V6)
        }
    }
}

fn visible_v4(config: &Ipv4Config, link: &Link, source: Ipv4Addr) -> Option<Ipv4Addr> {
    if let (Ipv4Addr::LOCALHOST, Some(map)) = (source, config.map_host_loopback) {
        return Some(map);
    }
    if let (true, Some(map)) = (source == config.addr, config.map_guest_addr) {
        return Some(map);
    }
    let hidden = source.is_loopback()
        || source.is_unspecified()
        || source == config.addr
        || link.v4_seen == Some(source);
    (!hidden).then_some(source)
}

fn visible_v6(config: &Ipv6Config, link: &Link, source: Ipv6Addr) -> Option<Ipv6Addr> {
    if let (Ipv6Addr::LOCALHOST, Some(map)) = (source, config.map_host_loopback) {
        return Some(map);
    }
    let addr = link.v6_addr(config);
    if let (true, Some(map)) = (addr == Some(source), config.map_guest_addr) {
        return Some(map);
    }
    let hidden = source.is_loopback()
        || source.is_unspecified()
        || addr == Some(source)
        || link.v6_seen == Some(source);
    (!hidden).then_some(source)
}

/// Translates the sender of an ICMP error about a packet that the guest sent to `peer` (as the guest sees
/// it). The far end itself is known to the guest as `peer`, however it was mapped.
pub fn offender(
    config: &Config,
    link: &Link,
    protocol: u8,
    offender: IpAddr,
    peer: SocketAddr,
) -> Option<IpAddr> {
    if outbound(config, protocol, peer).to.ip() == offender {
        return Some(peer.ip());
    }
    visible_source(config, link, offender)
}

/// Whether an IPv4 address can be a single host's.
pub(crate) fn is_unicast_v4(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
}

/// Whether an address can be a single host's.
pub(crate) fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_unicast_v4(ip),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

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
    /// Addresses that forwarding rules name: who answers from there need not be where the rest goes.
    targets: Vec<IpAddr>,
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
            targets: Vec::new(),
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
        let news = self.v4_seen != Some(source) && !config.addr_fixed;
        if news && is_unicast_v4(source) && !source.is_loopback() && !self.is_target(source.into())
        {
            self.v4_seen = Some(source);
        }
    }

    /// Takes note of the IPv6 source of a packet.
    pub fn observe_v6(&mut self, config: &Ipv6Config, source: Ipv6Addr) {
        if Some(source) == self.v6_seen
            || source.is_unspecified()
            || source.is_loopback()
            || source.is_multicast()
            || self.is_target(source.into())
        {
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

    /// Addresses that forwarding rules name as targets. They are not taken for the guest's own when
    /// something comes from there.
    pub fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.targets = targets;
    }

    fn is_target(&self, address: IpAddr) -> bool {
        self.targets.contains(&address)
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
            // A guest that was there before us may have said nothing with that address yet.
            IpAddr::V6(source) if source.is_unicast_link_local() => {
                self.v6_link_local_seen.or(self.v6_seen).map(IpAddr::V6)
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
    if config.shared.contains(&source) {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GUEST_MAC, config};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn out(config: &Config, protocol: u8, dst: &str) -> String {
        outbound(config, protocol, dst.parse().unwrap()).to.to_string()
    }

    /// Everything that can be mapped, mapped.
    fn mapped() -> Config {
        let mut config = config();
        let v4 = config.v4.as_mut().unwrap();
        v4.dns_match = Some("192.0.2.53".parse().unwrap());
        v4.dns_host = Some("127.0.0.53".parse().unwrap());
        v4.map_guest_addr = Some("192.0.2.3".parse().unwrap());
        let v6 = config.v6.as_mut().unwrap();
        v6.dns_match = Some("2001:db8::53".parse().unwrap());
        v6.dns_host = Some("2001:db8:99::53".parse().unwrap());
        v6.map_guest_addr = Some("2001:db8::3".parse().unwrap());
        config
    }

    #[test]
    fn dns_to_the_forwarded_address() {
        let config = mapped();
        for protocol in [protocol::TCP, protocol::UDP] {
            for port in [53, 853] {
                let to = |dst: &str| out(&config, protocol, &format!("{dst}:{port}"));
                assert_eq!(to("192.0.2.53"), format!("127.0.0.53:{port}"));
                assert_eq!(to("[2001:db8::53]"), format!("[2001:db8:99::53]:{port}"));
                assert_eq!(to("192.0.2.54"), format!("192.0.2.54:{port}"));
            }
            assert_eq!(out(&config, protocol, "192.0.2.53:5353"), "192.0.2.53:5353");
        }
        assert_eq!(out(&config, protocol::ICMP, "192.0.2.53:53"), "192.0.2.53:53");
    }

    #[test]
    fn dns_goes_before_loopback() {
        let mut config = mapped();
        let v4 = config.v4.as_mut().unwrap();
        v4.dns_match = v4.map_host_loopback;
        assert_eq!(out(&config, protocol::UDP, "192.0.2.2:53"), "127.0.0.53:53");
        assert_eq!(out(&config, protocol::UDP, "192.0.2.2:80"), "127.0.0.1:80");
        config.v4.as_mut().unwrap().dns_host = None;
        assert_eq!(out(&config, protocol::UDP, "192.0.2.2:53"), "127.0.0.1:53");
    }

    #[test]
    fn loopback_guest_address_and_others() {
        let config = mapped();
        assert_eq!(out(&config, protocol::TCP, "192.0.2.2:80"), "127.0.0.1:80");
        assert_eq!(out(&config, protocol::TCP, "[fe80::1]:80"), "[::1]:80");
        assert_eq!(out(&config, protocol::TCP, "192.0.2.3:80"), "192.0.2.1:80");
        assert_eq!(out(&config, protocol::TCP, "[2001:db8::3]:80"), "[2001:db8:1::1]:80");
        assert_eq!(out(&config, protocol::TCP, "198.51.100.1:80"), "198.51.100.1:80");
        let mut unmapped = self::config();
        unmapped.v4.as_mut().unwrap().map_host_loopback = None;
        assert_eq!(out(&unmapped, protocol::TCP, "192.0.2.2:80"), "192.0.2.2:80");
        assert_eq!(out(&unmapped, protocol::TCP, "192.0.2.3:80"), "192.0.2.3:80");
        unmapped.v6.as_mut().unwrap().addr = None;
        unmapped.v6.as_mut().unwrap().map_guest_addr = Some("2001:db8::3".parse().unwrap());
        assert_eq!(out(&unmapped, protocol::TCP, "[2001:db8::3]:80"), "[2001:db8::3]:80");
    }

    #[test]
    fn scopes_and_sources() {
        let mut config = config();
        assert_eq!(out(&config, protocol::UDP, "[fe80::2]:80"), "[fe80::2%7]:80");
        assert_eq!(out(&config, protocol::UDP, "[ff02::fb]:80"), "[ff02::fb%7]:80");
        assert_eq!(out(&config, protocol::UDP, "[ff05::2]:80"), "[ff05::2]:80");
        assert_eq!(out(&config, protocol::UDP, "[2001:db8::1]:80"), "[2001:db8::1]:80");
        let dst = "198.51.100.1:80".parse().unwrap();
        assert_eq!(outbound(&config, protocol::TCP, dst).from, None);
        config.v4.as_mut().unwrap().addr_out = Some("192.0.2.9".parse().unwrap());
        config.v6.as_mut().unwrap().addr_out = Some("2001:db8::9".parse().unwrap());
        assert_eq!(outbound(&config, protocol::TCP, dst).from, Some(ip("192.0.2.9")));
        let dst = "[2001:db8::7]:80".parse().unwrap();
        assert_eq!(outbound(&config, protocol::TCP, dst).from, Some(ip("2001:db8::9")));
        config.v4 = None;
        config.v6 = None;
        assert_eq!(outbound(&config, protocol::TCP, dst), Outbound { to: dst, from: None });
    }

    #[test]
    fn inbound_sources() {
        let config = mapped();
        let mut link = Link::new(&config, None, None);
        link.observe_v4(config.v4.as_ref().unwrap(), "192.0.2.77".parse().unwrap());
        link.observe_v6(config.v6.as_ref().unwrap(), "2001:db8:1::77".parse().unwrap());
        let v4 = |source| inbound_source(&config, &link, ip(source)).unwrap().to_string();
        assert_eq!(v4("127.0.0.1"), "192.0.2.2");
        assert_eq!(v4("127.0.0.2"), "192.0.2.2", "any loopback: our own address");
        assert_eq!(v4("192.0.2.1"), "192.0.2.3", "the shared address");
        assert_eq!(v4("192.0.2.77"), "192.0.2.2", "the guest's own");
        assert_eq!(v4("0.0.0.0"), "192.0.2.2");
        assert_eq!(v4("198.51.100.7"), "198.51.100.7");
        assert_eq!(v4("::1"), "fe80::1");
        assert_eq!(v4("2001:db8:1::1"), "2001:db8::3");
        assert_eq!(v4("2001:db8:1::77"), "fe80::1");
        assert_eq!(v4("2001:db8:7::1"), "2001:db8:7::1");
        for hidden in ["127.0.0.2", "192.0.2.77", "0.0.0.0", "2001:db8:1::77", "::"] {
            assert_eq!(visible_source(&config, &link, ip(hidden)), None, "{hidden}");
        }

        let mut bare = self::config();
        let v4 = bare.v4.as_mut().unwrap();
        (v4.gateway, v4.map_host_loopback) = (None, None);
        let link = Link::new(&bare, None, None);
        assert_eq!(inbound_source(&bare, &link, ip("127.0.0.1")), None, "no name for it");
        assert_eq!(inbound_source(&bare, &link, ip("192.0.2.1")), None);
        bare.v4 = None;
        assert_eq!(inbound_source(&bare, &link, ip("198.51.100.7")), None);
    }

    #[test]
    fn offenders() {
        let config = mapped();
        let link = Link::new(&config, None, None);
        let from = |offending: &str, peer: &str| {
            offender(&config, &link, protocol::UDP, ip(offending), peer.parse().unwrap())
        };
        // The resolver behind --dns-forward is known by the forwarded address.
        assert_eq!(from("127.0.0.53", "192.0.2.53:53"), Some(ip("192.0.2.53")));
        assert_eq!(from("127.0.0.53", "198.51.100.1:53"), None);
        assert_eq!(from("127.0.0.1", "192.0.2.2:99"), Some(ip("192.0.2.2")));
        assert_eq!(from("203.0.113.1", "198.51.100.1:53"), Some(ip("203.0.113.1")));
    }

    #[test]
    fn observed_addresses() {
        let config = config();
        let (v4, v6) = (config.v4.as_ref().unwrap(), config.v6.as_ref().unwrap());
        let mut link = Link::new(&config, None, None);
        assert_eq!(link.v4_seen(), Some(v4.addr));
        for ignored in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            link.observe_v4(v4, ignored.parse().unwrap());
            assert_eq!(link.v4_seen(), Some(v4.addr), "{ignored}");
        }
        link.observe_v4(v4, "192.0.2.9".parse().unwrap());
        assert_eq!(link.inbound_destination(ip("198.51.100.1")), Some(ip("192.0.2.9")));

        // Better than nowhere.
        assert_eq!(link.inbound_destination(ip("fe80::9")), link.v6_seen().map(IpAddr::V6));
        link.observe_v6(v6, "fe80::2".parse().unwrap());
        link.observe_v6(v6, "2001:db8:1::2".parse().unwrap());
        for ignored in ["::", "::1", "ff02::1"] {
            link.observe_v6(v6, ignored.parse().unwrap());
        }
        assert_eq!(link.inbound_destination(ip("fe80::9")), Some(ip("fe80::2")));
        assert_eq!(link.inbound_destination(ip("2001:db8::9")), Some(ip("2001:db8:1::2")));
        link.assigned_v6(v6);
        assert_eq!(link.v6_seen(), v6.addr);
    }

    #[test]
    fn targets_of_rules_are_not_the_guest() {
        let config = config();
        let (v4, v6) = (config.v4.as_ref().unwrap(), config.v6.as_ref().unwrap());
        let mut link = Link::new(&config, None, None);
        let before = (link.v4_seen(), link.v6_seen());
        link.set_targets(vec![ip("192.0.2.50"), ip("2001:db8:1::50")]);
        link.observe_v4(v4, "192.0.2.50".parse().unwrap());
        link.observe_v6(v6, "2001:db8:1::50".parse().unwrap());
        assert_eq!((link.v4_seen(), link.v6_seen()), before);
        link.observe_v4(v4, "192.0.2.51".parse().unwrap());
        assert_ne!(link.v4_seen(), before.0);
    }

    #[test]
    fn shared_addresses_are_hidden() {
        let mut config = config();
        config.shared = vec![ip("192.0.2.200"), ip("2001:db8:1::200")];
        let link = Link::new(&config, None, None);
        let seen = |source| inbound_source(&config, &link, ip(source)).unwrap();
        assert_eq!(seen("192.0.2.200"), ip("192.0.2.2"), "our own address");
        assert_eq!(seen("2001:db8:1::200"), ip("fe80::1"));
        assert_eq!(visible_source(&config, &link, ip("192.0.2.200")), None);
    }

    #[test]
    fn a_fixed_address_stays() {
        let mut config = config();
        config.v4.as_mut().unwrap().addr_fixed = true;
        config.v6.as_mut().unwrap().addr_fixed = true;
        let (v4, v6) = (config.v4.as_ref().unwrap(), config.v6.as_ref().unwrap());
        let mut link = Link::new(&config, None, None);
        link.observe_v4(v4, "192.0.2.9".parse().unwrap());
        link.observe_v6(v6, "2001:db8:1::2".parse().unwrap());
        link.observe_v6(v6, "fe80::2".parse().unwrap());
        assert_eq!((link.v4_seen(), link.v6_seen()), (Some(v4.addr), v6.addr));
        assert_eq!(link.v6_link_local_seen(), Some("fe80::2".parse().unwrap()), "that one moves");
    }

    #[test]
    fn local_mode_adopts_the_first_link_local_address() {
        let mut config = config();
        let v6 = config.v6.as_mut().unwrap();
        (v6.addr, v6.local_mode) = (None, true);
        let v6 = config.v6.as_ref().unwrap();
        let mut link = Link::new(&config, None, None);
        assert_eq!((link.v6_seen(), link.v6_addr(v6)), (None, None));
        link.observe_v6(v6, "fe80::2".parse().unwrap());
        link.observe_v6(v6, "fe80::3".parse().unwrap());
        assert_eq!(link.v6_addr(v6), Some("fe80::2".parse().unwrap()));
        assert_eq!(link.v6_seen(), Some("fe80::2".parse().unwrap()));
        assert_eq!(link.v6_link_local_seen(), Some("fe80::3".parse().unwrap()));
        assert_eq!(visible_source(&config, &link, ip("fe80::2")), None);
    }

    #[test]
    fn guest_mac() {
        let config = config();
        let mut link = Link::new(&config, None, None);
        assert!(link.guest_mac().is_broadcast());
        assert!(!link.observe_mac(MacAddr::ZERO) && !link.observe_mac(MacAddr([1; 6])));
        assert!(link.observe_mac(GUEST_MAC) && !link.observe_mac(GUEST_MAC));
        let route = link.route_to_guest(&config, ip("192.0.2.1"), ip("198.51.100.1"));
        assert_eq!((route.dst_mac, route.src_mac), (GUEST_MAC, config.our_mac));
    }
}

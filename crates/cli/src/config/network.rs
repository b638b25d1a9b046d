//! The network the guest will see: what was said, completed by what was found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stack::config::{Config, Ipv4Config, Ipv6Config, Services};
use wire::ethernet::MacAddr;

use super::dns::Resolvers;
use super::{Host, HostIpv4, HostIpv6};
use crate::said::{Families, Mode, Said};

/// Our MAC address on the guest's link: locally administered.
const OUR_MAC: MacAddr = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
/// The largest possible MTU, rounded down to a multiple of four.
const DEFAULT_MTU: u16 = 65_520;
/// RFC 791 §3.2: what every link must carry.
const MIN_MTU4: u16 = 68;
/// RFC 8200 §5.
const MIN_MTU6: u16 = 1280;
/// Entries of the search list at most.
const MAX_SEARCH: usize = 6;

/// Guest, prefix length and gateway if there is no IPv4 template.
const LOCAL4: (Ipv4Addr, u8, Ipv4Addr) =
    (Ipv4Addr::new(169, 254, 2, 1), 16, Ipv4Addr::new(169, 254, 2, 2));
/// Gateway, and our own address, if there is no IPv6 template.
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What configuring the interface in the namespace copies from the template, for one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// All addresses, instead of the one in the configuration.
    pub addresses: bool,
    /// All routes, instead of one to the gateway.
    pub routes: bool,
}

/// Something worth telling the user about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How important it is.
    pub level: log::Level,
    /// The line.
    pub text: String,
}

/// The guest's network, complete.
#[derive(Clone, Debug)]
pub struct Network {
    /// What the stack needs.
    pub stack: Config,
    /// Name of the IPv4 template, if there is one.
    pub template4: Option<String>,
    /// Name of the IPv6 template, if there is one.
    pub template6: Option<String>,
    /// Interface that outbound IPv4 sockets are bound to.
    pub outbound_if4: Option<String>,
    /// Interface that outbound IPv6 sockets are bound to.
    pub outbound_if6: Option<String>,
    /// Name of the interface in the namespace.
    pub ns_interface: String,
    /// Configure the interface in the namespace.
    pub config_net: bool,
    /// What that copies for IPv4.
    pub copy4: Copying,
    /// What that copies for IPv6.
    pub copy6: Copying,
    /// What to tell the user, in order.
    pub notes: Vec<Note>,
}

impl Network {
    /// Completes what was said by what was found. `duid_time` is the time of the start, in seconds
    /// since 2000-01-01 00:00 UTC modulo 2^32 (RFC 8415 §11.2).
    #[must_use]
    pub fn new(mode: Mode, said: &Said, host: &Host, duid_time: u32) -> Self {
        let mut notes = Vec::new();
        let resolvers = if said.dns.off { &[] } else { host.resolvers.as_slice() };
        let (mut v4, mut template4) = (None, None);
        if said.families != Families::Ipv6 {
            let template = usable4(said, host);
            if template.is_none() {
                let text = "IPv4: no external interface as template, use local mode";
                note(&mut notes, log::Level::Info, text);
            }
            v4 = Some(ipv4(said, template, resolvers));
            template4 = template.map(|(host, _)| host.interface.name.clone());
        }
        let (mut v6, mut template6) = (None, None);
        if said.families != Families::Ipv4 {
            let template = usable6(said, host);
            if template.is_none() {
                let text = "IPv6: no external interface as template, use local mode";
                note(&mut notes, log::Level::Info, text);
            }
            v6 = Some(ipv6(said, template, resolvers));
            template6 = template.map(|(host, _)| host.interface.name.clone());
        }

        let mtu = said.mtu.unwrap_or(DEFAULT_MTU);
        small_mtu(mtu, v4.is_some(), v6.is_some(), &mut notes);
        let config_net = said.config_net;
        let ndp = v6.is_some() && !said.no_ndp && !said.no_icmp;
        let services = Services {
            tcp: !said.no_tcp,
            udp: !said.no_udp,
            icmp: !said.no_icmp,
            dhcp: !said.no_dhcp && v4.as_ref().is_some_and(|v4| v4.gateway.is_some()),
            dhcpv6: !said.no_dhcpv6 && v6.as_ref().is_some_and(|v6| v6.addr.is_some()),
            ndp,
            // The kernel in the namespace would add another address and route.
            ra: ndp && !said.no_ra && !config_net,
            announce_dns: said.announce_dns.unwrap_or(mode == Mode::Passt),
            announce_search: said.announce_search.unwrap_or(mode == Mode::Passt),
        };
        missing_resolvers(said, services, v4.as_ref(), v6.as_ref(), &mut notes);

        let copying = |template: bool, address: bool, gateway: bool| Copying {
            addresses: config_net && template && !address && !said.no_copy_addrs,
            routes: config_net && template && !gateway && !said.no_copy_routes,
        };
        let copy4 = copying(template4.is_some(), said.address4.is_some(), said.gateway4.is_some());
        let copy6 = copying(template6.is_some(), said.address6.is_some(), said.gateway6.is_some());
        let of_template = template4.as_ref().or(template6.as_ref());
        let ns_interface = said.ns_interface.as_ref().or(of_template).cloned();
        Self {
            stack: Config {
                our_mac: said.our_mac.unwrap_or(OUR_MAC),
                mtu: Some(mtu).filter(|&mtu| mtu > 0),
                v4,
                v6,
                shared: Vec::new(),
                search: search(said, host),
                hostname: said.hostname.clone(),
                fqdn: said.fqdn.clone(),
                duid_time,
                services,
            },
            template4,
            template6,
            outbound_if4: said.outbound_if4.clone(),
            outbound_if6: said.outbound_if6.clone(),
            ns_interface: ns_interface.unwrap_or_else(|| "tap0".to_owned()),
            config_net,
            copy4,
            copy6,
            notes,
        }
    }
}

fn note(notes: &mut Vec<Note>, level: log::Level, text: impl Into<String>) {
    notes.push(Note { level, text: text.into() });
}

fn small_mtu(mtu: u16, v4: bool, v6: bool, notes: &mut Vec<Note>) {
    for (family, enabled, least) in [("IPv4", v4, MIN_MTU4), ("IPv6", v6, MIN_MTU6)] {
        if enabled && mtu > 0 && mtu < least {
            let text = format!("MTU {mtu} is too small for {family} (minimum {least})");
            note(notes, log::Level::Warn, text);
        }
    }
}

/// The IPv4 template with the guest's address. Without any address there is none.
fn usable4<'a>(said: &Said, host: &'a Host) -> Option<(&'a HostIpv4, (Ipv4Addr, u8))> {
    let host = host.v4.as_ref()?;
    Some((host, given4(said).or(host.address)?))
}

/// The IPv4 address that was given, with the prefix length that holds for it.
fn given4(said: &Said) -> Option<(Ipv4Addr, u8)> {
    let (address, length) = said.address4?;
    let length = said.netmask.or(length).unwrap_or_else(|| class_prefix(address));
    Some((address, length))
}

/// IPv4 as the guest sees it. What was given stands in local mode, too.
fn ipv4(
    said: &Said,
    template: Option<(&HostIpv4, (Ipv4Addr, u8))>,
    resolvers: &[IpAddr],
) -> Ipv4Config {
    let ((addr, prefix_len), found) = match template {
        Some((host, address)) => (address, host.gateway),
        None => (given4(said).unwrap_or((LOCAL4.0, LOCAL4.1)), Some(LOCAL4.2)),
    };
    let gateway = said.gateway4.or(found);
    let mapped = gateway.filter(|_| !said.no_map_gw);
    let map_host_loopback = said.map_host_loopback.v4.or(mapped);
    let said_resolvers = Resolvers {
        announced: said.dns.resolvers4.clone(),
        matched: said.dns.forward4,
        host: said.dns.host4,
    };
    let dns = said_resolvers.complete(resolvers, map_host_loopback);
    Ipv4Config {
        addr,
        prefix_len,
        addr_fixed: said.address4.is_some(),
        gateway,
        local_mode: template.is_none(),
        map_host_loopback,
        map_guest_addr: said.map_guest_addr.v4,
        dns: dns.announced,
        dns_match: dns.matched,
        dns_host: dns.host,
        addr_out: said.outbound4,
    }
}

/// The IPv6 template with the guest's address and ours. Without any address of either scope there is
/// none.
fn usable6<'a>(said: &Said, host: &'a Host) -> Option<(&'a HostIpv6, (Ipv6Addr, Ipv6Addr))> {
    let host = host.v6.as_ref()?;
    let gateway = said.gateway6.or(host.gateway);
    // Where the gateway is link-local, we are the gateway.
    let ours = gateway.filter(Ipv6Addr::is_unicast_link_local).or(host.link_local)?;
    Some((host, (said.address6.or(host.address)?, ours)))
}

/// IPv6 as the guest sees it. What was given stands in local mode, too.
fn ipv6(
    said: &Said,
    template: Option<(&HostIpv6, (Ipv6Addr, Ipv6Addr))>,
    resolvers: &[IpAddr],
) -> Ipv6Config {
    let gateway = match template {
        Some((host, _)) => said.gateway6.or(host.gateway),
        None => said.gateway6.or(Some(LOCAL6)),
    };
    let link_local_gateway = gateway.filter(Ipv6Addr::is_unicast_link_local);
    let mapped = gateway.filter(|_| !said.no_map_gw);
    let map_host_loopback = said.map_host_loopback.v6.or(mapped);
    let said_resolvers = Resolvers {
        announced: said.dns.resolvers6.clone(),
        matched: said.dns.forward6,
        host: said.dns.host6,
    };
    let dns = said_resolvers.complete(resolvers, map_host_loopback);
    Ipv6Config {
        addr: template.map(|(_, (addr, _))| addr).or(said.address6),
        addr_fixed: said.address6.is_some(),
        gateway,
        our_link_local: template
            .map(|(_, (_, ours))| ours)
            .or(link_local_gateway)
            .unwrap_or(LOCAL6),
        local_mode: template.is_none(),
        map_host_loopback,
        map_guest_addr: said.map_guest_addr.v6,
        dns: dns.announced,
        dns_match: dns.matched,
        dns_host: dns.host,
        addr_out: said.outbound6,
        scope_id: template.map_or(0, |(host, _)| host.interface.index),
    }
}

fn search(said: &Said, host: &Host) -> Vec<String> {
    let list = if said.search.is_empty() && !said.search_off { &host.search } else { &said.search };
    let bare = list.iter().map(|domain| domain.trim_end_matches('.'));
    bare.filter(|domain| !domain.is_empty()).take(MAX_SEARCH).map(str::to_owned).collect()
}

fn missing_resolvers(
    said: &Said,
    services: Services,
    v4: Option<&Ipv4Config>,
    v6: Option<&Ipv6Config>,
    notes: &mut Vec<Note>,
) {
    if said.dns.off {
        return;
    }
    let none4 = v4.is_none_or(|v4| v4.dns.is_empty());
    let none6 = v6.is_none_or(|v6| v6.dns.is_empty());
    if none4 && none6 {
        note(notes, log::Level::Warn, "Couldn't get any nameserver address");
    }
    if !services.announce_dns {
        return;
    }
    // Many hosts have resolvers of one family only: nothing that should break a silence.
    if none4 && services.dhcp {
        note(notes, log::Level::Info, "No IPv4 nameserver available for DHCP");
    }
    if none6 && (services.ra || services.dhcpv6) {
        note(notes, log::Level::Info, "No IPv6 nameserver available for NDP/DHCPv6");
    }
}

/// The prefix length of an IPv4 address by its class (RFC 791 §2.3): what holds if nobody says.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        [192..=223, ..] => 24,
        _ => 32,
    }
}

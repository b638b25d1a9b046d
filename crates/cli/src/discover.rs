//! What the host's network looks like: the interface to impersonate, its addresses and gateway.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use sys::netlink::{Address, Family, Link, Netlink, NextHop, Route};

use crate::config::{Host, HostIpv4, HostIpv6, Interface};
use crate::resolv::ResolvConf;
use crate::said::{Families, Said};
use crate::start::failure;

/// Stands in for an IPv4 gateway that has no IPv4 address (RFC 9229): what the guest sends to any
/// gateway comes to us.
const NO_IPV4_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 2, 2);
/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// The host's network, as far as we impersonate it.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// What the guest's network is made from.
    pub host: Host,
    /// What `--config-net` copies for IPv4, if there is a template.
    pub ipv4: Option<Template>,
    /// What `--config-net` copies for IPv6, if there is a template.
    pub ipv6: Option<Template>,
    /// What the user should know about the choices made, in order.
    pub notices: Vec<String>,
}

/// An interface of the host that the guest's looks like, for one family.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its index in the host's namespace.
    pub index: u32,
    /// Its addresses that make sense elsewhere: not deprecated, not of link scope.
    pub addresses: Vec<Address>,
    /// The routes of the main table that lead through it, in the kernel's order.
    pub routes: Vec<Route>,
}

/// Looks at the host's network as the options ask for it.
///
/// # Errors
/// When netlink fails, or when `--outbound-ifX` is given and there is no interface to use.
pub fn discover(said: &Said) -> Result<Discovery> {
    let netlink =
        Netlink::open().map_err(|error| failure("Failed to open netlink socket", &error))?;
    let mut search = Search { netlink, found: Discovery::default() };
    if said.families != Families::Ipv6 {
        search.ipv4(said)?;
    }
    if said.families != Families::Ipv4 {
        search.ipv6(said)?;
    }
    let mut found = search.found;
    if needs_resolv_conf(said) {
        let file = ResolvConf::read();
        found.host.resolvers = file.nameservers;
        found.host.search = file.search;
    }
    Ok(found)
}

/// Whether the options leave anything to ask `/etc/resolv.conf` for.
fn needs_resolv_conf(said: &Said) -> bool {
    let resolvers = !said.dns.off
        && match said.families {
            Families::Ipv4 => said.dns.resolvers4.is_empty(),
            Families::Ipv6 => said.dns.resolvers6.is_empty(),
            Families::Both => said.dns.resolvers4.is_empty() || said.dns.resolvers6.is_empty(),
        };
    resolvers || (said.search.is_empty() && !said.search_off)
}

struct Search {
    netlink: Netlink,
    found: Discovery,
}

impl Search {
    fn ipv4(&mut self, said: &Said) -> Result<()> {
        let outbound = said.outbound_if4.as_deref();
        let Some(link) = self.link(Family::V4, said.interface.as_deref(), outbound)? else {
            return Ok(());
        };
        let (template, _) = self.template(Family::V4, link.index)?;
        let gateway = gateway(&template.routes, template.index).map(|gateway| match gateway {
            IpAddr::V4(gateway) => gateway,
            IpAddr::V6(_) => NO_IPV4_GATEWAY,
        });
        self.found.host.v4 = Some(HostIpv4 {
            interface: Interface { index: link.index, name: link.name },
            address: longest_prefix(&template.addresses, v4),
            gateway,
        });
        self.found.ipv4 = Some(template);
        Ok(())
    }

    fn ipv6(&mut self, said: &Said) -> Result<()> {
        let outbound = said.outbound_if6.as_deref();
        let Some(link) = self.link(Family::V6, said.interface.as_deref(), outbound)? else {
            return Ok(());
        };
        let (template, link_scope) = self.template(Family::V6, link.index)?;
        self.found.host.v6 = Some(HostIpv6 {
            interface: Interface { index: link.index, name: link.name },
            address: longest_prefix(&template.addresses, v6).map(|(addr, _)| addr),
            link_local: longest_prefix(&link_scope, v6).map(|(addr, _)| addr),
            gateway: gateway(&template.routes, template.index).and_then(v6),
        });
        self.found.ipv6 = Some(template);
        Ok(())
    }

    /// The template's link. Of `-i` and `--outbound-ifX` the first that names an interface decides;
    /// without, routes do.
    fn link(
        &mut self,
        family: Family,
        interface: Option<&str>,
        outbound: Option<&str>,
    ) -> Result<Option<Link>> {
        for name in [interface, outbound].into_iter().flatten() {
            if let Some(link) = self.netlink.link_named(name).map_err(no_links)? {
                return Ok(Some(link));
            }
        }
        let picked = match self.pick(family) {
            Some(index) => self.netlink.link_indexed(index).map_err(no_links)?,
            None => None,
        };
        if picked.is_none() && outbound.is_some() {
            bail!("External interface not usable");
        }
        Ok(picked)
    }

    /// What there is to copy, and the addresses of link scope.
    fn template(&mut self, family: Family, index: u32) -> Result<(Template, Vec<Address>)> {
        let mut addresses = self
            .netlink
            .addresses(family, index)
            .map_err(|error| failure("Couldn't list addresses", &error))?;
        let routes = self
            .netlink
            .routes(family, Some(index))
            .map_err(|error| failure("Couldn't list routes", &error))?;
        addresses.retain(|address| !address.deprecated);
        let (addresses, others): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.global);
        let link_scope = others.into_iter().filter(|address| address.link_scope).collect();
        Ok((Template { index, addresses, routes }, link_scope))
    }

    /// The interface of the first default route, else of the first other route.
    fn pick(&mut self, family: Family) -> Option<u32> {
        let name = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let routes = self.netlink.routes(family, None).unwrap_or_else(|error| {
            log::warn!("Couldn't list {name} routes: {error}");
            Vec::new()
        });
        let choice = choose(&routes);
        match choice {
            Choice { picked: None, .. } => {
                self.found.notices.push(format!("No interfaces with usable {name} routes"));
            }
            Choice { several: true, default: true, .. } => {
                self.found.notices.push(format!("Multiple default {name} routes, picked first"));
            }
            Choice { several: true, default: false, .. } => {
                self.found
                    .notices
                    .push(format!("Multiple interfaces with {name} routes, picked first"));
            }
            Choice { several: false, .. } => {}
        }
        choice.picked
    }
}

/// Which interface the routes suggest, and how clear that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    picked: Option<u32>,
    /// By a default route.
    default: bool,
    /// There were other candidates of the same kind.
    several: bool,
}

fn choose(routes: &[Route]) -> Choice {
    let mut defaults = Vec::new();
    let mut others = Vec::new();
    for route in routes {
        let index = route.hops.first().map(|hop| hop.index);
        let Some(index) = index.filter(|index| *index != LOOPBACK) else { continue };
        if route.prefix_len == 0 {
            defaults.push(index);
        } else if !link_local_destination(route) && !others.contains(&index) {
            others.push(index);
        }
    }
    let default = !defaults.is_empty();
    let candidates = if default { defaults } else { others };
    Choice { picked: candidates.first().copied(), default, several: candidates.len() > 1 }
}

/// 169.254.0.0/16 and longer; anything in fe80::/10.
fn link_local_destination(route: &Route) -> bool {
    match route.destination {
        IpAddr::V4(addr) => addr.is_link_local() && route.prefix_len >= 16,
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

/// The gateway of the first default route that has one; of its next hops through the interface
/// the heaviest, and of several the first.
fn gateway(routes: &[Route], index: u32) -> Option<IpAddr> {
    let heaviest = |hops: &[NextHop]| {
        let mut best: Option<(u16, IpAddr)> = None;
        for hop in hops.iter().filter(|hop| hop.index == index) {
            if let Some(gateway) = hop.gateway {
                if best.is_none_or(|(weight, _)| hop.weight > weight) {
                    best = Some((hop.weight, gateway));
                }
            }
        }
        best.map(|(_, gateway)| gateway)
    };
    routes.iter().filter(|route| route.prefix_len == 0).find_map(|route| heaviest(&route.hops))
}

/// Of the addresses that `pick` takes, the first with the longest prefix.
fn longest_prefix<A>(addresses: &[Address], pick: fn(IpAddr) -> Option<A>) -> Option<(A, u8)> {
    let mut best: Option<(A, u8)> = None;
    for address in addresses {
        if best.as_ref().is_none_or(|(_, longest)| address.prefix_len > *longest) {
            if let Some(addr) = pick(address.addr) {
                best = Some((addr, address.prefix_len));
            }
        }
    }
    best
}

fn no_links(error: io::Error) -> anyhow::Error {
    failure("Couldn't find network interface", &error)
}

fn v4(addr: IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    }
}

fn v6(addr: IpAddr) -> Option<Ipv6Addr> {
    match addr {
        IpAddr::V6(addr) => Some(addr),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;

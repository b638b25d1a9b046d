//! Neighbour discovery (RFC 4861): every address is ours except the guest's own, and we are the router.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use wire::icmp6::{
    Icmp6Header, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
};
use wire::ndp::{
    self, HOP_LIMIT, NA_OVERRIDE, NA_ROUTER, NA_SOLICITED, NeighborMessage, PREFIX_AUTONOMOUS,
    PREFIX_ON_LINK, RA_MANAGED, RouterAdvertisementWriter,
};

use crate::addr::Link;
use crate::config::{Config, Ipv6Config};
use crate::cx::Cx;
use crate::io::{Guest, Host};
use crate::time::Instant;

/// All nodes of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The most bytes of ICMPv6 that fit the smallest MTU.
pub(crate) const ROOM: usize = wire::ipv6::MIN_MTU - wire::ipv6::HEADER_LEN;
/// Default router lifetime in seconds: the longest there is (RFC 8319).
const ROUTER_LIFETIME: u16 = 65535;
/// Hop limit that hosts are told to use.
const CURRENT_HOP_LIMIT: u8 = 255;

/// Whether an ICMPv6 type belongs to neighbour discovery, and so goes to [`on_message`] and no further.
#[must_use]
pub const fn is_ndp(kind: u8) -> bool {
    matches!(
        kind,
        ROUTER_SOLICITATION | ROUTER_ADVERTISEMENT | NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT
    )
}

/// Writes the answer to an ICMPv6 message from `source` that arrived with `hop_limit`; returns its length
/// and its destination. The source of the answer is our link-local address.
pub fn answer(
    config: &Config,
    link: &Link,
    source: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
    out: &mut [u8],
) -> Option<(usize, Ipv6Addr)> {
    let v6 = config.v6.as_ref()?;
    // RFC 4861 §6.1, §7.1: anything that passed a router is not of this link.
    if !config.services.ndp || hop_limit != HOP_LIMIT {
        return None;
    }
    match Icmp6Header::parse(message)?.0.kind {
        NEIGHBOR_SOLICITATION => {
            let target = solicited_target(v6, link, source, message)?;
            let len = write_advertisement(config, v6, link, target, source, out)?;
            Some((len, source))
        }
        ROUTER_SOLICITATION => {
            let options = ndp::parse_router_solicitation(message)?;
            // §6.1.1: who has no address yet cannot be reached at a link-layer address either.
            if source.is_unspecified() && options.source_link().is_some() {
                return None;
            }
            let dst = if source.is_unspecified() { ALL_NODES } else { source };
            router_advertisement(config, dst, out).map(|len| (len, dst))
        }
        _ => None,
    }
}

/// The target of a solicitation that is to be answered.
fn solicited_target(
    v6: &Ipv6Config,
    link: &Link,
    source: Ipv6Addr,
    message: &[u8],
) -> Option<Ipv6Addr> {
    let (solicitation, _) = NeighborMessage::parse(message)?;
    let target = solicitation.target_addr();
    // From nowhere: duplicate address detection. The guest may take any address.
    if source.is_unspecified() || target.is_unspecified() || target.is_loopback() {
        return None;
    }
    let seen = [link.v6_addr(v6), link.v6_seen(), link.v6_link_local_seen()];
    let ours = target == v6.our_link_local || v6.gateway == Some(target);
    (ours || !seen.contains(&Some(target))).then_some(target)
}

/// Writes a neighbour advertisement for `target`; solicited unless it goes to a group.
pub(crate) fn write_advertisement(
    config: &Config,
    v6: &Ipv6Config,
    link: &Link,
    target: Ipv6Addr,
    dst: Ipv6Addr,
    out: &mut [u8],
) -> Option<usize> {
    let solicited = if dst.is_multicast() { 0 } else { NA_SOLICITED };
    let flags = NA_ROUTER | NA_OVERRIDE | solicited;
    let mac = link.mac_of(config, target.into());
    ndp::write_neighbor_advertisement(out, flags, (target, mac), v6.our_link_local, dst)
}

/// Writes a router advertisement to `dst` and returns its length; `None` if none is to be sent.
///
/// Resolvers and search list are announced independently of each other. What does not fit is left out.
pub fn router_advertisement(config: &Config, dst: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
    let v6 = config.v6.as_ref()?;
    let services = &config.services;
    if !services.ndp || !services.ra {
        return None;
    }
    let managed = if services.dhcpv6 && v6.addr.is_some() { RA_MANAGED } else { 0 };
    let mut ra = RouterAdvertisementWriter::new(out, CURRENT_HOP_LIMIT, managed, ROUTER_LIFETIME)?;
    if let Some(addr) = v6.addr {
        ra.prefix(addr, 64, PREFIX_ON_LINK | PREFIX_AUTONOMOUS);
    }
    ra.source_link(config.our_mac);
    if let Some(mtu) = config.mtu {
        ra.mtu(mtu.into());
    }
    if services.announce_dns {
        ra.rdnss(&v6.dns);
    }
    if services.announce_search {
        ra.dnssl(config.search.iter().map(String::as_str));
    }
    Some(ra.finish(v6.our_link_local, dst))
}

/// Answers an ICMPv6 message of neighbour discovery (see [`is_ndp`]) from `source`.
pub fn on_message<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    source: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) {
    let Some(v6) = cx.config.v6.as_ref() else { return };
    let ours = IpAddr::V6(v6.our_link_local);
    let config = cx.config;
    let to_guest = super::route(cx, ours, source.into());
    let to_all = super::route(cx, ours, ALL_NODES.into());
    super::send_icmp6(cx, |link, out| {
        let (len, dst) = answer(config, link, source, hop_limit, message, out)?;
        Some((len, if dst == ALL_NODES { to_all } else { to_guest }))
    });
}

/// When to send unsolicited router advertisements (RFC 4861 §6.2.4): at random intervals of 200 to 600
/// seconds. Without them, routes learned from our answers would expire after 65535 seconds.
#[derive(Clone, Debug)]
pub struct Advertiser {
    next: Instant,
    random: u64,
}

impl Advertiser {
    const MIN_INTERVAL_MS: u64 = 200_000;
    const MAX_INTERVAL_MS: u64 = 600_000;

    /// The first one comes after one interval. `seed` need not be secret.
    #[must_use]
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut new = Self { next: now, random: seed | 1 };
        new.schedule(now);
        new
    }

    /// When the next one is due.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Whether one is due at `now`; if so, the next one is scheduled.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.schedule(now);
        }
        due
    }

    fn schedule(&mut self, now: Instant) {
        // xorshift64*: guests of one host shall not hear all routers at once, no more is asked of it.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let random = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        let span = Self::MAX_INTERVAL_MS - Self::MIN_INTERVAL_MS;
        self.next = now + Duration::from_millis(Self::MIN_INTERVAL_MS + random % (span + 1));
    }
}

#[cfg(test)]
mod tests;

//! The mirror of the host's neighbours: so that the guest sees the link-layer addresses of the machines
//! on the host's network, under the addresses by which it knows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::ethernet::MacAddr;

use crate::config::Config;

/// How many neighbours are mirrored, blockers included. Further ones are seen under the gateway's or our
/// own address, as if the mirror did not exist.
pub const CAPACITY: usize = 512;

/// Addresses as the guest sees them, and their link-layer addresses.
#[derive(Clone, Debug, Default)]
pub struct Neighbors {
    // Touched when flows are made, not per packet. A tree rather than a hash: hosts of the network choose
    // the keys, and nothing can make a tree slow.
    entries: BTreeMap<IpAddr, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: MacAddr,
    /// Ours: no host may claim this address.
    blocker: bool,
}

impl Neighbors {
    /// A mirror that holds only the addresses which stand for the host itself: real hosts must not claim
    /// them.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut entries = BTreeMap::new();
        let v4 = config.v4.iter().flat_map(|v4| [v4.map_host_loopback, v4.map_guest_addr]);
        let v6 = config.v6.iter().flat_map(|v6| [v6.map_host_loopback, v6.map_guest_addr]);
        let ours = v4.flatten().map(IpAddr::V4).chain(v6.flatten().map(IpAddr::V6));
        for ip in ours {
            entries.insert(ip, Entry { mac: config.our_mac, blocker: true });
        }
        Self { entries }
    }

    /// Takes note that the host found `ip` (translated: as the guest sees it) at `mac`. `true`: that is
    /// news, which the guest should hear about.
    pub fn insert(&mut self, ip: IpAddr, mac: MacAddr) -> bool {
        let full = self.entries.len() >= CAPACITY;
        match self.entries.get_mut(&ip) {
            Some(entry) if entry.blocker || entry.mac == mac => false,
            Some(entry) => {
                entry.mac = mac;
                true
            }
            None if full => {
                log::debug!("neighbour {ip} not mirrored: there are {CAPACITY} already");
                false
            }
            None => {
                self.entries.insert(ip, Entry { mac, blocker: false });
                true
            }
        }
    }

    /// Takes note that the host lost `ip` (as the guest sees it).
    pub fn remove(&mut self, ip: IpAddr) {
        if self.entries.get(&ip).is_some_and(|entry| !entry.blocker) {
            self.entries.remove(&ip);
        }
    }

    /// The link-layer address under which the guest sees `peer`: its own if it is a neighbour, else the
    /// gateway's, else ours.
    #[must_use]
    pub fn mac_of(&self, config: &Config, peer: IpAddr) -> MacAddr {
        let gateway = match peer {
            IpAddr::V4(_) => config.v4.as_ref().and_then(|v4| v4.gateway).map(IpAddr::V4),
            IpAddr::V6(_) => config.v6.as_ref().and_then(|v6| v6.gateway).map(IpAddr::V6),
        };
        let entry = |ip| self.entries.get(&ip).map(|entry| entry.mac);
        entry(peer).or_else(|| gateway.and_then(entry)).unwrap_or(config.our_mac)
    }

    /// How many addresses are known, blockers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::testing::{OUR_MAC, config};

    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn own_entry_then_gateway_then_ours() {
        let config = config();
        let mut mirror = Neighbors::new(&config);
        assert!(mirror.is_empty());
        assert_eq!(mirror.mac_of(&config, ip("192.0.2.9")), OUR_MAC);
        assert!(mirror.insert(ip("192.0.2.9"), HOST));
        assert_eq!(mirror.mac_of(&config, ip("192.0.2.9")), HOST);
        assert_eq!(mirror.mac_of(&config, ip("198.51.100.1")), OUR_MAC);
        assert!(mirror.insert(ip("192.0.2.2"), ROUTER));
        assert_eq!(mirror.mac_of(&config, ip("198.51.100.1")), ROUTER);
        assert_eq!(mirror.mac_of(&config, ip("192.0.2.9")), HOST);
        assert_eq!(mirror.mac_of(&config, ip("2001:db8::1")), OUR_MAC);
        assert!(mirror.insert(ip("fe80::1"), ROUTER));
        assert_eq!(mirror.mac_of(&config, ip("2001:db8::1")), ROUTER);
        mirror.remove(ip("192.0.2.9"));
        assert_eq!(mirror.mac_of(&config, ip("192.0.2.9")), ROUTER);
    }

    #[test]
    fn news_are_new_entries_and_changed_addresses() {
        let mut mirror = Neighbors::new(&config());
        assert!(mirror.insert(ip("192.0.2.9"), HOST));
        assert!(!mirror.insert(ip("192.0.2.9"), HOST));
        assert!(mirror.insert(ip("192.0.2.9"), ROUTER));
    }

    #[test]
    fn nobody_claims_what_stands_for_the_host() {
        let mut config = config();
        config.v4.as_mut().unwrap().map_host_loopback = Some("192.0.2.2".parse().unwrap());
        config.v6.as_mut().unwrap().map_guest_addr = Some("2001:db8:1::7".parse().unwrap());
        let mut mirror = Neighbors::new(&config);
        assert_eq!(mirror.len(), 2);
        for blocked in [ip("192.0.2.2"), ip("2001:db8:1::7")] {
            assert!(!mirror.insert(blocked, HOST));
            mirror.remove(blocked);
            assert_eq!(mirror.mac_of(&config, blocked), OUR_MAC);
        }
    }

    #[test]
    fn bounded() {
        let mut mirror = Neighbors::new(&config());
        for i in 0..1000u32 {
            mirror.insert(IpAddr::V4(i.into()), HOST);
        }
        assert_eq!(mirror.len(), CAPACITY);
        assert!(mirror.insert(IpAddr::V4(0.into()), ROUTER), "known ones still change");
        mirror.remove(IpAddr::V4(0.into()));
        assert!(mirror.insert(IpAddr::V4(999.into()), HOST));
    }
}

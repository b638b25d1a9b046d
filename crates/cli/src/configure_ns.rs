//! The guest's side of the link: the tap interface in the target namespace, and with
//! `--config-net` its addresses and routes.
//!
//! All of it runs on a thread that is in the target network namespace.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use sys::netlink::{
    Address, Family, Link, LinkChange, Netlink, NewAddress, NewRoute, Route, RouteCopy,
};
use sys::tun::{Offload, Tap};
use wire::ethernet::MacAddr;

use crate::config::{Copying, Network};
use crate::discover::{Discovery, Template};
use crate::start::{failure, reason};

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;
/// Length of the queue towards the guest, in packets. The default of 1000 is less than a TCP window
/// of small packets, and what does not fit is lost without a word.
const TX_QUEUE_LEN: u32 = 32_768;
/// RFC 8200 §5.
const MIN_MTU6: u32 = 1280;
/// Prefix length of an IPv6 address that was not copied.
const PREFIX6: u8 = 64;
/// How long to wait for the kernel to take all addresses into use, and how often to look.
const USABLE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LAST_PAUSE: Duration = Duration::from_millis(10);

/// The interface in the namespace, ready for traffic.
#[derive(Debug)]
pub struct GuestInterface {
    /// Its other end.
    pub tap: Tap,
    /// Its index in the namespace.
    pub index: u32,
    /// Its MAC address: that of the guest.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its link-local address, where `--config-net` brought it up.
    pub link_local: Option<Ipv6Addr>,
    /// IPv4 is possible in the namespace.
    pub ipv4: bool,
    /// IPv6 is possible in the namespace.
    pub ipv6: bool,
}

/// Brings up the loopback interface of the network namespace of the calling thread.
///
/// # Errors
/// Those of netlink.
pub fn bring_up_loopback() -> Result<Netlink> {
    let mut netlink =
        Netlink::open().map_err(|error| failure("Failed to open netlink socket", &error))?;
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    netlink
        .change_link(LOOPBACK, &up)
        .map_err(|error| failure("Couldn't bring up loopback interface in namespace", &error))?;
    Ok(netlink)
}

/// Opens the tap in the network namespace of the calling thread and configures what was asked for.
///
/// # Errors
/// When the interface cannot be had, or refuses part of its configuration.
pub fn set_up(
    network: &Network,
    discovery: &Discovery,
    mac: Option<MacAddr>,
) -> Result<GuestInterface> {
    let mut netlink = bring_up_loopback()?;
    let name = network.ns_interface.as_str();
    let lookup = |error| failure("Couldn't find interface in namespace", &error);
    let existing = netlink.link_named(name).map_err(lookup)?;
    let tap = Tap::open(OsStr::new(name), Offload::Udp).map_err(no_tap)?;
    let made_here = existing.is_none();
    let link = match existing {
        Some(link) => link,
        None => netlink
            .link_named(&tap.name().to_string_lossy())
            .map_err(lookup)?
            .ok_or_else(|| anyhow!("Interface {name} vanished from namespace"))?,
    };
    let mut interface = GuestInterface {
        tap,
        index: link.index,
        mac: mac.unwrap_or_else(|| MacAddr(link.mac.unwrap_or_default())),
        mtu: link.mtu,
        link_local: None,
        ipv4: network.stack.v4.is_some(),
        ipv6: network.stack.v6.is_some(),
    };
    let change = LinkChange {
        mac: mac.map(|mac| mac.0),
        tx_queue_len: made_here.then_some(TX_QUEUE_LEN),
        ..LinkChange::default()
    };
    if change != LinkChange::default() {
        netlink
            .change_link(link.index, &change)
            .map_err(|error| failure("Couldn't set up interface in namespace", &error))?;
    }
    if network.config_net {
        let mut configure =
            Configure { netlink, network, discovery, interface: &mut interface, added: Vec::new() };
        configure.link(&link)?;
        configure.addresses()?;
        configure.routes()?;
        configure.wait_until_usable();
    }
    Ok(interface)
}

/// Tells a node that cannot be opened from an interface that cannot be had.
fn no_tap(error: io::Error) -> anyhow::Error {
    /// `ENOENT`, `ENXIO`, `EACCES`, `ENODEV`.
    const OF_OPEN: [i32; 4] = [2, 6, 13, 19];
    if error.raw_os_error().is_some_and(|number| OF_OPEN.contains(&number)) {
        failure("Failed to open() /dev/net/tun", &error)
    } else {
        failure("TUNSETIFF ioctl on /dev/net/tun failed", &error)
    }
}

struct Configure<'a> {
    netlink: Netlink,
    network: &'a Network,
    discovery: &'a Discovery,
    interface: &'a mut GuestInterface,
    /// The addresses of IPv6 that were added.
    added: Vec<IpAddr>,
}

impl Configure<'_> {
    /// MTU, up, and a link-local address.
    ///
    /// The kernel would check its link-local address for duplicates, up to a second long. So it is
    /// kept from making one, and gets the very same from us, to be taken as it is.
    fn link(&mut self, link: &Link) -> Result<()> {
        self.set_mtu(link);
        // RFC 8200 §5: below, the kernel takes IPv6 off the link.
        if self.interface.ipv6 && self.interface.mtu < MIN_MTU6 {
            self.interface.ipv6 = false;
        }
        let index = link.index;
        let ours = self.interface.ipv6
            && !link.up
            && link.link_local_from_mac
            && self.netlink.set_link_local_from_mac(index, false).is_ok();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        self.netlink
            .change_link(index, &up)
            .map_err(|error| failure("Couldn't bring up interface in namespace", &error))?;
        if ours {
            let addr = eui64(self.interface.mac);
            let new = NewAddress { index, addr: addr.into(), prefix_len: PREFIX6 };
            match self.add_address(&new) {
                Ok(()) => self.interface.link_local = Some(addr),
                Err(error) => log::warn!("Couldn't set {addr} in namespace: {}", reason(&error)),
            }
            if let Err(error) = self.netlink.set_link_local_from_mac(index, true) {
                log::debug!("Link-local addresses in namespace: {}", reason(&error));
            }
        } else if self.interface.ipv6 {
            self.find_link_local();
        }
        Ok(())
    }

    /// An MTU that the kernel does not want is not worth a failure: its own works, too.
    fn set_mtu(&mut self, link: &Link) {
        let Some(mtu) = self.network.stack.mtu.map(u32::from) else { return };
        if mtu == link.mtu {
            return;
        }
        let change = LinkChange { mtu: Some(mtu), ..LinkChange::default() };
        match self.netlink.change_link(link.index, &change) {
            Ok(()) => self.interface.mtu = mtu,
            Err(error) => log::debug!("MTU {mtu} in namespace: {}", reason(&error)),
        }
    }

    /// The link-local address that is there, to be used without a check for duplicates.
    fn find_link_local(&mut self) {
        let addresses = self.netlink.addresses(Family::V6, self.interface.index);
        for address in addresses.unwrap_or_default().iter().filter(|address| address.link_scope) {
            if let IpAddr::V6(addr) = address.addr {
                self.interface.link_local.get_or_insert(addr);
            }
            if let Err(error) = self.netlink.skip_dad(address) {
                log::debug!("{} in namespace: {}", address.addr, reason(&error));
            }
        }
    }

    /// Addresses of both families. Routes come after all of them: one of IPv4 may lead through a
    /// neighbour of IPv6.
    fn addresses(&mut self) -> Result<()> {
        let stack = &self.network.stack;
        if let Some(v4) = &stack.v4 {
            let fixed = Some((IpAddr::from(v4.addr), v4.prefix_len));
            let template = copied(self.network.copy4.addresses, self.discovery.ipv4.as_ref());
            let result = self.family_addresses(template, fixed);
            self.interface.ipv4 =
                possible(result, v4.local_mode, "IPv4", "address(es) in namespace")?;
        }
        if let Some(v6) = stack.v6.as_ref().filter(|_| self.interface.ipv6) {
            let fixed = v6.addr.map(|addr| (IpAddr::from(addr), PREFIX6));
            let template = copied(self.network.copy6.addresses, self.discovery.ipv6.as_ref());
            let result = self.family_addresses(template, fixed);
            self.interface.ipv6 =
                possible(result, v6.local_mode, "IPv6", "address(es) in namespace")?;
        }
        Ok(())
    }

    fn family_addresses(
        &mut self,
        template: Option<&Template>,
        fixed: Option<(IpAddr, u8)>,
    ) -> io::Result<()> {
        let index = self.interface.index;
        match (template, fixed) {
            (Some(template), _) => template.addresses.iter().try_for_each(|address: &Address| {
                let copied = self.netlink.copy_address(address, index);
                self.note(address.addr, copied)
            }),
            (None, Some((addr, prefix_len))) => {
                self.add_address(&NewAddress { index, addr, prefix_len })
            }
            (None, None) => Ok(()),
        }
    }

    fn add_address(&mut self, new: &NewAddress) -> io::Result<()> {
        let added = self.netlink.add_address(new);
        self.note(new.addr, added)
    }

    /// Takes note of an address that was `added`.
    fn note(&mut self, addr: IpAddr, added: io::Result<()>) -> io::Result<()> {
        if added.is_ok() && addr.is_ipv6() {
            self.added.push(addr);
        }
        unless_there(added)
    }

    /// Waits until the namespace knows its addresses of IPv6 for its own. The kernel tells that they were
    /// added before it has made their local routes, which is left to a thread of its own. Without them, what
    /// goes to such an address would go out on the link: to us, and from us to the host.
    fn wait_until_usable(&mut self) {
        let end = Instant::now() + USABLE;
        for addr in std::mem::take(&mut self.added) {
            let mut pause = FIRST_PAUSE;
            loop {
                match self.netlink.is_local(addr) {
                    Ok(true) => break,
                    Ok(false) if Instant::now() < end => {
                        thread::sleep(pause);
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                    Ok(false) => {
                        log::warn!("{addr} in namespace is not in use yet");
                        break;
                    }
                    Err(error) => {
                        log::debug!("{addr} in namespace: {}", reason(&error));
                        break;
                    }
                }
            }
        }
    }

    fn routes(&mut self) -> Result<()> {
        let stack = &self.network.stack;
        if let Some(v6) = stack.v6.as_ref().filter(|_| self.interface.ipv6) {
            let on_link = |gateway: Ipv6Addr| {
                gateway.is_unicast_link_local()
                    || v6.addr.is_some_and(|addr| same_prefix(addr.into(), gateway.into(), PREFIX6))
            };
            let gateway = v6.gateway.map(|gateway| (IpAddr::from(gateway), on_link(gateway)));
            let template = self.discovery.ipv6.as_ref();
            let result = self.family_routes(Family::V6, self.network.copy6, template, gateway);
            self.interface.ipv6 = possible(result, v6.local_mode, "IPv6", "route(s) in guest")?;
        }
        if let Some(v4) = stack.v4.as_ref().filter(|_| self.interface.ipv4) {
            let on_link = |gateway| same_prefix(v4.addr.into(), gateway, v4.prefix_len);
            let gateway = v4.gateway.map(IpAddr::from).map(|gateway| (gateway, on_link(gateway)));
            let template = self.discovery.ipv4.as_ref();
            let result = self.family_routes(Family::V4, self.network.copy4, template, gateway);
            self.interface.ipv4 = possible(result, v4.local_mode, "IPv4", "route(s) in guest")?;
        }
        Ok(())
    }

    /// `gateway` comes with whether the prefix of the address includes it.
    fn family_routes(
        &mut self,
        family: Family,
        copying: Copying,
        template: Option<&Template>,
        gateway: Option<(IpAddr, bool)>,
    ) -> io::Result<()> {
        let index = self.interface.index;
        if let Some(template) = copied(copying.routes, template) {
            let there = self.netlink.routes(family, Some(index))?;
            let wanted = template.routes.iter().filter(|route| !made_by_kernel(route, &there));
            let copies = wanted.filter_map(|route| route.retarget(template.index, index));
            return copy_in_any_order(copies.collect(), |copy| self.netlink.copy_route(copy));
        }
        let Some((gateway, on_link)) = gateway else { return Ok(()) };
        if !on_link {
            let length = if gateway.is_ipv4() { 32 } else { 128 };
            let destination = (gateway, length);
            let route = NewRoute { index, destination, gateway: None };
            unless_there(self.netlink.add_route(&route))?;
        }
        let anywhere = match gateway {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let route = NewRoute { index, destination: (anywhere, 0), gateway: Some(gateway) };
        unless_there(self.netlink.add_route(&route))
    }
}

fn copied(copy: bool, template: Option<&Template>) -> Option<&Template> {
    template.filter(|_| copy)
}

/// The kernel makes the route to an address's prefix by itself: the host's is not needed beside it.
fn made_by_kernel(route: &Route, there: &[Route]) -> bool {
    route.by_kernel
        && there.iter().any(|other| {
            (other.destination, other.prefix_len) == (route.destination, route.prefix_len)
        })
}

/// Adds routes that may depend on each other, as often as that gets us further. What remains leads
/// to gateways that cannot be reached.
fn copy_in_any_order(
    mut pending: Vec<RouteCopy>,
    mut add: impl FnMut(&RouteCopy) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let before = pending.len();
        let mut later = Vec::new();
        for copy in pending {
            match unless_there(add(&copy)) {
                Ok(()) => {}
                Err(error) if unreachable(&error) => later.push(copy),
                Err(error) => return Err(error),
            }
        }
        if later.is_empty() || later.len() == before {
            if !later.is_empty() {
                log::debug!("{} routes lead nowhere in namespace", later.len());
            }
            return Ok(());
        }
        pending = later;
    }
}

fn unreachable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable)
}

/// Something that is there already is as good as made.
fn unless_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether the namespace does the family. In local mode a kernel without it is no reason to fail.
fn possible(result: io::Result<()>, local_mode: bool, family: &str, what: &str) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if local_mode && unsupported(&error) => {
            log::warn!("{family} not supported, disabling");
            Ok(false)
        }
        Err(error) => Err(failure(&format!("Couldn't set {family} {what}"), &error)),
    }
}

fn unsupported(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT`.
    const NO_FAMILY: i32 = 97;
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(NO_FAMILY)
}

/// The link-local address that belongs to a MAC address (RFC 4291 appendix A).
fn eui64(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let [high, low] = [[a ^ 2, b, c, 0xff], [0xfe, d, e, f]].map(u32::from_be_bytes);
    Ipv6Addr::from_bits((0xfe80 << 112) | (u128::from(high) << 32) | u128::from(low))
}

/// Whether two addresses share the first `prefix_len` bits.
fn same_prefix(a: IpAddr, b: IpAddr, prefix_len: u8) -> bool {
    let bits = |addr| match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()) << 96,
        IpAddr::V6(addr) => addr.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
    a.is_ipv4() == b.is_ipv4() && (bits(a) ^ bits(b)) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_of_a_mac_address() {
        // RFC 4291 appendix A has 34-56-78-9A-BC-DE, with the bit as it is in EUI-64.
        let addr = eui64(MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
        assert_eq!(addr, "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn prefixes() {
        let same = |a: &str, b: &str, len| same_prefix(a.parse().unwrap(), b.parse().unwrap(), len);
        assert!(same("192.0.2.1", "192.0.2.254", 24));
        assert!(!same("192.0.2.1", "192.0.3.1", 24));
        assert!(same("192.0.2.1", "203.0.113.9", 0));
        assert!(!same("192.0.2.1", "192.0.2.2", 32));
        assert!(same("2001:db8::1", "2001:db8::ffff:1", 64));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1", 64));
        assert!(same("2001:db8::1", "2001:db8::1", 128));
        assert!(!same("::1", "0.0.0.1", 0));
    }
}

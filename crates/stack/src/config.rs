//! What the guest is told and how its addresses map to the host's: immutable, swapped whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::ethernet::MacAddr;

/// Everything the stack needs to know about the network it impersonates.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our link-layer address on the guest link.
    pub our_mac: MacAddr,
    /// MTU announced by DHCP option 26 and the NDP MTU option, in bytes; `None` announces nothing.
    pub mtu: Option<u16>,
    /// IPv4, if enabled.
    pub v4: Option<Ipv4Config>,
    /// IPv6, if enabled.
    pub v6: Option<Ipv6Config>,
    /// Further addresses that the guest has in common with the host.
    pub shared: Vec<IpAddr>,
    /// Domain search list, without trailing dots.
    pub search: Vec<String>,
    /// DHCP option 12.
    pub hostname: Option<String>,
    /// DHCP option 81, DHCPv6 option 39.
    pub fqdn: Option<String>,
    /// Time of our start in seconds since 2000-01-01 00:00 UTC, modulo 2^32: part of the DHCPv6
    /// server identifier (RFC 8415 §11.2).
    pub duid_time: u32,
    /// Which protocols and services are on.
    pub services: Services,
}

/// IPv4 side of a [`Config`].
#[derive(Clone, Debug)]
pub struct Ipv4Config {
    /// Address assigned to the guest.
    pub addr: Ipv4Addr,
    /// Prefix length of the assigned address, 0..=32.
    pub prefix_len: u8,
    /// The user fixed the address: observed traffic does not change where inbound traffic goes.
    pub addr_fixed: bool,
    /// Default gateway told to the guest; it is also our own address on the link.
    pub gateway: Option<Ipv4Addr>,
    /// No host interface served as a template: link-local addresses of our own choice are in use.
    pub local_mode: bool,
    /// Guest-visible address that stands for the host's 127.0.0.1.
    pub map_host_loopback: Option<Ipv4Addr>,
    /// Guest-visible address that stands for the host's own use of the assigned address.
    pub map_guest_addr: Option<Ipv4Addr>,
    /// Resolvers announced by DHCP, at most three.
    pub dns: Vec<Ipv4Addr>,
    /// Destination whose ports 53 and 853 are redirected to `dns_host`.
    pub dns_match: Option<Ipv4Addr>,
    /// Resolver used on the host for queries to `dns_match`.
    pub dns_host: Option<Ipv4Addr>,
    /// Source address for outbound sockets.
    pub addr_out: Option<Ipv4Addr>,
}

/// IPv6 side of a [`Config`].
#[derive(Clone, Debug)]
pub struct Ipv6Config {
    /// Global address assigned to the guest (always a /64); none in local mode.
    pub addr: Option<Ipv6Addr>,
    /// The user fixed the address: observed traffic does not change where inbound traffic goes.
    pub addr_fixed: bool,
    /// Default gateway of the guest.
    pub gateway: Option<Ipv6Addr>,
    /// Our own link-local address on the link: source of NDP and DHCPv6 messages.
    pub our_link_local: Ipv6Addr,
    /// No host interface served as a template.
    pub local_mode: bool,
    /// Guest-visible address that stands for the host's ::1.
    pub map_host_loopback: Option<Ipv6Addr>,
    /// Guest-visible address that stands for the host's own use of the assigned address.
    pub map_guest_addr: Option<Ipv6Addr>,
    /// Resolvers announced by NDP and DHCPv6, at most three.
    pub dns: Vec<Ipv6Addr>,
    /// Destination whose ports 53 and 853 are redirected to `dns_host`.
    pub dns_match: Option<Ipv6Addr>,
    /// Resolver used on the host for queries to `dns_match`.
    pub dns_host: Option<Ipv6Addr>,
    /// Source address for outbound sockets.
    pub addr_out: Option<Ipv6Addr>,
    /// Interface index of the template interface: scope of link-local destinations. 0 if none.
    pub scope_id: u32,
}

/// Protocols and services, as the command line switched them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// Translate TCP.
    pub tcp: bool,
    /// Translate UDP.
    pub udp: bool,
    /// Translate echo requests.
    pub icmp: bool,
    /// Answer DHCP.
    pub dhcp: bool,
    /// Answer DHCPv6.
    pub dhcpv6: bool,
    /// Answer neighbour solicitations.
    pub ndp: bool,
    /// Answer router solicitations and send unsolicited advertisements.
    pub ra: bool,
    /// Announce resolvers.
    pub announce_dns: bool,
    /// Announce the search list.
    pub announce_search: bool,
}

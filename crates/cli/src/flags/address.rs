//! Addresses, routes, mappings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Action, Complete, Flag, Group};
use crate::parse::{Given, Refusal};
use crate::said::{Families, Mapping};

const BASE: Flag = Flag { group: Group::Network, ..Flag::LATER };

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "mtu",
        short: Some('m'),
        metavar: Some("MTU"),
        help: "MTU of the guest's link, in bytes",
        man: "Announced by DHCP and router advertisements, and set on the interface by --config-net. 0 \
              means that no MTU is announced or set. At most 65521.",
        default: Some("65520"),
        action: Action::Value(|said, given| {
            said.mtu = Some(given.mtu()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "address",
        short: Some('a'),
        metavar: Some("ADDR[/LEN]"),
        help: "Address assigned to the guest, IPv4 or IPv6",
        man: "May be given once per family; the last one counts. Without LEN and --netmask, the prefix \
              length of an IPv4 address is that of its class. For IPv6 it is always 64.",
        default: Some("those of the template interface"),
        action: Action::Value(|said, given| given.guest_address(said)),
        ..BASE
    },
    Flag {
        long: "netmask",
        short: Some('n'),
        metavar: Some("MASK|LEN"),
        help: "Netmask of an IPv4 --address",
        man: "In dotted notation or as a number of bits.",
        default: Some("from --address or the template interface"),
        action: Action::Value(|said, given| {
            if said.last_address_had_length {
                return Err(Refusal::line("Redundant prefix length specification"));
            }
            said.netmask = Some(given.netmask()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "mac-addr",
        short: Some('M'),
        metavar: Some("ADDR"),
        help: "Our MAC address on the guest's link",
        default: Some("9a:55:9a:55:9a:55"),
        action: Action::Value(|said, given| {
            said.our_mac = Some(given.mac()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "gateway",
        short: Some('g'),
        metavar: Some("ADDR"),
        help: "Default gateway of the guest, IPv4 or IPv6",
        man: "May be given once per family. With --config-net, no other route of that family is copied.",
        default: Some("that of the host's default route"),
        action: Action::Value(|said, given| {
            match given.address("Invalid gateway address")? {
                IpAddr::V4(a) if usable4(a) => said.gateway4 = Some(a),
                IpAddr::V6(a) if usable6(a) => said.gateway6 = Some(a),
                IpAddr::V4(_) | IpAddr::V6(_) => return given.refuse("Invalid gateway address"),
            }
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "interface",
        short: Some('i'),
        metavar: Some("NAME"),
        help: "Template interface for addresses and routes",
        default: Some("that of the first default route, per family"),
        complete: Complete::Interface,
        action: Action::Value(|said, given| {
            said.interface = Some(given.existing_interface()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "outbound",
        short: Some('o'),
        metavar: Some("ADDR"),
        help: "Source address of outbound connections",
        man: "May be given once per family.",
        default: Some("as the host's routes say"),
        action: Action::Value(outbound),
        ..BASE
    },
    Flag {
        long: "outbound-if4",
        metavar: Some("NAME"),
        help: "Bind outbound IPv4 sockets to this interface",
        man: "It is the template interface for IPv4, too, unless --interface is given.",
        default: Some("as the host's routes say"),
        complete: Complete::Interface,
        action: Action::Value(|said, given| {
            said.outbound_if4 = Some(given.interface_name()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "outbound-if6",
        metavar: Some("NAME"),
        help: "Bind outbound IPv6 sockets to this interface",
        man: "It is the template interface for IPv6, too, unless --interface is given.",
        default: Some("as the host's routes say"),
        complete: Complete::Interface,
        action: Action::Value(|said, given| {
            said.outbound_if6 = Some(given.interface_name()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "map-host-loopback",
        metavar: Some("ADDR"),
        help: "Guest sees the host's loopback as ADDR, or none",
        man: "May be given once per family. The value none undoes earlier ones and includes --no-map-gw.",
        default: Some("the gateway's address"),
        complete: Complete::Words(&["none"]),
        action: Action::Value(|said, given| {
            if given.is_none() {
                said.no_map_gw = true;
            }
            mapping(&mut said.map_host_loopback, given)
        }),
        ..BASE
    },
    Flag {
        long: "no-map-gw",
        help: "Do not map the gateway's address to loopback",
        man: "An explicit --map-host-loopback still counts.",
        action: Action::Switch(|said| said.no_map_gw = true),
        ..BASE
    },
    Flag {
        long: "map-guest-addr",
        metavar: Some("ADDR"),
        help: "Guest sees the host's own address as ADDR",
        man: "For a guest that shares the host's address: where to find the host itself at that address. \
              May be given once per family. The value none undoes earlier ones.",
        default: Some("none"),
        complete: Complete::Words(&["none"]),
        action: Action::Value(|said, given| mapping(&mut said.map_guest_addr, given)),
        ..BASE
    },
    Flag {
        long: "ipv4-only",
        short: Some('4'),
        help: "IPv4 only",
        man: "Of several --ipv4-only and --ipv6-only, the last one counts.",
        action: Action::Switch(|said| said.families = Families::Ipv4),
        ..BASE
    },
    Flag {
        long: "ipv6-only",
        short: Some('6'),
        help: "IPv6 only",
        man: "Of several --ipv4-only and --ipv6-only, the last one counts.",
        action: Action::Switch(|said| said.families = Families::Ipv6),
        ..BASE
    },
];

/// Neither unspecified nor loopback nor broadcast.
fn usable4(addr: Ipv4Addr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_broadcast()
}

/// Neither unspecified nor loopback.
fn usable6(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback()
}

fn outbound(said: &mut crate::said::Said, given: &Given<'_>) -> Result<(), Refusal> {
    const WRONG: &str = "Invalid or redundant outbound address";
    match given.address(WRONG)? {
        IpAddr::V4(a) if !a.is_unspecified() && !a.is_broadcast() && !a.is_multicast() => {
            said.outbound4 = Some(a);
        }
        // to_ipv4 covers both ::ffff:a.b.c.d and the old ::a.b.c.d.
        IpAddr::V6(a) if usable6(a) && a.to_ipv4().is_none() && !a.is_multicast() => {
            said.outbound6 = Some(a);
        }
        IpAddr::V4(_) | IpAddr::V6(_) => return given.refuse(WRONG),
    }
    Ok(())
}

fn mapping(mapping: &mut Mapping, given: &Given<'_>) -> Result<(), Refusal> {
    const WRONG: &str = "Invalid address to remap to host";
    if given.is_none() {
        *mapping = Mapping::default();
        return Ok(());
    }
    match given.address(WRONG)? {
        IpAddr::V4(a) if usable4(a) && !a.is_multicast() => mapping.v4 = Some(a),
        IpAddr::V6(a) if usable6(a) && !a.is_multicast() => mapping.v6 = Some(a),
        IpAddr::V4(_) | IpAddr::V6(_) => return given.refuse(WRONG),
    }
    Ok(())
}

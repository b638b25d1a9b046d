//! What the guest is told and which protocols are translated.

use std::net::IpAddr;

use super::{Action, Complete, Flag, Group, Modes};
use crate::parse::{Given, Refusal};
use crate::said::Said;

const BASE: Flag = Flag { group: Group::Services, ..Flag::LATER };

/// Resolvers announced at most, per family.
const MAX_RESOLVERS: usize = 3;
/// Entries of the search list at most.
const MAX_SEARCH: usize = 6;
/// Bytes of an entry of the search list at most.
const MAX_DOMAIN: usize = 255;

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "dns",
        short: Some('D'),
        metavar: Some("ADDR"),
        help: "Resolver announced to the guest, or none",
        man: "May be given up to three times per family. The value none undoes earlier --dns, \
              --dns-forward and --dns-host, and keeps /etc/resolv.conf from being used.",
        default: Some("those of /etc/resolv.conf"),
        complete: Complete::Words(&["none"]),
        action: Action::Value(dns),
        ..BASE
    },
    Flag {
        long: "dns-forward",
        metavar: Some("ADDR"),
        help: "Address at which the guest finds the resolver",
        man: "What the guest sends to ports 53 and 853 of this address goes to the resolver of the host. \
              May be given once per family.",
        default: Some("none; the gateway if the host's resolver is local"),
        action: Action::Value(|said, given| {
            const WRONG: &str = "Invalid DNS forwarding address";
            match given.address(WRONG)? {
                IpAddr::V4(a) if !a.is_unspecified() && !a.is_loopback() && !a.is_broadcast() => {
                    said.dns.forward4 = Some(a);
                }
                IpAddr::V6(a) if !a.is_unspecified() && !a.is_loopback() => {
                    said.dns.forward6 = Some(a);
                }
                IpAddr::V4(_) | IpAddr::V6(_) => return given.refuse(WRONG),
            }
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "dns-host",
        metavar: Some("ADDR"),
        help: "Resolver of the host for --dns-forward",
        man: "May be given once per family.",
        default: Some("the first of /etc/resolv.conf"),
        action: Action::Value(|said, given| {
            const WRONG: &str = "Invalid host nameserver address";
            match given.address(WRONG)? {
                IpAddr::V4(a) if !a.is_unspecified() && !a.is_broadcast() => {
                    said.dns.host4 = Some(a);
                }
                IpAddr::V6(a) if !a.is_unspecified() => said.dns.host6 = Some(a),
                IpAddr::V4(_) | IpAddr::V6(_) => return given.refuse(WRONG),
            }
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "search",
        short: Some('S'),
        metavar: Some("LIST"),
        help: "Search domains announced to the guest, or none",
        man: "LIST is one domain or several divided by spaces; the option may be repeated, up to six \
              domains in all. The value none undoes earlier ones and keeps /etc/resolv.conf from being \
              used; a domain of that name is written with a dot at its end.",
        default: Some("those of /etc/resolv.conf"),
        complete: Complete::Words(&["none"]),
        action: Action::Value(search),
        ..BASE
    },
    Flag {
        long: "dhcp-dns",
        modes: Modes::PASTA,
        help: "Announce resolvers to the namespace",
        man: "By DHCP, DHCPv6 and router advertisements.",
        default: Some("the namespace has the host's resolv.conf anyway"),
        action: Action::Switch(|said| said.announce_dns = Some(true)),
        ..BASE
    },
    Flag {
        long: "no-dhcp-dns",
        modes: Modes::PASST,
        help: "Do not announce resolvers",
        action: Action::Switch(|said| said.announce_dns = Some(false)),
        ..BASE
    },
    Flag {
        long: "dhcp-search",
        modes: Modes::PASTA,
        help: "Announce search domains to the namespace",
        man: "By DHCP, DHCPv6 and router advertisements.",
        default: Some("the namespace has the host's resolv.conf anyway"),
        action: Action::Switch(|said| said.announce_search = Some(true)),
        ..BASE
    },
    Flag {
        long: "no-dhcp-search",
        modes: Modes::PASST,
        help: "Do not announce search domains",
        action: Action::Switch(|said| said.announce_search = Some(false)),
        ..BASE
    },
    Flag {
        long: "hostname",
        short: Some('H'),
        metavar: Some("NAME"),
        help: "Host name announced by DHCP",
        man: "It is the host name in the namespace of a command, too. At most 253 bytes.",
        default: Some("none"),
        action: Action::Value(|said, given| {
            said.hostname = given.domain_name("Invalid hostname")?;
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "fqdn",
        metavar: Some("NAME"),
        help: "Full name announced by DHCP and DHCPv6",
        man: "At most 253 bytes.",
        default: Some("none"),
        action: Action::Value(|said, given| {
            said.fqdn = given.domain_name("Invalid FQDN")?;
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "no-tcp",
        help: "Do not translate TCP",
        action: Action::Switch(|said| said.no_tcp = true),
        ..BASE
    },
    Flag {
        long: "no-udp",
        help: "Do not translate UDP",
        action: Action::Switch(|said| said.no_udp = true),
        ..BASE
    },
    Flag {
        long: "no-icmp",
        help: "Do not translate ICMP echo; includes --no-ndp",
        action: Action::Switch(|said| said.no_icmp = true),
        ..BASE
    },
    Flag {
        long: "no-dhcp",
        help: "Do not answer DHCP",
        man: "Included if IPv4 is off or has no gateway.",
        action: Action::Switch(|said| said.no_dhcp = true),
        ..BASE
    },
    Flag {
        long: "no-dhcpv6",
        help: "Do not answer DHCPv6",
        man: "Included if IPv6 is off or the guest is assigned no IPv6 address.",
        action: Action::Switch(|said| said.no_dhcpv6 = true),
        ..BASE
    },
    Flag {
        long: "no-ndp",
        help: "Do not answer neighbour or router requests",
        man: "Included if IPv6 is off.",
        action: Action::Switch(|said| said.no_ndp = true),
        ..BASE
    },
    Flag {
        long: "no-ra",
        help: "Do not send router advertisements",
        man: "Included with --config-net.",
        action: Action::Switch(|said| said.no_ra = true),
        ..BASE
    },
];

fn dns(said: &mut Said, given: &Given<'_>) -> Result<(), Refusal> {
    const WRONG: &str = "Invalid DNS address";
    if given.is_none() {
        said.dns = crate::said::Dns { off: true, ..Default::default() };
        return Ok(());
    }
    match given.address(WRONG)? {
        IpAddr::V4(a) if said.dns.resolvers4.len() < MAX_RESOLVERS => said.dns.resolvers4.push(a),
        IpAddr::V6(a) if said.dns.resolvers6.len() < MAX_RESOLVERS => said.dns.resolvers6.push(a),
        // More than the guest can be told are dropped without a word.
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    said.dns.off = false;
    Ok(())
}

fn search(said: &mut Said, given: &Given<'_>) -> Result<(), Refusal> {
    const WRONG: &str = "Invalid search domain";
    if given.is_none() {
        said.search.clear();
        said.search_off = true;
        return Ok(());
    }
    let list = given.text(WRONG)?;
    let mut domains = list.split_ascii_whitespace().peekable();
    if domains.peek().is_none() {
        return given.refuse(WRONG);
    }
    for domain in domains {
        if domain.len() > MAX_DOMAIN {
            return given.refuse(WRONG);
        }
        if said.search.len() == MAX_SEARCH {
            return given.refuse("Too many search domains");
        }
        said.search.push(domain.to_owned());
    }
    said.search_off = false;
    Ok(())
}

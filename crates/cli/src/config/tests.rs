use log::LevelFilter;
use stack::config::{Config, Ipv4Config, Ipv6Config, Services};

use super::*;
use crate::flags;
use crate::parse::{Lookup, Request, command_line};
use crate::said::Mode;

struct Nowhere;

impl Lookup for Nowhere {
    fn interface_index(&self, _: &str) -> std::io::Result<u32> {
        Ok(2)
    }

    fn read_text(&self, _: &Path) -> std::io::Result<String> {
        Ok(String::new())
    }
}

fn said(line: &str) -> Said {
    said_by(Mode::Pasta, line)
}

fn said_by(mode: Mode, line: &str) -> Said {
    let args = line.split_whitespace().map(OsString::from);
    match command_line(mode, "pasta", args, &Nowhere, &mut Vec::new()) {
        Ok(Request::Run(said)) => *said,
        other => panic!("{line}: {other:?}"),
    }
}

fn ip<A: std::str::FromStr>(text: &str) -> A {
    text.parse().ok().unwrap()
}

/// A host with both families on eth0, with these resolvers.
pub(crate) fn host(resolvers: &[&str]) -> Host {
    let interface = || Interface { index: 7, name: "eth0".to_owned() };
    Host {
        v4: Some(HostIpv4 {
            interface: interface(),
            address: Some((ip("203.0.113.2"), 24)),
            gateway: Some(ip("203.0.113.1")),
        }),
        v6: Some(HostIpv6 {
            interface: interface(),
            address: Some(ip("2001:db8:51::2")),
            link_local: Some(ip("fe80::2")),
            gateway: Some(ip("fe80::1")),
        }),
        resolvers: resolvers.iter().map(|&resolver| ip(resolver)).collect(),
        search: vec!["example.test".to_owned(), "sub.example.test.".to_owned()],
    }
}

fn network(line: &str) -> Network {
    network_with(line, &["192.0.2.53", "2001:db8::53"])
}

/// What `pasta` with the words of `line` makes of [`host`].
pub(crate) fn network_with(line: &str, resolvers: &[&str]) -> Network {
    Network::new(Mode::Pasta, &said(line), &host(resolvers), 0)
}

/// The ports that the words of `line` forward.
pub(crate) fn forwarding_of(line: &str) -> Forwarding {
    Forwarding::new(Mode::Pasta, &said(line), &Nowhere).unwrap()
}

fn v4(network: Network) -> Ipv4Config {
    network.stack.v4.unwrap()
}

fn v6(network: Network) -> Ipv6Config {
    network.stack.v6.unwrap()
}

#[test]
fn the_host_is_the_template() {
    let Network { stack, template4, ns_interface, notes, copy4, .. } = network("");
    let Config { our_mac, mtu, v4, v6, search, services, .. } = stack;
    assert_eq!(our_mac, MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]));
    assert_eq!(mtu, Some(65_520));
    assert_eq!(search, ["example.test", "sub.example.test"]);
    assert_eq!((template4.as_deref(), ns_interface.as_str()), (Some("eth0"), "eth0"));
    assert_eq!(notes, []);
    assert_eq!(copy4, Copying::default());
    let v4 = v4.unwrap();
    assert_eq!((v4.addr, v4.prefix_len), (ip("203.0.113.2"), 24));
    assert_eq!(v4.gateway, Some(ip("203.0.113.1")));
    assert_eq!(v4.map_host_loopback, v4.gateway);
    assert_eq!(v4.dns, [ip::<Ipv4Addr>("192.0.2.53")]);
    assert!(!v4.addr_fixed && !v4.local_mode);
    let v6 = v6.unwrap();
    assert_eq!(v6.our_link_local, ip::<Ipv6Addr>("fe80::1"));
    assert_eq!(v6.scope_id, 7);
    let on = Services {
        tcp: true,
        udp: true,
        icmp: true,
        dhcp: true,
        dhcpv6: true,
        ndp: true,
        ra: true,
        announce_dns: false,
        announce_search: false,
    };
    assert_eq!(services, on);
}

/// What the help and the manual pages say of them.
#[test]
fn defaults_are_as_documented() {
    let said_of = |long: &str| {
        let flag = flags::all().find(|flag| flag.long == long);
        flag.and_then(|flag| flag.default).unwrap_or_else(|| panic!("no default for --{long}"))
    };
    let stack = network("").stack;
    assert_eq!(said_of("mtu"), stack.mtu.unwrap().to_string());
    let mac: Vec<String> = stack.our_mac.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said_of("mac-addr"), mac.join(":"));
    for mode in [Mode::Passt, Mode::Pasta] {
        let run = Run::new(mode, &said_by(mode, "-f"));
        assert_eq!(said_of("log-size"), run.log_size.to_string());
        assert_eq!((run.log_file, run.pid_file, run.pcap), (None, None, None));
        assert!(!run.chroot_fallback && run.stats.is_none() && run.run_as.is_none());
        assert_eq!(
            run.level,
            if mode == Mode::Passt { LevelFilter::Info } else { LevelFilter::Warn }
        );
    }
    assert_eq!(network("--hostname= --fqdn=").stack.hostname, None);
    assert_eq!(network("--hostname a --fqdn=").stack.hostname.as_deref(), Some("a"));
}

#[test]
fn one_choice_implies_another() {
    let services = |line: &str| network(line).stack.services;
    let both = |line: &str| {
        let services = services(line);
        (services.ndp, services.ra)
    };
    assert_eq!(both("--no-icmp"), (false, false));
    assert_eq!(both("--no-ndp"), (false, false));
    assert_eq!(both("--no-ra"), (true, false));
    assert_eq!(both("--config-net"), (true, false));
    assert!(!services("-6").dhcp && !services("-4").dhcpv6 && !services("-4").ndp);
    assert!(services("--dhcp-dns").announce_dns && services("--dhcp-search").announce_search);

    let mut lost = host(&[]);
    lost.v4.as_mut().unwrap().gateway = None;
    let network = Network::new(Mode::Pasta, &said(""), &lost, 0);
    assert!(!network.stack.services.dhcp);
    assert_eq!(v4(network).map_host_loopback, None);
    let passt = Network::new(Mode::Passt, &said(""), &host(&[]), 0);
    assert!(passt.stack.services.announce_dns && passt.stack.services.announce_search);
    let passt = said_by(Mode::Passt, "--no-dhcp-dns --no-dhcp-search");
    let passt = Network::new(Mode::Passt, &passt, &host(&[]), 0);
    assert!(!passt.stack.services.announce_dns && !passt.stack.services.announce_search);
}

#[test]
fn local_mode() {
    let network = |line: &str| Network::new(Mode::Pasta, &said(line), &Host::default(), 0);
    let plain = network("--config-net");
    assert_eq!(plain.ns_interface, "tap0");
    assert!(plain.stack.services.dhcp && !plain.stack.services.dhcpv6);
    assert_eq!((plain.copy4, plain.copy6), (Copying::default(), Copying::default()));
    let (v4, v6) = (plain.stack.v4.unwrap(), plain.stack.v6.unwrap());
    assert!(v4.local_mode && v6.local_mode);
    assert_eq!(v4.map_host_loopback, Some(ip("169.254.2.2")));
    assert_eq!((v6.addr, v6.map_host_loopback), (None, Some(ip("fe80::1"))));
    assert_eq!(v6.scope_id, 0);
    // What is given stands.
    let v4 = network("-a 10.0.2.100 -n 24 -g 10.0.2.2").stack.v4.unwrap();
    assert_eq!((v4.addr, v4.prefix_len, v4.gateway), (ip("10.0.2.100"), 24, Some(ip("10.0.2.2"))));
    assert_eq!(network("-a 10.0.2.100").stack.v4.unwrap().gateway, Some(ip("169.254.2.2")));
    let texts: Vec<String> = network("").notes.into_iter().map(|note| note.text).collect();
    assert_eq!(
        texts,
        [
            "IPv4: no external interface as template, use local mode",
            "IPv6: no external interface as template, use local mode",
            "Couldn't get any nameserver address",
        ]
    );
}

#[test]
fn an_interface_without_addresses_is_no_template() {
    let mut bare = host(&[]);
    bare.v4.as_mut().unwrap().address = None;
    bare.v6.as_mut().unwrap().address = None;
    let network = |line: &str| Network::new(Mode::Pasta, &said(line), &bare, 0);
    let none = network("");
    assert_eq!((none.template4, none.template6, none.ns_interface.as_str()), (None, None, "tap0"));
    let given = network("-a 192.0.2.7/24 -a 2001:db8::7");
    assert_eq!(
        (given.template4.as_deref(), given.template6.as_deref()),
        (Some("eth0"), Some("eth0"))
    );
    let v6 = given.stack.v6.unwrap();
    assert_eq!((v6.addr, v6.local_mode), (Some(ip("2001:db8::7")), false));

    // Our own link-local address has to come from somewhere.
    let mut bare = host(&[]);
    bare.v6.as_mut().unwrap().link_local = None;
    bare.v6.as_mut().unwrap().gateway = Some(ip("2001:db8:51::1"));
    let network = Network::new(Mode::Pasta, &said(""), &bare, 0);
    assert!(network.stack.v6.unwrap().local_mode);
}

#[test]
fn addresses_and_prefix_lengths() {
    let length = |line: &str| v4(network(line)).prefix_len;
    assert_eq!(length("-a 10.0.2.0"), 8);
    assert_eq!(length("-a 172.16.0.1"), 16);
    assert_eq!(length("-a 192.0.2.1"), 24);
    assert_eq!(length("-a 240.0.0.1"), 32);
    assert_eq!(length("-a 10.0.2.0/26"), 26);
    assert_eq!(length("-a 10.0.2.0 -n 24"), 24);
    assert_eq!(length("-n 24 -a 10.0.2.0"), 24);
    // A netmask alone says nothing about the host's address.
    assert_eq!(length("-n 16"), 24);
    assert!(v4(network("-a 10.0.2.0")).addr_fixed);
    assert!(!v6(network("-a 10.0.2.0")).addr_fixed);
    assert_eq!(network("-m 0").stack.mtu, None);
    let notes = |line: &str| network(line).notes.len();
    assert_eq!((notes("-m 0"), notes("-m 67"), notes("-m 1279"), notes("-4 -m 68")), (0, 2, 1, 0));
    assert!(network("-4").stack.v6.is_none() && network("-6").stack.v4.is_none());
}

#[test]
fn copying() {
    let copy = |line: &str| {
        let network = network(line);
        (network.copy4, network.copy6)
    };
    let (all, addresses, routes) = (
        Copying { addresses: true, routes: true },
        Copying { addresses: true, routes: false },
        Copying { addresses: false, routes: true },
    );
    assert_eq!(copy("--config-net"), (all, all));
    assert_eq!(copy("--config-net -g 203.0.113.9"), (addresses, all));
    assert_eq!(copy("--config-net -a 2001:db8::9"), (all, routes));
    assert_eq!(copy("--config-net --no-copy-addrs"), (routes, routes));
    assert_eq!(copy("--config-net --no-copy-routes"), (addresses, addresses));
}

#[test]
fn mapping_of_loopback() {
    assert_eq!(v4(network("--no-map-gw")).map_host_loopback, None);
    assert_eq!(v6(network("--map-host-loopback none")).map_host_loopback, None);
    let mapped = v4(network("--no-map-gw --map-host-loopback 192.0.2.9"));
    assert_eq!(mapped.map_host_loopback, Some(ip("192.0.2.9")));
    assert_eq!(v4(network("-g 10.0.0.1")).map_host_loopback, Some(ip("10.0.0.1")));
}

#[test]
fn name_resolution() {
    let stub = ["127.0.0.53"];
    // A stub resolver is reached through the gateway's address.
    let found = v4(network_with("", &stub));
    assert_eq!(found.dns, [ip::<Ipv4Addr>("203.0.113.1")]);
    assert_eq!(
        (found.dns_match, found.dns_host),
        (Some(ip("203.0.113.1")), Some(ip("127.0.0.53")))
    );
    // As Podman asks for it.
    let found = v4(network_with("--dns-forward 169.254.1.1 --no-map-gw", &stub));
    assert_eq!(found.dns, [ip::<Ipv4Addr>("169.254.1.1")]);
    assert_eq!(
        (found.dns_match, found.dns_host),
        (Some(ip("169.254.1.1")), Some(ip("127.0.0.53")))
    );
    // Resolvers that are given are announced, and forwarding still knows where to.
    let found = v4(network_with("-D 192.0.2.1 --dns-forward 192.0.2.2", &stub));
    assert_eq!(found.dns, [ip::<Ipv4Addr>("192.0.2.1")]);
    assert_eq!(found.dns_host, Some(ip("127.0.0.53")));
    let network = network_with("-D none -S none", &stub);
    assert_eq!((network.stack.search.len(), network.notes.len()), (0, 0));
    let found = v4(network);
    assert_eq!((found.dns.len(), found.dns_match, found.dns_host), (0, None, None));
    assert_eq!(network_with("-S a.test -S b.test.", &stub).stack.search, ["a.test", "b.test"]);
}

#[test]
fn missing_resolvers_are_noted() {
    let texts = |line: &str, resolvers: &[&str]| -> Vec<String> {
        network_with(line, resolvers).notes.into_iter().map(|note| note.text).collect()
    };
    let none = [];
    assert_eq!(texts("", &none), ["Couldn't get any nameserver address"]);
    assert_eq!(
        texts("--dhcp-dns", &none),
        [
            "Couldn't get any nameserver address",
            "No IPv4 nameserver available for DHCP",
            "No IPv6 nameserver available for NDP/DHCPv6",
        ]
    );
    let only4 = ["192.0.2.53"];
    assert_eq!(texts("", &only4), Vec::<String>::new());
    assert_eq!(texts("--dhcp-dns", &only4), ["No IPv6 nameserver available for NDP/DHCPv6"]);
    assert_eq!(texts("--dhcp-dns -4", &only4), Vec::<String>::new());
}

#[test]
fn namespaces() {
    let run = |line: &str| Run::new(Mode::Pasta, &said(line));
    let path = |text: &str| UserNamespace::Path(text.into());
    let command = run("sh -c true");
    assert_eq!(command.target, Target::Command(vec!["sh".into(), "-c".into(), "true".into()]));
    assert_eq!(command.target.path(), None);
    assert_eq!(command.user_namespace, UserNamespace::New);
    assert!(command.foreground && command.pid_namespace && !command.quit_with_namespace);
    assert_eq!(run("--netns-only sh").user_namespace, UserNamespace::Own);
    assert_eq!(run("--userns /x/user sh").user_namespace, path("/x/user"));
    assert!(!run("--no-pidns sh").pid_namespace);

    let process = run("12");
    assert_eq!(process.target.path().unwrap(), Path::new("/proc/12/ns/net"));
    assert_eq!(process.user_namespace, path("/proc/12/ns/user"));
    assert!(!process.foreground && process.quit_with_namespace);
    assert_eq!(run("--netns-only 12").user_namespace, UserNamespace::Own);
    assert_eq!(run("--userns /x/user 12").user_namespace, path("/x/user"));

    let named = run("--netns blue --no-netns-quit -f");
    assert_eq!(named.target.path().unwrap(), Path::new("/run/netns/blue"));
    assert_eq!(named.user_namespace, UserNamespace::Own);
    assert!(named.foreground && !named.quit_with_namespace);
    assert_eq!(run("--netns ./blue").target.path().unwrap(), Path::new("./blue"));
    let path_given = run("--netns /proc/self/fd/0 --userns /proc/self/fd/7");
    assert_eq!(path_given.user_namespace, path("/proc/self/fd/7"));
}

#[test]
fn a_command_has_the_terminal_for_itself() {
    let level = |line: &str| Run::new(Mode::Pasta, &said(line)).level;
    assert_eq!(level("true"), LevelFilter::Warn);
    assert_eq!(level("12"), LevelFilter::Info);
    assert_eq!(level("-d true"), LevelFilter::Debug);
    assert_eq!(level("--trace true"), LevelFilter::Trace);
    assert_eq!(level("-q 12"), LevelFilter::Warn);
}

use std::process::Command;

use super::*;

/// Discovers on a thread in a network namespace of its own, set up by iproute2 commands.
fn in_host(setup: &[&str], said: Said, check: impl FnOnce(Result<Discovery>) + Send + 'static) {
    if !sys::privileges::is_administrator() {
        return eprintln!("skipped: making a network namespace needs CAP_SYS_ADMIN");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return eprintln!("skipped: iproute2 is not installed");
    }
    let common = [
        "link add name va type veth peer name pa",
        "link add name vb type veth peer name pb",
        "link set va up",
        "link set pa up",
        "link set vb up",
        "link set pb up",
    ];
    let lines: Vec<String> = common.iter().chain(setup).map(|line| (*line).to_owned()).collect();
    std::thread::spawn(move || {
        sys::netns::new_network().unwrap();
        for line in &lines {
            let status = Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(status.success(), "ip {line}");
        }
        check(discover(&said));
    })
    .join()
    .unwrap();
}

fn only(families: Families) -> Said {
    Said { families, ..Said::default() }
}

fn found4(found: &Discovery) -> (&str, Option<(Ipv4Addr, u8)>, Option<Ipv4Addr>) {
    let v4 = found.host.v4.as_ref().unwrap();
    (&v4.interface.name, v4.address, v4.gateway)
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn nothing_at_all() {
    in_host(&[], Said::default(), |found| {
        let found = found.unwrap();
        assert!(found.host.v4.is_none() && found.ipv4.is_none());
        assert!(found.host.v6.is_none() && found.ipv6.is_none());
        assert_eq!(
            found.notices,
            ["No interfaces with usable IPv4 routes", "No interfaces with usable IPv6 routes"]
        );
    });
}

#[test]
fn the_first_default_route_decides() {
    let setup = [
        "addr add 192.0.2.2/24 dev va",
        "addr add 198.51.100.2/24 dev vb",
        "addr add 198.51.100.129/25 dev vb",
        "route add default via 192.0.2.1 dev va metric 200",
        "route add default via 198.51.100.1 dev vb metric 100",
        "addr add 2001:db8:1::2/48 dev vb nodad",
        "addr add 2001:db8::2/64 dev vb nodad",
        "addr add 2001:db8:2::2/128 dev vb nodad preferred_lft 0",
        "-6 route add default via 2001:db8::1 dev vb",
    ];
    in_host(&setup, Said::default(), |found| {
        let found = found.unwrap();
        let address = Some((ip("198.51.100.129"), 25));
        assert_eq!(found4(&found), ("vb", address, Some(ip("198.51.100.1"))));
        assert_eq!(found.notices, ["Multiple default IPv4 routes, picked first"]);
        let v6 = found.host.v6.unwrap();
        assert_eq!(v6.interface.name, "vb");
        assert_eq!(v6.address, Some("2001:db8::2".parse().unwrap()));
        assert_eq!(v6.gateway, Some("2001:db8::1".parse().unwrap()));
        assert!(v6.link_local.unwrap().is_unicast_link_local());
        let copied = found.ipv4.unwrap();
        assert_eq!((copied.addresses.len(), copied.routes.len()), (2, 3));
        // Neither the deprecated one nor the link-local one is for anybody else.
        assert_eq!(found.ipv6.unwrap().addresses.len(), 2);
    });
}

#[test]
fn without_a_default_route_any_other_will_do() {
    let setup = [
        "addr add 169.254.7.7/16 dev va",
        "addr add 192.0.2.2/24 dev vb",
        "route add 203.0.113.0/24 via 192.0.2.1 dev vb",
    ];
    in_host(&setup, Said::default(), |found| {
        let found = found.unwrap();
        assert_eq!(found4(&found), ("vb", Some((ip("192.0.2.2"), 24)), None));
        assert_eq!(found.notices, ["No interfaces with usable IPv6 routes"]);
    });
    let setup = ["addr add 192.0.2.2/24 dev va", "addr add 198.51.100.2/24 dev vb"];
    in_host(&setup, only(Families::Ipv4), |found| {
        let found = found.unwrap();
        assert_eq!(found4(&found).0, "va");
        assert_eq!(found.notices, ["Multiple interfaces with IPv4 routes, picked first"]);
    });
}

#[test]
fn the_heaviest_next_hop_and_of_equals_the_first() {
    let weights = |weights: [u8; 3]| {
        let [a, b, c] = weights;
        let route = format!(
            "route add default nexthop via 192.0.2.1 dev va weight {a} nexthop via 192.0.2.2 dev va \
             weight {b} nexthop via 192.0.2.3 dev va weight {c}"
        );
        let (sender, receiver) = std::sync::mpsc::channel();
        let setup = ["addr add 192.0.2.9/24 dev va", &route];
        in_host(&setup, only(Families::Ipv4), move |found| {
            sender.send(found4(&found.unwrap()).2.unwrap()).unwrap();
        });
        receiver.recv().ok()
    };
    let Some(first) = weights([1, 1, 1]) else { return };
    assert_eq!(first, ip("192.0.2.1"));
    assert_eq!(weights([1, 5, 2]), Some(ip("192.0.2.2")));
    assert_eq!(weights([1, 5, 5]), Some(ip("192.0.2.2")));
    assert_eq!(weights([2, 1, 9]), Some(ip("192.0.2.3")));
}

#[test]
fn next_hops_elsewhere_do_not_count() {
    let setup = [
        "addr add 192.0.2.9/24 dev va",
        "addr add 198.51.100.9/24 dev vb",
        "route add default nexthop via 192.0.2.1 dev va nexthop via 198.51.100.1 dev vb weight 9",
    ];
    in_host(&setup, only(Families::Ipv4), |found| {
        assert_eq!(found4(&found.unwrap()).2, Some(ip("192.0.2.1")));
    });
}

#[test]
fn a_gateway_may_be_of_the_other_family() {
    let setup = [
        "addr add 192.0.2.9/32 dev va",
        "addr add 2001:db8::9/64 dev va nodad",
        "-4 route add default via inet6 2001:db8::1 dev va",
    ];
    in_host(&setup, only(Families::Ipv4), |found| {
        let address = Some((ip("192.0.2.9"), 32));
        assert_eq!(found4(&found.unwrap()), ("va", address, Some(NO_IPV4_GATEWAY)));
    });
}

#[test]
fn an_interface_that_was_asked_for() {
    let setup = [
        "addr add 192.0.2.2/24 dev va",
        "addr add 198.51.100.2/24 dev vb",
        "route add default via 192.0.2.1 dev va",
    ];
    let said = Said { interface: Some("vb".into()), ..Said::default() };
    in_host(&setup, said, |found| {
        let found = found.unwrap();
        assert_eq!(found4(&found), ("vb", Some((ip("198.51.100.2"), 24)), None));
        assert_eq!(found.notices, [""; 0]);
    });
    // -i is stronger than --outbound-if4, and that one than routes.
    let both = Said {
        interface: Some("va".into()),
        outbound_if4: Some("vb".into()),
        ..only(Families::Ipv4)
    };
    in_host(&setup, both, |found| assert_eq!(found4(&found.unwrap()).0, "va"));
    let outbound = Said { outbound_if4: Some("vb".into()), ..only(Families::Ipv4) };
    in_host(&setup, outbound, |found| assert_eq!(found4(&found.unwrap()).0, "vb"));
    // One that does not exist leaves it to routes, and only then are those needed.
    let unknown = Said { outbound_if4: Some("nosuch".into()), ..only(Families::Ipv4) };
    in_host(&setup, unknown.clone(), |found| assert_eq!(found4(&found.unwrap()).0, "va"));
    in_host(&[], unknown, |found| {
        assert_eq!(found.unwrap_err().to_string(), "External interface not usable");
    });
}

#[test]
fn a_family_that_is_off_is_not_looked_for() {
    let setup = ["addr add 192.0.2.2/24 dev va", "addr add 2001:db8::2/64 dev va nodad"];
    in_host(&setup, only(Families::Ipv6), |found| {
        let found = found.unwrap();
        assert!(found.host.v4.is_none() && found.host.v6.is_some());
    });
    in_host(&setup, only(Families::Ipv4), |found| {
        let found = found.unwrap();
        assert!(found.host.v4.is_some() && found.host.v6.is_none());
    });
}

#[test]
fn resolv_conf_is_read_if_something_is_missing() {
    let mut said = Said { search_off: true, ..Said::default() };
    assert!(needs_resolv_conf(&said));
    said.dns.resolvers4 = vec![ip("192.0.2.53")];
    assert!(needs_resolv_conf(&said));
    said.families = Families::Ipv4;
    assert!(!needs_resolv_conf(&said));
    said.families = Families::Ipv6;
    assert!(needs_resolv_conf(&said));
    said.dns.off = true;
    assert!(!needs_resolv_conf(&said));
    said.search_off = false;
    assert!(needs_resolv_conf(&said));
    said.search = vec!["example.org".into()];
    assert!(!needs_resolv_conf(&said));
}

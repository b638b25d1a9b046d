use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// Runs `job` on a thread in a network namespace of its own, set up by iproute2 commands.
fn in_namespace(setup: &[&str], job: impl FnOnce(&mut Netlink) + Send + 'static) {
    if !crate::privileges::is_administrator() {
        return eprintln!("skipped: making a network namespace needs CAP_SYS_ADMIN");
    }
    if ip("-V").is_none() {
        return eprintln!("skipped: iproute2 is not installed");
    }
    let setup: Vec<String> = setup.iter().map(|line| (*line).to_owned()).collect();
    std::thread::spawn(move || {
        crate::netns::new_network().unwrap();
        for line in &setup {
            assert!(ip(line).is_some(), "ip {line}");
        }
        job(&mut Netlink::open().unwrap());
    })
    .join()
    .unwrap();
}

/// Output of `ip LINE` in the calling thread's namespace.
fn ip(line: &str) -> Option<String> {
    let output = Command::new("ip").args(line.split(' ')).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const PAIR: [&str; 4] = [
    "link add name va type veth peer name vb",
    "link set va up",
    "link set vb up",
    "addr add 192.0.2.2/24 dev va",
];

#[test]
fn an_empty_namespace_has_lo_and_no_routes() {
    in_namespace(&[], |netlink| {
        let lo = netlink.link_named("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.up, lo.name.as_str()), (1, false, "lo"));
        assert_eq!(netlink.link_indexed(1).unwrap(), Some(lo));
        for none in ["nosuch", "", "sixteen-letters-", &"x".repeat(300)] {
            assert_eq!(netlink.link_named(none).unwrap(), None);
        }
        assert_eq!(netlink.link_indexed(77).unwrap(), None);
        for family in [Family::V4, Family::V6] {
            assert_eq!(netlink.routes(family, None).unwrap(), []);
            assert_eq!(netlink.routes(family, Some(1)).unwrap(), []);
            assert_eq!(netlink.addresses(family, 1).unwrap(), []);
            assert_eq!(netlink.neighbours(family, 1).unwrap(), []);
        }
    });
}

#[test]
fn a_link_changes_in_one_message() {
    in_namespace(&PAIR, |netlink| {
        let index = netlink.link_named("vb").unwrap().unwrap().index;
        let change = LinkChange {
            up: Some(false),
            mtu: Some(4000),
            mac: Some([2, 0, 0, 0, 0, 7]),
            tx_queue_len: Some(5000),
        };
        netlink.change_link(index, &change).unwrap();
        let expected = Link {
            index,
            name: "vb".into(),
            mtu: 4000,
            mac: Some([2, 0, 0, 0, 0, 7]),
            tx_queue_len: 5000,
            up: false,
            link_local_from_mac: true,
        };
        assert_eq!(netlink.link_named("vb").unwrap(), Some(expected));
        netlink.set_link_local_from_mac(index, false).unwrap();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        netlink.change_link(index, &up).unwrap();
        assert!(!netlink.link_indexed(index).unwrap().unwrap().link_local_from_mac);
        assert_eq!(netlink.addresses(Family::V6, index).unwrap(), []);
        netlink.set_link_local_from_mac(index, true).unwrap();
        let error = netlink.change_link(4242, &change).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn addresses_are_added_and_copied_without_dad() {
    let setup = [
        "link add name va type veth peer name vb",
        "link set va up",
        "link set vb up",
        "addr add 192.0.2.2/24 brd + dev va label va:one noprefixroute",
        "addr add 192.0.2.3 peer 198.51.100.1/32 dev va",
        "addr add 2001:db8::2/64 dev va nodad valid_lft 1000 preferred_lft 500",
    ];
    in_namespace(&setup, |netlink| {
        let [a, b] = ["va", "vb"].map(|name| netlink.link_named(name).unwrap().unwrap().index);
        for family in [Family::V4, Family::V6] {
            for address in netlink.addresses(family, a).unwrap() {
                assert_eq!(address.index, a);
                if address.global {
                    netlink.copy_address(&address, b).unwrap();
                    let again = netlink.copy_address(&address, b).unwrap_err();
                    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
                }
            }
        }
        let new = NewAddress { index: b, addr: addr("2001:db8:1::9"), prefix_len: 64 };
        netlink.add_address(&new).unwrap();
        let shown = ip("addr show dev vb").unwrap();
        for line in [
            "inet 192.0.2.2/24 brd 192.0.2.255 scope global noprefixroute vb\n",
            "inet 192.0.2.3 peer 198.51.100.1/32 scope global vb\n",
            "inet6 2001:db8::2/64 scope global nodad \n       valid_lft forever",
            "inet6 2001:db8:1::9/64 scope global nodad \n",
        ] {
            assert!(shown.contains(line), "{line:?} is not in:\n{shown}");
        }
        let v4 = netlink.addresses(Family::V4, b).unwrap();
        assert_eq!(v4[0].addr, addr("192.0.2.2"));
        assert!(v4[0].no_prefix_route && v4[0].global && !v4[0].deprecated);
        let v6 = netlink.addresses(Family::V6, b).unwrap();
        assert!(v6.iter().any(|address| address.link_scope && !address.global));
    });
}

#[test]
fn own_addresses_are_local() {
    in_namespace(&PAIR, |netlink| {
        let index = netlink.link_named("va").unwrap().unwrap().index;
        assert!(netlink.is_local(addr("192.0.2.2")).unwrap());
        for other in ["192.0.2.3", "198.51.100.1", "2001:db8::2"] {
            assert!(!netlink.is_local(addr(other)).unwrap(), "{other}");
        }
        let new = NewAddress { index, addr: addr("2001:db8::2"), prefix_len: 64 };
        netlink.add_address(&new).unwrap();
        // The kernel takes its time.
        let end = Instant::now() + Duration::from_secs(10);
        while !netlink.is_local(new.addr).unwrap() {
            assert!(Instant::now() < end, "the address is never in use");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!netlink.is_local(addr("2001:db8::3")).unwrap(), "on the link");
    });
}

#[test]
fn routes_keep_their_attributes_when_copied() {
    let setup = [
        "link add name va type veth peer name vb",
        "link set va up",
        "link set vb up",
        "addr add 192.0.2.2/24 dev va",
        "addr add 2001:db8::2/64 dev va nodad",
        "route add default via 192.0.2.1 dev va metric 50 mtu lock 1400 initcwnd 12",
        "route add 198.51.100.0/24 via 192.0.2.7 dev va src 192.0.2.2 realm 7 congctl reno",
        "route add 203.0.113.0/24 nexthop via 192.0.2.3 dev va weight 5 nexthop via 192.0.2.4 dev va",
        "route add 203.0.114.0/24 via 192.0.2.99 dev va onlink",
        "route add 203.0.115.0/24 via inet6 2001:db8::7 dev va",
        "-6 route add 2001:db8:2::/48 via 2001:db8::1 dev va metric 9 pref high mtu 1300",
        "-6 route add default via fe80::1 dev va",
    ];
    in_namespace(&setup, |netlink| {
        let [a, b] = ["va", "vb"].map(|name| netlink.link_named(name).unwrap().unwrap().index);
        let mut copies = Vec::new();
        for family in [Family::V4, Family::V6] {
            let routes = netlink.routes(family, Some(a)).unwrap();
            let other = netlink.routes(family, Some(b)).unwrap();
            assert!(other.iter().all(|route| route.by_kernel));
            for route in routes {
                assert_eq!(route.retarget(b, a), None);
                copies.extend(route.retarget(a, b));
            }
        }
        ip("link set va down").unwrap();
        ip("link set va up").unwrap();
        let mut failed = Vec::new();
        // Default routes come first in a dump, and depend on those after them.
        for copy in copies.iter().chain(&copies) {
            failed.extend(netlink.copy_route(copy).err());
        }
        let shown = ip("route show").unwrap();
        for line in [
            "default via 192.0.2.1 dev vb metric 50 mtu lock 1400 initcwnd 12",
            "198.51.100.0/24 via 192.0.2.7 dev vb realm 7 congctl reno",
            "nexthop via 192.0.2.3 dev vb weight 5",
            "nexthop via 192.0.2.4 dev vb weight 1",
            "203.0.114.0/24 via 192.0.2.99 dev vb onlink",
            "203.0.115.0/24 via inet6 2001:db8::7 dev vb",
            "192.0.2.0/24 dev vb proto kernel scope link",
        ] {
            assert!(shown.contains(line), "{line:?} is not in:\n{shown}{failed:?}");
        }
        let shown = ip("-6 route show").unwrap();
        for line in [
            "2001:db8:2::/48 via 2001:db8::1 dev vb metric 9 mtu 1300 pref high",
            "default via fe80::1 dev vb",
        ] {
            assert!(shown.contains(line), "{line:?} is not in:\n{shown}{failed:?}");
        }
    });
}

#[test]
fn hops_of_a_multipath_route() {
    let setup = [
        "link add name va type veth peer name vb",
        "link add name vc type bridge",
        "link set va up",
        "link set vb up",
        "link set vc up",
        "addr add 192.0.2.2/24 dev va",
        "addr add 198.51.100.2/24 dev vc",
        "route add default nexthop via 192.0.2.1 dev va weight 3 nexthop via 198.51.100.1 dev vc",
    ];
    in_namespace(&setup, |netlink| {
        let [a, b, c] =
            ["va", "vb", "vc"].map(|name| netlink.link_named(name).unwrap().unwrap().index);
        let routes = netlink.routes(Family::V4, Some(c)).unwrap();
        let default = routes.iter().find(|route| route.prefix_len == 0).unwrap();
        let hop = |index, gateway, weight| NextHop { index, gateway: Some(addr(gateway)), weight };
        assert_eq!(default.hops, [hop(a, "192.0.2.1", 3), hop(c, "198.51.100.1", 1)]);
        assert!(routes.iter().any(|route| route.prefix_len == 24 && route.by_kernel));
        assert_eq!(routes.len(), 2);
        // Only what leads through the template goes along.
        let copy = default.retarget(a, b).unwrap();
        ip("route del default").unwrap();
        ip("addr flush dev va").unwrap();
        ip("addr add 192.0.2.9/24 dev vb").unwrap();
        netlink.copy_route(&copy).unwrap();
        assert!(ip("route show default").unwrap().contains("via 192.0.2.1 dev vb"));
    });
}

#[test]
fn an_unknown_attribute_survives_a_copy() {
    let mut body = vec![u8::from(AddressFamily::Inet), 0, 0, 0, 254, 3, 0, 1];
    // Dead and onlink: state goes, configuration stays.
    body.extend_from_slice(&5_u32.to_ne_bytes());
    push_attribute(&mut body, libc::RTA_OIF, &3_u32.to_ne_bytes());
    push_attribute(&mut body, 0x8000 | 777, b"hello");
    push_attribute(&mut body, libc::RTA_PREFSRC, &[192, 0, 2, 1]);
    push_attribute(&mut body, 30, &9_u32.to_ne_bytes());
    let mut expected = vec![u8::from(AddressFamily::Inet), 0, 0, 0, 254, 3, 0, 1];
    expected.extend_from_slice(&4_u32.to_ne_bytes());
    push_attribute(&mut expected, libc::RTA_OIF, &8_u32.to_ne_bytes());
    push_attribute(&mut expected, 0x8000 | 777, b"hello");
    let route = route::tests_only_parse(&body, Family::V4).unwrap();
    assert_eq!(route.retarget(3, 8), Some(route::tests_only_copy(expected)));
    assert_eq!(route::tests_only_parse(&body, Family::V6), None);
}

#[test]
fn new_routes_and_their_errors() {
    in_namespace(&PAIR, |netlink| {
        let index = netlink.link_named("va").unwrap().unwrap().index;
        let default = NewRoute {
            index,
            destination: (addr("0.0.0.0"), 0),
            gateway: Some(addr("198.51.100.1")),
        };
        let error = netlink.add_route(&default).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
        let on_link = NewRoute { index, destination: (addr("198.51.100.1"), 32), gateway: None };
        netlink.add_route(&on_link).unwrap();
        netlink.add_route(&default).unwrap();
        let error = netlink.add_route(&default).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        let shown = ip("route show").unwrap();
        assert!(shown.contains("default via 198.51.100.1 dev va"), "{shown}");
        assert!(shown.contains("198.51.100.1 dev va scope link"), "{shown}");
        let v6 = NewRoute { index, destination: (addr("::"), 0), gateway: Some(addr("fe80::1")) };
        netlink.add_route(&v6).unwrap();
        assert!(ip("-6 route show").unwrap().contains("default via fe80::1 dev va"));
    });
}

#[test]
fn neighbours_are_listed_and_announced() {
    in_namespace(&PAIR, |netlink| {
        let index = netlink.link_named("va").unwrap().unwrap().index;
        let mut monitor = NeighbourMonitor::open().unwrap();
        ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:4d dev va").unwrap();
        let known = Neighbour { index, addr: addr("192.0.2.77"), mac: Some([2, 0, 0, 0, 0, 0x4d]) };
        assert_eq!(netlink.neighbours(Family::V4, index).unwrap(), [known]);
        let mut news = Vec::new();
        monitor.read(&mut |neighbour| news.push(neighbour)).unwrap();
        assert!(news.contains(&known), "{news:?}");
        ip("neigh del 192.0.2.77 dev va").unwrap();
        news.clear();
        monitor.read(&mut |neighbour| news.push(neighbour)).unwrap();
        assert_eq!(news.last(), Some(&Neighbour { mac: None, ..known }));
    });
}

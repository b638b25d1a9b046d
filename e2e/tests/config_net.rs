//! `--config-net`: what the namespace looks like beside the host, and what options make of it.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use serde_json::Value;
use std::fs;
use testkit::peer::stream;
use testkit::{Pasta, Place};

matrix!(users:
    addresses_like_the_host, routes_like_the_host, link, loopback_is_up, names_and_macs,
    address_given, gateway_given, mtu_zero, no_second_address_by_ra, several_addresses,
    dependent_routes, no_copy, multipath_default, gateway_of_the_other_family, interface_chosen,
    local_mode, local_mode_v4_alone, no_protocols, dropped_privileges, addresses_work_at_once,
);

fn json(case: &Case<'_>, place: &Place, argv: &[&str]) -> Result<Vec<Value>> {
    let text = case.rig.run(place, SHORT, argv)?;
    serde_json::from_str(&text).with_context(|| format!("{argv:?}: {text}"))
}

fn host(case: &Case<'_>, line: &str) -> Result<()> {
    let argv: Vec<&str> = line.split_whitespace().collect();
    case.rig.run(&Place::Host, SHORT, &argv).map(drop)
}

/// Global addresses of `eth0` as `ADDR/LEN`, sorted.
fn addresses(case: &Case<'_>, place: &Place, name: &str) -> Result<Vec<String>> {
    let links = json(case, place, &["ip", "-j", "addr", "show", "dev", name, "scope", "global"])?;
    let infos = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    let mut all = Vec::new();
    for info in infos {
        ensure!(info["tentative"].is_null() && info["dadfailed"].is_null(), "{info}");
        // What the filter left out is an empty object.
        if let Some(local) = info["local"].as_str() {
            all.push(format!("{local}/{}", info["prefixlen"]));
        }
    }
    all.sort();
    Ok(all)
}

/// Routes of a family as text without what may differ: source, preference, metric of the kernel.
fn routes(case: &Case<'_>, place: &Place, family: &str) -> Result<Vec<String>> {
    let argv = ["ip", "-j", family, "route", "show", "table", "main"];
    let mut all = Vec::new();
    for route in json(case, place, &argv)? {
        let field = |name: &str| route[name].as_str().unwrap_or("-").to_owned();
        let (dst, gateway) = (field("dst"), field("gateway"));
        if dst != "fe80::/64" {
            all.push(format!("{dst} via {gateway} dev {}", field("dev")));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn addresses_like_the_host(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let ours = addresses(case, &guest.place(), "eth0")?;
    ensure!(ours == addresses(case, &Place::Host, "eth0")?, "{ours:?}");
    ensure!(ours == ["2001:db8:51::2/64", "203.0.113.2/24"], "{ours:?}");
    let argv = ["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"];
    let local = case.rig.run(&guest.place(), SHORT, &argv)?;
    ensure!(local.lines().count() == 1 && !local.contains("tentative"), "{local}");
    Ok(())
}

fn routes_like_the_host(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    same_routes(case, &guest)
}

fn same_routes(case: &Case<'_>, guest: &Pasta) -> Result<()> {
    for family in ["-4", "-6"] {
        let (ours, theirs) =
            (routes(case, &guest.place(), family)?, routes(case, &Place::Host, family)?);
        ensure!(ours == theirs, "{ours:?}, but {theirs:?} on the host");
    }
    // One route for the prefix on the link is enough.
    let text =
        case.rig.run(&guest.place(), SHORT, &["ip", "-4", "route", "show", "203.0.113.0/24"])?;
    ensure!(text.lines().count() == 1, "{text}");
    Ok(())
}

fn link(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "link", "show", "eth0"])?;
    ensure!(text.contains(" mtu 65520 "), "{text}");
    ensure!(text.contains("LOWER_UP") && !text.contains("NOARP"), "{text}");
    Ok(())
}

fn loopback_is_up(case: &Case<'_>) -> Result<()> {
    for options in [&["--config-net"][..], &[]] {
        let guest = case.pasta()?.args(options).start_hold()?;
        let text = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "addr", "show", "lo"])?;
        ensure!(text.contains("127.0.0.1/8") && text.contains("::1/128"), "{text}");
    }
    Ok(())
}

fn names_and_macs(case: &Case<'_>) -> Result<()> {
    let argv = ["-I", "net7", "--ns-mac-addr", "52:54:00:ab:cd:ef", "-M", "02:00:00:00:00:99"];
    let guest = case.guest(&argv)?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "link", "show", "net7"])?;
    ensure!(text.contains("52:54:00:ab:cd:ef"), "{text}");
    let argv = ["ping", "-n", "-c", "1", "-W", "3", "203.0.113.10"];
    case.rig.run(&guest.place(), SHORT, &argv)?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "neigh"])?;
    let router = text.lines().filter(|line| line.contains("203.0.113.10"));
    ensure!(router.clone().count() == 1, "{text}");
    Ok(())
}

fn address_given(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    for (options, wanted) in [
        (&["-a", "192.0.2.7", "-n", "28"][..], "192.0.2.7/28"),
        (&["-a", "192.0.2.7/29"], "192.0.2.7/29"),
        (&["-n", "255.255.255.128", "-a", "192.0.2.7"], "192.0.2.7/25"),
        (&["-a", "10.9.8.7"], "10.9.8.7/8"),
        (&["-a", "2001:db8:77::7"], "2001:db8:77::7/64"),
    ] {
        let guest = case.guest(options)?;
        let all = addresses(case, &guest.place(), "eth0")?;
        ensure!(all.contains(&wanted.to_owned()) && all.len() == 2, "{options:?}: {all:?}");
        if !wanted.contains(':') {
            let got = case.ask(&guest.place(), "get", case.family.peer(), "1000")?;
            ensure!(got == stream::sum(1000), "{options:?}: {got}");
        }
    }
    Ok(())
}

fn gateway_given(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&["-g", "203.0.113.200", "-g", "fe80::200"])?;
    let v4 = routes(case, &guest.place(), "-4")?;
    ensure!(v4.contains(&"default via 203.0.113.200 dev eth0".to_owned()), "{v4:?}");
    let v6 = routes(case, &guest.place(), "-6")?;
    ensure!(v6.contains(&"default via fe80::200 dev eth0".to_owned()), "{v6:?}");
    let _server = case.server()?;
    let got = case.ask(&guest.place(), "get", case.family.far(), "1000");
    ensure!(got.is_err(), "nobody listens on far");
    let got = case.ask(&guest.place(), "get", case.family.peer(), "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    Ok(())
}

fn mtu_zero(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&["-m", "0"])?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "link", "show", "eth0"])?;
    ensure!(text.contains(" mtu 1500 "), "{text}");
    Ok(())
}

/// No router advertisement is sent or answered: the kernel would add an address and a route.
fn no_second_address_by_ra(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    if case.rig.needs(&["rdisc6"]).is_ok() {
        let argv = ["rdisc6", "-1", "-r", "1", "-w", "1500", "eth0"];
        let outcome = case.rig.outcome(&guest.place(), testkit::User::Root, SHORT, &argv)?;
        ensure!(outcome.code() != Some(0), "{outcome:?}");
    }
    let all = addresses(case, &guest.place(), "eth0")?;
    ensure!(all.len() == 2, "{all:?}");
    let v6 = routes(case, &guest.place(), "-6")?;
    ensure!(v6.iter().filter(|line| line.starts_with("default")).count() == 1, "{v6:?}");
    Ok(())
}

fn several_addresses(case: &Case<'_>) -> Result<()> {
    host(case, "ip addr add 203.0.113.22/24 dev eth0")?;
    host(case, "ip addr add 192.0.2.99/28 dev eth0 label eth0:1")?;
    host(case, "ip addr add 2001:db8:51::22/64 dev eth0 nodad")?;
    let guest = case.guest(&[])?;
    let ours = addresses(case, &guest.place(), "eth0")?;
    ensure!(ours == addresses(case, &Place::Host, "eth0")? && ours.len() == 5, "{ours:?}");
    Ok(())
}

/// A default route through a gateway that needs another route first.
fn dependent_routes(case: &Case<'_>) -> Result<()> {
    host(case, "ip route del default")?;
    host(case, "ip route add 10.11.12.13/32 dev eth0")?;
    host(case, "ip route add default via 10.11.12.13 dev eth0 metric 77")?;
    host(case, "ip route add 10.50.0.0/16 via 203.0.113.1")?;
    host(case, "ip -6 route add 2001:db8:5000::/48 via fe80::1 dev eth0 metric 5")?;
    let guest = case.guest(&[])?;
    same_routes(case, &guest)?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "route", "show", "default"])?;
    ensure!(text.contains("metric 77"), "{text}");
    Ok(())
}

fn no_copy(case: &Case<'_>) -> Result<()> {
    host(case, "ip addr add 203.0.113.22/24 dev eth0")?;
    host(case, "ip route add 10.50.0.0/16 via 203.0.113.1")?;
    let guest = case.guest(&["--no-copy-routes", "--no-copy-addrs"])?;
    let all = addresses(case, &guest.place(), "eth0")?;
    ensure!(all == ["2001:db8:51::2/64", "203.0.113.2/24"], "{all:?}");
    let v4 = routes(case, &guest.place(), "-4")?;
    ensure!(!v4.iter().any(|line| line.contains("10.50")), "{v4:?}");
    ensure!(v4.contains(&"default via 203.0.113.1 dev eth0".to_owned()), "{v4:?}");
    Ok(())
}

/// The gateway is that of the highest weight, the first of equals.
fn multipath_default(case: &Case<'_>) -> Result<()> {
    host(case, "ip route del default")?;
    host(
        case,
        "ip route add default nexthop via 203.0.113.3 dev eth0 weight 1 \
         nexthop via 203.0.113.1 dev eth0 weight 3 nexthop via 203.0.113.5 dev eth0 weight 3",
    )?;
    let _server = case.rig.serve(&Place::Host, "127.0.0.1".parse()?, e2e::PORT)?;
    let guest = case.guest(&[])?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "route", "show", "default"])?;
    ensure!(text.contains("203.0.113.3") && text.contains("203.0.113.5"), "{text}");
    // The chosen one is mapped to the host's loopback.
    let got = case.ask(&guest.place(), "get", "203.0.113.1".parse()?, "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    Ok(())
}

/// An IPv4 default route through an IPv6 next hop.
fn gateway_of_the_other_family(case: &Case<'_>) -> Result<()> {
    host(case, "ip route del default")?;
    host(case, "ip -4 route add default via inet6 fe80::1 dev eth0")?;
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "route", "show", "default"])?;
    ensure!(text.contains("inet6 fe80::1"), "{text}");
    let got = case.ask(&guest.place(), "get", case.family.peer(), "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    Ok(())
}

fn interface_chosen(case: &Case<'_>) -> Result<()> {
    host(case, "ip link add net9 type veth peer name net9b")?;
    host(case, "ip link set net9b up")?;
    host(case, "ip link set net9 up")?;
    host(case, "ip addr add 192.0.2.130/25 dev net9")?;
    host(case, "ip addr add 2001:db8:9::9/64 dev net9 nodad")?;
    host(case, "ip route add 10.99.0.0/16 via 192.0.2.129 dev net9")?;
    let guest = case.guest(&["-i", "net9"])?;
    let all = addresses(case, &guest.place(), "net9")?;
    ensure!(all == ["192.0.2.130/25", "2001:db8:9::9/64"], "{all:?}");
    let v4 = routes(case, &guest.place(), "-4")?;
    ensure!(v4.contains(&"10.99.0.0/16 via 192.0.2.129 dev net9".to_owned()), "{v4:?}");
    Ok(())
}

/// Without any interface as a template the namespace gets link-local addresses and a gateway that
/// is the host.
fn local_mode(case: &Case<'_>) -> Result<()> {
    host(case, "ip link set eth0 down")?;
    let _server = case.rig.serve(&Place::Host, "127.0.0.1".parse()?, e2e::PORT)?;
    let _server6 = case.rig.serve(&Place::Host, "::1".parse()?, e2e::PORT)?;
    let guest = case.guest(&[])?;
    let argv = ["ip", "-o", "-4", "addr", "show", "dev", "tap0"];
    let text = case.rig.run(&guest.place(), SHORT, &argv)?;
    ensure!(text.contains("169.254.2.1/16"), "{text}");
    let v4 = routes(case, &guest.place(), "-4")?;
    ensure!(v4.contains(&"default via 169.254.2.2 dev tap0".to_owned()), "{v4:?}");
    let v6 = routes(case, &guest.place(), "-6")?;
    ensure!(v6.contains(&"default via fe80::1 dev tap0".to_owned()), "{v6:?}");
    let got = case.ask(&guest.place(), "get", "169.254.2.2".parse()?, "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    let argv = ["ping", "-6", "-n", "-c", "1", "-W", "3", "fe80::1%tap0"];
    case.rig.run(&guest.place(), SHORT, &argv).map(drop)
}

fn local_mode_v4_alone(case: &Case<'_>) -> Result<()> {
    host(case, "ip -4 addr flush dev eth0")?;
    let _server = case.rig.serve(&Place::Outside, testkit::Family::V6.peer(), e2e::PORT)?;
    let guest = case.guest(&[])?;
    let all = addresses(case, &guest.place(), "eth0")?;
    ensure!(all.contains(&"2001:db8:51::2/64".to_owned()), "{all:?}");
    let text = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "-4", "addr"])?;
    ensure!(text.contains("169.254.2.1/16"), "{text}");
    let got = case.ask(&guest.place(), "get", testkit::Family::V6.peer(), "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    Ok(())
}

fn no_protocols(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let peer = case.family.peer();
    let guest = case.guest(&["--no-tcp", "-t", "none", "-T", "none"])?;
    let got = case.rig.peer(&guest.place(), SHORT, &format!("udp-echo {peer} 5000 100"))?;
    ensure!(got == "ok", "{got}");
    let guest = case.guest(&["--no-udp", "-u", "none", "-U", "none"])?;
    let got = case.ask(&guest.place(), "udp-echo", peer, "100");
    ensure!(got.is_err(), "UDP although --no-udp");
    let got = case.ask(&guest.place(), "get", peer, "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    let guest = case.guest(&["--no-icmp"])?;
    let argv = ["ping", "-n", "-c", "1", "-W", "1", "203.0.113.10"];
    let outcome = case.rig.outcome(&guest.place(), testkit::User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    Ok(())
}

/// What moves the data has no capabilities and is not root.
fn dropped_privileges(case: &Case<'_>) -> Result<()> {
    let mut guest = case.guest(&[])?;
    let _server = case.server()?;
    let got = case.ask(&guest.place(), "get", case.family.peer(), "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    let pid = guest.proc().pid();
    let mut without = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        without += usize::from(status.contains("CapEff:\t0000000000000000"));
        ensure!(!status.contains("Uid:\t0\t"), "{status}");
    }
    ensure!(without > 0, "every thread has capabilities");
    Ok(())
}

/// The command finds its addresses in use, however busy the kernel is: the routes by which a namespace
/// knows its IPv6 addresses for its own come later than these, from a queue that all namespaces share.
fn addresses_work_at_once(case: &Case<'_>) -> Result<()> {
    let file = case.rig.tmp().join("busy");
    let line = |i| format!("addr add 2001:db8:b::{i:x}/128 dev lo nodad\n");
    fs::write(&file, (1..=400).map(line).collect::<String>())?;
    let others = r#"while :; do unshare --net sh -c 'ip link set lo up; ip -b "$0"' "$0"; done"#;
    let argv = ["sh", "-c", others, &file.display().to_string()];
    let _busy = [case.rig.start(&Place::Host, &argv)?, case.rig.start(&Place::Host, &argv)?];
    let script = "ip -6 route get 2001:db8:51::2; ip -6 addr show dev eth0";
    for start in 1..=40 {
        let pasta = case.pasta()?.args(&["--config-net", "--", "sh", "-c", script]);
        let text = pasta.run(SHORT)?.ok("pasta")?;
        ensure!(text.starts_with("local "), "start {start}: {text}");
    }
    Ok(())
}

//! Hosts and guests that are not like the others.

#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use e2e::{Case, PORT, SHORT, matrix};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use testkit::peer::stream;
use testkit::{Family, Pasta, Place, Proc, User, until};

matrix!(all:
    tap_goes_down_and_up, guest_changes_its_mac, guest_uses_another_address, source_port_taken,
    source_port_privileged, one_socket_two_peers, black_hole,
);
matrix!(users:
    address_of_32_bits, address_of_32_bits_by_dhcp, point_to_point, template_without_gateway,
    many_routes, nexthop_objects, route_from_an_advertisement, lowest_metric_wins, name_taken,
    tap_deleted, arguments_that_are_not_utf8, limits_and_directory_unchanged,
);

fn run(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<&str> = line.split_whitespace().collect();
    case.rig.run(place, SHORT, &argv)
}

fn host(case: &Case<'_>, lines: &[&str]) -> Result<()> {
    lines.iter().try_for_each(|line| run(case, &Place::Host, line).map(drop))
}

/// TCP, UDP and echo reach the usual peer.
fn works(case: &Case<'_>, guest: &Pasta) -> Result<()> {
    let (place, peer) = (guest.place(), case.family.peer());
    let _server = case.server()?;
    let got = case.ask(&place, "get", peer, "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    let got = case.ask(&place, "udp-echo", peer, "1000")?;
    ensure!(got == "ok", "{got}");
    run(case, &place, &format!("ping -n -c 1 -W 3 {peer}")).map(drop)
}

fn default_route(case: &Case<'_>, place: &Place) -> Result<()> {
    let line = if case.family == Family::V4 {
        "ip route replace default via 203.0.113.1"
    } else {
        "ip -6 route replace default via fe80::1 dev eth0"
    };
    run(case, place, line).map(drop)
}

fn tap_goes_down_and_up(case: &Case<'_>) -> Result<()> {
    let mut guest = case.guest(&[])?;
    let place = guest.place();
    works(case, &guest)?;
    let server = case.server()?;
    let client = format!("get {} {PORT} {}", case.family.peer(), 1_u64 << 40);
    let client = case.rig.start_peer(&place, &client)?;
    std::thread::sleep(Duration::from_millis(200));
    // In the middle of a transfer; IPv6 addresses go with the link.
    run(case, &place, "ip link set eth0 down")?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(guest.proc().running()?, "pasta ended: {}", guest.proc().stderr());
    drop((client, server));
    run(case, &place, "ip link set eth0 up")?;
    run(case, &place, "ip -6 addr replace 2001:db8:51::2/64 dev eth0 nodad")?;
    default_route(case, &place)?;
    works(case, &guest)
}

fn guest_changes_its_mac(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    works(case, &guest)?;
    run(case, &guest.place(), "ip link set eth0 address 52:54:00:12:34:56")?;
    works(case, &guest)
}

/// As a bridge in the namespace does it.
fn guest_uses_another_address(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let (add, del) = if case.family == Family::V4 {
        ("ip addr add 203.0.113.66/24 dev eth0", "ip addr del 203.0.113.2/24 dev eth0")
    } else {
        ("ip addr add 2001:db8:51::66/64 dev eth0 nodad", "ip addr del 2001:db8:51::2/64 dev eth0")
    };
    run(case, &guest.place(), del)?;
    run(case, &guest.place(), add)?;
    default_route(case, &guest.place())?;
    works(case, &guest)
}

/// A program of the host has the port from which the guest sends. The datagram must go all the same.
fn source_port_taken(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    let listen = if case.family == Family::V4 { "UDP4-RECV:45678" } else { "UDP6-RECV:45678" };
    let _taken = case.rig.start(&Place::Host, &["socat", "-u", listen, "STDOUT"])?;
    until("the program on the host", SHORT, || {
        run(case, &Place::Host, "ss -Hlun sport = :45678").is_ok_and(|t| !t.trim().is_empty())
    })?;
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "udp-who", case.family.peer(), "45678")?;
    ensure!(got.starts_with(&case.family.host().to_string()), "{got}");
    Ok(())
}

/// So must one from a port that the user may not have on the host, such as that of NTP.
fn source_port_privileged(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "udp-who", case.family.peer(), "123")?;
    ensure!(got.starts_with(&case.family.host().to_string()), "{got}");
    Ok(())
}

fn one_socket_two_peers(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let _second = case.rig.serve(&Place::Outside, case.family.dns(), PORT)?;
    let guest = case.guest(&[])?;
    let args = case.family.dns().to_string();
    let got = case.ask(&guest.place(), "udp-pair", case.family.peer(), &args)?;
    ensure!(got == "2", "{got} of 2 answered");
    Ok(())
}

/// Connections into nothing end when the guest gives up, and leave nothing behind.
fn black_hole(case: &Case<'_>) -> Result<()> {
    let (route, addr) = if case.family == Family::V4 {
        ("ip route add blackhole 198.18.68.0/24", "198.18.68.1")
    } else {
        ("ip -6 route add blackhole 2001:db8:68::/64", "2001:db8:68::1")
    };
    run(case, &Place::Outside, route)?;
    // An IPv6 black hole of the router would answer; dropped there, nothing comes back.
    run(case, &Place::Outside, "nft add table inet t")?;
    run(
        case,
        &Place::Outside,
        "nft add chain inet t f { type filter hook forward priority 0 ; policy drop ; }",
    )?;
    run(
        case,
        &Place::Outside,
        "nft add chain inet t p { type filter hook prerouting priority 0 ; }",
    )?;
    let family = if case.family == Family::V4 { "ip" } else { "ip6" };
    run(case, &Place::Outside, &format!("nft add rule inet t p {family} daddr {addr} drop"))?;
    let mut guest = case.guest(&[])?;
    let pid = guest.proc().pid();
    let sockets = || std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let before = sockets();
    let line = format!("timeout 2 {} connect {addr} {PORT}", case.rig.helper().display());
    let argv: Vec<&str> = line.split_whitespace().collect();
    let outcome = case.rig.outcome(&guest.place(), User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(124), "{outcome:?}");
    works(case, &guest)?;
    ensure!(sockets() <= before + 8, "{} descriptors, {before} before", sockets());
    Ok(())
}

/// As some providers assign addresses: no prefix, a gateway that is on the link all the same.
fn address_of_32_bits(case: &Case<'_>) -> Result<()> {
    thirty_two(case)?;
    let guest = case.guest(&[])?;
    let text = run(case, &guest.place(), "ip -o -4 addr show dev eth0")?;
    ensure!(text.contains("203.0.113.2/32"), "{text}");
    let text = run(case, &guest.place(), "ip route show default")?;
    ensure!(text.contains("via 203.0.113.1") && text.contains("onlink"), "{text}");
    works(case, &guest)
}

fn thirty_two(case: &Case<'_>) -> Result<()> {
    host(
        case,
        &[
            "ip addr del 203.0.113.2/24 dev eth0",
            "ip addr add 203.0.113.2/32 dev eth0",
            "ip route add default via 203.0.113.1 dev eth0 onlink",
        ],
    )?;
    run(case, &Place::Outside, "ip route add 203.0.113.2/32 dev out0").map(drop)
}

/// The route to the gateway comes as a classless static route.
fn address_of_32_bits_by_dhcp(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["udhcpc"])?;
    thirty_two(case)?;
    let script = "/run/rig/tmp/script";
    let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\necho \"routes=$staticroutes\"\n\
        ip addr add $ip/$mask dev $interface\nset -- $staticroutes\n\
        while [ $# -gt 1 ]; do\n\
        if [ $2 = 0.0.0.0 ]; then ip route add $1 dev $interface; \
        else ip route add $1 via $2 dev $interface; fi; shift 2; done\n";
    std::fs::write(script, text)?;
    run(case, &Place::Host, &format!("chmod 755 {script}"))?;
    let guest = case.pasta()?.start_hold()?;
    run(case, &guest.place(), "ip link set eth0 up")?;
    let line = format!("udhcpc -i eth0 -n -q -f -t 5 -T 1 -O 121 -s {script}");
    let text = run(case, &guest.place(), &line)?;
    ensure!(text.contains("routes=203.0.113.1/32 0.0.0.0 0.0.0.0/0 203.0.113.1"), "{text}");
    works(case, &guest)
}

fn point_to_point(case: &Case<'_>) -> Result<()> {
    host(case, &["ip addr add 10.6.0.1 peer 10.6.0.2/32 dev eth0"])?;
    let guest = case.guest(&[])?;
    let text = run(case, &guest.place(), "ip -o -4 addr show dev eth0")?;
    ensure!(text.contains("10.6.0.1 peer 10.6.0.2/32"), "{text}");
    Ok(())
}

/// A tunnel as the default route: no MAC address, no gateway. Here it leads nowhere, but the guest
/// takes what the host has, and the host sends to the peer by its own link. (Without a link-local
/// address IPv6 has no template; IPv6 works through the addresses of the local mode.)
fn template_without_gateway(case: &Case<'_>) -> Result<()> {
    host(
        case,
        &[
            "ip route del default",
            "ip -6 route del default",
            "ip tuntap add tunnel0 mode tun",
            "ip link set tunnel0 up",
            "ip addr add 10.8.0.2/32 dev tunnel0",
            "ip addr add 2001:db8:8::2/128 dev tunnel0 nodad",
            "ip route add default dev tunnel0",
            "ip -6 route add default dev tunnel0",
        ],
    )?;
    let guest = case.guest(&[])?;
    let text = run(case, &guest.place(), "ip -o addr show dev tunnel0")?;
    ensure!(text.contains("10.8.0.2/32"), "{text}");
    works(case, &guest)?;
    let six = Case { rig: case.rig, user: case.user, family: Family::V6 };
    works(&six, &guest)
}

/// More routes than fit into one message.
fn many_routes(case: &Case<'_>) -> Result<()> {
    let mut batch = String::new();
    for i in 0..3000 {
        let (high, low) = (i / 250, i % 250);
        batch += &format!("route add 10.{}.{low}.0/24 via 203.0.113.1\n", 100 + high);
    }
    let path = "/run/rig/tmp/batch";
    std::fs::write(path, batch)?;
    run(case, &Place::Host, &format!("ip -b {path}"))?;
    let guest = case.guest(&[])?;
    let count = run(case, &guest.place(), "ip -4 route show")?.lines().count();
    let wanted = run(case, &Place::Host, "ip -4 route show")?.lines().count();
    ensure!(count == wanted && wanted > 3000, "{count} of {wanted} routes");
    works(case, &guest)
}

/// A route that names a next-hop object, which does not exist in the namespace.
fn nexthop_objects(case: &Case<'_>) -> Result<()> {
    host(
        case,
        &[
            "ip nexthop add id 5 via 203.0.113.1 dev eth0",
            "ip route add 10.77.0.0/16 nhid 5",
            "ip route replace default nhid 5",
        ],
    )?;
    let guest = case.guest(&[])?;
    let text = run(case, &guest.place(), "ip -4 route show")?;
    ensure!(text.contains("10.77.0.0/16 via 203.0.113.1 dev eth0"), "{text}");
    ensure!(text.contains("default via 203.0.113.1 dev eth0"), "{text}");
    works(case, &guest)
}

/// Routes with a lifetime, as an advertisement makes them.
fn route_from_an_advertisement(case: &Case<'_>) -> Result<()> {
    host(
        case,
        &[
            "ip -6 route del default",
            "ip -6 route add default via fe80::1 dev eth0 proto ra metric 1024 expires 1800",
            "ip -6 addr change 2001:db8:51::2/64 dev eth0 valid_lft 1800 preferred_lft 900",
        ],
    )?;
    let guest = case.guest(&[])?;
    let text = run(case, &guest.place(), "ip -6 addr show dev eth0 scope global")?;
    ensure!(text.contains("valid_lft forever"), "the address will expire: {text}");
    let text = run(case, &guest.place(), "ip -6 route show default")?;
    ensure!(text.contains("via fe80::1"), "{text}");
    ensure!(!text.contains("expires"), "the route will expire, and nobody renews it: {text}");
    let six = Case { rig: case.rig, user: case.user, family: Family::V6 };
    works(&six, &guest)
}

fn lowest_metric_wins(case: &Case<'_>) -> Result<()> {
    host(
        case,
        &[
            "ip route del default",
            "ip link add net9 type veth peer name net9b",
            "ip link set net9b up",
            "ip link set net9 up",
            "ip addr add 192.0.2.130/25 dev net9",
            "ip route add default via 192.0.2.129 dev net9 metric 600",
            "ip route add default via 203.0.113.1 dev eth0 metric 100",
        ],
    )?;
    let guest = case.guest(&["-4"])?;
    let text = run(case, &guest.place(), "ip -o -4 addr show dev eth0")?;
    ensure!(text.contains("203.0.113.2/24"), "{text}");
    works(case, &guest)
}

/// An interface of that name is there, and it is no tap.
fn name_taken(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    run(case, &holder.place(), "ip link add eth0 type veth peer name other")?;
    let pid = holder.pid().to_string();
    let outcome = case.pasta()?.args(&["--config-net", &pid]).run(SHORT)?;
    ensure!(outcome.code() == Some(1) && !outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

/// Without its tap there is nothing to do: pasta ends, or at least does not spin.
fn tap_deleted(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let pid = holder.pid().to_string();
    let mut pasta = case.pasta()?.args(&["-f", "--config-net", &pid]).start()?;
    until("the tap", SHORT, || run(case, &holder.place(), "ip link show eth0").is_ok())?;
    run(case, &holder.place(), "ip link del eth0")?;
    until("pasta's end", Duration::from_secs(5), || matches!(pasta.running(), Ok(false)))?;
    let outcome = pasta.finish(SHORT)?;
    ensure!(outcome.code() == Some(1) && !outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

fn arguments_that_are_not_utf8(case: &Case<'_>) -> Result<()> {
    let mut command = case.pasta()?.args(&["--config-net", "--", "sh", "-c"]).command();
    command.arg("printf '%s' \"$1$MARK\" | od -An -tx1").arg("sh");
    command.arg(OsStr::from_bytes(b"a\xff\xfeb")).env("MARK", OsStr::from_bytes(b"\x80"));
    let text = Proc::run(command, SHORT)?.ok("od")?;
    ensure!(text.split_whitespace().eq(["61", "ff", "fe", "62", "80"]), "{text}");
    Ok(())
}

fn limits_and_directory_unchanged(case: &Case<'_>) -> Result<()> {
    let script = "ulimit -Sn; ulimit -Hn; pwd; umask; cat /proc/self/oom_score_adj";
    let argv = ["--config-net", "--", "sh", "-c", script];
    let inside = case.pasta()?.args(&argv).run(SHORT)?.ok("sh")?;
    let argv = ["sh", "-c", script];
    let outside = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?.ok("sh")?;
    ensure!(inside == outside, "{inside}, but {outside} outside");
    Ok(())
}

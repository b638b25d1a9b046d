//! What pasta gives to a namespace that configures itself: DHCP, DHCPv6, router advertisements,
//! asked for by real clients. Every exchange is captured, and tshark must find nothing malformed.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use pcap_file::pcap::PcapReader;
use std::fs::File;
use std::time::Duration;
use testkit::peer::stream;
use testkit::{Family, Pasta, Place, Proc, User, until};

matrix!(users:
    dhclient_v4, udhcpc, slaac, dhclient_v6, dhclient_v6_information, rdisc6, rdisc6_search_list_of_every_length, neighbours, arping_foreign,
    no_services, tour_is_well_formed, pcap_that_cannot_be_written,
);

const PCAP: &str = "/run/rig/tmp/guest.pcap";

/// A namespace in which nothing but `lo` is configured, captured.
fn bare(case: &Case<'_>, options: &[&str]) -> Result<Pasta> {
    let pasta = case.pasta()?.args(&["--pcap", PCAP, "--dhcp-dns", "--dhcp-search"]);
    pasta.args(options).start_hold()
}

/// Runs a line at `place`; it must end with 0.
fn run(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<&str> = line.split_whitespace().collect();
    case.rig.run(place, SHORT, &argv)
}

fn up(case: &Case<'_>, place: &Place) -> Result<()> {
    run(case, place, "ip link set eth0 up").map(drop)
}

/// Waits for the kernel's link-local address, from which the clients speak.
fn link_local(case: &Case<'_>, place: &Place) -> Result<()> {
    let line = "ip -6 -o addr show dev eth0 scope link";
    until("a link-local address", SHORT, || {
        run(case, place, line)
            .is_ok_and(|text| text.contains("fe80::") && !text.contains("tentative"))
    })
}

/// The namespace reaches the outside in `family`.
fn works(case: &Case<'_>, place: &Place, family: Family) -> Result<()> {
    let _server = case.rig.serve(&Place::Outside, family.peer(), e2e::PORT)?;
    let got = case.ask(place, "get", family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

/// Ends pasta and reads its capture twice: with pcap-file, and with tshark, which must find no
/// malformed packet. Returns the number of packets.
fn check_capture(case: &Case<'_>, guest: Pasta) -> Result<usize> {
    let outcome = guest.finish()?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let mut reader = PcapReader::new(File::open(PCAP)?).context("not a capture")?;
    ensure!(reader.header().datalink == pcap_file::DataLink::ETHERNET, "{:?}", reader.header());
    let (mut count, mut last) = (0, Duration::ZERO);
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        ensure!(packet.data.len() >= 14, "a frame of {} bytes", packet.data.len());
        ensure!(packet.data.len() == packet.orig_len as usize, "a cut packet");
        // Frames of one burst may share a time, none is from the past (1 s is a clock's leap).
        ensure!(packet.timestamp + Duration::from_secs(1) > last, "times run backwards");
        last = packet.timestamp;
        count += 1;
    }
    case.rig.needs(&["tshark"])?;
    tshark_finds_none(case, "_ws.malformed or _ws.unreassembled")?;
    // The headers' checksums are pasta's; those of payloads may be left to the guest's kernel.
    tshark_finds_none(
        case,
        "ip.checksum.status == 0 or icmp.checksum.status == 0 or icmpv6.checksum.status == 0",
    )?;
    Ok(count)
}

fn tshark_finds_none(case: &Case<'_>, filter: &str) -> Result<()> {
    // The port of the test's own stream is somebody else's protocol to tshark.
    let mut argv = vec!["tshark", "-n", "-r", PCAP, "-o", "ip.check_checksum:TRUE"];
    argv.extend(["-d", "tcp.port==5000,data", "-d", "udp.port==5000,data", "-Y", filter]);
    let bad = Proc::run(case.rig.command(&Place::Host, User::Root, &argv), SHORT * 2)?;
    let bad = bad.ok("tshark")?;
    ensure!(bad.trim().is_empty(), "tshark finds '{filter}':\n{bad}");
    Ok(())
}

/// dhclient wants its file of leases to be there.
fn leases() -> Result<&'static str> {
    let path = "/run/rig/tmp/dhclient.leases";
    File::create(path)?;
    Ok(path)
}

fn dhclient_v4(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["dhclient"])?;
    let guest = bare(case, &["-H", "box", "-m", "9000"])?;
    let place = guest.place();
    let lease = leases()?;
    run(case, &place, &format!("dhclient -4 -1 -v -lf {lease} -pf /run/rig/tmp/dhc.pid eth0"))?;
    let text = std::fs::read_to_string(lease)?;
    for wanted in [
        "fixed-address 203.0.113.2",
        "subnet-mask 255.255.255.0",
        "routers 203.0.113.1",
        "domain-name-servers 203.0.113.53",
        "domain-search \"rig.example.\"",
        "interface-mtu 9000",
        "dhcp-server-identifier 203.0.113.1",
        "host-name \"box\"",
    ] {
        // The MTU and the search list are in the lease only if the client asked for them.
        let optional = wanted.starts_with("interface-mtu") && !text.contains("interface-mtu");
        ensure!(optional || text.contains(wanted), "no {wanted} in {text}");
    }
    let text = run(case, &place, "ip -4 -o addr show dev eth0")?;
    ensure!(text.contains("203.0.113.2/24"), "{text}");
    works(case, &place, Family::V4)?;
    run(case, &place, "pkill -F /run/rig/tmp/dhc.pid")?;
    check_capture(case, guest).map(drop)
}

fn udhcpc(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["udhcpc"])?;
    let guest = bare(case, &[])?;
    let place = guest.place();
    up(case, &place)?;
    let script = "/run/rig/tmp/udhcpc.script";
    std::fs::write(script, UDHCPC)?;
    run(case, &place, &format!("chmod 755 {script}"))?;
    let line = format!("udhcpc -i eth0 -n -q -f -t 5 -T 1 -O search -O mtu -s {script}");
    let text = run(case, &place, &line)?;
    for wanted in ["dns=203.0.113.53", "search=rig.example", "router=203.0.113.1", "mtu=65520"] {
        ensure!(text.contains(wanted), "no {wanted}: {text}");
    }
    works(case, &place, Family::V4)?;
    check_capture(case, guest).map(drop)
}

/// What a distribution's script does, without touching the machine's own files.
const UDHCPC: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
echo \"dns=$dns search=$search router=$router mtu=$mtu lease=$lease\"
ip addr add \"$ip/$mask\" dev \"$interface\"
ip route add default via \"$router\"
";

fn slaac(case: &Case<'_>) -> Result<()> {
    let guest = bare(case, &["-m", "1400"])?;
    let place = guest.place();
    up(case, &place)?;
    until("an address by SLAAC", SHORT, || {
        run(case, &place, "ip -6 -o addr show dev eth0 scope global")
            .is_ok_and(|text| text.contains("2001:db8:51:") && !text.contains("tentative"))
    })?;
    let text = run(case, &place, "ip -6 route show default")?;
    ensure!(text.contains("via fe80::") && text.contains("proto ra"), "{text}");
    let mtu = run(case, &place, "cat /proc/sys/net/ipv6/conf/eth0/mtu")?;
    ensure!(mtu.trim() == "1400", "{mtu}");
    works(case, &place, Family::V6)?;
    check_capture(case, guest).map(drop)
}

fn dhclient_v6(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["dhclient"])?;
    let guest = bare(case, &[])?;
    let place = guest.place();
    up(case, &place)?;
    link_local(case, &place)?;
    let lease = leases()?;
    run(case, &place, &format!("dhclient -6 -1 -v -lf {lease} -pf /run/rig/tmp/dhc6.pid eth0"))?;
    let text = std::fs::read_to_string(lease)?;
    for wanted in
        ["iaaddr 2001:db8:51::2", "dhcp6.name-servers 2001:db8:51::53", "\"rig.example.\""]
    {
        ensure!(text.contains(wanted), "no {wanted} in {text}");
    }
    until("the address", SHORT, || {
        run(case, &place, "ip -6 -o addr show dev eth0 scope global")
            .is_ok_and(|text| text.contains("2001:db8:51::2/"))
    })?;
    until("the route", SHORT, || {
        run(case, &place, "ip -6 route show default").is_ok_and(|text| text.contains("via fe80::"))
    })?;
    works(case, &place, Family::V6)?;
    run(case, &place, "pkill -F /run/rig/tmp/dhc6.pid")?;
    check_capture(case, guest).map(drop)
}

fn dhclient_v6_information(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["dhclient"])?;
    let guest = bare(case, &[])?;
    let place = guest.place();
    up(case, &place)?;
    link_local(case, &place)?;
    let lease = leases()?;
    let script = "/run/rig/tmp/print";
    std::fs::write(script, "#!/bin/sh\nenv > /run/rig/tmp/env.$reason\n")?;
    run(case, &place, &format!("chmod 755 {script}"))?;
    let line = format!("dhclient -6 -S -1 -v -sf {script} -lf {lease} -pf /run/rig/tmp/p eth0");
    run(case, &place, &line)?;
    // The client calls this a renewal or a binding, depending on its version.
    until("the answer", SHORT, || {
        ["RENEW6", "BOUND6"].iter().any(|reason| {
            std::fs::read_to_string(format!("/run/rig/tmp/env.{reason}"))
                .is_ok_and(|text| text.contains("new_dhcp6_name_servers=2001:db8:51::53"))
        })
    })?;
    check_capture(case, guest).map(drop)
}

fn rdisc6(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["rdisc6"])?;
    let guest = bare(case, &["-m", "9000", "-S", "one.example", "-S", "two.example"])?;
    let place = guest.place();
    up(case, &place)?;
    link_local(case, &place)?;
    let text = run(case, &place, "rdisc6 -1 -w 3000 eth0")?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in [
        ": 2001:db8:51::/64",
        "Recursive DNS server : 2001:db8:51::53",
        "one.example",
        "two.example",
        "MTU : 9000 ",
        "Source link-layer address: 9A:55:9A:55:9A:55",
        "Stateful address conf. : Yes",
    ] {
        ensure!(text.contains(wanted), "no '{wanted}' in {text}");
    }
    check_capture(case, guest).map(drop)
}

/// A search list whose encoding fills its last eight bytes, among others.
fn rdisc6_search_list_of_every_length(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["rdisc6"])?;
    for length in 7..16 {
        let domain = format!("{}.example", "a".repeat(length));
        let domain = &domain[domain.len().saturating_sub(length)..].trim_start_matches('.');
        let guest = bare(case, &["-S", domain])?;
        let place = guest.place();
        up(case, &place)?;
        until("an address by SLAAC", SHORT, || {
            run(case, &place, "ip -6 -o addr show dev eth0 scope global")
                .is_ok_and(|text| text.contains("2001:db8:51:"))
        })
        .with_context(|| format!("with {domain}"))?;
        let text = run(case, &place, "rdisc6 -1 -w 3000 eth0")?;
        ensure!(text.contains(*domain), "{text}");
    }
    Ok(())
}

/// Every address on the link resolves, and nobody claims the namespace's own.
fn neighbours(case: &Case<'_>) -> Result<()> {
    let guest = bare(case, &[])?;
    let place = guest.place();
    up(case, &place)?;
    link_local(case, &place)?;
    // With duplicate address detection, which a claim would make fail.
    run(case, &place, "ip addr add 2001:db8:51::2/64 dev eth0")?;
    until("the end of duplicate address detection", SHORT, || {
        run(case, &place, "ip -6 -o addr show dev eth0 to 2001:db8:51::2")
            .is_ok_and(|text| text.contains("2001:db8:51::2/64") && !text.contains("tentative"))
    })?;
    let text = run(case, &place, "ip -6 -o addr show dev eth0 to 2001:db8:51::2")?;
    ensure!(!text.contains("dadfailed"), "{text}");
    run(case, &place, "ping -6 -n -c 1 -W 3 2001:db8:51::10")?;
    let text = run(case, &place, "ip -6 neigh show 2001:db8:51::10")?;
    ensure!(text.contains("lladdr"), "{text}");
    check_capture(case, guest).map(drop)
}

/// Duplicate address detection for the assigned address gets no answer: it could not be used.
fn arping_foreign(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["busybox"])?;
    let guest = bare(case, &["--config-net"])?;
    let place = guest.place();
    run(case, &place, "busybox arping -c 1 -w 3 -I eth0 203.0.113.10")?;
    let argv = ["busybox", "arping", "-D", "-c", "1", "-w", "1", "-I", "eth0", "203.0.113.2"];
    let outcome = case.rig.outcome(&place, User::Root, SHORT, &argv)?;
    ensure!(outcome.code() == Some(0), "somebody claims the namespace's address: {outcome:?}");
    check_capture(case, guest).map(drop)
}

fn no_services(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["udhcpc", "rdisc6", "dhclient"])?;
    let guest = bare(case, &["--no-dhcp", "--no-dhcpv6", "--no-ra"])?;
    let place = guest.place();
    up(case, &place)?;
    link_local(case, &place)?;
    for line in [
        "udhcpc -i eth0 -n -q -f -t 2 -T 1 -s /bin/true",
        "rdisc6 -1 -r 1 -w 1000 eth0",
        "timeout 4 dhclient -6 -1 -S -lf /run/rig/tmp/l -pf /run/rig/tmp/p -sf /bin/true eth0",
    ] {
        let argv: Vec<&str> = line.split_whitespace().collect();
        let outcome = case.rig.outcome(&place, User::Root, SHORT, &argv)?;
        ensure!(outcome.code() != Some(0), "{line}: {outcome:?}");
    }
    // Neighbours are still answered.
    run(case, &place, "ping -6 -n -c 1 -W 3 fe80::1%eth0").map(drop)
}

/// A bit of everything in one capture.
fn tour_is_well_formed(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["ping", "traceroute", "dig"])?;
    let _dns = case.rig.start_dns()?;
    let guest = bare(case, &["--config-net", "-m", "1500"])?;
    let place = guest.place();
    for family in [Family::V4, Family::V6] {
        let (peer, far) = (family.peer(), family.far());
        let _server = case.rig.serve(&Place::Outside, peer, e2e::PORT)?;
        run(case, &place, &format!("ping -n -c 2 -i 0.2 -s 3000 {peer}"))?;
        run(case, &place, &format!("traceroute -n -q1 -w2 -m3 {far}"))?;
        run(case, &place, &format!("dig @{} www.rig.example ANY +tcp", family.dns()))?;
        run(case, &place, &format!("dig @{} www.rig.example A", family.dns()))?;
        case.ask(&place, "put", peer, "300000")?;
        case.ask(&place, "get", peer, "300000")?;
        case.ask(&place, "put-get", peer, "30000 30000")?;
        case.ask(&place, "read", peer, "30000")?;
        case.ask(&place, "connect", far, "")?;
        case.ask(&place, "connect", family.unreachable(), "")?;
        case.ask(&place, "udp-error", far, "")?;
        case.ask(&place, "udp-echo", peer, "0")?;
        case.ask(&place, "udp-echo", peer, "8000")?;
    }
    let count = check_capture(case, guest)?;
    ensure!(count > 100, "only {count} packets");
    Ok(())
}

fn pcap_that_cannot_be_written(case: &Case<'_>) -> Result<()> {
    let argv = ["--config-net", "--pcap", "/no/such/directory/x.pcap", "true"];
    let outcome = case.pasta()?.args(&argv).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(())
}

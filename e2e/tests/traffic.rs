//! What a program in pasta's namespace sees of the network: one line of the issue, one test.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};
use testkit::peer::stream;
use testkit::{Family, Pasta, Place};

matrix!(all:
    ping, ping_far, ping_large, dns_by_udp, dns_by_tcp, curl, iperf3_out, iperf3_in, half_close_by_guest,
    half_close_by_peer, concurrent_200, reset_is_seen, refusal_is_seen, udp_paced_out, udp_paced_in,
    udp_8000_at_mtu_1500, udp_largest, udp_empty, traceroute_udp, traceroute_icmp,
    udp_refused, udp_prohibited, udp_unreachable, tcp_unreachable, host_loopback, guest_addr,
    dns_forward, isolated_from_other_family, slow_reader_loses_nothing, offloads_off,
);

fn ping(case: &Case<'_>) -> Result<()> {
    pings(case, &case.family.peer().to_string(), &["-c", "3", "-i", "0.2"])
}

fn ping_far(case: &Case<'_>) -> Result<()> {
    pings(case, &case.family.far().to_string(), &["-c", "2", "-i", "0.2"])
}

fn ping_large(case: &Case<'_>) -> Result<()> {
    pings(case, &case.family.peer().to_string(), &["-c", "2", "-i", "0.2", "-s", "8000"])
}

/// The natural form: ping is pasta's command.
fn pings(case: &Case<'_>, addr: &str, options: &[&str]) -> Result<()> {
    case.rig.needs(&["ping"])?;
    let argv = ["--config-net", "--", "ping", case.family.flag(), "-n", "-W", "3"];
    let pasta = case.pasta()?.args(&argv).args(options).args(&[addr]);
    let text = pasta.run(SHORT)?.ok("ping")?;
    ensure!(text.contains(" 0% packet loss"), "{text}");
    ensure!(!text.contains("DUP!"), "{text}");
    Ok(())
}

fn dig(case: &Case<'_>, options: &[&str]) -> Result<String> {
    case.rig.needs(&["dig"])?;
    let _dns = case.rig.start_dns()?;
    let guest = case.guest(&[])?;
    let (server, kind) = (format!("@{}", case.family.dns()), record(case.family));
    let mut argv = vec!["dig", &server, "+time=3", "+tries=2", "+short"];
    argv.extend(options);
    argv.extend(["www.rig.example", kind]);
    let answer = case.rig.run(&guest.place(), SHORT, &argv)?;
    ensure!(answer.trim() == case.family.far().to_string(), "{answer}");
    // The answer to this does not fit: first by UDP, truncated, then by TCP.
    let argv = ["dig", &server, "+time=3", "+tries=2", "big.rig.example", "TXT"];
    case.rig.run(&guest.place(), SHORT, &argv)
}

fn record(family: Family) -> &'static str {
    if family == Family::V4 { "A" } else { "AAAA" }
}

fn dns_by_udp(case: &Case<'_>) -> Result<()> {
    let text = dig(case, &["+notcp"])?;
    ensure!(text.contains("Truncated") && text.contains("(TCP)"), "{text}");
    Ok(())
}

fn dns_by_tcp(case: &Case<'_>) -> Result<()> {
    dig(case, &["+tcp"]).map(drop)
}

fn curl(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["curl", "sha256sum"])?;
    let _dns = case.rig.start_dns()?;
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let size = 3_000_000;
    let url = format!("http://peer.rig.example:{PORT}/{size}");
    let script = format!("curl -sS --max-time 20 {} {url} | sha256sum", case.family.flag());
    let text = case.rig.run(&guest.place(), SHORT, &["sh", "-c", &script])?;
    let sum = stream::sum(size);
    ensure!(text.split_whitespace().next() == sum.split_whitespace().nth(1), "{text} {sum}");
    Ok(())
}

/// Bytes received and Mbit/s at the receiving end of a run of two seconds.
fn iperf3(case: &Case<'_>, options: &[&str]) -> Result<()> {
    case.rig.needs(&["iperf3", "ss"])?;
    let addr = case.family.peer().to_string();
    let _server = case.rig.start(&Place::Outside, &["iperf3", "-s", "-1", "-B", &addr])?;
    case.rig.wait_listen(&Place::Outside, 5201)?;
    let guest = case.guest(&[])?;
    let argv = ["iperf3", "-c", &addr, "-t", "2", "-J", "--connect-timeout", "5000"];
    let argv: Vec<&str> = argv.into_iter().chain(options.iter().copied()).collect();
    let text = case.rig.run(&guest.place(), SHORT, &argv)?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let end = &report["end"]["sum_received"];
    let bytes = end["bytes"].as_f64().context("no byte count")?;
    ensure!(bytes > 8e6, "received only {bytes} bytes: {text}");
    eprintln!("{:.0} Mbit/s", end["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6);
    Ok(())
}

fn iperf3_out(case: &Case<'_>) -> Result<()> {
    iperf3(case, &[])
}

fn iperf3_in(case: &Case<'_>) -> Result<()> {
    iperf3(case, &["-R"])
}

const SOME: u64 = 2_000_003;

fn half_close_by_guest(case: &Case<'_>) -> Result<()> {
    let mut server = case.server()?;
    let guest = case.guest(&[])?;
    let args = format!("{SOME} {}", SOME + 1);
    let got = case.ask(&guest.place(), "put-get", case.family.peer(), &args)?;
    ensure!(got == stream::sum(SOME + 1), "the guest got {got}");
    server.wait_line(&format!("put-get {}", stream::sum(SOME)), SHORT).map(drop)
}

fn half_close_by_peer(case: &Case<'_>) -> Result<()> {
    let mut server = case.server()?;
    let guest = case.guest(&[])?;
    let args = format!("{SOME} {}", SOME + 1);
    let got = case.ask(&guest.place(), "get-put", case.family.peer(), &args)?;
    ensure!(got == stream::sum(SOME), "the guest got {got}");
    server.wait_line(&format!("get-put {}", stream::sum(SOME + 1)), SHORT).map(drop)
}

fn concurrent_200(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "many", case.family.peer(), "200 30000")?;
    ensure!(got == "ok 200", "{got}");
    Ok(())
}

fn reset_is_seen(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "read", case.family.peer(), "100000")?;
    ensure!(got == format!("{} reset", stream::sum(100_000)), "{got}");
    Ok(())
}

fn refusal_is_seen(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let begin = Instant::now();
    for addr in [case.family.peer(), case.family.far()] {
        let got = case.ask(&guest.place(), "connect", addr, "")?;
        ensure!(got == "refused", "{addr}: {got}");
    }
    let took = begin.elapsed();
    ensure!(took < Duration::from_millis(900), "the refusal took {took:?}: a SYN was repeated");
    Ok(())
}

fn udp_paced_out(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "udp-out", case.family.peer(), "1000 1400 10000")?;
    ensure!(got == "1000 1000", "arrived, different ones: {got}");
    Ok(())
}

fn udp_paced_in(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "udp-in", case.family.peer(), "1000 1400 10000")?;
    ensure!(got == "1000 1000", "arrived, different ones: {got}");
    Ok(())
}

/// Fragments from the guest are put together again; towards it a datagram may be one large frame.
fn udp_8000_at_mtu_1500(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&["-m", "1500"])?;
    for _ in 0..5 {
        let got = case.ask(&guest.place(), "udp-echo", case.family.peer(), "8000")?;
        ensure!(got == "ok", "{got}");
    }
    Ok(())
}

fn udp_largest(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    // The tap's MTU of 65520 less the headers.
    let size = if case.family == Family::V4 { "65492" } else { "65472" };
    let got = case.ask(&guest.place(), "udp-echo", case.family.peer(), size)?;
    ensure!(got == "ok", "{got}");
    Ok(())
}

/// A datagram without payload arrives as one, both ways.
fn udp_empty(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let got = case.ask(&guest.place(), "udp-echo", case.family.peer(), "0")?;
    ensure!(got == "ok", "{got}");
    Ok(())
}

fn traceroute(case: &Case<'_>, options: &[&str]) -> Result<()> {
    case.rig.needs(&["traceroute"])?;
    let guest = case.guest(&[])?;
    let far = case.family.far().to_string();
    let argv = ["traceroute", case.family.flag(), "-n", "-q", "1", "-w", "3", "-m", "5"];
    let argv: Vec<&str> = argv.into_iter().chain(options.iter().copied()).chain([&*far]).collect();
    let text = case.rig.run(&guest.place(), SHORT, &argv)?;
    let hops: Vec<&str> =
        text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
    ensure!(hops == [case.family.gateway().to_string(), far], "{text}");
    Ok(())
}

fn traceroute_udp(case: &Case<'_>) -> Result<()> {
    traceroute(case, &[])
}

fn traceroute_icmp(case: &Case<'_>) -> Result<()> {
    traceroute(case, &["-I"])
}

fn udp_refused(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    for addr in [case.family.peer(), case.family.far()] {
        let got = case.ask(&guest.place(), "udp-error", addr, "")?;
        ensure!(got == "refused", "{addr}: {got}");
    }
    Ok(())
}

/// What programs see of a router's refusals without pasta is what they see with it.
fn udp_prohibited(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let addr = case.family.prohibited();
    let direct = case.ask(&Place::Host, "udp-error", addr, "")?;
    ensure!(direct != "silence", "the host does not see it either");
    let got = case.ask(&guest.place(), "udp-error", addr, "")?;
    ensure!(got == direct, "{got}, but {direct} on the host");
    icmp_code(case, &guest, addr)
}

/// An unreachable host is no error to a UDP socket that does not ask for more.
fn udp_unreachable(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    icmp_code(case, &guest, case.family.unreachable())
}

/// Compares the code of the ICMP error.
fn icmp_code(case: &Case<'_>, guest: &Pasta, addr: IpAddr) -> Result<()> {
    case.rig.needs(&["traceroute"])?;
    let addr = addr.to_string();
    let argv = ["traceroute", case.family.flag(), "-n", "-q1", "-w1", "-m1", "-f1", &addr];
    // A router sends a host five of these in a row, then one a second (`error_burst` and `error_cost`). On a busy
    // machine, some of them may have been for questions that were asked again.
    let ask = |place: &Place| -> Result<String> {
        for _ in 0..5 {
            let text = case.rig.run(place, SHORT, &argv)?;
            if !text.trim_end().ends_with('*') {
                return Ok(text);
            }
            thread::sleep(Duration::from_secs(1));
        }
        bail!("no answer in five attempts")
    };
    let direct = ask(&Place::Host)?;
    let direct = direct.split_whitespace().last().unwrap_or("?");
    ensure!(direct.starts_with('!'), "the host does not see it either: {direct}");
    let text = ask(&guest.place())?;
    ensure!(text.trim_end().ends_with(direct), "{text}, but {direct} on the host");
    ensure!(text.contains(&case.family.gateway().to_string()), "{text}");
    Ok(())
}

fn tcp_unreachable(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    for addr in [case.family.unreachable(), case.family.prohibited()] {
        let direct = case.ask(&Place::Host, "connect", addr, "")?;
        let begin = Instant::now();
        let got = case.ask(&guest.place(), "connect", addr, "")?;
        ensure!(got == direct, "{addr}: {got}, but {direct} on the host");
        ensure!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    }
    Ok(())
}

/// The address of `--map-host-loopback` is the host's loopback; so is the gateway by default.
fn host_loopback(case: &Case<'_>) -> Result<()> {
    let v4 = case.family == Family::V4;
    let loopback = if v4 { "127.0.0.1" } else { "::1" };
    let mapped = if v4 { "203.0.113.77" } else { "2001:db8:51::77" };
    let _server = case.rig.serve(&Place::Host, loopback.parse()?, PORT)?;
    let guest = case.guest(&["--map-host-loopback", mapped])?;
    let got = case.ask(&guest.place(), "get", mapped.parse()?, "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    let got = case.ask(&guest.place(), "udp-echo", mapped.parse()?, "1000")?;
    ensure!(got == "ok", "{got}");
    // With an address given, the gateway is the gateway: nothing listens there.
    let got = case.ask(&guest.place(), "connect", case.family.gateway(), "")?;
    ensure!(got == "refused", "{got}");
    if v4 {
        let guest = case.guest(&[])?;
        let got = case.ask(&guest.place(), "get", case.family.gateway(), "100000")?;
        ensure!(got == stream::sum(100_000), "{got}");
        let guest = case.guest(&["--no-map-gw"])?;
        let got = case.ask(&guest.place(), "connect", case.family.gateway(), "")?;
        ensure!(got == "refused", "{got}");
    }
    Ok(())
}

/// The host's own address, which the guest shares, is reached through `--map-guest-addr`.
fn guest_addr(case: &Case<'_>) -> Result<()> {
    let mapped = if case.family == Family::V4 { "203.0.113.78" } else { "2001:db8:51::78" };
    let _server = case.rig.serve(&Place::Host, case.family.host(), PORT)?;
    let guest = case.guest(&["--map-guest-addr", mapped])?;
    let got = case.ask(&guest.place(), "get", mapped.parse()?, "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

fn dns_forward(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["dig"])?;
    let _dns = case.rig.start_dns()?;
    let forward = if case.family == Family::V4 { "203.0.113.99" } else { "2001:db8:51::99" };
    let guest = case.guest(&["--dns-forward", forward])?;
    let (server, kind) = (format!("@{forward}"), record(case.family));
    for mode in ["+notcp", "+tcp"] {
        let argv = ["dig", &server, "+time=3", "+tries=2", "+short", mode, "www.rig.example", kind];
        let answer = case.rig.run(&guest.place(), SHORT, &argv)?;
        ensure!(answer.trim() == case.family.far().to_string(), "{mode}: {answer}");
    }
    Ok(())
}

/// With one family only, the other is not configured, and this one works.
fn isolated_from_other_family(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[case.family.flag()])?;
    let got = case.ask(&guest.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    let other = if case.family == Family::V4 { "-6" } else { "-4" };
    let argv = ["ip", other, "-o", "addr", "show", "scope", "global"];
    let text = case.rig.run(&guest.place(), SHORT, &argv)?;
    ensure!(text.trim().is_empty(), "{text}");
    let text = case.rig.run(&guest.place(), SHORT, &["ip", other, "route", "show", "default"])?;
    ensure!(text.trim().is_empty(), "{text}");
    Ok(())
}

/// A guest that reads slowly closes its window; nothing is lost when it opens again.
fn slow_reader_loses_nothing(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let size: u64 = 24 << 20;
    let client =
        format!("{} get {} {PORT} {size}", case.rig.helper().display(), case.family.peer());
    let script = format!(
        "{client} & pid=$!; for i in 1 2 3 4; do kill -STOP $pid; sleep 0.4; \
        kill -CONT $pid; sleep 0.01; done; wait $pid"
    );
    let text = case.rig.run(&guest.place(), LONG, &["sh", "-c", &script])?;
    ensure!(text.trim() == stream::sum(size), "{text}");
    Ok(())
}

/// A kernel without offloads on the tap: slower, but it works.
fn offloads_off(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    case.rig.needs(&["ethtool"])?;
    let argv = ["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    case.rig.run(&guest.place(), SHORT, &argv)?;
    let size = 4 << 20;
    let got = case.ask(&guest.place(), "get", case.family.peer(), &size.to_string())?;
    ensure!(got == stream::sum(size), "{got}");
    let got = case.ask(&guest.place(), "put", case.family.peer(), &size.to_string())?;
    ensure!(got == stream::sum(size), "{got}");
    Ok(())
}

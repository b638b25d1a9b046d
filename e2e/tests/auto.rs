//! Ports that are forwarded while something listens on them.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix, seconds};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testkit::{Family, Pasta, Place, Proc, until, wait_for};

matrix!(all:
    a_new_listener_is_reachable_within_a_second, who_listens_elsewhere_is_not_offered, without_sock_diag,
);
matrix!(users: listeners_come_and_go, nothing_is_done_while_nothing_changes, tcp_stands_for_udp);
matrix!(once: targets_count_not_ports, low_ports_inside);

/// What a listener may take to become reachable, or unreachable: what was promised, and some time for a
/// busy machine.
const SOON: Duration = Duration::from_millis(1500);

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([127, 0, 0, 1]),
        Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    }
}

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([0, 0, 0, 0]),
        Family::V6 => IpAddr::from([0u16; 8]),
    }
}

/// Who answers at this place: the address that the server saw, or how it failed.
fn who(case: &Case<'_>, place: &Place, addr: IpAddr, port: u16) -> Result<String> {
    let argv = [&*case.rig.helper().to_string_lossy(), "who", &addr.to_string(), &port.to_string()]
        .map(str::to_owned);
    let outcome = case.rig.outcome(place, testkit::User::Root, SHORT, &argv)?;
    Ok(format!("{}{}", outcome.stdout, outcome.stderr).trim().to_owned())
}

fn reachable(case: &Case<'_>, place: &Place, addr: IpAddr, port: u16) -> Result<bool> {
    Ok(who(case, place, addr, port)?.parse::<IpAddr>().is_ok())
}

/// Waits until a port is reachable, or is not any more, and returns how long that took.
fn becomes(
    case: &Case<'_>,
    place: &Place,
    (addr, port): (IpAddr, u16),
    wanted: bool,
) -> Result<Duration> {
    let start = Instant::now();
    let what = format!("{addr} port {port} at {place:?}: reachable = {wanted}");
    wait_for(&what, SHORT, || Ok((reachable(case, place, addr, port)? == wanted).then_some(())))?;
    Ok(start.elapsed())
}

/// Ports that pasta itself listens on at a place, by TCP and by UDP.
fn ours(case: &Case<'_>, place: &Place) -> Result<BTreeSet<String>> {
    let text = case.rig.run(place, SHORT, &["ss", "-Hlntup"])?;
    let mine = text.lines().filter(|line| line.contains("\"pasta"));
    let place_of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(format!("{} {}", words.first()?, words.get(4)?))
    };
    Ok(mine.filter_map(place_of).collect())
}

fn descriptors(guest: &mut Pasta) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", guest.proc().pid()))?.count())
}

/// Processor time of all threads so far.
fn processor_time(guest: &mut Pasta) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{}/task", guest.proc().pid()))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn a_new_listener_is_reachable_within_a_second(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    new_listeners(case, &guest)?;
    guest.finish()?;
    Ok(())
}

fn new_listeners(case: &Case<'_>, guest: &Pasta) -> Result<()> {
    let (lo, host) = (loopback(case.family), Place::Host);
    // Into the namespace, from the host's loopback and from outside.
    let server = case.rig.serve(&guest.place(), any(case.family), 5000)?;
    let took = becomes(case, &host, (lo, 5000), true)?;
    ensure!(took < SOON, "{took:?}");
    ensure!(reachable(case, &Place::Outside, case.family.host(), 5000)?, "from outside");
    drop(server);
    let took = becomes(case, &Place::Outside, (case.family.host(), 5000), false)?;
    ensure!(took < SOON, "{took:?}");
    until("the end of listening", SOON, || {
        who(case, &host, lo, 5000).is_ok_and(|answer| answer.contains("refused"))
    })?;
    // Out of the namespace.
    let server = case.rig.serve(&host, lo, 5001)?;
    let took = becomes(case, &guest.place(), (lo, 5001), true)?;
    ensure!(took < SOON, "{took:?}");
    drop(server);
    becomes(case, &guest.place(), (lo, 5001), false)?;
    Ok(())
}

/// Only what can be reached is offered: a client that finds a port closed tries another address.
fn who_listens_elsewhere_is_not_offered(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    listeners_elsewhere(case, &guest)?;
    guest.finish()?;
    Ok(())
}

fn listeners_elsewhere(case: &Case<'_>, guest: &Pasta) -> Result<()> {
    let (lo, host) = (loopback(case.family), Place::Host);
    let _private = case.rig.serve(&guest.place(), lo, 5100)?;
    let _other = case.rig.serve(&host, case.family.host(), 5101)?;
    let _seen = case.rig.serve(&guest.place(), any(case.family), 5102)?;
    becomes(case, &host, (lo, 5102), true)?;
    ensure!(who(case, &host, lo, 5100)?.contains("refused"), "a service of its loopback alone");
    ensure!(who(case, &guest.place(), lo, 5101)?.contains("refused"), "not on the host's loopback");
    let other = if case.family == Family::V4 { Family::V6 } else { Family::V4 };
    // The helper's sockets of [::] take IPv4, too.
    if case.family == Family::V4 {
        let answer = who(case, &host, loopback(other), 5102)?;
        ensure!(answer.contains("refused"), "the other family: {answer}");
    }
    Ok(())
}

/// A kernel that lacks `sock_diag(7)`: the files of `/proc/net` tell the same.
fn without_sock_diag(case: &Case<'_>) -> Result<()> {
    let mut guest = case.pasta()?.refuse("sock_diag").args(&["--config-net"]).start_hold()?;
    let mut files = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", guest.proc().pid()))? {
        let link = fs::read_link(entry?.path())?;
        files += usize::from(
            ["tcp", "tcp6", "udp", "udp6"]
                .iter()
                .any(|name| link.to_string_lossy().ends_with(&format!("/net/{name}"))),
        );
    }
    ensure!(files == 8, "{files} files, not those of both namespaces");
    new_listeners(case, &guest)?;
    listeners_elsewhere(case, &guest)?;
    // Own sockets are not followed.
    let none = BTreeSet::new();
    let quiet = || -> Result<bool> {
        Ok(ours(case, &Place::Host)? == none && ours(case, &guest.place())? == none)
    };
    until("the end of all listening", SHORT, || quiet().unwrap_or(false))?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(quiet()?, "own sockets are taken for those of others");
    guest.finish()?;
    Ok(())
}

fn listeners_come_and_go(case: &Case<'_>) -> Result<()> {
    let mut guest = case.guest(&[])?;
    let (lo, inside, host) = (loopback(case.family), guest.place(), Place::Host);
    // Whatever is made once is there after the first round.
    let round = |case: &Case<'_>, number: u16| -> Result<()> {
        let mut servers: Vec<Proc> = Vec::new();
        for offset in 0..3 {
            let port = 6000 + number % 7 * 10 + offset;
            servers.push(case.rig.serve(&inside, any(Family::V4), port)?);
            servers.push(case.rig.serve(&host, lo, port + 1000)?);
        }
        let port = 6000 + number % 7 * 10;
        becomes(case, &host, (lo, port), true)?;
        becomes(case, &inside, (lo, port + 1000), true)?;
        drop(servers);
        becomes(case, &host, (lo, port), false)?;
        becomes(case, &inside, (lo, port + 1000), false)?;
        Ok(())
    };
    round(case, 0)?;
    let none = BTreeSet::new();
    let quiet = |case: &Case<'_>| -> Result<bool> {
        Ok(ours(case, &host)? == none && ours(case, &inside)? == none)
    };
    until("the end of all listening", SHORT, || quiet(case).unwrap_or(false))?;
    let before = descriptors(&mut guest)?;
    let end = Instant::now() + seconds();
    let mut number = 1;
    while Instant::now() < end {
        round(case, number)?;
        number += 1;
    }
    until("the end of all listening", SHORT, || quiet(case).unwrap_or(false))?;
    let after = descriptors(&mut guest)?;
    // Every round listens a dozen times. Sockets of the namespace are made ahead, up to a few dozen.
    let text = format!("{number} rounds, {before} descriptors before, {after} now");
    ensure!(number >= 5 && after <= before + 40, "{text}");
    // No echo of our own sockets: nothing comes back by itself.
    std::thread::sleep(Duration::from_secs(2));
    ensure!(quiet(case)?, "{:?} {:?}", ours(case, &host)?, ours(case, &inside)?);
    guest.finish()?;
    Ok(())
}

fn nothing_is_done_while_nothing_changes(case: &Case<'_>) -> Result<()> {
    let mut guest = case.guest(&[])?;
    let inside = guest.place();
    let _server = case.rig.serve(&inside, any(Family::V4), 6200)?;
    let _other = case.rig.serve(&Place::Host, loopback(Family::V4), 6201)?;
    becomes(case, &Place::Host, (loopback(Family::V4), 6200), true)?;
    becomes(case, &inside, (loopback(Family::V4), 6201), true)?;
    let time = seconds();
    let (before, start) = (processor_time(&mut guest)?, Instant::now());
    std::thread::sleep(time);
    let used = processor_time(&mut guest)? - before;
    let per_second = used.as_secs_f64() / start.elapsed().as_secs_f64();
    // Twice what it takes, also on a busy machine: looking for listening sockets in both namespaces. That is
    // done every 700 ms, so that eight seconds tell as much as a minute does.
    ensure!(per_second < 0.001, "{per_second} seconds of processor time per second");
    guest.finish()?;
    Ok(())
}

fn tcp_stands_for_udp(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let script = "import socket,sys;s=socket.create_server(('0.0.0.0',6300));sys.stdin.read()";
    case.rig.needs(&["python3"])?;
    let _tcp_only = case.rig.start(&guest.place(), &["python3", "-c", script])?;
    let wanted: BTreeSet<String> =
        ["tcp 0.0.0.0:6300", "udp 0.0.0.0:6300"].map(str::to_owned).into();
    until("both protocols", SHORT, || ours(case, &Place::Host).is_ok_and(|ours| ours == wanted))?;
    guest.finish()?;
    Ok(())
}

fn targets_count_not_ports(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&["-t", "7000:7080,7100,auto", "-u", "none"])?;
    let _beside = case.rig.serve(&guest.place(), any(Family::V4), 7000)?;
    let _target = case.rig.serve(&guest.place(), any(Family::V4), 7100)?;
    let (host, lo) = (Place::Host, loopback(Family::V4));
    becomes(case, &host, (lo, 7100), true)?;
    ensure!(who(case, &host, lo, 7000)?.contains("refused"), "its target is another port");
    let _target = case.rig.serve(&guest.place(), any(Family::V4), 7080)?;
    becomes(case, &host, (lo, 7000), true)?;
    guest.finish()?;
    Ok(())
}

/// Ports below 1024 take a privilege in the namespace, which pasta has there.
fn low_ports_inside(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&[])?;
    let lo = loopback(Family::V4);
    let _server = case.rig.serve(&Place::Host, lo, 81)?;
    becomes(case, &guest.place(), (lo, 81), true)?;
    guest.finish()?;
    Ok(())
}

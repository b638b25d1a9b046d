//! A guest that sends nonsense: damaged copies of real frames, through a real tap.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use std::fs;
use testkit::peer::stream;
use testkit::{Family, Pasta, Place, until};

matrix!(users: damaged_frames);

/// Frames sent.
const COUNT: u64 = 150_000;
const PCAP: &str = "/run/rig/tmp/seeds.pcap";

fn run(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<&str> = line.split_whitespace().collect();
    case.rig.run(place, SHORT, &argv)
}

/// A bit of everything, in both families.
fn tour(case: &Case<'_>, place: &Place) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let _server = case.rig.serve(&Place::Outside, family.peer(), PORT)?;
        let peer = family.peer();
        run(case, place, &format!("ping -n -c 2 -i 0.2 -W 3 -s 3000 {peer}"))?;
        ensure!(case.ask(place, "put", peer, "20000")? == stream::sum(20_000), "put");
        ensure!(case.ask(place, "get", peer, "20000")? == stream::sum(20_000), "get");
        ensure!(case.ask(place, "udp-echo", peer, "4000")? == "ok", "udp");
        ensure!(case.ask(place, "connect", family.far(), "")? == "refused", "connect");
    }
    Ok(())
}

/// Kilobytes of memory in use.
fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn damaged_frames(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat", "ping"])?;
    let guest = case.guest(&["-m", "1500", "--pcap", PCAP])?;
    let clients = "udhcpc -i eth0 -n -q -f -t 1 -T 1 -s /bin/true";
    // Whatever comes of it: it is for the capture.
    let _ = run(case, &guest.place(), clients);
    tour(case, &guest.place())?;
    guest.finish()?;

    let mut guest = case.guest(&["-m", "1500"])?;
    let place = guest.place();
    tour(case, &place)?;
    let pid = guest.proc().pid();
    let before = memory(pid)?;
    // A relay from datagrams to frames.
    let argv = ["socat", "-u", "-b", "65536", "UDP4-RECV:9,bind=127.0.0.1", "INTERFACE:eth0"];
    let relay = case.rig.start(&place, &argv)?;
    until("the relay", SHORT, || {
        run(case, &place, "ss -Hlun sport = :9").is_ok_and(|text| !text.trim().is_empty())
    })?;
    let seed = std::env::var("E2E_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ started());
    eprintln!("E2E_SEED={seed}");
    let line = format!("noise {PCAP} {seed} {COUNT} 127.0.0.1 9");
    case.rig.peer(&place, LONG, &line)?;
    drop(relay);
    ensure!(guest.proc().running()?, "pasta ended: {}", guest.proc().stderr());
    let seen = frames_seen(case, &place)?;
    ensure!(seen > COUNT / 4, "only {seen} frames were sent");
    let grown = memory(pid)?.saturating_sub(before);
    ensure!(grown < 64 << 10, "memory grew by {grown} kB");
    lives(case, &guest)
}

fn frames_seen(case: &Case<'_>, place: &Place) -> Result<u64> {
    let text = run(case, place, "cat /proc/net/dev")?;
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    Ok(line.split_whitespace().nth(9).context("no tx_packets")?.parse()?)
}

/// A number that differs from run to run.
fn started() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()))
}

fn lives(case: &Case<'_>, guest: &Pasta) -> Result<()> {
    // Some damaged frame may have claimed an address or another MAC for the guest: the next good
    // one puts it right.
    tour(case, &guest.place())
}

//! Loopback traffic between host and namespace: not a byte is lost, added or held for ever, and every end
//! looks like the one it stands for.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, LONG, PORT, SHORT, bulk_bytes, matrix};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use testkit::peer::stream;
use testkit::{Family, Pasta, Place, Proc, until};

matrix!(all: transfers, half_close, resets, datagrams, slow_readers);
matrix!(once: many_connections, idle_connections);

/// The ports that lead to [`PORT`], from the host into the namespace, and out of it.
const IN: u16 = 5200;
const OUT: u16 = 5100;
/// Bytes by which a pasta may grow: connections and pipes, not what they carry.
const GROWTH: u64 = 4 << 20;

/// A server on one side and where its clients are.
struct Way<'c, 'r> {
    case: &'c Case<'r>,
    server: Proc,
    client: Place,
    port: u16,
    /// As the client knows the server.
    address: &'static str,
}

impl Way<'_, '_> {
    fn line(&self, verb: &str, args: &str) -> String {
        format!("{verb} {} {} {args}", self.address, self.port)
    }

    fn ask(&self, verb: &str, args: &str) -> Result<String> {
        let line = self.line(verb, args);
        self.case.rig.peer(&self.client, LONG, &line).with_context(|| self.name(verb))
    }

    fn name(&self, verb: &str) -> String {
        let way = if self.port == IN { "inwards" } else { "outwards" };
        format!("{verb} {way}")
    }
}

fn start(case: &Case<'_>) -> Result<Pasta> {
    let (inward, outward) = (format!("{IN}:{PORT}"), format!("{OUT}:{PORT}"));
    case.guest(&["-t", &inward, "-u", &inward, "-T", &outward, "-U", &outward])
}

/// Both ways there are.
fn ways<'c, 'r>(case: &'c Case<'r>, guest: &Pasta) -> Result<[Way<'c, 'r>; 2]> {
    let address = if case.family == Family::V4 { "127.0.0.1" } else { "::1" };
    let inside = case.rig.serve(&guest.place(), case.family.host(), PORT)?;
    let outside = case.rig.serve(&Place::Host, address.parse()?, PORT)?;
    Ok([
        Way { case, server: inside, client: Place::Host, port: IN, address },
        Way { case, server: outside, client: guest.place(), port: OUT, address },
    ])
}

fn transfers(case: &Case<'_>) -> Result<()> {
    let guest = start(case)?;
    let bulk = bulk_bytes();
    for way in ways(case, &guest)? {
        for size in [0, 1, 32 << 10, (32 << 10) + 1, 1_000_003, bulk] {
            for verb in ["put", "get"] {
                let got = way.ask(verb, &size.to_string())?;
                ensure!(got == stream::sum(size), "{}, {size} bytes: {got}", way.name(verb));
            }
        }
        // Both ways at the same time, over one connection.
        let got = way.ask("many", &format!("1 {bulk}"))?;
        ensure!(got == "ok 1", "{}: {got}", way.name("echo"));
    }
    Ok(())
}

/// One side has ended its stream, the other one goes on.
fn half_close(case: &Case<'_>) -> Result<()> {
    let guest = start(case)?;
    for mut way in ways(case, &guest)? {
        for (first, second) in [(0, 10), (100, 3 << 20), (3 << 20, 100), (70_000, 0)] {
            let got = way.ask("put-get", &format!("{first} {second}"))?;
            let name = way.name("put-get");
            ensure!(got == stream::sum(second), "{name} {first} {second}: {got}");
            let put = format!("put-get {}", stream::sum(first));
            way.server.wait_line(&put, SHORT).context(name)?;

            let got = way.ask("get-put", &format!("{first} {second}"))?;
            let name = way.name("get-put");
            ensure!(got == stream::sum(first), "{name} {first} {second}: {got}");
            let put = format!("get-put {}", stream::sum(second));
            way.server.wait_line(&put, SHORT).context(name)?;
        }
    }
    Ok(())
}

/// Whoever breaks a connection off: the other end sees that, and not an end of the stream.
fn resets(case: &Case<'_>) -> Result<()> {
    let guest = start(case)?;
    for mut way in ways(case, &guest)? {
        for size in [1, 100_000, 5 << 20] {
            let got = way.ask("read", &size.to_string())?;
            ensure!(got == format!("{} reset", stream::sum(size)), "{}: {got}", way.name("read"));
        }
        for (count, size) in [1, 100_000, 5 << 20].into_iter().enumerate() {
            way.ask("abort", &size.to_string())?;
            until("the reset", SHORT, || way.server.stdout().matches(": reset").count() > count)
                .with_context(|| format!("{}: {}", way.name("abort"), way.server.stdout()))?;
        }
        // With data in flight in the other direction.
        let line = way.line("get", &(1_u64 << 40).to_string());
        let client = case.rig.start_peer(&way.client, &line)?;
        std::thread::sleep(Duration::from_millis(100));
        drop(client);
        until("the reset", SHORT, || way.server.stdout().matches(": reset").count() > 3)
            .with_context(|| way.name("killed"))?;
        ensure!(way.server.running()?, "the server has ended");
    }
    Ok(())
}

fn datagrams(case: &Case<'_>) -> Result<()> {
    let guest = start(case)?;
    for way in ways(case, &guest)? {
        let largest = if case.family == Family::V4 { 65_507 } else { 65_487 };
        for size in [0, 1, 1472, 9000, largest] {
            let got = way.ask("udp-echo", &size.to_string())?;
            ensure!(got == "ok", "{}, {size} bytes: {got}", way.name("echo"));
        }
        for verb in ["udp-out", "udp-in"] {
            let got = way.ask(verb, "2000 1200 10000")?;
            ensure!(got == "2000 2000", "{}: arrived, different ones: {got}", way.name(verb));
        }
        let got = way.ask("udp-many", "200")?;
        ensure!(got == "200", "{}: {got} of 200 were answered", way.name("udp-many"));
        // The port is kept; it is one port on both sides for a while.
        let port = if way.port == IN { "45678" } else { "45679" };
        let got = way.ask("udp-who", port)?;
        ensure!(got.ends_with(port), "{}: {got}", way.name("udp-who"));
    }
    Ok(())
}

/// Bytes of memory that a process has to itself.
fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Bytes that the peer of a connection from `place` to `port` has acknowledged, or sent.
fn progress(case: &Case<'_>, place: &Place, port: u16, what: &str) -> Result<u64> {
    let filter = format!("dport = :{port}");
    let text = case.rig.run(place, SHORT, &["ss", "-Htin", "state", "established", &filter])?;
    let bytes = text.split_whitespace().find_map(|word| word.strip_prefix(what));
    bytes.with_context(|| format!("no {what} in {text}"))?.parse().map_err(Into::into)
}

/// A reader that stops holds the writer up, wherever it is, and gets everything in the end. What is
/// under way meanwhile is the kernel's, within its limits for sockets.
fn slow_readers(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["ss"])?;
    for key in ["tcp_rmem", "tcp_wmem"] {
        fs::write(format!("/proc/sys/net/ipv4/{key}"), "4096 131072 1048576")?;
    }
    let mut guest = start(case)?;
    let pid = guest.proc().pid();
    let size = bulk_bytes().max(32 << 20);
    for way in ways(case, &guest)? {
        // Whatever is kept for the next one is there already.
        way.ask("many", &format!("4 {}", 4 << 20))?;
        for (verb, what) in [("put", "bytes_acked:"), ("get-later", "bytes_received:")] {
            let before = memory(pid)?;
            let put = verb == "put";
            if put {
                way.server.signal(Signal::STOP)?;
            }
            let mut client =
                case.rig.start_peer(&way.client, &way.line(verb, &size.to_string()))?;
            if !put {
                client.wait_line("asked", SHORT)?;
            }
            let now = || progress(case, &way.client, way.port, what).unwrap_or_default();
            let mut last = 0;
            until("the writer to be held up", SHORT, || {
                std::thread::sleep(Duration::from_millis(200));
                std::mem::replace(&mut last, now()) == last && last > 0
            })
            .with_context(|| way.name(verb))?;
            let grown = memory(pid)?.saturating_sub(before);
            ensure!(last < size / 2, "{}: {last} of {size} bytes are gone", way.name(verb));
            ensure!(grown < GROWTH, "{}: {grown} bytes more", way.name(verb));
            client.close_stdin();
            let reader = if put { &way.server } else { &client };
            for _ in 0..3 {
                reader.signal(Signal::CONT)?;
                std::thread::sleep(Duration::from_millis(10));
                reader.signal(Signal::STOP)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            reader.signal(Signal::CONT)?;
            let text = client.finish(LONG)?.ok(verb)?;
            ensure!(text.trim_end().ends_with(&stream::sum(size)), "{}: {text}", way.name(verb));
        }
    }
    Ok(())
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Many at once, again and again: each is served, and nothing is left of them.
fn many_connections(case: &Case<'_>) -> Result<()> {
    let mut guest = start(case)?;
    let pid = guest.proc().pid();
    for way in ways(case, &guest)? {
        let mut left = Vec::new();
        for _ in 0..4 {
            let got = way.ask("many", "200 100000")?;
            ensure!(got == "ok 200", "{}: {got}", way.name("many"));
            // Sockets made ahead, and pipes kept.
            until("the end of the connections", SHORT, || descriptors(pid) < 250)?;
            left.push(descriptors(pid));
        }
        ensure!(left[3] <= left[1], "{}: descriptors {left:?}", way.name("many"));
    }
    Ok(())
}

fn idle_connections(case: &Case<'_>) -> Result<()> {
    let guest = start(case)?;
    for way in ways(case, &guest)? {
        let mut idle = case.rig.start_peer(&way.client, &way.line("idle", "300"))?;
        idle.wait_line("open", LONG)?;
        std::thread::sleep(Duration::from_millis(1500));
        idle.say("")?;
        idle.wait_line("alive 300", SHORT).with_context(|| way.name("idle"))?;
    }
    Ok(())
}

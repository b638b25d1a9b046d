//! One measurement: a fresh namespace, a fresh forwarder, a server outside, a client inside.

use crate::args::Args;
use crate::bridge::Bridge;
use crate::command::{self, Running, Talking, words};
use crate::peer::{Peer, Peers, Setting};
use crate::proc;
use crate::rig::{self, Guest, HOST, LINK_MTU, OUTSIDE, PORT, Rig};
use crate::rows::{Kind, Medium, Path, Row, Way};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes in a datagram of the UDP rows.
const DATAGRAM: f64 = 1400.0;
/// Datagrams a second of the paced rows.
const PACE: u32 = 60_000;
/// Connections of the row that counts system calls.
const TRACED: u32 = 500;

/// How long an idle forwarder is watched: some work is done only every few seconds.
const IDLE: Duration = Duration::from_secs(6);

/// What one run gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the row's unit.
    pub(crate) value: f64,
    /// CPU seconds of the forwarder per GiB (TCP), or microseconds per datagram (UDP) or transaction.
    pub(crate) cpu: Option<f64>,
    /// Seconds without a byte.
    pub(crate) stalls: u64,
    /// Changes of the counters in [`proc::TROUBLE`] in the client's namespace.
    pub(crate) trouble: BTreeMap<&'static str, u64>,
    /// Whatever else is worth keeping in the raw figures.
    pub(crate) detail: String,
}

/// Measures one row once with one peer.
pub(crate) fn measure(
    rig: &Rig,
    peers: &Peers,
    row: &Row,
    peer: Peer,
    args: &Args,
) -> Result<Sample> {
    if row.kind == Kind::StartUp {
        return start_up(peers, peer, args);
    }
    if peer != Peer::Veth {
        return Site::build(rig, peers, row, peer)?.run(row, args);
    }
    rig.set_link_mtu(row.mtu)?;
    let sample = Site::build(rig, peers, row, peer).and_then(|mut site| site.run(row, args));
    rig.set_link_mtu(LINK_MTU)?;
    sample
}

/// `key=value` words of a line.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect()
}

fn number(line: &str, key: &str) -> Result<f64> {
    let found = fields(line).get(key).and_then(|value| value.parse().ok());
    found.with_context(|| format!("no {key} in '{line}'"))
}

/// Everything one measurement needs; gone with this value.
struct Site<'a> {
    rig: &'a Rig,
    peers: &'a Peers,
    forwarder: Option<Running>,
    bridge: Option<Bridge>,
    guest: Option<Guest>,
    path: Path,
}

impl<'a> Site<'a> {
    fn build(rig: &'a Rig, peers: &'a Peers, row: &Row, peer: Peer) -> Result<Self> {
        let mut site =
            Self { rig, peers, forwarder: None, bridge: None, guest: None, path: row.path };
        if peer != Peer::Veth {
            let guest = Guest::new(row.congestion)?;
            let defaults = matches!(row.kind, Kind::IdleCpu { defaults: true, .. });
            let setting = Setting { mtu: row.mtu, defaults, path: row.path };
            site.forwarder = Some(match row.medium {
                Medium::Tap => peers.start(peer, &guest, setting)?,
                Medium::Stream => {
                    let socket = Bridge::socket();
                    let passt = peers.start_passt(peer, setting, &socket)?;
                    site.bridge = Some(Bridge::start(&peers.bridge, &guest, row.mtu, &socket)?);
                    passt
                }
            });
            site.guest = Some(guest);
        }
        Ok(site)
    }

    fn run(&mut self, row: &Row, args: &Args) -> Result<Sample> {
        let watched = self.watched();
        let before = proc::trouble(watched)?;
        let bridge_before = self.bridge_cpu();
        let mut sample = match row.kind {
            Kind::Tcp { way, streams } => self.tcp(way, streams, args.window)?,
            Kind::RoundTrip { udp } => self.round_trip(udp, args.window)?,
            Kind::Connections => self.connections(args.window)?,
            Kind::UdpPaced { way } => self.udp(way, PACE, false, args.window)?,
            Kind::UdpFlood { way, gso } => self.udp(way, 0, gso, args.window)?,
            Kind::ConnectionSyscalls => self.connection_syscalls()?,
            Kind::FrameSyscalls { way } => self.frame_syscalls(way, args.window)?,
            Kind::IdleCpu { flows, .. } => {
                let window = if args.quick { args.window } else { args.window.max(IDLE) };
                self.idle_cpu(flows, window)?
            }
            Kind::DescriptorsPerFlow { flows } => self.descriptors(flows)?,
            Kind::Resident => self.resident()?,
            Kind::ResidentPerFlow => self.resident_per_flow()?,
            Kind::StartUp => bail!("not measured with a forwarder"),
        };
        let alive = self.forwarder.as_mut().is_none_or(Running::alive);
        ensure!(alive, "the forwarder ended during the run ({})", sample.detail);
        if let Some(bridge) = &mut self.bridge {
            bridge.check().context(sample.detail.clone())?;
            // Where this comes near the time of the run, the bridge is what limits the rate.
            let used = self.bridge_cpu() - bridge_before;
            sample.detail += &format!(" bridge_cpu_s={:.3}", used.as_secs_f64());
        }
        sample.trouble = proc::trouble(watched)?;
        for (name, value) in &mut sample.trouble {
            *value = value.saturating_sub(before.get(name).copied().unwrap_or(0));
        }
        Ok(sample)
    }

    /// The process whose network namespace the client is in, if not the host's, and the address that it
    /// talks to.
    fn client_place(&self) -> (Option<u32>, &'static str) {
        match self.path {
            Path::Out => (self.inside(), OUTSIDE),
            Path::In => (Some(self.rig.outside()), HOST),
            Path::SpliceIn => (None, "127.0.0.1"),
            Path::SpliceOut => (self.inside(), "127.0.0.1"),
        }
    }

    /// The same for the server, and the address it listens on.
    fn server_place(&self) -> (Option<u32>, &'static str) {
        match self.path {
            Path::Out => (Some(self.rig.outside()), OUTSIDE),
            Path::In | Path::SpliceIn => (self.inside(), "0.0.0.0"),
            Path::SpliceOut => (None, "127.0.0.1"),
        }
    }

    /// The process that holds the guest's namespace; without a guest, the host is it.
    fn inside(&self) -> Option<u32> {
        self.guest.as_ref().map(Guest::pid)
    }

    /// A process in the client's network namespace.
    fn near(&self) -> u32 {
        self.client_place().0.unwrap_or_else(std::process::id)
    }

    /// A process in the network namespace whose counters are of interest: the guest's, whoever began, where
    /// it stands for a virtual machine.
    fn watched(&self) -> u32 {
        self.inside().filter(|_| self.bridge.is_some()).unwrap_or_else(|| self.near())
    }

    fn forwarder(&self) -> Result<u32> {
        Ok(self.forwarder.as_ref().context("no forwarder")?.id())
    }

    fn cpu(&self) -> Duration {
        self.forwarder.as_ref().map_or(Duration::ZERO, |running| proc::cpu(running.id()))
    }

    fn bridge_cpu(&self) -> Duration {
        self.bridge.as_ref().map_or(Duration::ZERO, |bridge| proc::cpu(bridge.id()))
    }

    /// The load generator as a client.
    fn client(&self, line: &str, cpu: Option<u32>) -> Command {
        let (place, address) = self.client_place();
        let mut command = rig::inside(place, &self.peers.load, cpu);
        command.args(line.split_ascii_whitespace()).args(["--to", &format!("{address}:{PORT}")]);
        command
    }

    /// The load generator as the server.
    fn server(&self, window: Duration, cpu: Option<u32>) -> Result<Talking> {
        let (place, address) = self.server_place();
        let mut command = rig::inside(place, &self.peers.load, cpu);
        let secs = window.as_secs_f64().to_string();
        command.args(["server", "--to", &format!("{address}:{PORT}"), "--secs", &secs]);
        let mut server = Talking::start(command)?;
        let word = server.hear(Duration::from_secs(5))?;
        ensure!(word == "ready", "the server said '{word}'");
        Ok(server)
    }

    /// Runs a client to its end and asks the server for its report: both lines.
    fn ask(&self, line: &str, window: Duration, cpu: Option<u32>) -> Result<(String, String)> {
        let mut server = self.server(window, cpu)?;
        let client = self.client(&format!("{line} --secs {}", window.as_secs_f64()), cpu);
        let near = command::output(client, window + Duration::from_secs(15))?;
        server.say("report")?;
        Ok((near.trim().to_owned(), server.hear(Duration::from_secs(5))?))
    }

    fn tcp(&self, way: Way, streams: u32, window: Duration) -> Result<Sample> {
        let inbound = if way == Way::In { "--in" } else { "" };
        let before = self.cpu();
        let (near, far) = self.ask(&format!("tcp {inbound} --streams {streams}"), window, None)?;
        let cpu = self.cpu() - before;
        let line = if way == Way::In { &near } else { &far };
        let total = number(line, "total")?;
        let gib = total / f64::from(1 << 30);
        Ok(Sample {
            value: number(line, "bytes")? * 8e-9 / number(line, "secs")?,
            cpu: self.forwarder.as_ref().filter(|_| total > 0.0).map(|_| cpu.as_secs_f64() / gib),
            stalls: fields(line).get("stalls").and_then(|n| n.parse().ok()).unwrap_or(0),
            detail: format!("near: {near}; far: {far}"),
            ..Sample::default()
        })
    }

    fn round_trip(&self, udp: bool, window: Duration) -> Result<Sample> {
        let cpu = Some(0);
        let forwarder = self.forwarder.as_ref().map(Running::id);
        let moving = forwarder.into_iter().chain(self.bridge.as_ref().map(Bridge::id));
        for pid in moving.flat_map(proc::family) {
            command::sh(&format!("taskset --all-tasks --cpu-list --pid 0 {pid}"))?;
        }
        let before = self.cpu();
        let (near, _) = self.ask(if udp { "rr --udp" } else { "rr" }, window, cpu)?;
        Ok(Sample {
            value: number(&near, "p50_ns")? / 1000.0,
            cpu: self.cpu_per_operation(before, &near)?,
            detail: near,
            ..Sample::default()
        })
    }

    fn connections(&self, window: Duration) -> Result<Sample> {
        let before = self.cpu();
        let (near, _) = self.ask("crr", window, None)?;
        Ok(Sample {
            value: number(&near, "ops")? / number(&near, "secs")?,
            cpu: self.cpu_per_operation(before, &near)?,
            detail: near,
            ..Sample::default()
        })
    }

    /// Microseconds that the forwarder has run since `before`, for each operation of a client's report.
    fn cpu_per_operation(&self, before: Duration, report: &str) -> Result<Option<f64>> {
        let used = (self.cpu() - before).as_secs_f64() * 1e6;
        let operations = number(report, "ops")?.max(1.0);
        Ok(self.forwarder.as_ref().map(|_| used / operations))
    }

    fn udp(&self, way: Way, rate: u32, gso: bool, window: Duration) -> Result<Sample> {
        let inbound = if way == Way::In { "--in" } else { "" };
        let gso = if gso { "--gso" } else { "" };
        let before = self.cpu();
        let (near, far) = self.ask(&format!("udp {inbound} --rate {rate} {gso}"), window, None)?;
        let cpu = self.cpu() - before;
        let (arrived, sent) = if way == Way::In { (&near, &far) } else { (&far, &near) };
        let received = number(arrived, "total")? / DATAGRAM;
        let sent = number(sent, "sent")?;
        let lost = if sent > 0.0 { (sent - received).max(0.0) * 100.0 / sent } else { 100.0 };
        let per_second = number(arrived, "bytes")? / DATAGRAM / number(arrived, "secs")?;
        Ok(Sample {
            value: if rate == 0 { per_second / 1000.0 } else { lost },
            cpu: self
                .forwarder
                .as_ref()
                .filter(|_| received > 0.0)
                .map(|_| cpu.as_secs_f64() * 1e6 / received),
            detail: format!("sent={sent} received={received} lost_percent={lost:.3}"),
            ..Sample::default()
        })
    }

    /// Counts the forwarder's system calls while `work` runs: the total, and strace's table.
    fn traced<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64, String)> {
        ensure!(crate::setup::which("strace").is_some(), "strace is not installed");
        let table = std::env::temp_dir().join(format!("bench-strace-{}", std::process::id()));
        let mut command = words("strace -f -q -c -o");
        command.arg(&table);
        let family = proc::family(self.forwarder()?);
        for pid in &family {
            command.args(["-p", &pid.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut strace = Running(command.spawn()?);
        let start = Instant::now();
        let attached = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        while !family.iter().all(attached) {
            ensure!(start.elapsed() < Duration::from_secs(5), "strace did not attach");
            ensure!(strace.alive(), "strace ended");
            thread::sleep(Duration::from_millis(5));
        }
        let done = work();
        kill(Pid::from_raw(i32::try_from(strace.id())?), Signal::SIGINT)?;
        while strace.alive() {
            ensure!(start.elapsed() < Duration::from_secs(120), "strace does not end");
            thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&table)?;
        let _ = fs::remove_file(&table);
        let mut calls = Vec::new();
        let mut total = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(count), Some(&name)) = (words.get(3), words.last()) else { continue };
            let Ok(count) = count.parse::<f64>() else { continue };
            if name == "total" {
                total = Some(count);
            } else {
                calls.push(format!("{name}={count}"));
            }
        }
        let total = total.context("strace counted nothing")?;
        Ok((done?, total, calls.join(" ")))
    }

    fn connection_syscalls(&self) -> Result<Sample> {
        let work = || self.ask(&format!("crr --count {TRACED}"), Duration::from_secs(60), None);
        let ((near, _), total, calls) = self.traced(work)?;
        let done = number(&near, "ops")?.max(1.0);
        Ok(Sample { value: total / done, detail: format!("{near} {calls}"), ..Sample::default() })
    }

    fn frame_syscalls(&self, way: Way, window: Duration) -> Result<Sample> {
        let before = proc::frames(self.near());
        let (sample, total, calls) = self.traced(|| self.tcp(way, 1, window))?;
        let after = proc::frames(self.near());
        let (received, sent) = (after.0 - before.0, after.1 - before.1);
        let frames = if way == Way::In { received } else { sent };
        ensure!(frames > 0, "no frame");
        Ok(Sample {
            value: total / frames as f64,
            detail: format!("received={received} sent={sent} gbit={} {calls}", sample.value),
            ..Sample::default()
        })
    }

    /// Opens idle connections; they are closed with the values returned.
    fn flows(&self, count: u32) -> Result<(Option<(Talking, Talking)>, u32)> {
        if count == 0 {
            return Ok((None, 0));
        }
        let server = self.server(Duration::from_secs(1), None)?;
        let mut client = Talking::start(self.client(&format!("idle --count {count}"), None))?;
        let line = client.hear(Duration::from_secs(90))?;
        let held = fields(&line).get("held").and_then(|held| held.parse().ok()).unwrap_or(0u32);
        ensure!(held > 0, "no connection: {line}");
        if held < count {
            eprintln!("bench: only {line} of {count} connections");
        }
        thread::sleep(Duration::from_secs(1));
        Ok((Some((server, client)), held))
    }

    fn idle_cpu(&self, count: u32, window: Duration) -> Result<Sample> {
        let (_flows, held) = self.flows(count)?;
        let before = self.cpu();
        let start = Instant::now();
        thread::sleep(window);
        let used = self.cpu() - before;
        Ok(Sample {
            value: used.as_secs_f64() * 1000.0 / start.elapsed().as_secs_f64(),
            detail: format!("flows={held}"),
            ..Sample::default()
        })
    }

    fn descriptors(&self, flows: u32) -> Result<Sample> {
        let before = proc::descriptors(self.forwarder()?);
        let (_flows, held) = self.flows(flows)?;
        let after = proc::descriptors(self.forwarder()?);
        Ok(Sample {
            value: (after as f64 - before as f64) / f64::from(held),
            detail: format!("before={before} after={after} flows={held}"),
            ..Sample::default()
        })
    }

    fn resident(&self) -> Result<Sample> {
        let kib = proc::resident_kib(self.forwarder()?);
        Ok(Sample { value: kib as f64, ..Sample::default() })
    }

    fn resident_per_flow(&mut self) -> Result<Sample> {
        let before = proc::resident_kib(self.forwarder()?);
        let (_flows, held) = self.flows(10_000)?;
        let alive = self.forwarder.as_mut().is_none_or(Running::alive);
        ensure!(alive, "the forwarder ended at {held} connections");
        let after = proc::resident_kib(self.forwarder()?);
        Ok(Sample {
            value: (after as f64 - before as f64) * 1024.0 / f64::from(held),
            detail: format!("before_kib={before} after_kib={after} flows={held}"),
            ..Sample::default()
        })
    }
}

/// Time from start to end of a pasta that configures a namespace and runs `true`; for the plain
/// link, of `unshare` making the same namespaces.
fn start_up(peers: &Peers, peer: Peer, args: &Args) -> Result<Sample> {
    let mut command = peers.runner(peer);
    let count = if args.quick { "5" } else { "11" };
    command.arg(&peers.load).args(["spawn", "--count", count, "--"]);
    match peers.program(peer) {
        Some(program) => command.arg(program).args(["--config-net", "true"]),
        None => command.args(["unshare", "--user", "--map-root-user", "--net", "true"]),
    };
    let line = command::output(command, Duration::from_secs(30))?;
    Ok(Sample {
        value: number(&line, "median_us")? / 1000.0,
        detail: line.trim().to_owned(),
        ..Sample::default()
    })
}

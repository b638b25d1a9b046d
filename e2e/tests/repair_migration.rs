//! `passt-repair` as the helper of the packaged passt of the C implementation, while QEMU migrates a guest: its
//! connections go on behind another passt.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::repair::status;
use e2e::vm::{FAMILIES, dhcp, slaac};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use testkit::guest::{Guest, Job, Machine};
use testkit::peer::stream;
use testkit::{Family, Place, Proc, User, until, wait_for};

matrix!(users: on_one_host, between_hosts);

/// Where numbers are sent back all the time.
const LIVE_PORT: u16 = PORT + 1;
/// Bytes that each of two connections carries both ways: they are not through before the migration.
const BOTH_WAYS: u64 = 48 << 20;
/// Bytes that wait for somebody who does not read before the migration: more than all queues hold.
const WAITING: u64 = 24 << 20;
/// Connections that are silent meanwhile.
const SILENT: usize = 3;
/// The connections to the servers that are stopped: the silent ones, two that carry bytes both ways, one whose reader does not read.
const CONNECTIONS: usize = SILENT + 3;

/// A packaged passt in the foreground, for vhost-user.
struct Passt {
    proc: Proc,
    socket: PathBuf,
}

impl Passt {
    fn start(case: &Case<'_>, at: &Place, socket: PathBuf, options: &[&str]) -> Result<Self> {
        let path = socket.display().to_string();
        let uid = if case.user == User::Root { 0 } else { 1000 };
        let (uid, passt) = (format!("PASTA_UID={uid}"), case.rig.debian()?.join("cpasst"));
        let passt = passt.display().to_string();
        let argv = ["env", &uid, &passt, "-f", "--vhost-user", "-s", &path];
        let argv = [&argv[..], options].concat();
        let mut proc = Proc::start(case.rig.command(at, User::Root, &argv))?;
        let repair = format!("{path}.repair");
        wait_for("passt's sockets", SHORT, || {
            ensure!(proc.running()?, "passt has ended");
            let sockets = case.rig.run(at, SHORT, &["cat", "/proc/net/unix"])?;
            Ok([&path, &repair].into_iter().all(|path| listens(&sockets, path)).then_some(()))
        })
        .with_context(|| proc.stderr())?;
        Ok(Self { proc, socket })
    }

    fn repair(&self) -> PathBuf {
        format!("{}.repair", self.socket.display()).into()
    }

    /// A machine that is connected to it.
    fn connect<'r>(&self, machine: &Machine<'r>) -> Machine<'r> {
        let chardev = format!("socket,id=vu,path={}", self.socket.display());
        machine.clone().args(&["-chardev", &chardev]).netdev("vhost-user,id=net,chardev=vu")
    }
}

fn listens(sockets: &str, path: &str) -> bool {
    // The flag is "accepts connections".
    let line = |line: &str| line.contains(" 00010000 ") && line.ends_with(&format!(" {path}"));
    sockets.lines().any(line)
}

/// Starts our passt-repair as the user of the case and waits until it has done what it does before it waits.
fn start_repair(case: &Case<'_>, at: &Place, path: &Path) -> Result<Proc> {
    let program = case.rig.passt_repair(case.user)?;
    let helper = Proc::start(case.rig.command(at, case.user, &[&program, path]))?;
    until("the sandbox", SHORT, || status(&helper, "Seccomp").is_ok_and(|mode| mode == "2"))?;
    Ok(helper)
}

/// What QEMU says its machine does.
fn run_state(guest: &mut Guest) -> Result<String> {
    Ok(guest.control("query-status")?["status"].as_str().unwrap_or_default().to_owned())
}

/// Starts a machine that waits for the state of another one.
fn start_target(machine: &Machine<'_>, uri: &str) -> Result<Guest> {
    let mut target = machine.clone().args(&["-incoming", "defer"]).start()?;
    wait_for("the target's control socket", SHORT, || {
        ensure!(target.qemu().running()?, "QEMU has ended: {}", target.qemu().stderr());
        Ok(run_state(&mut target).ok())
    })?;
    target.control_with("migrate-incoming", &json!({ "uri": uri }))?;
    Ok(target)
}

/// Migrates a guest, and ends its QEMU.
fn migrate(mut source: Guest, target: &mut Guest, uri: &str) -> Result<()> {
    source.control_with("migrate", &json!({ "uri": uri }))?;
    wait_for("the migration", LONG, || {
        let answer = source.control("query-migrate")?;
        let state = answer["status"].as_str().unwrap_or_default();
        ensure!(!matches!(state, "failed" | "cancelled"), "migration: {answer}");
        Ok((state == "completed").then_some(()))
    })
    .with_context(|| format!("{}\ntarget: {}", source.qemu().stderr(), target.qemu().stderr()))?;
    let state = run_state(&mut source)?;
    ensure!(state == "postmigrate", "the source is {state}");
    source.control("quit")?;
    wait_for("the end of the source's QEMU", SHORT, || {
        Ok((!source.qemu().running()?).then_some(()))
    })?;
    drop(source);
    wait_for("the target to run", SHORT, || Ok((run_state(target)? == "running").then_some(())))
}

/// The connections that the stopped servers have, by both addresses and ports, and how many bytes came.
fn at_servers(case: &Case<'_>) -> Result<BTreeMap<String, u64>> {
    let argv = ["ss", "-HtinO", "state", "established", &format!("sport = :{PORT}")];
    let text = case.rig.run(&Place::Outside, SHORT, &argv)?;
    let connection = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count = words.iter().find_map(|word| word.strip_prefix("bytes_received:"));
        let count = count.map_or(Ok(0), str::parse)?;
        Ok((words.get(2..4).context("ss")?.join(" "), count))
    };
    text.lines().map(connection).collect()
}

/// The numbers that have come back to the guest: all of them, in order. Returns how many.
fn numbers(output: &str, whole: bool) -> Result<usize> {
    let mut lines: Vec<&str> = output.split('\n').collect();
    if !whole {
        // Not all of the last line may have been written.
        lines.pop();
    }
    for (number, line) in lines.iter().enumerate() {
        ensure!(*line == number.to_string(), "{line} where {number} should be");
    }
    Ok(lines.len())
}

/// `peer` with arguments; it gets a line of input as soon as there is a file /tmp/go.
fn told_later(args: &str) -> String {
    format!("(until [ -e /tmp/go ]; do sleep 0.2; done; echo) | peer {args}")
}

/// Servers in the outside.
struct Servers {
    /// These will be stopped.
    both: [Proc; 2],
    _echo: Proc,
}

impl Servers {
    fn start(case: &Case<'_>) -> Result<Self> {
        let [v4, v6] = FAMILIES.map(Family::peer);
        let serve = |addr, port| case.rig.serve(&Place::Outside, addr, port);
        let both = [serve(v4, PORT)?, serve(v6, PORT)?];
        Ok(Self { both, _echo: serve(v4, LIVE_PORT)? })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.both.iter().try_for_each(|server| server.signal(signal))
    }
}

/// What runs in the guest.
struct Load {
    silent: Job,
    waiting: Job,
    both_ways: [Job; 2],
    live: Job,
}

impl Load {
    fn start(case: &Case<'_>, guest: &mut Guest) -> Result<Self> {
        let [v4, v6] = FAMILIES.map(Family::peer);
        let silent = guest.start(&told_later(&format!("idle {v4} {PORT} {SILENT}")))?;
        guest.wait_line(&silent, "open")?;
        let waiting = guest.start(&told_later(&format!("get-later {v6} {PORT} {WAITING}")))?;
        guest.wait_line(&waiting, "asked")?;
        let mut both = |addr| guest.start(&format!("peer many {addr} {PORT} 1 {BOTH_WAYS}"));
        let both_ways = [both(v4)?, both(v6)?];
        let count = "i=0; until [ -e /tmp/go ]; do echo $i; i=$((i + 1)); sleep 0.01; done";
        let live = guest.start(&format!("(echo echo; {count}) | nc {v4} {LIVE_PORT}"))?;
        guest.wait_line(&live, "20")?;
        wait_for("transfers", SHORT, || {
            let got = at_servers(case)?.into_values();
            Ok((got.filter(|got| *got > 1 << 20).count() == 2).then_some(()))
        })?;
        Ok(Self { silent, waiting, both_ways, live })
    }

    /// The numbers go on by themselves, in another machine than that in which there were so many.
    fn lives(&self, guest: &mut Guest, sent: usize) -> Result<()> {
        let mut count = || numbers(&guest.output(&self.live)?, false);
        let arrived = count()?;
        ensure!(arrived >= sent, "{arrived} numbers, {sent} before the migration");
        eprintln!("{sent} numbers before the migration, {arrived} when it was over");
        wait_for("further numbers", SHORT, || Ok((count()? > arrived + 20).then_some(())))
    }

    /// Everything comes to its end, and every byte to its place.
    fn finish(self, guest: &mut Guest) -> Result<()> {
        guest.run("touch /tmp/go")?;
        let all = numbers(&guest.finish(&self.live, LONG)?, true)?;
        eprintln!("{all} numbers");
        let alive = guest.finish(&self.silent, LONG)?;
        ensure!(alive.ends_with(&format!("alive {SILENT}")), "{alive}");
        let got = guest.finish(&self.waiting, LONG)?;
        ensure!(got.ends_with(&stream::sum(WAITING)), "{got}");
        for job in self.both_ways {
            let got = guest.finish(&job, LONG)?;
            ensure!(got == "ok 1", "{got}");
        }
        Ok(())
    }
}

/// A passt and the passt-repair that helps it.
struct Side {
    passt: Passt,
    helper: Proc,
}

impl Side {
    /// What both have said.
    fn said(&self) -> String {
        format!("{}\n{}", self.passt.proc.stderr(), self.helper.stderr())
    }

    /// The helper was used, and is not needed any more.
    fn helped(helper: Proc, passt: &str) -> Result<()> {
        let line = format!("Accepted TCP_REPAIR helper, PID {}", helper.pid());
        ensure!(passt.contains(&line), "no '{line}': {passt}");
        let helper = helper.finish(SHORT).with_context(|| passt.to_owned())?;
        let fine = helper.code() == Some(0) && helper.stdout.is_empty();
        ensure!(fine && helper.stderr.is_empty(), "{helper:?}: {passt}");
        Ok(())
    }
}

/// A second host with the addresses of the first. Packets for them go to the first until [`Self::take_over`].
struct SecondHost {
    holder: Proc,
}

impl SecondHost {
    fn start(case: &Case<'_>) -> Result<Self> {
        let helper = case.rig.helper().display().to_string();
        let argv = ["unshare", "--net", "--", &helper, "hold"];
        let mut holder = case.rig.start(&Place::Host, &argv)?;
        holder.wait_line("ready", SHORT)?;
        let sh = |place: &Place, script: &str| case.rig.run(place, SHORT, &["sh", "-euc", script]);
        let link = format!(
            "ip link add out1 mtu 65520 type veth peer name eth0 mtu 65520 netns {} && ip link set out1 up
            for addr in fe80::1 2001:db8:51::1 2001:db8:51::10; do
                ip addr add $addr/64 dev out1 nodad noprefixroute
            done",
            holder.pid()
        );
        sh(&Place::Outside, &link)?;
        let addresses = "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
            ip link set lo up && ip link set eth0 up
            ip addr add 203.0.113.2/24 dev eth0 && ip addr add 2001:db8:51::2/64 dev eth0 nodad
            ip route add default via 203.0.113.1 && ip route add default via fe80::1 dev eth0";
        sh(&Place::Of(holder.pid()), addresses)?;
        Ok(Self { holder })
    }

    fn place(&self) -> Place {
        Place::Of(self.holder.pid())
    }

    fn take_over(&self, case: &Case<'_>) -> Result<()> {
        for addr in ["203.0.113.2/32", "2001:db8:51::2/128"] {
            case.rig.run(&Place::Outside, SHORT, &["ip", "route", "add", addr, "dev", "out1"])?;
        }
        Ok(())
    }
}

/// How large send buffers of new sockets are, and can become.
fn send_buffers(case: &Case<'_>, host: &Place, size: u32) -> Result<()> {
    let script = format!("echo 4096 {size} {size} > /proc/sys/net/ipv4/tcp_wmem");
    case.rig.run(host, SHORT, &["sh", "-euc", &script]).map(drop)
}

/// On one host no two sockets can have the same addresses and ports: the source's must go.
fn on_one_host(case: &Case<'_>) -> Result<()> {
    migration(case, &["--migrate-exit", "--migrate-no-linger"], None)
}

/// By default the source's sockets stay, and passt does, too.
fn between_hosts(case: &Case<'_>) -> Result<()> {
    migration(case, &[], Some(&SecondHost::start(case)?))
}

fn migration(case: &Case<'_>, options: &[&str], second: Option<&SecondHost>) -> Result<()> {
    case.rig.needs(&["ss"])?;
    let qemu = case.rig.debian_qemu(case.user)?;
    let memory = "memory-backend-memfd,id=mem,share=on,size=256M";
    let machine = case.rig.machine(case.user)?.qemu(&qemu, User::Root);
    let machine = machine.args(&["-object", memory, "-numa", "node,memdev=mem"]);
    // That passt loses a connection with more to send than a new socket has room for.
    send_buffers(case, &Place::Host, 256 << 10)?;
    let servers = Servers::start(case)?;

    let passt = Passt::start(case, &Place::Host, case.rig.tmp().join("source"), options)?;
    let source = Side { helper: start_repair(case, &Place::Host, &passt.repair())?, passt };
    let mut guest = source.passt.connect(&machine).boot()?;
    dhcp(case, &mut guest)?;
    slaac(case, &mut guest)?;
    let load = Load::start(case, &mut guest)?;
    // Now queues are full, and what goes both ways cannot come to its end before the migration.
    servers.signal(Signal::STOP)?;
    let before = at_servers(case)?;
    ensure!(before.len() == CONNECTIONS, "{before:?}");
    let through = before.values().any(|got| *got >= BOTH_WAYS);
    ensure!(!through, "through before the migration: {before:?}");

    let target_host = second.map_or(Place::Host, SecondHost::place);
    send_buffers(case, &target_host, 4 << 20)?;
    let directory = case.rig.tmp().join("target");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o777))?;
    let helper = start_repair(case, &target_host, &directory)?;
    let passt = Passt::start(case, &target_host, directory.join("passt"), &[])?;
    let mut target = Side { passt, helper };
    let uri = format!("unix:{}", case.rig.tmp().join("migration").display());
    let mut there = start_target(&target.passt.connect(&machine), &uri)?;
    let sent = numbers(&guest.output(&load.live)?, false)?;
    migrate(guest, &mut there, &uri)
        .with_context(|| format!("source: {}\ntarget: {}", source.said(), target.said()))?;

    if let Some(second) = second {
        second.take_over(case)?;
        source.passt.proc.signal(Signal::TERM)?;
    }
    // Nothing is left of the source.
    let ended = source.passt.proc.finish(SHORT)?;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Side::helped(source.helper, &ended.stderr)?;
    Side::helped(target.helper, &target.passt.proc.stderr())?;
    let after = at_servers(case)?;
    let said = target.passt.proc.stderr();
    ensure!(after.keys().eq(before.keys()), "{after:?}, {before:?} before: {said}");
    load.lives(&mut there, sent).with_context(|| target.passt.proc.stderr())?;
    servers.signal(Signal::CONT)?;
    load.finish(&mut there).with_context(|| target.passt.proc.stderr())?;
    ensure!(target.passt.proc.running()?, "passt has ended: {}", target.passt.proc.stderr());
    Ok(())
}

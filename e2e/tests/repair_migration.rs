//! `passt-repair` as the helper of the packaged passt of the C implementation, while QEMU migrates a guest: its
//! connections go on behind another passt.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::repair::status;
use e2e::vm::{dhcp, slaac};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use testkit::guest::{Guest, Machine};
use testkit::peer::stream;
use testkit::{Family, Place, Proc, User, until, wait_for};

matrix!(users: connections_go_on);

/// Where numbers are sent back all the time.
const LIVE_PORT: u16 = PORT + 1;
/// Bytes that each of two connections carries both ways: they are not through before the migration.
const BOTH_WAYS: u64 = 64 << 20;
/// Bytes that wait for somebody who does not read before the migration: more than all queues hold.
const WAITING: u64 = 48 << 20;
/// Connections that are silent meanwhile.
const SILENT: u64 = 3;
/// All connections: the silent ones, two that carry bytes both ways, one whose reader does not read.
const CONNECTIONS: u64 = SILENT + 3;

/// A packaged passt in the foreground, for vhost-user.
struct Passt {
    proc: Proc,
    socket: PathBuf,
}

impl Passt {
    fn start(case: &Case<'_>, socket: PathBuf, options: &[&str]) -> Result<Self> {
        let path = socket.display().to_string();
        let uid = if case.user == User::Root { 0 } else { 1000 };
        let (uid, passt) = (format!("PASTA_UID={uid}"), case.rig.debian()?.join("cpasst"));
        let passt = passt.display().to_string();
        let argv = ["env", &uid, &passt, "-f", "--vhost-user", "-s", &path];
        let argv = [&argv[..], options].concat();
        let mut proc = Proc::start(case.rig.command(&Place::Host, User::Root, &argv))?;
        let repair = format!("{path}.repair");
        wait_for("passt's sockets", SHORT, || {
            ensure!(proc.running()?, "passt has ended");
            let sockets = fs::read_to_string("/proc/net/unix")?;
            Ok([&path, &repair].into_iter().all(|path| listens(&sockets, path)).then_some(()))
        })
        .with_context(|| proc.stderr())?;
        Ok(Self { proc, socket })
    }

    fn repair(&self) -> PathBuf {
        self.socket.with_added_extension("repair")
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
fn start_repair(case: &Case<'_>, path: &Path) -> Result<Proc> {
    let program = case.rig.passt_repair(case.user)?;
    let helper = Proc::start(case.rig.command(&Place::Host, case.user, &[&program, path]))?;
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

/// Starts `peer` with arguments in the guest; it gets a line of input when [`go`] is called.
fn told_later(args: &str) -> String {
    format!("(until [ -e /tmp/go ]; do sleep 0.2; done; echo) | peer {args}")
}

fn connections_go_on(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["ss"])?;
    // A send buffer never grows beyond what a new socket has: that passt restores no longer send queue.
    fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 1048576 1048576")?;
    let qemu = case.rig.debian_qemu(case.user)?;
    let memory = "memory-backend-memfd,id=mem,share=on,size=256M";
    let machine = case.rig.machine(case.user)?.qemu(&qemu, User::Root);
    let machine = machine.args(&["-object", memory, "-numa", "node,memdev=mem"]);
    let [v4, v6] = [Family::V4, Family::V6].map(Family::peer);
    let first = case.rig.serve(&Place::Outside, v4, PORT)?;
    let second = case.rig.serve(&Place::Outside, v6, PORT)?;

    // Both are on one host, where two sockets cannot have the same addresses and ports.
    let options =
        std::env::var("MIG_OPTIONS").unwrap_or("--migrate-exit --migrate-no-linger".into());
    let options: Vec<&str> = options.split_whitespace().collect();
    let source_passt = Passt::start(case, case.rig.tmp().join("source"), &options)?;
    let source_helper = start_repair(case, &source_passt.repair())?;
    let mut source = source_passt.connect(&machine).boot()?;
    dhcp(case, &mut source)?;
    slaac(case, &mut source)?;
    let silent = source.start(&told_later(&format!("idle {v4} {PORT} {SILENT}")))?;
    source.wait_line(&silent, "open")?;
    let waiting = source.start(&told_later(&format!("get-later {v6} {PORT} {WAITING}")))?;
    source.wait_line(&waiting, "asked")?;
    let mut both_ways = Vec::new();
    for addr in [v4, v6] {
        both_ways.push(source.start(&format!("peer many {addr} {PORT} 1 {BOTH_WAYS}"))?);
    }
    let _echo = case.rig.serve(&Place::Outside, v4, LIVE_PORT)?;
    let count = "i=0; until [ -e /tmp/go ]; do echo $i; i=$((i + 1)); sleep 0.01; done";
    let live = source.start(&format!("(echo echo; {count}) | nc {v4} {LIVE_PORT}"))?;
    source.wait_line(&live, "20")?;
    // With these servers stopped, queues are full, and nothing can end before the migration.
    wait_for("transfers", SHORT, || {
        let got = at_servers(case)?.into_values();
        Ok((got.filter(|got| *got > 4 << 20).count() == 2).then_some(()))
    })?;
    for server in [&first, &second] {
        server.signal(Signal::STOP)?;
    }
    let before = at_servers(case)?;
    ensure!(before.len() as u64 == CONNECTIONS, "{before:?}");
    let through = before.values().any(|got| *got >= BOTH_WAYS);
    ensure!(!through, "through before the migration: {before:?}");
    let sent = numbers(&source.output(&live)?, false)?;

    let directory = case.rig.tmp().join("target");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o777))?;
    let target_helper = start_repair(case, &directory)?;
    let mut target_passt = Passt::start(case, directory.join("passt"), &[])?;
    let uri = format!("unix:{}", case.rig.tmp().join("migration").display());
    let mut target = start_target(&target_passt.connect(&machine), &uri)?;
    let migrated = migrate(source, &mut target, &uri);
    let said = || {
        let [a, b] = [&source_passt, &target_passt].map(|passt| passt.proc.stderr());
        let [c, d] = [&source_helper, &target_helper].map(Proc::stderr);
        format!("source: {a}\n{c}\ntarget: {b}\n{d}")
    };
    migrated.with_context(said)?;
    eprintln!("{}", said());
    let [source_pid, target_pid] = [&source_helper, &target_helper].map(Proc::pid);
    // Nothing is left of the source.
    let source_passt = source_passt.proc.finish(SHORT)?;
    ensure!(source_passt.code() == Some(0), "{source_passt:?}");
    for (helper, pid, log) in [
        (source_helper, source_pid, source_passt.stderr),
        (target_helper, target_pid, target_passt.proc.stderr()),
    ] {
        let helper = helper.finish(SHORT).with_context(|| log.clone())?;
        let fine = helper.code() == Some(0) && helper.stderr.is_empty();
        ensure!(fine, "{helper:?}\n{log}");
        ensure!(log.contains(&format!("Accepted TCP_REPAIR helper, PID {pid}")), "{log}");
    }
    let after = at_servers(case)?;
    ensure!(after.keys().eq(before.keys()), "the servers have {after:?}, {before:?} before");

    // What has gone on without a stop goes on here.
    let arrived = numbers(&target.output(&live)?, false)?;
    ensure!(arrived >= sent, "{arrived} numbers, {sent} before the migration");
    wait_for("further numbers", SHORT, || {
        Ok((numbers(&target.output(&live)?, false)? > arrived + 20).then_some(()))
    })?;
    for server in [&first, &second] {
        server.signal(Signal::CONT)?;
    }
    target.run("touch /tmp/go")?;
    let all = target.finish(&live, LONG)?;
    let all = numbers(&all, true)?;
    eprintln!("{all} numbers, {sent} before the migration, {arrived} when it was over");
    let alive = target.finish(&silent, LONG)?;
    ensure!(alive.ends_with(&format!("alive {SILENT}")), "{alive}");
    let got = target.finish(&waiting, LONG)?;
    ensure!(got.ends_with(&stream::sum(WAITING)), "{got}");
    for job in both_ways {
        let got = target.finish(&job, LONG)?;
        ensure!(got == "ok 1", "{got}");
    }
    ensure!(target_passt.proc.running()?, "passt has ended: {}", target_passt.proc.stderr());
    Ok(())
}

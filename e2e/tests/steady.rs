//! What pasta costs while it runs: system calls per segment, descriptors per flow, idle time.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, PORT, SHORT, matrix};
use rustix::process::Signal;
use std::collections::HashMap;
use std::fs;
use std::time::Duration;
use testkit::{Pasta, Place, until};

matrix!(all: no_bookkeeping_calls_out, no_bookkeeping_calls_in);
matrix!(once: one_descriptor_per_flow, idle_flows_cost_nothing, descriptors_run_out, closed_flows_are_forgotten);

/// Counts pasta's system calls in the middle of a transfer that is longer than the count.
fn count_calls(case: &Case<'_>, verb: &str) -> Result<HashMap<String, u64>> {
    case.rig.needs(&["strace"])?;
    let _server = case.server()?;
    let mut guest = case.guest(&["-m", "1500"])?;
    let endless = format!("{verb} {} {PORT} {}", case.family.peer(), 1_u64 << 40);
    let mut client = case.rig.start_peer(&guest.place(), &endless)?;
    let pid = guest.proc().pid();
    // Buffers and windows have grown by then.
    until("some seconds of processor time", SHORT, || ticks(pid).is_ok_and(|ticks| ticks > 30))?;
    let report = case.rig.tmp().join("strace");
    let argv = ["strace", "-f", "-c", "-o", &report.to_string_lossy(), "-p", &pid.to_string()];
    let strace = case.rig.start(&Place::Host, &argv)?;
    std::thread::sleep(Duration::from_millis(1500));
    strace.signal(Signal::INT)?;
    strace.finish(SHORT)?;
    ensure!(client.running()?, "the transfer ended: {}", client.stderr());
    let mut calls = HashMap::new();
    for line in fs::read_to_string(report)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Share, seconds, microseconds per call, calls, errors if any, name.
        if let [_, _, _, count, .., name] = words.as_slice() {
            if let Ok(count) = count.parse() {
                calls.insert((*name).to_owned(), count);
            }
        }
    }
    Ok(calls)
}

fn no_bookkeeping(case: &Case<'_>, verb: &str, moving: &[&str]) -> Result<()> {
    let calls = count_calls(case, verb)?;
    let moved: u64 = moving.iter().filter_map(|name| calls.get(*name)).sum();
    ensure!(moved > 500, "too little happened: {calls:?}");
    for (name, count) in &calls {
        let bookkeeping = ["epoll_ctl", "mmap", "munmap", "brk", "futex"].contains(&name.as_str())
            || name.starts_with("timerfd")
            || name.starts_with("clock");
        ensure!(!bookkeeping || *count * 100 < moved, "{count} {name} beside {moved}: {calls:?}");
    }
    Ok(())
}

fn no_bookkeeping_calls_out(case: &Case<'_>) -> Result<()> {
    no_bookkeeping(case, "put", &["sendto", "sendmsg", "write", "writev"])
}

fn no_bookkeeping_calls_in(case: &Case<'_>) -> Result<()> {
    no_bookkeeping(case, "get", &["recvfrom", "recvmsg", "read", "readv"])
}

/// Processor time used so far, in ticks of a hundredth of a second.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(") ").next().context("no fields")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |i: usize| -> Result<u64> { Ok(fields.get(i).context("too short")?.parse()?) };
    Ok(field(11)? + field(12)?)
}

fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Opens `count` connections that stay open and idle until the returned process is dropped.
fn idle(case: &Case<'_>, guest: &Pasta, count: usize) -> Result<testkit::Proc> {
    let args = format!("idle {} {PORT} {count}", case.family.peer());
    let mut client = case.rig.start_peer(&guest.place(), &args)?;
    client.wait_line("open", SHORT)?;
    Ok(client)
}

fn one_descriptor_per_flow(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let mut guest = case.guest(&[])?;
    let pid = guest.proc().pid();
    let before = descriptors(pid)?;
    let _client = idle(case, &guest, 500)?;
    let with = descriptors(pid)?;
    ensure!(with == before + 500, "{before} before, {with} with 500 connections");
    Ok(())
}

fn closed_flows_are_forgotten(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let mut guest = case.guest(&[])?;
    let pid = guest.proc().pid();
    let before = descriptors(pid)?;
    for _ in 0..3 {
        drop(idle(case, &guest, 300)?);
        case.ask(&guest.place(), "many", case.family.peer(), "50 1000")?;
    }
    until("the descriptors of closed flows to be closed", SHORT, || {
        descriptors(pid).is_ok_and(|now| now <= before)
    })
}

fn idle_flows_cost_nothing(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let mut guest = case.guest(&[])?;
    let pid = guest.proc().pid();
    let _client = idle(case, &guest, 2000)?;
    // Delayed acknowledgements and probes of the start are over then.
    std::thread::sleep(Duration::from_secs(2));
    let before = (ticks(pid)?, switches(pid)?);
    std::thread::sleep(Duration::from_secs(4));
    let (time, woken) = (ticks(pid)? - before.0, switches(pid)? - before.1);
    ensure!(time <= 2, "{time} hundredths of a second in four seconds");
    ensure!(woken <= 40, "woken up {woken} times in four seconds");
    Ok(())
}

/// How often the process has waited for something.
fn switches(pid: u32) -> Result<u64> {
    let mut all = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        all += line.context("no such line")?.trim().parse::<u64>()?;
    }
    Ok(all)
}

/// Out of descriptors, new connections fail and old ones live.
fn descriptors_run_out(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.pasta()?.args(&["--config-net"]).limit_files(256).start_hold()?;
    let args = format!("idle {} {PORT} 150", case.family.peer());
    let mut client = case.rig.start_peer(&guest.place(), &args)?;
    client.wait_line("open", SHORT)?;
    let args = format!("idle {} {PORT} 300", case.family.peer());
    let mut more = case.rig.start_peer(&guest.place(), &args)?;
    let failed = more.wait_line("open", SHORT * 2).is_err();
    ensure!(failed, "more connections than descriptors");
    drop(more);
    client.say("go on")?;
    client.wait_line("alive 150", SHORT)?;
    // Afterwards there is room again.
    until("new connections", SHORT, || {
        case.ask(&guest.place(), "get", case.family.peer(), "1000").is_ok()
    })
}

//! How passt and pasta end, or go on, when somebody or something is in their way; and what they leave behind.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::hypervisor::{Client, Passt, SOON};
use e2e::{Case, PORT, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::{Outcome, Pasta, Place, User, until, wait_for};

matrix!(users:
    passt_killed, passt_terminated, pasta_killed, pasta_terminated, attached_pasta_killed,
    attached_pasta_terminated, the_command_ends, the_process_ends, the_path_is_removed,
    a_directory_that_may_not_be_watched, no_helpers, full_disk_of_passt, full_disk_of_pasta,
    few_descriptors, every_number_of_descriptors, little_memory, memory_runs_out,
);

/// What there is on the rig's host.
#[derive(Debug, PartialEq, Eq)]
struct Around {
    processes: BTreeSet<u32>,
    namespaces: BTreeSet<PathBuf>,
    mounts: String,
    links: String,
}

impl Around {
    fn look(case: &Case<'_>) -> Result<Self> {
        let links = case.rig.run(&Place::Host, SHORT, &["ip", "-o", "link", "show"])?;
        let mut processes = BTreeSet::new();
        let mut namespaces = BTreeSet::new();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let Some(number) = number else { continue };
            for kind in ["user", "net", "mnt", "pid", "ipc", "uts"] {
                // One that has just ended has none.
                namespaces.extend(fs::read_link(path.join("ns").join(kind)));
            }
            processes.insert(number);
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        Ok(Self { processes, namespaces, mounts, links })
    }

    /// Waits until nothing is there that was not there before.
    fn again(&self, case: &Case<'_>) -> Result<()> {
        let same = || Self::look(case).is_ok_and(|now| now == *self);
        until("nothing to be left", SOON, same)
            .with_context(|| format!("{self:?}, and now {:?}", Self::look(case)))
    }
}

fn at(case: &Case<'_>, name: &str) -> PathBuf {
    case.rig.tmp().join(name)
}

fn pid(case: &Case<'_>) -> Result<Pid> {
    let text = fs::read_to_string(at(case, "pid"))?;
    let number = text.strip_suffix('\n').with_context(|| format!("'{text}' in the PID file"))?;
    Pid::from_raw(number.parse()?).context("no process id")
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn gone(case: &Case<'_>, pid: Pid) -> Result<()> {
    case.rig.wait_gone(number(pid), SHORT)
}

/// Runs passt with its files at the usual places, and limits of prlimit(1).
fn passt(case: &Case<'_>, limits: &[String], options: &str) -> Result<Outcome> {
    let path = case.rig.passt_path()?.display().to_string();
    let line = format!("{path} -s /run/rig/tmp/socket -P /run/rig/tmp/pid {options}");
    limited(case, limits, &line)
}

/// Runs a line, split at spaces, with limits of prlimit(1).
fn limited(case: &Case<'_>, limits: &[String], line: &str) -> Result<Outcome> {
    let mut argv = vec!["prlimit".to_owned()];
    argv.extend_from_slice(limits);
    argv.push("--".to_owned());
    argv.extend(line.split_whitespace().map(str::to_owned));
    case.rig.outcome(&Place::Host, case.user, SHORT, &argv)
}

fn pasta_path(case: &Case<'_>) -> Result<String> {
    let command = case.pasta()?.command();
    let path = command.get_args().last().unwrap_or_else(|| command.get_program());
    Ok(path.to_string_lossy().into_owned())
}

/// A passt in the background, ended by a signal: its files stay, and the next one takes them over.
fn passt_ended_by(case: &Case<'_>, signal: Signal) -> Result<()> {
    let before = Around::look(case)?;
    for _ in 0..3 {
        let outcome = passt(case, &[], "-q -t 5001")?;
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        let mut client = Client::connect(&at(case, "socket"))?;
        client.alive()?;
        let pid = pid(case)?;
        kill_process(pid, signal)?;
        gone(case, pid)?;
        client.closed()?;
        ensure!(fs::symlink_metadata(at(case, "socket")).is_ok(), "the socket is gone");
        ensure!(fs::read_to_string(at(case, "pid"))? == format!("{}\n", number(pid)), "PID file");
        before.again(case)?;
    }
    Ok(())
}

fn passt_killed(case: &Case<'_>) -> Result<()> {
    passt_ended_by(case, Signal::KILL)
}

fn passt_terminated(case: &Case<'_>) -> Result<()> {
    passt_ended_by(case, Signal::TERM)?;
    passt_ended_by(case, Signal::QUIT)
}

/// The command is worth more than its network: it goes on without.
fn pasta_ended_by(case: &Case<'_>, signal: Signal, status: Option<i32>) -> Result<()> {
    let before = Around::look(case)?;
    let mut pasta = case.guest(&["-q", "-t", "5001", "-u", "5001"])?;
    let guest = pasta.guest();
    transfers(case, &pasta)?;
    let own = Pid::from_raw(i32::try_from(pasta.proc().pid())?).context("no process id")?;
    kill_process(own, signal)?;
    gone(case, own)?;
    // Far beyond the moment at which a parent's death would be told.
    std::thread::sleep(Duration::from_millis(200));
    let link = case.rig.run(&Place::Of(guest), SHORT, &["ip", "-o", "link", "show"])?;
    ensure!(!link.contains("eth0") && link.contains("lo"), "{link}");
    ensure!(
        fs::read_to_string(format!("/proc/{guest}/status"))?.contains("State:\tS"),
        "it is gone"
    );
    kill_process(Pid::from_raw(i32::try_from(guest)?).context("no process id")?, Signal::KILL)?;
    let outcome = pasta.finish()?;
    ensure!(outcome.code() == status && outcome.stderr.is_empty(), "{outcome:?}");
    before.again(case)
}

fn pasta_killed(case: &Case<'_>) -> Result<()> {
    pasta_ended_by(case, Signal::KILL, None)
}

fn pasta_terminated(case: &Case<'_>) -> Result<()> {
    pasta_ended_by(case, Signal::TERM, Some(0))?;
    pasta_ended_by(case, Signal::QUIT, Some(0))
}

/// Moves something between the namespace and the outside.
fn transfers(case: &Case<'_>, pasta: &Pasta) -> Result<()> {
    let server = case.server()?;
    let answer = case.ask(&pasta.place(), "put", case.family.peer(), "100000")?;
    drop(server);
    ensure!(answer.starts_with("100000 "), "{answer}");
    Ok(())
}

/// A pasta in the background for a namespace of somebody else's.
fn attach(case: &Case<'_>, options: &[&str]) -> Result<Pid> {
    let _ = fs::remove_file(at(case, "pid"));
    let pasta = case.pasta()?.args(&["-q", "--config-net", "-P", "/run/rig/tmp/pid"]);
    let outcome = pasta.args(options).run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    pid(case)
}

fn attached_pasta_ended_by(case: &Case<'_>, signal: Signal) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let before = Around::look(case)?;
    let own = holder.pid().to_string();
    for _ in 0..3 {
        let pid = attach(case, &["-t", "5001", "-T", "5002", &own])?;
        let link = case.rig.run(&holder.place(), SHORT, &["ip", "-o", "link", "show"])?;
        ensure!(link.contains("eth0"), "{link}");
        kill_process(pid, signal)?;
        gone(case, pid)?;
        let link = case.rig.run(&holder.place(), SHORT, &["ip", "-o", "link", "show"])?;
        ensure!(!link.contains("eth0"), "{link}");
        before.again(case)?;
    }
    Ok(())
}

fn attached_pasta_killed(case: &Case<'_>) -> Result<()> {
    attached_pasta_ended_by(case, Signal::KILL)
}

fn attached_pasta_terminated(case: &Case<'_>) -> Result<()> {
    attached_pasta_ended_by(case, Signal::TERM)
}

fn the_command_ends(case: &Case<'_>) -> Result<()> {
    let before = Around::look(case)?;
    for (script, status) in [("exit 0", 0), ("exit 37", 37), ("kill -KILL $$", 137)] {
        // Not as process 1, which cannot be killed from inside.
        let pasta =
            case.pasta()?.args(&["-q", "--config-net", "--no-pidns", "--", "sh", "-c", script]);
        let outcome = pasta.run(SHORT)?;
        ensure!(outcome.code() == Some(status) && outcome.stderr.is_empty(), "{outcome:?}");
        before.again(case)?;
    }
    // Whoever it leaves behind in its PID namespace goes with it.
    let script = "sleep 1000 & exit 3";
    let outcome =
        case.pasta()?.args(&["-q", "--config-net", "--", "sh", "-c", script]).run(SHORT)?;
    ensure!(outcome.code() == Some(3), "{outcome:?}");
    before.again(case)
}

/// Of a namespace that was named by a process. Not longer than a second later, and a bit.
fn the_process_ends(case: &Case<'_>) -> Result<()> {
    let before = Around::look(case)?;
    let holder = case.rig.hold(case.user)?;
    let pid = attach(case, &[&holder.pid().to_string()])?;
    drop(holder);
    let start = Instant::now();
    gone(case, pid)?;
    ensure!(start.elapsed() < Duration::from_secs(3), "after {:?}", start.elapsed());
    before.again(case)
}

/// A holder's network namespace at a path.
fn bound(case: &Case<'_>, holder: u32, path: &Path) -> Result<()> {
    fs::write(path, "")?;
    let net = format!("/proc/{holder}/ns/net");
    let argv = ["mount", "--bind", &net, &path.display().to_string()];
    case.rig.run(&Place::Host, SHORT, &argv).map(drop)
}

fn unbound(case: &Case<'_>, path: &Path) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["umount", &path.display().to_string()])?;
    Ok(fs::remove_file(path)?)
}

fn the_path_is_removed(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let before = Around::look(case)?;
    let user = format!("/proc/{}/ns/user", holder.pid());
    let path = at(case, "namespace");
    let shown = path.display().to_string();
    for foreground in [false, true] {
        bound(case, holder.pid(), &path)?;
        let options = ["--userns", &user, "--netns", &shown];
        if foreground {
            let pasta = case.pasta()?.args(&["-f", "--config-net"]).args(&options);
            let proc = pasta.start()?;
            let link =
                || case.rig.run(&holder.place(), SHORT, &["ip", "-o", "link", "show", "eth0"]);
            until("the interface", SOON, || link().is_ok())?;
            // Another file's end is not that of this one.
            fs::write(at(case, "other"), "")?;
            fs::remove_file(at(case, "other"))?;
            unbound(case, &path)?;
            let outcome = proc.finish(SHORT)?;
            ensure!(outcome.code() == Some(0), "{outcome:?}");
            ensure!(
                outcome.stderr.ends_with("Namespace namespace is gone, exiting\n"),
                "{outcome:?}"
            );
        } else {
            let pid = attach(case, &options)?;
            unbound(case, &path)?;
            gone(case, pid)?;
        }
        before.again(case)?;
    }
    // Nobody watches, if that is what is wanted.
    bound(case, holder.pid(), &path)?;
    let pid = attach(case, &["--no-netns-quit", "--userns", &user, "--netns", &shown])?;
    unbound(case, &path)?;
    std::thread::sleep(Duration::from_millis(1500));
    kill_process(pid, Signal::TERM).context("it is gone")?;
    gone(case, pid)?;
    before.again(case)
}

/// The cause, and the way out. Root may look everywhere.
fn a_directory_that_may_not_be_watched(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let directory = at(case, "locked");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
    let path = directory.join("namespace");
    bound(case, holder.pid(), &path)?;
    let user = format!("/proc/{}/ns/user", holder.pid());
    let shown = path.display().to_string();
    let options = ["--userns", &user, "--netns", &shown];
    if case.user == User::Root {
        let pid = attach(case, &options)?;
        unbound(case, &path)?;
        return gone(case, pid);
    }
    for foreground in [&["-f"][..], &[]] {
        let pasta = case.pasta()?.args(foreground).args(&["-q"]).args(&options);
        let outcome = pasta.run(SHORT)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let mut lines = outcome.stderr.lines();
        ensure!(lines.next() == Some("netns dir open: Permission denied"), "{outcome:?}");
        ensure!(lines.next().is_some_and(|line| line.contains("--no-netns-quit")), "{outcome:?}");
        ensure!(lines.next().is_none(), "{outcome:?}");
    }
    let pid = attach(case, &[&["--no-netns-quit"], &options[..]].concat())?;
    kill_process(pid, Signal::TERM)?;
    gone(case, pid)
}

/// Processes whose parent a process is.
fn children(pid: u32) -> Result<Vec<String>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        children.extend(text.split_whitespace().map(str::to_owned));
    }
    Ok(children)
}

fn threads(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// One process; pasta has a thread in the namespace where there is something to do there, and its command.
fn no_helpers(case: &Case<'_>) -> Result<()> {
    let before = Around::look(case)?;
    let outcome = passt(case, &[], "-q -t 5001 -u 5001")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Client::connect(&at(case, "socket"))?.alive()?;
    let daemon = pid(case)?;
    ensure!(children(number(daemon))?.is_empty(), "{:?}", children(number(daemon))?);
    ensure!(threads(number(daemon))? == 1, "{} threads", threads(number(daemon))?);
    kill_process(daemon, Signal::TERM)?;
    gone(case, daemon)?;
    before.again(case)?;

    let mut pasta = case.guest(&["-q", "-t", "5001", "-T", "5002"])?;
    transfers(case, &pasta)?;
    let own = pasta.proc().pid();
    let (children, threads) = (children(own)?, threads(own)?);
    ensure!(
        children == [pasta.guest().to_string()] && threads == 2,
        "{children:?}, {threads} threads"
    );
    ensure!(pasta.finish()?.code() == Some(0), "status");
    before.again(case)
}

/// A file system that is soon full.
fn small_disk(case: &Case<'_>) -> Result<PathBuf> {
    let path = Path::new("/run/rig/small");
    fs::create_dir(path)?;
    let argv = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "small", "/run/rig/small"];
    case.rig.run(&Place::Host, SHORT, &argv)?;
    Ok(path.to_owned())
}

/// What there is in a file, up to now.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Checks the lines of a log file, all of them whole.
fn whole_lines(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let stamp = line.split_once(": ").and_then(|(stamp, _)| stamp.parse::<f64>().ok());
        // One may have been cut off by the full disk, but none goes on where that was.
        ensure!(stamp.is_some() || line.len() < 20, "{line}");
    }
    Ok(())
}

/// Traffic goes on, one line says that the capture does not, and the log goes on when there is room.
fn full_disk_of_passt(case: &Case<'_>) -> Result<()> {
    let small = small_disk(case)?;
    let (log, pcap) = (small.join("log"), small.join("pcap"));
    let options = format!("-d -l {} --log-size 10000000 -p {}", log.display(), pcap.display());
    let mut passt = Passt::start(case, &options)?;
    let mut client = passt.connect()?;
    client.alive()?;
    let refused = |client: &mut Client, port: u16| -> Result<()> {
        let (from, to): (SocketAddr, SocketAddr) =
            ("203.0.113.2:1".parse()?, "203.0.113.1:9".parse()?);
        let mut frame = Vec::new();
        let packet = client.packet(from.ip(), to.ip())?.tcp(port, to.port(), 1, 65535).syn();
        packet.write(&mut frame, &[])?;
        client.send(&frame)
    };
    for port in 20000..23000 {
        refused(&mut client, port)?;
    }
    let start = Instant::now();
    client.alive()?;
    ensure!(start.elapsed() < Duration::from_secs(1), "an answer took {:?}", start.elapsed());
    ensure!(fs::write(small.join("more"), [0; 4096]).is_err(), "the disk is not full");
    let full = size(&log);
    let stderr = passt.proc.stderr();
    ensure!(stderr.matches("Packet capture ends: ").count() == 1, "{stderr}");
    ensure!(stderr.contains("Packet capture ends: No space left on device"), "{stderr}");
    let _ = fs::remove_file(small.join("more"));
    // There is room again.
    fs::remove_file(&pcap)?;
    for port in 23000..23100 {
        refused(&mut client, port)?;
    }
    client.alive()?;
    until("the log to go on", SOON, || size(&log) > full)?;
    whole_lines(&log)?;
    drop(client);
    passt.serves()?;
    passt.proc.signal(Signal::TERM)?;
    ensure!(passt.proc.finish(SHORT)?.code() == Some(0), "status");
    Ok(())
}

fn full_disk_of_pasta(case: &Case<'_>) -> Result<()> {
    let small = small_disk(case)?;
    let (log, pcap) = (small.join("log").display().to_string(), small.join("pcap"));
    let shown = pcap.display().to_string();
    let guest = case.guest(&["-l", &log, "-p", &shown])?;
    for _ in 0..5 {
        transfers(case, &guest)?;
    }
    ensure!(size(&pcap) > 30_000, "{} bytes", size(&pcap));
    let outcome = guest.finish()?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    // Standard error is the command's.
    ensure!(!outcome.stderr.contains("capture"), "{outcome:?}");
    // One that is full from the start.
    fs::write(small.join("more"), [0; 60_000]).err().context("the disk is not full")?;
    let guest = case.guest(&["-l", &log, "-p", &shown])?;
    transfers(case, &guest)?;
    ensure!(guest.finish()?.code() == Some(0), "status");
    Ok(())
}

/// Sixty-four are enough for everything but many flows at a time.
fn few_descriptors(case: &Case<'_>) -> Result<()> {
    let before = Around::look(case)?;
    let outcome = passt(case, &["--nofile=64".into()], "-q -t 5001-5005")?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    Client::connect(&at(case, "socket"))?.alive()?;
    let daemon = pid(case)?;
    kill_process(daemon, Signal::TERM)?;
    gone(case, daemon)?;
    let pasta = case.pasta()?.limit_files(64).args(&["-q", "--config-net"]).start_hold()?;
    transfers(case, &pasta)?;
    ensure!(pasta.finish()?.code() == Some(0), "status");
    before.again(case)
}

/// Wherever they run out: a start succeeds, or says why not, also when it has gone to the background already.
fn every_number_of_descriptors(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let before = Around::look(case)?;
    let line = format!(
        "{} -q --config-net -t 5001 -T 5002 -P /run/rig/tmp/pid {}",
        pasta_path(case)?,
        holder.pid()
    );
    let mut failed = 0;
    for files in 4..40 {
        let limits = [format!("--nofile={files}")];
        for passt_too in [true, false] {
            let _ = fs::remove_file(at(case, "pid"));
            let outcome = if passt_too {
                passt(case, &limits, "-q -t 5001 -c /run/rig/tmp/control")?
            } else {
                limited(case, &limits, &line)?
            };
            let what = || format!("{files} descriptors, {outcome:?}");
            match outcome.code() {
                Some(0) => {
                    if passt_too {
                        Client::connect(&at(case, "socket"))?.alive().with_context(what)?;
                    }
                    let pid = pid(case).with_context(what)?;
                    kill_process(pid, Signal::TERM).with_context(what)?;
                    gone(case, pid)?;
                }
                // Of the loader, if it cannot open a library.
                Some(1 | 127) => {
                    failed += 1;
                    ensure!(!outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{}", what());
                    ensure!(outcome.stderr.contains("Too many open files"), "{}", what());
                }
                _ => bail!("{}", what()),
            }
            before.again(case).with_context(what)?;
        }
    }
    ensure!(failed > 10, "only {failed} starts failed");
    Ok(())
}

/// The same of memory, in steps. Where it is short, a start may end by a signal, but it does end.
fn little_memory(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let before = Around::look(case)?;
    let line = format!(
        "{} -q --config-net -t 5001 -T 5002 -P /run/rig/tmp/pid {}",
        pasta_path(case)?,
        holder.pid()
    );
    let (mut failed, mut fine) = (0, 0);
    for step in 1..20_u64 {
        let limits = [format!("--as={}", step << 20)];
        for passt_too in [true, false] {
            let _ = fs::remove_file(at(case, "pid"));
            let outcome = if passt_too {
                passt(case, &limits, "-q -t 5001")?
            } else {
                limited(case, &limits, &line)?
            };
            let what = || format!("{step} MiB, {outcome:?}");
            if outcome.code() == Some(0) {
                fine += 1;
                if passt_too {
                    Client::connect(&at(case, "socket"))?.alive().with_context(what)?;
                }
                let pid = pid(case).with_context(what)?;
                kill_process(pid, Signal::TERM).with_context(what)?;
                gone(case, pid)?;
            } else {
                failed += 1;
                // The kernel itself ends what it cannot even load.
                let silent =
                    outcome.stderr.is_empty() && outcome.code().is_some_and(|code| code < 128);
                ensure!(!silent && outcome.stdout.is_empty(), "{}", what());
            }
            before.again(case).with_context(what)?;
        }
    }
    ensure!(failed > 0 && fine > 2, "{failed} failed, {fine} fine");
    Ok(())
}

/// A guest that opens flows without end, in a process that may not grow: it goes on or it ends, and leaves
/// nothing. If it goes on, it serves.
fn memory_runs_out(case: &Case<'_>) -> Result<()> {
    let before = Around::look(case)?;
    // What a start takes at least, in steps of a page.
    let starts = |pages: u64| -> Result<bool> {
        let outcome = passt(case, &[format!("--as={}", pages << 12)], &format!("-q -u {PORT}"))?;
        Ok(outcome.code() == Some(0))
    };
    let (mut short, mut enough) = (1, 16384);
    while enough - short > 16 {
        let half = (short + enough) / 2;
        if starts(half)? {
            let daemon = pid(case)?;
            kill_process(daemon, Signal::TERM)?;
            gone(case, daemon)?;
            enough = half;
        } else {
            short = half;
        }
    }
    ensure!(starts(enough)?, "{enough} pages were enough");
    let daemon = pid(case)?;
    let mut client = Client::connect(&at(case, "socket"))?;
    let flood = (0..60_000_u32).try_for_each(|n| {
        let from = SocketAddr::from(([203, 0, 113, 2], u16::try_from(1024 + n % 60_000)?));
        client.datagram(from, "203.0.113.1:9".parse()?, b"x")
    });
    let alive = flood.and_then(|()| client.alive());
    let serves = wait_for("an end or an answer", SOON, || match &alive {
        Ok(()) => Ok(Some(true)),
        Err(_) => Ok((!Path::new(&format!("/proc/{}", number(daemon))).exists()).then_some(false)),
    })?;
    drop(client);
    if serves {
        Client::connect(&at(case, "socket"))?.alive()?;
        kill_process(daemon, Signal::TERM)?;
    }
    gone(case, daemon)?;
    before.again(case)?;
    // The next one finds its place.
    let outcome = passt(case, &[], "-q")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let daemon = pid(case)?;
    kill_process(daemon, Signal::TERM)?;
    gone(case, daemon)
}

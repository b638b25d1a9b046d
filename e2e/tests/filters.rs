//! The filters of system calls of the shipped programs, as the kernel has them: exactly the tables', and no larger
//! than those of the C implementation.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::filters::{Attempt, Thread, threads};
use e2e::hypervisor::{Client, Passt, SOON, inheritable};
use e2e::{Case, SHORT, matrix};
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use sys::seccomp::{self, AVAILABLE, Call};
use testkit::{Place, Proc, wait_for};

matrix!(users:
    passt_in_the_foreground, passt_in_the_background, passt_by_descriptor, pasta_with_a_command,
    pasta_without_ports, pasta_at_a_process, pesto, a_command_has_none, passt_repair,
);

/// Calls that the C implementation's filters let pass.
const C_PASST: usize = 34;
const C_PASTA: usize = 43;
const C_PESTO: usize = 9;
const C_REPAIR: usize = 17;

const PROT_EXEC: u64 = 4;
const AF_INET: u64 = 2;
const STREAM: u64 = 0o2_000_000 | 0o4_000 | 1;
const TCP: u64 = 6;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_PATH: u64 = 0o10_000_000;

/// The number of a call of a table.
fn number(table: &[Call], name: &str) -> Result<u32> {
    let call = table.iter().find(|call| call.name == name).with_context(|| name.to_owned())?;
    Ok(u32::try_from(call.number)?)
}

/// Whether calls of a table with some arguments pass as they should.
fn attempts(thread: &Thread, table: &[Call], all: &[(&str, [u64; 6], bool)]) -> Result<()> {
    for (name, arguments, allowed) in all {
        let attempt = Attempt::new(number(table, name)?, *arguments);
        ensure!(thread.allows(&attempt)? == *allowed, "{}: {name} {arguments:x?}", thread.name);
    }
    Ok(())
}

/// No code comes into being, and no sockets but those that packets need.
fn confined(thread: &Thread, table: &[Call]) -> Result<()> {
    const PRIVATE: u64 = 0x22;
    attempts(
        thread,
        table,
        &[
            ("SYS_mmap", [0, 4096, 3, PRIVATE, u64::MAX, 0], true),
            ("SYS_mmap", [0, 4096, 0, PRIVATE | 0x4000, u64::MAX, 0], true),
            ("SYS_mmap", [0, 4096, PROT_EXEC, PRIVATE, u64::MAX, 0], false),
            ("SYS_mmap", [0, 4096, 7, PRIVATE, u64::MAX, 0], false),
            ("SYS_mmap", [0, 4096, 1, 2, 3, 0], false),
            ("SYS_mmap", [0, 4096, 3, 0x21, u64::MAX, 0], false),
            ("SYS_mprotect", [0, 4096, 3, 0, 0, 0], true),
            ("SYS_mprotect", [0, 4096, 1 | PROT_EXEC, 0, 0, 0], false),
            ("SYS_socket", [AF_INET, STREAM, TCP, 0, 0, 0], true),
            ("SYS_socket", [10, STREAM, TCP, 0, 0, 0], true),
            ("SYS_socket", [10, 2, 17, 0, 0, 0], true),
            ("SYS_socket", [AF_INET, 3, TCP, 0, 0, 0], false),
            ("SYS_socket", [AF_INET, 3, 255, 0, 0, 0], false),
            ("SYS_socket", [AF_INET, STREAM, 132, 0, 0, 0], false),
            ("SYS_socket", [AF_INET, STREAM, 262, 0, 0, 0], false),
            ("SYS_socket", [1, STREAM, 0, 0, 0, 0], false),
            ("SYS_socket", [16, 3, 0, 0, 0, 0], false),
            ("SYS_socket", [17, 3, 0, 0, 0, 0], false),
        ],
    )
}

/// passt, which may have to forbid something later.
fn is_passt(pid: u32, later: Option<Call>) -> Result<()> {
    let threads = threads(pid)?;
    let [only] = threads.as_slice() else { anyhow::bail!("{threads:?}") };
    let table: Vec<Call> = seccomp::PASST.iter().copied().chain(later).collect();
    only.check(&table, C_PASST)?;
    confined(only, seccomp::PASST)?;
    let ping = [("SYS_socket", [AF_INET, 2, 1, 0, 0, 0], true)];
    attempts(only, seccomp::PASST, &ping)
}

/// pasta, with a thread in the namespace or without.
fn is_pasta(pid: u32, with_ports: bool) -> Result<()> {
    let threads = threads(pid)?;
    ensure!(threads.len() == 1 + usize::from(with_ports), "{threads:?}");
    for thread in &threads {
        let lives_there = thread.id != pid;
        let table = if lives_there { seccomp::PASTA_NAMESPACE } else { seccomp::PASTA };
        thread.check(table, C_PASTA)?;
        confined(thread, table)?;
        attempts(
            thread,
            table,
            &[
                ("SYS_socket", [AF_INET, 2, 1, 0, 0, 0], !lives_there),
                // FUTEX_WAIT, FUTEX_WAKE and FUTEX_WAIT_BITSET of our own, not FUTEX_REQUEUE_PI.
                ("SYS_futex", [0, 128, 0, 0, 0, 0], true),
                ("SYS_futex", [0, 129, 0, 0, 0, 0], true),
                ("SYS_futex", [0, 137, 0, 0, 0, 0], true),
                ("SYS_futex", [0, 12, 0, 0, 0, 0], false),
                ("SYS_futex", [0, 140, 0, 0, 0, 0], false),
            ],
        )?;
        if !lives_there {
            // TUNSETPERSIST, but not TIOCSTI; F_SETPIPE_SZ, but not F_SETOWN; O_PATH alone.
            attempts(
                thread,
                table,
                &[
                    ("SYS_ioctl", [3, 0x4004_54cb, 0, 0, 0, 0], true),
                    ("SYS_ioctl", [0, 0x5412, 0, 0, 0, 0], false),
                    ("SYS_fcntl", [3, 1031, 0, 0, 0, 0], true),
                    ("SYS_fcntl", [3, 8, 0, 0, 0, 0], false),
                    ("SYS_openat", [3, 0, O_PATH | O_CLOEXEC, 0, 0, 0], true),
                    ("SYS_openat", [3, 0, O_CLOEXEC, 0, 0, 0], false),
                    ("SYS_openat", [3, 0, 0, 0, 0, 0], false),
                ],
            )?;
        }
    }
    Ok(())
}

/// Whether there is something to look at.
fn available() -> bool {
    if !AVAILABLE {
        eprintln!("system calls are not filtered on this architecture");
    }
    AVAILABLE
}

fn passt_in_the_foreground(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut passt = Passt::start(case, "-t 5009 -u 5009")?;
    is_passt(passt.proc.pid(), None)?;
    passt.serves()
}

fn pid_in(file: &Path) -> Result<u32> {
    wait_for("a PID", SOON, || Ok(fs::read_to_string(file)?.trim().parse().ok()))
}

fn passt_in_the_background(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let socket = case.rig.tmp().join("guest.socket").display().to_string();
    let file = case.rig.tmp().join("pid");
    let options = ["-q", "-s", &socket, "-P", &file.display().to_string()];
    let outcome = case.rig.passt(case.user)?.args(&options).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    is_passt(pid_in(&file)?, None)?;
    Client::connect(Path::new(&socket))?.alive()
}

fn passt_by_descriptor(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = theirs.into();
    let options = ["-f", "-q", "-F", &inheritable(&theirs)?];
    let passt = case.rig.passt(case.user)?.args(&options).start()?;
    drop(theirs);
    let mut client = Client::over(ours)?;
    client.alive()?;
    is_passt(passt.pid(), Some(seccomp::FORBID_DUMPING))?;
    client.alive()
}

fn pasta_with_a_command(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut guest = case.guest(&["-t", "auto", "-T", "auto"])?;
    is_pasta(guest.proc().pid(), true)?;
    let outcome = guest.finish()?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(())
}

fn pasta_without_ports(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let mut guest = case.guest(&["-t", "none", "-u", "none", "-T", "none", "-U", "none"])?;
    is_pasta(guest.proc().pid(), false)
}

fn pasta_at_a_process(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let holder = case.rig.hold(case.user)?;
    let file = case.rig.tmp().join("pid");
    let (pid, path) = (holder.pid().to_string(), file.display().to_string());
    let outcome = case.pasta()?.args(&["--config-net", "-q", "-P", &path, &pid]).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    is_pasta(pid_in(&file)?, true)
}

/// While it waits for a server that says nothing.
fn pesto(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let path = case.rig.tmp().join("control");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let argv = [case.rig.pesto()?.display().to_string(), path.display().to_string()];
    let command = case.rig.command(&Place::Host, case.user, &argv);
    let mut client = Proc::start(command)?;
    let (stream, _) = listener.accept()?;
    let threads = threads(client.pid())?;
    let [only] = threads.as_slice() else { anyhow::bail!("{threads:?}") };
    only.check(seccomp::PESTO, C_PESTO)?;
    attempts(
        only,
        seccomp::PESTO,
        &[
            ("SYS_socket", [1, STREAM, 0, 0, 0, 0], true),
            ("SYS_socket", [AF_INET, STREAM, TCP, 0, 0, 0], false),
            ("SYS_socket", [1, 2, 0, 0, 0, 0], false),
        ],
    )?;
    ensure!(client.running()?, "pesto ended");
    drop(stream);
    let outcome = client.finish(SHORT)?;
    ensure!(outcome.code() == Some(1) && !outcome.stderr.is_empty(), "{outcome:?}");
    // What C's version is killed for.
    for (option, status) in [("--nosuchoption", 1), ("--help", 0), ("--version", 0)] {
        let argv = [argv[0].as_str(), option];
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
        ensure!(outcome.code() == Some(status), "{option}: {outcome:?}");
        let usage = outcome.stderr.contains("Usage: ");
        ensure!(usage == (status == 1), "{option}: {outcome:?}");
    }
    Ok(())
}

/// What runs in the namespace is none of the filters' business.
fn a_command_has_none(case: &Case<'_>) -> Result<()> {
    let grep = ["grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status"];
    let outside = case.rig.outcome(&Place::Host, case.user, SHORT, &grep)?.ok("grep")?;
    let inside = case.pasta()?.args(&["--config-net", "--"]).args(&grep).run(SHORT)?.ok("grep")?;
    ensure!(inside == outside && outside.contains("Seccomp:\t0"), "{inside}, not {outside}");
    ensure!(outside.contains("NoNewPrivs:\t0"), "{outside}");
    Ok(())
}

/// Before it has a server, and with one.
fn passt_repair(case: &Case<'_>) -> Result<()> {
    if !available() {
        return Ok(());
    }
    let directory = case.rig.tmp().join("repair");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let program = case.rig.passt_repair(case.user)?.display().to_string();
    let argv = [program, directory.display().to_string()];
    let command = case.rig.command(&Place::Host, case.user, &argv);
    let client = Proc::start(command)?;
    let look = |table, limit| -> Result<()> {
        let threads = threads(client.pid())?;
        let [only] = threads.as_slice() else { anyhow::bail!("{threads:?}") };
        only.check(table, limit)
    };
    look(seccomp::repair::SEARCHING, C_REPAIR)?;
    let path = directory.join("guest.repair");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let (_stream, _) = listener.accept()?;
    wait_for("the second filter", SHORT, || {
        Ok(look(seccomp::repair::SERVING, C_REPAIR).is_ok().then_some(()))
    })?;
    Ok(())
}

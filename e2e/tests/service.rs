//! What service managers hand over and are told: sd_notify(3), sd_listen_fds(3), `--ready-fd`.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::hypervisor::{Client, SOON, inheritable};
use e2e::{Case, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use testkit::{Outcome, Place, Proc};

matrix!(users:
    notified_by_path, notified_by_name, notified_in_the_background, a_failed_start_notifies_nobody,
    who_was_started_by_others_is_silent, the_command_notifies, a_manager_that_is_not_there,
    a_socket_to_listen_on, sockets_for_others, wrong_sockets, ready_by_descriptor,
    ready_by_descriptor_with_a_command, no_descriptor,
);

/// Lets a shell prepare the environment, in which `$$` is the process that becomes the program.
fn command(case: &Case<'_>, script: &str, argv: &[String]) -> std::process::Command {
    let script = format!("{script}; exec \"$@\"");
    let mut words = vec!["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    words.extend_from_slice(argv);
    case.rig.command(&Place::Host, case.user, &words)
}

/// Program and arguments, split at spaces.
fn passt(case: &Case<'_>, line: &str) -> Result<Vec<String>> {
    let path = case.rig.passt_path()?.display().to_string();
    Ok(std::iter::once(path).chain(line.split_whitespace().map(str::to_owned)).collect())
}

fn pasta(case: &Case<'_>, line: &str) -> Result<Vec<String>> {
    let path = case.pasta()?.command();
    // The last word of the command is the program.
    let path = path.get_args().last().unwrap_or_else(|| path.get_program());
    let words = line.split_whitespace().map(str::to_owned);
    Ok(std::iter::once(path.to_string_lossy().into_owned()).chain(words).collect())
}

fn at(case: &Case<'_>, name: &str) -> PathBuf {
    case.rig.tmp().join(name)
}

/// A manager's end.
fn manager(case: &Case<'_>) -> Result<UnixDatagram> {
    let path = at(case, "notify");
    let manager = UnixDatagram::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    manager.set_read_timeout(Some(SHORT))?;
    Ok(manager)
}

/// The next notification.
fn heard(manager: &UnixDatagram) -> Result<String> {
    let mut room = [0; 256];
    let len = manager.recv(&mut room).context("no notification")?;
    Ok(String::from_utf8(room.get(..len).unwrap_or_default().to_vec())?)
}

/// Checks that there is none that has not been read.
fn silent(manager: &UnixDatagram) -> Result<()> {
    manager.set_nonblocking(true)?;
    let heard = heard(manager);
    manager.set_nonblocking(false)?;
    ensure!(heard.is_err(), "heard {heard:?}");
    Ok(())
}

const NOTIFY: &str = "export NOTIFY_SOCKET=/run/rig/tmp/notify SYSTEMD_EXEC_PID=$$";

fn stop(proc: Proc, manager: &UnixDatagram) -> Result<()> {
    proc.signal(Signal::TERM)?;
    ensure!(heard(manager)? == "STOPPING=1\n", "what it says at the end");
    let outcome = proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    silent(manager)
}

fn notified_by_path(case: &Case<'_>) -> Result<()> {
    let manager = manager(case)?;
    let socket = at(case, "socket");
    let line = format!("-f -q -P /run/rig/tmp/pid -s {}", socket.display());
    let proc = Proc::start(command(case, NOTIFY, &passt(case, &line)?))?;
    // It is the process that was started itself.
    ensure!(heard(&manager)? == "READY=1\n", "what it says at the start");
    ensure!(fs::read_to_string(at(case, "pid"))? == format!("{}\n", proc.pid()), "PID file");
    UnixStream::connect(&socket).context("it is not ready")?;
    stop(proc, &manager)
}

/// In the abstract namespace, and by a manager that does not say which process it started.
fn notified_by_name(case: &Case<'_>) -> Result<()> {
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("rig/notify")?)?;
    manager.set_read_timeout(Some(SHORT))?;
    let holder = case.rig.hold(case.user)?;
    let argv = pasta(case, &format!("-f -q --config-net {}", holder.pid()))?;
    let mut command = command(case, "unset SYSTEMD_EXEC_PID", &argv);
    let proc = Proc::start({
        command.env("NOTIFY_SOCKET", "@rig/notify");
        command
    })?;
    ensure!(heard(&manager)? == "READY=1\n", "what it says at the start");
    stop(proc, &manager)
}

fn run(case: &Case<'_>, script: &str, argv: &[String]) -> Result<Outcome> {
    Proc::run(command(case, script, argv), SHORT)
}

fn pid(case: &Case<'_>) -> Result<Pid> {
    Pid::from_raw(fs::read_to_string(at(case, "pid"))?.trim_end().parse()?).context("no process id")
}

fn gone(case: &Case<'_>, pid: Pid) -> Result<()> {
    case.rig.wait_gone(pid.as_raw_nonzero().get().unsigned_abs(), SHORT)
}

/// By then the process that was started is at its end, and says who goes on.
fn notified_in_the_background(case: &Case<'_>) -> Result<()> {
    let manager = manager(case)?;
    let holder = case.rig.hold(case.user)?;
    let for_passt = passt(case, "-q -P /run/rig/tmp/pid -s /run/rig/tmp/socket")?;
    let line = format!("-q --config-net --pid /run/rig/tmp/pid {}", holder.pid());
    for argv in [for_passt, pasta(case, &line)?] {
        let outcome = run(case, NOTIFY, &argv)?;
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        let pid = pid(case)?;
        let wanted = format!("READY=1\nMAINPID={}\n", pid.as_raw_nonzero());
        let said = heard(&manager)?;
        ensure!(said == wanted, "{said}, wanted {wanted}");
        silent(&manager)?;
        kill_process(pid, Signal::TERM)?;
        ensure!(heard(&manager)? == "STOPPING=1\n", "what it says at the end");
        gone(case, pid)?;
    }
    Ok(())
}

fn a_failed_start_notifies_nobody(case: &Case<'_>) -> Result<()> {
    let manager = manager(case)?;
    for line in ["-q -t 192.0.2.99/80 -s /run/rig/tmp/s", "-q -s /no/such/directory/s"] {
        for foreground in ["-f ", ""] {
            let argv = passt(case, &format!("{foreground}{line}"))?;
            let outcome = run(case, NOTIFY, &argv)?;
            ensure!(outcome.code() == Some(1) && !outcome.stderr.is_empty(), "{outcome:?}");
        }
    }
    silent(&manager)
}

/// Its starter's readiness is none of its business: whoever starts us for a container may be a service.
fn who_was_started_by_others_is_silent(case: &Case<'_>) -> Result<()> {
    let manager = manager(case)?;
    let argv = passt(case, "-q -P /run/rig/tmp/pid -s /run/rig/tmp/socket")?;
    let script = "export NOTIFY_SOCKET=/run/rig/tmp/notify SYSTEMD_EXEC_PID=$PPID";
    let outcome = run(case, script, &argv)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    let pid = pid(case)?;
    kill_process(pid, Signal::TERM)?;
    gone(case, pid)?;
    silent(&manager)
}

/// It is what the service is about, and finds everything as it was.
fn the_command_notifies(case: &Case<'_>) -> Result<()> {
    let manager = manager(case)?;
    let mut argv = pasta(case, "-q --config-net -- sh -c")?;
    argv.push("echo $NOTIFY_SOCKET $SYSTEMD_EXEC_PID".to_owned());
    let outcome = run(case, &format!("{NOTIFY}; echo $$"), &argv)?;
    let mut lines = outcome.stdout.lines();
    let pid = lines.next().context("no output")?;
    let wanted = format!("/run/rig/tmp/notify {pid}");
    ensure!(outcome.code() == Some(0) && lines.next() == Some(&wanted), "{outcome:?}");
    silent(&manager)
}

fn a_manager_that_is_not_there(case: &Case<'_>) -> Result<()> {
    for address in ["/run/rig/tmp/nobody", "vsock:2:1234", "relative", "@"] {
        let argv = passt(case, "-q -P /run/rig/tmp/pid -s /run/rig/tmp/socket")?;
        let outcome = run(case, &format!("export NOTIFY_SOCKET={address}"), &argv)?;
        let start = format!("Couldn't connect to service manager at {address}: ");
        ensure!(outcome.code() == Some(0) && outcome.stderr.starts_with(&start), "{outcome:?}");
        ensure!(outcome.stderr.lines().count() == 1, "{outcome:?}");
        let pid = pid(case)?;
        kill_process(pid, Signal::TERM)?;
        gone(case, pid)?;
    }
    Ok(())
}

/// A descriptor as number 3.
fn with(fd: &OwnedFd, more: &str) -> Result<String> {
    Ok(format!("exec 3<&{}; export LISTEN_PID=$$ LISTEN_FDS=1; {more}", inheritable(fd)?))
}

/// It may be in a place that we ourselves could not use, and clients may wait there already.
fn a_socket_to_listen_on(case: &Case<'_>) -> Result<()> {
    let place = at(case, "managed");
    fs::create_dir(&place)?;
    let path = place.join("socket");
    let socket = OwnedFd::from(UnixListener::bind(&path)?);
    let early = UnixStream::connect(&path)?;
    let line = "-f -P /run/rig/tmp/pid";
    let proc = Proc::start(command(case, &with(&socket, "true")?, &passt(case, line)?))?;
    let mut client = Client::over(early)?;
    client.alive().with_context(|| proc.stderr())?;
    drop(client);
    Client::connect(&path)?.alive()?;
    ensure!(proc.stderr().contains(&format!("addr.path={}", path.display())), "{}", proc.stderr());
    ensure!(!proc.stderr().contains("socket bound"), "{}", proc.stderr());
    proc.signal(Signal::TERM)?;
    ensure!(proc.finish(SHORT)?.code() == Some(0), "status");
    // In the background, and for one connection.
    let argv = passt(case, "-q -1 -P /run/rig/tmp/pid")?;
    let outcome = run(case, &with(&socket, "true")?, &argv)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    let pid = pid(case)?;
    Client::connect(&path)?.alive()?;
    gone(case, pid)?;
    // The manager's socket is still there for the next one.
    UnixStream::connect(&path)?;
    Ok(())
}

/// What another process was handed is closed like everything else we inherit.
fn sockets_for_others(case: &Case<'_>) -> Result<()> {
    let path = at(case, "theirs");
    let socket = OwnedFd::from(UnixListener::bind(&path)?);
    let others = format!("exec 3<&{}; export LISTEN_PID=$PPID LISTEN_FDS=1", inheritable(&socket)?);
    let argv = passt(case, "-q -P /run/rig/tmp/pid -s /run/rig/tmp/socket")?;
    let outcome = run(case, &others, &argv)?;
    drop(socket);
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    Client::connect(&at(case, "socket"))?.alive()?;
    ensure!(UnixStream::connect(&path).is_err(), "somebody has the other socket");
    let argv = pasta(case, "-q --config-net -- true")?;
    let outcome = run(case, "export LISTEN_PID=1 LISTEN_FDS=2", &argv)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    kill_process(pid(case)?, Signal::TERM)?;
    Ok(())
}

fn wrong_sockets(case: &Case<'_>) -> Result<()> {
    let (one, _other) = UnixStream::pair()?;
    let (datagrams, _others) = UnixDatagram::pair()?;
    let wrong = "Descriptor 3 of LISTEN_FDS is not a listening UNIX domain stream socket";
    let all: [(&str, OwnedFd); 4] = [
        ("a connection", one.into()),
        ("datagrams", datagrams.into()),
        ("TCP", TcpListener::bind("127.0.0.1:0")?.into()),
        ("a file", fs::File::open("/etc/passwd")?.into()),
    ];
    let refused = |script: &str, argv: &[String], wanted: &str| -> Result<()> {
        let outcome = run(case, script, argv)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        ensure!(outcome.stderr == format!("{wanted}\n"), "{outcome:?}, wanted {wanted}");
        Ok(())
    };
    for (what, fd) in all {
        for line in ["-q -f", "-q"] {
            let argv = passt(case, line)?;
            refused(&with(&fd, "true")?, &argv, wrong).context(what)?;
        }
    }
    let socket = OwnedFd::from(UnixListener::bind(at(case, "fine"))?);
    let none = "exec 3<&-; export LISTEN_PID=$$ LISTEN_FDS=1";
    let closed = "Could not use socket of service manager: Bad file descriptor";
    refused(none, &passt(case, "-q -f")?, closed)?;
    let several = with(&socket, "exec 4<&3; export LISTEN_FDS=2")?;
    refused(&several, &passt(case, "-q -f")?, "2 sockets in LISTEN_FDS, which can have one")?;
    let both = "Neither --socket nor --fd can be combined with a socket in LISTEN_FDS";
    for line in ["-q -f -s /run/rig/tmp/other", "-q -f --fd 3"] {
        refused(&with(&socket, "true")?, &passt(case, line)?, both)?;
    }
    let argv = pasta(case, "-q -- true")?;
    refused(&with(&socket, "true")?, &argv, "Sockets in LISTEN_FDS are for passt mode only")
}

/// A stream whose other end is inherited, by its number.
fn pipe() -> Result<(UnixStream, OwnedFd, String)> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let number = inheritable(&theirs)?;
    Ok((ours, theirs, number))
}

fn ready_by_descriptor(case: &Case<'_>) -> Result<()> {
    for foreground in ["-f ", ""] {
        let _ = fs::remove_file(at(case, "pid"));
        let (mut ours, theirs, number) = pipe()?;
        let line = format!(
            "-q {foreground}--ready-fd {number} -P /run/rig/tmp/pid -s /run/rig/tmp/socket"
        );
        let proc = Proc::start(command(case, "true", &passt(case, &line)?))?;
        drop(theirs);
        let mut said = String::new();
        // Up to its end: nobody keeps it open, whoever goes on.
        ours.read_to_string(&mut said)?;
        ensure!(said == "ready\n", "{said:?}: {}", proc.stderr());
        let pid = pid(case)?;
        UnixStream::connect(at(case, "socket")).context("it is not ready")?;
        kill_process(pid, Signal::TERM)?;
        ensure!(proc.finish(SHORT)?.code() == Some(0), "status");
        gone(case, pid)?;
    }
    // Of standard output, too.
    let argv = passt(case, "-q -P /run/rig/tmp/pid -s /run/rig/tmp/socket --ready-fd=1")?;
    let outcome = run(case, "true", &argv)?;
    ensure!(outcome.code() == Some(0) && outcome.stdout == "ready\n", "{outcome:?}");
    kill_process(pid(case)?, Signal::TERM)?;
    // A start that fails says so by the end alone.
    for foreground in ["-f ", ""] {
        let (mut ours, theirs, number) = pipe()?;
        let line = format!("-q {foreground}--ready-fd {number} -t 192.0.2.99/80");
        let proc = Proc::start(command(case, "true", &passt(case, &line)?))?;
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said)?;
        ensure!(said.is_empty() && proc.finish(SHORT)?.code() == Some(1), "{said:?}");
    }
    Ok(())
}

/// The network is there before the command knows, and the command does not inherit the descriptor.
fn ready_by_descriptor_with_a_command(case: &Case<'_>) -> Result<()> {
    let (mut ours, theirs, number) = pipe()?;
    let helper = case.rig.helper().display().to_string();
    let line = format!("-q --config-net --ready-fd {number} -- {helper} hold");
    let mut proc = Proc::start(command(case, "true", &pasta(case, &line)?))?;
    drop(theirs);
    let mut said = String::new();
    ours.read_to_string(&mut said)?;
    ensure!(said == "ready\n" && proc.running()?, "{said:?}: {}", proc.stderr());
    proc.wait_line("ready", SOON)?;
    proc.close_stdin();
    ensure!(proc.finish(SHORT)?.code() == Some(0), "status");
    Ok(())
}

fn no_descriptor(case: &Case<'_>) -> Result<()> {
    let bad = "Could not use --ready-fd descriptor: Bad file descriptor";
    for (option, wanted) in [
        ("--ready-fd 99", bad),
        ("--ready-fd=3", bad),
        ("--ready-fd -1", "Invalid --ready-fd: -1"),
        ("--ready-fd x", "Invalid --ready-fd: x"),
    ] {
        for argv in
            [passt(case, &format!("-f {option}"))?, pasta(case, &format!("{option} -- true"))?]
        {
            let outcome = run(case, "true", &argv)?;
            ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
            ensure!(outcome.stderr == format!("{wanted}\n"), "{option}: {outcome:?}");
        }
    }
    // Not in short.
    let outcome = run(case, "true", &passt(case, "--ready-f 1")?)?;
    let first = outcome.stderr.lines().next().unwrap_or_default();
    ensure!(first.ends_with("unrecognized option '--ready-f'"), "{outcome:?}");
    Ok(())
}

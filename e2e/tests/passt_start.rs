//! How passt starts and ends, as the programs that start it rely on.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::hypervisor::{Client, Passt, SOON, descriptors, inheritable, status};
use e2e::{Case, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::{Outcome, Place, Proc, User, until};

matrix!(users:
    mistakes, accepted, unavailable, taken_paths, stale_sockets, others_are_not_disturbed,
    places_without_a_path, in_the_background, successors, signals, by_descriptor, as_muvm_does, as_qemu_does,
    last_of_path_and_descriptor, no_descriptor, capabilities, privileges,
);

/// Arguments, split at spaces, and what standard error says.
type Lines = [(&'static str, &'static str)];

/// One line, and nothing is left behind.
const MISTAKES: &Lines = &[
    ("-f extra", "Extra non-option argument: extra"),
    ("-f -- -q", "Extra non-option argument: -q"),
    ("--stats 1", "Can't display statistics if not running in foreground"),
    ("-f -m 65536", "MTU 65536 too large (max 65521)"),
    ("-f -m 12x", "Invalid MTU: 12x"),
    ("-f -a 127.0.0.1", "Invalid guest address: 127.0.0.1"),
    ("-f -a 192.0.2.5/33", "Invalid prefix length: 192.0.2.5/33"),
    ("-f -n 255.0.255.0", "Invalid prefix length: 255.0.255.0"),
    ("-f -t 70000", "Invalid port specifier '70000'"),
    ("-f -t 22,", "Invalid port specifier '22,'"),
    ("-f -t 65535-65536", "Invalid port specifier '65535-65536'"),
    ("-f -t 22-20", "Invalid port specifier '22-20'"),
    ("-f -t 22-24:30-31", "Invalid port specifier '22-24:30-31'"),
    ("-f -t 22:30-31", "Invalid port specifier '22:30-31'"),
    ("-f -u 80x", "Invalid port specifier '80x'"),
    ("-f -u 300.1.1.1/80", "Invalid port specifier '300.1.1.1/80'"),
    ("-f -t ./80", "Invalid port specifier './80'"),
    ("-f -t 8000 -t none", "-t none conflicts with previous options"),
    ("-f -t auto", "'auto' port forwarding is only allowed for pasta"),
    ("-f -T 80", "-T is for pasta mode only"),
    ("-f -T none", "-T is for pasta mode only"),
    ("-f --config-net", "--config-net is for pasta mode only"),
    ("-f --netns x", "--netns is for pasta mode only"),
    ("-f -o ::1", "Invalid or redundant outbound address: ::1"),
    ("-f -i nosuch", "Invalid interface name nosuch: No such device"),
    ("-f -F 99", "Could not move --fd descriptor: Bad file descriptor"),
    ("-f -F -1", "Invalid --fd: -1"),
    ("-f -F x", "Invalid --fd: x"),
    ("-f -P /nonexist/x", "Couldn't open PID file /nonexist/x: No such file or directory"),
];

/// The reason in front, and what becomes of the option.
const RULES: &Lines = &[
    ("-f -t 0", "port 0"),
    ("-f -t 22:0", "port 0"),
    ("-f -t 8000 -t 8000", "Forwarding configuration conflict"),
    ("-f -t 8000 -t 127.0.0.1/8000", "Forwarding configuration conflict"),
    ("-f -t 0.0.0.0/8000:2001:db8::1/80", "IPv6"),
    ("-f -4 -t ::1/8080", "IPv6"),
    ("-f --no-tcp -t 80", "TCP not enabled"),
];

/// Behind what is told about the configuration.
const LISTENING: &Lines = &[
    ("-f -t 192.0.2.99/8080", "HOST TCP port 192.0.2.99/8080: Cannot assign requested address"),
    ("-f -u 8090", "HOST UDP port */8090: Address already in use"),
];

/// Where passt is.
fn program(case: &Case<'_>) -> Result<String> {
    Ok(case.rig.passt(User::Root)?.command().get_program().to_string_lossy().into_owned())
}

fn run(case: &Case<'_>, line: &str) -> Result<Outcome> {
    let words: Vec<&str> = line.split_whitespace().collect();
    case.rig.passt(case.user)?.args(&words).run(SHORT)
}

/// A /tmp of the rig's own.
fn private_tmp(case: &Case<'_>) -> Result<()> {
    // Programs that may be below /tmp are copied first.
    case.rig.passt(case.user)?;
    let argv = ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"];
    case.rig.run(&Place::Host, SHORT, &argv).map(drop)
}

fn mistakes(case: &Case<'_>) -> Result<()> {
    private_tmp(case)?;
    let _taken = UdpSocket::bind("0.0.0.0:8090")?;
    let mut wrong = Vec::new();
    let mut check = |line: &str, wanted: &[String], quiet: bool| -> Result<()> {
        let outcome = run(case, line)?;
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        // The last lines, or all of them.
        let from = if quiet { 0 } else { lines.len().saturating_sub(wanted.len()) };
        let same = lines.len() - from == wanted.len()
            && lines.iter().skip(from).zip(wanted).all(|(line, wanted)| line.contains(wanted));
        if outcome.code() != Some(1) || !outcome.stdout.is_empty() || !same {
            wrong.push(format!("{line}: {outcome:?}, wanted {wanted:?}"));
        }
        Ok(())
    };
    for (line, wanted) in MISTAKES {
        check(line, &[(*wanted).to_owned()], !line.contains("-P "))?;
    }
    for (line, wanted) in RULES {
        check(line, &[(*wanted).to_owned(), "Unable to add rule ".to_owned()], true)?;
    }
    let dual = ["Dual stack forward", "Did you mean 0.0.0.0/", "Unable to add rule "];
    check("-f -t 8000:192.0.2.7/80", &dual.map(str::to_owned), true)?;
    check("-f -t 0", &["0".into(), "Unable to add rule TCP [*]:0  =>  0".into()], true)?;
    for (line, wanted) in LISTENING {
        let wanted =
            [format!("Listen failed for {wanted}"), "Couldn't listen on requested ports".into()];
        check(line, &wanted, false)?;
    }
    if case.user == User::Ordinary {
        let wanted = "Listen failed for HOST TCP port */22: Permission denied";
        check("-f -t 22", &[wanted.into(), "Couldn't listen on requested ports".into()], false)?;
    }
    for (line, wanted) in
        [("-x", "invalid option -- 'x'"), ("--bogus", "unrecognized option '--bogus'")]
    {
        let outcome = run(case, line)?;
        let mut lines = outcome.stderr.lines();
        let said = lines.next().is_some_and(|first| first.ends_with(wanted));
        let usage = lines.next().is_some_and(|second| second.starts_with("Usage: "));
        if outcome.code() != Some(1) || !outcome.stdout.is_empty() || !said || !usage {
            wrong.push(format!("{line}: {outcome:?}, wanted {wanted}"));
        }
    }
    // An empty specifier cannot be split from a line.
    let outcome = case.rig.passt(case.user)?.args(&["-f", "-t", ""]).run(SHORT)?;
    if outcome.code() != Some(1) || outcome.stderr != "Invalid port specifier ''\n" {
        wrong.push(format!("-t '': {outcome:?}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let left: Vec<_> = fs::read_dir("/tmp")?.collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// Starts a passt in the background and returns its process id; its PID file and socket are `NAME.pid` and
/// `NAME.socket` in the rig's directory.
fn daemon(case: &Case<'_>, name: &str, options: &str) -> Result<Pid> {
    let (socket, pid) = (at(case, name, "socket"), at(case, name, "pid"));
    let outcome = run(case, &format!("-s {} -P {} {options}", socket.display(), pid.display()))?;
    ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{options}: {outcome:?}");
    pid_in(&pid)
}

fn at(case: &Case<'_>, name: &str, extension: &str) -> PathBuf {
    case.rig.tmp().join(format!("{name}.{extension}"))
}

/// The process id in a PID file, which has to be complete.
fn pid_in(path: &Path) -> Result<Pid> {
    let text = fs::read_to_string(path)?;
    let number = text.strip_suffix('\n').with_context(|| format!("'{text}' in the PID file"))?;
    Pid::from_raw(number.parse()?).context("no process id")
}

fn number(pid: Pid) -> Result<u32> {
    Ok(u32::try_from(pid.as_raw_nonzero().get())?)
}

fn end(case: &Case<'_>, pid: Pid) -> Result<()> {
    kill_process(pid, Signal::TERM)?;
    case.rig.wait_gone(number(pid)?, SHORT)
}

fn accepted(case: &Case<'_>) -> Result<()> {
    for options in [
        "-q -t none -t 8000",
        "-q -t ::/8000:[2001:db8::1]/80",
        "-q -t 0.0.0.0/2223:192.0.2.3",
        "-q --freebind -t 192.0.2.99/8080",
        "-q -t /2222 -u %lo/2222",
        "-q -4 -6 -t 8000",
        "-q -6 -4 -t 8000",
        "-q -M ff:00:00:00:00:01",
        "-q -m 0",
        "-q -m 65521",
        "-q -n 16",
        "-q -a fe80::1",
        "-q --outbound-if4 nosuch",
        "-q --repair-path none",
        "-q -D none -S none",
        "-qd1",
        "--trace",
        "-e",
    ] {
        let pid = daemon(case, "accepted", options).with_context(|| options.to_owned())?;
        Client::connect(&at(case, "accepted", "socket"))?;
        // A one-off one may be gone already.
        let _ = kill_process(pid, Signal::TERM);
        case.rig.wait_gone(number(pid)?, SHORT).with_context(|| options.to_owned())?;
    }
    // Standard descriptors that are closed are nothing special.
    let path = program(case)?;
    let (socket, pid) = (at(case, "closed", "socket"), at(case, "closed", "pid"));
    let line = format!("exec {path} -q -s {} -P {} <&- >&- 2>&-", socket.display(), pid.display());
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &["sh", "-c", &line])?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Client::connect(&socket)?.alive()?;
    end(case, pid_in(&pid)?)
}

/// What comes with later work is refused with a clear line, not ignored.
fn unavailable(case: &Case<'_>) -> Result<()> {
    private_tmp(case)?;
    const UNAVAILABLE: &str = "--vhost-user is not available in this version";
    for (line, wanted) in [
        ("-f --vhost-user", UNAVAILABLE),
        ("-f --repair-path /run/rig/tmp/repair --vhost-user", UNAVAILABLE),
        ("-f --vhost-user --migrate-exit --migrate-no-linger", UNAVAILABLE),
        ("-f --migrate-exit", "--migrate-exit is for vhost-user mode only"),
        ("-f --migrate-no-linger", "--migrate-no-linger is for vhost-user mode only"),
        ("-f --repair-path /run/rig/tmp/repair", "--repair-path is for vhost-user mode only"),
    ] {
        let outcome = run(case, line)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{line}: {outcome:?}");
        ensure!(outcome.stderr == format!("{wanted}\n"), "{line}: {outcome:?}, wanted {wanted}");
    }
    Ok(())
}

/// One line of a start in the foreground that fails.
fn refused(case: &Case<'_>, socket: &Path) -> Result<String> {
    let outcome = run(case, &format!("-f -q -s {}", socket.display()))?;
    ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.lines().count() == 1, "{outcome:?}");
    Ok(outcome.stderr.trim_end().to_owned())
}

fn taken_paths(case: &Case<'_>) -> Result<()> {
    let tmp = case.rig.tmp();
    let shown = |path: &Path| path.display().to_string();
    let taken = tmp.join("taken");
    let _listener = UnixListener::bind(&taken)?;
    fs::set_permissions(&taken, fs::Permissions::from_mode(0o777))?;
    let said = refused(case, &taken)?;
    ensure!(said == format!("Socket path {} already in use", shown(&taken)), "{said}");
    let file = tmp.join("file");
    fs::write(&file, "precious")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    let directory = tmp.join("directory");
    fs::create_dir(&directory)?;
    let link = tmp.join("link");
    symlink(tmp.join("nowhere"), &link)?;
    for path in [&file, &directory, &link] {
        let said = refused(case, path)?;
        let wanted = format!("Socket path {} is taken by another kind of file", shown(path));
        ensure!(said == wanted, "{said}");
    }
    ensure!(fs::read(&file)? == b"precious" && directory.is_dir() && link.is_symlink(), "gone");
    let said = refused(case, &tmp.join("no/such/directory"))?;
    ensure!(said.ends_with("/no/such/directory: No such file or directory"), "{said}");
    if case.user == User::Ordinary {
        let forbidden = tmp.join("forbidden");
        fs::create_dir(&forbidden)?;
        let said = refused(case, &forbidden.join("socket"))?;
        ensure!(said.ends_with("/forbidden/socket: Permission denied"), "{said}");
    }
    // The longest that there can be, and one byte more.
    let room = 107 - shown(tmp).len() - 1;
    let longest = tmp.join("x".repeat(room));
    let said = refused(case, &tmp.join("x".repeat(room + 1)))?;
    ensure!(said.contains("x") && !longest.exists(), "{said}");
    let outcome = run(case, &format!("-q -P {} -s {}", shown(&tmp.join("pid")), shown(&longest)))?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Client::connect(&longest)?.alive()?;
    end(case, pid_in(&tmp.join("pid"))?)
}

fn stale_sockets(case: &Case<'_>) -> Result<()> {
    let pid = daemon(case, "guest", "-q")?;
    kill_process(pid, Signal::KILL)?;
    case.rig.wait_gone(number(pid)?, SHORT)?;
    let socket = at(case, "guest", "socket");
    ensure!(fs::symlink_metadata(&socket)?.file_type().is_socket(), "no socket");
    let pid = daemon(case, "guest", "-q")?;
    Client::connect(&socket)?.alive()?;
    end(case, pid)
}

/// Who looks for a free path is not seen by those who have one.
fn others_are_not_disturbed(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, "-d --one-off")?;
    for _ in 0..3 {
        let said = refused(case, &passt.socket)?;
        ensure!(said.ends_with(" already in use"), "{said}");
    }
    let mut client = passt.connect()?;
    client.alive()?;
    // With a client, too.
    refused(case, &passt.socket)?;
    client.alive()?;
    let log = passt.proc.stderr();
    ensure!(log.matches("accepted connection from PID").count() == 1, "{log}");
    ensure!(!log.contains("discarding") && !log.contains("closed"), "{log}");
    ensure!(passt.proc.running()?, "{log}");
    drop(client);
    ensure!(passt.proc.finish(SHORT)?.code() == Some(0), "{log}");
    Ok(())
}

fn places_without_a_path(case: &Case<'_>) -> Result<()> {
    private_tmp(case)?;
    let mut running = Vec::new();
    let mut start = |place: u32| -> Result<()> {
        let pid = at(case, "place", "pid");
        let outcome = run(case, &format!("-P {}", pid.display()))?;
        let wanted = format!("UNIX domain socket bound at /tmp/passt_{place}.socket");
        ensure!(outcome.code() == Some(0), "{outcome:?}");
        ensure!(outcome.stderr.lines().any(|line| line == wanted), "{outcome:?}, wanted {wanted}");
        running.push(pid_in(&pid)?);
        fs::remove_file(&pid)?;
        Client::connect(Path::new(&format!("/tmp/passt_{place}.socket")))?.alive()
    };
    start(1)?;
    start(2)?;
    fs::write("/tmp/passt_3.socket", "precious")?;
    start(4)?;
    // Of a socket that nobody listens on any more the place is free.
    let first = *running.first().context("none")?;
    let mut start = |place: u32| -> Result<()> {
        let outcome = run(case, &format!("-P {}", at(case, "place", "pid").display()))?;
        let wanted = format!("UNIX domain socket bound at /tmp/passt_{place}.socket");
        ensure!(outcome.stderr.lines().any(|line| line == wanted), "{outcome:?}, wanted {wanted}");
        running.push(pid_in(&at(case, "place", "pid"))?);
        fs::remove_file(at(case, "place", "pid"))?;
        Ok(())
    };
    end(case, first)?;
    start(1)?;
    if case.user == User::Ordinary {
        // One that may not be removed.
        drop(UnixListener::bind("/tmp/passt_5.socket")?);
        start(6)?;
    }
    // All of them.
    let mut others = Vec::new();
    for place in 1..=64 {
        let path = format!("/tmp/passt_{place}.socket");
        if fs::symlink_metadata(&path).is_err() {
            others.push(UnixListener::bind(&path)?);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        }
    }
    let outcome = run(case, "-q")?;
    ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.lines().count() == 1, "{outcome:?}");
    let wanted = "none of /tmp/passt_1.socket to /tmp/passt_64.socket is free";
    ensure!(outcome.stderr.contains(wanted), "{outcome:?}");
    ensure!(!Path::new("/tmp/passt_65.socket").exists(), "a place too many");
    ensure!(fs::read("/tmp/passt_3.socket")? == b"precious", "the file has changed");
    for pid in running.into_iter().skip(1) {
        end(case, pid)?;
    }
    Ok(())
}

const PORTS: &str = "-t 5001-5009 -u 5001-5009";

/// When the parent returns, everything is there, and nothing of the caller's is kept.
fn in_the_background(case: &Case<'_>) -> Result<()> {
    for content in [None, Some(""), Some("1234567890 and a second line\n\n\n")] {
        let (socket, file) = (at(case, "guest", "socket"), at(case, "guest", "pid"));
        if let Some(content) = content {
            // As mkstemp(3) makes it, by the user.
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            if case.user == User::Ordinary {
                std::os::unix::fs::chown(&file, Some(1000), Some(1000))?;
            }
        }
        // That it ends at all says that the daemon has let go of both outputs.
        let line = format!("-s {} -P {} {PORTS}", socket.display(), file.display());
        let outcome = run(case, &line)?;
        let stream = UnixStream::connect(&socket)?;
        let connection = TcpStream::connect("127.0.0.1:5009")?;
        UdpSocket::bind("127.0.0.1:5009").err().context("port 5009 is free")?;
        ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
        let pid = pid_in(&file)?;
        let daemon = number(pid)?;
        for fd in 0..3 {
            let at = fs::read_link(format!("/proc/{daemon}/fd/{fd}"))?;
            ensure!(at == Path::new("/dev/null"), "{fd} is {}", at.display());
        }
        // The fields behind the name: state, parent, process group, session.
        let stat = fs::read_to_string(format!("/proc/{daemon}/stat"))?;
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        ensure!(fields.nth(3) == Some(&daemon.to_string()), "{stat}");
        ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "mode");
        let mut client = Client::over(stream)?;
        client.alive()?;
        client.knock(5009, true)?;
        drop(connection);
        end(case, pid)?;
        ensure!(file.exists() && fs::symlink_metadata(&socket).is_ok(), "files are gone");
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// The same command line again, on the socket that was left, for the same ports, connections and all.
fn successors(case: &Case<'_>) -> Result<()> {
    let socket = at(case, "guest", "socket");
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let start = Instant::now();
        let pid = daemon(case, "guest", PORTS).with_context(|| format!("round {round}"))?;
        slowest = slowest.max(start.elapsed());
        let mut host = TcpStream::connect("127.0.0.1:5001")?;
        let mut client = Client::connect(&socket)?;
        let (mut connection, _) = client.accept(5001)?;
        std::io::Write::write_all(&mut host, b"hello")?;
        ensure!(client.receive(&mut connection, 5)? == b"hello", "round {round}");
        let signal = if round % 2 == 0 { Signal::TERM } else { Signal::KILL };
        kill_process(pid, signal)?;
        case.rig.wait_gone(number(pid)?, SHORT)?;
        client.closed()?;
    }
    ensure!(slowest < Duration::from_secs(5), "a start took {slowest:?}");
    Ok(())
}

fn signals(case: &Case<'_>) -> Result<()> {
    for signal in [Signal::TERM, Signal::QUIT] {
        for connected in [false, true] {
            let passt = Passt::start(case, "-q")?;
            let client = connected.then(|| passt.connect()).transpose()?;
            if let Some(mut client) = client {
                client.alive()?;
            }
            // Not before they are blocked, which is before there is a socket.
            passt.proc.signal(signal)?;
            let outcome = passt.proc.finish(SHORT)?;
            ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        }
    }
    Ok(())
}

/// A connection of which passt inherits the other end, and its number.
fn pair() -> Result<(Client, OwnedFd, String)> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let number = inheritable(&theirs)?;
    Ok((Client::over(ours)?, theirs, number))
}

/// A command line behind a redirection of the shell's: `passt OPTIONS` with `REDIRECTION`.
fn redirected(case: &Case<'_>, redirection: &str, line: &str) -> Result<Proc> {
    let script = format!("exec \"$@\" {redirection}");
    let path = program(case)?;
    let mut argv = vec!["sh", "-c", &script, "sh", &path];
    argv.extend(line.split_whitespace());
    Proc::start(case.rig.command(&Place::Host, case.user, &argv))
}

fn by_descriptor(case: &Case<'_>) -> Result<()> {
    for fd in [0, 3, 9] {
        let (mut client, theirs, number) = pair()?;
        ensure!(number.len() == 1, "the shell cannot redirect {number}");
        let redirection = format!("{fd}<&{number}");
        let mut proc = redirected(case, &redirection, &format!("-f -q --fd {fd} -t 8080:80"))?;
        drop(theirs);
        client.alive().with_context(|| proc.stderr())?;
        let host = TcpStream::connect("127.0.0.1:8080")?;
        client.knock(80, true)?;
        ensure!(proc.running()?, "it ended");
        drop((client, host));
        let outcome = proc.finish(SHORT)?;
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    }
    // The end of a connection that is one already.
    let (client, theirs, number) = pair()?;
    drop(client);
    let outcome = run(case, &format!("-f -F {number}"))?;
    drop(theirs);
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(outcome.stderr.ends_with("Client connection closed, exiting\n"), "{outcome:?}");
    Ok(())
}

/// Its strict policy: within a second the process it started is in another user namespace, and it must be
/// able to see that.
fn as_muvm_does(case: &Case<'_>) -> Result<()> {
    let script = "\"$@\" & pid=$!; echo \"pid $pid\"; own=$(readlink /proc/self/ns/user)
for i in $(seq 40); do
	at=$(readlink /proc/$pid/ns/user) || { echo 'verdict unreadable'; break; }
	if [ \"$at\" != \"$own\" ]; then echo 'verdict another'; break; fi
	sleep 0.025
done
wait $pid; echo \"status $?\"";
    let path = program(case)?;
    for _ in 0..5 {
        let (mut client, theirs, fd) = pair()?;
        let argv =
            ["sh", "-c", script, "sh", &path, "-q", "-f", "--fd", &fd, "-t", "8080-8080:80-80"];
        let mut proc = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
        let line = proc.wait_line("verdict", SHORT)?;
        ensure!(line == "verdict another", "{line}: {}", proc.stderr());
        // The shell has it, too.
        drop(theirs);
        client.alive()?;
        let pid = proc.wait_line("pid ", SHORT)?.replace("pid ", "");
        // Whoever has seen it has no business there any more.
        let look = ["readlink", &format!("/proc/{pid}/ns/user")];
        if case.user == User::Ordinary {
            until("no way into its memory", SOON, || {
                let outcome = case.rig.outcome(&Place::Host, User::Ordinary, SHORT, &look);
                outcome.is_ok_and(|outcome| outcome.code() != Some(0))
            })?;
        }
        client.alive()?;
        kill_process(Pid::from_raw(pid.parse()?).context("no process id")?, Signal::TERM)?;
        proc.wait_line("status 0", SHORT)?;
    }
    Ok(())
}

/// In the background, with a file for its process id that is there already.
fn as_qemu_does(case: &Case<'_>) -> Result<()> {
    for round in 0..5 {
        let file = at(case, &format!("passt-{round}"), "pid");
        fs::write(&file, "")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        let (mut client, theirs, fd) = pair()?;
        let line = format!("--quiet --tcp-ports 5001 --pid {} --fd 3", file.display());
        let proc = redirected(case, &format!("3<&{fd}"), &line)?;
        let outcome = proc.finish(SHORT)?;
        let pid = pid_in(&file)?;
        drop(theirs);
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        client.alive()?;
        TcpStream::connect("127.0.0.1:5001")?;
        client.knock(5001, true)?;
        // It goes with the connection, and the next one has the port at once.
        drop(client);
        case.rig.wait_gone(number(pid)?, SHORT)?;
    }
    Ok(())
}

fn last_of_path_and_descriptor(case: &Case<'_>) -> Result<()> {
    let socket = at(case, "unused", "socket");
    let (mut client, theirs, number) = pair()?;
    let path = socket.display();
    let mut proc = redirected(case, "", &format!("-f -q -s {path} -F {number}"))?;
    drop(theirs);
    client.alive().with_context(|| proc.stderr())?;
    ensure!(fs::symlink_metadata(&socket).is_err() && proc.running()?, "it listens at {path}");
    drop(client);
    ensure!(proc.finish(SHORT)?.code() == Some(0), "status");
    // The other way round it need not even be one, and is not one-off.
    let mut passt =
        Passt { proc: redirected(case, "", &format!("-f -q -F 99 -s {path}"))?, socket };
    until("the socket", SOON, || passt.socket.exists())?;
    passt.serves()?;
    passt.serves()
}

/// Descriptors that have no hypervisor at the other end.
fn no_descriptor(case: &Case<'_>) -> Result<()> {
    let file = OwnedFd::from(fs::File::open("/etc/passwd")?);
    let (one, _other) = UnixDatagram::pair()?;
    let listener = UnixListener::bind(case.rig.tmp().join("listener"))?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let all: [(&str, OwnedFd); 4] = [
        ("a file", file),
        ("datagrams", one.into()),
        ("a listening socket", listener.into()),
        ("a listening TCP socket", tcp.into()),
    ];
    for (what, fd) in all {
        let number = inheritable(&fd)?;
        for background in ["-f ", ""] {
            let outcome = run(case, &format!("{background}-q --fd {number}"))?;
            ensure!(outcome.code() == Some(1), "{what}: {outcome:?}");
            ensure!(outcome.stderr.lines().count() == 1, "{what}: {outcome:?}");
            ensure!(outcome.stderr.contains("--fd"), "{what}: {outcome:?}");
        }
    }
    Ok(())
}

fn capabilities(case: &Case<'_>) -> Result<()> {
    for program in [case.rig.passt(case.user)?, case.pasta()?] {
        for line in
            ["--print-capabilities", "-q --print-capabilities", "-d --print-capabilities nosuch"]
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let outcome = program.clone().args(&words).run(SHORT)?;
            ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
            // Exactly one, or this fails.
            let object: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
            ensure!(object.is_object() && object["type"] == "net", "{outcome:?}");
        }
    }
    Ok(())
}

/// Whatever it had, it has it no more, and it is nobody if it was root.
fn privileges(case: &Case<'_>) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/user")?;
    let passt = Passt::start(case, "")?;
    passt.connect()?.alive()?;
    let background = daemon(case, "background", "-q")?;
    Client::connect(&at(case, "background", "socket"))?.alive()?;
    for pid in [passt.proc.pid(), number(background)?] {
        let id = if case.user == User::Root { "65534" } else { "1000" };
        for field in ["Uid", "Gid"] {
            let ids = status(pid, field)?;
            ensure!(ids.split('\t').all(|one| one == id), "{field}: {ids}");
        }
        ensure!(status(pid, "Groups")?.is_empty(), "groups: {}", status(pid, "Groups")?);
        ensure!(status(pid, "NoNewPrivs")? == "1", "NoNewPrivs");
        for field in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let set = status(pid, field)?;
            ensure!(set == "0000000000000000", "{field}: {set}");
        }
        ensure!(fs::read_link(format!("/proc/{pid}/ns/user"))? != own, "the same user namespace");
        ensure!(descriptors(pid)? < 20, "{} descriptors", descriptors(pid)?);
    }
    let changes = passt.proc.stderr().contains("Started as root, will change to nobody.");
    ensure!(changes == (case.user == User::Root), "{}", passt.proc.stderr());
    end(case, background)
}

//! `passt-repair` and a server that is right, wrong, late, or silent.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::repair::{
    Client, OFF, OFF_WITHOUT_PROBE, ON, Server, connections, descriptors, load, repair_mode,
    status, tcp_sockets, tcp_sockets_of, window_probes,
};
use e2e::{Case, SHORT, matrix};
use rustix::process::Signal;
use std::fs::{self, File, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Place, Proc, User, until};

matrix!(users:
    modes, window_probes_are_sent_or_not, more_than_fit_into_a_message, malformed_messages,
    what_is_no_tcp_socket, too_few_descriptors, endings, silence, privileges_that_remain,
    directory_with_a_server, directory_with_stale_sockets, directory_with_a_server_that_comes_later,
    directory_that_goes_away, stopped_and_continued, paths,
);
matrix!(once:
    user_namespaces, without_the_capability, directory_with_a_socket_of_others, the_other_implementation_agrees, the_other_implementation_accepts_it,
);
matrix!(root: kubevirt);

/// Starts passt-repair as the user of the case.
fn start(case: &Case<'_>, path: &Path) -> Result<Proc> {
    start_with(case, &[], path)
}

fn start_with(case: &Case<'_>, before: &[&str], path: &Path) -> Result<Proc> {
    let program = case.rig.passt_repair(case.user)?.display().to_string();
    let path = path.display().to_string();
    let argv = [before, &[&program, &path]].concat();
    Proc::start(case.rig.command(&Place::Host, case.user, &argv))
}

/// Waits for its end, with this status and this one line on standard error, or none.
fn ended(helper: Proc, status: i32, line: &str) -> Result<()> {
    let outcome = helper.finish(SHORT)?;
    let wanted = if line.is_empty() { String::new() } else { format!("{line}\n") };
    let fine = outcome.code() == Some(status) && outcome.stderr == wanted;
    ensure!(fine && outcome.stdout.is_empty(), "{outcome:?}, wanted {status} and '{line}'");
    Ok(())
}

/// A server at its usual place, and passt-repair connected to it.
fn connected(case: &Case<'_>) -> Result<(Client, Proc)> {
    let path = case.rig.tmp().join("passt.socket.repair");
    let _ = fs::remove_file(&path);
    let server = Server::start(&path)?;
    let helper = start(case, &path)?;
    let client = server.accept()?;
    Ok((client, helper))
}

/// A directory for sockets that everybody may look into.
fn directory(case: &Case<'_>) -> Result<PathBuf> {
    let path = case.rig.tmp().join("sockets");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The connection works, and its end is an orderly one.
fn works(client: Client, helper: Proc) -> Result<()> {
    let sockets = tcp_sockets(2)?;
    client.obeyed(ON, &sockets)?;
    client.obeyed(OFF, &sockets)?;
    drop(client);
    ended(helper, 0, "")
}

fn modes(case: &Case<'_>) -> Result<()> {
    for count in [1, 2, 253] {
        let (client, helper) = connected(case)?;
        let sockets = tcp_sockets(count)?;
        let before = descriptors(&helper)?;
        for command in [ON, OFF, ON, ON, OFF_WITHOUT_PROBE, OFF] {
            client.obeyed(command, &sockets)?;
        }
        // No copy of a socket is left.
        let open = descriptors(&helper)?;
        ensure!(open == before, "descriptors {open:?}, {before:?} before");
        drop(client);
        ended(helper, 0, "")?;
    }
    Ok(())
}

/// The kernel asks the peer of an established connection for its window, unless it is told not to.
fn window_probes_are_sent_or_not(case: &Case<'_>) -> Result<()> {
    let (client, helper) = connected(case)?;
    let ends = connections(3)?;
    for (command, probes) in [(OFF, 6), (OFF_WITHOUT_PROBE, 0)] {
        let before = window_probes()?;
        client.obeyed(ON, &ends)?;
        client.obeyed(command, &ends)?;
        let sent = window_probes()? - before;
        ensure!(sent == probes, "{sent} probes after {command}");
    }
    drop(client);
    ended(helper, 0, "")
}

fn more_than_fit_into_a_message(case: &Case<'_>) -> Result<()> {
    let (client, helper) = connected(case)?;
    let sockets = tcp_sockets(254)?;
    let (first, last) = sockets.split_at(253);
    for command in [ON, OFF] {
        client.obeyed(command, first)?;
        client.obeyed(command, last)?;
    }
    // A server that does not wait for answers gets them all the same, in order.
    for (socket, command) in last.iter().chain(first).zip([ON, OFF, ON]) {
        client.command(command, &[socket])?;
    }
    for wanted in [ON, OFF, ON] {
        let answer = client.first_answer()?;
        ensure!(answer == Some(wanted), "{answer:?}, wanted {wanted}");
    }
    drop(client);
    ended(helper, 0, "")
}

/// Sends something, after a proper command, and expects a line and the end of the connection.
fn refused(
    case: &Case<'_>,
    line: &str,
    send: impl FnOnce(&Client, &[OwnedFd]) -> Result<()>,
) -> Result<()> {
    let (client, helper) = connected(case)?;
    let sockets = tcp_sockets(2)?;
    client.obeyed(ON, &sockets)?;
    send(&client, &sockets)?;
    let answer = client.answer()?;
    ensure!(answer.is_none(), "{answer:?} instead of '{line}'");
    ended(helper, 1, line)?;
    // Nothing was done.
    for socket in &sockets {
        ensure!(repair_mode(socket)? == 1, "'{line}' was too late");
    }
    Ok(())
}

fn malformed_messages(case: &Case<'_>) -> Result<()> {
    let line = |what: &str| format!("Invalid message from server: {what}");
    let no_sockets = line("no sockets with the command");
    refused(case, &no_sockets, |client, _| client.send(&[0], &[]))?;
    refused(case, &no_sockets, |client, _| client.command(OFF, &[] as &[OwnedFd]))?;
    refused(case, &no_sockets, |client, _| client.command_with_credentials(OFF))?;
    for command in [2, -2, 127, -128] {
        let line = line(&format!("unknown command {command}"));
        refused(case, &line, |client, sockets| client.command(command, sockets))?;
    }
    let two = line("more than one byte");
    refused(case, &two, |client, sockets| {
        let fds = sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
        client.send(&[0, 0], &[nix::sys::socket::ControlMessage::ScmRights(&fds)])
    })?;
    refused(case, &two, |client, _| client.send(b"GET / HTTP/1.1\r\n", &[]))
}

/// What is no TCP socket, or one that cannot be repaired, stops it; what came before stays done.
fn what_is_no_tcp_socket(case: &Case<'_>) -> Result<()> {
    let listener: OwnedFd = TcpListener::bind("127.0.0.1:0")?.into();
    let needed = "Operation not permitted (CAP_NET_ADMIN over its network namespace is needed)";
    for (descriptor, reason) in [
        (File::open("/dev/null")?.into(), "Socket operation on non-socket"),
        (UnixStream::pair()?.0.into(), "Operation not supported"),
        (UdpSocket::bind("127.0.0.1:0")?.into(), "Protocol not available"),
        (listener, needed),
    ] {
        let descriptor: OwnedFd = descriptor;
        let (client, helper) = connected(case)?;
        let sockets = tcp_sockets(2)?;
        let [first, last] = &sockets[..] else { unreachable!() };
        client.command(ON, &[first, &descriptor, last])?;
        ensure!(client.answer()?.is_none(), "an answer");
        ended(helper, 1, &format!("Couldn't set TCP_REPAIR to 1 on socket 2 of 3: {reason}"))?;
        ensure!(repair_mode(first)? == 1 && repair_mode(last)? == 0, "before and after {reason}");
    }
    Ok(())
}

/// The kernel hands over as many as there is room for. That is not good enough.
fn too_few_descriptors(case: &Case<'_>) -> Result<()> {
    let path = case.rig.tmp().join("passt.socket.repair");
    let server = Server::start(&path)?;
    let helper = start_with(case, &["prlimit", "--nofile=24", "--"], &path)?;
    let client = server.accept()?;
    let room = 24 - descriptors(&helper)?.iter().filter(|number| **number < 24).count();
    client.obeyed(ON, &tcp_sockets(room)?)?;
    let sockets = tcp_sockets(room + 1)?;
    client.command(ON, &sockets)?;
    ensure!(client.answer()?.is_none(), "an answer");
    ensure!(repair_mode(&sockets[0])? == 0, "some were set");
    let line = "Invalid message from server: sockets are missing (more than 253, or than we may have open)";
    ended(helper, 1, line)
}

fn endings(case: &Case<'_>) -> Result<()> {
    // Before the first command.
    let (client, helper) = connected(case)?;
    drop(client);
    ended(helper, 0, "")?;
    // With an answer that nobody reads: a reset.
    let (client, helper) = connected(case)?;
    let sockets = tcp_sockets(1)?;
    client.command(ON, &sockets)?;
    until("repair mode", SHORT, || repair_mode(&sockets[0]).is_ok_and(|mode| mode == 1))?;
    client.wait_for_answer()?;
    drop(client);
    ended(helper, 0, "")?;
    // Without waiting for the answer. It may just have arrived.
    let (client, helper) = connected(case)?;
    helper.signal(Signal::STOP)?;
    client.command(OFF, &sockets)?;
    drop(client);
    helper.signal(Signal::CONT)?;
    ended(helper, 1, "Couldn't answer the server: Broken pipe")?;
    ensure!(repair_mode(&sockets[0])? == 0, "not done");
    Ok(())
}

/// A server that says nothing is waited for, which costs nothing.
fn silence(case: &Case<'_>) -> Result<()> {
    let (client, mut helper) = connected(case)?;
    let load = load(&helper)?;
    ensure!(load < 0.005 && helper.running()?, "{load} seconds of processor time per second");
    works(client, helper)
}

const NET_ADMIN: u64 = 1 << 12;
/// `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`.
const FILES: u64 = 1 << 1 | 1 << 2 | 1 << 19;

/// Looks from outside at what a process can still do.
fn privileges(case: &Case<'_>, helper: &Proc, capabilities: u64, filters: &str) -> Result<()> {
    for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", filters)] {
        let found = status(helper, field)?;
        ensure!(found == wanted, "{field} {found}, wanted {wanted}");
    }
    let mut sets =
        vec![("CapInh", 0), ("CapPrm", capabilities), ("CapEff", capabilities), ("CapAmb", 0)];
    if case.user == User::Root {
        // Changing this one takes a capability that the ordinary user has not.
        sets.push(("CapBnd", 0));
    }
    for (set, wanted) in sets {
        let found = u64::from_str_radix(&status(helper, set)?, 16)?;
        ensure!(found == wanted, "{set} {found:x}, wanted {wanted:x}");
    }
    Ok(())
}

fn privileges_that_remain(case: &Case<'_>) -> Result<()> {
    let searching = if case.user == User::Root { NET_ADMIN | FILES } else { NET_ADMIN };
    let path = directory(case)?;
    let helper = start(case, &path)?;
    until("the sandbox", SHORT, || status(&helper, "Seccomp").is_ok_and(|mode| mode == "2"))?;
    privileges(case, &helper, searching, "1")?;
    let server = Server::start(&path.join("a.repair"))?;
    let client = server.accept()?;
    // The second part comes with the connection, and before the first message.
    client.obeyed(ON, &tcp_sockets(1)?)?;
    privileges(case, &helper, NET_ADMIN, "2")?;
    works(client, helper)
}

/// The server was first.
fn directory_with_a_server(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    fs::write(path.join("file.repair"), "")?;
    fs::create_dir(path.join("directory.repair"))?;
    symlink("nowhere", path.join("link.repair"))?;
    let other = Server::start(&path.join("a.socket"))?;
    let server = Server::start(&path.join("passt.socket.repair"))?;
    let helper = start(case, &path)?;
    works(server.accept()?, helper)?;
    drop(other);
    Ok(())
}

/// Sockets whose servers are dead neither satisfy it nor keep it busy.
fn directory_with_stale_sockets(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    for name in ["a.repair", "b.repair"] {
        drop(Server::start(&path.join(name))?);
    }
    let mut helper = start(case, &path)?;
    until("the sandbox", SHORT, || status(&helper, "Seccomp").is_ok_and(|mode| mode == "2"))?;
    let load = load(&helper)?;
    ensure!(load < 0.02 && helper.running()?, "{load} seconds of processor time per second");
    // The next server takes the place of the dead one.
    fs::remove_file(path.join("b.repair"))?;
    let server = Server::start(&path.join("b.repair"))?;
    works(server.accept()?, helper)
}

/// A socket that may not be connected to is waited for, and its user is told.
fn directory_with_a_socket_of_others(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    let server = Server::start(&path.join("a.repair"))?;
    let mode = |mode| fs::set_permissions(server.path(), Permissions::from_mode(mode));
    mode(0o700)?;
    let helper = start(case, &path)?;
    let line = format!("Couldn't connect to {}: Permission denied\n", server.path().display());
    until("a line", SHORT, || helper.stderr() == line)?;
    let load = load(&helper)?;
    ensure!(load < 0.02, "{load} seconds of processor time per second");
    ensure!(helper.stderr() == line, "{}", helper.stderr());
    mode(0o777)?;
    let client = server.accept()?;
    client.obeyed(ON, &tcp_sockets(1)?)?;
    drop(client);
    ended(helper, 0, line.trim_end())
}

/// The server is second, in every way there is.
fn directory_with_a_server_that_comes_later(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    let name = path.join("passt.socket.repair");
    for moved in [false, true] {
        let helper = start(case, &path)?;
        until("the sandbox", SHORT, || status(&helper, "Seccomp").is_ok_and(|mode| mode == "2"))?;
        let load = load(&helper)?;
        ensure!(load < 0.005, "{load} seconds of processor time per second");
        // Names of others do not matter, however many there are.
        for number in 0..2000 {
            fs::write(path.join(format!("{number}.tmp")), "")?;
        }
        let server = Server::bind(&if moved { path.join("new") } else { name.clone() })?;
        if moved {
            fs::rename(server.path(), &name)?;
        }
        // Between bind and listen, connections are refused.
        std::thread::sleep(Duration::from_millis(50));
        server.listen()?;
        works(server.accept()?, helper)?;
        fs::remove_file(&name)?;
    }
    Ok(())
}

fn directory_that_goes_away(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    let helper = start(case, &path)?;
    until("the watch", SHORT, || watches(&helper))?;
    fs::rename(&path, case.rig.tmp().join("elsewhere"))?;
    ended(helper, 1, &format!("Directory was removed or renamed: {}", path.display()))
}

/// Whether a process watches something by inotify and waits for that.
fn watches(helper: &Proc) -> bool {
    let at = format!("/proc/{}", helper.pid());
    let inotify = (3..6).any(|fd| {
        let text = fs::read_to_string(format!("{at}/fdinfo/{fd}")).unwrap_or_default();
        text.contains("inotify wd:")
    });
    let sleeping = fs::read_to_string(format!("{at}/stat")).is_ok_and(|stat| stat.contains(") S "));
    inotify && sleeping
}

/// A stopped process goes on with its system calls, some of which the kernel starts anew.
fn stopped_and_continued(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    let helper = start(case, &path)?;
    let pause = |helper: &Proc| -> Result<()> {
        for _ in 0..3 {
            helper.signal(Signal::STOP)?;
            until("a stop", SHORT, || status(helper, "State").is_ok_and(|s| s.starts_with('T')))?;
            helper.signal(Signal::CONT)?;
            until("the end of it", SHORT, || {
                status(helper, "State").is_ok_and(|s| s.starts_with('S'))
            })?;
        }
        Ok(())
    };
    until("the watch", SHORT, || watches(&helper))?;
    pause(&helper)?;
    let server = Server::bind(&path.join("a.repair"))?;
    // Longer than the pauses are.
    std::thread::sleep(Duration::from_millis(300));
    pause(&helper)?;
    server.listen()?;
    let client = server.accept()?;
    client.obeyed(ON, &tcp_sockets(1)?)?;
    pause(&helper)?;
    works(client, helper)
}

fn paths(case: &Case<'_>) -> Result<()> {
    let tmp = case.rig.tmp();
    // 107 bytes fit, 108 do not.
    let name = "x".repeat(107 - tmp.display().to_string().len() - 1);
    let server = Server::start(&tmp.join(&name))?;
    let helper = start(case, server.path())?;
    works(server.accept()?, helper)?;
    let long = tmp.join(format!("{name}x"));
    fs::rename(server.path(), &long)?;
    let line =
        |path: &Path| format!("Invalid socket path, longer than 107 bytes: {}", path.display());
    ended(start(case, &long)?, 2, &line(&long))?;
    let long = tmp.join("y".repeat(90));
    fs::create_dir(&long)?;
    ended(start(case, &long)?, 2, &line(&long))?;
    // A socket that nobody listens on, by its own name.
    let stale = tmp.join("stale.repair");
    drop(Server::start(&stale)?);
    let line = format!("Couldn't connect to {}: Connection refused", stale.display());
    ended(start(case, &stale)?, 1, &line)?;
    // A socket of another kind.
    let datagram = tmp.join("datagram");
    let _socket = std::os::unix::net::UnixDatagram::bind(&datagram)?;
    fs::set_permissions(&datagram, Permissions::from_mode(0o777))?;
    let line =
        format!("Couldn't connect to {}: Protocol wrong type for socket", datagram.display());
    ended(start(case, &datagram)?, 1, &line)?;
    // A socket of root's alone: root comes in, nobody else does.
    let closed = tmp.join("closed");
    let server = Server::start(&closed)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    let helper = start(case, &closed)?;
    match case.user {
        User::Root => works(server.accept()?, helper),
        User::Ordinary => {
            let line = format!("Couldn't connect to {}: Permission denied", closed.display());
            ended(helper, 1, &line)
        }
    }
}

/// Root of a user namespace may repair sockets of network namespaces that belong to it, and no others.
fn user_namespaces(case: &Case<'_>) -> Result<()> {
    let path = case.rig.tmp().join("passt.socket.repair");
    let server = Server::start(&path)?;
    let program = case.rig.passt_repair(User::Root)?.display().to_string();
    let path = path.display().to_string();
    let start = |options: &[&str]| {
        let argv = [&["unshare", "--user", "--net"], options, &["--", &program, &path]].concat();
        Proc::start(case.rig.command(&Place::Host, case.user, &argv))
    };
    let helper = start(&["--map-root-user"])?;
    let client = server.accept()?;
    let inside = tcp_sockets_of(helper.pid(), 3)?;
    for command in [ON, OFF, OFF_WITHOUT_PROBE] {
        client.obeyed(command, &inside)?;
    }
    privileges(case, &helper, NET_ADMIN, "2")?;
    client.command(ON, &tcp_sockets(1)?)?;
    ensure!(client.answer()?.is_none(), "an answer");
    ended(helper, 1, NOT_PERMITTED)?;
    // Somebody who is not root in it has nothing.
    let helper = start(&["--map-current-user"])?;
    let client = server.accept()?;
    client.command(ON, &tcp_sockets_of(helper.pid(), 1)?)?;
    ensure!(client.answer()?.is_none(), "an answer");
    ended(helper, 1, NOT_PERMITTED)
}

const NOT_PERMITTED: &str = "Couldn't set TCP_REPAIR to 1 on socket 1 of 1: Operation not permitted \
     (CAP_NET_ADMIN over its network namespace is needed)";

fn without_the_capability(case: &Case<'_>) -> Result<()> {
    let path = case.rig.tmp().join("passt.socket.repair");
    let server = Server::start(&path)?;
    let program = case.rig.passt_repair(User::Root)?;
    let argv = [program.as_path(), &path];
    let helper = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    let client = server.accept()?;
    client.command(ON, &tcp_sockets(1)?)?;
    ensure!(client.answer()?.is_none(), "an answer");
    ended(helper, 1, NOT_PERMITTED)
}

/// KubeVirt runs it as root, for a socket of another user in a directory of that user's, behind a symbolic link:
/// on the source by the name of the socket, on the target by that of the directory, before there is a socket.
fn kubevirt(case: &Case<'_>) -> Result<()> {
    let path = directory(case)?;
    let link = case.rig.tmp().join("p");
    symlink(&path, &link)?;
    let name = "1-default-vm.socket.repair";
    let serve = || -> Result<Server> {
        let server = Server::bind(&path.join(name))?;
        fs::set_permissions(server.path(), Permissions::from_mode(0o755))?;
        chown(server.path(), Some(107), Some(107))?;
        Ok(server)
    };
    chown(&path, Some(107), Some(107))?;
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    let source = serve()?;
    source.listen()?;
    let helper = start(case, &link.join(name))?;
    works(source.accept()?, helper)?;
    fs::remove_file(source.path())?;
    let helper = start(case, &link)?;
    until("the watch", SHORT, || watches(&helper))?;
    let target = serve()?;
    std::thread::sleep(Duration::from_millis(20));
    target.listen()?;
    works(target.accept()?, helper)
}

/// The server of these tests speaks as the C implementation's client expects it.
fn the_other_implementation_agrees(case: &Case<'_>) -> Result<()> {
    let tree = case.rig.debian()?;
    let program = tree.join("root/usr/bin/passt-repair");
    ensure!(program.exists(), "no {}", program.display());
    let path = case.rig.tmp().join("passt.socket.repair");
    let server = Server::start(&path)?;
    let run = tree.join("sid-run");
    let argv = [run.as_path(), &program, &path];
    let mut command = case.rig.command(&Place::Host, User::Root, &argv);
    command.env("PASTA_UID", "0");
    let helper = Proc::start(command)?;
    let client = server.accept()?;
    let sockets = tcp_sockets(253)?;
    for command in [ON, OFF, ON, OFF_WITHOUT_PROBE] {
        client.obeyed(command, &sockets)?;
    }
    drop(client);
    let outcome = helper.finish(SHORT).context("theirs")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(())
}

/// The C implementation's passt takes it for a helper, and sends a second one away.
fn the_other_implementation_accepts_it(case: &Case<'_>) -> Result<()> {
    let tree = case.rig.debian()?;
    let path = directory(case)?;
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    let helper = start(case, &path)?;
    until("the watch", SHORT, || watches(&helper))?;
    let [run, program] = ["sid-run", "root/usr/bin/passt"].map(|name| tree.join(name));
    let socket = path.join("passt.socket");
    let [run, program, socket] = [run, program, socket].map(|path| path.display().to_string());
    let argv = [&run, &program, "--vhost-user", "--foreground", "--debug", "--socket", &socket];
    let passt = Proc::start(case.rig.command(&Place::Host, User::Root, &argv))?;
    let said = |what: &str| until(what, SHORT, || passt.stderr().contains(what));
    said("Accepted TCP_REPAIR helper")
        .with_context(|| format!("passt: {}, helper: {}", passt.stderr(), helper.stderr()))?;
    let second = start(case, Path::new(&format!("{socket}.repair")))?;
    said("Discarding TCP_REPAIR helper")?;
    ended(second, 0, "")?;
    drop(passt);
    ended(helper, 0, "")
}

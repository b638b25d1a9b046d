//! What is left to passt and pasta once they run, as root sees it: namespaces, an empty root, no
//! capabilities, few open files; and that everything works in spite of it.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::hypervisor::{Client, Passt, SOON, inheritable};
use e2e::{Case, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use testkit::peer::stream;
use testkit::{Holder, Outcome, Place, Proc, User, until};

matrix!(users:
    passt_in_the_foreground, passt_in_the_background, passt_at_a_descriptor, passt_looked_at,
    pasta_with_a_command, the_command_has_none_of_it, pasta_at_a_process, pasta_in_the_foreground, pasta_at_a_path, where_nobody_is_mapped,
    in_the_namespace_of_podman, a_capture_goes_on,
    where_the_root_cannot_be_exchanged, chroot_where_it_is_allowed, without_landlock, without_close_range,
    without_tmp, where_namespaces_are_used_up,
);
matrix!(once: with_a_capability_of_its_own);
matrix!(root: no_mount_is_seen_by_others, in_a_chroot, pasta_as_nobody, pasta_as_root, pasta_as_somebody, passt_as_somebody);

/// What is known of a process before it is looked at.
#[derive(Clone, Copy)]
struct Expected<'a> {
    /// Its user, outside.
    uid: u32,
    /// It went to the background.
    background: bool,
    /// It is in a user namespace of its own.
    own_user: bool,
    /// It was started in a user namespace of its user's, who is root there.
    inside: bool,
    /// It has a thread in the guest's namespace.
    thread: bool,
    /// Files and directories that it may have open, besides sockets, devices and what epoll is made of.
    files: &'a [&'a str],
}

const PASST: Expected<'_> = Expected {
    uid: 1000,
    background: false,
    own_user: true,
    inside: false,
    thread: false,
    files: &[],
};
const PASTA: Expected<'_> = Expected { own_user: false, thread: true, ..PASST };

/// The user that a program of this case runs as if nobody says otherwise.
fn uid(case: &Case<'_>) -> u32 {
    if case.user == User::Root { 65534 } else { 1000 }
}

fn field(status: &str, name: &str) -> Result<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name}"))?.trim().to_owned())
}

/// Checks a process from all sides.
fn look_at(case: &Case<'_>, pid: u32, expected: Expected<'_>) -> Result<()> {
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?.trim().to_owned();
        thread(&task, name == "netns", expected).with_context(|| name.clone())?;
        names.push(name);
    }
    ensure!(names.len() == 1 + usize::from(expected.thread), "threads: {names:?}");
    descriptors(pid, expected)?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.context("no limit")?.split_whitespace().skip(4).collect();
    ensure!(core == ["0", "0", "bytes"], "core files: {core:?}");
    // Not even its own user may look.
    if expected.uid == 1000 && !expected.inside {
        let look = ["readlink", &format!("/proc/{pid}/ns/user")];
        let outcome = case.rig.outcome(&Place::Host, User::Ordinary, SHORT, &look)?;
        ensure!(outcome.code() != Some(0), "it can be dumped: {outcome:?}");
    }
    Ok(())
}

fn thread(task: &Path, in_namespace: bool, expected: Expected<'_>) -> Result<()> {
    let status = fs::read_to_string(task.join("status"))?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let value = field(&status, set)?;
        // The thread in the namespace may listen on low ports there.
        let low_ports = in_namespace && matches!(set, "CapPrm" | "CapEff");
        let fine = value == "0000000000000000" || low_ports && value == "0000000000000400";
        ensure!(fine, "{set}: {value}");
    }
    ensure!(field(&status, "NoNewPrivs")? == "1", "{status}");
    for ids in ["Uid", "Gid"] {
        let value = field(&status, ids)?;
        ensure!(value.split('\t').all(|id| id == expected.uid.to_string()), "{ids}: {value}");
    }
    // Where they may not be dropped, they are those of the caller.
    ensure!(expected.inside || field(&status, "Groups")?.is_empty(), "{status}");
    let pids = field(&status, "NSpid")?;
    ensure!(pids.split('\t').count() == 1 + usize::from(expected.background), "NSpid: {pids}");
    for directory in ["root", "cwd"] {
        let left: Vec<_> = fs::read_dir(task.join(directory))?.collect();
        ensure!(left.is_empty(), "{directory}: {left:?}");
    }
    let mounts = fs::read_to_string(task.join("mountinfo"))?;
    let options = mounts.split(' ').nth(5).unwrap_or_default();
    ensure!(mounts.lines().count() == 1 && mounts.contains(" - tmpfs "), "mounts: {mounts}");
    ensure!(options.starts_with("ro,nosuid,nodev,noexec"), "mounts: {mounts}");
    for (kind, other) in [
        ("mnt", true),
        ("ipc", true),
        ("uts", true),
        ("pid", expected.background),
        ("net", in_namespace),
    ] {
        let theirs = fs::read_link(task.join("ns").join(kind))?;
        let ours = fs::read_link(format!("/proc/thread-self/ns/{kind}"))?;
        ensure!((theirs != ours) == other, "{kind}: {} here, {}", ours.display(), theirs.display());
    }
    if expected.own_user {
        let theirs = fs::read_link(task.join("ns/user"))?;
        ensure!(theirs != fs::read_link("/proc/self/ns/user")?, "the same user namespace");
        // That user is all there is.
        let map = fs::read_to_string(task.join("uid_map"))?;
        ensure!(map.split_whitespace().last() == Some("1"), "{map}");
    }
    Ok(())
}

fn descriptors(pid: u32, expected: Expected<'_>) -> Result<()> {
    const KINDS: [&str; 5] =
        ["socket:", "anon_inode:", "/dev/null", "/dev/net/tun", "/run/rig/tmp/standard"];
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        let to = match fs::read_link(entry.path()) {
            Ok(to) => to.display().to_string(),
            // That of a client who has just left.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        // In the foreground the standard ones are the caller's.
        let standard = number < 3 && (to == "/dev/null" || !expected.background);
        let known = KINDS.iter().any(|kind| to.starts_with(kind));
        ensure!(standard || known || expected.files.contains(&&*to), "{number} is {to}");
        open.push(to);
    }
    let anonymous =
        |kind: &str| open.iter().filter(|to| **to == format!("anon_inode:{kind}")).count();
    ensure!(anonymous("[eventpoll]") == 1 && anonymous("[signalfd]") == 1, "{open:?}");
    for file in expected.files {
        ensure!(open.iter().any(|to| to == file), "{file} is not among {open:?}");
    }
    ensure!(open.len() < 24, "{open:?}");
    Ok(())
}

/// The line for `-d`.
fn layers(stderr: &str) -> Result<String> {
    let line = stderr.lines().find_map(|line| Some(line.split_once(": Sandbox: ")?.1.to_owned()));
    line.with_context(|| format!("no line about the sandbox: {stderr}"))
}

/// Where something is in the rig's directory.
fn at(case: &Case<'_>, name: &str) -> PathBuf {
    case.rig.tmp().join(name)
}

fn pid_in(path: &Path) -> Result<u32> {
    Ok(fs::read_to_string(path)?.trim().parse()?)
}

/// Ends a process in the background in an orderly way.
fn end(case: &Case<'_>, pid: u32) -> Result<()> {
    kill_process(Pid::from_raw(pid.try_into()?).context("no process id")?, Signal::TERM)?;
    case.rig.wait_gone(pid, SHORT)
}

/// Ends a program in the foreground in an orderly way.
fn end_with_0(proc: Proc) -> Result<String> {
    proc.signal(Signal::TERM)?;
    let outcome = proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(outcome.stderr)
}

fn passt_in_the_foreground(case: &Case<'_>) -> Result<()> {
    let passt = Passt::start(case, "-d")?;
    passt.connect()?.alive()?;
    passt.said("Sandbox: ")?;
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), ..PASST })?;
    let said = end_with_0(passt.proc)?;
    let wanted =
        "user, mount, IPC, UTS namespaces; empty root; no new privileges; no capabilities; ";
    ensure!(layers(&said)?.starts_with(wanted) && said.contains("Landlock"), "{said}");
    Ok(())
}

fn passt_in_the_background(case: &Case<'_>) -> Result<()> {
    let (socket, file) = (at(case, "guest.socket"), at(case, "guest.pid"));
    let options = ["-d", "-s", &*socket.to_string_lossy(), "-P", &*file.to_string_lossy()];
    let outcome = case.rig.passt(case.user)?.args(&options).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let said = layers(&outcome.stderr)?;
    ensure!(said.starts_with("user, PID, mount, IPC, UTS namespaces; empty root; "), "{said}");
    let pid = pid_in(&file)?;
    Client::connect(&socket)?.alive()?;
    look_at(case, pid, Expected { uid: uid(case), background: true, ..PASST })?;
    // Another one, too.
    Client::connect(&socket)?.alive()?;
    end(case, pid)
}

/// A connection of which a program inherits the other end as descriptor 3.
fn handed(case: &Case<'_>, options: &[&str]) -> Result<(Client, Proc)> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let number = inheritable(&theirs)?;
    let script = format!("exec \"$@\" --fd 3 3<&{number} {number}<&-");
    let program = case.rig.passt(User::Root)?.command().get_program().to_owned();
    let mut argv = vec!["sh", "-c", &script, "sh"];
    let program = program.to_string_lossy();
    argv.push(&program);
    argv.extend(options);
    let proc = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    Ok((Client::over(ours)?, proc))
}

/// As QEMU starts it.
fn passt_at_a_descriptor(case: &Case<'_>) -> Result<()> {
    let file = at(case, "guest.pid");
    let (mut client, proc) = handed(case, &["-q", "-P", &file.to_string_lossy()])?;
    let outcome = proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    client.alive()?;
    let pid = pid_in(&file)?;
    look_at(case, pid, Expected { uid: uid(case), background: true, ..PASST })?;
    client.alive()?;
    drop(client);
    case.rig.wait_gone(pid, SHORT)
}

/// As muvm starts it: it may be looked at for a second, and nobody waits for the end of that but itself.
fn passt_looked_at(case: &Case<'_>) -> Result<()> {
    let (mut client, proc) = handed(case, &["-q", "-f"])?;
    client.alive()?;
    let look = ["readlink", &format!("/proc/{}/ns/user", proc.pid())];
    let seen = || case.rig.outcome(&Place::Host, User::Ordinary, SHORT, &look);
    if case.user == User::Ordinary {
        ensure!(seen()?.code() == Some(0), "not even in the first second");
    }
    until("the end of that", SOON, || seen().is_ok_and(|outcome| outcome.code() != Some(0)))?;
    look_at(case, proc.pid(), Expected { uid: uid(case), ..PASST })?;
    client.alive()?;
    drop(client);
    let outcome = proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

/// The guest of `place` reaches the outside.
fn reaches(case: &Case<'_>, place: &Place) -> Result<()> {
    let _server = case.server()?;
    let got = case.ask(place, "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

fn pasta_with_a_command(case: &Case<'_>) -> Result<()> {
    let mut guest = case.guest(&["-d"])?;
    reaches(case, &guest.place())?;
    let pid = guest.proc().pid();
    look_at(case, pid, Expected { uid: uid(case), ..PASTA })?;
    reaches(case, &guest.place())?;
    // Its root is the host's.
    ensure!(fs::exists(format!("/proc/{}/root/etc", guest.guest()))?, "no /etc for the command");
    let outcome = guest.finish()?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let said = layers(&outcome.stderr)?;
    ensure!(said.starts_with("mount, IPC, UTS namespaces; "), "{said}");
    ensure!(said.contains("; empty root; no new privileges; no capabilities; "), "{said}");
    let moved = said.contains("; user namespace of the guest; ");
    ensure!(moved == (case.user == User::Ordinary), "{said}");
    Ok(())
}

fn the_command_has_none_of_it(case: &Case<'_>) -> Result<()> {
    let own = fs::metadata("/etc")?;
    let script = "cat /proc/self/status; echo \"core $(ulimit -c)\"; stat -c 'etc %d %i' /etc
grep -q ' / / ' /proc/self/mountinfo && echo mounts";
    let core = "ulimit -Sc 1000 2>/dev/null || ulimit -Sc 0; ulimit -c; exec \"$@\"";
    let pasta = case.pasta()?.args(&["--config-net", "--", "sh", "-c", script]).command();
    let mut argv = vec!["sh".into(), "-c".into(), core.into(), "sh".into()];
    argv.push(pasta.get_program().to_owned());
    argv.extend(pasta.get_args().map(ToOwned::to_owned));
    let text = Proc::run(case.rig.command(&Place::Host, User::Root, &argv), SHORT)?.ok("pasta")?;
    let wanted = text.lines().next().context("nothing")?;
    ensure!(text.contains(&format!("core {wanted}\n")), "{text}");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let value = u64::from_str_radix(&field(&text, set)?, 16)?;
        ensure!(value > 1 << 38 && (value + 1).is_power_of_two(), "{set}: {value:x}");
    }
    ensure!(field(&text, "NoNewPrivs")? == "0" && field(&text, "Seccomp")? == "0", "{text}");
    let etc = format!("etc {} {}", own.dev(), own.ino());
    ensure!(text.contains(&etc) && text.ends_with("mounts\n"), "no {etc}: {text}");
    Ok(())
}

/// A pasta for what comes behind these options, which goes to the background.
fn attached(case: &Case<'_>, options: &[&str]) -> Result<u32> {
    let file = at(case, "pasta.pid");
    let pasta = case.pasta()?.args(&["-q", "-P", &*file.to_string_lossy(), "--config-net"]);
    let outcome = pasta.args(options).run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    pid_in(&file)
}

fn pasta_at_a_process(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let pid = attached(case, &[&holder.pid().to_string()])?;
    reaches(case, &holder.place())?;
    let directory = format!("/proc/{}/ns", holder.pid());
    let files = &[&*directory];
    look_at(case, pid, Expected { uid: uid(case), background: true, files, ..PASTA })?;
    drop(holder);
    case.rig.wait_gone(pid, SOON)
}

fn pasta_in_the_foreground(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let target = holder.pid().to_string();
    let argv = ["-d", "-f", "--no-netns-quit", "--config-net", &target];
    let pasta = case.pasta()?.args(&argv).start()?;
    until("the line", SOON, || layers(&pasta.stderr()).is_ok())?;
    reaches(case, &holder.place())?;
    look_at(case, pasta.pid(), Expected { uid: uid(case), ..PASTA })?;
    end_with_0(pasta).map(drop)
}

/// A namespace bound to a path in a directory of its own, as container engines do it.
fn bound(case: &Case<'_>, holder: &Holder) -> Result<(PathBuf, PathBuf)> {
    let directory = at(case, "ns");
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let path = directory.join("guest");
    fs::write(&path, "")?;
    let argv =
        ["mount", "--bind", &format!("/proc/{}/ns/net", holder.pid()), &*path.to_string_lossy()];
    case.rig.run(&Place::Host, SHORT, &argv)?;
    Ok((directory, path))
}

/// Takes such a path away. Nobody may keep it busy.
fn unbind(case: &Case<'_>, path: &Path) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["umount", &*path.to_string_lossy()])?;
    Ok(fs::remove_file(path)?)
}

fn pasta_at_a_path(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let (directory, path) = bound(case, &holder)?;
    let user = format!("/proc/{}/ns/user", holder.pid());
    let pid = attached(case, &["--userns", &user, "--netns", &path.to_string_lossy()])?;
    reaches(case, &holder.place())?;
    let directory = directory.display().to_string();
    let files = &[&*directory];
    look_at(case, pid, Expected { uid: uid(case), background: true, files, ..PASTA })?;
    unbind(case, &path)?;
    case.rig.wait_gone(pid, SOON)
}

/// In the guest's user namespace our user has no number.
fn where_nobody_is_mapped(case: &Case<'_>) -> Result<()> {
    let helper = case.rig.helper().display().to_string();
    let argv = ["unshare", "--user", "--net", "--", &helper, "hold"];
    let mut holder = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    holder.wait_line("ready", SHORT)?;
    let pid = attached(case, &["--no-netns-quit", &holder.pid().to_string()])?;
    reaches(case, &Place::Of(holder.pid()))?;
    look_at(case, pid, Expected { uid: uid(case), background: true, ..PASTA })?;
    end(case, pid)
}

/// As uid 0 of a user namespace in which others are mapped, too.
fn in_the_namespace_of_podman(case: &Case<'_>) -> Result<()> {
    let (file, done) = (at(case, "pasta.pid"), at(case, "done"));
    let pasta = case.rig.pasta(User::Root)?.command().get_program().to_owned();
    // Made there, so that it belongs to that user namespace, and taken away there.
    let script = "set -e; mkdir -p $3/engine; mount -t tmpfs tmpfs $3/engine; : > $3/engine/guest
unshare --net=$3/engine/guest true
$1 --config-net -q -P $2 -t none -u none -T none -U none --netns $3/engine/guest
nsenter --net=$3/engine/guest sleep 60 & echo inside $!; while ! [ -e $4 ]; do sleep 0.05; done
kill $!; wait $! || :; umount $3/engine/guest; rm $3/engine/guest; echo taken; cat";
    let argv = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script, "sh"];
    let mut argv: Vec<String> = argv.map(str::to_owned).to_vec();
    argv.push(pasta.to_string_lossy().into_owned());
    argv.extend([&*file, case.rig.tmp(), &done].map(|path| path.display().to_string()));
    let mut engine = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    let inside = engine.wait_line("inside ", SHORT)?.replace("inside ", "").parse()?;
    let pid = pid_in(&file)?;
    let uid = if case.user == User::Root { 0 } else { 1000 };
    let directory = at(case, "engine").display().to_string();
    until("the namespace", SOON, || {
        let theirs = fs::read_link(format!("/proc/{inside}/ns/net"));
        theirs
            .is_ok_and(|theirs| fs::read_link("/proc/self/ns/net").is_ok_and(|ours| ours != theirs))
    })?;
    reaches(case, &Place::Of(inside))?;
    // No rule, no thread in the namespace.
    let files = &[&*directory];
    let expected = Expected { uid, background: true, inside: true, files, ..PASTA };
    look_at(case, pid, Expected { thread: false, ..expected })?;
    fs::write(&done, "")?;
    engine.wait_line("taken", SHORT)?;
    case.rig.wait_gone(pid, SOON)
}

/// The number of the thread of a process that is in its guest's namespace.
fn thread_in_namespace(pid: u32) -> Result<u32> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))? == "netns\n" {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    bail!("no thread in the namespace")
}

/// Files that are opened before go on being written.
fn a_capture_goes_on(case: &Case<'_>) -> Result<()> {
    let capture = at(case, "guest.pcap");
    let passt = Passt::start(case, &format!("-q -p {}", capture.display()))?;
    passt.connect()?.alive()?;
    let shown = capture.display().to_string();
    let files = &[&*shown];
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), files, ..PASST })?;
    passt.connect()?.alive()?;
    end_with_0(passt.proc)?;
    let mut reader = pcap_file::pcap::PcapReader::new(fs::File::open(&capture)?)?;
    let mut frames = 0;
    while let Some(frame) = reader.next_packet() {
        frame?;
        frames += 1;
    }
    ensure!(frames >= 4, "{frames} frames: a question and an answer of two clients at least");
    Ok(())
}

/// Arguments for a passt to which the kernel refuses `call`.
fn refused(case: &Case<'_>, call: &str, options: &[&str]) -> Result<Vec<String>> {
    let program = case.rig.passt(User::Root)?.command().get_program().to_owned();
    let mut argv = vec![case.rig.helper().display().to_string(), "refuse".into(), call.into()];
    argv.push(program.to_string_lossy().into_owned());
    argv.extend(options.iter().map(|&option| option.to_owned()));
    Ok(argv)
}

fn run_refused(case: &Case<'_>, call: &str, options: &[&str]) -> Result<Outcome> {
    case.rig.outcome(&Place::Host, case.user, SHORT, &refused(case, call, options)?)
}

/// A passt at a socket in the foreground to which the kernel refuses `call`.
fn without(case: &Case<'_>, call: &str, options: &[&str]) -> Result<Passt> {
    let socket = at(case, "guest.socket");
    let shown = socket.display().to_string();
    let argv = refused(case, call, &[&["-d", "-f", "-s", &shown], options].concat())?;
    let proc = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    let passt = Passt { proc, socket };
    passt.said("Sandbox: ")?;
    passt.connect()?.alive()?;
    Ok(passt)
}

const NO_PIVOT: &str = "Failed to pivot_root(): Invalid argument";

fn where_the_root_cannot_be_exchanged(case: &Case<'_>) -> Result<()> {
    let socket = at(case, "guest.socket");
    for background in [false, true] {
        let mut options = vec!["-q", "-s", socket.to_str().context("name")?];
        options.extend((!background).then_some("-f"));
        let outcome = run_refused(case, "pivot_root", &options)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let [cause, class, remedy] = lines.as_slice() else { bail!("{outcome:?}") };
        ensure!(*cause == NO_PIVOT, "{cause}");
        ensure!(class.ends_with("Failed to sandbox process, exiting"), "{class}");
        ensure!(remedy.contains("--chroot-fallback"), "{remedy}");
    }
    Ok(())
}

fn chroot_where_it_is_allowed(case: &Case<'_>) -> Result<()> {
    let mut passt = without(case, "pivot_root", &["--chroot-fallback"])?;
    let said = passt.proc.stderr();
    ensure!(said.contains("Failed to pivot_root(), fallback to chroot()..."), "{said}");
    let layers = layers(&said)?;
    ensure!(layers.contains("; empty root by chroot; "), "{layers}");
    let task = format!("/proc/{}", passt.proc.pid());
    for directory in ["root", "cwd"] {
        let left: Vec<_> = fs::read_dir(format!("{task}/{directory}"))?.collect();
        ensure!(left.is_empty(), "{directory}: {left:?}");
    }
    let sets = fs::read_to_string(format!("{task}/status"))?;
    ensure!(field(&sets, "CapEff")? == "0000000000000000", "{sets}");
    passt.serves()?;
    // Where it can be exchanged, it is.
    let (socket, file) = (at(case, "other.socket"), at(case, "other.pid"));
    let options = ["-q", "--chroot-fallback", "-s", &*socket.to_string_lossy(), "-P"];
    let other = case.rig.passt(case.user)?.args(&options).args(&[&*file.to_string_lossy()]);
    let outcome = other.run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    look_at(case, pid_in(&file)?, Expected { uid: uid(case), background: true, ..PASST })?;
    end(case, pid_in(&file)?)
}

fn without_landlock(case: &Case<'_>) -> Result<()> {
    let passt = without(case, "landlock", &[])?;
    let layers = layers(&passt.proc.stderr())?;
    ensure!(layers.contains("; no Landlock"), "{layers}");
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), ..PASST })?;
    end_with_0(passt.proc).map(drop)
}

fn without_close_range(case: &Case<'_>) -> Result<()> {
    let file = OwnedFd::from(fs::File::open("/etc/passwd")?);
    inheritable(&file)?;
    let passt = without(case, "close_range", &[])?;
    drop(file);
    let said = passt.proc.stderr();
    ensure!(!said.contains("inherited descriptors"), "{said}");
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), ..PASST })?;
    end_with_0(passt.proc).map(drop)
}

/// In a container that has what a program needs, and nothing else.
fn without_tmp(case: &Case<'_>) -> Result<()> {
    let program = case.rig.passt(User::Root)?.command().get_program().to_owned();
    let script = "set -e; mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir bin lib lib64 usr etc proc dev run sbin old
for d in bin lib lib64 usr etc proc dev run sbin; do ! [ -e /$d ] || mount --rbind /$d $d; done
pivot_root . old; umount -l old; rmdir old; ! [ -e /tmp ]; exec \"$@\"";
    let mut argv: Vec<String> =
        ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    if case.user == User::Ordinary {
        let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all"];
        argv.extend(user.map(str::to_owned));
    }
    let socket = at(case, "guest.socket");
    argv.push(program.to_string_lossy().into_owned());
    argv.extend(["-d", "-f", "-s", &*socket.to_string_lossy()].map(str::to_owned));
    let proc = Proc::start(case.rig.command(&Place::Host, User::Root, &argv))?;
    let mut passt = Passt { proc, socket };
    passt.said("Sandbox: ")?;
    passt.serves()?;
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), ..PASST })?;
    end_with_0(passt.proc).map(drop)
}

/// On most machines mounts reach other namespaces, unless these are kept from it.
fn no_mount_is_seen_by_others(case: &Case<'_>) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["mount", "--make-rshared", "/"])?;
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "add", "guest"])?;
    case.pasta()?;
    case.rig.passt(case.user)?;
    let mounts = || fs::read_to_string("/proc/self/mountinfo");
    let before = mounts()?;
    let pid = attached(case, &["--netns", "guest"])?;
    let passt = Passt::start(case, "-q")?;
    passt.connect()?.alive()?;
    ensure!(mounts()? == before, "{}\nhas become\n{}", before, mounts()?);
    look_at(case, passt.proc.pid(), Expected { uid: 65534, ..PASST })?;
    end(case, pid)?;
    end_with_0(passt.proc)?;
    ensure!(mounts()? == before, "{}\nhas become\n{}", before, mounts()?);
    Ok(())
}

/// Where the root is a mere directory, there are no user namespaces; root can do without.
fn in_a_chroot(case: &Case<'_>) -> Result<()> {
    let (jail, tmp) = (at(case, "jail"), at(case, "tmp"));
    fs::create_dir(&tmp)?;
    // Not a mount, but with all that is needed mounted in it; a shared one, which hands on what is mounted.
    let script = "mkdir $1; cd $1; for d in bin lib lib64 usr etc proc dev run sbin tmp; do
[ -e /$d ] && mkdir $d && mount --rbind /$d $d; done; mount --make-rshared /";
    let shown = jail.display().to_string();
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "add", "guest"])?;
    let program = case.pasta()?.command().get_program().to_string_lossy().into_owned();
    case.rig.run(&Place::Host, SHORT, &["sh", "-c", script, "sh", &shown])?;
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    let file = at(case, "pasta.pid").display().to_string();
    let argv = ["chroot", &shown, &program, "-d", "-P", &file, "--config-net", "--netns", "guest"];
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().rev().take(3).collect();
    let [remedy, class, cause] = lines.as_slice() else { bail!("{outcome:?}") };
    ensure!(cause.ends_with(": Failed to make mounts private: Invalid argument"), "{cause}");
    ensure!(class.ends_with("Failed to sandbox process, exiting"), "{class}");
    ensure!(remedy.contains("--chroot-fallback"), "{remedy}");
    let argv = [&argv[..], &["--chroot-fallback"]].concat();
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let said = layers(&outcome.stderr)?;
    ensure!(said.contains("; empty root by chroot; "), "{said}");
    let pid = pid_in(&at(case, "pasta.pid"))?;
    reaches(case, &Place::Of(thread_in_namespace(pid)?))?;
    for directory in ["root", "cwd"] {
        let left: Vec<_> = fs::read_dir(format!("/proc/{pid}/{directory}"))?.collect();
        ensure!(left.is_empty(), "{directory}: {left:?}");
    }
    ensure!(fs::read_to_string("/proc/self/mountinfo")? == before, "something is mounted");
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "del", "guest"])?;
    case.rig.wait_gone(pid, SOON)
}

/// What its file gives it is used at the start, and gone then.
fn with_a_capability_of_its_own(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["setcap"])?;
    let program = case.rig.passt(case.user)?.command().get_args().last().map(PathBuf::from);
    let program = case.rig.install(&program.context("no program")?, "passt-with-capability")?;
    let (shown, socket) = (program.display().to_string(), at(case, "guest.socket"));
    case.rig.run(&Place::Host, SHORT, &["setcap", "cap_net_bind_service=ep", &shown])?;
    let argv = [&*shown, "-d", "-f", "-t", "80", "-s", &*socket.to_string_lossy()];
    let proc = Proc::start(case.rig.command(&Place::Host, case.user, &argv))?;
    let passt = Passt { proc, socket };
    passt.said("Sandbox: ")?;
    let mut client = passt.connect()?;
    client.alive()?;
    let _connection = TcpStream::connect("127.0.0.1:80")?;
    client.knock(80, true)?;
    look_at(case, passt.proc.pid(), Expected { uid: uid(case), ..PASST })?;
    end_with_0(passt.proc).map(drop)
}

/// One line says why, and the next one that this was about the sandbox.
fn where_namespaces_are_used_up(case: &Case<'_>) -> Result<()> {
    let program = case.rig.passt(User::Root)?.command().get_program().to_owned();
    let (socket, none) = (at(case, "guest.socket"), "No space left on device");
    let class = "\nFailed to sandbox process, exiting";
    for (kind, what, class) in [
        ("user", "Couldn't create user namespace", ""),
        ("pid", "Couldn't create PID namespace", class),
        ("mnt", "Couldn't create mount, IPC and UTS namespaces", class),
    ] {
        let script = "echo 0 > /proc/sys/user/max_$1_namespaces; exec $2 -q -s $3";
        let mut argv = vec!["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", kind];
        let (program, socket) = (program.to_string_lossy(), socket.to_string_lossy());
        argv.extend([&*program, &*socket]);
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        ensure!(outcome.stderr == format!("{what}: {none}{class}\n"), "{outcome:?}");
    }
    Ok(())
}

/// A namespace of the host's with a name, for root.
fn in_named(case: &Case<'_>, options: &[&str], uid: u32) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "add", "guest"])?;
    let pid = attached(case, &[options, &["--netns", "guest"]].concat())?;
    reaches(case, &Place::Of(thread_in_namespace(pid)?))?;
    let files = &["/run/netns"];
    look_at(case, pid, Expected { uid, background: true, files, ..PASTA })?;
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "del", "guest"])?;
    case.rig.wait_gone(pid, SOON)
}

fn pasta_as_nobody(case: &Case<'_>) -> Result<()> {
    // Another nobody than that of the kernel.
    ensure!(fs::read_to_string("/etc/passwd")?.contains("\nnobody:x:65534:"), "no nobody");
    let group = "s/^nobody:x:65534:[0-9]*:/nobody:x:65533:65533:/";
    let changed = at(case, "passwd");
    let script = "sed $1 /etc/passwd > $2; mount --bind $2 /etc/passwd";
    let argv = ["sh", "-c", script, "sh", group, &*changed.to_string_lossy()];
    case.rig.run(&Place::Host, SHORT, &argv)?;
    let outcome = in_named(case, &[], 65533);
    case.rig.run(&Place::Host, SHORT, &["umount", "/etc/passwd"])?;
    outcome?;
    in_named(case, &[], 65534)
}

fn pasta_as_root(case: &Case<'_>) -> Result<()> {
    in_named(case, &["--runas", "0"], 0)?;
    in_named(case, &["--runas", "0:0", "--netns-only"], 0)
}

fn pasta_as_somebody(case: &Case<'_>) -> Result<()> {
    in_named(case, &["--runas", "1000"], 1000)?;
    in_named(case, &["--runas", "0x3e8:01750"], 1000)
}

fn passt_as_somebody(case: &Case<'_>) -> Result<()> {
    for (user, uid) in [("0", 0), ("1000", 1000)] {
        let passt = Passt::start(case, &format!("-q --runas {user}"))?;
        passt.connect()?.alive()?;
        look_at(case, passt.proc.pid(), Expected { uid, ..PASST })?;
        let said = end_with_0(passt.proc)?;
        ensure!(said.is_empty(), "{said}");
    }
    // That would be root by another name.
    let outcome = case.rig.passt(case.user)?.args(&["-f", "--runas", "root"]).run(SHORT)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(outcome.stderr == "Invalid --runas option: root\n", "{outcome:?}");
    Ok(())
}

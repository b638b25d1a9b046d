//! qrap between a QEMU that tells what it got, or a real one, and servers that answer, do not, or are the
//! passt of the C implementation, or our own.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use testkit::{Outcome, Place, Proc, User, wait_for};

matrix!(users: plain_form, patching_form, our_passt);
matrix!(once:
    nothing_else_changes, odd_servers, mistakes, real_qemu, their_passt, their_passt_with_a_guest,
    our_passt_with_a_guest,
);

/// Tells its name, arguments and descriptors, then what comes from the descriptor in `$FD`,
/// and sends something there.
const QEMU: &str = r#"#!/bin/sh
printf 'name %s\n' "${0##*/}"
for arg do printf 'arg %s\n' "$arg"; done
for fd in /proc/$$/fd/*; do
	at=$(readlink "$fd")
	case $at in socket:*) at=socket;; esac
	printf 'fd %s %s\n' "${fd##*/}" "$at"
done
eval "printf guest >&$FD; printf 'got %s\n' \"\$(head -c 18 <&$FD | od -An -v -tx1 | tr -d ' \n')\""
exit 23
"#;

/// What the tests' own scripts need.
const TOOLS: [&str; 8] = ["env", "grep", "head", "od", "readlink", "setpriv", "sh", "tr"];

/// A rig whose /tmp is empty and its own, and a directory with all programs that are in PATH.
struct Bench<'c> {
    case: &'c Case<'c>,
    qrap: String,
    bin: PathBuf,
}

impl<'c> Bench<'c> {
    fn new(case: &'c Case<'c>) -> Result<Self> {
        let qrap = case.rig.qrap()?.display().to_string();
        // Programs that may be below /tmp have been copied by now.
        let argv = ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"];
        case.rig.run(&Place::Host, SHORT, &argv)?;
        let bin = case.rig.tmp().join("bin");
        fs::create_dir(&bin)?;
        for tool in TOOLS {
            std::os::unix::fs::symlink(place_of(case, tool)?, bin.join(tool))?;
        }
        Ok(Self { case, qrap, bin })
    }

    fn install(&self, name: &str, script: &str) -> Result<String> {
        let path = self.bin.join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    fn command(&self, argv: &[&str], fd: &str) -> Command {
        let mut command = self.case.rig.command(&Place::Host, self.case.user, argv);
        command.env("PATH", &self.bin).env("FD", fd);
        command
    }

    /// Runs qrap with these arguments; QEMU will use descriptor `fd`.
    fn qrap(&self, args: &[&str], fd: &str) -> Result<Outcome> {
        Proc::run(self.command(&[&[self.qrap.as_str()], args].concat(), fd), SHORT)
    }

    fn start(&self, args: &[&str], fd: &str) -> Result<Proc> {
        Proc::start(self.command(&[&[self.qrap.as_str()], args].concat(), fd))
    }
}

/// Where a program of this machine is.
fn place_of(case: &Case<'_>, program: &str) -> Result<PathBuf> {
    case.rig.needs(&[program])?;
    let path = std::env::split_paths("/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    path.map(|dir| dir.join(program)).find(|path| path.exists()).context(program.to_owned())
}

fn listen(number: u32) -> Result<UnixListener> {
    let path = format!("/tmp/passt_{number}.socket");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    Ok(listener)
}

/// The 18 bytes that [`QEMU`] reads.
const ANSWER: &[u8; 18] = b"\0\0\0\x0eanswer of ours";

/// A server that closes so many connections and answers the next one. Returns what came there after the
/// question, until the end.
fn server(number: u32, hang_ups: usize) -> Result<JoinHandle<Result<Vec<u8>>>> {
    let listener = listen(number)?;
    Ok(std::thread::spawn(move || {
        for _ in 0..hang_ups {
            drop(listener.accept()?);
        }
        let (mut stream, _) = listener.accept()?;
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut len = [0; 4];
            stream.read_exact(&mut len)?;
            let mut frame = vec![0; u32::from_be_bytes(len) as usize];
            stream.read_exact(&mut frame)?;
            kinds.push([frame[12], frame[13]]);
        }
        ensure!(kinds == [[8, 6], [0x86, 0xdd]], "{kinds:?}");
        stream.write_all(ANSWER)?;
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            // It closed without having read the answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            result => drop(result?),
        }
        Ok(rest)
    }))
}

fn sent(server: JoinHandle<Result<Vec<u8>>>) -> Result<Vec<u8>> {
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?
}

/// Lines of a kind that [`QEMU`] told.
fn told<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let rest = |line: &'t str| line.strip_prefix(kind)?.strip_prefix(' ');
    text.lines().filter_map(rest).collect()
}

/// Checks that QEMU ran with these arguments and the connection as descriptor `fd`.
fn check(outcome: &Outcome, name: &str, args: &[&str], fd: &str, socket: &str) -> Result<()> {
    let out = &outcome.stdout;
    ensure!(outcome.code() == Some(23), "{outcome:?}");
    ensure!(outcome.stderr == format!("Connected to {socket}\n"), "{outcome:?}");
    ensure!(told(out, "name") == [name], "{out}");
    ensure!(told(out, "arg") == args, "{out}, wanted {args:?}");
    let sockets = told(out, "fd").into_iter().filter(|line| line.ends_with("socket"));
    ensure!(sockets.collect::<Vec<_>>() == [format!("{fd} socket")], "{out}");
    Ok(())
}

fn plain_form(case: &Case<'_>) -> Result<()> {
    let bench = Bench::new(case)?;
    let path = bench.install("qemu-of-old", QEMU)?;
    // The one that the connection has in qrap, too, and another one.
    for (number, fd, name) in [(1, "3", "qemu-of-old"), (2, "9", path.as_str())] {
        let server = server(number, 0)?;
        let args = ["-net", "socket,fd=9", "", "a  b\n", "-device", "e1000", "5", "qemu-of-old"];
        let outcome = bench.qrap(&[&[fd, name], &args[..]].concat(), fd)?;
        let socket = format!("/tmp/passt_{number}.socket");
        let shown = ["-net", "socket,fd=9", "", "a  b", "-device", "e1000", "5", "qemu-of-old"];
        check(&outcome, "qemu-of-old", &shown, fd, &socket)?;
        let hex: String = ANSWER.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(told(&outcome.stdout, "got") == [hex], "{outcome:?}");
        let sent = sent(server)?;
        ensure!(sent == b"guest", "{sent:?}");
        fs::remove_file(&socket)?;
    }
    Ok(())
}

fn patching_form(case: &Case<'_>) -> Result<()> {
    let bench = Bench::new(case)?;
    for (name, args, wanted) in [
        (
            "qemu-kvm",
            "-machine pc-q35-6.2,accel=kvm -device virtio-net-pci,netdev=n,bus=pci.1 -netdev user,id=n \
             -device virtio-rng-pci,bus=pci.3,addr=0x0 -m 1024",
            "-machine pc-q35-6.2,accel=kvm -device virtio-rng-pci,bus=pci.3,addr=0x0 -m 1024 -device \
             virtio-net-pci,bus=pci.4,addr=0x0,netdev=hostnet0,x-txburst=4096 \
             -netdev socket,fd=5,id=hostnet0",
        ),
        // Before the other one, from here on.
        ("kvm", "-net none -S", "-S -netdev socket,fd=5,id=hostnet0"),
    ] {
        bench.install(name, QEMU)?;
        let server = server(64, 0)?;
        let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        let outcome = bench.qrap(&words(args), "5")?;
        check(&outcome, name, &words(wanted), "5", "/tmp/passt_64.socket")?;
        let sent = sent(server)?;
        ensure!(sent == b"guest", "{sent:?}");
        fs::remove_file("/tmp/passt_64.socket")?;
    }
    Ok(())
}

/// Signals, limits, privileges, environment and descriptors are those that QEMU would have had without qrap.
fn nothing_else_changes(case: &Case<'_>) -> Result<()> {
    let bench = Bench::new(case)?;
    let descriptors: Vec<String> = (0..64).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    // Programs that tell one thing each; a shell would change some of it before it tells.
    let tellers = [
        "grep -E ^(Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups) /proc/self/status"
            .to_owned(),
        "grep -v ^nothing /proc/self/limits".to_owned(),
        "env".to_owned(),
        "readlink /proc/self/cwd".to_owned(),
        format!("readlink -v {}", descriptors.join(" ")),
    ];
    let circumstances = [
        "exec",
        "exec env --ignore-signal=PIPE,USR1 --block-signal=TERM,USR2",
        "ulimit -Sn 200; ulimit -c 0; exec 4</dev/null 7>&1; cd /usr; exec env -u HOME A=b",
    ];
    let mut all = Vec::new();
    for before in circumstances {
        for teller in &tellers {
            let run = |prefix: &str| -> Result<String> {
                let words: Vec<String> =
                    teller.split(' ').map(|word| format!("'{word}'")).collect();
                let script = format!("{before} {prefix} {}", words.join(" "));
                let outcome = Proc::run(bench.command(&["sh", "-c", &script], ""), SHORT)?;
                // Pipes are others in each run. Links that are not there are told of on standard error.
                let text = outcome.stdout + &outcome.stderr;
                let lines = text.lines().map(|line| line.split(":[").next().unwrap_or_default());
                Ok(lines.map(|line| format!("{line}\n")).collect())
            };
            let without =
                run("")?.replacen("readlink: /proc/self/fd/9: No such file or directory\n", "", 1);
            let server = server(1, 0)?;
            let with = run(&format!("{} 9", bench.qrap))?;
            sent(server)?;
            fs::remove_file("/tmp/passt_1.socket")?;
            let ours = if teller.contains("fd") { "socket\n" } else { "" };
            let with = with.replacen("Connected to /tmp/passt_1.socket\n", "", 1);
            let with = with.replacen(ours, "", 1);
            ensure!(with == without, "{before} {teller}: {with} instead of {without}");
            all.push(with);
        }
    }
    // That it would have been noticed.
    let [plain, signals, others] = [0, 1, 2].map(|n| &all[n * tellers.len()..][..tellers.len()]);
    ensure!(plain[0] != signals[0], "{plain:?}, {signals:?}");
    ensure!(plain.iter().zip(others).skip(1).all(|(a, b)| a != b), "{plain:?}, {others:?}");
    Ok(())
}

/// One that nobody listens on any more, a silent one, one with a guest that is just ending.
fn odd_servers(case: &Case<'_>) -> Result<()> {
    let bench = Bench::new(case)?;
    bench.install("qemu", QEMU)?;
    drop(listen(1)?);
    let _silent = listen(3)?;
    fs::set_permissions("/tmp/passt_3.socket", fs::Permissions::from_mode(0o777))?;
    fs::write("/tmp/passt_4.socket", "")?;
    let _forbidden = UnixListener::bind("/tmp/passt_5.socket")?;
    fs::set_permissions("/tmp/passt_5.socket", fs::Permissions::from_mode(0o600))?;
    let server = server(40, 5)?;
    let outcome = bench.qrap(&["9", "qemu"], "9")?;
    ensure!(outcome.code() == Some(23), "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let wanted = [
        "Probe of /tmp/passt_1.socket failed: Connection refused",
        "Probe of /tmp/passt_3.socket failed: no answer within 500 ms",
        // Not a socket, and not allowed: the kernel looks at the permissions of the file first.
        "Probe of /tmp/passt_4.socket failed: Permission denied",
        "Probe of /tmp/passt_5.socket failed: Permission denied",
        "Connected to /tmp/passt_40.socket",
    ];
    ensure!(lines == wanted, "{lines:?}");
    let sent = sent(server)?;
    ensure!(sent == b"guest", "{sent:?}");
    Ok(())
}

fn mistakes(case: &Case<'_>) -> Result<()> {
    let bench = Bench::new(case)?;
    let qemu = bench.install("qemu", QEMU)?;
    bench.install("kvm", QEMU)?;
    let usage = format!("Usage: {} [FDNUM QEMU_CMD] [QEMU_ARG]...", bench.qrap);
    let full: Vec<String> = (3..31).map(|n| format!("x,bus=pci.{n},addr=0x0")).collect();
    let full: Vec<&str> = full.iter().flat_map(|value| ["-device", value]).collect();
    // Before passt is looked for, or the message would be another one.
    for (args, line) in [
        (full.as_slice(), "No free address left for a network device"),
        (&["2", "qemu"], "FDNUM 2 is not between 3 and "),
        (&["4000000000", "qemu"], "FDNUM 4000000000 is not between 3 and "),
        (&["5", "nosuch"], "QEMU_CMD nosuch is not a program, nor is there one"),
        (&["5", "/etc/passwd"], "QEMU_CMD /etc/passwd is not a program, nor is there one"),
    ] {
        let outcome = bench.qrap(args, "")?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let mut lines = outcome.stderr.lines();
        ensure!(lines.next().is_some_and(|first| first.starts_with(line)), "{outcome:?}");
        ensure!(lines.next() == Some(&usage), "{outcome:?}");
    }
    for args in [&["5", &qemu][..], &["-S"], &[]] {
        let outcome = bench.qrap(args, "")?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let line = "No passt found: none answered at /tmp/passt_1.socket to /tmp/passt_64.socket, \
                    start one first\n";
        ensure!(outcome.stderr == line, "{outcome:?}");
    }
    // Executable, but not a program.
    let broken = bench.install("broken", "#!/nonexistent/interpreter\n")?;
    let server = server(1, 0)?;
    let outcome = bench.qrap(&["5", "broken"], "")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let wanted = format!("Couldn't run {broken}: No such file or directory");
    ensure!(last == wanted, "{outcome:?}");
    sent(server)?;
    // No QEMU at all, unless the machine has one where PATH does not matter.
    if !Path::new("/usr/libexec/qemu-kvm").exists() {
        fs::remove_file(bench.bin.join("kvm"))?;
        let outcome = bench.qrap(&["-S"], "")?;
        ensure!(outcome.code() == Some(1), "{outcome:?}");
        let alone = outcome.stderr.lines().count() == 1;
        ensure!(alone && outcome.stderr.starts_with("No QEMU found"), "{outcome:?}");
    }
    Ok(())
}

/// QEMU takes the line, and says that its NIC is connected.
fn real_qemu(case: &Case<'_>) -> Result<()> {
    let qemu = place_of(case, "qemu-system-x86_64")?;
    let bench = Bench::new(case)?;
    bench.install("kvm", &format!("#!/bin/sh\nexec {} \"$@\"\n", qemu.display()))?;
    let ports = "-device pcie-root-port,id=pci.3,chassis=1,addr=0x3 \
                 -device pcie-root-port,id=pci.4,chassis=2,addr=0x4";
    for (machine, devices) in [
        ("q35", format!("{ports} -device virtio-rng-pci,bus=pci.3,addr=0x0")),
        ("pc", "-device virtio-rng-pci,bus=pci.0,addr=0x2 -net nic -net user".to_owned()),
        (
            "q35",
            format!(
                "{ports} -device {{\"driver\":\"e1000e\",\"netdev\":\"n\",\"bus\":\"pci.3\"}} \
                 -netdev user,id=n"
            ),
        ),
        (
            "pc",
            "-device {\"driver\":\"virtio-rng-pci\",\"addr\":\"0x2\"} \
             -netdev {\"type\":\"user\",\"id\":\"n\"}"
                .to_owned(),
        ),
        // The example of the manual page.
        ("pc", "-drive id=d,if=none,file=disk -device virtio-blk-pci,drive=d,addr=0x3".to_owned()),
    ] {
        fs::write(case.rig.tmp().join("disk"), [0; 4096])?;
        fs::set_permissions(case.rig.tmp().join("disk"), fs::Permissions::from_mode(0o666))?;
        let server = server(1, 0)?;
        let line = format!(
            "-machine {machine} -accel tcg -m 32 -nodefaults -display none -S -monitor stdio {devices}"
        );
        let mut qemu = bench.start(&line.split_whitespace().collect::<Vec<_>>(), "")?;
        qemu.say("info network")?;
        qemu.say("quit")?;
        let outcome = qemu.finish(SHORT)?;
        let text = &outcome.stdout;
        let connected = text.contains("type=nic,model=virtio-net-pci")
            && text.contains("\\ hostnet0: index=0,type=socket,")
            && text.contains("fd=5");
        ensure!(outcome.code() == Some(0) && connected, "{line}: {outcome:?}");
        sent(server)?;
        fs::remove_file("/tmp/passt_1.socket")?;
    }
    Ok(())
}

/// Starts the packaged passt as the ordinary user; it chooses the first socket.
fn start_their_passt(case: &Case<'_>, sid: &Path, options: &str) -> Result<Proc> {
    let run = sid.join("sid-run").display().to_string();
    let passt = sid.join("root/usr/bin/passt").display().to_string();
    let argv: Vec<&str> =
        [run.as_str(), &passt, "-f"].into_iter().chain(options.split_whitespace()).collect();
    let passt = Proc::start(case.rig.command(&Place::Host, User::Root, &argv))?;
    wait_for("passt", SHORT, || Ok(passt.stderr().contains("/tmp/passt_1.socket").then_some(())))
        .with_context(|| passt.stderr())?;
    // It listens a moment after it says so.
    wait_for("its socket", SHORT, || {
        let text = fs::read_to_string("/proc/net/unix")?;
        let mut lines = text.lines().filter(|line| line.ends_with("/tmp/passt_1.socket"));
        // Flags: the one of a socket that listens.
        Ok(lines.any(|line| line.split(' ').nth(3) == Some("00010000")).then_some(()))
    })?;
    Ok(passt)
}

/// Whether these 18 bytes are the beginning of a frame that asks for or tells an address.
fn is_frame(hex: &str) -> bool {
    let len = hex.get(..8).and_then(|len| u32::from_str_radix(len, 16).ok());
    let kind = hex.get(32..);
    len.is_some_and(|len| (42..=1514).contains(&len)) && matches!(kind, Some("0806" | "86dd"))
}

fn their_passt(case: &Case<'_>) -> Result<()> {
    let sid = case.rig.debian()?;
    let bench = Bench::new(case)?;
    bench.install("qemu", QEMU)?;
    for options in ["-1", "-1 -4", "-1 -6"] {
        let passt = start_their_passt(case, &sid, options)?;
        let outcome = bench.qrap(&["9", "qemu", "-S"], "9")?;
        check(&outcome, "qemu", &["-S"], "9", "/tmp/passt_1.socket")
            .with_context(|| passt.stderr())?;
        let got = told(&outcome.stdout, "got");
        ensure!(got.len() == 1 && is_frame(got[0]), "{options}: {outcome:?}");
        // "guest" is no frame, and there was only this one client.
        passt.finish(SHORT)?;
    }
    Ok(())
}

/// Starts our passt; it chooses the first socket.
fn start_our_passt(case: &Case<'_>, options: &str) -> Result<Proc> {
    let options: Vec<&str> = options.split_whitespace().collect();
    let passt = case.rig.passt(case.user)?.args(&["-f"]).args(&options).start()?;
    // It listens from when there is a file.
    wait_for("passt", SHORT, || Ok(passt.stderr().contains("/tmp/passt_1.socket").then_some(())))
        .with_context(|| passt.stderr())?;
    Ok(passt)
}

/// It does not wait to be asked, as there is no answer to a solicitation from ::1.
fn our_passt(case: &Case<'_>) -> Result<()> {
    case.rig.passt(case.user)?;
    let bench = Bench::new(case)?;
    bench.install("qemu", QEMU)?;
    for (options, kind) in [("-1", "0806"), ("-1 -4", "0806"), ("-1 -6", "86dd")] {
        let passt = start_our_passt(case, options)?;
        let outcome = bench.qrap(&["9", "qemu", "-S"], "9")?;
        check(&outcome, "qemu", &["-S"], "9", "/tmp/passt_1.socket")
            .with_context(|| passt.stderr())?;
        let got = told(&outcome.stdout, "got");
        let first = got.first().is_some_and(|got| is_frame(got) && got.ends_with(kind));
        ensure!(got.len() == 1 && first, "{options}: {outcome:?}");
        // "guest" is no frame, and there was only this one client.
        let ended = passt.finish(SHORT)?;
        ensure!(ended.code() == Some(0), "{options}: {ended:?}");
        ensure!(ended.stderr.matches("accepted connection").count() == 1, "{ended:?}");
    }
    Ok(())
}

/// One that ends while qrap asks, and one that stays.
fn our_passt_with_a_guest(case: &Case<'_>) -> Result<()> {
    case.rig.passt(case.user)?;
    let bench = Bench::new(case)?;
    bench.install("qemu", QEMU)?;
    let passt = start_our_passt(case, "")?;
    let guest = UnixStream::connect("/tmp/passt_1.socket")?;
    let mut byte = [0];
    (&guest).read_exact(&mut byte)?;
    let qrap = bench.start(&["9", "qemu", "-S"], "9")?;
    wait_for("a refusal", SHORT, || {
        Ok((passt.stderr().matches("discarding connection").count() >= 2).then_some(()))
    })
    .with_context(|| passt.stderr())?;
    drop(guest);
    let outcome = qrap.finish(SHORT)?;
    check(&outcome, "qemu", &["-S"], "9", "/tmp/passt_1.socket")?;
    let guest = UnixStream::connect("/tmp/passt_1.socket")?;
    (&guest).read_exact(&mut byte)?;
    let outcome = bench.qrap(&["9", "qemu", "-S"], "9")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let wanted = "Probe of /tmp/passt_1.socket failed: it closes the connection, as if it had a guest already";
    ensure!(outcome.stderr.lines().next() == Some(wanted), "{outcome:?}");
    // The one that stays did not notice.
    (&guest).read_exact(&mut byte)?;
    Ok(())
}

fn their_passt_with_a_guest(case: &Case<'_>) -> Result<()> {
    let sid = case.rig.debian()?;
    let bench = Bench::new(case)?;
    bench.install("qemu", QEMU)?;
    let passt = start_their_passt(case, &sid, "")?;
    let guest = UnixStream::connect("/tmp/passt_1.socket")?;
    let mut byte = [0];
    (&guest).read_exact(&mut byte)?;
    let qrap = bench.start(&["9", "qemu", "-S"], "9")?;
    wait_for("a refusal", SHORT, || {
        Ok((passt.stderr().matches("discarding connection").count() >= 2).then_some(()))
    })
    .with_context(|| passt.stderr())?;
    drop(guest);
    let outcome = qrap.finish(SHORT)?;
    check(&outcome, "qemu", &["-S"], "9", "/tmp/passt_1.socket")?;
    // And one that stays.
    let guest = UnixStream::connect("/tmp/passt_1.socket")?;
    (&guest).read_exact(&mut byte)?;
    let outcome = bench.qrap(&["9", "qemu", "-S"], "9")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    ensure!(
        lines[0]
            == "Probe of /tmp/passt_1.socket failed: it closes the connection, as if it had a guest already"
            && lines.len() == 2
            && lines[1].starts_with("No passt found: "),
        "{outcome:?}"
    );
    Ok(())
}

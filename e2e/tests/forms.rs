//! The forms in which pasta is called: namespaces created or joined, foreground and background,
//! exit statuses, signals, the PID file, the end of the namespace.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::peer::stream;
use testkit::{Holder, Outcome, PastaBuilder, Place, Proc, User, until};

matrix!(users:
    exit_status, exit_status_of_signal, command_sees_clean_signals, command_is_mapped_root,
    command_is_pid_1, no_pidns, new_proc_is_mounted, hostname, hostname_given, default_shell,
    command_not_found, only_standard_descriptors, environment_unchanged, ping_inside,
    by_pid, by_pid_foreground, by_path_with_userns, by_inherited_descriptor, by_standard_input,
    standard_descriptors_closed, pid_file, pid_file_in_foreground,
    sigterm_ends_with_0, sigquit_ends_with_0, ends_with_the_process, ends_with_the_path, no_netns_quit,
    persistent_tap, persistent_tap_configured, command_line_of_podman, command_line_of_lix,
    sigterm_leaves_the_command, starts_again_at_once,
);
matrix!(root: by_path_as_root, by_name_as_root, netns_only_command, runas_root);
matrix!(once: netns_only_as_ordinary_user_fails, fork_bomb_of_shells);

/// Runs a shell script as pasta's command.
fn script(case: &Case<'_>, options: &[&str], text: &str) -> Result<Outcome> {
    let argv = ["--", "sh", "-c", text];
    case.pasta()?.args(&["--config-net"]).args(options).args(&argv).run(SHORT)
}

fn said(case: &Case<'_>, options: &[&str], text: &str) -> Result<String> {
    Ok(script(case, options, text)?.ok(text)?.trim().to_owned())
}

fn exit_status(case: &Case<'_>) -> Result<()> {
    for wanted in [37, 0, 255] {
        let outcome = script(case, &[], &format!("exit {wanted}"))?;
        ensure!(outcome.code() == Some(wanted), "{outcome:?}");
        ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    }
    Ok(())
}

fn exit_status_of_signal(case: &Case<'_>) -> Result<()> {
    for (signal, wanted) in [("SEGV", 139), ("KILL", 137), ("TERM", 143)] {
        let outcome = script(case, &["--no-pidns"], &format!("kill -{signal} $$"))?;
        ensure!(outcome.code() == Some(wanted), "{signal}: {outcome:?}");
    }
    Ok(())
}

/// Nothing is blocked or ignored that the caller has not blocked or ignored.
fn command_sees_clean_signals(case: &Case<'_>) -> Result<()> {
    /// glibc's own signals, 32 and 33, which its posix_spawn may set to be ignored.
    const OF_GLIBC: u64 = 3 << 31;
    let masks = |text: &str| -> Result<Vec<u64>> {
        let hex = text.split_whitespace().filter(|word| !word.ends_with(':'));
        hex.map(|hex| Ok(u64::from_str_radix(hex, 16)? & !OF_GLIBC)).collect()
    };
    let grep = ["grep", "^Sig[BI]", "/proc/self/status"];
    let argv = ["--config-net", "--"].into_iter().chain(grep).collect::<Vec<_>>();
    let text = case.pasta()?.args(&argv).run(SHORT)?.ok("grep")?;
    let direct = case.rig.outcome(&Place::Host, case.user, SHORT, &grep)?.ok("grep")?;
    let (inside, outside) = (masks(&text)?, masks(&direct)?);
    ensure!(inside.len() == 2 && inside == outside, "{text}, but {direct} outside");
    Ok(())
}

fn command_is_mapped_root(case: &Case<'_>) -> Result<()> {
    let outside = if case.user == User::Root { "0" } else { "1000" };
    let text = said(case, &[], "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map")?;
    let map = ["0", outside, "1"];
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(words == [&["0", "0"][..], &map[..], &map[..]].concat(), "{text}");
    let text = said(case, &[], "grep CapEff /proc/self/status")?;
    ensure!(!text.ends_with("0000000000000000"), "no capabilities: {text}");
    Ok(())
}

fn command_is_pid_1(case: &Case<'_>) -> Result<()> {
    let text = said(case, &[], "echo $$")?;
    ensure!(text == "1", "{text}");
    Ok(())
}

fn no_pidns(case: &Case<'_>) -> Result<()> {
    let text = said(case, &["--no-pidns"], "echo $$; readlink /proc/self/ns/pid")?;
    let own = fs::read_link("/proc/self/ns/pid")?;
    ensure!(!text.starts_with("1\n") && text.ends_with(&*own.to_string_lossy()), "{text}");
    Ok(())
}

fn new_proc_is_mounted(case: &Case<'_>) -> Result<()> {
    let text = said(case, &[], "ls -d /proc/[0-9]* | wc -l; readlink /proc/self/ns/net")?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let (count, net) = text.split_once('\n').context("two lines")?;
    ensure!(count.trim().parse::<u32>()? <= 4 && *net != *own.to_string_lossy(), "{text}");
    Ok(())
}

fn hostname(case: &Case<'_>) -> Result<()> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let wanted: String = format!("pasta-{}", own.trim()).chars().take(64).collect();
    // An empty name is none.
    for options in [&[][..], &["-H", ""], &["-H", "box", "--hostname="]] {
        let text = said(case, options, "cat /proc/sys/kernel/hostname")?;
        ensure!(text == wanted, "{options:?}: {text}");
    }
    ensure!(fs::read_to_string("/proc/sys/kernel/hostname")? == own, "the host's name changed");
    Ok(())
}

fn hostname_given(case: &Case<'_>) -> Result<()> {
    let text = said(case, &["-H", "box.rig.example"], "cat /proc/sys/kernel/hostname")?;
    ensure!(text == "box.rig.example", "{text}");
    Ok(())
}

/// Without a command it is the user's shell, as a login shell.
fn default_shell(case: &Case<'_>) -> Result<()> {
    let mut pasta = case.pasta()?.args(&["--config-net"]).start()?;
    pasta.say("echo name $0; exit 5")?;
    let outcome = pasta.finish(SHORT)?;
    ensure!(outcome.code() == Some(5), "{outcome:?}");
    ensure!(outcome.stdout.contains("name -/bin/sh"), "{outcome:?}");
    Ok(())
}

fn command_not_found(case: &Case<'_>) -> Result<()> {
    let outcome = case.pasta()?.args(&["--config-net", "no-such-command"]).run(SHORT)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let wanted = "Failed to start command or shell: No such file or directory";
    ensure!(outcome.stderr.contains(wanted), "{outcome:?}");
    Ok(())
}

fn only_standard_descriptors(case: &Case<'_>) -> Result<()> {
    // `ls` itself holds the directory that it lists.
    let argv = ["--config-net", "--", "ls", "/proc/self/fd"];
    let text = case.pasta()?.args(&argv).run(SHORT)?.ok("ls")?;
    ensure!(text.split_whitespace().collect::<Vec<_>>() == ["0", "1", "2", "3"], "{text}");
    Ok(())
}

fn environment_unchanged(case: &Case<'_>) -> Result<()> {
    let mut command = case.pasta()?.args(&["--config-net", "--", "env"]).command();
    command.env("MARK", "x y");
    let inside = Proc::run(command, SHORT)?.ok("env")?;
    ensure!(inside.lines().any(|line| line == "MARK=x y"), "{inside}");
    Ok(())
}

/// The namespace's root may use ping sockets.
fn ping_inside(case: &Case<'_>) -> Result<()> {
    let text = said(case, &[], "cat /proc/sys/net/ipv4/ping_group_range")?;
    ensure!(text.split_whitespace().collect::<Vec<_>>() == ["0", "0"], "{text}");
    Ok(())
}

/// The guest of `holder` reaches the outside: pasta is attached and has configured it.
fn works(case: &Case<'_>, holder: &Holder) -> Result<()> {
    let _server = case.server()?;
    let got = case.ask(&holder.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

/// Starts a pasta that goes to the background: it must do so silently and with status 0.
fn to_background(pasta: &PastaBuilder<'_>) -> Result<()> {
    let outcome = pasta.run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

const PID_FILE: &str = "/run/rig/tmp/pasta.pid";

/// A pasta with a PID file.
fn with_pid_file<'r>(case: &Case<'r>, options: &[&str]) -> Result<PastaBuilder<'r>> {
    Ok(case.pasta()?.args(&["--config-net", "-q", "--pid", PID_FILE]).args(options))
}

fn daemon() -> Result<u32> {
    let text = fs::read_to_string(PID_FILE)?;
    ensure!(text.ends_with('\n'), "no newline after the PID: {text:?}");
    Ok(text.trim().parse()?)
}

fn by_pid(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    to_background(&case.pasta()?.args(&["--config-net", "-q"]).args(&[holder.pid().to_string()]))?;
    works(case, &holder)
}

fn by_pid_foreground(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let pid = holder.pid().to_string();
    let mut pasta = case.pasta()?.args(&["-f", "--config-net", &pid]).start()?;
    until("an address", SHORT, || configured(case, &holder))?;
    works(case, &holder)?;
    ensure!(pasta.running()?, "pasta ended");
    Ok(())
}

fn configured(case: &Case<'_>, holder: &Holder) -> bool {
    let argv = ["ip", "-o", "addr", "show", "scope", "global"];
    let text = case.rig.run(&holder.place(), SHORT, &argv).unwrap_or_default();
    text.contains("203.0.113.2/") && text.contains("2001:db8:51::2/")
}

fn ns(holder: &Holder, kind: &str) -> String {
    format!("/proc/{}/ns/{kind}", holder.pid())
}

fn by_path_with_userns(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let (user, net) = (ns(&holder, "user"), ns(&holder, "net"));
    let argv = ["--config-net", "-q", "--userns", &user, "--netns", &net];
    to_background(&case.pasta()?.args(&argv))?;
    works(case, &holder)
}

/// Runs pasta from a shell that has opened the namespaces: `redirections` say as what.
fn through_shell(pasta: &PastaBuilder<'_>, redirections: &str) -> Result<Outcome> {
    let command = pasta.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {redirections}"), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    Proc::run(shell, SHORT)
}

/// Namespaces handed over as descriptors: the paths mean those of the process that was started.
fn by_inherited_descriptor(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let argv = ["--config-net", "--userns", "/proc/self/fd/8", "--netns", "/proc/self/fd/9"];
    let pasta = case.pasta()?.args(&argv).args(&["--no-netns-quit"]);
    let redirections = format!("8<{} 9<{}", ns(&holder, "user"), ns(&holder, "net"));
    through_shell(&pasta, &redirections)?.ok("pasta")?;
    works(case, &holder)
}

fn by_standard_input(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let argv = ["--config-net", "--userns", "/proc/self/fd/3", "--netns", "/proc/self/fd/0"];
    let pasta = case.pasta()?.args(&argv).args(&["--no-netns-quit"]);
    let redirections = format!("3<{} 0<{}", ns(&holder, "user"), ns(&holder, "net"));
    through_shell(&pasta, &redirections)?.ok("pasta")?;
    works(case, &holder)
}

fn standard_descriptors_closed(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let pasta = case.pasta()?.args(&["--config-net"]).args(&[holder.pid().to_string()]);
    let outcome = through_shell(&pasta, "<&- >&- 2>&-")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    works(case, &holder)
}

fn pid_file(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    // QEMU makes the file beforehand, longer content is cut.
    fs::write(PID_FILE, "1234567890\nold\n")?;
    std::os::unix::fs::chown(PID_FILE, Some(uid(case)), Some(uid(case)))?;
    to_background(&with_pid_file(case, &[&holder.pid().to_string()])?)?;
    let pid = daemon()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    ensure!(name.trim().starts_with("pasta"), "the PID is that of {name}");
    fs::remove_file(PID_FILE)?;
    to_background(&with_pid_file(case, &[&case.rig.hold(case.user)?.pid().to_string()])?)?;
    let mode = fs::metadata(PID_FILE)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    Ok(())
}

fn uid(case: &Case<'_>) -> u32 {
    if case.user == User::Root { 0 } else { 1000 }
}

fn pid_file_in_foreground(case: &Case<'_>) -> Result<()> {
    let pasta = with_pid_file(case, &["--", "cat", PID_FILE])?.start()?;
    let pid = pasta.pid().to_string();
    let text = pasta.finish(SHORT)?.ok("cat")?;
    ensure!(text.trim() == pid, "{text}, not {pid}");
    Ok(())
}

fn ends_with_0(case: &Case<'_>, signal: Signal) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let pid = holder.pid().to_string();
    let pasta = case.pasta()?.args(&["-f", "--config-net", &pid]).start()?;
    until("an address", SHORT, || configured(case, &holder))?;
    works(case, &holder)?;
    pasta.signal(signal)?;
    let outcome = pasta.finish(Duration::from_secs(3))?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(())
}

fn sigterm_ends_with_0(case: &Case<'_>) -> Result<()> {
    ends_with_0(case, Signal::TERM)
}

fn sigquit_ends_with_0(case: &Case<'_>) -> Result<()> {
    ends_with_0(case, Signal::QUIT)
}

/// The command is worth more than its network: it survives.
fn sigterm_leaves_the_command(case: &Case<'_>) -> Result<()> {
    let mut pasta = case.guest(&[])?;
    let guest = pasta.guest();
    pasta.proc().signal(Signal::TERM)?;
    until("pasta's end", SHORT, || matches!(pasta.proc().running(), Ok(false)))?;
    let alive = fs::read_to_string(format!("/proc/{guest}/stat"))?;
    ensure!(!alive.contains(") Z "), "{alive}");
    Ok(())
}

fn ends_with_the_process(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    to_background(&with_pid_file(case, &[&holder.pid().to_string()])?)?;
    let pid = daemon()?;
    std::thread::sleep(Duration::from_millis(1200));
    ensure!(fs::exists(format!("/proc/{pid}"))?, "ended early");
    drop(holder);
    case.rig.wait_gone(pid, Duration::from_secs(3))
}

/// A namespace bound to a path in a directory of its own, as container engines do it.
fn bound(case: &Case<'_>, holder: &Holder) -> Result<String> {
    fs::create_dir("/run/rig/tmp/ns")?;
    fs::set_permissions("/run/rig/tmp/ns", fs::Permissions::from_mode(0o755))?;
    let path = "/run/rig/tmp/ns/guest";
    fs::write(path, "")?;
    case.rig.run(&Place::Host, SHORT, &["mount", "--bind", &ns(holder, "net"), path])?;
    Ok(path.to_owned())
}

fn unbind(case: &Case<'_>, path: &str) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["umount", path])?;
    Ok(fs::remove_file(path)?)
}

fn ends_with_the_path(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let path = bound(case, &holder)?;
    let user = ns(&holder, "user");
    to_background(&with_pid_file(case, &["--userns", &user, "--netns", &path])?)?;
    let pid = daemon()?;
    works(case, &holder)?;
    for other in ["guest2", "other"] {
        let other = format!("/run/rig/tmp/ns/{other}");
        fs::write(&other, "")?;
        fs::remove_file(other)?;
    }
    std::thread::sleep(Duration::from_millis(300));
    ensure!(fs::exists(format!("/proc/{pid}"))?, "ended although the path is there");
    unbind(case, &path)?;
    case.rig.wait_gone(pid, Duration::from_secs(2))
}

fn no_netns_quit(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let path = bound(case, &holder)?;
    let user = ns(&holder, "user");
    let argv = ["--userns", &user, "--netns", &path, "--no-netns-quit"];
    to_background(&with_pid_file(case, &argv)?)?;
    unbind(case, &path)?;
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(fs::exists(format!("/proc/{}", daemon()?))?, "ended");
    works(case, &holder)
}

/// RootlessKit makes the tap first and configures it itself.
fn attach_tap(case: &Case<'_>, before: &[&str], options: &[&str]) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let place = holder.place();
    for line in before {
        let argv: Vec<&str> = line.split_whitespace().collect();
        case.rig.run(&place, SHORT, &argv)?;
    }
    let pid = holder.pid().to_string();
    let pasta = case.pasta()?.args(&["--stderr", "--ns-ifname=tap0", "--mtu=65520"]).args(&[
        "--address=10.0.2.100",
        "--netmask=24",
        "--gateway=10.0.2.2",
        "--dns-forward=10.0.2.3",
        "--ipv4-only",
        "--tcp-ports=none",
        "--udp-ports=none",
    ]);
    let pasta = pasta.args(options).args(&[pid]).start()?;
    until("the route", SHORT, || {
        let routes = case.rig.run(&place, SHORT, &["ip", "-4", "route"]).unwrap_or_default();
        let up = case.rig.run(&place, SHORT, &["ip", "link", "show", "tap0"]).unwrap_or_default();
        routes.contains("default via 10.0.2.2") && up.contains("LOWER_UP")
    })?;
    works(case, &holder)?;
    let _dns = case.rig.start_dns()?;
    let argv = ["dig", "@10.0.2.3", "+short", "www.rig.example", "A"];
    let answer = case.rig.run(&place, SHORT, &argv)?;
    ensure!(answer.trim() == case.family.far().to_string(), "{answer}");
    pasta.signal(Signal::KILL)?;
    // It was there before, it stays.
    case.rig.run(&place, SHORT, &["ip", "link", "show", "tap0"]).map(drop)
}

fn persistent_tap(case: &Case<'_>) -> Result<()> {
    let before = ["ip tuntap add name tap0 mode tap"];
    attach_tap(case, &before, &["--config-net", "--foreground"])
}

fn persistent_tap_configured(case: &Case<'_>) -> Result<()> {
    let before = [
        "ip tuntap add name tap0 mode tap",
        "ip link set tap0 mtu 65520 up",
        "ip addr add 10.0.2.100/24 dev tap0",
        "ip route add default via 10.0.2.2",
    ];
    attach_tap(case, &before, &["--foreground", "--no-dhcp", "--no-ra", "--no-map-gw"])
}

fn command_line_of_podman(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let holder = case.rig.hold(case.user)?;
    let path = bound(case, &holder)?;
    let argv = "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
        --no-map-gw --quiet --userns USER --netns PATH --map-guest-addr 169.254.1.2";
    let argv = argv.replace("USER", &ns(&holder, "user")).replace("PATH", &path);
    let argv: Vec<&str> = argv.split_whitespace().collect();
    let outcome = case.pasta()?.args(&argv).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    ensure!(configured(case, &holder), "no addresses right after the return");
    let got = case.ask(&holder.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

/// Options given once per family.
fn command_line_of_lix(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let argv = "--quiet --foreground --config-net --gateway 169.254.1.1 --address 169.254.1.2 \
        --netmask 16 --dns-forward 169.254.1.1 --gateway fe80::1 --address fd00::2 \
        --dns-forward fe80::53 --ns-ifname eth7 --no-netns-quit --userns USER --netns NET \
        --map-host-loopback none --map-guest-addr none -T none -U none -t none -u none --no-map-gw";
    let argv = argv.replace("USER", &ns(&holder, "user")).replace("NET", &ns(&holder, "net"));
    let argv: Vec<&str> = argv.split_whitespace().collect();
    let mut pasta = case.pasta()?.args(&argv).start()?;
    until("an address", SHORT, || {
        let argv = ["ip", "-o", "addr", "show", "dev", "eth7", "scope", "global"];
        let text = case.rig.run(&holder.place(), SHORT, &argv).unwrap_or_default();
        text.contains("169.254.1.2/16") && text.contains("fd00::2/64")
    })?;
    works(case, &holder)?;
    ensure!(pasta.running()?, "pasta ended: {}", pasta.stderr());
    Ok(())
}

/// QEMU and container engines start a successor as soon as the predecessor is gone.
fn starts_again_at_once(case: &Case<'_>) -> Result<()> {
    let begin = Instant::now();
    for _ in 0..5 {
        let outcome = case.pasta()?.args(&["--config-net", "true"]).run(SHORT)?;
        ensure!(outcome.code() == Some(0), "{outcome:?}");
    }
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(4), "five starts took {took:?}");
    Ok(())
}

fn named(case: &Case<'_>) -> Result<Place> {
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "add", "guest"])?;
    let hold = ["nsenter", "--net=/run/netns/guest", "true"];
    case.rig.run(&Place::Host, SHORT, &hold)?;
    Ok(Place::Host)
}

fn in_named(case: &Case<'_>, target: &str) -> Result<()> {
    named(case)?;
    let _server = case.server()?;
    to_background(&with_pid_file(case, &["--netns", target])?)?;
    let pid = daemon()?;
    let helper = case.rig.helper().display().to_string();
    let peer = case.family.peer().to_string();
    let argv = ["ip", "netns", "exec", "guest", &helper, "get", &peer, "5000", "100000"];
    let got = case.rig.run(&Place::Host, SHORT, &argv)?;
    ensure!(got.trim() == stream::sum(100_000), "{got}");
    case.rig.run(&Place::Host, SHORT, &["ip", "netns", "del", "guest"])?;
    case.rig.wait_gone(pid, Duration::from_secs(2))
}

/// No `--runas`, no `--userns`: root may join a namespace of the host, and only what moves the
/// data becomes nobody.
fn by_path_as_root(case: &Case<'_>) -> Result<()> {
    in_named(case, "/run/netns/guest")
}

fn by_name_as_root(case: &Case<'_>) -> Result<()> {
    in_named(case, "guest")
}

fn netns_only_command(case: &Case<'_>) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/user")?;
    let text = said(case, &["--netns-only"], "readlink /proc/self/ns/user; ip -o addr")?;
    ensure!(text.contains(&*own.to_string_lossy()) && text.contains("203.0.113.2/"), "{text}");
    Ok(())
}

fn runas_root(case: &Case<'_>) -> Result<()> {
    named(case)?;
    let argv = ["--runas", "0:0", "--netns-only", "--netns", "guest"];
    to_background(&with_pid_file(case, &argv)?)?;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon()?))?;
    ensure!(status.contains("Uid:\t0\t0\t0\t0"), "{status}");
    Ok(())
}

fn netns_only_as_ordinary_user_fails(case: &Case<'_>) -> Result<()> {
    let outcome = case.pasta()?.args(&["--netns-only", "--config-net", "true"]).run(SHORT)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
    Ok(())
}

/// Many children of the command are none of pasta's business, and no reason to end early.
fn fork_bomb_of_shells(case: &Case<'_>) -> Result<()> {
    let text = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.05; true) & done; wait; exit 9";
    let outcome = script(case, &[], text)?;
    ensure!(outcome.code() == Some(9), "{outcome:?}");
    Ok(())
}

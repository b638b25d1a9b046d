//! Lix, Nix and other sandboxes around builds and programs, and what starts pasta from scripts and units.

use crate::{answers, contract, ip, pasta, signal, silent, words};
use anyhow::{Context, Result, ensure};
use e2e::clients::{END, pid_in};
use e2e::{Case, SHORT};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use testkit::peer::stream;
use testkit::{Holder, Place, Proc, User, until};

contract!(ordinary, Ordinary:
    the_network_namespace_is_standard_input,
    nothing_leads_in_or_to_the_host_with_the_usual_set_of_options,
    a_directory_that_cannot_be_watched_is_named_in_the_words_that_are_looked_for,
    the_help_has_the_words_that_are_looked_for,
    presence_is_asked_for_by_the_version,
    a_forking_service_has_its_pid_file,
    a_command_behind_two_dashes,
    ended_by_its_pid_file,
    nothing_is_logged_to_nowhere,
);
contract!(root, Root: as_root_it_says_first_whom_it_becomes, runs_as_root_if_told, runs_as_another_if_told);

fn ns(holder: &Holder, kind: &str) -> String {
    format!("/proc/{}/ns/{kind}", holder.pid())
}

/// Runs pasta behind a shell's redirections.
fn redirected(case: &Case<'_>, line: &str, redirections: &str) -> Result<Proc> {
    let builder = case.pasta()?.args(&words(line));
    let command = builder.command();
    let mut argv =
        vec!["sh".into(), "-c".into(), format!("exec \"$@\" {redirections}"), "sh".into()];
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    argv.extend(all.map(|word| word.to_string_lossy().into_owned()));
    Proc::start(case.rig.command(&Place::Host, User::Root, &argv))
}

/// One option for each family, and namespaces that nothing but descriptors leads to.
fn the_network_namespace_is_standard_input(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let line = "--quiet --foreground --config-net --gateway 169.254.1.1 --address 169.254.1.2 \
                --netmask 255.255.0.0 --dns-forward 169.254.1.1 --gateway fe80::1 --address fd00::2 \
                --dns-forward fe80::53 --ns-ifname eth7 --no-netns-quit --netns /proc/self/fd/0 \
                --userns /proc/self/fd/8";
    let redirections = format!("0<{} 8<{}", ns(&holder, "net"), ns(&holder, "user"));
    let mut child = redirected(case, line, &redirections)?;
    until("the addresses", SHORT, || {
        let text = ip(case, &holder.place(), "-o addr show dev eth7 scope global");
        text.is_ok_and(|text| text.contains(" 169.254.1.2/16 ") && text.contains(" fd00::2/64 "))
    })
    .with_context(|| child.stderr())?;
    let v4 = ip(case, &holder.place(), "-4 route show default")?;
    ensure!(v4.contains("via 169.254.1.1 "), "{v4}");
    let v6 = ip(case, &holder.place(), "-6 route show default")?;
    ensure!(v6.contains("via fe80::1 "), "{v6}");
    let (_server, _dns) = (case.server()?, case.rig.start_dns()?);
    let got = case.ask(&holder.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    let argv = ["dig", "@169.254.1.1", "+short", "www.rig.example", "A"];
    let answer = case.rig.run(&holder.place(), SHORT, &argv)?;
    ensure!(answer.trim() == case.family.far().to_string(), "{answer}");
    ensure!(child.running()?, "it ended");
    // Its parent ends it.
    child.signal(Signal::KILL)?;
    let outcome = child.finish(SHORT)?;
    ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

fn nothing_leads_in_or_to_the_host_with_the_usual_set_of_options(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let line = format!(
        "--map-host-loopback none --map-guest-addr none -T none -U none -t none -u none --no-map-gw \
         --foreground --quiet --no-netns-quit --config-net --userns {} --netns {}",
        ns(&holder, "user"),
        ns(&holder, "net")
    );
    let listeners = || case.rig.run(&Place::Host, SHORT, &["ss", "-Hlntu"]);
    let before = listeners()?;
    let child = case.pasta()?.args(&words(&line)).start()?;
    let place = holder.place();
    until("an address", SHORT, || {
        ip(case, &place, "-o addr show scope global").is_ok_and(|t| t.contains("203.0.113.2/24"))
    })
    .with_context(|| child.stderr())?;
    let addresses = ["127.0.0.1", "203.0.113.2", "::1", "2001:db8:51::2"].map(str::to_owned);
    let _host = case.rig.witness(&Place::Host, "7002", &addresses)?;
    let _inside = case.rig.witness(&place, "7003", &["::".to_owned()])?;
    let _peer = case.rig.witness(&Place::Outside, "7004", &["203.0.113.10".to_owned()])?;
    answers(case, &place, &[("tcp,203.0.113.10,7004", "7004"), ("udp,203.0.113.10,7004", "7004")])?;
    answers(
        case,
        &place,
        &[
            ("tcp,127.0.0.1,7002", "refused"),
            ("tcp,::1,7002", "refused"),
            ("tcp,203.0.113.1,7002", "refused"),
            ("tcp,203.0.113.2,7002", "refused"),
            ("udp,203.0.113.1,7002", "refused"),
        ],
    )?;
    answers(case, &Place::Host, &[("tcp,127.0.0.1,7003", "refused")])?;
    answers(case, &Place::Outside, &[("tcp,203.0.113.2,7003", "refused")])?;
    let after = listeners()?;
    let ours = |text: &str| text.lines().filter(|line| !line.contains(":7002 ")).count();
    ensure!(ours(&before) == ours(&after), "{before} before, {after} after");
    Ok(())
}

/// The namespace can be opened there, the directory cannot: what is left is not to watch it.
fn a_directory_that_cannot_be_watched_is_named_in_the_words_that_are_looked_for(
    case: &Case<'_>,
) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    fs::create_dir("/run/rig/tmp/ns")?;
    let netns = "/run/rig/tmp/ns/guest";
    fs::write(netns, "")?;
    case.rig.run(&Place::Host, SHORT, &["mount", "--bind", &ns(&holder, "net"), netns])?;
    fs::set_permissions("/run/rig/tmp/ns", fs::Permissions::from_mode(0o711))?;
    let line = format!("--config-net --quiet --userns {} --netns {netns}", ns(&holder, "user"));
    let outcome = pasta(case, &line)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(outcome.stderr.contains("netns dir open: Permission denied"), "{outcome:?}");
    silent(&pasta(case, &format!("{line} --no-netns-quit"))?)
}

/// Each as a word of its own: `--netns` is not found in `--netns-only`.
fn the_help_has_the_words_that_are_looked_for(case: &Case<'_>) -> Result<()> {
    let help = pasta(case, "--help")?.ok("--help")?;
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let found: Vec<&str> = help.split(|c| !is_of_a_name(c)).collect();
    let wanted = ["--map-host-loopback", "--map-guest-addr", "--dns-forward", "--gateway", "--pid"];
    for word in wanted.into_iter().chain(["--netns", "--netns-only"]) {
        ensure!(found.contains(&word), "no {word} in the help");
    }
    Ok(())
}

fn presence_is_asked_for_by_the_version(case: &Case<'_>) -> Result<()> {
    let outcome = pasta(case, "--version")?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

const PID: &str = "/run/rig/tmp/pasta.pid";

/// `Type=forking` with `PIDFile=`: the file names a process that is nobody's child any more.
fn a_forking_service_has_its_pid_file(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    silent(&pasta(case, &format!("-q --config-net --pid {PID} {}", holder.pid()))?)?;
    let pid = pid_in(Path::new(PID))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    ensure!(fields.nth(1) == Some("1"), "{stat}");
    ensure!(fs::read_dir(format!("/proc/{pid}/task"))?.count() > 0, "no such process");
    signal(pid, Signal::TERM)?;
    case.rig.wait_gone(pid, END)?;
    ensure!(Path::new(PID).exists(), "the file is not its own to remove");
    Ok(())
}

fn a_command_behind_two_dashes(case: &Case<'_>) -> Result<()> {
    let argv = ["--config-net", "-q", "--", "sh", "-c", "echo $1; exit 3", "sh", "--pid"];
    let outcome = case.pasta()?.args(&argv).run(SHORT)?;
    ensure!(outcome.code() == Some(3) && outcome.stdout == "--pid\n", "{outcome:?}");
    ensure!(outcome.stderr.is_empty(), "{outcome:?}");
    Ok(())
}

fn ended_by_its_pid_file(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let line = format!("-f -q --config-net -P {PID} {}", holder.pid());
    let child = case.pasta()?.args(&words(&line)).start()?;
    let pid = testkit::wait_for("the PID file", SHORT, || Ok(pid_in(Path::new(PID)).ok()))?;
    ensure!(pid == child.pid(), "{pid} in the file of {}", child.pid());
    signal(pid, Signal::TERM)?;
    silent(&child.finish(END)?)
}

fn nothing_is_logged_to_nowhere(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let line = format!("--log-file=/dev/null --config-net -P {PID} {}", holder.pid());
    let outcome = pasta(case, &line)?;
    ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
    let pid = pid_in(Path::new(PID))?;
    let _server = case.server()?;
    let got = case.ask(&holder.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    ensure!(fs::metadata("/dev/null")?.permissions().mode() & 0o777 == 0o666, "its mode changed");
    signal(pid, Signal::TERM)?;
    case.rig.wait_gone(pid, END)
}

fn as_root_it_says_first_whom_it_becomes(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let outcome = pasta(case, &format!("--config-net -P {PID} {}", holder.pid()))?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let first = outcome.stderr.lines().next();
    ensure!(first == Some("Started as root, will change to nobody."), "{outcome:?}");
    Ok(())
}

/// Whose ids a running pasta has.
fn ids(options: &str, case: &Case<'_>) -> Result<String> {
    ip(case, &Place::Host, "netns add guest")?;
    silent(&pasta(
        case,
        &format!("{options} --config-net -q -P {PID} --netns-only --netns guest"),
    )?)?;
    let pid = pid_in(Path::new(PID))?;
    let helper = case.rig.helper().display().to_string();
    let _server = case.server()?;
    let peer = case.family.peer().to_string();
    let argv = ["ip", "netns", "exec", "guest", &helper, "get", &peer, "5000", "1000"];
    let got = case.rig.run(&Place::Host, SHORT, &argv)?;
    ensure!(got.trim() == stream::sum(1000), "{got}");
    let uids = e2e::hypervisor::status(pid, "Uid")?;
    let gids = e2e::hypervisor::status(pid, "Gid")?;
    ip(case, &Place::Host, "netns del guest")?;
    case.rig.wait_gone(pid, END)?;
    Ok(format!("{uids} {gids}").replace('\t', " "))
}

fn runs_as_root_if_told(case: &Case<'_>) -> Result<()> {
    let ids = ids("--runas 0:0", case)?;
    ensure!(ids == "0 0 0 0 0 0 0 0", "{ids}");
    Ok(())
}

fn runs_as_another_if_told(case: &Case<'_>) -> Result<()> {
    for (user, wanted) in [("1234:1235", "1234 1235"), ("1234", "1234 1234")] {
        let ids = ids(&format!("--runas {user}"), case)?;
        let (uid, gid) = wanted.split_once(' ').context("two")?;
        ensure!(ids.split(' ').take(4).all(|id| id == uid), "{user}: {ids}");
        ensure!(ids.split(' ').skip(4).all(|id| id == gid), "{user}: {ids}");
    }
    Ok(())
}

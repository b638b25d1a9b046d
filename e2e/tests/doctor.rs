//! `--doctor`: on a machine where all is well, and on those where something is missing, which the matching line
//! says, with what can be done about it.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use e2e::{Case, SHORT, matrix};
use std::fs;
use testkit::{Outcome, PastaBuilder, Place, User};

matrix!(users:
    healthy, without_tun, tun_for_root_alone, no_user_namespaces, no_network_namespaces, no_ping, few_files,
    too_few_files, low_ports, no_ipv6, nothing_is_left_behind, passt_needs_no_tun,
);
matrix!(once: needs_its_full_name);
matrix!(root: root_that_cannot_become_another_user);

/// What the line of a check says: its grade, and the rest.
fn line<'a>(outcome: &'a Outcome, name: &str) -> Result<(&'a str, &'a str)> {
    let mut lines = outcome.stdout.lines().filter_map(|line| line.split_once(' '));
    let (_, rest) = lines
        .find(|(first, _)| *first == name)
        .with_context(|| format!("no line {name} in\n{}{}", outcome.stdout, outcome.stderr))?;
    rest.trim_start().split_once(' ').with_context(|| format!("{name}: {rest}"))
}

/// Runs `--doctor`, and asks for an exit status and a grade for `name`, with `words` in its line.
fn finds(
    builder: &PastaBuilder<'_>,
    status: i32,
    name: &str,
    grade: &str,
    words: &[&str],
) -> Result<Outcome> {
    let outcome = builder.clone().args(&["--doctor"]).run(SHORT)?;
    let (found, text) = line(&outcome, name)?;
    ensure!(found == grade, "{name} is {found}, not {grade}: {text}");
    for word in words {
        ensure!(text.contains(word), "'{word}' is not in: {text}");
    }
    let remedy = text.contains("; remedy: ");
    ensure!(remedy == (grade != "ok"), "{text}");
    ensure!(
        outcome.code() == Some(status),
        "{:?}\n{}{}",
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
    ensure!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    Ok(outcome)
}

fn set(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| path.to_owned())
}

fn healthy(case: &Case<'_>) -> Result<()> {
    // Otherwise an ordinary user is told about ports, rightly.
    set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    let who = if case.user == User::Root { "goes on as user 65534" } else { "user 1000" };
    for builder in [case.pasta()?, case.rig.passt(case.user)?] {
        let outcome = finds(&builder, 0, "user", "ok", &[who])?;
        for line in outcome.stdout.lines() {
            ensure!(line.split_whitespace().nth(1) != Some("fail"), "{line}");
        }
        for name in ["user-namespaces", "empty-root", "ping", "low-ports", "netlink", "seccomp"] {
            ensure!(line(&outcome, name)?.0 == "ok", "{}", outcome.stdout);
        }
    }
    let outcome = finds(&case.pasta()?, 0, "tun-device", "ok", &["made an interface"])?;
    ensure!(line(&outcome, "network-namespaces")?.0 == "ok", "{}", outcome.stdout);
    Ok(())
}

fn without_tun(case: &Case<'_>) -> Result<()> {
    fs::remove_file("/dev/net/tun")?;
    let words = ["/dev/net/tun: No such file or directory", "modprobe tun"];
    finds(&case.pasta()?, 1, "tun-device", "fail", &words).map(drop)
}

fn tun_for_root_alone(case: &Case<'_>) -> Result<()> {
    case.rig.run(&Place::Host, SHORT, &["chmod", "0600", "/dev/net/tun"])?;
    if case.user == User::Root {
        return finds(&case.pasta()?, 0, "tun-device", "ok", &[]).map(drop);
    }
    let words = ["/dev/net/tun: Permission denied", "chmod 0666 /dev/net/tun"];
    finds(&case.pasta()?, 1, "tun-device", "fail", &words).map(drop)
}

/// Where pasta is, for somebody else to start it.
fn program(case: &Case<'_>) -> Result<String> {
    case.pasta()?;
    let path = case.rig.installed("pasta").context("pasta is not ours")?;
    Ok(path.display().to_string())
}

/// Runs `--doctor` as root of a user namespace in which a sysctl is 0, which that namespace has to itself.
fn with_none(case: &Case<'_>, sysctl: &str) -> Result<Outcome> {
    let program = program(case)?;
    let script = format!("echo 0 > /proc/sys/user/{sysctl} && exec {program} --doctor");
    let argv = ["unshare", "--user", "--map-root-user", "sh", "-c", &script];
    case.rig.outcome(&Place::Host, case.user, SHORT, &argv)
}

fn no_user_namespaces(case: &Case<'_>) -> Result<()> {
    let outcome = with_none(case, "max_user_namespaces")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    for name in ["user-namespaces", "network-namespaces", "empty-root", "tun-device"] {
        let (grade, text) = line(&outcome, name)?;
        ensure!(grade == "fail", "{name} is {grade}: {text}");
        ensure!(text.contains("making a user namespace: No space left on device"), "{text}");
        ensure!(text.contains("remedy: sysctl -w user.max_user_namespaces=15000"), "{text}");
    }
    ensure!(line(&outcome, "user")?.1.contains("root of a user namespace"), "{outcome:?}");
    Ok(())
}

fn no_network_namespaces(case: &Case<'_>) -> Result<()> {
    let outcome = with_none(case, "max_net_namespaces")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(line(&outcome, "user-namespaces")?.0 == "ok", "{outcome:?}");
    let (grade, text) = line(&outcome, "network-namespaces")?;
    ensure!(grade == "fail" && text.contains("user.max_net_namespaces=15000"), "{grade} {text}");
    Ok(())
}

fn no_ping(case: &Case<'_>) -> Result<()> {
    set("/proc/sys/net/ipv4/ping_group_range", "1 0")?;
    let words = [
        "Permission denied",
        "ping_group_range is 1 0",
        "sysctl -w net.ipv4.ping_group_range='0 2147483647'",
    ];
    finds(&case.pasta()?, 0, "ping", "warn", &words)?;
    // A range with our group in it is enough, whoever we are once started.
    let group = if case.user == User::Root { "65534" } else { "1000" };
    set("/proc/sys/net/ipv4/ping_group_range", &format!("{group} {group}"))?;
    finds(&case.pasta()?, 0, "ping", "ok", &[]).map(drop)
}

fn few_files(case: &Case<'_>) -> Result<()> {
    let pasta = case.pasta()?.limit_files(256);
    finds(&pasta, 0, "open-files", "warn", &["at most 256", "LimitNOFILE="]).map(drop)
}

fn too_few_files(case: &Case<'_>) -> Result<()> {
    let pasta = case.pasta()?.limit_files(32);
    finds(&pasta, 1, "open-files", "fail", &["at most 32", "ulimit -Hn"]).map(drop)
}

fn low_ports(case: &Case<'_>) -> Result<()> {
    set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")?;
    if case.user == User::Root {
        return finds(&case.pasta()?, 0, "low-ports", "ok", &[]).map(drop);
    }
    let remedy = "sysctl -w net.ipv4.ip_unprivileged_port_start=0";
    finds(&case.pasta()?, 0, "low-ports", "warn", &["ports below 1024", remedy])?;
    set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80")?;
    finds(&case.pasta()?, 0, "low-ports", "warn", &["only those from 80 on", remedy]).map(drop)
}

fn no_ipv6(case: &Case<'_>) -> Result<()> {
    set("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
    finds(&case.pasta()?, 0, "ipv6", "warn", &["net.ipv6.conf.all.disable_ipv6=0"]).map(drop)
}

/// How many processes there are with `--doctor` on their command line.
fn doctors() -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // What is no process, or ends right now, has none.
        let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(line.split(|byte| *byte == 0).any(|word| word == b"--doctor"));
    }
    Ok(count)
}

fn nothing_is_left_behind(case: &Case<'_>) -> Result<()> {
    // The program may be below /tmp, and is copied before.
    let builder = case.pasta()?;
    // The machine's own is everybody's.
    case.rig.run(
        &Place::Host,
        SHORT,
        &["mount", "-t", "tmpfs", "-o", "mode=1777", "tmp", "/tmp"],
    )?;
    let look = || -> Result<[String; 4]> {
        let run = |argv: &[&str]| case.rig.run(&Place::Host, SHORT, argv);
        Ok([
            doctors()?.to_string(),
            fs::read_to_string("/proc/self/mounts")?,
            run(&["ip", "-brief", "link"])?,
            run(&["find", "/tmp", "/run", "/dev/net", "-xdev"])?,
        ])
    };
    let before = look()?;
    ensure!(before[0] == "0", "{} doctors before", before[0]);
    finds(&builder, 0, "user-namespaces", "ok", &[])?;
    let after = look()?;
    ensure!(before == after, "{before:?}\n{after:?}");
    Ok(())
}

fn passt_needs_no_tun(case: &Case<'_>) -> Result<()> {
    fs::remove_file("/dev/net/tun")?;
    let outcome = finds(&case.rig.passt(case.user)?, 0, "tcp-repair", "ok", &["TCP_REPAIR"])?;
    ensure!(!outcome.stdout.contains("tun-device"), "{}", outcome.stdout);
    Ok(())
}

fn needs_its_full_name(case: &Case<'_>) -> Result<()> {
    let outcome = case.pasta()?.args(&["--docto"]).run(SHORT)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(outcome.stderr.contains("unrecognized option '--docto'"), "{}", outcome.stderr);
    Ok(())
}

fn root_that_cannot_become_another_user(case: &Case<'_>) -> Result<()> {
    let program = program(case)?;
    let argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", &program, "--doctor"];
    let outcome = case.rig.outcome(&Place::Host, User::Root, SHORT, &argv)?;
    let (grade, text) = line(&outcome, "user-namespaces")?;
    ensure!(grade == "fail", "{text}");
    ensure!(text.contains("becoming another user: Operation not permitted"), "{text}");
    ensure!(text.contains("remedy: give root CAP_SETUID and CAP_SETGID"), "{text}");
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    Ok(())
}

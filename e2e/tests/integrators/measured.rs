//! Facts of the command line that are easily got wrong: what is accepted, what is refused, and how.

use crate::{contract, passt, pasta, refused, silent};
use anyhow::{Context, Result, ensure};
use e2e::hypervisor::Client;
use e2e::{Case, SHORT};
use std::path::Path;
use testkit::{Outcome, Place};

contract!(ordinary, Ordinary:
    version_of_every_program,
    help_goes_to_standard_output,
    an_unknown_option_is_followed_by_usage,
    pesto_says_its_usage_for_an_unknown_option,
    passt_repair_takes_an_option_for_a_path,
    a_namespace_that_is_not_there,
    a_port_that_needs_privileges,
    values_that_are_accepted,
    values_that_are_refused,
    the_last_family_counts,
    ports_that_conflict_and_that_do_not,
    best_effort_fails_if_all_of_a_range_fails,
    options_of_the_other_program,
    options_of_vhost_user,
    status_of_the_command,
    the_first_process_of_a_namespace_does_not_hear_its_own_signals,
    quiet_and_debug_together,
    a_capture_that_cannot_be_written_is_no_reason_to_fail,
    a_usage_error_has_status_1,
);

/// Name, the words before the command and what is run, for each program that has an option.
fn programs(case: &Case<'_>, option: &str) -> Result<Vec<(&'static str, String, Outcome)>> {
    let mut all = Vec::new();
    for (name, builder) in [("passt", case.rig.passt(case.user)?), ("pasta", case.pasta()?)] {
        let command = builder.command();
        let last = command.get_args().last().context("no program")?;
        let argv0 = last.to_string_lossy().into_owned();
        all.push((name, argv0, builder.args(&[option]).run(SHORT)?));
    }
    let pesto = case.rig.pesto()?.display().to_string();
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &[&*pesto, option])?;
    all.push(("pesto", pesto, outcome));
    Ok(all)
}

fn version_of_every_program(case: &Case<'_>) -> Result<()> {
    for (name, _, outcome) in programs(case, "--version")? {
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        let lines: Vec<&str> = outcome.stdout.split('\n').collect();
        let (first, second) = (lines.first().context("none")?, lines.get(1).context("one")?);
        let version = first.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        ensure!(version.is_some_and(|text| !text.is_empty() && !text.contains(' ')), "{first}");
        ensure!(second.starts_with("Copyright "), "{second}");
        // An empty line is the last.
        ensure!(outcome.stdout.ends_with("\n\n"), "{outcome:?}");
    }
    Ok(())
}

fn help_goes_to_standard_output(case: &Case<'_>) -> Result<()> {
    for (_, argv0, outcome) in programs(case, "--help")? {
        ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
        let first = outcome.stdout.lines().next().unwrap_or_default();
        ensure!(first.starts_with("Usage: ") && first.contains(" [OPTION]..."), "{first}");
        ensure!(first.contains(&*argv0) || argv0.contains("/sid/"), "{first}");
    }
    Ok(())
}

fn an_unknown_option_is_followed_by_usage(case: &Case<'_>) -> Result<()> {
    for (_, argv0, outcome) in programs(case, "--nosuchoption")? {
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let mut lines = outcome.stderr.lines();
        let first = lines.next().unwrap_or_default();
        ensure!(first.ends_with(": unrecognized option '--nosuchoption'"), "{first}");
        ensure!(first.starts_with(&*argv0) || argv0.contains("/sid/"), "{first}");
        let second = lines.next().unwrap_or_default();
        ensure!(second.starts_with("Usage: "), "{second}");
        ensure!(lines.count() > 5, "{outcome:?}");
    }
    Ok(())
}

fn pesto_says_its_usage_for_an_unknown_option(case: &Case<'_>) -> Result<()> {
    let pesto = case.rig.pesto()?.display().to_string();
    for (option, wanted) in [
        ("--nosuchoption", "unrecognized option '--nosuchoption'"),
        ("-Z", "invalid option -- 'Z'"),
    ] {
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &[&*pesto, option])?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
        let usage = outcome.stderr.lines().nth(1).is_some_and(|line| line.starts_with("Usage: "));
        ensure!(outcome.stderr.contains(wanted) && usage, "{outcome:?}");
    }
    Ok(())
}

fn passt_repair_takes_an_option_for_a_path(case: &Case<'_>) -> Result<()> {
    let program = case.rig.passt_repair(case.user)?.display().to_string();
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &[&*program, "--help"])?;
    ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.starts_with("Can't stat() --help: 2"), "{outcome:?}");
    // What is not even that has another status.
    for argv in [&[&*program][..], &[&program, "/nonexist", "/nonexist"]] {
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, argv)?;
        ensure!(outcome.code() == Some(2), "{outcome:?}");
    }
    Ok(())
}

fn a_namespace_that_is_not_there(case: &Case<'_>) -> Result<()> {
    for path in ["/nonexist", "/run/rig/tmp/nonexist"] {
        let outcome = pasta(case, &format!("--config-net --netns {path}"))?;
        let wanted = format!("Couldn't open network namespace {path}: No such file or directory");
        refused(&outcome, &wanted)?;
    }
    Ok(())
}

const PRIVILEGES: &str = "Listen failed for HOST TCP port */80: Permission denied\n\
                          Couldn't listen on requested ports";

fn a_port_that_needs_privileges(case: &Case<'_>) -> Result<()> {
    refused(&pasta(case, "-q --config-net -t 80 true")?, PRIVILEGES)?;
    let socket = case.rig.tmp().join("guest.socket");
    refused(&passt(case, &format!("-q -s {} -t 80", socket.display()))?, PRIVILEGES)
}

/// Whether a line does for passt: it is up, then gone with its client.
fn starts(case: &Case<'_>, options: &str) -> Result<Outcome> {
    let (socket, pid) = (case.rig.tmp().join("guest.socket"), case.rig.tmp().join("guest.pid"));
    let line = format!("{options} -1 -s {} -P {}", socket.display(), pid.display());
    let outcome = passt(case, &line)?;
    if outcome.code() == Some(0) {
        drop(Client::connect(&socket)?);
        case.rig.wait_gone(e2e::clients::pid_in(&pid)?, SHORT)?;
    }
    Ok(outcome)
}

fn values_that_are_accepted(case: &Case<'_>) -> Result<()> {
    for options in [
        "-m 67",
        "-m 0",
        "-m 65521",
        "-M ff:00:00:00:00:01",
        "-M 00:00:00:00:00:00",
        "-a fe80::1",
        "--outbound-if4 nosuch",
        "-n 16",
        "-t 2222 -u 2222",
        "-t none -t 2222",
        "-t /2222",
        "-t %lo/2222",
    ] {
        for outcome in
            [pasta(case, &format!("-q {options} true"))?, starts(case, &format!("-q {options}"))?]
        {
            // A small MTU is worth a warning for each family.
            let warnings = outcome.stderr.lines().filter(|line| line.starts_with("MTU 67 is too"));
            let expected = if options == "-m 67" { 2 } else { 0 };
            let fine = warnings.count() == expected && outcome.stderr.lines().count() == expected;
            ensure!(outcome.code() == Some(0) && fine, "{options}: {outcome:?}");
        }
    }
    Ok(())
}

fn values_that_are_refused(case: &Case<'_>) -> Result<()> {
    for address in ["127.0.0.1", "0.0.0.0", "::", "::1", "224.0.0.1", "ff02::1"] {
        let wanted = format!("Invalid guest address: {address}");
        refused(&pasta(case, &format!("-a {address} true"))?, &wanted)?;
        refused(&passt(case, &format!("-f -a {address}"))?, &wanted)?;
    }
    for (options, wanted) in [
        ("-m 65522", "MTU 65522 too large (max 65521)"),
        ("-n 33", "Invalid prefix length: 33"),
        ("-M 02:00:00:00:00", "MAC"),
    ] {
        let outcome = pasta(case, &format!("{options} true"))?;
        ensure!(outcome.code() == Some(1), "{options}: {outcome:?}");
        ensure!(outcome.stderr.contains(wanted), "{options}: {outcome:?}");
    }
    Ok(())
}

fn the_last_family_counts(case: &Case<'_>) -> Result<()> {
    for (options, there, away) in
        [("-4 -6", "2001:db8:51::2/64", "203.0.113."), ("-6 -4", "203.0.113.2/24", "2001:")]
    {
        let line = format!("-q --config-net {options} -- ip -o addr show scope global");
        let text = pasta(case, &line)?.ok(options)?;
        ensure!(text.contains(there) && !text.contains(away), "{options}: {text}");
    }
    Ok(())
}

fn ports_that_conflict_and_that_do_not(case: &Case<'_>) -> Result<()> {
    // Few enough are left for all.
    case.rig.run(
        &Place::Host,
        SHORT,
        &["sysctl", "-qw", "net.ipv4.ip_local_port_range=3000 64999"],
    )?;
    for options in ["-t 2200,2200", "-t all -t 2222", "-t 2222 -t 127.0.0.1/2222"] {
        let outcome = pasta(case, &format!("-q {options} true"))?;
        ensure!(outcome.code() == Some(1), "{options}: {outcome:?}");
        let conflict = outcome.stderr.starts_with("Forwarding configuration conflict");
        ensure!(conflict, "{options}: {outcome:?}");
        let outcome = passt(case, &format!("-f -q {options}"))?;
        ensure!(outcome.code() == Some(1), "{options}: {outcome:?}");
    }
    for options in ["-t none -t 2222", "-t 2222 -u 2222", "-t 2222 -t 2223", "-t 2222 -T 2222"] {
        silent(&pasta(case, &format!("-q {options} true"))?).context(options)?;
    }
    Ok(())
}

/// Port 22 apart, those below it make a range of their own.
fn best_effort_fails_if_all_of_a_range_fails(case: &Case<'_>) -> Result<()> {
    // Few enough are left for the other range.
    case.rig.run(
        &Place::Host,
        SHORT,
        &["sysctl", "-qw", "net.ipv4.ip_local_port_range=1030 64999"],
    )?;
    let outcome = passt(case, "-f -q -t ~22")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let first = outcome.stderr.lines().next().unwrap_or_default();
    let of_the_range = first.starts_with("All listens failed for HOST TCP ");
    ensure!(of_the_range && first.contains("1-21"), "{first}");
    // Only some of them fail here.
    silent(&starts(case, "-q -t ~1026")?)
}

fn options_of_the_other_program(case: &Case<'_>) -> Result<()> {
    for (line, wanted) in [
        ("-f -T none", "-T is for pasta mode only"),
        ("-f -U none", "-U is for pasta mode only"),
        ("-f -I eth0", "-I is for pasta mode only"),
        ("-f --config-net", "--config-net is for pasta mode only"),
        ("-f --netns x", "--netns is for pasta mode only"),
        ("-f --userns x", "--userns is for pasta mode only"),
        ("-f --ns-mac-addr 02:00:00:00:00:01", "--ns-mac-addr is for pasta mode only"),
    ] {
        refused(&passt(case, line)?, wanted)?;
    }
    for line in ["-s /run/rig/tmp/s true", "-1 true", "--one-off true", "--no-dhcp-dns true"] {
        let outcome = pasta(case, line)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{line}: {outcome:?}");
        ensure!(outcome.stderr.lines().count() == 1, "{line}: {outcome:?}");
        ensure!(outcome.stderr.contains("mode only"), "{line}: {outcome:?}");
    }
    ensure!(!Path::new("/run/rig/tmp/s").exists(), "a socket was made");
    Ok(())
}

fn options_of_vhost_user(case: &Case<'_>) -> Result<()> {
    for line in ["-f -q --migrate-exit", "-f -q --repair-path /run/rig/tmp/r"] {
        let outcome = passt(case, line)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{line}: {outcome:?}");
        ensure!(outcome.stderr.lines().count() == 1, "{line}: {outcome:?}");
    }
    silent(&starts(case, "-q --repair-path none")?)
}

fn status_of_the_command(case: &Case<'_>) -> Result<()> {
    let run = |script: &str| -> Result<Option<i32>> {
        let argv = ["--config-net", "-q", "--no-pidns", "--", "sh", "-c", script];
        let outcome = case.pasta()?.args(&argv).run(SHORT)?;
        ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
        Ok(outcome.code())
    };
    for (script, wanted) in
        [("exit 37", 37), ("exit 0", 0), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)]
    {
        let status = run(script)?;
        ensure!(status == Some(wanted), "{script}: {status:?}");
    }
    Ok(())
}

/// Nor those of its children: the kernel keeps them from the first process.
fn the_first_process_of_a_namespace_does_not_hear_its_own_signals(case: &Case<'_>) -> Result<()> {
    for script in ["kill -KILL $$; exit 0", "kill -TERM $$; exit 0", "sh -c 'kill -9 1'; exit 0"] {
        let argv = ["--config-net", "-q", "--", "sh", "-c", script];
        silent(&case.pasta()?.args(&argv).run(SHORT)?).context(script)?;
    }
    Ok(())
}

fn quiet_and_debug_together(case: &Case<'_>) -> Result<()> {
    for line in ["-q -d --config-net true", "-d -q --config-net true"] {
        let outcome = pasta(case, line)?;
        ensure!(outcome.code() == Some(0), "{line}: {outcome:?}");
    }
    let outcome = starts(case, "-q -d")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok(())
}

fn a_capture_that_cannot_be_written_is_no_reason_to_fail(case: &Case<'_>) -> Result<()> {
    let outcome = pasta(case, "-p /nonexist/x.pcap --config-net true")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let outcome = starts(case, "-p /nonexist/x.pcap")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(!Path::new("/nonexist").exists(), "a directory was made");
    Ok(())
}

/// Of any kind, whatever else is on the line.
fn a_usage_error_has_status_1(case: &Case<'_>) -> Result<()> {
    for line in ["-x", "--mtu", "--no", "-q extra -x", "--mtu=", "-t", "--fd x", "--pid"] {
        for outcome in [passt(case, line)?, pasta(case, line)?] {
            ensure!(outcome.code() == Some(1), "{line}: {outcome:?}");
            ensure!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{line}: {outcome:?}");
        }
    }
    Ok(())
}

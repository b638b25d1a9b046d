//! What is said of common mistakes, row by row: each row of the table is a test of its own name, of passt and
//! of pasta as far as it is about both, as root and as an ordinary user.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::hypervisor::Client;
use e2e::{Case, SHORT};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use testkit::{Outcome, Place, User};

/// What comes of a command line.
#[derive(Clone, Copy)]
enum Row {
    /// Status 1. Standard error ends with lines that contain these words; at first is the cause.
    Refused(Program, &'static [&'static str], &'static [&'static str]),
    /// Status 1, a line that ends with these words, and the usage behind it.
    Usage(Program, &'static [&'static str], &'static str),
    /// It starts.
    Accepted(Program, &'static [&'static str]),
}

/// Whose command line it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// passt's.
    Passt,
    /// pasta's.
    Pasta,
    /// Both know it. pasta is given a command, too.
    Both,
}

use Program::{Both, Passt, Pasta};
use Row::{Accepted, Refused, Usage};

macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        $(fn $name(case: &Case<'_>) -> Result<()> {
            check(case, $row)
        })*
        e2e::matrix!(users: $($name,)* closed_streams, low_port,);
    };
}

rows! {
    extra_argument: Refused(Passt, &["-f", "extra"], &["Extra non-option argument: extra"]);
    unknown_short_option: Usage(Both, &["-x"], ": invalid option -- 'x'");
    unknown_long_option: Usage(Both, &["--bogus"], ": unrecognized option '--bogus'");
    statistics_in_the_background: Refused(
        Passt,
        &["--stats", "1"],
        &["Can't display statistics if not running in foreground"],
    );
    mtu_too_large: Refused(Both, &["-f", "-m", "65536"], &["MTU 65536 too large (max 65521)"]);
    mtu_that_is_no_number: Refused(Both, &["-f", "-m", "12x"], &["Invalid MTU: 12x"]);
    loopback_address: Refused(Both, &["-f", "-a", "127.0.0.1"], &["Invalid guest address: 127.0.0.1"]);
    prefix_too_long: Refused(
        Both,
        &["-f", "-a", "192.0.2.5/33"],
        &["Invalid prefix length: 192.0.2.5/33"],
    );
    netmask_with_holes: Refused(
        Both,
        &["-f", "-n", "255.0.255.0"],
        &["Invalid prefix length: 255.0.255.0"],
    );
    from_port_zero: Refused(
        Both,
        &["-f", "-t", "0"],
        &["map from port 0", "Unable to add rule TCP [*]:0  =>  0"],
    );
    to_port_zero: Refused(Both, &["-f", "-t", "22:0"], &["map to port 0", "Unable to add rule"]);
    port_too_large: Refused(Both, &["-f", "-t", "70000"], &["Invalid port specifier '70000'"]);
    comma_at_the_end: Refused(Both, &["-f", "-t", "22,"], &["Invalid port specifier '22,'"]);
    empty_specifier: Refused(Both, &["-f", "-t", ""], &["Invalid port specifier ''"]);
    range_too_long: Refused(
        Both,
        &["-f", "-t", "65535-65536"],
        &["Invalid port specifier '65535-65536'"],
    );
    range_backwards: Refused(Both, &["-f", "-t", "22-20"], &["Invalid port specifier '22-20'"]);
    ranges_of_different_lengths: Refused(
        Both,
        &["-f", "-t", "22-24:30-31"],
        &["Invalid port specifier '22-24:30-31'"],
    );
    one_port_to_a_range: Refused(Both, &["-f", "-t", "22:30-31"], &["Invalid port specifier '22:30-31'"]);
    port_that_is_no_number: Refused(Both, &["-f", "-t", "80x"], &["Invalid port specifier '80x'"]);
    address_that_is_none: Refused(
        Both,
        &["-f", "-t", "300.1.1.1/80"],
        &["Invalid port specifier '300.1.1.1/80'"],
    );
    address_that_is_a_dot: Refused(Both, &["-f", "-t", "./80"], &["Invalid port specifier './80'"]);
    the_same_port_twice: Refused(
        Both,
        &["-f", "-t", "8000", "-t", "8000"],
        &["Forwarding configuration conflict", "Unable to add rule"],
    );
    the_same_port_of_an_address: Refused(
        Both,
        &["-f", "-t", "8000", "-t", "127.0.0.1/8000"],
        &["Forwarding configuration conflict", "Unable to add rule"],
    );
    none_behind_a_port: Refused(
        Both,
        &["-f", "-t", "8000", "-t", "none"],
        &["-t none conflicts with previous options"],
    );
    none_before_a_port: Accepted(Both, &["-t", "none", "-t", "8000"]);
    auto_without_a_namespace: Refused(Passt, &["-f", "-t", "auto"], &["only allowed for pasta"]);
    both_families_to_one: Refused(
        Both,
        &["-f", "-t", "8000:192.0.2.7/80"],
        &["Dual stack forward to IPv4 address 192.0.2.7 unsupported", "0.0.0.0/...", "Unable to add rule"],
    );
    one_family_to_the_other: Refused(
        Both,
        &["-f", "-t", "0.0.0.0/8000:2001:db8::1/80"],
        &["IPv4 to IPv6 unsupported", "Unable to add rule"],
    );
    ipv6_to_ipv6: Accepted(Both, &["-t", "::/8000:[2001:db8::1]/80"]);
    ipv4_to_ipv4: Accepted(Both, &["-t", "0.0.0.0/2223:192.0.2.3"]);
    address_of_others: Refused(
        Both,
        &["-f", "-t", "192.0.2.99/8080"],
        &[
            "Listen failed for HOST TCP port 192.0.2.99/8080: Cannot assign requested address",
            "Couldn't listen on requested ports",
        ],
    );
    address_of_others_with_freebind: Accepted(Both, &["--freebind", "-t", "192.0.2.99/8080"]);
    family_that_is_off: Refused(
        Both,
        &["-f", "-4", "-t", "::1/8080"],
        &["IPv6 forward, but IPv6 not enabled", "Unable to add rule"],
    );
    protocol_that_is_off: Refused(
        Both,
        &["-f", "--no-tcp", "-t", "80"],
        &["Can't add TCP forwarding rule, TCP not enabled", "Unable to add rule"],
    );
    outbound_loopback: Refused(
        Both,
        &["-f", "-o", "::1"],
        &["Invalid or redundant outbound address: ::1"],
    );
    no_interface: Refused(
        Both,
        &["-f", "-i", "nosuch"],
        &["Invalid interface name nosuch: No such device"],
    );
    no_descriptor: Refused(
        Passt,
        &["-f", "-F", "99"],
        &["Could not move --fd descriptor: Bad file descriptor"],
    );
    log_too_small: Refused(
        Both,
        &["-f", "-l", "/run/rig/tmp/log", "--log-size", "100"],
        &["Invalid --log-size: 100"],
    );
    pid_file_nowhere: Refused(
        Both,
        &["-f", "-P", "/nonexist/x"],
        &["Couldn't open PID file /nonexist/x: No such file or directory"],
    );
    no_command: Refused(
        Pasta,
        &["nosuchcmd"],
        &["Failed to start command or shell: No such file or directory"],
    );
    no_namespace: Refused(
        Pasta,
        &["--netns", "nosuch"],
        &["Couldn't open network namespace /run/netns/nosuch: No such file or directory"],
    );
    no_process: Refused(
        Pasta,
        &["999999"],
        &["Couldn't open user namespace /proc/999999/ns/user: No such file or directory"],
    );
    address_in_the_namespace: Refused(
        Pasta,
        &["-T", "127.0.0.1/80", "true"],
        &["Listening address not allowed for -T 127.0.0.1/80"],
    );
    all_forms_of_anywhere: Accepted(
        Pasta,
        &["-t", "*/8081", "-t", "%lo/8082", "-t", "/8083", "-t", "*%lo/8084"],
    );
}

fn check(case: &Case<'_>, row: Row) -> Result<()> {
    let (Refused(program, ..) | Usage(program, ..) | Accepted(program, _)) = row;
    for (passt, known) in [(true, program != Pasta), (false, program != Passt)] {
        if known {
            let name = if passt { "passt" } else { "pasta" };
            check_one(case, passt, program == Both, row).context(name)?;
        }
    }
    Ok(())
}

fn check_one(case: &Case<'_>, passt: bool, both: bool, row: Row) -> Result<()> {
    let run = |options: &[&str]| -> Result<Outcome> {
        let program = if passt { case.rig.passt(case.user)? } else { case.pasta()? };
        let command: &[&str] = if passt || !both { &[] } else { &["--", "true"] };
        program.args(options).args(command).run(SHORT)
    };
    match row {
        Refused(_, options, wanted) => {
            let outcome = run(options)?;
            ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
            let lines: Vec<&str> = outcome.stderr.lines().collect();
            let last = lines.get(lines.len().saturating_sub(wanted.len())..).unwrap_or_default();
            let same = last.iter().zip(wanted).all(|(line, wanted)| line.contains(wanted));
            ensure!(same && last.len() == wanted.len(), "{outcome:?}, wanted {wanted:?}");
            // Nothing that sounds like another cause comes before.
            let early = lines.len() - wanted.len();
            let others = ["Couldn't", "Failed", "Invalid", "Unable"];
            let other =
                lines.iter().take(early).find(|line| others.iter().any(|o| line.starts_with(o)));
            ensure!(other.is_none(), "{other:?} in {outcome:?}");
        }
        Usage(_, options, wanted) => {
            let outcome = run(options)?;
            let mut lines = outcome.stderr.lines();
            ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
            ensure!(lines.next().is_some_and(|first| first.ends_with(wanted)), "{outcome:?}");
            ensure!(lines.next().is_some_and(|line| line.starts_with("Usage: ")), "{outcome:?}");
            ensure!(lines.count() > 20, "the usage is short: {outcome:?}");
        }
        Accepted(_, options) if passt => {
            let files = ["-s", "/run/rig/tmp/socket", "-P", "/run/rig/tmp/pid"];
            let outcome = run(&[&files, options].concat())?;
            ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
            serves(case)?;
        }
        Accepted(_, options) => {
            let options = if both { options.to_vec() } else { [options, &["true"]].concat() };
            let outcome = run(&options)?;
            ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
        }
    }
    Ok(())
}

/// Checks that the passt at the usual place works, and ends it.
fn serves(case: &Case<'_>) -> Result<()> {
    Client::connect("/run/rig/tmp/socket".as_ref())?.alive()?;
    let number = fs::read_to_string("/run/rig/tmp/pid")?.trim_end().parse()?;
    let Some(pid) = Pid::from_raw(number) else { bail!("process {number}") };
    kill_process(pid, Signal::TERM)?;
    case.rig.wait_gone(number.unsigned_abs(), SHORT)
}

/// Standard input, output and error are closed, one by one and all of them.
fn closed_streams(case: &Case<'_>) -> Result<()> {
    let passt = case.rig.passt_path()?.display().to_string();
    let pasta = case.pasta()?.command();
    let pasta = pasta
        .get_args()
        .last()
        .unwrap_or_else(|| pasta.get_program())
        .to_string_lossy()
        .into_owned();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let line = format!("exec {passt} -s /run/rig/tmp/socket -P /run/rig/tmp/pid {closed}");
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &["sh", "-c", &line])?;
        ensure!(outcome.code() == Some(0), "{line}: {outcome:?}");
        serves(case).with_context(|| line)?;
        // What the command finds closed is its own affair.
        let line = format!(
            "exec {pasta} --config-net -- sh -c 'ip link show >/dev/null; exit 7' {closed}"
        );
        let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &["sh", "-c", &line])?;
        ensure!(outcome.code() == Some(7), "{line}: {outcome:?}");
    }
    Ok(())
}

/// Root may have it.
fn low_port(case: &Case<'_>) -> Result<()> {
    if case.user == User::Root {
        return check(case, Accepted(Both, &["-t", "22"]));
    }
    let wanted = &[
        "Listen failed for HOST TCP port */22: Permission denied",
        "Couldn't listen on requested ports",
    ];
    check(case, Refused(Both, &["-f", "-t", "22"], wanted))
}

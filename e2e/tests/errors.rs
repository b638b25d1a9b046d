//! Mistakes on the command line and at the start: exit status 1 and one clear line.

#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use e2e::{Case, SHORT, matrix};

matrix!(users: mistakes, accepted, version, help);

/// Arguments, and what standard error must contain.
const MISTAKES: &[(&str, &str)] = &[
    ("-x", "invalid option -- 'x'"),
    ("--bogus", "unrecognized option '--bogus'"),
    ("--mtu", "option '--mtu' requires an argument"),
    ("--no", "option '--no' is ambiguous"),
    ("-m 65522", "MTU 65522 too large (max 65521)"),
    ("-m 12x", "Invalid MTU: 12x"),
    ("-a 127.0.0.1", "Invalid guest address: 127.0.0.1"),
    ("-a 0.0.0.0", "Invalid guest address: 0.0.0.0"),
    ("-a ::", "Invalid guest address: ::"),
    ("-a 224.0.0.1", "Invalid guest address: 224.0.0.1"),
    ("-a 192.0.2.5/33", "Invalid prefix length: 192.0.2.5/33"),
    ("-a 192.0.2.5/24 -n 24", "Redundant prefix length specification"),
    ("-n 255.0.255.0", "Invalid prefix length: 255.0.255.0"),
    ("-o ::1", "Invalid or redundant outbound address"),
    ("-i no-such-if", "Invalid interface name no-such-if: No such device"),
    ("-M 02:00:00:00:00", "MAC"),
    ("-g 127.0.0.1", "127.0.0.1"),
    ("--map-host-loopback 127.0.0.1", "127.0.0.1"),
    ("-P /no/such/dir/x true", "Couldn't open PID file /no/such/dir/x"),
    ("no-such-command", "Failed to start command or shell: No such file or directory"),
    (
        "--netns no-such-ns",
        "Couldn't open network namespace /run/netns/no-such-ns: No such file or directory",
    ),
    ("999999", "Couldn't open user namespace /proc/999999/ns/user: No such file or directory"),
    ("--netns /x true", "Both --netns and PID or command given"),
    ("--no-pidns 1", "--no-pidns is incompatible with PID or --netns"),
    ("--no-copy-routes true", "config-net"),
    ("--one-off true", "one-off"),
    ("-s /tmp/x true", "mode only"),
];

fn mistakes(case: &Case<'_>) -> Result<()> {
    let mut wrong = Vec::new();
    for (line, wanted) in MISTAKES {
        let argv: Vec<&str> = line.split_whitespace().collect();
        let outcome = case.pasta()?.args(&argv).run(SHORT)?;
        if outcome.code() != Some(1) || !outcome.stderr.contains(wanted) {
            let first = outcome.stderr.lines().next().unwrap_or_default();
            wrong.push(format!("{line}: {:?}, wanted '{wanted}', got '{first}'", outcome.code()));
        } else if !outcome.stdout.is_empty() {
            wrong.push(format!("{line}: standard output: {}", outcome.stdout));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn accepted(case: &Case<'_>) -> Result<()> {
    let mut wrong = Vec::new();
    for line in [
        "--config-net true",
        "--config -q true",
        "-qf --config-net -- true",
        "-q -d --config-net true",
        "-m 67 true",
        "-m 0 true",
        "-m 65521 --config-net true",
        "-m 0x5dc --config-net true",
        "-M ff:00:00:00:00:01 true",
        "-n 16 true",
        "-4 -6 --config-net true",
        "-6 -4 --config-net true",
        "--stats 1 -f true",
        "-f --stats 1 true",
        "-a [192.0.2.1] true",
        "-a 2001:db8::7/48 true",
        "-D none -S none true",
        "-D 192.0.2.53 -D 2001:db8::53 -S a.example true",
        "--outbound-if4 nosuch true",
        "--map-host-loopback none --map-guest-addr none true",
        "-t none -u none -T none -U none true",
        "--tcp-ports=none --udp-ports none true",
        "-e true",
        "true --version",
        "-- true -x",
    ] {
        let argv: Vec<&str> = line.split_whitespace().collect();
        let outcome = case.pasta()?.args(&argv).run(SHORT)?;
        if outcome.code() != Some(0) {
            wrong.push(format!("{line}: {outcome:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn version(case: &Case<'_>) -> Result<()> {
    let outcome = case.pasta()?.args(&["--version"]).run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    ensure!(outcome.stdout.starts_with("pasta "), "{outcome:?}");
    Ok(())
}

/// Tools look for these words to find out what is supported.
fn help(case: &Case<'_>) -> Result<()> {
    let outcome = case.pasta()?.args(&["--help"]).run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    ensure!(outcome.stdout.starts_with("Usage: "), "{outcome:?}");
    let words = ["--map-host-loopback", "--map-guest-addr", "--dns-forward", "--gateway", "--pid"];
    for word in words.into_iter().chain(["--netns", "--netns-only", "--config-net"]) {
        let found =
            outcome.stdout.split(|c: char| c.is_whitespace() || c == ',').any(|w| w == word);
        ensure!(found, "no {word} in the help");
    }
    Ok(())
}

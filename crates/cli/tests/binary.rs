//! The programs as a shell sees them: streams, exit statuses and texts that callers rely on. Nothing here
//! gets as far as a namespace.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::process::{Command, Output, Stdio};

const PASTA: &str = env!("CARGO_BIN_EXE_pasta");
const PASST: &str = env!("CARGO_BIN_EXE_passt");
const PESTO: &str = env!("CARGO_BIN_EXE_pesto");
const REPAIR: &str = env!("CARGO_BIN_EXE_passt-repair");

fn run(program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn version_and_help() {
    let version = env!("CARGO_PKG_VERSION");
    for (program, name) in [(PASTA, "pasta"), (PASST, "passt"), (PESTO, "pesto")] {
        let (code, stdout, stderr) = run(program, &["--version"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.lines().next().unwrap(), format!("{name} {version}"));
        assert!(stdout.ends_with("\n\n"));
        let (code, stdout, stderr) = run(program, &["-d", "--help"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.starts_with(&format!("Usage: {program} [OPTION]...")), "{stdout}");
    }
}

#[test]
fn usage_errors() {
    // Podman looks for this wording, with the opening quote, to find out what an older version lacks.
    let (code, stdout, stderr) = run(PASTA, &["--map-guest-addr-x", "1"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let mut lines = stderr.lines();
    assert_eq!(lines.next().unwrap(), format!("{PASTA}: unrecognized option '--map-guest-addr-x'"));
    assert!(lines.next().unwrap().starts_with("Usage: "));
}

#[test]
fn usage_errors_of_pesto() {
    for (args, first) in [
        (&["--nosuchoption"][..], "unrecognized option '--nosuchoption'"),
        (&["-Z", "sock"], "invalid option -- 'Z'"),
        (&["sock", "--de"], "option '--de' is ambiguous; possibilities: '--debug' '--delete'"),
        (&["-A", "-t"], "option requires an argument -- 't'"),
        (&["-t", "80"], "missing PATH of the socket"),
        (&[], "missing PATH of the socket"),
        (&["sock", "-s", "more"], "extra non-option argument: more"),
    ] {
        let (code, stdout, stderr) = run(PESTO, args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        let mut lines = stderr.lines();
        assert_eq!(lines.next().unwrap(), format!("{PESTO}: {first}"));
        assert_eq!(lines.next().unwrap(), format!("Usage: {PESTO} [OPTION]... PATH"));
    }
}

#[test]
fn pesto_without_a_server() {
    for args in [&["/nonexistent/sock"][..], &["-A", "-t", "80", "/nonexistent/sock"]] {
        let (code, stdout, stderr) = run(PESTO, args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(stderr, "Couldn't connect to /nonexistent/sock: No such file or directory\n");
    }
    let (code, _, stderr) = run(PESTO, &["-d", "/nonexistent/sock"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("debug_flag=1, path=\"/nonexistent/sock\"\n"), "{stderr}");
}

#[test]
fn usage_errors_of_passt_repair() {
    let usage = "Usage: passt-repair PATH\n";
    let long = format!("/{}", "x".repeat(5000));
    let too_long = format!("Can't stat() {long}: 36 (File name too long)\n");
    for (args, status, wanted) in [
        (&[][..], 2, usage),
        (&["one", "two"], 2, usage),
        // There are no options.
        (&["--help"], 1, "Can't stat() --help: 2 (No such file or directory)\n"),
        (&["--version"], 1, "Can't stat() --version: 2 (No such file or directory)\n"),
        (&[""], 1, "Can't stat() : 2 (No such file or directory)\n"),
        (&["a\nb"], 1, "Can't stat() a\\nb: 2 (No such file or directory)\n"),
        (&["/dev/null/x"], 1, "Can't stat() /dev/null/x: 20 (Not a directory)\n"),
        (&["/dev/null"], 2, "/dev/null is not a socket\n"),
        (&[&long], 1, &too_long),
    ] {
        let (code, stdout, stderr) = run(REPAIR, args);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(status), "", wanted));
    }
}

#[test]
fn mistakes_are_one_line_each() {
    for (program, args, wanted) in [
        (PASTA, "-f -m 65536", "MTU 65536 too large (max 65521)"),
        (PASTA, "-f -m 12x", "Invalid MTU: 12x"),
        (PASTA, "-f -a 127.0.0.1", "Invalid guest address: 127.0.0.1"),
        (PASTA, "-f -a 192.0.2.5/33", "Invalid prefix length: 192.0.2.5/33"),
        (PASTA, "-f -n 255.0.255.0", "Invalid prefix length: 255.0.255.0"),
        (PASTA, "-o ::1", "Invalid or redundant outbound address: ::1"),
        (PASTA, "-i nosuch", "Invalid interface name nosuch: No such device"),
        (PASTA, "--netns x y", "Both --netns and PID or command given"),
        (PASTA, "--log-file /dev/null --log-size 100", "Invalid --log-size: 100"),
        (PASST, "--log-size 40959", "Invalid --log-size: 40959"),
        (PASST, "--log-size 40960x", "Invalid --log-size: 40960x"),
        (
            PASST,
            "-l /nonexistent/log",
            "Couldn't open log file /nonexistent/log: No such file or directory",
        ),
        (PASST, "--ready-fd 99", "Could not use --ready-fd descriptor: Bad file descriptor"),
        (PASST, "--ready-fd -1", "Invalid --ready-fd: -1"),
        (PASST, "-f -t 70000", "Invalid port specifier '70000'"),
        (PASST, "-f -t auto", "'auto' port forwarding is only allowed for pasta"),
        (PASST, "-t 80 -t none", "-t none conflicts with previous options"),
        (PASTA, "-T ::1/80 true", "Listening address not allowed for -T ::1/80"),
        (PASST, "-f extra", "Extra non-option argument: extra"),
        (PASST, "-T none", "-T is for pasta mode only"),
        (PASST, "-f -F 99", "Could not move --fd descriptor: Bad file descriptor"),
        (PASST, "-F -1", "Invalid --fd: -1"),
        (PASST, "--repair-path /x", "--repair-path is for vhost-user mode only"),
        (PASST, "--migrate-exit", "--migrate-exit is for vhost-user mode only"),
        (PASST, "--vhost-user -s /x", "--vhost-user is not available in this version"),
        (PASTA, "--vhost-user true", "--vhost-user is not available in this version"),
        (PASTA, "-F 5", "-F is for passt mode only"),
        (PASTA, "-i sixteen-letters-", "Invalid interface name sixteen-letters-: No such device"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let (code, stdout, stderr) = run(program, &args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(stderr, format!("{wanted}\n"));
    }
}

#[test]
fn the_name_decides() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("names-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, first) in
        [("passt.avx2", Some("passt ")), ("my-pasta-2", Some("pasta ")), ("cat", None)]
    {
        let link = directory.join(name);
        std::os::unix::fs::symlink(PASTA, &link).unwrap();
        let (code, stdout, stderr) = run(link.to_str().unwrap(), &["--version"]);
        match first {
            Some(first) => assert!(code == Some(0) && stdout.starts_with(first), "{stdout}"),
            None => assert!(code == Some(1) && stderr.lines().count() == 1, "{stderr}"),
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn closed_streams_do_no_harm() {
    for (args, wanted) in [("--version", 0), ("--bogus", 1), ("-m x", 1)] {
        let script = format!("exec '{PASTA}' {args} <&- >&- 2>&-");
        let status = Command::new("sh").arg("-c").arg(script).status().unwrap();
        assert_eq!(status.code(), Some(wanted), "{args}");
    }
}

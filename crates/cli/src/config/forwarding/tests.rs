use std::io;

use super::*;
use crate::parse::{self, Request};

struct Host;

impl Lookup for Host {
    fn interface_index(&self, _: &str) -> io::Result<u32> {
        Ok(7)
    }

    fn read_text(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some(SYSCTL) => Ok("32768\t60999\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn forwarding(mode: Mode, line: &str) -> Result<Forwarding, String> {
    // Quotes are there for empty values only.
    let words = line.split(' ').map(|word| word.trim_matches('\'').to_owned().into());
    let request = parse::command_line(mode, mode.name(), words, &Host, &mut Vec::new());
    match request {
        Ok(Request::Run(said)) => Forwarding::new(mode, &said, &Host),
        Ok(_) => panic!("{line}"),
        Err(refusal) => Err(refusal),
    }
    .map_err(|refusal| refusal.to_string())
}

fn inbound(line: &str) -> Vec<String> {
    let table = forwarding(Mode::Pasta, line).unwrap().inbound;
    table.rules().iter().map(|rule| rule.to_string().trim_end().to_owned()).collect()
}

/// Behaviour on common mistakes, which wrappers and their users know by these words.
#[test]
fn mistakes_have_their_words() {
    for (line, expected) in [
        ("-f -t 0", &["map from port 0", "Unable to add rule TCP [*]:0  =>  0"][..]),
        ("-f -t 22:0", &["map to port 0", "Unable to add rule"]),
        ("-t 70000", &["Invalid port specifier '70000'"]),
        ("-t 22,", &["Invalid port specifier '22,'"]),
        ("-t ''", &["Invalid port specifier ''"]),
        ("-t 65535-65536", &["Invalid port specifier '65535-65536'"]),
        ("-t 22-20", &["Invalid port specifier '22-20'"]),
        ("-t 22-24:30-31", &["Invalid port specifier '22-24:30-31'"]),
        ("-t 22:30-31", &["Invalid port specifier '22:30-31'"]),
        ("-t 80x", &["Invalid port specifier '80x'"]),
        ("-t 300.1.1.1/80", &["Invalid port specifier '300.1.1.1/80'"]),
        ("-t ./80", &["Invalid port specifier './80'"]),
        ("-t 8000 -t 8000", &["configuration conflict", "Unable to add rule"]),
        ("-t 8000 -t 127.0.0.1/8000", &["configuration conflict", "Unable to add rule"]),
        ("-t 22,22", &["configuration conflict", "Unable to add rule"]),
        ("-t all -t 2222", &["configuration conflict", "Unable to add rule"]),
        ("-t 8000 -t none", &["-t none conflicts with previous options"]),
        ("-t auto", &["'auto' port forwarding is only allowed for pasta"]),
        ("-t 8000:192.0.2.7/80", &["Dual stack forward", "Did you mean 0.0.0.0/... instead?"]),
        ("-t 0.0.0.0/8000:2001:db8::1/80", &["IPv4 to IPv6 unsupported"]),
        ("-4 -t ::1/8080", &["IPv6 forward, but IPv6 not enabled"]),
        ("--no-tcp -t 80", &["Can't add TCP forwarding rule, TCP not enabled"]),
        ("--no-udp -u 80", &["Can't add UDP forwarding rule, UDP not enabled"]),
        ("-T none", &["-T is for pasta mode only"]),
        ("--splice-only", &["--splice-only is for pasta mode only"]),
    ] {
        let error = forwarding(Mode::Passt, line).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].contains(expected[0]), "{line}: {error}");
        for text in expected {
            assert!(error.contains(text), "{line}: {error}");
        }
    }
    for (line, expected) in [
        ("-T 127.0.0.1/80 true", "Listening address not allowed for -T 127.0.0.1/80"),
        ("--no-splice --host-lo-to-ns-lo", "incompatible"),
        ("--no-splice --splice-only", "incompatible"),
        ("-c ''", "Invalid configuration path"),
    ] {
        let error = forwarding(Mode::Pasta, line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn good_lines_are_accepted() {
    for line in [
        "-t none -t 8000",
        "-t ::/8000:[2001:db8::1]/80",
        "-t 0.0.0.0/2223:192.0.2.3",
        "-t */8081 -t %lo/8082 -t /8083 -t *%lo/8084",
        "--freebind -t 192.0.2.99/8080",
    ] {
        forwarding(Mode::Pasta, line).unwrap();
        forwarding(Mode::Passt, line).unwrap();
    }
    assert_eq!(inbound("-u none -t */8081 -t %lo/8082")[1], "TCP [*]%lo:8082  =>  8082");
    assert_eq!(inbound("-u none -t 0.0.0.0/80 -t [::]/80").len(), 2, "the families are apart");
}

/// The arguments of Podman, Buildah, RootlessKit, QEMU, libvirt and muvm that are about ports.
#[test]
fn callers_are_understood() {
    for line in [
        "-t none -u none -T none -U none",
        "-u 127.0.0.1/5353-5353:53-53 -t 8080-8080:80-80 -t 9000-9002:9000-9002 -T none -U none",
        "-t ::1/8081-8081:80-80 -u none -T none -U none",
        "-t 43731-43731:8082-8082 -u none -T none -U none",
        "-T 7777 --mtu 1400 -t none -u none -U none",
        "--ipv4-only --tcp-ports=none --udp-ports=none",
        "--ipv4-only --tcp-ports=auto --udp-ports=auto",
        "--ipv4-only --tcp-ports=auto --udp-ports=auto --host-lo-to-ns-lo",
    ] {
        forwarding(Mode::Pasta, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in [
        "--no-udp --ipv4-only --tcp-ports 10001,10003",
        "--tcp-ports 2022:22 --tcp-ports 203.0.113.2/4000-4009:5000-5009,~4005 \
         --udp-ports 127.0.0.1%lo/3000",
        "--tcp-ports %eth0/all",
        "-q -f -t 8000-8001:9000-9001 -u 127.0.0.1/53-53:53-53",
    ] {
        forwarding(Mode::Passt, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn defaults() {
    let auto = |protocol, any, device| {
        [(1, 32767), (61000, 65535)].map(|(first, last)| {
            format!(
                "{protocol} [{any}]{device}:{first}-{last}  =>  {first}-{last}  (best effort) \
                 (auto-scan)"
            )
        })
    };
    let both = [auto("TCP", "*", ""), auto("UDP", "*", "")].concat();
    assert_eq!(inbound("-f"), both);
    let pasta = forwarding(Mode::Pasta, "-f").unwrap();
    let shown =
        |table: &Table| table.rules().iter().map(|rule| rule.to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&pasta.outbound), [auto("TCP", "*", "%lo"), auto("UDP", "*", "%lo")].concat());
    assert!(pasta.splice && !pasta.host_lo_to_ns_lo);
    assert_eq!(inbound("-4 -t none"), auto("UDP", "0.0.0.0", ""));
    assert_eq!(inbound("-6 -u none"), auto("TCP", "::", ""));
    assert_eq!(inbound("--no-tcp"), auto("UDP", "*", ""), "nothing for what is off");
    let passt = forwarding(Mode::Passt, "-f").unwrap();
    assert!(passt.inbound.is_empty() && passt.outbound.is_empty() && !passt.splice);
    let only = forwarding(Mode::Pasta, "--splice-only -c /run/x").unwrap();
    assert!(only.splice_only && only.host_lo_to_ns_lo);
    assert_eq!(only.configuration.as_deref(), Some(Path::new("/run/x")));
    assert!(!forwarding(Mode::Pasta, "--no-splice").unwrap().splice);
}

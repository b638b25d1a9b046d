mod table;

use std::io;
use std::path::Path;

use proptest::prelude::*;
use stack::rule::{Pif, Protocol};
use wire::ethernet::MacAddr;

use super::*;
use crate::flags;
use crate::said::{Families, User};

/// A system with two interfaces and two users.
struct Fake;

impl Lookup for Fake {
    fn interface_index(&self, name: &str) -> io::Result<u32> {
        if ["eth0", "eth1"].contains(&name) { Ok(2) } else { Err(io::Error::from_raw_os_error(19)) }
    }

    fn read_text(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/etc/passwd") => Ok("root:x:0:0::/:\nnobody:x:65534:65534::/:\n".to_owned()),
            Some("/etc/group") => Ok("users:x:100:\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn request(mode: Mode, args: &[&str]) -> Result<Request, Refusal> {
    command_line(mode, mode.name(), args.iter().map(OsString::from), &Fake, &mut Vec::new())
}

/// What `pasta` with the words of `line` understands.
fn pasta(line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    match request(Mode::Pasta, &words) {
        Ok(Request::Run(said)) => *said,
        other => panic!("{line}: {other:?}"),
    }
}

/// The line with which `pasta` refuses the words of `line`.
fn refused(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match request(Mode::Pasta, &words) {
        Err(refusal) => refusal.line,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn personality() {
    for (argv0, mode) in [
        ("pasta", Some(Mode::Pasta)),
        ("/usr/bin/passt", Some(Mode::Passt)),
        ("/usr/bin/passt.avx2", Some(Mode::Passt)),
        ("./my-pasta-2", Some(Mode::Pasta)),
        ("/opt/pasta/passt", Some(Mode::Passt)),
        ("passt-pasta", Some(Mode::Pasta)),
        ("/opt/pasta/", None),
        ("cat", None),
        ("", None),
    ] {
        assert_eq!(Mode::from_argv0(argv0), mode, "{argv0}");
    }
}

#[test]
fn getopt_wording() {
    for (line, wanted) in [
        ("--bogus", "pasta: unrecognized option '--bogus'"),
        ("--bogus=3", "pasta: unrecognized option '--bogus=3'"),
        ("-x", "pasta: invalid option -- 'x'"),
        ("-fdx", "pasta: invalid option -- 'x'"),
        ("-f-", "pasta: invalid option -- '-'"),
        ("--mtu", "pasta: option '--mtu' requires an argument"),
        ("--mt", "pasta: option '--mtu' requires an argument"),
        ("-fm", "pasta: option requires an argument -- 'm'"),
        ("--quiet=1", "pasta: option '--quiet' doesn't allow an argument"),
        ("--qui=", "pasta: option '--quiet' doesn't allow an argument"),
        ("--v", "pasta: option '--v' is ambiguous; possibilities: '--version' '--vhost-user'"),
        (
            "--no-dhcp-=5",
            "pasta: option '--no-dhcp-=5' is ambiguous; possibilities: '--no-dhcp-dns' '--no-dhcp-search'",
        ),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let refusal = request(Mode::Pasta, &words).unwrap_err();
        assert_eq!(refusal.line, wanted);
        assert!(refusal.usage, "{line}");
    }
}

#[test]
fn forms_of_options() {
    assert!(matches!(request(Mode::Pasta, &["--vers"]), Ok(Request::Version)));
    assert!(matches!(request(Mode::Pasta, &["-fh"]), Ok(Request::Help)));
    assert!(pasta("--fore").foreground);
    assert_eq!(pasta("-fdm1500").mtu, Some(1500));
    assert_eq!(pasta("-fd -m 1500").mtu, Some(1500));
    assert_eq!(pasta("--mtu=1500").mtu, Some(1500));
    assert_eq!(pasta("--mt 0x5dc").mtu, Some(1500));
    assert_eq!(refused("-m=1500"), "Invalid MTU: =1500");
    assert_eq!(pasta("-f sh -q").command, ["sh", "-q"]);
    assert_eq!(pasta("-- --version").command, ["--version"]);
    assert_eq!(pasta("-f - -q").command, ["-", "-q"]);
    assert_eq!(pasta("-m 1500 -m 1400").mtu, Some(1400));
    assert_eq!(pasta("--pid -- true").pid_file.unwrap(), Path::new("--"));
    // An earlier wrong option wins, a later one is not looked at.
    assert_eq!(refused("-m 12x --version"), "Invalid MTU: 12x");
    assert!(matches!(request(Mode::Pasta, &["--version", "-m", "12x"]), Ok(Request::Version)));
}

#[test]
fn verbosity_is_what_was_said_last() {
    let said = pasta("-q -d");
    assert!(said.debug && !said.quiet);
    let said = pasta("--trace -q");
    assert!(!said.debug && !said.trace && said.quiet);
    let said = pasta("--trace -d");
    assert!(said.debug && said.trace);
}

#[test]
fn mtu() {
    for (typed, value) in [("67", 67), ("0", 0), ("65521", 65521)] {
        assert_eq!(pasta(&format!("-m {typed}")).mtu, Some(value));
    }
    assert_eq!(refused("-m 65536"), "MTU 65536 too large (max 65521)");
    assert_eq!(refused("-m 65522"), "MTU 65522 too large (max 65521)");
    assert_eq!(refused("-m 12x"), "Invalid MTU: 12x");
    assert_eq!(refused("-m -1"), "MTU 18446744073709551615 too large (max 65521)");
    assert_eq!(refused("--mtu="), "Invalid MTU: ");
}

#[test]
fn guest_addresses() {
    let address = |line: &str| pasta(line).address4;
    let ip = |text: &str| text.parse().unwrap();
    assert_eq!(address("-a 192.0.2.5"), Some((ip("192.0.2.5"), None)));
    assert_eq!(address("-a 192.0.2.5/0"), Some((ip("192.0.2.5"), Some(0))));
    assert_eq!(address("-a [192.0.2.5]/24"), Some((ip("192.0.2.5"), Some(24))));
    assert_eq!(address("-a ::ffff:192.0.2.5/120"), Some((ip("192.0.2.5"), Some(24))));
    assert_eq!(address("-a 192.0.2.5/24 -a 192.0.2.6"), Some((ip("192.0.2.6"), None)));
    assert_eq!(pasta("-a [2001:db8::1]").address6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(pasta("-a 2001:db8::1/48").address6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(pasta("-a fe80::1").address6, Some("fe80::1".parse().unwrap()));
    for wrong in [
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "224.0.0.1",
        "ff02::1",
        "x",
        "::ffff:127.0.0.1",
        "1.2.3",
        "[1.2.3.4",
    ] {
        assert_eq!(refused(&format!("-a {wrong}")), format!("Invalid guest address: {wrong}"));
    }
    for wrong in [
        "192.0.2.5/33",
        "192.0.2.5/",
        "192.0.2.5/-1",
        "192.0.2.5/24x",
        "::ffff:192.0.2.5/95",
        "2001:db8::1/129",
    ] {
        assert_eq!(refused(&format!("-a {wrong}")), format!("Invalid prefix length: {wrong}"));
    }
}

#[test]
fn netmask() {
    assert_eq!(pasta("-a 10.0.2.0 -n 24").netmask, Some(24));
    assert_eq!(pasta("-n 255.255.240.0 -a 10.0.2.0").netmask, Some(20));
    assert_eq!(pasta("-n 0x18").netmask, Some(24));
    assert_eq!(pasta("-n 0.0.0.0").netmask, Some(0));
    assert_eq!(pasta("-n 255.255.255.255").netmask, Some(32));
    for wrong in ["255.0.255.0", "33", "x", "0.0.0.1"] {
        assert_eq!(refused(&format!("-n {wrong}")), format!("Invalid prefix length: {wrong}"));
    }
    const REDUNDANT: &str = "Redundant prefix length specification";
    assert_eq!(refused("-a 192.0.2.5/24 -n 24"), REDUNDANT);
    assert_eq!(refused("-n 24 -a 192.0.2.5/24"), REDUNDANT);
    // Only the last address is remembered.
    assert_eq!(pasta("-a 192.0.2.5/24 -a 2001:db8::1 -n 16").netmask, Some(16));
}

#[test]
fn mac_addresses() {
    let mac = MacAddr([0x52, 0x55, 0, 0, 0, 0xab]);
    assert_eq!(pasta("-M 52:55:00:00:00:aB").our_mac, Some(mac));
    assert_eq!(pasta("--ns-mac-addr 52:55:00:00:00:ab").ns_mac, Some(mac));
    assert_eq!(pasta("-M ff:ff:ff:ff:ff:ff").our_mac, Some(MacAddr::BROADCAST));
    assert_eq!(pasta("-M 00:00:00:00:00:00").our_mac, Some(MacAddr::ZERO));
    for wrong in
        ["", "1", "52:55:0:0:0:1", "52:55:00:00:00:00:00", "52-55-00-00-00-00", "52:55:00:00:00:+1"]
    {
        let wrong = format!("-M{wrong}");
        if wrong.len() > 2 {
            assert_eq!(refused(&wrong), format!("Invalid MAC address: {}", &wrong[2..]));
        }
    }
}

#[test]
fn other_addresses() {
    let said = pasta("-g 10.0.2.2 -g fe80::1 -o 127.0.0.1 -o 2001:db8::2");
    assert_eq!(said.gateway4, Some("10.0.2.2".parse().unwrap()));
    assert_eq!(said.gateway6, Some("fe80::1".parse().unwrap()));
    assert_eq!(said.outbound4, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(said.outbound6, Some("2001:db8::2".parse().unwrap()));
    for wrong in ["0.0.0.0", "255.255.255.255", "127.1.2.3", "::", "::1", "gw"] {
        assert_eq!(refused(&format!("-g {wrong}")), format!("Invalid gateway address: {wrong}"));
    }
    for wrong in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "::1",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "ff02::1",
    ] {
        assert_eq!(
            refused(&format!("-o {wrong}")),
            format!("Invalid or redundant outbound address: {wrong}")
        );
    }
    assert_eq!(refused("-i nosuch"), "Invalid interface name nosuch: No such device");
    assert_eq!(pasta("-i eth0").interface.as_deref(), Some("eth0"));
    assert_eq!(pasta("--outbound-if4 nosuch").outbound_if4.as_deref(), Some("nosuch"));
    assert_eq!(
        refused("--outbound-if6 sixteen-letters-"),
        "Invalid interface name: sixteen-letters-"
    );
}

#[test]
fn name_resolution() {
    let said = pasta("-D 192.0.2.1 -D 192.0.2.2 -D 192.0.2.3 -D 192.0.2.4 -D 2001:db8::1");
    assert_eq!(said.dns.resolvers4.len(), 3);
    assert_eq!(said.dns.resolvers6.len(), 1);
    let said = pasta("-D 192.0.2.1 --dns-forward 192.0.2.5 --dns-host 127.0.0.53 -D none");
    assert_eq!(said.dns, crate::said::Dns { off: true, ..Default::default() });
    let said = pasta("-D none -D 192.0.2.1");
    assert!(!said.dns.off && said.dns.resolvers4.len() == 1);
    let said = pasta("-D none --dns-forward 192.0.2.5 --dns-host ::1");
    assert!(said.dns.off && said.dns.forward4.is_some() && said.dns.host6.is_some());
    for wrong in ["127.0.0.1", "::1", "::", "255.255.255.255"] {
        assert_eq!(
            refused(&format!("--dns-forward {wrong}")),
            format!("Invalid DNS forwarding address: {wrong}")
        );
    }
    assert_eq!(refused("-D x"), "Invalid DNS address: x");

    let search = |args: &[&str]| match request(Mode::Pasta, args) {
        Ok(Request::Run(said)) => Ok((said.search.join(","), said.search_off)),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.line),
    };
    assert_eq!(
        search(&["-S", "a.example b.example"]),
        Ok(("a.example,b.example".to_owned(), false))
    );
    assert_eq!(search(&["-S", "a", "-S", "b"]), Ok(("a,b".to_owned(), false)));
    assert_eq!(search(&["-S", "a", "-S", "none"]), Ok((String::new(), true)));
    assert_eq!(search(&["-S", "none", "-S", "none."]), Ok(("none.".to_owned(), false)));
    assert_eq!(search(&["-S", "a b c d e f"]), Ok(("a,b,c,d,e,f".to_owned(), false)));
    assert_eq!(
        search(&["-S", "a b c d e f g"]),
        Err("Too many search domains: a b c d e f g".to_owned())
    );
    assert_eq!(search(&["-S", ""]), Err("Invalid search domain: ".to_owned()));
    assert!(search(&["-S", &"x".repeat(256)]).is_err());
}

#[test]
fn mappings() {
    let said = pasta("--map-host-loopback 192.0.2.1 --map-host-loopback 2001:db8::1");
    assert!(said.map_host_loopback.v4.is_some() && said.map_host_loopback.v6.is_some());
    let said = pasta("--map-host-loopback 192.0.2.1 --map-host-loopback none");
    assert!(said.map_host_loopback.v4.is_none() && said.no_map_gw);
    let said = pasta("--map-guest-addr 192.0.2.1 --map-guest-addr none");
    assert!(said.map_guest_addr.v4.is_none() && !said.no_map_gw);
    for option in ["--map-host-loopback", "--map-guest-addr"] {
        for wrong in ["0.0.0.0", "127.0.0.2", "224.0.0.1", "::", "::1", "ff02::1", "x"] {
            assert!(refused(&format!("{option} {wrong}")).ends_with(&format!(": {wrong}")));
        }
    }
}

#[test]
fn users() {
    assert_eq!(pasta("--runas 0:0").runas, Some(User { uid: 0, gid: 0 }));
    assert_eq!(pasta("--runas nobody:users").runas, Some(User { uid: 65534, gid: 100 }));
    assert_eq!(refused("--runas root"), "Invalid --runas option: root");
}

#[test]
fn namespaces() {
    let said = pasta("--netns-only --userns /proc/1/ns/user --netns x");
    assert!(!said.netns_only && said.userns.is_some());
    let said = pasta("--userns /proc/1/ns/user --netns-only --netns x");
    assert!(said.netns_only && said.userns.is_none());
    assert_eq!(pasta("12345").pid, Some(12345));
    assert_eq!(pasta("-- 999999").pid, Some(999_999));
    assert_eq!(pasta("1 2").command, ["1", "2"]);
    assert_eq!(pasta("./1").command, ["./1"]);
    assert_eq!(refused("2147483648"), "Invalid PID 2147483648");
    assert_eq!(refused("-- -5"), "Invalid PID -5");
    for line in ["--netns x true", "--netns x 1", "--netns x -- 1"] {
        assert_eq!(refused(line), "Both --netns and PID or command given");
    }
    for line in ["--no-pidns 1", "--no-pidns --netns x"] {
        assert_eq!(refused(line), "--no-pidns is incompatible with PID or --netns");
    }
    assert!(pasta("--no-pidns true").no_pidns);
    assert_eq!(refused("--no-copy-routes"), "--no-copy-routes needs --config-net");
    assert_eq!(refused("--no-copy-addrs"), "--no-copy-addrs needs --config-net");
    assert!(pasta("--no-copy-addrs --config-net").no_copy_addrs);
}

#[test]
fn statistics_need_the_foreground() {
    const WRONG: &str = "Can't display statistics if not running in foreground";
    assert_eq!(refused("--stats 1 --netns x"), WRONG);
    assert_eq!(refused("--stats 1 5"), WRONG);
    assert_eq!(pasta("--stats 1 -f 5").stats, Some(1));
    assert_eq!(pasta("-f --stats 1 5").stats, Some(1));
    assert_eq!(pasta("--stats 1 true").stats, Some(1));
    assert_eq!(pasta("--stats 0 5").stats, Some(0));
    assert_eq!(refused("-f --stats x"), "Invalid statistics delay: x");
}

#[test]
fn warnings_survive_a_refusal() {
    let mut warnings = Vec::new();
    let args = ["-e", "-m", "x"].map(OsString::from);
    command_line(Mode::Pasta, "pasta", args, &Fake, &mut warnings).unwrap_err();
    assert_eq!(warnings, ["--stderr will be dropped soon"]);
}

#[test]
fn personalities_keep_their_options() {
    let passt = |args: &[&str]| request(Mode::Passt, args).unwrap_err().line;
    assert_eq!(passt(&["--dhcp-dns"]), "--dhcp-dns is for pasta mode only");
    assert_eq!(passt(&["-T", "none"]), "-T is for pasta mode only");
    assert_eq!(passt(&["-f", "extra"]), "Extra non-option argument: extra");
    assert_eq!(refused("--no-dhcp-dns"), "--no-dhcp-dns is for passt mode only");
    assert_eq!(refused("-s x"), "-s is for passt / vhost-user mode only");
    assert_eq!(refused("-1"), "-1 is for passt mode only");
    assert_eq!(refused("--migrate-exit"), "--migrate-exit is for vhost-user mode only");
}

#[test]
fn ports_are_recorded_in_order() {
    let said = pasta("-t none --udp-ns=auto -t8080:80 -T 1 -c /run/x --freebind --no-splice");
    let forwards: Vec<_> = said
        .forwards
        .iter()
        .map(|given| (given.pif, given.protocol, given.option.as_str(), given.value.as_str()))
        .collect();
    assert_eq!(
        forwards,
        [
            (Pif::Host, Protocol::Tcp, "-t", "none"),
            (Pif::Splice, Protocol::Udp, "--udp-ns", "auto"),
            (Pif::Host, Protocol::Tcp, "-t", "8080:80"),
            (Pif::Splice, Protocol::Tcp, "-T", "1"),
        ]
    );
    assert_eq!(said.conf_path.as_deref(), Some(Path::new("/run/x")));
    assert!(said.freebind && said.no_splice && !said.splice_only && !said.host_lo_to_ns_lo);
    assert_eq!(
        refused("--splice-only --no-splice"),
        "--splice-only is incompatible with --no-splice"
    );
    let long = "x".repeat(108);
    assert_eq!(refused(&format!("-c {long}")), format!("Invalid configuration path: {long}"));
}

#[test]
fn the_rest_is_refused_by_name() {
    for flag in flags::all().filter(|flag| !flag.available()) {
        let value = if flag.takes_value() { "=1" } else { "" };
        for mode in [Mode::Passt, Mode::Pasta] {
            let args = [format!("--{}{value}", flag.long)];
            let refusal = request(mode, &[&args[0]]).unwrap_err();
            assert!(refusal.line.starts_with(&format!("--{} is ", flag.long)), "{refusal:?}");
            assert!(!refusal.usage);
            assert_eq!(refusal.line.lines().count(), 1);
        }
    }
}

#[test]
fn both_families_in_one_line() {
    assert_eq!(pasta("-4 -6").families, Families::Ipv6);
    assert_eq!(pasta("-6 -4").families, Families::Ipv4);
}

/// As Podman, Buildah and RootlessKit type them.
#[test]
fn lines_of_real_callers() {
    const PODMAN: &str = "--dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
                          --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2";
    let said = pasta(&format!("--config-net {PODMAN}"));
    assert!(said.config_net && said.quiet && said.no_map_gw);
    assert_eq!(said.netns.unwrap(), Path::new("/run/user/1000/netns/netns-1"));
    assert_eq!(said.dns.forward4, Some("169.254.1.1".parse().unwrap()));
    assert_eq!(said.map_guest_addr.v4, Some("169.254.1.2".parse().unwrap()));

    for accepted in [
        "--config-net -a 10.0.2.0 -n 24 -g 10.0.2.2 --dns-forward 10.0.2.3 -t none -u none -T none -U none \
         --no-map-gw --quiet --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2",
        "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --quiet \
         --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2",
        "--config-net --pid /run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid \
         --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
         --netns /run/user/1000/containers/networks/rootless-netns/rootless-netns \
         --map-guest-addr 169.254.1.2",
        "--config-net --pcap /tmp/x.pcap --dns-forward 169.254.1.1 -t none -u none -T none -U none \
         --no-map-gw --quiet --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2",
        "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
         --netns /proc/4711/ns/net --map-guest-addr 169.254.1.2",
        "--config-net --mtu 1300 --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw \
         --quiet --netns /proc/4711/ns/net --map-guest-addr 169.254.1.2",
        "--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra --address=10.0.2.100 \
         --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --ipv4-only --tcp-ports=none \
         --udp-ports=none 4711",
        "--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra --address=10.0.2.100 \
         --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=none \
         --udp-ports=none 4711",
        "--foreground --stderr --ns-ifname=tapx --mtu=1400 --no-dhcp --no-ra --address=10.77.0.100 \
         --netmask=24 --gateway=10.77.0.2 --dns-forward=10.77.0.3 --ipv4-only --tcp-ports=none \
         --udp-ports=none 4711",
        "--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra --address=10.0.2.100 \
         --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --tcp-ports=none --udp-ports=none 4711",
        "--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra --address=10.0.2.100 \
         --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --ipv4-only --tcp-ports=none \
         --udp-ports=none --userns=/proc/4711/ns/user --netns=/proc/4711/root/tmp/rk7/netns",
        "--quiet --foreground --config-net --gateway 10.0.2.2 --address 10.0.2.15 --netmask 255.255.255.0 \
         --dns-forward 10.0.2.3 --gateway 64:ff9b:1:4b8e::2 --address 64:ff9b:1:4b8e::15 \
         --dns-forward 64:ff9b:1:4b8e::3 --ns-ifname eth0 --no-netns-quit --netns /proc/self/fd/0 \
         --userns /proc/self/fd/7",
        "--map-host-loopback none --map-guest-addr none -T none -U none -t none -u none --no-map-gw \
         --foreground --quiet --no-netns-quit 4711",
    ] {
        let said = pasta(accepted);
        assert!(said.pid.is_some() || said.netns.is_some(), "{accepted}");
    }

    for line in [
        "--config-net -u 127.0.0.1/5353-5353:53-53 -t 8080-8080:80-80 --netns x",
        "--config-net -t ::1/8081-8081:80-80 -u none --netns x",
        "--config-net -T 7777 --mtu 1400 --netns x",
        "--foreground --stderr --ipv4-only --tcp-ports=auto --udp-ports=auto 4711",
    ] {
        assert!(!pasta(line).forwards.is_empty(), "{line}");
    }
}

proptest! {
    #[test]
    fn no_command_line_panics(args in proptest::collection::vec(any_word(), 0..8), passt in any::<bool>()) {
        let mode = if passt { Mode::Passt } else { Mode::Pasta };
        let outcome = command_line(mode, "pasta", args, &Fake, &mut Vec::new());
        if let Err(refusal) = outcome {
            prop_assert!(!refusal.line.is_empty());
        }
    }
}

/// Words near what options look like, and arbitrary bytes.
fn any_word() -> impl Strategy<Value = OsString> {
    use std::os::unix::ffi::OsStringExt;

    let names: Vec<String> = flags::all()
        .flat_map(|flag| {
            let short = flag.short.map(|name| format!("-{name}"));
            flag.names().map(|name| format!("--{name}")).chain(short).collect::<Vec<_>>()
        })
        .collect();
    let value = prop_oneof![
        "[0-9a-fx:./%-]{0,20}",
        "none|auto|eth0|nobody:users|::/0|1.2.3.4/24",
        ".{0,12}"
    ];
    prop_oneof![
        proptest::sample::select(names.clone()).prop_map(OsString::from),
        (proptest::sample::select(names), value.clone())
            .prop_map(|(n, v)| format!("{n}={v}").into()),
        value.prop_map(OsString::from),
        proptest::collection::vec(any::<u8>(), 0..10).prop_map(OsString::from_vec),
    ]
}

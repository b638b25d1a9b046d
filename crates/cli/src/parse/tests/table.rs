//! The command line option by option: where each one exists, how it is spelled, what its value may be, and
//! what counts when it is there several times.

use std::collections::BTreeSet;

use super::*;
use crate::flags::all;

/// What of several counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Several {
    /// The last one.
    Last,
    /// The last one of each family. The first two good values are IPv4, the third is IPv6.
    Family,
    /// All of them, in their order.
    Each,
}

use Several::{Each, Family, Last};

/// Values that are refused, and the line that says so, in which `{}` stands for the value.
type Bad = (&'static str, &'static [&'static str]);

/// What is to hold for an option.
struct Row {
    /// Its long names and its short one, divided by spaces.
    names: &'static str,
    /// Where it exists: `p`asst, `v`host-user, p`a`sta.
    modes: &'static str,
    several: Several,
    /// Values; none for an option that takes none.
    good: &'static [&'static str],
    bad: &'static [Bad],
}

/// An option without a value.
const fn switch(names: &'static str, modes: &'static str) -> Row {
    Row { names, modes, several: Last, good: &[], bad: &[] }
}

/// An option with one.
const fn value(
    names: &'static str,
    modes: &'static str,
    several: Several,
    good: &'static [&'static str],
    bad: &'static [Bad],
) -> Row {
    Row { names, modes, several, good, bad }
}

const PATHS: &[&str] = &["/a", "b"];
const NO_MAC: &[&str] = &[
    "",
    "1",
    "52:55:0:0:0:1",
    "52:55:00:00:00:00:00",
    "52-55-00-00-00-00",
    "52:55:00:00:00:0g",
    "52:55:00:00:00:00 ",
    "0x:55:00:00:00:00",
];
const MACS: &[&str] = &["52:55:00:00:00:aB", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"];
const NO_DESCRIPTOR: &[&str] = &["", "x", "-1", "5x", "5 ", "2147483648"];
const NO_MAPPING: &[&str] = &[
    "",
    "x",
    "None",
    "0.0.0.0",
    "127.0.0.2",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "ff02::1",
    "[2001:db8::1]",
];

const ROWS: &[Row] = &[
    // Process, logging, files.
    switch("debug d", "pva"),
    switch("trace", "pva"),
    value(
        "stats",
        "pva",
        Last,
        &["1", "2", "0", "0x10", "010", " 5"],
        &[("Invalid statistics delay: {}", &["", "x", "1x", "-1", "4294967296"])],
    ),
    switch("quiet q", "pva"),
    switch("foreground f", "pva"),
    switch("stderr e", "pva"),
    value("log-file l", "pva", Last, PATHS, &[("Invalid log file path: {}", &[""])]),
    value(
        "log-size",
        "pva",
        Last,
        &["40960", "1048576", "0xa000", "0120000", " 40960"],
        &[(
            "Invalid --log-size: {}",
            &["", "100", "40959", "40960x", "40960 ", "x", "18446744073709551616"],
        )],
    ),
    value(
        "runas",
        "pva",
        Last,
        &["1000", "nobody", "0", "0x10:8", "nobody:users", "nobody:0", "0:0"],
        &[(
            "Invalid --runas option: {}",
            &["", "root", "nosuch", "1000:", "1000:x", ":", ":5", "-1", "1000 ", "4294967295"],
        )],
    ),
    value("conf-path c", "pva", Last, PATHS, &[("Invalid configuration path: {}", &[""])]),
    switch("help h", "pva"),
    switch("version", "pva"),
    switch("doctor", "pva"),
    value("pcap p", "pva", Last, PATHS, &[("Invalid pcap path: {}", &[""])]),
    value("pid P", "pva", Last, PATHS, &[("Invalid PID file: {}", &[""])]),
    value("ready-fd", "pva", Last, &["5", "6"], &[("Invalid --ready-fd: {}", NO_DESCRIPTOR)]),
    switch("chroot-fallback", "pva"),
    // The hypervisor.
    value("socket socket-path s", "pv", Last, PATHS, &[("Invalid socket path: {}", &[""])]),
    switch("vhost-user", "pva"),
    switch("print-capabilities", "pva"),
    value(
        "repair-path",
        "pva",
        Last,
        &["none"],
        &[("--repair-path is for vhost-user mode only", &["", "./none", "x", "None"])],
    ),
    switch("migrate-exit", "v"),
    switch("migrate-no-linger", "v"),
    value("fd F", "pv", Last, &["5", "0", "0x6", " 7"], &[("Invalid --fd: {}", NO_DESCRIPTOR)]),
    switch("one-off 1", "pv"),
    // Addresses, routes, mappings.
    value(
        "mtu m",
        "pva",
        Last,
        &["1500", "0", "67", "65521", "0x5dc", "02734", " 1500", "+1500"],
        &[
            ("MTU {} too large (max 65521)", &["65522", "65535", "65536", "4294968796"]),
            ("Invalid MTU: {}", &["", "12x", "x", "08", "1500 ", "1500.0", "99999999999999999999"]),
        ],
    ),
    value(
        "address a",
        "pva",
        Family,
        &[
            "192.0.2.5",
            "192.0.2.6/24",
            "2001:db8::1",
            "192.0.2.5/0",
            "192.0.2.5/32",
            "[192.0.2.5]",
            "[192.0.2.5]/24",
            "[2001:db8::1]",
            "[2001:db8::1]/64",
            "2001:db8::1/0",
            "2001:db8::1/128",
            "::ffff:192.0.2.5",
            "::ffff:192.0.2.5/96",
            "::ffff:192.0.2.5/128",
            "::192.0.2.5",
            "fe80::1",
            "240.0.0.1",
        ],
        &[
            (
                "Invalid guest address: {}",
                &[
                    "",
                    "x",
                    "none",
                    "1.2.3",
                    "01.2.3.4",
                    "1.2.3.4 ",
                    "[1.2.3.4",
                    "1.2.3.4]",
                    "[192.0.2.5/24]",
                    "fe80::1%eth0",
                    "0.0.0.0",
                    "127.0.0.1",
                    "224.0.0.1",
                    "255.255.255.255",
                    "::",
                    "::1",
                    "ff02::1",
                    "::ffff:127.0.0.1",
                    "127.0.0.1/8",
                ],
            ),
            (
                "Invalid prefix length: {}",
                &[
                    "192.0.2.5/",
                    "192.0.2.5/33",
                    "192.0.2.5/-1",
                    "192.0.2.5/24x",
                    "192.0.2.5/0x18",
                    "192.0.2.5/24/25",
                    "192.0.2.5/255.255.255.0",
                    "::ffff:192.0.2.5/95",
                    "::ffff:192.0.2.5/129",
                    "2001:db8::1/129",
                ],
            ),
        ],
    ),
    value(
        "netmask n",
        "pva",
        Last,
        &["24", "16", "255.255.240.0", "0", "32", "0x18", "030", "255.255.255.255", "0.0.0.0"],
        &[(
            "Invalid prefix length: {}",
            &[
                "",
                "33",
                "-1",
                "x",
                "24x",
                "24 ",
                "256",
                "4294967320",
                "255.0.255.0",
                "0.0.0.1",
                "255.255.255",
                "none",
                "ffff::",
            ],
        )],
    ),
    value("mac-addr M", "pva", Last, MACS, &[("Invalid MAC address: {}", NO_MAC)]),
    value(
        "gateway g",
        "pva",
        Family,
        &["10.0.2.2", "10.0.2.3", "fe80::1", "0.0.0.1", "2001:db8::1"],
        &[(
            "Invalid gateway address: {}",
            &[
                "",
                "gw",
                "none",
                "0.0.0.0",
                "127.1.2.3",
                "255.255.255.255",
                "::",
                "::1",
                "10.0.2.2/24",
                "[fe80::1]",
                "fe80::1%eth0",
            ],
        )],
    ),
    value(
        "interface i",
        "pva",
        Last,
        &["eth0", "eth1"],
        &[(
            "Invalid interface name {}: No such device",
            &["", "nosuch", "eth0 ", "sixteen-letters-"],
        )],
    ),
    value(
        "outbound o",
        "pva",
        Family,
        &["192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1", "fe80::1"],
        &[(
            "Invalid or redundant outbound address: {}",
            &[
                "",
                "x",
                "0.0.0.0",
                "224.0.0.1",
                "255.255.255.255",
                "::",
                "::1",
                "::ffff:192.0.2.1",
                "::192.0.2.1",
                "ff02::1",
                "192.0.2.1/24",
            ],
        )],
    ),
    value(
        "outbound-if4",
        "pva",
        Last,
        &["nosuch", "lo", "fifteen-letters"],
        &[("Invalid interface name: {}", &["", "sixteen-letters-"])],
    ),
    value(
        "outbound-if6",
        "pva",
        Last,
        &["nosuch", "lo", "fifteen-letters"],
        &[("Invalid interface name: {}", &["", "sixteen-letters-"])],
    ),
    value(
        "map-host-loopback",
        "pva",
        Family,
        &["192.0.2.1", "192.0.2.2", "2001:db8::1", "none"],
        &[("Invalid address to remap to host: {}", NO_MAPPING)],
    ),
    switch("no-map-gw", "pva"),
    value(
        "map-guest-addr",
        "pva",
        Family,
        &["192.0.2.1", "192.0.2.2", "2001:db8::1", "none"],
        &[("Invalid address to remap to host: {}", NO_MAPPING)],
    ),
    switch("ipv4-only 4", "pva"),
    switch("ipv6-only 6", "pva"),
    // What the guest is told.
    value(
        "dns D",
        "pva",
        Each,
        &["192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.53", "::1", "none"],
        &[(
            "Invalid DNS address: {}",
            &[
                "",
                "x",
                "None",
                "[::1]",
                "fe80::1%eth0",
                "192.0.2.1,192.0.2.2",
                "192.0.2.1 192.0.2.2",
            ],
        )],
    ),
    value(
        "dns-forward",
        "pva",
        Family,
        &["192.0.2.1", "192.0.2.2", "2001:db8::1"],
        &[(
            "Invalid DNS forwarding address: {}",
            &["", "x", "none", "0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1"],
        )],
    ),
    value(
        "dns-host",
        "pva",
        Family,
        &["192.0.2.1", "127.0.0.53", "2001:db8::1", "::1"],
        &[(
            "Invalid host nameserver address: {}",
            &["", "x", "none", "0.0.0.0", "255.255.255.255", "::"],
        )],
    ),
    value(
        "search S",
        "pva",
        Each,
        &["a.example", "b.example", "a.example b.example", "none", "none."],
        &[
            ("Invalid search domain: {}", &["", " "]),
            ("Too many search domains: {}", &["a b c d e f g"]),
        ],
    ),
    switch("dhcp-dns", "a"),
    switch("no-dhcp-dns", "pv"),
    switch("dhcp-search", "a"),
    switch("no-dhcp-search", "pv"),
    value("hostname H", "pva", Last, &["a", "b.example", ""], &[]),
    value("fqdn", "pva", Last, &["a", "b.example", ""], &[]),
    switch("no-tcp", "pva"),
    switch("no-udp", "pva"),
    switch("no-icmp", "pva"),
    switch("no-dhcp", "pva"),
    switch("no-dhcpv6", "pva"),
    switch("no-ndp", "pva"),
    switch("no-ra", "pva"),
    // Ports. Their values are looked at later, see `crate::spec`.
    value("tcp-ports t", "pva", Each, &["80", "none"], &[]),
    value("udp-ports u", "pva", Each, &["80", "none"], &[]),
    value("tcp-ns T", "a", Each, &["80", "none"], &[]),
    value("udp-ns U", "a", Each, &["80", "none"], &[]),
    switch("freebind", "pva"),
    switch("host-lo-to-ns-lo", "a"),
    switch("no-splice", "pva"),
    switch("splice-only", "a"),
    // The namespace.
    value(
        "ns-ifname I",
        "a",
        Last,
        &["tap1", "tap2", "fifteen-letters"],
        &[("Invalid interface name: {}", &["", "sixteen-letters-"])],
    ),
    value("ns-mac-addr", "a", Last, MACS, &[("Invalid MAC address: {}", NO_MAC)]),
    value("netns", "a", Last, &["a", "/b", "./c"], &[("Invalid network namespace: {}", &[""])]),
    value("userns", "a", Last, PATHS, &[("Invalid userns: {}", &[""])]),
    switch("netns-only", "a"),
    switch("no-pidns", "a"),
    switch("no-netns-quit", "a"),
    switch("config-net", "a"),
    switch("no-copy-routes", "a"),
    switch("no-copy-addrs", "a"),
];

impl Row {
    /// Its names with their dashes.
    fn names(&self) -> impl Iterator<Item = String> {
        let dashes = |name: &str| if name.len() == 1 { "-" } else { "--" };
        self.names.split(' ').map(move |name| format!("{}{name}", dashes(name)))
    }

    fn exists(&self, mode: char) -> bool {
        self.modes.contains(mode)
    }

    /// A name under which it exists, if it can be used at all in this version.
    fn mode(&self) -> Option<Mode> {
        match (self.exists('a'), self.exists('p')) {
            (true, _) => Some(Mode::Pasta),
            (false, true) => Some(Mode::Passt),
            (false, false) => None,
        }
    }

    /// Every way to write it with a value.
    fn forms(&self, value: &str) -> Vec<Vec<String>> {
        self.names()
            .flat_map(|name| {
                let joint = if name.starts_with("--") { "=" } else { "" };
                let attached = format!("{name}{joint}{value}");
                // What follows a short option without anything between is the next argument.
                let attached =
                    (name.starts_with("--") || !value.is_empty()).then(|| vec![attached]);
                attached.into_iter().chain([vec![name, value.to_owned()]])
            })
            .collect()
    }
}

/// Whose personality stands for a letter of [`Row::modes`], and what is typed in front.
const PERSONALITIES: [(char, Mode, &[&str]); 3] =
    [('p', Mode::Passt, &[]), ('v', Mode::Passt, &["--vhost-user"]), ('a', Mode::Pasta, &[])];

/// What some options need beside them.
fn more(mode: Mode) -> &'static [&'static str] {
    if mode == Mode::Pasta { &["-f", "--config-net"] } else { &["-f"] }
}

/// What a command line of one personality that needs a few options more says; how options were spelled is
/// forgotten.
fn said(mode: Mode, args: &[&str]) -> Said {
    match request(mode, &[more(mode), args].concat()) {
        Ok(Request::Run(mut said)) => {
            for forward in &mut said.forwards {
                forward.option.clear();
            }
            said.warnings.dedup();
            *said
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn every_option_has_a_row() {
    let names = |names: Vec<&str>, value: bool| (names.join(" "), value);
    let rows: BTreeSet<_> = ROWS
        .iter()
        .map(|row| names(row.names.split(' ').collect(), !row.good.is_empty()))
        .collect();
    let short = |flag: &Flag| flag.short.map(String::from);
    let table: BTreeSet<_> = all()
        .map(|flag| {
            let all: Vec<String> = flag.names().map(str::to_owned).chain(short(flag)).collect();
            names(all.iter().map(String::as_str).collect(), flag.takes_value())
        })
        .collect();
    assert_eq!(rows, table);
    assert_eq!(rows.len(), ROWS.len());
}

#[test]
fn options_exist_where_they_mean_something() {
    for row in ROWS {
        for (letter, mode, before) in PERSONALITIES {
            for name in row.names() {
                let mut args = before.to_vec();
                args.push(&name);
                args.extend(row.good.first());
                // What is not available, or needs another option, has not been found out by then.
                args.push("--version");
                let got = request(mode, &args);
                if row.exists(letter) {
                    assert!(got.is_ok(), "{args:?}: {got:?}");
                    continue;
                }
                let modes = match (row.modes, name.as_str()) {
                    ("pv", "-s" | "--socket" | "--socket-path") => "passt / vhost-user",
                    ("pv", _) => "passt",
                    ("v", _) => "vhost-user",
                    _ => "pasta",
                };
                let line = format!("{name} is for {modes} mode only");
                assert_eq!(got, Err(Refusal::line(line)), "{args:?}");
            }
        }
    }
}

#[test]
fn all_ways_to_write_an_option_mean_the_same() {
    for row in ROWS.iter().filter(|row| row.names.contains(' ')) {
        let Some(mode) = row.mode() else { continue };
        if row.good.is_empty() {
            let all: Vec<_> = row.names().map(|name| request(mode, &["-f", &name])).collect();
            assert!(all[0].is_ok() && all.windows(2).all(|two| two[0] == two[1]), "{all:?}");
            continue;
        }
        for value in row.good {
            let forms = row
                .forms(value)
                .into_iter()
                .map(|words| said(mode, &words.iter().map(String::as_str).collect::<Vec<_>>()));
            let forms: Vec<Said> = forms.collect();
            assert!(forms.windows(2).all(|two| two[0] == two[1]), "{forms:?}");
        }
    }
}

#[test]
fn values() {
    for row in ROWS {
        let Some(mode) = row.mode() else { continue };
        let nothing = said(mode, &[]);
        for value in row.good {
            for words in row.forms(value) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                // None means that nothing was said, for some.
                let idle = ["", "none"].contains(value);
                assert!(idle || said(mode, &words) != nothing, "{words:?}");
            }
        }
        for (line, values) in row.bad {
            for value in *values {
                let wanted = Refusal::line(line.replace("{}", value));
                for words in row.forms(value) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    assert_eq!(request(mode, &words), Err(wanted.clone()), "{words:?}");
                }
                // A good one behind it does not make up for it.
                let (Some(name), Some(good)) = (row.names().next(), row.good.first()) else {
                    continue;
                };
                let words = [name.as_str(), value, name.as_str(), good];
                assert_eq!(request(mode, &words), Err(wanted), "{words:?}");
            }
        }
    }
}

#[test]
fn lengths_of_values() {
    for (name, most, cause) in [
        ("--conf-path", 107, "Invalid configuration path"),
        ("--socket", 107, "Invalid socket path"),
        ("--pcap", 4095, "Invalid pcap path"),
        ("--pid", 4095, "Invalid PID file"),
        ("--log-file", 4095, "Invalid log file path"),
        ("--netns", 4095, "Invalid network namespace"),
        ("--userns", 4095, "Invalid userns"),
        ("--ns-ifname", 15, "Invalid interface name"),
        ("--outbound-if4", 15, "Invalid interface name"),
        ("--outbound-if6", 15, "Invalid interface name"),
        ("--hostname", 253, "Invalid hostname"),
        ("--fqdn", 253, "Invalid FQDN"),
        ("--search", 255, "Invalid search domain"),
    ] {
        let mode = if name == "--socket" { Mode::Passt } else { Mode::Pasta };
        let (longest, longer) = ("x".repeat(most), "x".repeat(most + 1));
        assert!(request(mode, &[name, &longest]).is_ok(), "{name}");
        let wanted = Err(Refusal::line(format!("{cause}: {longer}")));
        assert_eq!(request(mode, &[name, &longer]), wanted);
    }
}

#[test]
fn what_counts_of_several() {
    for row in ROWS {
        let (Some(mode), Some(name)) = (row.mode(), row.names().next()) else { continue };
        let all = |values: &[&str]| -> Said {
            said(mode, &values.iter().flat_map(|value| [name.as_str(), value]).collect::<Vec<_>>())
        };
        match (row.several, row.good) {
            (_, []) => {
                let times =
                    |count| request(mode, &[more(mode), &vec![name.as_str(); count]].concat());
                assert_eq!(times(2), times(1), "{name}");
                let idle = ["--foreground", "--stderr", "--config-net"].contains(&name.as_str());
                assert!(idle || times(1) != times(0), "{name} does nothing");
            }
            (Last, [one]) => assert_eq!(all(&[one, one]), all(&[one]), "{name}"),
            (Last, [one, other, ..]) => assert_eq!(all(&[one, other]), all(&[other]), "{name}"),
            (Each, [one, other, ..]) => {
                assert_ne!(all(&[one, other]), all(&[other, one]), "{name}");
                assert_ne!(all(&[one, one]), all(&[one]), "{name}");
            }
            (Family, [one, other, sixth, ..]) => {
                assert_eq!(all(&[one, other]), all(&[other]), "{name}");
                assert_eq!(all(&[one, sixth]), all(&[sixth, one]), "{name}");
                assert_ne!(all(&[one, sixth]), all(&[sixth]), "{name}");
            }
            (Each | Family, good) => panic!("{name}: {good:?} are too few"),
        }
    }
}

#[test]
fn options_undo_each_other() {
    for (mode, line, meant) in [
        (Mode::Pasta, "-q -d", "-d"),
        (Mode::Pasta, "-d -q", "-q"),
        (Mode::Pasta, "-q --trace", "--trace"),
        (Mode::Pasta, "--trace -q", "-q"),
        (Mode::Pasta, "-d --trace", "--trace"),
        (Mode::Pasta, "--trace -d", "--trace"),
        (Mode::Pasta, "-4 -6", "-6"),
        (Mode::Pasta, "-46 -4", "-4"),
        (Mode::Passt, "-s /a -F 5", "-F 5"),
        (Mode::Passt, "-F 5 -s /a", "-s /a"),
        (Mode::Passt, "-F 5 -F 6", "-F 6"),
        (Mode::Passt, "-s /a --socket-path /b", "-s /b"),
        (Mode::Pasta, "--userns /u --netns-only", "--netns-only"),
        (Mode::Pasta, "--netns-only --userns /u", "--userns /u"),
        (Mode::Pasta, "-D 192.0.2.1 --dns-forward 192.0.2.2 --dns-host ::1 -D none", "-D none"),
        (Mode::Pasta, "-D none -D 192.0.2.1", "-D 192.0.2.1"),
        (Mode::Pasta, "-D none --dns-host ::1", "--dns-host ::1 -D none --dns-host ::1"),
        (Mode::Pasta, "-S a -S b -S none", "-S none"),
        (Mode::Pasta, "-S none -S a", "-S a"),
        (Mode::Pasta, "-S a -S b", "--search=a --sea b"),
        (Mode::Pasta, "--map-guest-addr 192.0.2.1 --map-guest-addr none", ""),
        (Mode::Pasta, "--map-host-loopback 192.0.2.1 --map-host-loopback none", "--no-map-gw"),
        (Mode::Pasta, "-H a -H=", "-H ="),
        (Mode::Pasta, "--hostname a --hostname=", ""),
        (Mode::Pasta, "--fqdn a --fqdn=", ""),
    ] {
        let words = |line: &'static str| line.split_whitespace().collect::<Vec<_>>();
        assert_eq!(said(mode, &words(line)), said(mode, &words(meant)), "{line}");
    }
    // More than three resolvers of a family are dropped, more than six domains are not.
    let resolvers = "-D 192.0.2.1 -D 192.0.2.2 -D 192.0.2.3";
    assert_eq!(pasta(resolvers), pasta(&format!("{resolvers} -D 192.0.2.4")));
    assert_eq!(refused("-S a -S b -S c -S d -S e -S f -S g"), "Too many search domains: g");
}

#[test]
fn combinations() {
    use Mode::{Passt, Pasta};
    for (mode, line, wanted) in [
        // In the order in which they are looked at.
        (
            Pasta,
            "--no-splice --host-lo-to-ns-lo",
            "--host-lo-to-ns-lo is incompatible with --no-splice",
        ),
        (
            Pasta,
            "--host-lo-to-ns-lo --no-copy-addrs --splice-only --no-splice",
            "--host-lo-to-ns-lo is incompatible with --no-splice",
        ),
        (
            Pasta,
            "--splice-only --no-splice --no-copy-addrs --no-copy-routes",
            "--no-copy-routes needs --config-net",
        ),
        (Pasta, "--splice-only --no-splice --no-copy-addrs", "--no-copy-addrs needs --config-net"),
        (Pasta, "--splice-only --no-splice", "--splice-only is incompatible with --no-splice"),
        (Pasta, "--no-pidns 1", "--no-pidns is incompatible with PID or --netns"),
        (Pasta, "--netns x --no-pidns", "--no-pidns is incompatible with PID or --netns"),
        (Pasta, "--netns x true", "Both --netns and PID or command given"),
        (Pasta, "-a 192.0.2.5/24 -n 24", "Redundant prefix length specification"),
        (Pasta, "-n 24 -a 192.0.2.5/24", "Redundant prefix length specification"),
        (Pasta, "-n 24 -a 2001:db8::1/64", "Redundant prefix length specification"),
        (Pasta, "-a 2001:db8::1/64 -n 24", "Redundant prefix length specification"),
        (Pasta, "-n 24 -a 192.0.2.5 -a 192.0.2.6/24", "Redundant prefix length specification"),
        (Passt, "--no-splice --splice-only", "--splice-only is for pasta mode only"),
        (Passt, "--stats 1", "Can't display statistics if not running in foreground"),
        (Passt, "", ""),
        (Passt, "--stats 1 -f", ""),
        (Passt, "-f --stats 1", ""),
        (Passt, "--stats 0", ""),
        (Passt, "--no-splice", ""),
        (Passt, "extra", "Extra non-option argument: extra"),
        (Passt, "-f -- -q", "Extra non-option argument: -q"),
        (Passt, "5", "Extra non-option argument: 5"),
        (Pasta, "-a 192.0.2.5/24 -a 2001:db8::1 -n 24", ""),
        (Pasta, "-a 192.0.2.5/24 -a 192.0.2.6 -n 24", ""),
        (Pasta, "--netns-only --netns x", ""),
        (Pasta, "--config-net --no-copy-routes --no-copy-addrs", ""),
        (Pasta, "--no-pidns --netns-only --userns /u true", ""),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let got = request(mode, &words);
        match wanted {
            "" => assert!(matches!(got, Ok(Request::Run(_))), "{line}: {got:?}"),
            wanted => assert_eq!(got, Err(Refusal::line(wanted)), "{line}"),
        }
    }
}

/// Until it is there, it is refused for itself, and what belongs to it for want of it.
#[test]
fn vhost_user() {
    const UNAVAILABLE: &str = "--vhost-user is not available in this version";
    use Mode::{Passt, Pasta};
    for (mode, line, wanted) in [
        (Passt, "--vhost-user", UNAVAILABLE),
        (Passt, "--vh -s /a", UNAVAILABLE),
        (Pasta, "--vhost-user", UNAVAILABLE),
        (Pasta, "--vhost-user true", UNAVAILABLE),
        (Passt, "--vhost-user extra", UNAVAILABLE),
        (Passt, "--vhost-user --migrate-exit --migrate-no-linger", UNAVAILABLE),
        (Passt, "--repair-path /x --vhost-user", UNAVAILABLE),
        (Passt, "--repair-path none --vhost-user", UNAVAILABLE),
        (Passt, "--repair-path= --vhost-user", "Invalid repair socket path: "),
        (Passt, "--migrate-exit", "--migrate-exit is for vhost-user mode only"),
        (Pasta, "--migrate-exit", "--migrate-exit is for vhost-user mode only"),
        (Passt, "--migrate-no-l", "--migrate-no-linger is for vhost-user mode only"),
        (Passt, "--repair-path /x", "--repair-path is for vhost-user mode only"),
        (Passt, "--migrate-exit --vhost-user", "--migrate-exit is not available in this version"),
        (Passt, "--vhost-user -m x", "Invalid MTU: x"),
        (Passt, "--vhost-user -T none", "-T is for pasta mode only"),
        (Pasta, "--config-net --vhost-user", "--config-net is for pasta mode only"),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(request(mode, &words), Err(Refusal::line(wanted)), "{line}");
    }
    // Asking is free, and the options of a command are its own.
    assert_eq!(
        request(Passt, &["--vhost-user", "--print-capabilities"]),
        Ok(Request::Capabilities)
    );
    assert_eq!(request(Passt, &["--vhost-user", "-h"]), Ok(Request::Help));
    assert_eq!(pasta("sh --vhost-user").command, ["sh", "--vhost-user"]);
}

#[test]
fn what_cuts_things_short() {
    for mode in [Mode::Passt, Mode::Pasta] {
        for (name, wanted) in [
            ("--help", Request::Help),
            ("-h", Request::Help),
            ("-help", Request::Help),
            ("--version", Request::Version),
            ("--print-cap", Request::Capabilities),
            ("--doctor", Request::Doctor),
        ] {
            assert_eq!(request(mode, &[name]), Ok(wanted.clone()));
            assert_eq!(
                request(mode, &[name, "-m", "x", "extra"]),
                Ok(wanted),
                "what follows is free"
            );
            let early = request(mode, &["-m", "x", name]);
            assert_eq!(early, Err(Refusal::line("Invalid MTU: x")), "{name}");
        }
    }
}

#[test]
fn the_arguments_of_pasta() {
    for (args, pid, command) in [
        (&["1"][..], Some(1), 0),
        (&["--", "999999"], Some(999_999), 0),
        (&["2147483647"], Some(i32::MAX), 0),
        (&["--", "+5"], Some(5), 0),
        (&["./1"], None, 1),
        (&["0x10"], None, 1),
        (&["5 "], None, 1),
        (&[""], None, 1),
        (&["-"], None, 1),
        (&["1", "2"], None, 2),
        (&["--", "--"], None, 1),
        (&["sh", "-c", "--", "-q"], None, 4),
        (&["-f"], None, 0),
    ] {
        match request(Mode::Pasta, args) {
            Ok(Request::Run(said)) => {
                assert_eq!((said.pid, said.command.len()), (pid, command), "{args:?}");
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
    for wrong in ["2147483648", "-5", "99999999999999999999", "-99999999999999999999"] {
        let wanted = Err(Refusal::line(format!("Invalid PID {wrong}")));
        assert_eq!(request(Mode::Pasta, &["--", wrong]), wanted);
    }
}

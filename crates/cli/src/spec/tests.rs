use proptest::prelude::*;
use stack::rule::{Capabilities, Pif, Protocol, Rule, Table};

use super::*;

const ALL: Capabilities = Capabilities::ALL;

fn ephemeral() -> Ephemeral {
    Ephemeral(32_768..=60_999)
}

fn rules_for(pif: Pif, caps: Capabilities, text: &str) -> Result<Vec<Rule>, String> {
    let option = if pif == Pif::Host { "-t" } else { "-T" };
    let ephemeral = ephemeral();
    let expansion =
        Expansion { option, text, protocol: Protocol::Tcp, pif, caps, ephemeral: &ephemeral };
    expansion.rules()
}

/// The rules of `-t TEXT`, as they are shown.
fn shown(text: &str) -> Vec<String> {
    let rules = rules_for(Pif::Host, ALL, text).unwrap();
    rules.iter().map(|rule| rule.to_string().trim_end().to_owned()).collect()
}

/// Every specifier that the documentation of the C implementation has, and what it stands for.
#[test]
fn documented_specifiers() {
    let auto = "(best effort) (auto-scan)";
    for (text, expected) in [
        (
            "all",
            &[
                "TCP [*]:1-32767  =>  1-32767  (best effort)",
                "TCP [*]:61000-65535  =>  61000-65535  (best effort)",
            ][..],
        ),
        (
            "::1/all",
            &[
                "TCP [::1]:1-32767  =>  1-32767  (best effort)",
                "TCP [::1]:61000-65535  =>  61000-65535  (best effort)",
            ],
        ),
        ("22", &["TCP [*]:22  =>  22"]),
        ("22:23", &["TCP [*]:22  =>  23"]),
        ("22,25", &["TCP [*]:22  =>  22", "TCP [*]:25  =>  25"]),
        ("22-80", &["TCP [*]:22-80  =>  22-80"]),
        ("22-80:32-90", &["TCP [*]:22-80  =>  32-90"]),
        ("192.0.2.1/22", &["TCP [192.0.2.1]:22  =>  22"]),
        ("192.0.2.1%eth0/22", &["TCP [192.0.2.1]%eth0:22  =>  22"]),
        ("%eth0/22", &["TCP [*]%eth0:22  =>  22"]),
        ("0.0.0.0/5000:192.0.2.5/6000", &["TCP [0.0.0.0]:5000  =>  192.0.2.5:6000"]),
        (
            "127.0.0.6/all:192.0.2.6",
            &[
                "TCP [127.0.0.6]:1-32767  =>  192.0.2.6:1-32767  (best effort)",
                "TCP [127.0.0.6]:61000-65535  =>  192.0.2.6:61000-65535  (best effort)",
            ],
        ),
        (
            "2000-5000,~3000-3010",
            &["TCP [*]:2000-2999  =>  2000-2999", "TCP [*]:3011-5000  =>  3011-5000"],
        ),
        (
            "192.0.2.1/20-30,~25",
            &["TCP [192.0.2.1]:20-24  =>  20-24", "TCP [192.0.2.1]:26-30  =>  26-30"],
        ),
        (
            "~20000-20010",
            &[
                "TCP [*]:1-19999  =>  1-19999  (best effort)",
                "TCP [*]:20011-32767  =>  20011-32767  (best effort)",
                "TCP [*]:61000-65535  =>  61000-65535  (best effort)",
            ],
        ),
        (
            "auto",
            &[
                &format!("TCP [*]:1-32767  =>  1-32767  {auto}"),
                &format!("TCP [*]:61000-65535  =>  61000-65535  {auto}"),
            ],
        ),
        (
            "::1/auto",
            &[
                &format!("TCP [::1]:1-32767  =>  1-32767  {auto}"),
                &format!("TCP [::1]:61000-65535  =>  61000-65535  {auto}"),
            ],
        ),
        ("8000-8010,auto", &["TCP [*]:8000-8010  =>  8000-8010  (auto-scan)"]),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn further_specifiers() {
    for (text, expected) in [
        ("*/8081", "TCP [*]:8081  =>  8081"),
        ("/8083", "TCP [*]:8083  =>  8083"),
        ("*%lo/8084", "TCP [*]%lo:8084  =>  8084"),
        ("[::1]/80", "TCP [::1]:80  =>  80"),
        ("[192.0.2.1]/80", "TCP [192.0.2.1]:80  =>  80"),
        ("::ffff:192.0.2.1/80", "TCP [192.0.2.1]:80  =>  80"),
        ("::/8000:[2001:db8::1]/80", "TCP [::]:8000  =>  2001:db8::1:80"),
        ("::/22:2001:db8::1/80", "TCP [::]:22  =>  2001:db8::1:80"),
        ("0.0.0.0/2223:192.0.2.3", "TCP [0.0.0.0]:2223  =>  192.0.2.3:2223"),
        ("8080-8080:80-80", "TCP [*]:8080  =>  80"),
        ("33000", "TCP [*]:33000  =>  33000"),
        ("203.0.113.2/4000-4009:5000-5009,~4005", "TCP [203.0.113.2]:4000-4004  =>  5000-5004"),
    ] {
        assert_eq!(shown(text)[0], expected, "{text}");
    }
    let remapped = shown("4000-4009:5000-5009,~4005");
    assert_eq!(remapped[1], "TCP [*]:4006-4009  =>  5006-5009", "ports keep their targets");
    assert_eq!(rules_for(Pif::Host, ALL, "none"), Ok(Vec::new()));
}

/// The ports that are named are strict, the others are tried.
#[test]
fn all_and_ports() {
    assert_eq!(
        shown("22000-22001:80-81,all,~10"),
        [
            "TCP [*]:22000-22001  =>  80-81",
            "TCP [*]:1-9  =>  1-9  (best effort)",
            "TCP [*]:11-21999  =>  11-21999  (best effort)",
            "TCP [*]:22002-32767  =>  22002-32767  (best effort)",
            "TCP [*]:61000-65535  =>  61000-65535  (best effort)",
        ]
    );
}

#[test]
fn nonsense_is_named() {
    for text in [
        "70000",
        "22,",
        "",
        "65535-65536",
        "22-20",
        "22-24:30-31",
        "22:30-31",
        "80x",
        "300.1.1.1/80",
        "./80",
        "22-24:30",
        "~22:23",
        "all:80",
        "auto:80",
        "+22",
        " 22",
        "22 ",
        "a%b/c",
        "%/80",
        "1.2.3.4%/80",
        "%sixteen-bytes-xx/80",
        "none,22",
        "~",
        "-",
        ":",
        "/",
        "22:",
        "22:192.0.2.1/",
        "[::1/80",
        "*:80",
        "é",
        "22/23",
        "%a b/22",
    ] {
        let wrong = format!("Invalid port specifier '{text}'");
        assert_eq!(rules_for(Pif::Host, ALL, text), Err(wrong), "{text}");
    }
}

#[test]
fn what_the_server_cannot_do_is_refused() {
    let no_scan = Capabilities { scan: false, ..ALL };
    let error = rules_for(Pif::Host, no_scan, "auto").unwrap_err();
    assert!(error.contains("'auto' port forwarding is only allowed for pasta"), "{error}");
    let no_device = Capabilities { device: false, ..ALL };
    let error = rules_for(Pif::Host, no_device, "%eth0/22").unwrap_err();
    assert!(error.contains("unsupported (requires kernel 5.7+)"), "{error}");
    let error = rules_for(Pif::Splice, ALL, "127.0.0.1/80").unwrap_err();
    assert_eq!(error, "Listening address not allowed for -T 127.0.0.1/80");
    assert!(rules_for(Pif::Splice, ALL, "/80").is_err());
}

#[test]
fn the_namespaces_loopback() {
    let shown = |caps| {
        let rules = rules_for(Pif::Splice, caps, "80").unwrap();
        rules.iter().map(|rule| rule.to_string().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(ALL), ["TCP [*]%lo:80  =>  80"]);
    let v4_only = Capabilities { ipv6: false, ..ALL };
    assert_eq!(shown(v4_only), ["TCP [0.0.0.0]%lo:80  =>  80"]);
    let no_device = Capabilities { device: false, ..ALL };
    assert_eq!(shown(no_device), ["TCP [127.0.0.1]:80  =>  80", "TCP [::1]:80  =>  80"]);
    assert_eq!(shown(Capabilities { device: false, ..v4_only }), ["TCP [127.0.0.1]:80  =>  80"]);
}

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(|words| IpAddr::from(words).to_canonical()),
        Just(IpAddr::from([0, 0, 0, 0])),
    ]
}

fn a_range() -> impl Strategy<Value = PortRange> {
    let port = prop_oneof![any::<u16>(), 1u16..30];
    (port.clone(), port).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
}

fn a_chunk() -> impl Strategy<Value = Chunk> {
    let ports = (a_range(), proptest::option::of(an_address()), any::<Option<u16>>()).prop_map(
        |(from, target, to)| {
            let to = to.and_then(|first| {
                Some(PortRange { first, last: first.checked_add(from.last - from.first)? })
            });
            Chunk::Ports { from, target, to }
        },
    );
    prop_oneof![
        4 => ports,
        2 => a_range().prop_map(Chunk::Exclude),
        1 => Just(Chunk::Auto),
        1 => proptest::option::of(an_address()).prop_map(|target| Chunk::All { target }),
    ]
}

fn a_spec() -> impl Strategy<Value = Spec> {
    let device = proptest::option::of("[a-z][a-z0-9.]{0,14}");
    let listen = (proptest::option::of(an_address()), device)
        .prop_map(|(address, device)| Listening { address, device });
    (proptest::option::of(listen), proptest::collection::vec(a_chunk(), 1..6))
        .prop_map(|(listen, chunks)| Spec::Ports { listen, chunks })
}

proptest! {
    #[test]
    fn printed_and_read_again_it_is_the_same(spec in a_spec()) {
        prop_assert_eq!(spec.to_string().parse::<Spec>(), Ok(spec));
    }

    #[test]
    fn no_text_is_too_odd(text in "[0-9a-z:/,~*%\\[\\].-]{0,40}|.{0,20}") {
        if let Ok(spec) = text.parse::<Spec>() {
            prop_assert_eq!(spec.to_string().parse::<Spec>(), Ok(spec));
        }
    }

    /// Against sets of ports: what is named is there unless it is excluded, with its target; with "all"
    /// or nothing named, so is everything else that is not ephemeral.
    #[test]
    fn rules_are_what_was_said(chunks in proptest::collection::vec(a_chunk(), 1..6)) {
        let spec = Spec::Ports { listen: None, chunks: chunks.clone() };
        let rules = rules_for(Pif::Host, ALL, &spec.to_string()).unwrap();
        let excluded = |port: u16| chunks.iter().any(|chunk| matches!(
            chunk, Chunk::Exclude(range) if (range.first..=range.last).contains(&port)));
        let named = |port: u16| chunks.iter().filter_map(move |chunk| match chunk {
            Chunk::Ports { from, to, .. } if (from.first..=from.last).contains(&port) => {
                Some(to.unwrap_or(*from).first + (port - from.first))
            }
            Chunk::Ports { .. } | Chunk::All { .. } | Chunk::Auto | Chunk::Exclude(_) => None,
        });
        let everything = chunks.iter().any(|chunk| matches!(chunk, Chunk::All { .. }))
            || !chunks.iter().any(|chunk| matches!(chunk, Chunk::Ports { .. }));
        for port in (0..=300).chain([32767, 32768, 60999, 61000, 65534, 65535]) {
            let mut expected: Vec<(u16, bool)> =
                named(port).map(|to| (to, false)).filter(|_| !excluded(port)).collect();
            let ephemeral = ephemeral().0.contains(&port);
            if everything && expected.is_empty() && !excluded(port) && !ephemeral && port > 0
                && named(port).next().is_none()
            {
                expected.push((port, true));
            }
            let mut found: Vec<(u16, bool)> = rules
                .iter()
                .filter(|rule| (rule.first..=rule.last).contains(&port))
                .map(|rule| (rule.target_port(port), rule.best_effort))
                .collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected, "port {}", port);
        }
    }

    /// A set of rules as it is shown is the set of rules.
    #[test]
    fn tables_printed_and_read_again_are_the_same(specs in proptest::collection::vec(a_spec(), 1..8)) {
        let mut table = Table::default();
        for spec in &specs {
            for rule in rules_for(Pif::Host, ALL, &spec.to_string()).unwrap() {
                let _ = table.add(rule, ALL);
            }
        }
        let read: Vec<Rule> =
            table.rules().iter().map(|rule| rule.to_string().parse().unwrap()).collect();
        prop_assert_eq!(&read[..], table.rules());
    }
}

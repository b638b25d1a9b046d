//! Our pasta and pesto beside those of the C implementation that Debian packages: each client with each
//! server, and the ports that both follow.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::rules::{Served, our_client, sockets, their_client};
use e2e::{Case, SHORT, matrix};
use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;
use testkit::{Pasta, PastaBuilder, Place, wait_for};

matrix!(once:
    ours_to_ours, ours_to_theirs, theirs_to_ours, theirs_to_theirs, automatic_ports,
);

fn ours_to_ours(case: &Case<'_>) -> Result<()> {
    pairing(case, Whose::Ours, Whose::Ours)
}

fn ours_to_theirs(case: &Case<'_>) -> Result<()> {
    pairing(case, Whose::Ours, Whose::Theirs)
}

fn theirs_to_ours(case: &Case<'_>) -> Result<()> {
    pairing(case, Whose::Theirs, Whose::Ours)
}

fn theirs_to_theirs(case: &Case<'_>) -> Result<()> {
    pairing(case, Whose::Theirs, Whose::Theirs)
}

/// Which implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
}

impl Whose {
    fn pasta<'r>(self, case: &Case<'r>) -> Result<PastaBuilder<'r>> {
        match self {
            Self::Ours => case.pasta(),
            Self::Theirs => case.rig.debian_pasta(),
        }
    }

    fn start(self, case: &Case<'_>, options: &str) -> Result<Pasta> {
        let words: Vec<&str> = options.split_whitespace().collect();
        self.pasta(case)?.args(&["--config-net"]).args(&words).start_hold()
    }

    fn pesto(self, case: &Case<'_>) -> Result<Vec<String>> {
        match self {
            Self::Ours => our_client(case),
            Self::Theirs => their_client(case),
        }
    }
}

const START: &str = "-t 8000 -u 5300 -T 9000 -U 9001 -c /run/rig/tmp/control";

/// Arguments of a client, and either all the rules then, or how its refusal begins.
type Step = (&'static str, Result<&'static [&'static str], &'static str>);

const STEPS: &[Step] = &[
    (
        "-A -t 8001-8003:9001-9003",
        Ok(&[
            "HOST",
            "HOST TCP [*]:8000  =>  8000",
            "HOST UDP [*]:5300  =>  5300",
            "HOST TCP [*]:8001-8003  =>  9001-9003",
            "SPLICE",
            "SPLICE TCP [*]%lo:9000  =>  9000",
            "SPLICE UDP [*]%lo:9001  =>  9001",
        ]),
    ),
    ("-A -t 8003-8004", Err("Forwarding configuration conflict: TCP [*]:8003-8004")),
    ("-D -t 8001-8003", Err("Specifier TCP [*]:8001-8003  =>  8001-8003  conflicts with rule")),
    ("-D -t 8004", Err("Couldn't find forwarding rule to delete: TCP [*]:8004  =>  8004")),
    ("-C TAP", Err("Unsupported pif name TAP")),
    ("-A -T 127.0.0.1/9002", Err("Listening address not allowed for -T 127.0.0.1/9002")),
    ("-A -t 70000", Err("Invalid port specifier '70000'")),
    (
        "-D -t 8001-8003:9001-9003 -u 5300 -A -T 9002-9003 -U 9002:9003",
        Ok(&[
            "HOST",
            "HOST TCP [*]:8000  =>  8000",
            "SPLICE",
            "SPLICE TCP [*]%lo:9000  =>  9000",
            "SPLICE UDP [*]%lo:9001  =>  9001",
            "SPLICE TCP [*]%lo:9002-9003  =>  9002-9003",
            "SPLICE UDP [*]%lo:9002  =>  9003",
        ]),
    ),
    (
        "-D -U 9001 -A -t 127.0.0.2/8010 -t ::1/8010 -u 203.0.113.2%eth0/5301:5302 -t %lo/8011",
        Ok(&[
            "HOST",
            "HOST TCP [*]:8000  =>  8000",
            "HOST TCP [127.0.0.2]:8010  =>  8010",
            "HOST TCP [::1]:8010  =>  8010",
            "HOST UDP [203.0.113.2]%eth0:5301  =>  5302",
            "HOST TCP [*]%lo:8011  =>  8011",
            "SPLICE",
            "SPLICE TCP [*]%lo:9000  =>  9000",
            "SPLICE TCP [*]%lo:9002-9003  =>  9002-9003",
            "SPLICE UDP [*]%lo:9002  =>  9003",
        ]),
    ),
    (
        "-C SPLICE",
        Ok(&[
            "HOST",
            "HOST TCP [*]:8000  =>  8000",
            "HOST TCP [127.0.0.2]:8010  =>  8010",
            "HOST TCP [::1]:8010  =>  8010",
            "HOST UDP [203.0.113.2]%eth0:5301  =>  5302",
            "HOST TCP [*]%lo:8011  =>  8011",
            "SPLICE",
        ]),
    ),
    (
        "-t 8020-8022,~8021 -u 5400",
        Ok(&[
            "HOST",
            "HOST TCP [*]:8020  =>  8020",
            "HOST TCP [*]:8022  =>  8022",
            "HOST UDP [*]:5400  =>  5400",
            "SPLICE",
        ]),
    ),
    (
        "-C HOST -A -t 0.0.0.0/8030:192.0.2.5/80 -t [::]/8030:2001:db8::5/80",
        Ok(&[
            "HOST",
            "HOST TCP [0.0.0.0]:8030  =>  192.0.2.5:80",
            "HOST TCP [::]:8030  =>  2001:db8::5:80",
            "SPLICE",
        ]),
    ),
    (
        "-T 9010 -A -U 9011",
        Ok(&[
            "HOST",
            "HOST TCP [0.0.0.0]:8030  =>  192.0.2.5:80",
            "HOST TCP [::]:8030  =>  2001:db8::5:80",
            "SPLICE",
            "SPLICE TCP [*]%lo:9010  =>  9010",
            "SPLICE UDP [*]%lo:9011  =>  9011",
        ]),
    ),
    (
        "-t ~1-29999,~30010-65535 -u 5500-5501,auto -T none",
        Ok(&[
            "HOST",
            "HOST TCP [*]:30000-30009  =>  30000-30009  (best effort)",
            "HOST UDP [*]:5500-5501  =>  5500-5501  (auto-scan)",
            "SPLICE",
        ]),
    ),
    (
        "-t auto -u auto,~2-30000 -T auto",
        Ok(&[
            "HOST",
            "HOST TCP [*]:1-32767  =>  1-32767  (best effort) (auto-scan)",
            "HOST TCP [*]:61000-65535  =>  61000-65535  (best effort) (auto-scan)",
            "HOST UDP [*]:1  =>  1  (best effort) (auto-scan)",
            "HOST UDP [*]:30001-32767  =>  30001-32767  (best effort) (auto-scan)",
            "HOST UDP [*]:61000-65535  =>  61000-65535  (best effort) (auto-scan)",
            "SPLICE",
            "SPLICE TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)",
            "SPLICE TCP [*]%lo:61000-65535  =>  61000-65535  (best effort) (auto-scan)",
        ]),
    ),
    (
        "-t 8000 -T 9000",
        Ok(&["HOST", "HOST TCP [*]:8000  =>  8000", "SPLICE", "SPLICE TCP [*]%lo:9000  =>  9000"]),
    ),
];

/// Sockets that belong to rules of a table, unless these wait for somebody else's.
fn listening(table: &str, rules: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.ends_with("(auto-scan)")) {
        let Some(rule) = rule.strip_prefix(&format!("{table} ")) else { continue };
        let (from, _) = rule.split_once("  =>  ").context("no target")?;
        let (protocol, place) = from.split_once(' ').context("no protocol")?;
        let (place, ports) = place.rsplit_once(':').context("no port")?;
        let (address, device) = place.rsplit_once(']').context("no address")?;
        let address = address.trim_start_matches('[');
        let address =
            if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        for port in first.parse::<u16>()?..=last.parse()? {
            found.push(format!("{} {address}{device}:{port}", protocol.to_lowercase()));
        }
    }
    Ok(found)
}

fn pairing(case: &Case<'_>, client: Whose, server: Whose) -> Result<()> {
    let guest = server.start(case, START)?;
    let served = Served::of(case, guest, "/run/rig/tmp/control".into())?;
    let served = served.with_client(&client.pesto(case)?);
    let clients = [our_client(case)?, their_client(case)?];
    let mut rules = served.rules()?;
    for (args, wanted) in STEPS {
        let outcome = served.pesto(args)?;
        match wanted {
            Ok(wanted) => {
                let quiet = outcome.stdout.is_empty() && outcome.stderr.is_empty();
                ensure!(outcome.code() == Some(0) && quiet, "{args}: {outcome:?}");
                rules = wanted.iter().map(|rule| (*rule).to_owned()).collect();
            }
            Err(line) => {
                ensure!(outcome.code() == Some(1), "{args}: {outcome:?}");
                ensure!(outcome.stdout.is_empty(), "{args}: {outcome:?}");
                ensure!(outcome.stderr.starts_with(line), "{args}: {outcome:?}, wanted {line}");
            }
        }
        // Their client does not wait until it is done.
        wait_for("the rules", SHORT, || Ok((served.rules()? == rules).then_some(())))
            .with_context(|| format!("{args}: {:?}, wanted {rules:?}", served.rules()))?;
        // Both clients see the same, to the letter.
        let [one, two] = [0, 1].map(|i| served.run(&clients[i], "").map(|shown| shown.stdout));
        let (one, two) = (one?, two?);
        ensure!(one == two, "{args}: {one} and {two}");
        for (table, place) in [("HOST", Place::Host), ("SPLICE", served.guest.place())] {
            let wanted = listening(table, &rules)?;
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            served.listens_at(&place, &wanted).with_context(|| format!("{args}: {table}"))?;
        }
    }
    let before = served.pesto("")?.ok("pesto")?;
    let shown = served.pesto("-s -A -t 8001")?.ok("pesto")?;
    let path = served.socket.display().to_string();
    let previous = before.replace("passt/pasta configuration", "Previous configuration");
    let rest = shown.strip_prefix(&previous).with_context(|| format!("{shown}, {previous}"))?;
    let updated = format!("Updated configuration ({path})\n");
    let after = before.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    let old = "    TCP [*]:8000  =>  8000 \n";
    let after = updated + &after.replace(old, &(old.to_owned() + "    TCP [*]:8001  =>  8001 \n"));
    ensure!(rest == after, "{rest}, wanted {after}");
    // And traffic goes that way.
    let _witness = case.rig.witness(&served.guest.place(), "8000,8001", &["::".to_owned()])?;
    for (place, addr) in [(Place::Outside, "203.0.113.2"), (Place::Host, "127.0.0.1")] {
        let args = format!("probe tcp,{addr},8000 tcp,{addr},8001");
        let answers = case.rig.peer(&place, SHORT, &args)?;
        let ports: Vec<&str> =
            answers.lines().filter_map(|line| line.split(' ').next_back()).collect();
        ensure!(ports == ["8000", "8001"], "{answers}");
    }
    Ok(())
}

/// Protocols and ports on which pasta listens, whatever the address.
fn ports(case: &Case<'_>, place: &Place) -> Result<BTreeSet<String>> {
    let port = |socket: &String| {
        let (protocol, address) = socket.split_once(' ')?;
        Some(format!("{protocol} {}", address.rsplit_once(':')?.1))
    };
    Ok(sockets(case, place, &["pasta"])?.keys().filter_map(port).collect())
}

/// A TCP listener stands for UDP, too; with either implementation.
fn automatic_ports(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    case.rig.debian()?;
    let _tcp = TcpListener::bind("127.0.0.1:6310")?;
    let _udp = UdpSocket::bind("127.0.0.1:6311")?;
    let wanted = [["tcp 6300", "udp 6300", "udp 6301"], ["tcp 6310", "udp 6310", "udp 6311"]]
        .map(|ports| ports.map(str::to_owned).into());
    for whose in [Whose::Theirs, Whose::Ours] {
        let guest = whose.start(case, "-t auto -u auto -T auto -U auto")?;
        let place = guest.place();
        let _tcp_only = case.rig.start(&place, &["socat", "TCP4-LISTEN:6300,fork", "PIPE"])?;
        let _udp_only = case.rig.start(&place, &["socat", "UDP4-RECVFROM:6301,fork", "PIPE"])?;
        let now = || -> Result<[BTreeSet<String>; 2]> {
            Ok([ports(case, &Place::Host)?, ports(case, &place)?])
        };
        wait_for("the ports", SHORT, || Ok((now()? == wanted).then_some(())))
            .with_context(|| format!("{whose:?}: {:?}, wanted {wanted:?}", now()))?;
        // Nothing comes after that: both look once a second, or more often.
        std::thread::sleep(Duration::from_millis(2200));
        ensure!(now()? == wanted, "{whose:?}: {:?} later", now()?);
        guest.finish()?;
    }
    Ok(())
}

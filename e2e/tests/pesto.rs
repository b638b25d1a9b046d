//! Rules that change while pasta runs, with our own server and client.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::rules::{Served, Sockets};
use e2e::{Case, SHORT, matrix};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;
use testkit::{Family, Place, Proc};

matrix!(users:
    commands, refusals, forwarding, roll_back, roll_back_of_what_was_in_the_way, queued_connections,
    established_flows, low_ports_in_the_namespace, low_udp_ports_in_the_namespace, podman, rootlesskit,
);
matrix!(once: clients_in_parallel, deleted_and_added_again, new_rules_are_told);

const LO: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Rules like `TCP 8000-8001:9000-9001, UDP 53` of a table, as they are printed, with their sockets.
fn expand(table: &str, device: &str, text: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut rules, mut sockets) = (vec![table.to_owned()], Vec::new());
    for rule in text.split(", ").filter(|rule| !rule.is_empty()) {
        let (protocol, ports) = rule.split_once(' ').context("no protocol")?;
        let (from, to) = ports.split_once(':').unwrap_or((ports, ports));
        rules.push(format!("{table} {protocol} [*]{device}:{from}  =>  {to}"));
        let (first, last) = from.split_once('-').unwrap_or((from, from));
        for port in first.parse::<u16>()?..=last.parse()? {
            sockets.push(format!("{} *{device}:{port}", protocol.to_lowercase()));
        }
    }
    Ok((rules, sockets))
}

/// Checks that these are the rules in effect, and that just their ports are listened on.
fn check(served: &Served<'_>, host: &str, splice: &str) -> Result<()> {
    let (mut rules, outside) = expand("HOST", "", host)?;
    let (more, inside) = expand("SPLICE", "%lo", splice)?;
    rules.extend(more);
    let now = served.rules()?;
    ensure!(now == rules, "{now:?}, wanted {rules:?}");
    served.listens(&outside.iter().map(String::as_str).collect::<Vec<_>>())?;
    let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
    served.listens_at(&served.guest.place(), &inside)
}

/// A server on `ports` of every address at a place.
fn witness(case: &Case<'_>, place: &Place, ports: &str) -> Result<Proc> {
    case.rig.witness(place, ports, &["::".to_owned()])
}

/// Asks by both protocols from outside, by the interface, and from the host, by splicing.
fn everywhere(case: &Case<'_>, port: u16, wanted: &str) -> Result<()> {
    let host = case.family.host();
    for (place, addr) in [(Place::Outside, host), (Place::Host, LO)] {
        let questions = ["tcp", "udp"].map(|protocol| format!("{protocol},{addr},{port}"));
        let got = case.probe(&place, &questions)?;
        ensure!(got == [wanted, wanted], "{addr} {port}: {got:?}, wanted {wanted}");
    }
    Ok(())
}

const START: &str = "-t 8000 -u 5300 -T 9000 -U 9001";

fn commands(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, START)?;
    check(&served, "TCP 8000, UDP 5300", "TCP 9000, UDP 9001")?;
    for (args, host, splice) in [
        ("-A -t 8001-8003", "TCP 8000, UDP 5300, TCP 8001-8003", "TCP 9000, UDP 9001"),
        ("--add --tcp-ports 8000", "TCP 8000, UDP 5300, TCP 8001-8003", "TCP 9000, UDP 9001"),
        ("-D -t 8001-8003", "TCP 8000, UDP 5300", "TCP 9000, UDP 9001"),
        ("-D -t 8000 -A -t 8000-8001", "UDP 5300, TCP 8000-8001", "TCP 9000, UDP 9001"),
        ("-A -T 9002 -D -U 9001", "UDP 5300, TCP 8000-8001", "TCP 9000, TCP 9002"),
        // The first rule in a table replaces all that is there, whatever the protocol.
        ("-t 8010 -t 8011:8012", "TCP 8010, TCP 8011:8012", "TCP 9000, TCP 9002"),
        ("-U 9003", "TCP 8010, TCP 8011:8012", "UDP 9003"),
        ("-C HOST", "", "UDP 9003"),
        ("-A -u 5301 -C SPLICE", "UDP 5301", ""),
        ("-C SPLICE -A -T 9004 -C HOST -t 8013", "TCP 8013", "TCP 9004"),
        ("-t none -T none", "", ""),
        ("-t 8014,8016-8017 -u 5302", "TCP 8014, TCP 8016-8017, UDP 5302", ""),
        // And so back to the beginning.
        ("-t 8000 -u 5300 -T 9000 -U 9001", "TCP 8000, UDP 5300", "TCP 9000, UDP 9001"),
    ] {
        served.change(args).and_then(|()| check(&served, host, splice)).context(args)?;
    }
    let outcome = served.pesto("-s -D -t 8000")?;
    let path = served.socket.display();
    let mut wanted = String::new();
    for (what, rule) in [("Previous", "    TCP [*]:8000  =>  8000 \n"), ("Updated", "")] {
        writeln!(
            wanted,
            "{what} configuration ({path})\n  HOST\n{rule}    UDP [*]:5300  =>  5300 \n  SPLICE\n    \
             TCP [*]%lo:9000  =>  9000 \n    UDP [*]%lo:9001  =>  9001 ",
        )?;
    }
    ensure!(outcome.code() == Some(0) && outcome.stdout == wanted, "{outcome:?}, wanted {wanted}");
    Ok(())
}

fn refusals(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, START)?;
    for (args, line) in [
        ("-A -t 7999-8000", "Forwarding configuration conflict: TCP [*]:7999-8000"),
        ("-A -t 8000:80", "Forwarding configuration conflict: TCP [*]:8000  =>  80"),
        ("-A -t 127.0.0.1/8000", "Forwarding configuration conflict: TCP [127.0.0.1]:8000"),
        ("-A -T 9000-9001", "Forwarding configuration conflict: TCP [*]%lo:9000-9001"),
        // Nothing of it, although only the last one cannot be.
        ("-A -t 8005 -T 9005 -D -t 8006", "Couldn't find forwarding rule to delete"),
        ("-D -t 8000-8001", "Specifier TCP [*]:8000-8001"),
        ("-C TAP", "Unsupported pif name TAP"),
        ("-t 8001 -t none", "-t none conflicts with previous options"),
        ("-t 70000", "Invalid port specifier '70000'"),
        ("-T 127.0.0.1/9002", "Listening address not allowed for -T 127.0.0.1/9002"),
    ] {
        let said = served.refused(args)?;
        ensure!(said.starts_with(line), "{args}: {said}, wanted {line}");
    }
    // What the client would not ask for.
    for garbage in
        [&b"\0"[..], b"\x02\0\0\0\0\0", b"\x01\0\0\x01\0\0", b"\x01\0\0\0\0\x01\0\0\0\0\0"]
    {
        let before = (served.rules()?, served.sockets(&Place::Host)?, served.inside()?);
        let mut session = served.connect()?;
        if garbage == b"\0" {
            // A range that ends before it begins.
            let rule = &mut session.table(1)?[0];
            rule[50..52].copy_from_slice(&[0, 1]);
            let message = session.message();
            session.send(&message)?;
        } else {
            session.send(garbage)?;
        }
        // It may come to a reset.
        let _ = session.end();
        let after = (served.rules()?, served.sockets(&Place::Host)?, served.inside()?);
        ensure!(before == after, "{garbage:?}: {before:?} before, {after:?} after");
    }
    Ok(())
}

fn forwarding(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t 8000 -u 8000 -T none -U none")?;
    let inside = served.guest.place();
    let _guest = witness(case, &inside, "8000,8001,8002,8003,8010")?;
    let _host = case.rig.witness(&Place::Host, "9000", &["127.0.0.1".to_owned()])?;
    let before = served.sockets(&Place::Host)?;
    everywhere(case, 8000, "8000")?;
    everywhere(case, 8001, "refused")?;
    served.change("-A -t 8001-8002,8005:8010 -u 8001-8002,8005:8010")?;
    for (port, at) in [(8000, "8000"), (8001, "8001"), (8002, "8002"), (8005, "8010")] {
        everywhere(case, port, at)?;
    }
    everywhere(case, 8003, "refused")?;
    served.change("-D -t 8001-8002,8005:8010 -u 8001-8002,8005:8010")?;
    for port in [8001, 8002, 8005] {
        everywhere(case, port, "refused")?;
    }
    everywhere(case, 8000, "8000")?;
    // Another target for the same port, whose socket stays.
    served.change("-D -t 8000 -u 8000 -A -t 8000:8010 -u 8000:8010")?;
    everywhere(case, 8000, "8010")?;
    let after = served.sockets(&Place::Host)?;
    ensure!(before == after, "{before:?} before, {after:?} after");
    // Out of the namespace.
    let question = ["tcp", "udp"].map(|protocol| format!("{protocol},127.0.0.1,9000"));
    ensure!(case.probe(&inside, &question)? == ["refused", "refused"], "at first");
    served.change("-A -T 9000 -U 9000")?;
    ensure!(case.probe(&inside, &question)? == ["9000", "9000"], "when added");
    served.change("-D -T 9000 -U 9000")?;
    ensure!(case.probe(&inside, &question)? == ["refused", "refused"], "when deleted");
    Ok(())
}

/// Ports that have just been deleted, many of them, can be had again at once.
fn deleted_and_added_again(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t 8000,10000-15999 -u none -T none -U none")?;
    for round in 0..5 {
        let mut session = served.connect()?;
        let rules = session.table(1)?;
        ensure!(rules.len() == 2, "{} rules in round {round}", rules.len());
        let many = rules.pop().context("no rule")?;
        session.commit()?;
        let mut session = served.connect()?;
        session.table(1)?.push(many);
        session.commit()?;
    }
    check(&served, "TCP 8000, TCP 10000-15999", "")
}

/// What is to be seen of a rule that is not there.
fn missing(rules: &[&str]) -> String {
    let mut text = String::from("Server didn't make every change\n");
    for rule in rules {
        let (table, rule) = rule.split_once(' ').unwrap_or_default();
        text += &format!("Rule not in effect in {table}: {rule} \n");
    }
    text
}

fn roll_back(case: &Case<'_>) -> Result<()> {
    let mut served = Served::start(case, "-d -t 8000,8001 -u 5300 -T 9000 -U none")?;
    let _guest = witness(case, &served.guest.place(), "8000")?;
    let _taken = case.rig.witness(&Place::Host, "8090", &["0.0.0.0".to_owned()])?;
    let inside = served.guest.place();
    let _taken_inside = case.rig.witness(&inside, "9090", &["127.0.0.1".to_owned()])?;
    let (refused, why) = match case.user {
        testkit::User::Ordinary => ("81", "*/81: Permission denied"),
        testkit::User::Root => {
            ("192.0.2.99/8080", "192.0.2.99/8080: Cannot assign requested address")
        }
    };
    let in_use = "*/8090: Address already in use";
    let inside_in_use = "*%lo/9090: Address already in use";
    for (args, rules, why) in [
        ("-A -t 8090", &["HOST TCP [*]:8090  =>  8090"][..], Some(in_use)),
        ("-A -u 8090", &["HOST UDP [*]:8090  =>  8090"], Some(in_use)),
        (&*format!("-A -t {refused}"), &[], Some(why)),
        ("-A -T 9090", &["SPLICE TCP [*]%lo:9090  =>  9090"], Some(inside_in_use)),
        // What could be had does not stay, either. Reasons are no longer written after so many.
        (
            "-A -t 8006 -T 9006,9090",
            &[
                "HOST TCP [*]:8006  =>  8006",
                "SPLICE TCP [*]%lo:9006  =>  9006",
                "SPLICE TCP [*]%lo:9090  =>  9090",
            ],
            None,
        ),
        ("-A -t 8002-8099", &["HOST TCP [*]:8002-8099  =>  8002-8099"], None),
        ("-D -t 8000 -A -t 8090", &["HOST TCP [*]:8090  =>  8090"], None),
        ("-C SPLICE -A -t 8090 -T 9006", &[], None),
        ("-t 8005,8090", &[], None),
    ] {
        let said = served.refused(args)?;
        let wanted = missing(rules);
        ensure!(said.starts_with(&wanted), "{args}: {said}, wanted {wanted}");
        ensure!(said.contains("Rule not in effect in "), "{args}: {said}");
        let deletes = !args.starts_with("-A");
        ensure!(said.contains("Rule still in effect in ") == deletes, "{args}: {said}");
        if let Some(why) = why {
            let log = served.guest.proc().stderr();
            let last = log.lines().rev().find(|line| line.contains("rules stay as they are"));
            ensure!(last.is_some_and(|line| line.ends_with(why)), "{args}: {log}, wanted {why}");
        }
        let host = case.family.host();
        let answer = case.probe(&Place::Outside, &[format!("tcp,{host},8000")])?;
        ensure!(answer == ["8000"], "{args}: {answer:?}");
    }
    check(&served, "TCP 8000, TCP 8001, UDP 5300", "TCP 9000")
}

/// A socket that had to give way is there again, and the others never went.
fn roll_back_of_what_was_in_the_way(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t 8000,8001 -u none -T 9000 -U none")?;
    let _guest = witness(case, &served.guest.place(), "8000,8001")?;
    let _taken = case.rig.witness(&Place::Host, "8090", &["0.0.0.0".to_owned()])?;
    let rest = |mut sockets: Sockets| {
        sockets.remove("tcp *:8000");
        sockets
    };
    let before = served.sockets(&Place::Host)?;
    let outcome = served.pesto("-D -t 8000 -A -t 127.0.0.1/8000 -t ::1/8000 -t 8090")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    let after = served.sockets(&Place::Host)?;
    ensure!(before.keys().eq(after.keys()), "{before:?} before, {after:?} after");
    ensure!(rest(before) == rest(after), "the others are not the same");
    check(&served, "TCP 8000, TCP 8001", "TCP 9000")?;
    let answers = case.probe(&Place::Host, &["8000", "8001"].map(|p| format!("tcp,{LO},{p}")))?;
    ensure!(answers == ["8000", "8001"], "{answers:?}");
    // And without the hindrance that goes as it should.
    served.change("-D -t 8000 -A -t 127.0.0.1/8000 -t ::1/8000")?;
    served.listens(&["tcp 127.0.0.1:8000", "tcp [::1]:8000", "tcp *:8001"])?;
    let answers = case.probe(&Place::Host, &["8000", "8001"].map(|p| format!("tcp,{LO},{p}")))?;
    ensure!(answers == ["8000", "8001"], "{answers:?}");
    Ok(())
}

/// Connections of each kind in one round.
const QUEUED: usize = 10;

/// Connections that the kernel has accepted and pasta has not when the rules change.
fn queued_connections(case: &Case<'_>) -> Result<()> {
    let mut served = Served::start(case, "-t 8000,8001,8002 -u none -T none -U none")?;
    let _guest = witness(case, &served.guest.place(), "8000,8001,8002,8011")?;
    let host = case.family.host();
    for update_first in [false, true] {
        let before = served.sockets(&Place::Host)?;
        let mut session = served.connect()?;
        let rules = session.table(1)?;
        // The second one gets another target, the third one goes.
        rules[1][52..54].copy_from_slice(&8011_u16.to_be_bytes());
        rules.truncate(2);
        let message = session.message();
        served.guest.proc().signal(Signal::STOP)?;
        if update_first {
            session.send(&message)?;
        }
        let mut streams = Vec::new();
        for port in [8000_u16, 8001, 8002] {
            for addr in [host, LO].repeat(QUEUED) {
                let mut stream = TcpStream::connect((addr, port))?;
                stream.write_all(b"?\n")?;
                streams.push((port, stream));
            }
        }
        if !update_first {
            session.send(&message)?;
        }
        served.guest.proc().signal(Signal::CONT)?;
        session.end()?;
        for (port, stream) in &mut streams {
            let end = answer(stream);
            let fine = match (&*port, &end) {
                (8000, Ok(at)) => at == "8000",
                // Which of them depends on what came first.
                (8001, Ok(at)) => at == "8001" || at == "8011",
                // Served, or told that nobody is there; not left alone.
                (8002, Ok(at)) => at == "8002",
                (8002, Err(error)) => error.kind() == std::io::ErrorKind::ConnectionReset,
                _ => false,
            };
            ensure!(fine, "port {port}, update first: {update_first}: {end:?}");
        }
        served.listens(&["tcp *:8000", "tcp *:8001"])?;
        let after = served.sockets(&Place::Host)?;
        for socket in ["tcp *:8000", "tcp *:8001"] {
            ensure!(before.get(socket) == after.get(socket), "{before:?} before, {after:?} after");
        }
        served.change("-D -t 8001:8011 -A -t 8001,8002")?;
    }
    Ok(())
}

/// The answer to a question that was asked over a connection: the port that the server says.
fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split(' ').next_back().unwrap_or_default().to_owned())
}

/// Flows outlive their rules.
fn established_flows(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t 8000 -u 8000 -T 9000 -U 9000")?;
    let any: IpAddr = "0.0.0.0".parse()?;
    let inside = served.guest.place();
    let _guest = case.rig.serve(&inside, any, 8000)?;
    let _host = case.rig.serve(&Place::Host, LO, 9000)?;
    let host = case.family.host();
    let mut clients = Vec::new();
    for (place, addr, port) in
        [(&Place::Outside, host, 8000), (&Place::Host, LO, 8000), (&inside, LO, 9000)]
    {
        let mut client = case.rig.start_peer(place, &format!("idle {addr} {port} 10"))?;
        client.wait_line("open", SHORT)?;
        clients.push(client);
    }
    let mut sockets = Vec::new();
    for addr in [host, LO] {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect((addr, 8000))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        echo(&socket).with_context(|| format!("{addr} at first"))?;
        sockets.push((addr, socket));
    }
    served.change("-C HOST -C SPLICE")?;
    check(&served, "", "")?;
    for client in &mut clients {
        client.say("?")?;
        client.wait_line("alive 10", SHORT)?;
    }
    for (addr, socket) in &sockets {
        echo(socket).with_context(|| format!("{addr} after its rule"))?;
    }
    everywhere(case, 8000, "refused")?;
    // Rules of others do not disturb them, either.
    served.change("-A -t 8001 -u 8001")?;
    for client in &mut clients {
        client.say("?")?;
        client.wait_line("alive 10", SHORT)?;
    }
    Ok(())
}

fn echo(socket: &UdpSocket) -> Result<()> {
    socket.send(b"E")?;
    let n = socket.recv(&mut [0; 16])?;
    ensure!(n == 1, "{n} bytes");
    Ok(())
}

/// Ports below 1024 belong to whoever owns the namespace.
fn low_ports_in_the_namespace(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t none -u none -T none -U none")?;
    let _host = case.rig.witness(&Place::Host, "81,82", &["127.0.0.1".to_owned()])?;
    served.change("-A -T 81,83:82 -U 81,83:82")?;
    check(&served, "", "TCP 81, TCP 83:82, UDP 81, UDP 83:82")?;
    let questions = ["tcp,127.0.0.1,81", "tcp,127.0.0.1,83"].map(str::to_owned);
    let answers = case.probe(&served.guest.place(), &questions)?;
    ensure!(answers == ["81", "82"], "{answers:?}");
    // Many of them, for which one step is not enough.
    served.change("-T 1-2000 -U 1-2000")?;
    check(&served, "", "TCP 1-2000, UDP 1-2000")?;
    served.change("-C SPLICE")?;
    check(&served, "", "")
}

fn low_udp_ports_in_the_namespace(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t none -u none -T none -U none")?;
    let _host = case.rig.witness(&Place::Host, "81,82", &["127.0.0.1".to_owned()])?;
    served.change("-A -U 81,83:82")?;
    let questions = ["udp,127.0.0.1,81", "udp,127.0.0.1,83"].map(str::to_owned);
    let answers = case.probe(&served.guest.place(), &questions)?;
    ensure!(answers == ["81", "82"], "{answers:?}");
    Ok(())
}

/// Podman, whose ports move with its networks.
fn podman(case: &Case<'_>) -> Result<()> {
    let options = "-t none -u none -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet \
                   --map-guest-addr 169.254.1.2";
    let served = Served::start(case, options)?;
    let place = served.guest.place();
    for address in ["10.89.0.5/32", "fd00:89::5/128"] {
        let argv = ["ip", "addr", "add", address, "dev", "lo"];
        case.rig.run(&place, SHORT, &argv)?;
    }
    let inside = ["10.89.0.5".to_owned(), "fd00:89::5".to_owned()];
    let _guest = case.rig.witness(&place, "80,81,53", &inside)?;
    let (v4, v6) = (Family::V4.host(), Family::V6.host());
    let questions = [
        format!("tcp,{v4},8080"),
        format!("tcp,{v4},8081"),
        format!("tcp,{v6},8080"),
        format!("tcp,{v6},8081"),
        format!("udp,{v4},5353"),
        format!("udp,{v6},5353"),
    ];
    let rules = [
        ("-t", "0.0.0.0/8080-8081:10.89.0.5/80-81"),
        ("-t", "[::]/8080-8081:fd00:89::5/80-81"),
        ("-u", "0.0.0.0/5353:10.89.0.5/53"),
        ("-u", "[::]/5353:fd00:89::5/53"),
    ];
    for again in [false, true] {
        for (option, rule) in rules {
            let before = served.sockets(&Place::Host)?;
            served.change(&format!("--add {option} {rule}"))?;
            let after = served.sockets(&Place::Host)?;
            ensure!(!again || before == after, "{before:?} before, {after:?} after");
        }
        let answers = case.probe(&Place::Outside, &questions)?;
        ensure!(answers == ["80", "81", "80", "81", "53", "53"], "{answers:?}");
    }
    for (option, rule) in rules {
        served.change(&format!("--delete {option} {rule}"))?;
        let said = served.refused(&format!("--delete {option} {rule}"))?;
        ensure!(said.starts_with("Couldn't find forwarding rule to delete: "), "{said}");
    }
    let answers = case.probe(&Place::Outside, &questions)?;
    ensure!(answers.iter().all(|answer| answer == "refused"), "{answers:?}");
    check(&served, "", "")
}

/// RootlessKit, whose daemon attaches to a process.
fn rootlesskit(case: &Case<'_>) -> Result<()> {
    let pesto = case.rig.pesto()?.display().to_string();
    let argv = [&pesto, "--version"];
    let version = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
    ensure!(version.code() == Some(0), "{version:?}");
    ensure!(version.stdout.starts_with("pesto ") && version.stderr.is_empty(), "{version:?}");
    let holder = case.rig.hold(case.user)?;
    let socket = case.rig.tmp().join("pasta.sock").display().to_string();
    let options = "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 \
                   --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only \
                   --tcp-ports=none --udp-ports=none --tcp-ns=none --udp-ns=none";
    let mut words: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    words.extend([format!("--conf-path={socket}"), holder.pid().to_string()]);
    let outcome = case.pasta()?.args(&words).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let _guest = case.rig.witness(&holder.place(), "80,53", &["0.0.0.0".to_owned()])?;
    let call = |args: &[&str]| {
        let argv: Vec<&str> = [&[&*pesto][..], args, &[&*socket]].concat();
        case.rig.outcome(&Place::Host, case.user, SHORT, &argv)
    };
    let questions = ["tcp,127.0.0.1,8080".to_owned(), "udp,127.0.0.1,5353".to_owned()];
    let rules = ["--tcp-ports=127.0.0.1/8080:80", "--udp-ports=127.0.0.1/5353:53"];
    for (verb, wanted) in [("-A", ["80", "53"]), ("-D", ["refused", "refused"])] {
        for rule in rules {
            let outcome = call(&[verb, rule])?;
            let quiet = outcome.stdout.is_empty() && outcome.stderr.is_empty();
            ensure!(outcome.code() == Some(0) && quiet, "{verb} {rule}: {outcome:?}");
        }
        let answers = case.probe(&Place::Host, &questions)?;
        ensure!(answers == wanted, "{verb}: {answers:?}");
    }
    // Only the status tells that something is amiss, and the text is for the user.
    for rule in ["--tcp-ports=192.0.2.99/8080:80", "--tcp-ports=[::1]/8080:80"] {
        let outcome = call(&["-A", rule])?;
        ensure!(outcome.code() == Some(1) && !outcome.stderr.is_empty(), "{rule}: {outcome:?}");
    }
    Ok(())
}

/// Rules that each of two clients adds.
const ADDED: u16 = 50;

fn clients_in_parallel(case: &Case<'_>) -> Result<()> {
    let served = Served::start(case, "-t 8000 -u none -T none -U none")?;
    let add = |first: u16| -> Result<()> {
        for port in first..first + ADDED {
            served.change(&format!("-A -t {port}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let both = [8100, 8200].map(|first| scope.spawn(move || add(first)));
        for one in both {
            one.join().ok().context("a thread panicked")??;
        }
        Ok(())
    })?;
    let mut rules = served.rules()?;
    rules.sort();
    let ports = [8000].into_iter().chain(8100..8100 + ADDED).chain(8200..8200 + ADDED);
    let (mut wanted, mut sockets) = (vec!["HOST".to_owned(), "SPLICE".to_owned()], Vec::new());
    for port in ports {
        wanted.push(format!("HOST TCP [*]:{port}  =>  {port}"));
        sockets.push(format!("tcp *:{port}"));
    }
    wanted.sort();
    ensure!(rules == wanted, "{rules:?}");
    served.listens(&sockets.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Who asked for messages is told every rule, however many there are.
fn new_rules_are_told(case: &Case<'_>) -> Result<()> {
    let mut served = Served::start(case, "-d -t 8000 -u none -T none -U none")?;
    let ports: Vec<String> = (0..20).map(|i| (9000 + 2 * i).to_string()).collect();
    let before = served.guest.proc().stderr().len();
    served.change(&format!("-A -t {}", ports.join(",")))?;
    testkit::until("the rules in the log", SHORT, || {
        let log = served.guest.proc().stderr();
        let news = log.get(before..).unwrap_or_default();
        let told = |port: &String| news.contains(&format!("TCP [*]:{port}  =>  {port}"));
        news.contains("New forwarding rules for HOST:") && ports.iter().all(told)
    })
    .with_context(|| served.guest.proc().stderr())
}

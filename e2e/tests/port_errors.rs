//! Listening sockets at the start: which ones there are, what is said when one cannot be had, and when.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;
use testkit::{Family, Place, User, until};

matrix!(users:
    sockets, sockets_of_all, refusals, refusals_in_the_namespace, best_effort, freebind,
    ready_when_the_parent_returns, successor_after_a_signal, successor_after_the_process,
    successor_after_the_namespace, successor_after_the_command,
);
matrix!(all: multicast);
matrix!(once: sockets_of_auto, broadcast);

/// Ports that "all" leaves out, few enough being left.
const EPHEMERAL: (u16, u16) = (2000, 64999);
/// Time in which automatic ports follow.
const FOLLOW: Duration = Duration::from_secs(3);

fn ip(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let words: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
    case.rig.run(place, SHORT, &words)
}

/// Local addresses of everything that listens at `place`: nobody but pasta does on the host.
fn listening(case: &Case<'_>, place: &Place, protocol: &str) -> Result<BTreeSet<String>> {
    case.rig.needs(&["ss"])?;
    let text = case.rig.run(place, SHORT, &["ss", "-Hln", protocol])?;
    let local = text.lines().filter_map(|line| line.split_whitespace().nth(3));
    Ok(local.map(str::to_owned).collect())
}

/// `ADDRESS:PORT` for each port of some ranges, as ss(8) writes it.
fn expected(address: &str, ranges: &[(u16, u16)]) -> BTreeSet<String> {
    let ports = ranges.iter().flat_map(|(first, last)| *first..=*last);
    ports.map(|port| format!("{address}:{port}")).collect()
}

/// What is wrong about two sets, in a line.
fn differ(got: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Option<String> {
    let few = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        let some: Vec<String> = a.difference(b).take(5).cloned().collect();
        format!("{}: {}", a.difference(b).count(), some.join(" "))
    };
    (got != wanted).then(|| format!("missing {}, too many {}", few(wanted, got), few(got, wanted)))
}

/// Every user may have low ports.
fn open_low_ports() -> Result<()> {
    Ok(fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?)
}

fn set_ephemeral((first, last): (u16, u16)) -> Result<()> {
    Ok(fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{first} {last}"))?)
}

/// A row: options; the address and the ports on which there are sockets then.
type Row = (&'static str, &'static str, &'static [(u16, u16)]);

/// Starts pasta with the options of each row, `-p` in which is `-t` first and `-u` then, and looks.
fn check(case: &Case<'_>, rows: &[Row]) -> Result<()> {
    let mut wrong = Vec::new();
    for (options, address, ranges) in rows {
        let both = options.replace("-p ", "-t ") + " " + &options.replace("-p ", "-u ");
        let words: Vec<&str> =
            both.split_whitespace().chain("-T none -U none".split(' ')).collect();
        let guest = case.guest(&words).with_context(|| both.clone())?;
        for protocol in ["-t", "-u"] {
            let got = listening(case, &Place::Host, protocol)?;
            if let Some(text) = differ(&got, &expected(address, ranges)) {
                wrong.push(format!("{options} {protocol}: {text}"));
            }
        }
        ensure!(listening(case, &guest.place(), "-tu")?.is_empty(), "{options}: in the namespace");
        guest.finish()?;
        until("the end of the sockets", SHORT, || {
            listening(case, &Place::Host, "-tu").is_ok_and(|left| left.is_empty())
        })?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn sockets(case: &Case<'_>) -> Result<()> {
    if case.user == User::Ordinary {
        open_low_ports()?;
    }
    ip(case, &Place::Host, "addr add 192.0.2.1/32 dev eth0")?;
    check(
        case,
        &[
            ("-p none", "", &[]),
            ("-p 22", "*", &[(22, 22)]),
            ("-p */22", "*", &[(22, 22)]),
            ("-p /22", "*", &[(22, 22)]),
            ("-4 -p 22", "0.0.0.0", &[(22, 22)]),
            ("-6 -p 22", "[::]", &[(22, 22)]),
            ("-p 0.0.0.0/22", "0.0.0.0", &[(22, 22)]),
            ("-p [::]/22", "[::]", &[(22, 22)]),
            ("-p ::1/22", "[::1]", &[(22, 22)]),
            ("-p 22:23", "*", &[(22, 22)]),
            ("-p 22,25", "*", &[(22, 22), (25, 25)]),
            ("-p 22 -p 25", "*", &[(22, 22), (25, 25)]),
            ("-p 22-80", "*", &[(22, 80)]),
            ("-p 22-80:32-90", "*", &[(22, 80)]),
            ("-p 192.0.2.1/22", "192.0.2.1", &[(22, 22)]),
            ("-p 192.0.2.1%eth0/22", "192.0.2.1%eth0", &[(22, 22)]),
            ("-p %eth0/22", "*%eth0", &[(22, 22)]),
            ("-p *%lo/22", "*%lo", &[(22, 22)]),
            ("-p 0.0.0.0/5000:192.0.2.5/6000", "0.0.0.0", &[(5000, 5000)]),
            ("-p 2000-5000,~3000-3010", "*", &[(2000, 2999), (3011, 5000)]),
            ("-p 192.0.2.1/20-30,~25", "192.0.2.1", &[(20, 24), (26, 30)]),
            ("-p none -p 22", "*", &[(22, 22)]),
        ],
    )
}

/// Ports that nobody named, and of those that one user may have.
fn sockets_of_all(case: &Case<'_>) -> Result<()> {
    set_ephemeral(EPHEMERAL)?;
    let all = &[(1, 1999), (65000, 65535)];
    let rows: &[Row] = &[
        ("-p all", "*", all),
        ("-p ::1/all", "[::1]", all),
        ("-p 127.0.0.6/all:192.0.2.6", "127.0.0.6", all),
        ("-p ~200-210,~65535", "*", &[(1, 199), (211, 1999), (65000, 65534)]),
        ("-p 3000-3001,all,~65100-65535", "*", &[(1, 1999), (3000, 3001), (65000, 65099)]),
    ];
    if case.user == User::Root {
        return check(case, rows);
    }
    check(case, &[("-p all", "*", &[(1024, 1999), (65000, 65535)])])?;
    open_low_ports()?;
    check(case, rows)?;
    // More than descriptors allow: half of them go to the first ports.
    set_ephemeral((30_000, 64_999))?;
    let limit = case.rig.outcome(&Place::Host, case.user, SHORT, &["sh", "-c", "ulimit -Hn"])?;
    let half = limit.ok("ulimit")?.trim().parse::<usize>().unwrap_or(usize::MAX) / 2;
    let guest = case.guest(
        "-t ~20000-20010 -u none -T none -U none".split(' ').collect::<Vec<_>>().as_slice(),
    )?;
    let ports = (1..=19_999).chain(20_011..=29_999).chain(65_000..=65_535);
    let wanted = ports.take(half).map(|port: u16| format!("*:{port}")).collect();
    let differ = differ(&listening(case, &Place::Host, "-t")?, &wanted);
    ensure!(differ.is_none(), "{differ:?}");
    guest.finish().map(drop)
}

/// Ports that come and go with what listens in the namespace: a socket for each family, as programs there
/// may listen on one alone.
fn sockets_of_auto(case: &Case<'_>) -> Result<()> {
    set_ephemeral(EPHEMERAL)?;
    let host = Family::V4.host().to_string();
    for (spec, wanted) in [
        ("auto", &["0.0.0.0:1500", "0.0.0.0:65001", "[::]:1500", "[::]:65001"][..]),
        ("::1/auto", &["[::1]:1500", "[::1]:65001"]),
        ("203.0.113.2/auto", &["203.0.113.2:1500", "203.0.113.2:65001"]),
        ("8000-8010,auto", &["0.0.0.0:8005", "[::]:8005"]),
        ("1500,auto", &["0.0.0.0:1500", "[::]:1500"]),
        ("auto,~1400-1600", &["0.0.0.0:65001", "[::]:65001"]),
        ("9000-9001:65001-65002,auto", &["0.0.0.0:9000", "[::]:9000"]),
    ] {
        let guest = case.guest(&["-t", spec, "-u", spec, "-T", "none", "-U", "none"])?;
        let now = || -> Result<Vec<BTreeSet<String>>> {
            ["-t", "-u"].iter().map(|protocol| listening(case, &Place::Host, protocol)).collect()
        };
        ensure!(now()?.iter().all(BTreeSet::is_empty), "{spec}: {:?} at first", now()?);
        let server =
            case.rig.witness(&guest.place(), "1500,8005,8100,65001", &["::".to_owned()])?;
        let wanted: BTreeSet<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        let followed = |wanted: &BTreeSet<String>| {
            until("the ports", FOLLOW, || {
                now().is_ok_and(|now| now.iter().all(|set| set == wanted))
            })
            .with_context(|| format!("{spec}: {:?}, wanted {wanted:?}", now()))
        };
        followed(&wanted)?;
        drop(server);
        followed(&BTreeSet::new())?;
        // Out of reach: the host's loopback traffic goes to the namespace's other address.
        let lo = case.rig.witness(&guest.place(), "1500,8005,65001", &["127.0.0.1".to_owned()])?;
        std::thread::sleep(Duration::from_millis(700));
        ensure!(now()?.iter().all(BTreeSet::is_empty), "{spec}: {:?} for loopback", now()?);
        drop(lo);
        let _v4 =
            case.rig.witness(&guest.place(), "1500,8005,65001", std::slice::from_ref(&host))?;
        followed(&wanted.into_iter().filter(|text| !text.starts_with('[')).collect())?;
    }
    Ok(())
}

/// Runs pasta to its end, which must be one with status 1, these words, and no trace of the command.
fn refused(case: &Case<'_>, options: &str, wanted: &str) -> Result<()> {
    let words: Vec<&str> = options.split_whitespace().collect();
    let pasta = case.pasta()?.args(&["--config-net", "-q"]).args(&words);
    let outcome = pasta.args(&["--", "echo", "ran"]).run(SHORT)?;
    let whole = format!("{wanted}\nCouldn't listen on requested ports\n");
    ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{options}: {outcome:?}");
    ensure!(outcome.stderr == whole, "{options}: {}, wanted {whole}", outcome.stderr);
    Ok(())
}

fn refusals(case: &Case<'_>) -> Result<()> {
    let _taken = case.rig.witness(&Place::Host, "8090", &["0.0.0.0".to_owned()])?;
    let _taken_v6 = case.rig.witness(&Place::Host, "8091", &["::1".to_owned()])?;
    for (specifier, port, why) in [
        ("192.0.2.99/8080", "192.0.2.99/8080", "Cannot assign requested address"),
        ("[2001:db8::99]/8080", "2001:db8::99/8080", "Cannot assign requested address"),
        ("8090", "*/8090", "Address already in use"),
        ("127.0.0.1/8090", "127.0.0.1/8090", "Address already in use"),
        ("8080-8099", "*/8090", "Address already in use"),
        ("8091", "*/8091", "Address already in use"),
        ("%no-such-if/8080", "*%no-such-if/8080", "No such device"),
    ] {
        for (option, protocol) in [("-t", "TCP"), ("-u", "UDP")] {
            let wanted = format!("Listen failed for HOST {protocol} port {port}: {why}");
            refused(case, &format!("{option} {specifier}"), &wanted)?;
        }
    }
    // What others have on one address leaves the others.
    let guest = case.guest(&["-t", "127.0.0.2/8091", "-u", "127.0.0.2/8091"])?;
    ensure!(listening(case, &Place::Host, "-t")?.contains("127.0.0.2:8091"), "not listening");
    guest.finish()?;
    if case.user == User::Ordinary {
        for (option, protocol) in [("-t", "TCP"), ("-u", "UDP")] {
            let wanted = format!("Listen failed for HOST {protocol} port */22: Permission denied");
            refused(case, &format!("{option} 22"), &wanted)?;
            // A later port of a range, the first ones being fine.
            let wanted =
                format!("Listen failed for HOST {protocol} port */1000: Permission denied");
            refused(case, &format!("{option} 2000-2001,1000-1001"), &wanted)?;
        }
    }
    Ok(())
}

/// In the namespace, low ports are everybody's who owns it, but not those that are taken.
fn refusals_in_the_namespace(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    ip(case, &holder.place(), "link set lo up")?;
    let _taken = case.rig.witness(&holder.place(), "8090", &["127.0.0.1".to_owned()])?;
    let pid = holder.pid().to_string();
    for (option, protocol) in [("-T", "TCP"), ("-U", "UDP")] {
        let argv = ["--config-net", "-q", option, "8090", &pid];
        let outcome = case.pasta()?.args(&argv).run(SHORT)?;
        let wanted = format!(
            "Listen failed for SPLICE {protocol} port *%lo/8090: Address already in use\n\
             Couldn't listen on requested ports\n"
        );
        ensure!(outcome.code() == Some(1) && outcome.stderr == wanted, "{outcome:?}");
    }
    let guest = case.guest(&["-T", "22,8090-8092", "-U", "22", "-t", "none", "-u", "none"])?;
    let wanted = expected("*%lo", &[(22, 22), (8090, 8092)]);
    let got = listening(case, &guest.place(), "-t")?;
    ensure!(got == wanted, "{got:?}");
    let got = listening(case, &guest.place(), "-u")?;
    ensure!(got == expected("*%lo", &[(22, 22)]), "{got:?}");
    Ok(())
}

/// Ports that nobody named may be missing, but not all of a run.
fn best_effort(case: &Case<'_>) -> Result<()> {
    if case.user == User::Root {
        return check(case, &[("-p ~100-65535", "*", &[(1, 99)])]);
    }
    for (option, protocol) in [("-t", "TCP"), ("-u", "UDP")] {
        let wanted = format!(
            "All listens failed for HOST {protocol} [*]:1-99  =>  1-99  (best effort): \
             Permission denied"
        );
        refused(case, &format!("{option} ~100-65535"), &wanted)?;
    }
    check(case, &[("-p ~1030-65535", "*", &[(1024, 1029)])])
}

/// An address that comes later.
fn freebind(case: &Case<'_>) -> Result<()> {
    let specs = ["192.0.2.99/8080", "[2001:db8:99::99]/8081"];
    let mut options = vec!["--freebind"];
    for spec in specs {
        options.extend(["-t", spec, "-u", spec]);
    }
    let guest = case.guest(&options)?;
    for protocol in ["-t", "-u"] {
        let got = listening(case, &Place::Host, protocol)?;
        let wanted = ["192.0.2.99:8080", "[2001:db8:99::99]:8081"].map(str::to_owned);
        ensure!(wanted.iter().all(|wanted| got.contains(wanted)), "{got:?}");
    }
    let addresses = [Family::V4.host().to_string(), Family::V6.host().to_string()];
    let _server = case.rig.witness(&guest.place(), "8080,8081", &addresses)?;
    ip(case, &Place::Host, "addr add 192.0.2.99/32 dev eth0")?;
    ip(case, &Place::Host, "addr add 2001:db8:99::99/128 dev eth0 nodad")?;
    ip(case, &Place::Outside, "route add 192.0.2.99 via 203.0.113.2")?;
    ip(case, &Place::Outside, "route add 2001:db8:99::99 via 2001:db8:51::2")?;
    for (family, to, port) in
        [(Family::V4, "192.0.2.99", 8080), (Family::V6, "2001:db8:99::99", 8081)]
    {
        let (me, host) = (family.peer(), family.host());
        let args = format!("probe tcp,{to},{port},{me} udp,{to},{port},{me}");
        let got = case.rig.peer(&Place::Outside, SHORT, &args)?;
        let wanted = format!("{me} same {host} {port}");
        ensure!(got.lines().all(|line| line == wanted), "{got}, wanted {wanted}");
    }
    Ok(())
}

const PID_FILE: &str = "/run/rig/tmp/pid";

/// Starts a pasta in the background for a namespace; returns its process id.
fn daemon(case: &Case<'_>, namespace: u32, options: &[&str]) -> Result<Pid> {
    let namespace = namespace.to_string();
    let argv = ["--config-net", "-q", "--pid", PID_FILE];
    let outcome = case.pasta()?.args(&argv).args(options).args(&[&namespace]).run(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    pid()
}

/// The process id of the last daemon.
fn pid() -> Result<Pid> {
    let pid = fs::read_to_string(PID_FILE)?.trim().parse()?;
    fs::remove_file(PID_FILE)?;
    Pid::from_raw(pid).context("no process id")
}

const PORTS: [&str; 4] = ["-t", "5001-5009", "-u", "5001-5009"];

fn ports_are_there(case: &Case<'_>) -> Result<()> {
    for protocol in ["-t", "-u"] {
        let got = listening(case, &Place::Host, protocol)?;
        ensure!(got.is_superset(&expected("*", &[(5001, 5009)])), "{protocol}: {got:?}");
    }
    Ok(())
}

fn ready_when_the_parent_returns(case: &Case<'_>) -> Result<()> {
    for _ in 0..5 {
        let holder = case.rig.hold(case.user)?;
        let pid = daemon(case, holder.pid(), &PORTS)?;
        ports_are_there(case)?;
        // Served, too: the namespace has this port for nobody, which is not the listener's silence.
        let got = case.rig.peer(&Place::Host, SHORT, "probe tcp,127.0.0.1,5001")?;
        ensure!(got == "reset", "{got}");
        kill_process(pid, Signal::TERM)?;
        gone(case, pid)?;
    }
    Ok(())
}

fn gone(case: &Case<'_>, pid: Pid) -> Result<()> {
    case.rig.wait_gone(u32::try_from(pid.as_raw_nonzero().get())?, SHORT)
}

/// The same ports, with connections of the predecessor still about.
fn successor_after_a_signal(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    ip(case, &holder.place(), "link set lo up")?;
    let _server = case.rig.serve(&holder.place(), "::".parse()?, 5001)?;
    for round in 0..20 {
        let pid = daemon(case, holder.pid(), &PORTS).with_context(|| format!("round {round}"))?;
        ports_are_there(case)?;
        let mut client = case.rig.start_peer(&Place::Host, "idle 127.0.0.1 5001 3")?;
        client.wait_line("open", SHORT)?;
        kill_process(pid, Signal::TERM)?;
        gone(case, pid)?;
    }
    Ok(())
}

/// The process whose namespace it was has ended: the ports are there for others when pasta has seen that.
fn successor_after_the_process(case: &Case<'_>) -> Result<()> {
    for round in 0..3 {
        let holder = case.rig.hold(case.user)?;
        let pid = daemon(case, holder.pid(), &PORTS).with_context(|| format!("round {round}"))?;
        ports_are_there(case)?;
        drop(holder);
        gone(case, pid)?;
    }
    Ok(())
}

/// The name of the namespace is taken away, and there is another one: as container engines do it, who do
/// not wait for anybody.
fn successor_after_the_namespace(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let user = format!("/proc/{}/ns/user", holder.pid());
    let mut pids = Vec::new();
    for round in 0..20 {
        let path = format!("/run/rig/tmp/ns{round}");
        fs::write(&path, "")?;
        let net = format!("/proc/{}/ns/net", holder.pid());
        case.rig.run(&Place::Host, SHORT, &["mount", "--bind", &net, &path])?;
        let argv = ["--config-net", "-q", "-I", &format!("tap{round}"), "--userns", &user];
        let options = [&argv[..], &PORTS, &["--pid", PID_FILE, "--netns", &path]].concat();
        let outcome = case.pasta()?.args(&options).run(SHORT)?;
        ensure!(outcome.code() == Some(0), "round {round}: {outcome:?}");
        pids.push(pid()?);
        ports_are_there(case)?;
        case.rig.run(&Place::Host, SHORT, &["umount", &path])?;
        fs::remove_file(&path)?;
    }
    pids.into_iter().try_for_each(|pid| gone(case, pid))
}

fn successor_after_the_command(case: &Case<'_>) -> Result<()> {
    for round in 0..20 {
        let pasta = case.pasta()?.args(&["--config-net"]).args(&PORTS).args(&["--", "true"]);
        let outcome = pasta.run(SHORT)?;
        ensure!(outcome.code() == Some(0), "round {round}: {outcome:?}");
    }
    Ok(())
}

/// Sends a line from the outside to `send`, expected at a listener in the guest.
fn group_datagram(case: &Case<'_>, guest: &Place, listen: &str, send: &str) -> Result<()> {
    let mut listener = case.rig.start(guest, &["socat", "-u", listen, "STDOUT"])?;
    until("the listener", SHORT, || {
        listening(case, guest, "-u").is_ok_and(|all| all.iter().any(|at| at.ends_with(":6000")))
    })?;
    let script = format!("echo to all of you | socat -u STDIN {send}");
    case.rig.run(&Place::Outside, SHORT, &["sh", "-c", &script])?;
    listener.wait_line("to all of you", Duration::from_secs(5)).map(drop)
}

/// A socket that is bound to a group is given nothing else: the destination is the group's in the guest.
fn multicast(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    let guest = case.guest(&["-u", "6000"])?;
    let (group, join) = match case.family {
        Family::V4 => ("239.1.2.3", "ip-add-membership=239.1.2.3:203.0.113.2"),
        Family::V6 => ("[ff05::1234]", "ipv6-join-group=[ff05::1234]:eth0"),
    };
    let family = if case.family == Family::V4 { "4" } else { "6" };
    let bare: IpAddr = group.trim_matches(['[', ']']).parse()?;
    // The host's kernel takes a group's datagrams if anybody is a member.
    let member = format!("UDP{family}-RECV:6001,{join}");
    let _member = case.rig.start(&Place::Host, &["socat", "-u", &member, "STDOUT"])?;
    until("the member", SHORT, || {
        ip(case, &Place::Host, "maddr show dev eth0").is_ok_and(|t| t.contains(&bare.to_string()))
    })?;
    let _ = ip(case, &Place::Outside, &format!("route add {bare} dev out0"));
    if case.family == Family::V6 {
        ip(case, &Place::Outside, "route add table local multicast ff05::1234 dev out0")?;
    }
    let listen = format!("UDP{family}-RECV:6000,bind={group},{join}");
    let send = format!("UDP{family}-DATAGRAM:{group}:6000");
    group_datagram(case, &guest.place(), &listen, &send)
}

fn broadcast(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    let guest = case.guest(&["-u", "6000"])?;
    ip(case, &Place::Outside, "route add 255.255.255.255 dev out0")?;
    for to in ["203.0.113.255", "255.255.255.255"] {
        let listen = "UDP4-RECV:6000,bind=255.255.255.255,broadcast,reuseaddr";
        let send = format!("UDP4-DATAGRAM:{to}:6000,broadcast");
        group_datagram(case, &guest.place(), listen, &send).with_context(|| to.to_owned())?;
    }
    Ok(())
}

//! The command lines of real clients, word for word, each run as its client does: whose process, in which
//! namespaces, with which descriptors, and what happens next. See `e2e::command_lines`.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::clients::{
    END, Engine, ONE_PIPE, RUNTIME, UID, command, directory, pid_in, published, started_with,
    user_directories,
};
use e2e::command_lines::{LINES, Line};
use e2e::hypervisor::{Client, inheritable};
use e2e::{Case, SHORT};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::peer::stream;
use testkit::{Family, Outcome, Place, Proc, User, skip, until};

/// Declares a test for each line.
macro_rules! lines {
    ($($how:ident: $($name:ident),*;)*) => {
        mod line {$($(
            #[test]
            fn $name() {
                super::run(stringify!($name), super::$how);
            }
        )*)*}
        /// Those that have a test.
        const TESTED: &[&str] = &[$($(stringify!($name)),*),*];
    };
}

lines! {
    podman: podman_default, podman_published_ports, podman_published_on_ipv6_loopback,
        podman_published_on_some_port, podman_port_of_the_host, podman_addresses,
        podman_mapped_gateway, podman_name_server, podman_bridge, podman_network, podman_capture,
        podman_unshare, podman_pod, podman_build, buildah_bud, buildah_bud_with_an_mtu, buildah_run;
    rootlesskit: rootlesskit_default, rootlesskit_without_host_loopback, rootlesskit_addresses,
        rootlesskit_ipv6, rootlesskit_as_docker, rootlesskit_implicit_ports,
        rootlesskit_detached_namespace, rootlesskit_debug;
    qemu: qemu_default, qemu_not_quiet, qemu_addresses, qemu_vhost_user, qemu_interfaces_and_names;
    qemu_refuses: qemu_ports_and_switches;
    libvirt: libvirt_default, libvirt_again, libvirt_vhost_user, libvirt_everything;
}

#[test]
fn every_line_has_a_test() {
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    let mut lines: Vec<&str> = LINES.iter().map(|line| line.name).collect();
    lines.sort_unstable();
    assert_eq!(tested, lines);
}

fn run(name: &str, how: fn(&Case<'_>, &Line) -> Result<()>) {
    let Some(line) = LINES.iter().find(|line| line.name == name) else {
        panic!("no line is called {name}");
    };
    let test = format!("line::{name}");
    if line.has("--vhost-user") {
        return skip(&test, "vhost-user is not there until its issue");
    }
    let helper = Path::new(env!("CARGO_BIN_EXE_e2e-peer"));
    testkit::in_rig(&test, helper, Duration::from_secs(120), |rig| {
        let case = Case { rig, user: User::Ordinary, family: Family::V4 };
        user_directories(&case)?;
        how(&case, line).with_context(|| format!("{}: {}\n{}", line.client, line.call, line.line))
    });
}

/// Status 0, and silence if that was asked for.
fn fine(outcome: &Outcome, line: &Line) -> Result<()> {
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    if line.has("--quiet") && !line.has("--trace") {
        ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    }
    Ok(())
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// What ip(8) says at a place.
fn ip(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
    case.rig.run(place, SHORT, &argv)
}

/// One connection and one query lead out of a namespace.
fn leads_out(case: &Case<'_>, place: &Place, name_server: &str) -> Result<()> {
    let got = case.ask(place, "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    let server = format!("@{name_server}");
    let argv = ["dig", &server, "+short", "www.rig.example", "A"];
    let answer = case.rig.run(place, SHORT, &argv)?;
    ensure!(answer.trim() == case.family.far().to_string(), "{answer}");
    Ok(())
}

/// Asks one question and checks by which port it is answered, or why not.
fn asked(case: &Case<'_>, place: &Place, question: String, wanted: &str) -> Result<()> {
    let answers = case.probe(place, std::slice::from_ref(&question))?;
    ensure!(answers == [wanted], "{question}: {answers:?}, wanted {wanted}");
    Ok(())
}

/// Podman and Buildah: root of a user namespace in the host's network, waiting for the end of the one pipe of
/// both outputs.
fn podman(case: &Case<'_>, line: &Line) -> Result<()> {
    let engine = Engine::new(case)?;
    let container = engine.container()?;
    let (place, pid) = (Place::Of(container.pid()), container.pid().to_string());
    let words = line.words(&[("UUID", "6b1d6a2e"), ("PID", &pid)]);
    let at = words.iter().position(|word| word == "--netns").context("no --netns")? + 1;
    let netns = words.get(at).context("no path")?;
    let mounted = !netns.starts_with("/proc/");
    if mounted {
        engine.bind(&container, netns)?;
    }
    let pid_file = line.value("--pid").map(|path| directory_of(Path::new(path))).transpose()?;
    let _server = case.server()?;
    let _dns = case.rig.start_dns()?;
    let everywhere = ["::".to_owned()];
    let _container = case.rig.witness(&place, "53,80,8082,9000,9001,9002", &everywhere)?;

    let outcome = engine.pasta(words.get(1..).unwrap_or_default())?;
    // At once, as Podman writes /etc/hosts from it.
    let addresses = ip(case, &place, "-o addr show scope global")?;
    fine(&outcome, line)?;
    let pasta = match &pid_file {
        Some(path) => pid_in(path)?,
        None => started_with("/pasta", netns)?,
    };

    let v4 = match (line.value("-a"), line.value("-n")) {
        (Some(address), Some(length)) => format!(" {address}/{length} "),
        _ => " 203.0.113.2/24 ".to_owned(),
    };
    ensure!(addresses.contains(&v4) && addresses.contains(" 2001:db8:51::2/64 "), "{addresses}");
    ensure!(!addresses.contains("tentative"), "{addresses}");
    let link = ip(case, &place, "-o link show eth0")?;
    let mtu = line.value("--mtu").unwrap_or("65520");
    ensure!(link.contains(&format!(" mtu {mtu} ")) && link.contains("LOWER_UP"), "{link}");
    ensure!(ip(case, &place, "-o link show lo")?.contains("LOWER_UP"), "lo is down");
    let gateway = line.value("-g").unwrap_or("203.0.113.1");
    let route = ip(case, &place, "-4 route show default")?;
    ensure!(route.contains(&format!("default via {gateway} dev eth0")), "{route}");
    leads_out(case, &place, line.value("--dns-forward").context("no --dns-forward")?)?;

    // What host.containers.internal is, and what the gateway is only if that was asked for.
    let host = Family::V4.host();
    let _addressed = case.rig.witness(&Place::Host, "7001", &[host.to_string()])?;
    let _loopback = case.rig.witness(&Place::Host, "7002,7777", &["127.0.0.1".to_owned()])?;
    if line.value("-a").is_none() {
        // It is the address that the host and the container share, if they do.
        asked(case, &place, "tcp,169.254.1.2,7001".into(), "7001")?;
    }
    let mapped = if line.has("--no-map-gw") { "refused" } else { "7002" };
    asked(case, &place, "tcp,203.0.113.1,7002".into(), mapped)?;
    let spliced = if line.value("-T") == Some("7777") { "7777" } else { "refused" };
    asked(case, &place, "tcp,127.0.0.1,7777".into(), spliced)?;
    for (option, protocol) in [("-t", "tcp"), ("-u", "udp")] {
        for specifier in line.values(option).filter(|value| *value != "none") {
            let (address, pairs) = published(specifier)?;
            for (from, to) in pairs {
                let question = format!("{protocol},{address},{from}");
                asked(case, &Place::Host, question, &to.to_string())?;
            }
        }
    }
    if let Some(path) = line.value("--pcap") {
        ensure!(fs::metadata(path)?.len() > 24, "nothing captured");
    }

    // Nobody ends it but Podman its own network for bridges.
    if pid_file.is_some() {
        signal(pasta, Signal::TERM)?;
        return case.rig.wait_gone(pasta, END);
    }
    if mounted {
        let beside = format!("{netns}-of-another");
        engine.run(&["touch", &beside])?;
        engine.run(&["rm", &beside])?;
        ensure!(fs::exists(format!("/proc/{pasta}/exe"))?, "it ended early");
        engine.unbind(netns)?;
    } else {
        drop(container);
    }
    case.rig.wait_gone(pasta, END)
}

/// Makes the directory of a file.
fn directory_of(path: &Path) -> Result<PathBuf> {
    directory(path.parent().context("no directory")?)?;
    Ok(path.to_owned())
}

/// RootlessKit: the plain user, who has made a persistent device in the namespace of a child and configured it;
/// pasta stays in the foreground and is killed in the end.
fn rootlesskit(case: &Case<'_>, line: &Line) -> Result<()> {
    let kit = Engine::new(case)?;
    let child = kit.container()?;
    let place = Place::Of(child.pid());
    let detached = line.line.contains("--userns=");
    let pid = if detached { kit.pid() } else { child.pid() }.to_string();
    if detached {
        kit.bind(&child, "/tmp/rk7/netns")?;
    }
    let value = |option: &str| line.value(option).with_context(|| format!("no {option}"));
    let (name, mtu) = (value("--ns-ifname")?, value("--mtu")?);
    let (address, length) = (value("--address")?, value("--netmask")?);
    let (gateway, name_server) = (value("--gateway")?, value("--dns-forward")?);
    for command in [
        "link set lo up".to_owned(),
        format!("tuntap add name {name} mode tap"),
        format!("link set {name} mtu {mtu} up"),
        format!("addr add {address}/{length} dev {name}"),
        format!("route add default via {gateway} dev {name}"),
    ] {
        ip(case, &place, &command)?;
    }
    let configured = || -> Result<String> {
        let addresses = ip(case, &place, &format!("-4 -o addr show dev {name}"))?;
        Ok(addresses + &ip(case, &place, "-4 route")?)
    };
    let before = configured()?;
    let _server = case.server()?;
    let _dns = case.rig.start_dns()?;
    let _loopback = case.rig.witness(&Place::Host, "7002", &["127.0.0.1".to_owned()])?;

    let words = line.words(&[("PID", &pid)]);
    let mut pasta = Proc::start(command(case, &words, "/tmp", ONE_PIPE)?)?;
    until("the device's carrier", SHORT, || {
        let link = ip(case, &place, &format!("-o link show {name}")).unwrap_or_default();
        link.contains("LOWER_UP")
    })
    .with_context(|| pasta.stdout())?;
    leads_out(case, &place, name_server)?;
    let after = configured()?;
    ensure!(before.replace(" linkdown", "") == after, "{before} before, {after} after");
    let link = ip(case, &place, &format!("-o link show {name}"))?;
    ensure!(link.contains(&format!(" mtu {mtu} ")), "{link}");

    let open = !line.has("--no-map-gw");
    let answers = case.probe(&place, &[format!("tcp,{gateway},7002")])?;
    ensure!((answers == ["7002"]) == open, "the host's loopback: {answers:?}");
    if line.value("--tcp-ports") == Some("auto") {
        let _published = case.rig.witness(&place, "8080", &["0.0.0.0".to_owned()])?;
        let questions = ["tcp,127.0.0.1,8080", "udp,127.0.0.1,8080", "tcp,203.0.113.2,8080"];
        let questions = questions.map(str::to_owned);
        until("the port on the host", Duration::from_secs(5), || {
            case.probe(&Place::Host, &questions).is_ok_and(|got| got == ["8080"; 3])
        })?;
    }
    ensure!(pasta.running()?, "it ended: {}", pasta.stdout());
    pasta.signal(Signal::KILL)?;
    let outcome = pasta.finish(END)?;
    ensure!(outcome.code().is_none(), "{outcome:?}");
    // The device was there before, it stays.
    ip(case, &place, &format!("link show {name}")).map(drop)
}

/// What a virtual machine behind passt has of it: a connection and a datagram to the outside, and all ports.
fn guest_works(case: &Case<'_>, line: &Line, client: &mut Client) -> Result<()> {
    let guest = line.values("--address").next().unwrap_or("203.0.113.2").parse::<Ipv4Addr>()?;
    let peer = case.family.peer();
    let _witness = case.rig.witness(&Place::Outside, "6000", &[peer.to_string()])?;
    client.alive()?;
    let to = SocketAddr::new(peer, 6000);
    let mut connection = client.open(SocketAddr::new(guest.into(), 40_000), to)?;
    client.segment(&mut connection, b"?", false)?;
    let answer = client.receive(&mut connection, 1)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(answer.starts_with("203.0.113.2 "), "{answer}");
    if !line.has("--no-udp") {
        // A resolver of the host's stands for the address that is forwarded.
        let resolver = line.value("--dns-host").zip(line.value("--dns-forward"));
        let (server, asked, port) = match resolver {
            Some((host, guest)) => (host.parse()?, guest.parse()?, 53),
            None => (peer, peer, 6001),
        };
        let _witness =
            case.rig.witness(&Place::Outside, &port.to_string(), &[server.to_string()])?;
        let asked = SocketAddr::new(asked, port);
        client.datagram(SocketAddr::new(guest.into(), 40_001), asked, b"?")?;
        let answer = client.knock(40_001, false)?;
        ensure!(answer.from == asked && answer.payload.starts_with(b"203.0.113.2 "), "{answer:?}");
    }
    for specifier in line.values("--tcp-ports") {
        for (host, port) in ports_of(specifier)? {
            let mut stream = TcpStream::connect(host)?;
            let (mut connection, _) = client.accept(port)?;
            std::io::Write::write_all(&mut stream, b"in")?;
            ensure!(client.receive(&mut connection, 2)? == b"in", "{host}");
        }
    }
    for specifier in line.values("--udp-ports") {
        for (host, port) in ports_of(specifier)? {
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"in", host)?;
            ensure!(client.knock(port, false)?.payload == b"in", "{host}");
        }
    }
    Ok(())
}

/// Where a specifier of libvirt or QEMU listens, and to which ports of the guest that leads.
fn ports_of(specifier: &str) -> Result<Vec<(SocketAddr, u16)>> {
    let (address, ports) = specifier.split_once('/').unwrap_or(("127.0.0.1", specifier));
    let address: IpAddr = address.split('%').next().unwrap_or_default().parse()?;
    let (left_out, taken): (Vec<&str>, Vec<&str>) =
        ports.split(',').partition(|part| part.starts_with('~'));
    let mut all = Vec::new();
    for part in taken {
        all.extend(published(part)?.1);
    }
    let left_out: Vec<u16> =
        left_out.iter().map(|part| part[1..].parse()).collect::<Result<_, _>>()?;
    for port in &left_out {
        let at = SocketAddr::new(address, *port);
        ensure!(TcpStream::connect(at).is_err(), "{at} was left out");
    }
    let all = all.into_iter().filter(|(from, _)| !left_out.contains(from));
    Ok(all.map(|(from, to)| (SocketAddr::new(address, from), to)).collect())
}

/// QEMU: one end of a pair of sockets is descriptor 3, and the PID file is there already, empty.
fn start_for_qemu(case: &Case<'_>, line: &Line) -> Result<(Outcome, Client, PathBuf)> {
    let words = line.words(&[("XXXXXX", "a8Jk2f")]);
    let pid_file =
        PathBuf::from(line.value("--pid").context("no --pid")?.replace("XXXXXX", "a8Jk2f"));
    fs::write(&pid_file, "")?;
    fs::set_permissions(&pid_file, fs::Permissions::from_mode(0o600))?;
    chown(&pid_file, Some(UID), Some(UID))?;
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let redirections = format!("3<&{} </dev/null >/tmp/o 2>&1", inheritable(&theirs)?);
    let mut outcome = Proc::run(command(case, &words, "/tmp", &redirections)?, SHORT)?;
    outcome.stdout = fs::read_to_string("/tmp/o")?;
    Ok((outcome, Client::over(ours)?, pid_file))
}

fn qemu(case: &Case<'_>, line: &Line) -> Result<()> {
    let mut pids = Vec::new();
    // When the connection is lost, QEMU ends passt and starts another one.
    for signalled in [false, true] {
        let (outcome, mut client, pid_file) = start_for_qemu(case, line)?;
        fine(&outcome, line)?;
        let pid = pid_in(&pid_file)?;
        guest_works(case, line, &mut client)?;
        if signalled {
            signal(pid, Signal::TERM)?;
        } else {
            drop(client);
        }
        case.rig.wait_gone(pid, SHORT)?;
        pids.push(pid);
    }
    ensure!(pids.first() != pids.last(), "{pids:?}");
    Ok(())
}

/// Ports for UDP without UDP: understood, and refused for that contradiction, as by the C implementation.
/// What is left of it without that is accepted.
fn qemu_refuses(case: &Case<'_>, line: &Line) -> Result<()> {
    let (outcome, _client, pid_file) = start_for_qemu(case, line)?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    ensure!(outcome.stdout.contains("UDP not enabled"), "{outcome:?}");
    ensure!(fs::read(&pid_file)?.is_empty(), "a process id of nobody");
    let rest = line.line.replace("--udp-ports 10001 ", "");
    // Once in the life of this process.
    let rest = Line { line: Box::leak(rest.into_boxed_str()), ..*line };
    qemu(case, &rest)
}

/// libvirt: in the root directory, with a pipe for each output; waits for the parent, then reads the PID file.
fn start_for_libvirt(case: &Case<'_>, line: &Line) -> Result<(u32, PathBuf)> {
    let logs = format!("{RUNTIME}/log");
    directory(Path::new(&logs))?;
    let words = line.words(&[("LOGDIR", &logs)]);
    let socket = directory_of(Path::new(line.value("--socket").context("no --socket")?))?;
    let pid_file = Path::new(line.value("--pid").context("no --pid")?);
    let outcome = Proc::run(command(case, &words, "/", "</dev/null")?, SHORT)?;
    // QEMU connects, libvirt reads.
    let found = fs::symlink_metadata(&socket).map(|at| at.file_type().is_socket());
    let pid = pid_in(pid_file);
    fine(&outcome, line)?;
    ensure!(found?, "no socket");
    let log = line.value("--log-file").context("no --log-file")?.replace("LOGDIR", &logs);
    ensure!(fs::metadata(&log)?.len() > 0, "nothing in {log}");
    Ok((pid?, socket))
}

fn libvirt(case: &Case<'_>, line: &Line) -> Result<()> {
    let (mut pid, socket) = start_for_libvirt(case, line)?;
    if line.name == "libvirt_again" {
        // On the socket that was left, for the same ports.
        let mut client = Client::connect(&socket)?;
        guest_works(case, line, &mut client)?;
        signal(pid, Signal::KILL)?;
        client.closed()?;
        (pid, _) = start_for_libvirt(case, line)?;
    }
    let mut client = Client::connect(&socket)?;
    guest_works(case, line, &mut client)?;
    drop(client);
    case.rig.wait_gone(pid, SHORT)?;
    ensure!(fs::symlink_metadata(&socket).is_ok(), "the socket is libvirt's to remove");
    Ok(())
}

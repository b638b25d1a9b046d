//! Who reaches whom, as whom: addresses, scopes, hop limits, groups, resolvers, errors inwards.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use std::fs;
use std::time::Duration;
use testkit::peer::stream;
use testkit::{Family, Place, Proc, User, until};

matrix!(all:
    source_is_the_host, outbound_address, outbound_interface, hop_limit_of_answers,
    slow_peer_loses_nothing, stopped_pasta_goes_on, killed_guest_resets_its_peers,
    port_unreachable_in_the_guest, multicast_out, fragmented_ping_at_mtu_1500, many_udp_flows,
    iperf3_parallel, host_link_of_1500,
);
matrix!(once:
    broadcast_out, link_local_peer, gateway_v6_is_the_host, stub_resolver, resolver_at_the_gateway,
    no_ipv6_on_the_host, terminal, udp_flow_ends,
);
matrix!(users: inside_a_user_namespace, command_inside_a_user_namespace, path_through_proc_root, runas);

fn guest_client(case: &Case<'_>, options: &[&str], verb: &str, args: &str) -> Result<String> {
    let guest = case.guest(options)?;
    case.ask(&guest.place(), verb, case.family.peer(), args)
}

fn run(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<&str> = line.split_whitespace().collect();
    case.rig.run(place, SHORT, &argv)
}

/// The peer sees the host's address, and a UDP datagram's own source port.
fn source_is_the_host(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let got = guest_client(case, &[], "who", "")?;
    ensure!(got == case.family.host().to_string(), "TCP comes from {got}");
    let got = guest_client(case, &[], "udp-who", "45678")?;
    let (addr, port) = got.split_once(' ').context("no port")?;
    ensure!(addr == case.family.host().to_string() && port == "45678", "UDP comes from {got}");
    Ok(())
}

fn second_address(case: &Case<'_>) -> Result<&'static str> {
    let (second, length) =
        if case.family == Family::V4 { ("203.0.113.22", 24) } else { ("2001:db8:51::22", 64) };
    run(case, &Place::Host, &format!("ip addr add {second}/{length} dev eth0"))?;
    Ok(second)
}

fn outbound_address(case: &Case<'_>) -> Result<()> {
    let second = second_address(case)?;
    let _server = case.server()?;
    for verb in ["who", "udp-who"] {
        let args = if verb == "who" { "" } else { "45678" };
        let got = guest_client(case, &["-o", second], verb, args)?;
        ensure!(got.split(' ').next() == Some(second), "{verb}: {got}");
    }
    let guest = case.guest(&["-o", second])?;
    let peer = case.family.peer();
    run(case, &guest.place(), &format!("ping -n -c 1 -W 3 {peer}")).map(drop)
}

/// Bound to an interface, nothing goes out by another.
fn outbound_interface(case: &Case<'_>) -> Result<()> {
    let option = if case.family == Family::V4 { "--outbound-if4" } else { "--outbound-if6" };
    let _server = case.server()?;
    let got = guest_client(case, &[option, "eth0"], "get", "1000")?;
    ensure!(got == stream::sum(1000), "{got}");
    run(case, &Place::Host, "ip link add net9 type veth peer name net9b")?;
    run(case, &Place::Host, "ip link set net9 up")?;
    let guest = case.guest(&[option, "net9", "-i", "eth0"])?;
    let got = case.ask(&guest.place(), "connect", case.family.peer(), "")?;
    ensure!(got != "connected", "the connection left by another interface");
    Ok(())
}

/// An answer from behind the router has one hop less to go, as on the host.
fn hop_limit_of_answers(case: &Case<'_>) -> Result<()> {
    let _server = case.rig.serve(&Place::Far, case.family.far(), PORT)?;
    let pcap = "/run/rig/tmp/x.pcap";
    let guest = case.guest(&["--pcap", pcap])?;
    let far = case.family.far();
    let ping = format!("ping -n -c 1 -W 3 {far}");
    let ttl = |text: &str| text.split("ttl=").nth(1).map(|t| t.split(' ').next() == Some("63"));
    ensure!(ttl(&run(case, &Place::Host, &ping)?) == Some(true), "the host does not see 63");
    let text = run(case, &guest.place(), &ping)?;
    ensure!(ttl(&text) == Some(true), "{text}");
    let got = case.ask(&guest.place(), "udp-echo", far, "100")?;
    ensure!(got == "ok", "{got}");
    guest.finish()?;
    case.rig.needs(&["tshark"])?;
    let field = if case.family == Family::V4 { "ip.ttl" } else { "ipv6.hlim" };
    let filter = format!("udp.srcport == {PORT}");
    let argv = ["tshark", "-n", "-r", pcap, "-Y", &filter, "-T", "fields", "-e", field];
    let text = case.rig.run(&Place::Host, SHORT, &argv)?;
    ensure!(text.trim() == "63", "hop limit of the datagram: {text}");
    Ok(())
}

/// A peer that does not read holds the guest up, and gets everything in the end.
fn slow_peer_loses_nothing(case: &Case<'_>) -> Result<()> {
    let server = case.server()?;
    let guest = case.guest(&[])?;
    let size: u64 = 48 << 20;
    let args = format!("put {} {PORT} {size}", case.family.peer());
    let mut client = case.rig.start_peer(&guest.place(), &args)?;
    for _ in 0..4 {
        server.signal(rustix::process::Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(400));
        server.signal(rustix::process::Signal::CONT)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    client.close_stdin();
    let text = client.finish(LONG)?.ok("put")?;
    ensure!(text.trim() == stream::sum(size), "{text}");
    Ok(())
}

/// Nothing is lost when pasta itself is stopped for a while, as with a suspended machine.
fn stopped_pasta_goes_on(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let mut guest = case.guest(&[])?;
    let size: u64 = 256 << 20;
    for verb in ["put", "get"] {
        let args = format!("{verb} {} {PORT} {size}", case.family.peer());
        let client = case.rig.start_peer(&guest.place(), &args)?;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(20));
            guest.proc().signal(rustix::process::Signal::STOP)?;
            std::thread::sleep(Duration::from_millis(700));
            guest.proc().signal(rustix::process::Signal::CONT)?;
        }
        let text = client.finish(LONG)?.ok(verb)?;
        ensure!(text.trim() == stream::sum(size), "{text}");
    }
    Ok(())
}

/// A client that dies with unread data resets its connection; the peer learns of it.
fn killed_guest_resets_its_peers(case: &Case<'_>) -> Result<()> {
    let server = case.server()?;
    let guest = case.guest(&[])?;
    let args = format!("get {} {PORT} {}", case.family.peer(), 1_u64 << 40);
    let client = case.rig.start_peer(&guest.place(), &args)?;
    std::thread::sleep(Duration::from_millis(300));
    drop(client);
    // The second, where the guest's FIN came in front of its reset.
    let broken = ["reset", "Broken pipe"];
    until("the server's view of the end", SHORT, || {
        let said = server.stdout();
        broken.iter().any(|word| said.contains(word))
    })
}

/// What the guest's kernel says about a datagram for a closed port reaches its sender.
fn port_unreachable_in_the_guest(case: &Case<'_>) -> Result<()> {
    let mut server = case.server()?;
    let guest = case.guest(&[])?;
    // The client's socket is closed when the answers come.
    case.ask(&guest.place(), "udp-late", case.family.peer(), "")?;
    let line = server.wait_line("late:", SHORT)?;
    ensure!(line.contains("refused"), "{line}");
    Ok(())
}

fn multicast_out(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    let (group, listen, send) = if case.family == Family::V4 {
        let listen = "UDP4-RECVFROM:6000,ip-add-membership=239.1.2.3:203.0.113.10";
        ("239.1.2.3", listen.to_owned(), "UDP4-DATAGRAM:239.1.2.3:6000")
    } else {
        let listen = "UDP6-RECVFROM:6000,ipv6-join-group=[ff05::1234]:out0";
        ("ff05::1234", listen.to_owned(), "UDP6-DATAGRAM:[ff05::1234]:6000")
    };
    // A route for the group, as programs on such links have it.
    let route = format!("ip route add {group} dev eth0");
    run(case, &Place::Host, &route)?;
    let guest = case.guest(&[])?;
    // Copied from the host, or added where the kernel has a route for groups of its own.
    let _ = run(case, &guest.place(), &route);
    group_datagram(case, &guest.place(), &listen, send)
}

fn broadcast_out(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["socat"])?;
    for to in ["203.0.113.255", "255.255.255.255"] {
        let guest = case.guest(&[])?;
        let listen = "UDP4-RECVFROM:6000,broadcast";
        group_datagram(case, &guest.place(), listen, &format!("UDP4-DATAGRAM:{to}:6000,broadcast"))
            .with_context(|| to.to_owned())?;
    }
    Ok(())
}

/// Sends a line from `place` and expects it at a listener in the outside.
fn group_datagram(case: &Case<'_>, place: &Place, listen: &str, send: &str) -> Result<()> {
    let mut listener = case.rig.start(&Place::Outside, &["socat", "-u", listen, "STDOUT"])?;
    until("the listener", SHORT, || {
        run(case, &Place::Outside, "ss -Hlun sport = :6000").is_ok_and(|t| !t.trim().is_empty())
    })?;
    let script = format!("echo to all of you | socat -u STDIN {send}");
    case.rig.run(place, SHORT, &["sh", "-c", &script])?;
    listener.wait_line("to all of you", Duration::from_secs(5)).map(drop)
}

fn fragmented_ping_at_mtu_1500(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&["-m", "1500"])?;
    let peer = case.family.peer();
    for size in [1472, 1473, 5000, 60000] {
        let line = format!("ping -n -c 3 -i 0.2 -W 3 -s {size} {peer}");
        let text = run(case, &guest.place(), &line)?;
        ensure!(text.contains(" 0% packet loss"), "{text}");
    }
    Ok(())
}

/// As many clients as a busy resolver has questions.
fn many_udp_flows(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    // While a neighbour is being resolved, the guest's kernel keeps only some of what is sent.
    case.ask(&guest.place(), "udp-echo", case.family.peer(), "100")?;
    let got = case.ask(&guest.place(), "udp-many", case.family.peer(), "500")?;
    ensure!(got == "500", "{got} of 500 were answered");
    Ok(())
}

fn iperf3_parallel(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["iperf3", "ss"])?;
    let addr = case.family.peer().to_string();
    let _server = case.rig.start(&Place::Outside, &["iperf3", "-s", "-1", "-B", &addr])?;
    case.rig.wait_listen(&Place::Outside, 5201)?;
    let guest = case.guest(&["-m", "1500"])?;
    let argv = ["iperf3", "-c", &addr, "-t", "2", "-J", "-P", "8", "--bidir"];
    let text = case.rig.run(&guest.place(), SHORT, &argv)?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    for stream in report["end"]["streams"].as_array().context("no streams")? {
        let bytes = stream["receiver"]["bytes"].as_f64().unwrap_or(0.0);
        ensure!(bytes > 100_000.0, "a stream starved: {stream}");
    }
    Ok(())
}

/// The host's link is an ordinary one, the tap's MTU is not.
fn host_link_of_1500(case: &Case<'_>) -> Result<()> {
    run(case, &Place::Host, "ip link set eth0 mtu 1500")?;
    run(case, &Place::Outside, "ip link set out0 mtu 1500")?;
    let _server = case.server()?;
    let guest = case.guest(&[])?;
    let size = 16 << 20;
    for verb in ["put", "get"] {
        let got = case.ask(&guest.place(), verb, case.family.peer(), &size.to_string())?;
        ensure!(got == stream::sum(size), "{verb}: {got}");
    }
    for size in [1400, 1473, 8000, 60000] {
        let got = case.ask(&guest.place(), "udp-echo", case.family.peer(), &size.to_string())?;
        ensure!(got == "ok", "{size}: {got}");
    }
    let got = case.ask(&guest.place(), "udp-out", case.family.peer(), "1000 1400 10000")?;
    ensure!(got == "1000 1000", "arrived, different ones: {got}");
    Ok(())
}

/// A question and an answer are forgotten after half a minute: their socket is closed.
fn udp_flow_ends(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let mut guest = case.guest(&[])?;
    let pid = guest.proc().pid();
    let sockets = || fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let before = sockets();
    let got = case.ask(&guest.place(), "udp-many", case.family.peer(), "50")?;
    ensure!(got == "50" && sockets() >= before + 50, "{got}, {} descriptors", sockets());
    until("the end of the flows", Duration::from_secs(45), || sockets() <= before)
}

/// Peers on the host's own link, by addresses that mean nothing elsewhere.
fn link_local_peer(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["curl", "ping"])?;
    run(case, &Place::Outside, "ip addr add fe80::77/64 dev out0 nodad")?;
    let _server = case.rig.serve(&Place::Outside, "::".parse()?, PORT)?;
    let guest = case.guest(&[])?;
    run(case, &guest.place(), "ping -6 -n -c 1 -W 3 fe80::77%eth0")?;
    let url = format!("http://[fe80::77%25eth0]:{PORT}/1000");
    let text = run(
        case,
        &guest.place(),
        &format!("curl -sS --max-time 10 -o /dev/null -w %{{size_download}} {url}"),
    )?;
    ensure!(text == "1000", "{text}");
    Ok(())
}

fn gateway_v6_is_the_host(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["curl"])?;
    let _server = case.rig.serve(&Place::Host, "::1".parse()?, PORT)?;
    let guest = case.guest(&[])?;
    let url = format!("http://[fe80::1%25eth0]:{PORT}/1000");
    let text = run(
        case,
        &guest.place(),
        &format!("curl -sS --max-time 10 -o /dev/null -w %{{size_download}} {url}"),
    )?;
    ensure!(text == "1000", "{text}");
    run(case, &guest.place(), "ping -6 -n -c 1 -W 3 fe80::1%eth0").map(drop)
}

fn resolver_is(case: &Case<'_>, server: &str) -> Result<()> {
    case.rig.needs(&["udhcpc", "dig"])?;
    let script = "/run/rig/tmp/script";
    fs::write(script, "#!/bin/sh\n[ \"$1\" = bound ] && echo \"dns=$dns\"\nexit 0\n")?;
    run(case, &Place::Host, &format!("chmod 755 {script}"))?;
    let bare = case.pasta()?.args(&["--dhcp-dns"]).start_hold()?;
    run(case, &bare.place(), "ip link set eth0 up")?;
    let line = format!("udhcpc -i eth0 -n -q -f -t 5 -T 1 -s {script}");
    let text = run(case, &bare.place(), &line)?;
    ensure!(text.contains(&format!("dns={server}\n")), "{text}");
    let guest = case.guest(&[])?;
    for mode in ["+notcp", "+tcp"] {
        let line = format!("dig @{server} +time=3 +tries=2 +short {mode} www.rig.example A");
        let answer = run(case, &guest.place(), &line)?;
        ensure!(answer.trim() == Family::V4.far().to_string(), "{mode}: {answer}");
    }
    Ok(())
}

fn dnsmasq(case: &Case<'_>, place: &Place, addr: &str) -> Result<Proc> {
    case.rig.needs(&["dnsmasq"])?;
    let listen = format!("--listen-address={addr}");
    let argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"];
    let more = ["--user=root", "--pid-file=", "--bind-interfaces", &listen];
    let record = ["--host-record=www.rig.example,198.18.0.1"];
    let argv: Vec<&str> = argv.into_iter().chain(more).chain(record).collect();
    let dns = case.rig.start(place, &argv)?;
    case.rig.wait_listen(place, 53)?;
    Ok(dns)
}

/// A resolver on the host's loopback is reached through the gateway's address.
fn stub_resolver(case: &Case<'_>) -> Result<()> {
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.53\n")?;
    let _dns = dnsmasq(case, &Place::Host, "127.0.0.53")?;
    resolver_is(case, "203.0.113.1")
}

/// The gateway as resolver, an address that otherwise means the host.
fn resolver_at_the_gateway(case: &Case<'_>) -> Result<()> {
    fs::write("/etc/resolv.conf", "nameserver 203.0.113.1\n")?;
    let _dns = dnsmasq(case, &Place::Outside, "203.0.113.1")?;
    resolver_is(case, "203.0.113.1")
}

fn no_ipv6_on_the_host(case: &Case<'_>) -> Result<()> {
    for key in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6"), "1")?;
    }
    let _server = case.server()?;
    let got = guest_client(case, &[], "get", "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

/// An interactive shell has a terminal with job control.
fn terminal(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["script", "bash"])?;
    let command = case.pasta()?.args(&["--config-net"]).command();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut argv = vec!["env", "SHELL=/bin/bash", "script", "-qec", &line, "/dev/null"];
    let mut shell = Proc::start(case.rig.command(&Place::Host, User::Root, &argv))?;
    shell.say("sleep 9 & jobs; kill %1; ip -o addr | grep -c 203.0.113.2/24; exit 7")?;
    let outcome = shell.finish(SHORT)?;
    argv.clear();
    ensure!(outcome.code() == Some(7), "{outcome:?}");
    ensure!(!outcome.stdout.contains("no job control"), "{outcome:?}");
    ensure!(outcome.stdout.contains("Running"), "{outcome:?}");
    Ok(())
}

/// As rootless container engines call it: uid 0 of a user namespace of its own, which also owns the
/// network namespace.
fn inside_a_user_namespace(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let helper = case.rig.helper().display().to_string();
    let peer = case.family.peer();
    let pasta = case.pasta()?.args(&["--config-net", "-q", "--pid", "/run/rig/tmp/p", "--netns"]);
    let argv = pasta.command();
    let words = std::iter::once(argv.get_program()).chain(argv.get_args());
    let words: Vec<_> =
        words.map(|w| w.to_string_lossy()).filter(|w| *w != "--clear-groups").collect();
    // The command line drops privileges itself; what it drops to is already there inside.
    let start = words.iter().position(|word| word.ends_with("/pasta")).context("no pasta")?;
    let pasta = words[start..].join(" ");
    let script = format!(
        "unshare --net sleep 60 & pid=$!; \
         while [ \"$(readlink /proc/$pid/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; done; \
         {pasta} /proc/$pid/ns/net || exit 9; \
         nsenter --net=/proc/$pid/ns/net {helper} get {peer} {PORT} 100000; \
         kill $(cat /run/rig/tmp/p) $pid"
    );
    let argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script];
    let text = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?.ok("the script")?;
    ensure!(text.trim() == stream::sum(100_000), "{text}");
    Ok(())
}

fn command_inside_a_user_namespace(case: &Case<'_>) -> Result<()> {
    let pasta = case.pasta()?.args(&["--config-net", "--", "sh", "-c", "id -u; exit 4"]);
    let argv = pasta.command();
    let words = std::iter::once(argv.get_program()).chain(argv.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy().into_owned()).collect();
    let start = words.iter().position(|word| word.ends_with("/pasta")).context("no pasta")?;
    let mut argv = ["unshare", "--user", "--map-root-user"].map(str::to_owned).to_vec();
    argv.extend_from_slice(&words[start..]);
    let outcome = case.rig.outcome(&Place::Host, case.user, SHORT, &argv)?;
    ensure!(outcome.code() == Some(4) && outcome.stdout == "0\n", "{outcome:?}");
    Ok(())
}

/// A bind mount that exists only in the mount namespace of the process.
fn path_through_proc_root(case: &Case<'_>) -> Result<()> {
    let _server = case.server()?;
    let holder = case.rig.hold_with(case.user, &["--mount"])?;
    let pid = holder.pid();
    let line = format!("nsenter -t {pid} -m -- mount -t tmpfs -o mode=755 tmpfs /mnt");
    run(case, &Place::Host, &line)?;
    run(case, &Place::Host, &format!("nsenter -t {pid} -m -- touch /mnt/netns"))?;
    let line = format!("nsenter -t {pid} -m -- mount --bind /proc/{pid}/ns/net /mnt/netns");
    run(case, &Place::Host, &line)?;
    let user = format!("--userns=/proc/{pid}/ns/user");
    let net = format!("--netns=/proc/{pid}/root/mnt/netns");
    let argv = ["--config-net", "-q", &user, &net];
    case.pasta()?.args(&argv).run(SHORT)?.ok("pasta")?;
    let got = case.ask(&holder.place(), "get", case.family.peer(), "100000")?;
    ensure!(got == stream::sum(100_000), "{got}");
    Ok(())
}

/// Root may choose whom the data path becomes; everybody may name themselves.
fn runas(case: &Case<'_>) -> Result<()> {
    let (id, wanted) =
        if case.user == User::Root { ("1234:1235", "1234") } else { ("1000:1000", "1000") };
    let mut guest = case.guest(&["--runas", id])?;
    let status = fs::read_to_string(format!("/proc/{}/status", guest.proc().pid()))?;
    let uid = status.lines().find(|line| line.starts_with("Uid:")).context("no uid")?;
    ensure!(uid.split_whitespace().skip(1).all(|word| word == wanted), "{uid}");
    Ok(())
}

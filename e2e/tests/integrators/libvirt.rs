//! libvirt. The command lines of its newest version are in `command_lines.rs`.

use crate::{contract, later, words};
use anyhow::{Context, Result, ensure};
use e2e::clients::{command, pid_in, user_directories};
use e2e::hypervisor::Client;
use e2e::{Case, SHORT};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use testkit::{Outcome, Place, Proc};

contract!(ordinary, Ordinary:
    an_older_version_without_a_pid_file,
    specifiers_with_addresses_and_devices,
    a_failed_start_has_a_status_and_a_reason,
);
later!("vhost-user":
    the_repair_socket_appears_next_to_the_socket,
    a_hypervisor_that_reconnects_is_served_again,
);

const SOCKET: &str = "/run/user/1000/1-guest-net0.socket";
const PID: &str = "/run/user/1000/1-guest-net0-passt.pid";

fn start(case: &Case<'_>, options: &str) -> Result<Outcome> {
    let line = words(&format!("passt --one-off --socket {SOCKET} {options}"));
    Proc::run(command(case, &line, "/", "</dev/null")?, SHORT)
}

fn an_older_version_without_a_pid_file(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    let outcome = start(case, "--mac-addr 52:54:00:12:34:57 --tcp-ports 2022:22")?;
    ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
    let mut client = Client::connect(Path::new(SOCKET))?;
    client.alive()?;
    let _stream = TcpStream::connect("127.0.0.1:2022")?;
    let syn = client.knock(22, true)?;
    ensure!(syn.mac == client.mac, "{syn:?}");
    let pid = e2e::clients::started_with("/passt", SOCKET)?;
    drop(client);
    case.rig.wait_gone(pid, SHORT)
}

/// `[ADDR][%DEV]/PORTS`, the address without brackets, the ports with exceptions.
fn specifiers_with_addresses_and_devices(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    let specifiers = [
        "%eth0/4001",
        "203.0.113.2%eth0/4002:22",
        "2001:db8:51::2/4003",
        "2001:db8:51::2%eth0/4004-4005:24-25",
        "::1/4006",
        "127.0.0.1/4010-4019:10-19,~4015",
        "4020,4022-4023:22-23",
        "/4030",
    ];
    let mut options = format!("--pid {PID}");
    for specifier in specifiers {
        options += &format!(" --tcp-ports {specifier} --udp-ports {specifier}");
    }
    let outcome = start(case, &options)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let mut client = Client::connect(Path::new(SOCKET))?;
    client.alive()?;
    let (v4, v6, lo) = ("203.0.113.2", "2001:db8:51::2", "127.0.0.1");
    for (address, port, inside) in [
        (v6, 4003, Some(4003)),
        ("::1", 4006, Some(4006)),
        (lo, 4014, Some(14)),
        (lo, 4015, None),
        (lo, 4016, Some(16)),
        (lo, 4020, Some(4020)),
        (lo, 4021, None),
        (lo, 4023, Some(23)),
        ("::1", 4030, Some(4030)),
    ] {
        let at = SocketAddr::new(address.parse::<IpAddr>()?, port);
        let stream = TcpStream::connect(at);
        ensure!(stream.is_ok() == inside.is_some(), "{at}: {stream:?}");
        if let Some(inside) = inside {
            client.knock(inside, true).with_context(|| at.to_string())?;
        }
    }
    // Those with a device are for who comes by it.
    for (address, port, inside) in
        [(v4, 4001, 4001), (v6, 4001, 4001), (v4, 4002, 22), (v6, 4004, 24), (v6, 4005, 25)]
    {
        // It need not be accepted: that it comes to the guest is what counts.
        let argv = format!("connect {address} {port}");
        let _peer = case.rig.start_peer(&Place::Outside, &argv)?;
        client.knock(inside, true).with_context(|| format!("{address} {port}"))?;
    }
    let pid = pid_in(Path::new(PID))?;
    drop(client);
    case.rig.wait_gone(pid, SHORT)
}

fn a_failed_start_has_a_status_and_a_reason(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    let _taken = case.rig.witness(&Place::Host, "10001", &["0.0.0.0".to_owned()])?;
    for (options, reason) in [
        ("--tcp-ports 10001", "Listen failed for HOST TCP port */10001: Address already in use"),
        ("--interface nosuch", "Invalid interface name nosuch: No such device"),
        ("--pid /nonexist/p", "Couldn't open PID file /nonexist/p: No such file or directory"),
    ] {
        let outcome = start(case, options)?;
        ensure!(outcome.code() == Some(1), "{options}: {outcome:?}");
        ensure!(outcome.stderr.lines().any(|line| line == reason), "{options}: {outcome:?}");
    }
    Ok(())
}

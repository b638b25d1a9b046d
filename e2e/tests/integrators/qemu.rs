//! QEMU's `-netdev passt`. The command lines of real calls are in `command_lines.rs`.

use crate::{contract, later, words};
use anyhow::{Result, ensure};
use e2e::clients::{command, pid_in, user_directories};
use e2e::hypervisor::{Client, inheritable};
use e2e::{Case, SHORT};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use testkit::Proc;

contract!(ordinary, Ordinary: every_option_of_the_backend_is_accepted);
later!("vhost-user": features_that_are_not_there_are_masked);

const PID: &str = "/tmp/passt-a8Jk2f.pid";

/// In the order in which QEMU has them, each with a value; ports and protocols that are off in two lines, as
/// they contradict each other.
fn every_option_of_the_backend_is_accepted(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    let names = "--mtu 1400 --address 203.0.113.2 --netmask 24 --mac-addr 9a:55:00:00:00:01 \
                 --gateway 203.0.113.1 --interface eth0 --outbound 203.0.113.2 --outbound-if4 eth0 \
                 --outbound-if6 eth0 --dns 203.0.113.53 --fqdn a.example.test --no-dhcp-dns \
                 --no-dhcp-search --map-host-loopback 203.0.113.7 --map-guest-addr 203.0.113.8 \
                 --dns-forward 203.0.113.9 --dns-host 203.0.113.53";
    let ports = "--freebind --tcp-ports 10001,10003 --udp-ports 10001";
    let off = "--no-icmp --no-dhcp --no-ndp --no-dhcpv6 --no-ra";
    for (line, further) in [
        (format!("passt --quiet {names} {ports}"), "--trace"),
        (format!("passt --quiet {off} --ipv4-only {ports}"), "--debug"),
        (format!("passt --quiet --no-tcp --no-udp {off} --freebind --ipv6-only"), "--one-off"),
        ("passt --quiet --no-udp --ipv4-only".to_owned(), "--stderr"),
        ("passt --quiet --no-tcp".to_owned(), "--one-off"),
    ] {
        let mut line = words(&line);
        // A list of search domains is one word.
        line.extend(["--search".to_owned(), "a.example.test b.example.test c".to_owned()]);
        line.extend(words(&format!("{further} --pid {PID} --fd 3")));
        let _ = fs::remove_file(PID);
        fs::write(PID, "")?;
        std::os::unix::fs::chown(PID, Some(e2e::clients::UID), Some(e2e::clients::UID))?;
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let redirections = format!("3<&{} </dev/null", inheritable(&theirs)?);
        let outcome = Proc::run(command(case, &line, "/tmp", &redirections)?, SHORT)?;
        drop(theirs);
        ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{line:?}: {outcome:?}");
        let pid = pid_in(Path::new(PID))?;
        ensure!(fs::exists(format!("/proc/{pid}/exe"))?, "{line:?}: it has ended");
        let mut client = Client::over(ours)?;
        if !line.contains(&"--ipv6-only".to_owned()) {
            client.alive()?;
        }
        drop(client);
        case.rig.wait_gone(pid, SHORT)?;
    }
    Ok(())
}

//! passt with virtual machines: QEMU in all the ways in which it is connected, and a Linux guest that
//! uses the network.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::vm::{
    AFTER_DHCP, Check, FAMILIES, FORWARDED, Passt, SMOKE, bulk, bytes, check, dhcp, dhcpv6,
};
use e2e::vm::{forwarded, has_ipv4, names, pause, ping, servers, slaac, tcp_out, udp_out};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use testkit::guest::{Guest, inheriting};
use testkit::peer::stream;
use testkit::{Place, User, wait_for};

matrix!(users: everyday);
matrix!(once:
    lifecycle, descriptor_of_socket, descriptor_of_stream, qrap_plain, qrap_patching, netdev_passt,
);

const EVERYDAY: &[Check] = &[
    ("SLAAC", slaac),
    ("DHCPv6 by dhclient", dhcpv6),
    ("DHCP by udhcpc", dhcp),
    ("ping the gateway and outside addresses", ping),
    ("names", names),
    ("TCP out", tcp_out),
    ("UDP out", udp_out),
    ("forwarded ports, as whom", forwarded),
    ("bulk", bulk),
];

fn everyday(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case)?;
    let mut guest = case.rig.machine(case.user)?.netdev(&passt.netdev()).boot()?;
    check(case, &mut guest, EVERYDAY)?;
    ensure!(passt.proc.running()?, "passt has ended");
    Ok(())
}

/// Pauses, resets, and a second machine after the first, all with the same passt.
fn lifecycle(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case)?;
    let machine = case.rig.machine(case.user)?.netdev(&passt.netdev());
    let mut guest = machine.boot()?;
    check(case, &mut guest, &[("DHCP", dhcp), ("SLAAC", slaac), ("pause", paused)])?;
    guest.control("system_reset")?;
    guest.wait_ready().context("check: reset")?;
    check(case, &mut guest, SMOKE).context("after a reset")?;
    // Dropped, it is killed.
    drop(guest);
    let mut guest = machine.append("ip=dhcp").boot().context("check: a second machine")?;
    check(case, &mut guest, &[("DHCP while booting", booted)])?;
    check(case, &mut guest, AFTER_DHCP).context("in a second machine")?;
    ensure!(passt.proc.running()?, "passt has ended");
    Ok(())
}

fn booted(_: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let said = guest.run("cat /tmp/ipconfig /run/net-eth0.conf")?;
    ensure!(said.contains("IPV4DNS0='203.0.113.53'"), "{said}");
    has_ipv4(guest).context(said)
}

/// Bytes that came to the servers and left them, as the outside counts them.
fn moved(case: &Case<'_>) -> Result<[u64; 2]> {
    let port = format!("sport = :{PORT}");
    let argv = ["ss", "-Htin", "state", "established", &port];
    let text = case.rig.run(&Place::Outside, SHORT, &argv)?;
    let sum = |wanted| {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(wanted));
        words.filter_map(|count| count.parse::<u64>().ok()).sum()
    };
    Ok(["bytes_received:", "bytes_acked:"].map(sum))
}

/// A guest that stands still in the middle of transfers, for longer than most timers, loses nothing.
fn paused(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    case.rig.needs(&["ss"])?;
    let _servers = servers(case)?;
    let size = bytes().max(64 << 20);
    let mut jobs = Vec::new();
    for (verb, family) in ["put", "get"].into_iter().zip(FAMILIES) {
        jobs.push((verb, guest.start(&format!("peer {verb} {} {PORT} {size}", family.peer()))?));
    }
    let begun = |moved: [u64; 2]| moved.into_iter().all(|count| count > 8 << 20);
    wait_for("the transfers", SHORT, || Ok(begun(moved(case)?).then_some(())))?;
    guest.control("stop")?;
    // What the host's kernel still has room for goes on.
    let mut last = [0; 2];
    wait_for("the transfers to stop", SHORT, || {
        std::thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, moved(case)?);
        Ok((before == last).then_some(()))
    })?;
    eprintln!("{last:?} bytes of {size} when paused");
    ensure!(begun(last) && last.iter().all(|count| *count < size), "paused too late: {last:?}");
    // Nothing can be waited for here: that nothing happens is the point.
    std::thread::sleep(pause());
    let now = moved(case)?;
    ensure!(now == last, "{last:?} bytes when paused, {now:?} after that");
    guest.control("cont")?;
    for (verb, job) in jobs {
        let got = guest.finish(&job, LONG)?;
        ensure!(got == stream::sum(size), "{verb} after {:?}: {got}", pause());
    }
    Ok(())
}

/// passt and QEMU with the two ends of a socket pair.
fn descriptors(case: &Case<'_>, netdev: &str) -> Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let passt = case.rig.passt(case.user)?;
    let number = ours.as_raw_fd().to_string();
    let passt = passt.args(&["-q", "-f", "--fd", &number]).args(FORWARDED);
    let mut passt = inheriting(&ours, || passt.start())?;
    drop(ours);
    let netdev = netdev.replace("FD", &theirs.as_raw_fd().to_string());
    let mut guest = inheriting(&theirs, || case.rig.machine(case.user)?.netdev(&netdev).start())?;
    drop(theirs);
    guest.wait_ready()?;
    check(case, &mut guest, SMOKE)?;
    ensure!(passt.running()?, "passt has ended: {}", passt.stderr());
    guest.quit()?;
    let outcome = passt.finish(SHORT).context("passt after the end of the machine")?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "not quiet: {outcome:?}");
    Ok(())
}

fn descriptor_of_socket(case: &Case<'_>) -> Result<()> {
    descriptors(case, "socket,id=net,fd=FD")
}

fn descriptor_of_stream(case: &Case<'_>) -> Result<()> {
    descriptors(case, "stream,id=net,server=off,addr.type=fd,addr.str=FD")
}

/// A /tmp of this rig's own, for what has its place there. What is needed has been installed before.
fn private_tmp(case: &Case<'_>) -> Result<()> {
    let argv = ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"];
    case.rig.run(&Place::Host, SHORT, &argv).map(drop)
}

/// A machine whose QEMU is started by qrap, which finds passt at its default place.
fn by_qrap(case: &Case<'_>, start: impl FnOnce(&str) -> Result<Guest>) -> Result<()> {
    let qrap = case.rig.qrap()?.display().to_string();
    let passt = case.rig.passt(case.user)?.args(&["-f"]).args(FORWARDED);
    case.rig.machine(case.user)?;
    private_tmp(case)?;
    let mut passt = Passt::running(passt.start()?, "/tmp/passt_1.socket".into())?;
    let mut guest = start(&qrap)?;
    guest.wait_ready()?;
    check(case, &mut guest, SMOKE)?;
    ensure!(passt.proc.running()?, "passt has ended");
    Ok(())
}

/// qrap gives the command a descriptor of a given number.
fn qrap_plain(case: &Case<'_>) -> Result<()> {
    by_qrap(case, |qrap| {
        let command = [qrap, "5", "qemu-system-x86_64"];
        case.rig.machine(case.user)?.qemu(&command, case.user).netdev("socket,id=net,fd=5").start()
    })
}

/// qrap stands for QEMU and replaces the network on its command line, here one like libvirt's.
fn qrap_patching(case: &Case<'_>) -> Result<()> {
    by_qrap(case, |qrap| {
        let text =
            case.rig.run(&Place::Host, SHORT, &["qemu-system-x86_64", "-machine", "help"])?;
        let mut names = text.lines().filter_map(|line| line.split_whitespace().next());
        let name = names.find(|name| name.starts_with("pc-q35-"));
        let machine = case.rig.machine(case.user)?.machine_type(name.context("no pc-q35")?);
        let port = "pcie-root-port,id=pci.3,bus=pcie.0,addr=0x3,chassis=3";
        let machine = machine.qemu(&[qrap], case.user).args(&["-device", port]);
        machine.netdev("user,id=net").start()
    })
}

/// QEMU starts passt, and ends it.
fn netdev_passt(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["pgrep"])?;
    let passt = case.rig.passt_path()?;
    let qemu = case.rig.debian_qemu(case.user)?;
    let ports = "tcp-ports=8000-8001,udp-ports=8000-8001";
    let netdev = format!("passt,id=net,path={},{ports}", passt.display());
    // The thread that QEMU 11.1 has for its control socket oversleeps requests now and then, its end, too.
    let machine = case.rig.machine(case.user)?.qemu(&qemu, User::Root).netdev(&netdev);
    let machine = machine.uncontrolled();
    private_tmp(case)?;
    let mut guest = machine.boot()?;
    let pid = case.rig.run(&Place::Host, SHORT, &["pgrep", "-f", "^[^ ]*passt[^ ]* .*--fd 3"])?;
    let pid = pid.trim().parse().with_context(|| format!("one passt: {pid}"))?;
    check(case, &mut guest, SMOKE)?;
    guest.quit()?;
    case.rig.wait_gone(pid, SHORT).context("passt after the end of the machine")?;
    Ok(())
}

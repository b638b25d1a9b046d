//! The rig: this process plays the host, a second namespace the outside, a third the guest.
//!
//! ```text
//! guest ══ forwarder ══ host: eth0 203.0.113.2 ── veth ── o0 203.0.113.1 (gateway), .10 (peer)
//! ```

use crate::command::{self, Running, sh, words};
use crate::peer::AS_USER;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// MTU of the link between host and outside while forwarders are measured.
pub(crate) const LINK_MTU: u32 = 65_520;
/// The port on which the server listens.
pub(crate) const PORT: u16 = 5001;
/// Where it listens outside: not the gateway, whose address forwarders may map to the host.
pub(crate) const OUTSIDE: &str = "203.0.113.10";
/// The host's own address.
pub(crate) const HOST: &str = "203.0.113.2";

/// The host's addresses, which a forwarder gives its guest.
pub(crate) const ADDRESSES: [&str; 2] = ["203.0.113.2/24", "2001:db8:51::2/64"];
/// Gateways of the host.
pub(crate) const GATEWAYS: [&str; 2] = ["203.0.113.1", "2001:db8:51::10"];
/// A place in this mount namespace alone where every user may make files.
pub(crate) const SCRATCH: &str = "/run/bench";

/// Host and outside.
#[derive(Debug)]
pub(crate) struct Rig {
    outside: Running,
}

impl Rig {
    /// Builds it in the namespaces this process is in.
    pub(crate) fn build() -> Result<Self> {
        // Tap devices for ordinary users, in this mount namespace alone.
        fs::create_dir_all("/dev/net")?;
        for line in [
            "mount -t tmpfs -o mode=755 tun /dev/net",
            "mknod /dev/net/tun c 10 200",
            "chmod 666 /dev/net/tun",
            "ip link set lo up",
            "mount -t tmpfs -o mode=755 run /run",
            "mkdir --mode=1777 /run/bench",
        ] {
            sh(line)?;
        }
        let rig = Self { outside: sleeper("unshare --net sleep infinity")? };
        let pid = rig.outside.id();
        sh(&format!(
            "ip link add eth0 mtu {LINK_MTU} type veth peer o0 mtu {LINK_MTU} netns {pid}"
        ))?;
        for line in [
            "ip link set lo up",
            "ip addr add 203.0.113.1/24 dev o0",
            "ip addr add 203.0.113.10/24 dev o0",
            "ip addr add 2001:db8:51::10/64 dev o0 nodad",
            "ip link set o0 up",
        ] {
            sh(&format!("nsenter --target {pid} --net {line}"))?;
        }
        for line in [
            &format!("ip addr add {} dev eth0", ADDRESSES[0]),
            &format!("ip addr add {} dev eth0 nodad", ADDRESSES[1]),
            "ip link set eth0 up",
            &format!("ip route add default via {}", GATEWAYS[0]),
            &format!("ip -6 route add default via {}", GATEWAYS[1]),
        ] {
            sh(line)?;
        }
        ports_of(None)?;
        ports_of(Some(pid))?;
        Ok(rig)
    }

    /// The process that holds the outside.
    pub(crate) fn outside(&self) -> u32 {
        self.outside.id()
    }

    /// Sets the congestion control of host and outside.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<()> {
        congestion_of(None, name)?;
        congestion_of(Some(self.outside.id()), name)
    }

    /// Sets the MTU of the link.
    pub(crate) fn set_link_mtu(&self, mtu: u32) -> Result<()> {
        let pid = self.outside.id();
        sh(&format!("ip link set eth0 mtu {mtu}"))?;
        sh(&format!("nsenter --target {pid} --net ip link set o0 mtu {mtu}"))?;
        Ok(())
    }
}

/// A namespace that a forwarder joins.
#[derive(Debug)]
pub(crate) struct Guest(Running);

impl Guest {
    /// A fresh one of the ordinary user.
    pub(crate) fn new(congestion: &str) -> Result<Self> {
        let guest = Self(sleeper(&format!(
            "{AS_USER} unshare --user --map-root-user --net sleep infinity"
        ))?);
        let pid = guest.pid();
        let start = Instant::now();
        while fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default().is_empty() {
            ensure!(start.elapsed() < Duration::from_secs(5), "the user namespace got no map");
            thread::sleep(Duration::from_millis(2));
        }
        sh(&format!("nsenter --target {pid} --net ip link set lo up"))?;
        congestion_of(Some(pid), congestion)?;
        ports_of(Some(pid))?;
        Ok(guest)
    }

    /// The process that holds the namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// `program` in the network namespace of a process (or in ours), on one CPU (or on all).
pub(crate) fn inside(pid: Option<u32>, program: &Path, cpu: Option<u32>) -> Command {
    let mut line = String::new();
    if let Some(pid) = pid {
        line += &format!("nsenter --target {pid} --net ");
    }
    if let Some(cpu) = cpu {
        line += &format!("taskset --cpu-list {cpu} ");
    }
    if line.is_empty() {
        return Command::new(program);
    }
    let mut command = words(&line);
    command.arg(program);
    command
}

/// Starts a process that holds a new network namespace, and waits until it does.
fn sleeper(line: &str) -> Result<Running> {
    let mut command = words(line);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Running(command.spawn().with_context(|| format!("cannot run {line}"))?);
    let mine = fs::read_link("/proc/self/ns/net")?;
    let start = Instant::now();
    loop {
        // The last program of the chain must run: only then the namespaces are final.
        let name = fs::read_to_string(format!("/proc/{}/comm", running.id())).unwrap_or_default();
        let net = fs::read_link(format!("/proc/{}/ns/net", running.id())).unwrap_or_default();
        if name.trim() == "sleep" && net != mine {
            return Ok(running);
        }
        ensure!(start.elapsed() < Duration::from_secs(5), "{line}: no namespace");
        thread::sleep(Duration::from_millis(2));
    }
}

fn sysctl(pid: Option<u32>, setting: &str) -> Result<()> {
    let mut command = inside(pid, Path::new("sysctl"), None);
    command.args(["-q", "-w", setting]);
    command::output(command, Duration::from_secs(5))?;
    Ok(())
}

fn congestion_of(pid: Option<u32>, name: &str) -> Result<()> {
    sysctl(pid, &format!("net.ipv4.tcp_congestion_control={name}"))
}

/// Enough ports for many short connections.
fn ports_of(pid: Option<u32>) -> Result<()> {
    sysctl(pid, "net.ipv4.ip_local_port_range=10000 65000")?;
    sysctl(pid, "net.ipv4.tcp_tw_reuse=1")
}

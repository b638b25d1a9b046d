//! A guest of passt: a namespace, and the bridge that joins it to passt's stream socket.

use crate::command::Talking;
use crate::proc;
use crate::rig::{self, ADDRESSES, GATEWAYS, Guest, OUTSIDE, SCRATCH};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use sys::netlink::{Family, Netlink};
use testkit::wait_for;

/// Name of the guest's interface.
const INTERFACE: &str = "eth0";
/// How long a bridge may take to start, and a neighbour to answer.
const START: Duration = Duration::from_secs(8);
/// A neighbour of the host's for IPv6, as [`OUTSIDE`] is for IPv4.
const OUTSIDE_V6: &str = "2001:db8:51::10";
/// The discard service: nobody answers there.
const DISCARD: u16 = 9;

static SOCKETS: AtomicU32 = AtomicU32::new(0);

/// A running bridge; it ends with this value.
#[derive(Debug)]
pub(crate) struct Bridge {
    process: Talking,
    guest: u32,
    dropped: u64,
}

impl Bridge {
    /// A fresh name for passt's socket.
    pub(crate) fn socket() -> PathBuf {
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        Path::new(SCRATCH).join(format!("passt-{number}.socket"))
    }

    /// Joins `guest` to the passt at `socket`, with the addresses that passt would tell a guest that
    /// asks, and waits until it has found its neighbours.
    pub(crate) fn start(program: &Path, guest: &Guest, mtu: u32, socket: &Path) -> Result<Self> {
        let mut command = rig::inside(Some(guest.pid()), program, None);
        command.args(["--interface", INTERFACE, "--mtu", &mtu.to_string(), "--socket"]).arg(socket);
        for (address, gateway) in ADDRESSES.into_iter().zip(GATEWAYS) {
            command.args(["--address", address, "--gateway", gateway]);
        }
        let mut process = Talking::start(command)?;
        let word = process.hear(START).context("the bridge")?;
        ensure!(word == "ready", "the bridge said '{word}'");
        let namespace = fs::File::open(format!("/proc/{}/ns/net", guest.pid()))?;
        sys::netns::in_network(namespace.as_fd(), find_neighbours)??;
        // Let start-up work end, so that it is not counted as forwarding.
        thread::sleep(Duration::from_millis(150));
        let dropped = proc::dropped(guest.pid());
        Ok(Self { process, guest: guest.pid(), dropped })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether all went as it should: figures of a bridge that lost frames would be about the bridge.
    pub(crate) fn check(&mut self) -> Result<()> {
        ensure!(self.process.alive(), "the bridge ended during the run");
        let lost = proc::dropped(self.guest).saturating_sub(self.dropped);
        ensure!(lost == 0, "the queue of the guest's interface lost {lost} frames");
        Ok(())
    }
}

/// Makes the kernel of this network namespace look for neighbours of both families, and waits for the
/// answers: from then on, frames get through both ways.
fn find_neighbours() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let index = netlink.link_named(INTERFACE)?.context("no interface")?.index;
    for (family, addr) in [(Family::V4, OUTSIDE), (Family::V6, OUTSIDE_V6)] {
        let addr: IpAddr = addr.parse()?;
        let any = match addr {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from([0u16; 8]),
        };
        UdpSocket::bind((any, 0))?.send_to(b"anybody?", (addr, DISCARD))?;
        wait_for(&format!("an answer for {addr}"), START, || {
            let found = netlink.neighbours(family, index)?;
            let ours = found.iter().find(|neighbour| neighbour.addr == addr);
            Ok(ours.and_then(|neighbour| neighbour.mac))
        })?;
    }
    Ok(())
}

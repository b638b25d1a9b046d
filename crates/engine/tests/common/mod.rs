//! A worker between the host of a rig and a guest's namespace, without the program around it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test binary uses some of these helpers"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use engine::{Attachment, ExitReason, Forwarding, HostOptions, Parts, Worker};
use stack::Settings;
use stack::config::{Config, Ipv4Config, Ipv6Config, Services};
use stack::flow::Secret;
use sys::netns;
use sys::tun::{Offload, Tap};
use testkit::{Family, Rig, in_rig};
use wire::ethernet::MacAddr;

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sys/tests/init.sh");
/// Limit for whatever one step of a test waits for.
pub const SHORT: Duration = Duration::from_secs(10);
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Runs a test in a rig.
pub fn rig(name: &str, body: impl FnOnce(&Rig) -> Result<()>) {
    in_rig(name, Path::new(INIT), Duration::from_secs(120), body);
}

/// What a world is like.
pub struct Terms {
    pub offload: Offload,
    pub mtu: u16,
    pub host: HostOptions,
    pub pcap: Option<PathBuf>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { offload: Offload::Udp, mtu: 65_520, host: HostOptions::default(), pcap: None }
    }
}

/// A guest's namespace with a worker behind its interface.
pub struct World {
    guest: OwnedFd,
    worker: Option<JoinHandle<(ExitReason, u64)>>,
}

impl World {
    pub fn new(terms: Terms) -> Self {
        let guest = std::thread::spawn(|| {
            netns::new_network().unwrap();
            netns::open(Path::new("/proc/thread-self/ns/net")).unwrap()
        });
        let guest = guest.join().unwrap();
        let tap = netns::in_network(guest.as_fd(), || {
            let tap = Tap::open(OsStr::new("tap0"), terms.offload).unwrap();
            assert_eq!(tap.offload(), terms.offload);
            for arguments in [
                "link set lo up",
                &format!("link set tap0 address 02:00:00:00:00:77 mtu {}", terms.mtu),
                "link set tap0 up",
                "addr add 203.0.113.2/24 dev tap0",
                "addr add 2001:db8:51::2/64 dev tap0 nodad",
                "route add default via 203.0.113.1",
                "route add default via fe80::1 dev tap0",
            ] {
                ip(arguments);
            }
            tap
        });
        let parts = Parts {
            guest: Attachment::Tap(tap.unwrap()),
            mtu: terms.mtu,
            config: Arc::new(config(terms.mtu)),
            secret: Secret::new([7; 16]),
            settings: Settings::default(),
            host: terms.host,
            forwarding: Forwarding::default(),
            pcap: terms.pcap.map(|path| File::create(path).unwrap()),
            watch: None,
            child: None,
            neighbours: None,
            stats: None,
            later: None,
        };
        let worker = std::thread::spawn(|| {
            let mut end = None;
            let measured = allocation_counter::measure(|| {
                end = Some(Worker::new(parts).unwrap().run());
            });
            (end.unwrap(), measured.count_total)
        });
        Self { guest, worker: Some(worker) }
    }

    /// Runs `job` in the guest's namespace.
    pub fn guest<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        netns::in_network(self.guest.as_fd(), job).unwrap()
    }

    /// Takes the interface away. Returns why the worker ended, and how often it took memory.
    pub fn end(mut self) -> (ExitReason, u64) {
        self.guest(|| ip("link del tap0"));
        self.worker.take().unwrap().join().unwrap()
    }

    pub fn is_alive(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.is_finished())
    }
}

/// Runs `ip` in the network namespace of this thread.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs `job` in another namespace of the rig.
pub fn inside<T: Send>(place: &str, job: impl FnOnce() -> T + Send) -> T {
    let namespace = netns::open(Path::new(&format!("/run/netns/{place}"))).unwrap();
    netns::in_network(namespace.as_fd(), job).unwrap()
}

pub fn config(mtu: u16) -> Config {
    Config {
        our_mac: MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]),
        mtu: Some(mtu),
        v4: Some(Ipv4Config {
            addr: [203, 0, 113, 2].into(),
            prefix_len: 24,
            addr_fixed: false,
            gateway: Some([203, 0, 113, 1].into()),
            local_mode: false,
            map_host_loopback: Some([203, 0, 113, 1].into()),
            map_guest_addr: None,
            dns: Vec::new(),
            dns_match: None,
            dns_host: None,
            addr_out: None,
        }),
        v6: Some(Ipv6Config {
            addr: "2001:db8:51::2".parse().ok(),
            addr_fixed: false,
            gateway: "fe80::1".parse().ok(),
            our_link_local: "fe80::1".parse().unwrap(),
            local_mode: false,
            map_host_loopback: "fe80::1".parse().ok(),
            map_guest_addr: None,
            dns: Vec::new(),
            dns_match: None,
            dns_host: None,
            addr_out: None,
            scope_id: 0,
        }),
        shared: Vec::new(),
        search: Vec::new(),
        hostname: None,
        fqdn: None,
        duid_time: 0,
        services: Services {
            tcp: true,
            udp: true,
            icmp: true,
            dhcp: false,
            dhcpv6: false,
            ndp: true,
            ra: false,
            announce_dns: false,
            announce_search: false,
        },
    }
}

/// Byte number `index` of a transfer.
pub fn pattern(index: usize) -> u8 {
    ((index.wrapping_mul(2_654_435_761)) >> 13).to_le_bytes()[0]
}

pub fn send_pattern(mut to: TcpStream, len: usize) {
    let data: Vec<u8> = (0..len).map(pattern).collect();
    to.write_all(&data).unwrap();
    to.shutdown(std::net::Shutdown::Write).unwrap();
    // Until the other end has taken all of it.
    assert_eq!(to.read(&mut [0]).unwrap(), 0);
}

pub fn receive_pattern(mut from: TcpStream, len: usize) {
    let mut data = Vec::with_capacity(len);
    from.read_to_end(&mut data).unwrap();
    assert_eq!(data.len(), len);
    assert!(data.iter().enumerate().all(|(index, byte)| *byte == pattern(index)));
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SHORT * 3)).unwrap();
    stream.set_write_timeout(Some(SHORT * 3)).unwrap();
    stream
}

/// A connection from the guest to the usual peer: both ends.
pub fn connect(world: &World, family: Family, port: u16) -> (TcpStream, TcpStream) {
    let to = SocketAddr::new(family.peer(), port);
    let listener = inside("outside", || TcpListener::bind(to).unwrap());
    let ours = world.guest(|| TcpStream::connect_timeout(&to, SHORT).unwrap());
    let theirs = listener.accept().unwrap().0;
    (limited(ours), limited(theirs))
}

/// `len` bytes from the guest, then `len` bytes to it.
pub fn transfer(world: &World, family: Family, port: u16, len: usize) {
    for towards_guest in [false, true] {
        let (ours, theirs) = connect(world, family, port + u16::from(towards_guest));
        let (from, to) = if towards_guest { (theirs, ours) } else { (ours, theirs) };
        let sender = std::thread::spawn(move || send_pattern(from, len));
        receive_pattern(to, len);
        sender.join().unwrap();
    }
}

/// A socket in the guest and one at the usual peer that talk to each other.
pub fn datagrams(
    world: &World,
    family: Family,
    port: u16,
) -> (std::net::UdpSocket, std::net::UdpSocket) {
    let to = SocketAddr::new(family.peer(), port);
    let theirs = inside("outside", || std::net::UdpSocket::bind(to).unwrap());
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let ours = world.guest(|| std::net::UdpSocket::bind((any, 0)).unwrap());
    for socket in [&ours, &theirs] {
        socket.set_read_timeout(Some(SHORT)).unwrap();
    }
    world.guest(|| ours.connect(to).unwrap());
    ours.send(b"hello").unwrap();
    let (_, from) = theirs.recv_from(&mut [0; 9]).unwrap();
    theirs.connect(from).unwrap();
    (ours, theirs)
}

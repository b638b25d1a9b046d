//! Decisions: who the guest sees as what, and what becomes of each packet and each byte.
//!
//! The stack does no I/O and reads no clock: it calls down through the traits of [`io`], and time is
//! an argument. [`Stack`] is the whole of it; its methods are the events of a network: a frame from the
//! guest, readiness of a host socket, a deadline.
#![forbid(unsafe_code)]

pub mod addr;
pub mod answer;
pub mod coalesce;
pub mod config;
pub mod cx;
pub mod flow;
pub mod forward;
mod fragment;
pub mod frame;
pub mod icmp;
mod input;
pub mod io;
pub mod neigh;
mod rate;
pub mod rule;
pub mod segment;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod time;
mod udp;

use std::fmt;
use std::io as std_io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wire::ethernet::MacAddr;

use crate::addr::Link;
use crate::answer::announce;
use crate::answer::ndp::Advertiser;
use crate::coalesce::Run;
use crate::config::Config;
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey, FlowKind, Secret, TimerWheel};
use crate::fragment::Reassembly;
use crate::icmp::Pings;
use crate::input::More;
use crate::io::{DatagramBurst, Gso, Guest, Host, Readiness};
use crate::rate::RateLimit;
use crate::stats::Stats;
use crate::tcp::Connections;
use crate::time::Instant;

/// Knobs of the stack that do not belong to the network it impersonates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Idle time after which a UDP flow without a real exchange ends
    /// (`net.netfilter.nf_conntrack_udp_timeout`).
    pub udp_timeout: Duration,
    /// The same for one with traffic both ways (`net.netfilter.nf_conntrack_udp_timeout_stream`).
    pub udp_stream_timeout: Duration,
    /// `net.ipv4.tcp_syn_retries`.
    pub tcp_syn_retries: u8,
    /// `net.ipv4.tcp_syn_linear_timeouts`.
    pub tcp_syn_linear_timeouts: u8,
    /// Seed of random choices that need not be secret.
    pub seed: u64,
    /// The guest's link-layer address, if known before its first frame.
    pub guest_mac: Option<MacAddr>,
    /// The guest's link-local address, if known before its first packet.
    pub link_local_seen: Option<Ipv6Addr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            udp_timeout: Duration::from_secs(30),
            udp_stream_timeout: Duration::from_secs(120),
            tcp_syn_retries: 6,
            tcp_syn_linear_timeouts: 4,
            seed: 0,
            guest_mac: None,
            link_local_seen: None,
        }
    }
}

/// Both sides of the stack at one moment.
#[derive(Debug)]
pub struct Io<'a, G, H> {
    /// The guest's link.
    pub guest: &'a mut G,
    /// The host's sockets.
    pub host: &'a mut H,
    /// The time of this wake-up.
    pub now: Instant,
}

/// Everything that stands between one guest and the host's sockets.
pub struct Stack<H: Host> {
    config: Arc<Config>,
    link: Link,
    timers: TimerWheel,
    stats: Stats,
    reassembly: Reassembly,
    layers: Layers<H>,
    /// Unsolicited router advertisements, once [`Stack::start`] was called and if they are on.
    advertiser: Option<Advertiser>,
    seed: u64,
    /// The link takes nothing; [`Stack::on_link_ready`] will tell of the end of that.
    link_is_full: bool,
}

impl<H: Host> fmt::Debug for Stack<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("link", &self.link)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// What a packet ends up in.
pub(crate) struct Layers<H: Host> {
    pub(crate) tcp: Connections<H::Tcp>,
    pub(crate) udp: udp::Flows<H::Udp>,
    pub(crate) pings: Pings<H::Ping>,
    /// For the log line about the guest's changing link-layer address.
    pub(crate) mac_changes: RateLimit,
}

/// The parts of a [`Stack`] that handlers share, for the length of one event.
macro_rules! cx {
    ($stack:ident, $io:ident) => {
        Cx {
            guest: &mut *$io.guest,
            host: &mut *$io.host,
            now: $io.now,
            config: &$stack.config,
            link: &mut $stack.link,
            timers: &mut $stack.timers,
            stats: &mut $stack.stats,
        }
    };
}

impl<H: Host> Stack<H> {
    /// A stack without flows. `secret` keys the hash of tuples and makes initial sequence numbers.
    pub fn new(config: Arc<Config>, secret: Secret, settings: Settings, now: Instant) -> Self {
        Self {
            link: Link::new(&config, settings.guest_mac, settings.link_local_seen),
            config,
            timers: TimerWheel::new(now),
            stats: Stats::default(),
            reassembly: Reassembly::default(),
            layers: Layers {
                tcp: Connections::new(secret, settings),
                udp: udp::Flows::new(secret, &settings),
                pings: Pings::new(secret),
                mac_changes: RateLimit::default(),
            },
            advertiser: None,
            seed: settings.seed,
            link_is_full: false,
        }
    }

    /// The guest's link is ready: asks for the guest's link-layer address, and begins to advertise
    /// ourselves as a router if that is on.
    pub fn start<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        let services = &self.config.services;
        let advertise = services.ra && services.ndp && self.config.v6.is_some();
        self.advertiser = advertise.then(|| Advertiser::new(io.now, self.seed));
        announce::hello(&mut cx!(self, io));
        io.guest.flush();
    }

    /// The host learnt where its neighbour `ip` is, or (`None`) lost it.
    pub fn neighbor_changed<G: Guest>(
        &mut self,
        io: &mut Io<'_, G, H>,
        ip: IpAddr,
        mac: Option<MacAddr>,
    ) {
        // Kernels list groups among their neighbours, too.
        let group = !addr::is_unicast(ip) || mac.is_some_and(MacAddr::is_multicast);
        let seen = addr::visible_source(&self.config, &self.link, ip).filter(|_| !group);
        let Some(seen) = seen else { return };
        match mac {
            Some(mac) if self.link.neighbors.insert(seen, mac) => {
                if mac != self.config.our_mac {
                    announce::neighbor(&mut cx!(self, io), seen);
                    io.guest.flush();
                }
            }
            Some(_) => {}
            None => self.link.neighbors.remove(seen),
        }
    }

    /// Takes one Ethernet frame from the guest, without the virtio header. `gso` says how it is to be
    /// cut if it is a superframe.
    ///
    /// Effects may wait for [`end_of_burst`](Self::end_of_burst).
    pub fn on_frame<G: Guest>(&mut self, io: &mut Io<'_, G, H>, frame: &[u8], gso: Gso) {
        let more = More { gso, payloads: &[] };
        let mut cx = cx!(self, io);
        input::frame(&mut cx, &mut self.layers, &mut self.reassembly, frame, more);
    }

    /// As [`on_frame`](Self::on_frame), for TCP segments that continue each other.
    pub fn on_run<G: Guest>(&mut self, io: &mut Io<'_, G, H>, run: &Run<'_>) {
        let more = More { gso: Gso::None, payloads: run.payloads() };
        let mut cx = cx!(self, io);
        input::frame(&mut cx, &mut self.layers, &mut self.reassembly, run.first(), more);
    }

    /// All frames and sockets that were ready have been taken: sends what was held back to be sent
    /// together.
    pub fn end_of_burst<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        let mut cx = cx!(self, io);
        self.layers.udp.flush(&mut cx);
        self.layers.tcp.end_of_burst(&mut cx);
        io.guest.flush();
        self.link_is_full = io.guest.is_full();
    }

    /// A link that was full ([`Guest::is_full`]) takes frames again. What waited for that goes on at the
    /// end of this burst, or with the next deadline.
    pub fn on_link_ready(&mut self) {
        self.link_is_full = false;
        self.layers.tcp.on_link_ready();
    }

    /// The link is another one to the same guest. What was on its way over the old one is lost; as far as it is
    /// owed to the guest, it is sent again at the end of this burst.
    pub fn on_new_link(&mut self) {
        self.link_is_full = false;
        self.layers.tcp.on_new_link();
    }

    /// The host accepted a connection for the guest, between `guest` and `peer` as the guest sees them:
    /// opens its other half. `make` makes the flow's socket of it, and is not called if there can be no
    /// such flow: the tuple is taken, the table full, or too many connections wait for the guest.
    /// Returns whether there is a flow now.
    pub fn on_connection<G: Guest>(
        &mut self,
        io: &mut Io<'_, G, H>,
        (guest, peer): (SocketAddr, SocketAddr),
        make: impl FnOnce(&mut H, FlowId) -> std_io::Result<H::Tcp>,
    ) -> bool {
        let mut cx = cx!(self, io);
        self.layers.tcp.accept(&mut cx, FlowKey::new(guest, peer), make)
    }

    /// The host received datagrams for the guest that belong to no socket of a flow, between `guest` and
    /// `peer` as the guest sees them. `make` makes the socket for the answers if this is the first one of
    /// a flow. Without a flow the datagrams are lost.
    pub fn on_datagrams<G: Guest>(
        &mut self,
        io: &mut Io<'_, G, H>,
        (guest, peer): (SocketAddr, SocketAddr),
        (burst, payload): (&DatagramBurst, &[u8]),
        make: impl FnOnce(&mut H, FlowId) -> std_io::Result<H::Udp>,
    ) {
        let mut cx = cx!(self, io);
        self.layers.udp.arrived(&mut cx, FlowKey::new(guest, peer), (burst, payload), make);
    }

    /// As [`on_datagrams`](Self::on_datagrams), for those sent to a group: `guest` is a multicast or
    /// broadcast address. There is no flow, as answers do not come from that address.
    pub fn on_group_datagrams<G: Guest>(
        &mut self,
        io: &mut Io<'_, G, H>,
        (group, peer): (SocketAddr, SocketAddr),
        (burst, payload): (&DatagramBurst, &[u8]),
    ) {
        let mut cx = cx!(self, io);
        self.layers.udp.deliver_to_group(&mut cx, FlowKey::new(group, peer), (burst, payload));
    }

    /// Addresses that forwarding rules name as targets; see [`Link::set_targets`].
    pub fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.link.set_targets(targets);
    }

    /// The host had to refuse a flow for the guest before it came here.
    pub fn count_refused(&mut self) {
        self.stats.flows_refused += 1;
    }

    /// What the guest is told and how addresses map.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Something happened on the socket of flow `id`.
    pub fn on_socket<G: Guest>(&mut self, io: &mut Io<'_, G, H>, id: FlowId, ready: Readiness) {
        let mut cx = cx!(self, io);
        match id.kind() {
            FlowKind::Tcp => self.layers.tcp.on_socket(&mut cx, id, ready),
            FlowKind::Udp => self.layers.udp.on_socket(&mut cx, id, ready),
            FlowKind::Ping => self.layers.pings.on_socket(&mut cx, id, ready),
        }
    }

    /// Does everything that is due at `io.now`.
    pub fn on_deadline<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        let mut cx = cx!(self, io);
        if !cx.guest.is_full() {
            self.layers.udp.resume(&mut cx);
            self.layers.pings.resume(&mut cx);
        }
        if self.advertiser.as_mut().is_some_and(|advertiser| advertiser.poll(cx.now)) {
            announce::router(&mut cx);
        }
        while let Some(id) = cx.timers.poll(cx.now) {
            match id.kind() {
                FlowKind::Tcp => self.layers.tcp.on_deadline(&mut cx, id),
                FlowKind::Udp => self.layers.udp.on_deadline(&mut cx, id),
                FlowKind::Ping => self.layers.pings.on_deadline(&mut cx, id),
            }
        }
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called next. A time in the past: at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        let Layers { tcp, udp, pings, .. } = &self.layers;
        let datagrams = udp.has_pending() || pings.has_pending();
        if tcp.has_pending() || datagrams && !self.link_is_full {
            return Some(Instant::default());
        }
        let advertiser = self.advertiser.as_ref().map(Advertiser::next);
        self.timers.next().into_iter().chain(advertiser).min()
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was observed on the guest's link.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

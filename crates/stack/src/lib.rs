//! Decisions: who the guest sees as what, and what becomes of each packet and each byte.
//!
//! The stack does no I/O and reads no clock: it calls down through the traits of [`io`], and time is
//! an argument. [`Stack`] is the whole of it; its methods are the events of a network: a frame from the
//! guest, readiness of a host socket, a deadline.
#![forbid(unsafe_code)]

pub mod addr;
pub mod config;
pub mod cx;
pub mod flow;
pub mod frame;
pub mod io;
pub mod stats;
pub mod time;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use wire::ethernet::MacAddr;

use crate::addr::Link;
use crate::config::Config;
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKind, Secret, TimerWheel};
use crate::io::{Gso, Guest, Host, Readiness};
use crate::stats::Stats;
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
#[derive(Debug)]
pub struct Stack<H: Host> {
    config: Arc<Config>,
    link: Link,
    timers: TimerWheel,
    stats: Stats,
    host: std::marker::PhantomData<H>,
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
    pub fn new(config: Arc<Config>, _secret: Secret, settings: Settings, now: Instant) -> Self {
        Self {
            link: Link::new(&config, settings.guest_mac, settings.link_local_seen),
            config,
            timers: TimerWheel::new(now),
            stats: Stats::default(),
            host: std::marker::PhantomData,
        }
    }

    /// The guest's link is ready: asks for the guest's link-layer address.
    pub fn start<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        let _cx = cx!(self, io);
    }

    /// Takes one Ethernet frame from the guest, without the virtio header. `gso` says how it is to be
    /// cut if it is a superframe.
    pub fn on_frame<G: Guest>(&mut self, io: &mut Io<'_, G, H>, _frame: &[u8], _gso: Gso) {
        let cx = cx!(self, io);
        cx.stats.frames_from_guest += 1;
    }

    /// All frames that were there have been taken: sends what was held back to be sent together.
    pub fn end_of_burst<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        io.guest.flush();
    }

    /// Something happened on the socket of flow `id`.
    pub fn on_socket<G: Guest>(&mut self, io: &mut Io<'_, G, H>, id: FlowId, _ready: Readiness) {
        let _cx = cx!(self, io);
        match id.kind() {
            FlowKind::Tcp | FlowKind::Udp | FlowKind::Ping => {}
        }
    }

    /// Does everything that is due at `io.now`.
    pub fn on_deadline<G: Guest>(&mut self, io: &mut Io<'_, G, H>) {
        while let Some(_id) = self.timers.poll(io.now) {}
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called next. A time in the past: at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
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

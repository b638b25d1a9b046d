//! Guest, link, stack and host under one clock.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wire::ethernet::MacAddr;

use super::guest::{GuestFlow, GuestStack, Outbox};
use super::host::{REMOTE_PORT, SimHost};
use super::link::Link;
use super::packet::Frame;
use super::rng::Rng;
use super::schedule::Schedule;
use super::socket::Shared;
use crate::config::{Config, Ipv4Config, Ipv6Config, Services};
use crate::cx::Cx;
use crate::flow::{FlowKey, Secret};
use crate::stats::Stats;
use crate::time::Instant;
use crate::{Io, Settings, Stack};

/// The stack's link-layer address.
pub const STACK_MAC: MacAddr = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
/// The guest's.
pub const GUEST_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x15]);
/// The guest's IPv4 address.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 15);
/// The guest's IPv6 address.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x15);
/// The remote's IPv4 address.
pub const REMOTE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The remote's IPv6 address.
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
/// First port of the guest: flow `n` has port `GUEST_PORT + n`.
pub const GUEST_PORT: u16 = 20_000;

/// Most frames taken from the link in one wake-up.
const BURST: usize = 64;

/// The network that the stack impersonates here.
pub fn config() -> Config {
    Config {
        our_mac: STACK_MAC,
        mtu: None,
        v4: Some(Ipv4Config {
            addr: GUEST_V4,
            prefix_len: 24,
            addr_fixed: false,
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
            local_mode: false,
            map_host_loopback: Some(Ipv4Addr::new(192, 0, 2, 1)),
            map_guest_addr: None,
            dns: vec![Ipv4Addr::new(192, 0, 2, 1)],
            dns_match: None,
            dns_host: None,
            addr_out: None,
        }),
        v6: Some(Ipv6Config {
            addr: Some(GUEST_V6),
            addr_fixed: false,
            gateway: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
            our_link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            local_mode: false,
            map_host_loopback: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
            map_guest_addr: None,
            dns: Vec::new(),
            dns_match: None,
            dns_host: None,
            addr_out: None,
            scope_id: 0,
        }),
        shared: Vec::new(),
        search: vec!["example.org".into()],
        hostname: Some("guest".into()),
        fqdn: Some("guest.example.org".into()),
        duid_time: 0,
        services: Services {
            tcp: true,
            udp: true,
            icmp: true,
            dhcp: true,
            dhcpv6: true,
            ndp: true,
            ra: false,
            announce_dns: true,
            announce_search: true,
        },
    }
}

/// The ends of flow `n`: the guest's, and the remote's as both sides see it.
pub fn ends(n: u64, ipv6: bool) -> (SocketAddr, SocketAddr) {
    let port = u16::try_from(n).unwrap_or(0);
    let (guest, remote) = if ipv6 {
        (GUEST_V6.into(), REMOTE_V6.into())
    } else {
        (GUEST_V4.into(), REMOTE_V4.into())
    };
    (SocketAddr::new(guest, GUEST_PORT + port), SocketAddr::new(remote, REMOTE_PORT + port))
}

#[derive(Debug)]
enum Event {
    AtStack(Frame),
    AtGuest(Frame),
    Guest,
    Socket(usize),
    Accept(GuestFlow),
    Open(GuestFlow),
    Wake,
    /// The link becomes full, so many times.
    Full(u32),
    /// It is not any more.
    Ready(u32),
}

/// How the process around the stack behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerPlan {
    /// Longest time from an event to the wake-up that handles it.
    pub latency: Duration,
    /// Wake-ups, in 1/10 000, in which some socket is reported without need.
    pub nudges: u32,
}

/// Everything, under one clock.
#[derive(Debug)]
pub struct World {
    /// The virtual time.
    pub now: Instant,
    /// What is tested.
    pub stack: Stack<SimHost>,
    /// The link.
    pub link: Link,
    /// The host's sockets and the remotes behind them.
    pub host: SimHost,
    /// The guest.
    pub guest: Box<dyn GuestStack>,
    shared: Rc<Shared>,
    worker: WorkerPlan,
    rng: Rng,
    /// Of when the link is full.
    fill_rng: Rng,
    schedule: Schedule<Event>,
    outbox: Outbox,
    arrived: VecDeque<Frame>,
    ready: VecDeque<usize>,
    armed: Vec<Option<Instant>>,
    guest_armed: Option<Instant>,
    wake_armed: bool,
    /// Events handled.
    pub steps: u64,
}

impl World {
    /// The time at which every simulation begins.
    pub const START: Instant = Instant::from_millis(1_000_000);

    /// A world at rest.
    pub fn new(
        guest: Box<dyn GuestStack>,
        link: Link,
        host: SimHost,
        worker: WorkerPlan,
        mut rng: Rng,
        shared: Rc<Shared>,
    ) -> Self {
        let now = Self::START;
        shared.now.set(now);
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        let mut schedule = Schedule::new();
        schedule.push(now, Event::Full(link.plan().fills));
        let settings =
            Settings { seed: rng.next_u64(), guest_mac: Some(GUEST_MAC), ..Settings::default() };
        Self {
            now,
            stack: Stack::new(Arc::new(config()), Secret::new(secret), settings, now),
            link,
            host,
            guest,
            shared,
            worker,
            fill_rng: Rng::new(settings.seed),
            rng,
            schedule,
            outbox: Outbox::default(),
            arrived: VecDeque::with_capacity(256),
            ready: VecDeque::with_capacity(256),
            armed: Vec::new(),
            guest_armed: None,
            wake_armed: false,
            steps: 0,
        }
    }

    /// At `at`, the guest connects (`active`), or the remote connects to the guest.
    pub fn open(&mut self, flow: GuestFlow, at: Instant) {
        self.schedule.push(at, Event::Open(flow));
        if !flow.active {
            self.schedule.push(at, Event::Accept(flow));
        }
    }

    /// Goes on to the next event and handles it. `false`: there is none, ever.
    pub fn step(&mut self) -> bool {
        let deadline = self.stack.next_deadline().map(|at| at.max(self.now));
        let event = self.schedule.next();
        let Some(next) = [event, deadline].into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        self.shared.now.set(self.now);
        self.steps += 1;
        match self.schedule.pop(self.now) {
            Some(event) => self.handle(event),
            None => self.into_stack(|stack, io| {
                stack.on_deadline(io);
                stack.end_of_burst(io);
            }),
        }
        self.settle();
        true
    }

    /// Calls the stack.
    #[inline(never)]
    pub fn into_stack(
        &mut self,
        call: impl FnOnce(&mut Stack<SimHost>, &mut Io<'_, Link, SimHost>),
    ) {
        let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
        call(&mut self.stack, &mut io);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::AtStack(frame) => {
                self.arrived.push_back(frame);
                self.wake();
            }
            Event::AtGuest(frame) => {
                self.link.in_flight -= 1;
                self.guest.receive(&frame, self.now, &mut self.outbox);
                self.link.spare.push(frame.data);
                self.poll_guest();
            }
            Event::Guest => {
                self.guest_armed.take_if(|at| *at <= self.now);
                self.poll_guest();
            }
            Event::Socket(index) => {
                if let Some(armed) = self.armed.get_mut(index) {
                    armed.take_if(|at| *at <= self.now);
                }
                self.poll_socket(index);
            }
            Event::Open(flow) => {
                self.guest.open(flow, self.now);
                self.poll_guest();
            }
            Event::Accept(flow) => self.accept(&flow),
            Event::Wake => self.work(),
            Event::Full(0) => {}
            Event::Full(times) => {
                self.link.full = true;
                let most = self.link.plan().full_for.as_micros();
                let lasts = self.fill_rng.range(1, u64::try_from(most).unwrap_or(1).max(2));
                let until = self.now + Duration::from_micros(lasts);
                self.schedule.push(until, Event::Ready(times - 1));
            }
            Event::Ready(times) => {
                self.link.full = false;
                self.stack.on_link_ready();
                self.into_stack(|stack, io| stack.end_of_burst(io));
                let next = self.now + Duration::from_micros(self.fill_rng.range(1, 50_000));
                self.schedule.push(next, Event::Full(times));
            }
        }
    }

    fn accept(&mut self, flow: &GuestFlow) {
        let mut cx = Cx {
            guest: &mut self.link,
            host: &mut self.host,
            now: self.now,
            config: &self.stack.config,
            link: &mut self.stack.link,
            timers: &mut self.stack.timers,
            stats: &mut self.stack.stats,
        };
        let key = FlowKey::new(flow.local, flow.peer);
        let peer = flow.peer;
        self.stack.layers.tcp.accept(&mut cx, key, |host: &mut SimHost, id| host.accept(id, peer));
        self.into_stack(|stack, io| stack.end_of_burst(io));
    }

    /// Sees to it that the stack is woken for what has arrived.
    fn wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            let latency = u64::try_from(self.worker.latency.as_nanos()).unwrap_or(0);
            let at = self.now + Duration::from_nanos(self.rng.below(latency + 1));
            self.schedule.push(at, Event::Wake);
        }
    }

    /// One wake-up: frames and sockets, in either order, and the end of the burst.
    fn work(&mut self) {
        self.wake_armed = false;
        let frames_first = self.rng.chance(5_000);
        if frames_first {
            self.take_frames();
        }
        if self.rng.chance(self.worker.nudges) && !self.host.sockets.is_empty() {
            let index = self.rng.index(self.host.sockets.len());
            self.host.sockets[index].borrow_mut().nudge();
            self.ready.push_back(index);
        }
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let (id, edge) = {
                let mut model = self.host.sockets[index].borrow_mut();
                (model.id, model.take_edge())
            };
            if let Some(ready) = edge {
                self.into_stack(|stack, io| stack.on_socket(io, id, ready));
            }
        }
        if !frames_first {
            self.take_frames();
        }
        self.into_stack(|stack, io| stack.end_of_burst(io));
        if !self.arrived.is_empty() {
            self.wake();
        }
    }

    fn take_frames(&mut self) {
        for _ in 0..BURST {
            let Some(frame) = self.arrived.pop_front() else { return };
            if let Some(capture) = &mut self.link.capture {
                capture.frame(self.now, &frame.data);
            }
            if let Some(watch) = &mut self.link.watch {
                watch.deliver(&frame);
            }
            self.into_stack(|stack, io| stack.on_frame(io, &frame.data, frame.gso));
            self.link.spare.push(frame.data);
        }
    }

    fn poll_guest(&mut self) {
        let next = self.guest.poll(self.now, &mut self.outbox);
        if let Some(next) = next.map(|at| at.max(self.now)) {
            if self.guest_armed.is_none_or(|armed| next < armed) {
                self.guest_armed = Some(next);
                self.schedule.push(next, Event::Guest);
            }
        }
    }

    fn poll_socket(&mut self, index: usize) {
        let Some(model) = self.host.sockets.get(index) else { return };
        let mut model = model.borrow_mut();
        let next = model.poll(self.now).map(|at| at.max(self.now));
        let edge = model.has_edge();
        drop(model);
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        if let Some(next) = next {
            if self.armed[index].is_none_or(|armed| next < armed) {
                self.armed[index] = Some(next);
                self.schedule.push(next, Event::Socket(index));
            }
        }
        if edge {
            self.ready.push_back(index);
            self.wake();
        }
    }

    /// Moves on what the event left behind.
    fn settle(&mut self) {
        for (at, frame) in self.link.departures.drain(..) {
            self.schedule.push(at, Event::AtGuest(frame));
        }
        let mut frames = std::mem::take(&mut self.outbox.frames);
        for frame in frames.drain(..) {
            let schedule = &mut self.schedule;
            self.link.from_guest(frame, |at, frame| schedule.push(at, Event::AtStack(frame)));
        }
        self.outbox.frames = frames;
        share(&mut self.outbox.spare, &mut self.link.spare);
        share(&mut self.link.spare, &mut self.outbox.spare);
        loop {
            let Some(index) = self.shared.dirty.borrow_mut().pop() else { break };
            self.poll_socket(index);
        }
    }

    /// The stack's counters.
    pub fn stats(&self) -> &Stats {
        self.stack.stats()
    }

    /// Connections the stack knows.
    pub fn connections(&self) -> usize {
        self.stack.layers.tcp.len()
    }
}

/// Gives the poor some of the buffers of the rich.
fn share(poor: &mut Vec<Vec<u8>>, rich: &mut Vec<Vec<u8>>) {
    const ENOUGH: usize = 64;
    if poor.len() < ENOUGH && rich.len() > 2 * ENOUGH {
        poor.extend(rich.drain(rich.len() - ENOUGH..));
    }
}

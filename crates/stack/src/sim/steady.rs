//! One busy connection among many idle ones, without losses: for counting instructions and allocations.

use std::rc::Rc;
use std::time::Duration;

use super::app::{AppPlan, Close};
use super::guest::GuestFlow;
use super::host::SimHost;
use super::link::{Cutting, Link, LinkPlan};
use super::linux::{LinuxGuest, LinuxPlan};
use super::pipe::PipePlan;
use super::rng::Rng;
use super::socket::{ConnectPlan, Shared, SocketPlan};
use super::world::{GUEST_MAC, STACK_MAC, WorkerPlan, World, ends};

/// What the busy connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The guest sends.
    ToHost,
    /// The guest sends to a socket whose buffer is small: the spill is in use all the time.
    ToSlowHost,
    /// The remote sends.
    ToGuest,
}

/// A world in which only one connection is busy.
#[derive(Debug)]
pub struct Steady {
    world: World,
    load: Load,
}

/// Number of the busy flow.
const BUSY: u64 = 0;

fn socket(load: Load, app: AppPlan) -> SocketPlan {
    let slow = load == Load::ToSlowHost;
    let pipe = PipePlan {
        delay: Duration::from_micros(if slow { 500 } else { 20 }),
        rate: if slow { 100_000_000 } else { 5_000_000_000 },
        mss: 1_448,
        buffer: 128 << 10,
        buffer_max: 6 << 20,
    };
    SocketPlan {
        connect: ConnectPlan::Accept,
        outward: pipe,
        inward: pipe,
        sndbuf: if slow { 32 << 10 } else { 1 << 20 },
        sndbuf_max: if slow { 32 << 10 } else { 4 << 20 },
        overhead: 5,
        app,
        old_info: false,
    }
}

impl Steady {
    /// Opens `idle` connections that stay idle, and one that is to be busy.
    pub fn new(load: Load, idle: u64) -> Self {
        let shared = Rc::new(Shared::default());
        shared.now.set(World::START);
        let mut rng = Rng::new(1);
        let link = LinkPlan {
            mtu: 1_500,
            cutting: Cutting::Whole,
            loss: 0,
            reorder: 0,
            duplicate: 0,
            refuse: 0,
            delay: Duration::from_micros(5),
            rate: 5_000_000_000,
            queue: usize::MAX,
            fills: 0,
            full_for: Duration::ZERO,
        };
        let guest = LinuxPlan {
            buffer: 4 << 20,
            buffer_max: 6 << 20,
            overhead: 10,
            send_buffer: 4 << 20,
            shrinks: false,
            shift: Some(7),
            sack: true,
            timestamps: true,
            mss: 1_460,
            superframe: 65_000,
            probe_data: false,
        };
        let forever = AppPlan { send: u64::MAX / 2, ..AppPlan::default() };
        let quiet = AppPlan { send: 1, close: Close::AfterPeer, ..AppPlan::default() };
        let silent = AppPlan { close: Close::AfterPeer, ..AppPlan::default() };
        let (here, there) = match load {
            Load::ToHost | Load::ToSlowHost => (forever, silent),
            Load::ToGuest => (silent, forever),
        };
        let guest = LinuxGuest::new(guest, (GUEST_MAC, STACK_MAC), rng.fork());
        let mut link = Link::new(link, None, rng.fork(), Rc::clone(&shared));
        let plans = vec![socket(load, there), socket(Load::ToHost, quiet)];
        let host = SimHost::new(plans, Rc::clone(&shared));
        let worker = WorkerPlan::default();
        // Enough for all that can be on its way, so that the models need no more.
        link.spare.extend((0..1024).map(|_| Vec::with_capacity(70_000)));
        let mut world = World::new(Box::new(guest), link, host, worker, rng.fork(), shared);
        let mut at = World::START;
        for n in 1..=idle {
            at = World::START + Duration::from_micros(100 * n);
            let (local, peer) = ends(n, false);
            world.open(GuestFlow { n, local, peer, app: quiet, active: true }, at);
        }
        let at = at + Duration::from_millis(500);
        while world.now < at && world.step() {}
        let (local, peer) = ends(BUSY, false);
        world.open(GuestFlow { n: BUSY, local, peer, app: here, active: true }, world.now);
        Self { world, load }
    }

    /// Bytes of the busy connection that have reached the other end's program.
    pub fn moved(&self) -> u64 {
        match self.load {
            Load::ToGuest => self.world.guest.app(BUSY).map_or(0, |app| app.read),
            Load::ToHost | Load::ToSlowHost => {
                // Idle sockets come first.
                self.world.host.sockets.last().map_or(0, |socket| socket.borrow().app.read)
            }
        }
    }

    /// Moves `bytes` more.
    #[inline(never)]
    pub fn steady_phase(&mut self, bytes: u64) {
        let target = self.moved() + bytes;
        while self.moved() < target && self.world.step() {}
    }

    /// Connections that the stack knows.
    pub fn connections(&self) -> usize {
        self.world.connections()
    }

    /// What the stack counted.
    pub fn stats(&self) -> &crate::stats::Stats {
        self.world.stats()
    }
}

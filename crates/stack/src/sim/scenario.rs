//! A run: what happens, as plain parameters, and whether everything came out right.

use std::rc::Rc;
use std::time::Duration;

use super::app::AppPlan;
use super::capture::Capture;
use super::fault::Fault;
use super::guest::{GuestFlow, GuestStack};
use super::host::{REMOTE_PORT, SimHost};
use super::link::{Link, LinkPlan};
use super::linux::{LinuxGuest, LinuxPlan};
use super::rng::Rng;
use super::smol::{SmolGuest, SmolPlan};
use super::socket::{ConnectPlan, Shared, SocketPlan};
use super::watch::Watch;
use super::world::{GUEST_MAC, STACK_MAC, WorkerPlan, World, ends};
use crate::stats::Stats;
use crate::time::Instant;

/// Who plays the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestPlan {
    /// smoltcp.
    Smol(SmolPlan),
    /// Our model of Linux.
    Linux(LinuxPlan),
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowPlan {
    /// Its number: which bytes, which ports.
    pub n: u64,
    /// The guest connects; otherwise the remote does.
    pub active: bool,
    /// IPv6.
    pub ipv6: bool,
    /// When it begins.
    pub start: Duration,
    /// What the guest's program does.
    pub guest: AppPlan,
    /// The host's socket, and what the remote's program does.
    pub host: SocketPlan,
}

/// Everything that is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Seed of what is left to chance.
    pub seed: u64,
    /// The link.
    pub link: LinkPlan,
    /// The process around the stack.
    pub worker: WorkerPlan,
    /// The guest.
    pub guest: GuestPlan,
    /// The connections.
    pub flows: Vec<FlowPlan>,
    /// A fault planted in the models.
    pub fault: Fault,
    /// Virtual time after which what has not ended is stuck.
    pub limit: Duration,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A wrong byte, a wrong frame, a rule broken.
    Wrong,
    /// Something never ended.
    Stuck,
    /// The stack kept a connection that both sides have forgotten.
    Leak,
    /// Bytes were sent twice for no reason.
    Twice,
    /// The stack asked to be woken again and again at one time.
    Spin,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of thing.
    pub kind: Kind,
    /// Virtual time since the start.
    pub at: Duration,
    /// In words.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} after {:?}: {}", self.kind, self.at, self.what)
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Virtual time until both ends of every flow were done.
    pub took: Duration,
    /// Events.
    pub steps: u64,
    /// Bytes the guests' programs read.
    pub to_guest: u64,
    /// Bytes the remotes' programs read.
    pub to_host: u64,
    /// Bytes the guest sent again.
    pub guest_twice: u64,
    /// Bytes the stack sent again.
    pub twice: u64,
    /// Segments for which the guest had no room.
    pub dropped: u64,
    /// Retransmission timeouts of the guest (not counted for smoltcp).
    pub guest_timeouts: u64,
    /// The stack's counters.
    pub stats: Stats,
}

/// More than a spill may hold: twice what the stack means to allow, for the socket's accounting is not exact.
const SPILL_LIMIT: u64 = 512 << 10;
/// Events at one time before we call it a spin.
const SPIN: u32 = 200_000;

impl Scenario {
    /// The world in which this is to happen.
    pub fn world(&self) -> World {
        let shared = Rc::new(Shared::default());
        shared.fault.set(self.fault);
        shared.now.set(World::START);
        let mut rng = Rng::new(self.seed);
        let macs = (GUEST_MAC, STACK_MAC);
        let guest: Box<dyn GuestStack> = match self.guest {
            GuestPlan::Smol(plan) => Box::new(SmolGuest::new(plan, macs, rng.fork(), World::START)),
            GuestPlan::Linux(plan) => Box::new(LinuxGuest::new(plan, macs, rng.fork())),
        };
        let link = Link::new(self.link, Some(Watch::new()), rng.fork(), Rc::clone(&shared));
        let most = self.flows.iter().map(|flow| flow.n).max().unwrap_or(0);
        let plan = |n| self.flows.iter().find(|flow| flow.n == n).or_else(|| self.flows.first());
        let plans = (0..=most).filter_map(|n| plan(n).map(|flow| flow.host)).collect();
        let host = SimHost::new(plans, Rc::clone(&shared));
        let mut world = World::new(guest, link, host, self.worker, rng.fork(), shared);
        for flow in &self.flows {
            let (local, peer) = ends(flow.n, flow.ipv6);
            let guest = GuestFlow { n: flow.n, local, peer, app: flow.guest, active: flow.active };
            world.open(guest, World::START + flow.start);
        }
        world
    }

    /// Lets it happen.
    pub fn run(&self) -> Result<Report, Failure> {
        self.run_in(&mut self.world())
    }

    /// Lets it happen, and returns what passed the link as well: a pcap file.
    pub fn run_captured(&self) -> (Result<Report, Failure>, Vec<u8>) {
        let mut world = self.world();
        world.link.capture = Some(Capture::new());
        let result = self.run_in(&mut world);
        let bytes = world.link.capture.as_ref().map(|capture| capture.bytes().to_vec());
        (result, bytes.unwrap_or_default())
    }

    fn run_in(&self, world: &mut World) -> Result<Report, Failure> {
        let limit = World::START + self.limit;
        let mut at = (world.now, 0);
        let mut ended = None;
        while world.now <= limit && world.step() {
            at = if at.0 == world.now { (at.0, at.1 + 1) } else { (world.now, 0) };
            if at.1 > SPIN {
                return Err(failure(world, Kind::Spin, "time stands still".into()));
            }
            self.check(world)?;
            if ended.is_none() && self.unfinished(world).is_none() {
                ended = Some(world.now);
            }
            if ended.is_some() && world.connections() == 0 {
                break;
            }
        }
        if ended.is_none() {
            if let Some(what) = self.unfinished(world) {
                if self.guest_is_at_fault(world) {
                    return Ok(Report::default());
                }
                return Err(failure(world, Kind::Stuck, what));
            }
        }
        if world.connections() > 0 {
            let what = format!("{} connections left", world.connections());
            return Err(failure(world, Kind::Leak, what));
        }
        self.report(world, ended.unwrap_or(world.now))
    }

    /// smoltcp 0.14 sometimes retransmits beyond the window, loses track of what was taken of that, and
    /// never sends again.
    fn guest_is_at_fault(&self, world: &World) -> bool {
        matches!(self.guest, GuestPlan::Smol(_))
            && world.link.watch.as_ref().is_some_and(|all| all.flows().any(|f| f.guest_overran))
    }

    /// What must hold after every event.
    fn check(&self, world: &World) -> Result<(), Failure> {
        let wrong = |what: &str| Err(failure(world, Kind::Wrong, what.to_owned()));
        if let Some(what) = &world.link.wrong {
            return wrong(what);
        }
        if let Some(what) = world.guest.wrong() {
            return wrong(what);
        }
        for socket in &world.host.sockets {
            let socket = socket.borrow();
            if let Some(what) = &socket.wrong {
                return wrong(what);
            }
            let port = socket.peer.port();
            let Some(watch) = world.link.watch.as_ref().and_then(|all| all.by_peer_port(port))
            else {
                continue;
            };
            // Removed from the receive queue only what the guest has acknowledged.
            if socket.discarded() > watch.guest_acked.saturating_sub(1) {
                let (gone, has) = (socket.discarded(), watch.guest_acked.saturating_sub(1));
                return wrong(&format!("{gone} bytes discarded, the guest has {has}"));
            }
            // Passed on only what came.
            if socket.taken() > watch.contiguous.saturating_sub(1) {
                return wrong("the socket was given more than the guest sent");
            }
            // What is acknowledged and not passed on is in the spill, and that is bounded.
            let spilled = watch.acked.saturating_sub(1 + socket.taken());
            if spilled > SPILL_LIMIT && !socket.closed {
                return wrong(&format!("{spilled} bytes in the spill"));
            }
        }
        Ok(())
    }

    /// What has not ended yet.
    fn unfinished(&self, world: &World) -> Option<String> {
        self.flows.iter().find_map(|flow| {
            let Some(guest) = world.guest.app(flow.n) else {
                return Some(format!("flow {} has not begun", flow.n));
            };
            let (_, peer) = ends(flow.n, flow.ipv6);
            let remote = world.host.sockets.iter().find(|socket| socket.borrow().peer == peer);
            let watch = world.link.watch.as_ref().and_then(|all| all.by_peer_port(peer.port()));
            // A reset that was lost is learnt of only by sending, which an idle program does not; one
            // during the handshake leaves a listener listening, as does one while the link had not taken
            // the SYN yet.
            let deaf = watch.map_or(!flow.active, |watch| watch.reset)
                && (!self.link.is_clean() || !flow.active);
            let Some(remote) = remote else {
                return (!guest.done()).then(|| format!("flow {} has no socket", flow.n));
            };
            let remote = remote.borrow();
            let cut = remote.app.reset || remote.app.failed;
            let guest_ended = guest.done() || (deaf && cut);
            if guest_ended && remote.app.done() {
                return None;
            }
            Some(format!(
                "flow {}: guest wrote {} read {} closed {} {}; remote wrote {} read {} closed {} {}; \
                 socket took {}, discarded {}",
                flow.n,
                guest.written,
                guest.read,
                guest.closed,
                guest.peer_closed,
                remote.app.written,
                remote.app.read,
                remote.app.closed,
                remote.app.peer_closed,
                remote.taken(),
                remote.discarded(),
            ))
        })
    }

    /// What must hold in the end, and the figures.
    fn report(&self, world: &World, ended: Instant) -> Result<Report, Failure> {
        let mut report = Report {
            took: ended.since(World::START),
            steps: world.steps,
            dropped: world.guest.dropped(),
            guest_timeouts: world.guest.timeouts(),
            stats: *world.stats(),
            ..Report::default()
        };
        for flow in &self.flows {
            let Some(guest) = world.guest.app(flow.n) else { continue };
            report.to_guest += guest.read;
            let (_, peer) = ends(flow.n, flow.ipv6);
            let remote = world.host.sockets.iter().find(|socket| socket.borrow().peer == peer);
            let accepts = matches!(flow.host.connect, ConnectPlan::Accept | ConnectPlan::Late(_));
            let resets = flow.guest.reset_after.or(flow.host.app.reset_after).is_some();
            let Some(remote) = remote.map(|remote| remote.borrow()) else { continue };
            report.to_host += remote.app.read;
            // A reset is not the end of a file.
            let watch = world.link.watch.as_ref().and_then(|all| all.by_peer_port(peer.port()));
            if remote.app.reset && watch.is_some_and(|watch| watch.fin.is_some()) {
                let what = format!("flow {}: the remote reset, the guest got a FIN", flow.n);
                return Err(failure(world, Kind::Wrong, what));
            }
            if guest.reset && remote.app.peer_closed {
                let what = format!("flow {}: the guest reset, the remote got a FIN", flow.n);
                return Err(failure(world, Kind::Wrong, what));
            }
            if accepts && !resets {
                let whole = (flow.host.app.send, flow.guest.send);
                if (guest.read, remote.app.read) != whole {
                    let what = format!(
                        "flow {}: the guest got {}, the remote {} of {whole:?}",
                        flow.n, guest.read, remote.app.read
                    );
                    return Err(failure(world, Kind::Wrong, what));
                }
            }
        }
        if let Some(watch) = &world.link.watch {
            report.guest_twice = watch.flows().map(|flow| flow.guest_twice).sum();
            report.twice = watch.flows().map(|flow| flow.twice).sum();
        }
        if self.link.is_clean() {
            let pressed = world
                .link
                .watch
                .as_ref()
                .is_some_and(|watch| watch.flows().any(|flow| flow.guest_pressed));
            if report.guest_twice > 0 {
                let what = format!("the guest sent {} bytes twice", report.guest_twice);
                return Err(failure(world, Kind::Twice, what));
            }
            if report.twice > 0 && report.dropped == 0 && !pressed {
                let what = format!("the stack sent {} bytes twice", report.twice);
                return Err(failure(world, Kind::Twice, what));
            }
        }
        Ok(report)
    }

    /// Number of the remote's port of flow `n`.
    pub fn remote_port(n: u64) -> u16 {
        REMOTE_PORT + u16::try_from(n).unwrap_or(0)
    }
}

fn failure(world: &World, kind: Kind, what: String) -> Failure {
    Failure { kind, at: world.now.since(World::START), what }
}

//! The link between guest and stack: it cuts, loses, reorders, duplicates and delays.

use std::rc::Rc;
use std::time::Duration;

use wire::tcp::TcpFlags;

use super::capture::Capture;
use super::cut::cut;
use super::fault::Fault;
use super::packet::{Frame, TcpView};
use super::rng::Rng;
use super::socket::Shared;
use super::watch::Watch;
use crate::io::{FrameMeta, Gso, Guest, HEADROOM, Limits};
use crate::segment;
use crate::time::Instant;

/// What becomes of superframes on their way to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// The link takes them and the guest gets them whole: a tap with offloads.
    Whole,
    /// The link takes them and cuts them by itself; each piece has a fate of its own.
    ByLink,
    /// The link has no offload and cuts them with [`crate::segment`].
    BySegment,
    /// The link takes nothing larger than its MTU.
    Never,
}

/// How the link behaves. Probabilities are in 1/10 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// MTU in bytes.
    pub mtu: u16,
    /// What becomes of superframes.
    pub cutting: Cutting,
    /// Frames lost.
    pub loss: u32,
    /// Frames that are overtaken by those behind them.
    pub reorder: u32,
    /// Frames that arrive twice.
    pub duplicate: u32,
    /// Frames that the link refuses.
    pub refuse: u32,
    /// One-way delay.
    pub delay: Duration,
    /// Bytes per second.
    pub rate: u64,
    /// Frames on their way to the guest at most; beyond, they are dropped silently.
    pub queue: usize,
    /// How often it takes nothing for a while, and tells when it does again.
    pub fills: u32,
    /// ... and for how long at most.
    pub full_for: Duration,
}

impl LinkPlan {
    /// Whether every frame arrives once, in order and in time.
    pub fn is_clean(&self) -> bool {
        let late = self.refuse > 0 || self.fills > 0;
        self.loss == 0 && self.reorder == 0 && self.duplicate == 0 && !late
    }
}

#[derive(Debug)]
struct Direction {
    rng: Rng,
    busy: Instant,
}

/// The link, at the end where the stack sits.
#[derive(Debug)]
pub struct Link {
    plan: LinkPlan,
    slot: Vec<u8>,
    shared: Rc<Shared>,
    rng: Rng,
    to_guest: Direction,
    to_stack: Direction,
    /// Frames that left towards the guest, with their times of arrival: the world takes them from here.
    pub departures: Vec<(Instant, Frame)>,
    /// Frames on their way to the guest.
    pub in_flight: usize,
    /// It takes nothing now.
    pub full: bool,
    /// Checks every frame of the stack.
    pub watch: Option<Watch>,
    /// The first thing found wrong with a frame.
    pub wrong: Option<String>,
    /// Every frame that the stack sent or got, if wanted.
    pub capture: Option<Capture>,
    /// Buffers of frames that have arrived.
    pub spare: Vec<Vec<u8>>,
}

impl Link {
    /// A link with its own randomness.
    pub fn new(plan: LinkPlan, watch: Option<Watch>, mut rng: Rng, shared: Rc<Shared>) -> Self {
        let mut direction = || Direction { rng: rng.fork(), busy: Instant::default() };
        Self {
            plan,
            slot: Vec::new(),
            shared,
            to_guest: direction(),
            to_stack: direction(),
            rng,
            departures: Vec::with_capacity(256),
            in_flight: 0,
            full: false,
            watch,
            wrong: None,
            capture: None,
            spare: Vec::new(),
        }
    }

    /// How it behaves.
    pub fn plan(&self) -> &LinkPlan {
        &self.plan
    }

    /// A frame buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// A frame of the guest sets out; `arrive` is told when it is where, never, once or twice.
    pub fn from_guest(&mut self, frame: Frame, mut arrive: impl FnMut(Instant, Frame)) {
        if let Some(watch) = &mut self.watch {
            watch.guest_sent(&frame);
        }
        let now = self.shared.now.get();
        let fate = fate(&self.plan, &mut self.to_stack, frame.data.len(), now);
        match fate {
            [Some(first), Some(second)] => {
                arrive(first, frame.clone());
                arrive(second, frame);
            }
            [Some(at), None] | [None, Some(at)] => arrive(at, frame),
            [None, None] => self.spare.push(frame.data),
        }
    }

    fn depart(&mut self, data: Vec<u8>, gso: Gso) {
        let now = self.shared.now.get();
        if self.in_flight >= self.plan.queue {
            self.spare.push(data);
            return;
        }
        let frame = Frame { data, gso };
        match fate(&self.plan, &mut self.to_guest, frame.data.len(), now) {
            [Some(first), Some(second)] => {
                self.departures.push((first, frame.clone()));
                self.departures.push((second, frame));
                self.in_flight += 2;
            }
            [Some(at), None] | [None, Some(at)] => {
                self.departures.push((at, frame));
                self.in_flight += 1;
            }
            [None, None] => self.spare.push(frame.data),
        }
    }

    fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Tampers with an acknowledgement: its window ends left of where one ended before.
    fn tamper(&mut self, end: usize, start: usize, meta: FrameMeta) {
        if self.shared.fault.get() != Fault::EdgeMovedLeft || !self.rng.chance(500) {
            return;
        }
        let Some(frame) = self.slot.get_mut(start..end) else { return };
        let Some(view) = TcpView::parse(frame) else { return };
        if view.has(TcpFlags::SYN | TcpFlags::RST) || !view.has(TcpFlags::ACK) {
            return;
        }
        let window = view.header.window.get() / 2;
        if let Some(at) = meta.csum_start.map(|start| usize::from(start) + 14) {
            frame[at..at + 2].copy_from_slice(&window.to_be_bytes());
        }
    }
}

/// When a frame arrives: never, once, or twice.
fn fate(
    plan: &LinkPlan,
    direction: &mut Direction,
    len: usize,
    now: Instant,
) -> [Option<Instant>; 2] {
    let nanos = (len as u64 + 20) * 1_000_000_000 / plan.rate.max(1);
    direction.busy = direction.busy.max(now) + Duration::from_nanos(nanos);
    let at = direction.busy + plan.delay;
    let rng = &mut direction.rng;
    let late = |rng: &mut Rng| Duration::from_micros(rng.range(1, 3_000));
    let first = if rng.chance(plan.loss) {
        None
    } else if rng.chance(plan.reorder) {
        Some(at + late(rng))
    } else {
        Some(at)
    };
    let second = rng.chance(plan.duplicate).then(|| at + late(rng));
    [first, second]
}

impl Guest for Link {
    fn limits(&self) -> Limits {
        let max_packet = match self.plan.cutting {
            Cutting::Never => usize::from(self.plan.mtu),
            Cutting::Whole | Cutting::ByLink | Cutting::BySegment => 65_535,
        };
        Limits { mtu: self.plan.mtu, max_packet }
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        if self.full || self.rng.chance(self.plan.refuse) {
            return None;
        }
        if self.slot.len() < HEADROOM + room {
            self.slot.resize(HEADROOM + room, 0);
        }
        self.slot.get_mut(..HEADROOM + room)
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        if self.rng.chance(self.plan.refuse) {
            return false;
        }
        self.tamper(end, start, meta);
        let mut slot = std::mem::take(&mut self.slot);
        let Some(frame) = slot.get_mut(start..end) else {
            self.fail(format!("a frame of {start}..{end} in a buffer of {}", slot.len()));
            return false;
        };
        if let Some(capture) = &mut self.capture {
            capture.frame(self.shared.now.get(), frame);
        }
        if let Some(watch) = &mut self.watch {
            if let Err(what) = watch.stack_sent(frame, meta, &self.plan) {
                self.wrong.get_or_insert(what);
            }
        }
        let mut pieces = Vec::new();
        match self.plan.cutting {
            Cutting::Whole => {
                segment::complete_checksum(frame, &meta, wire::checksum::sum);
                let mut buffer = self.buffer();
                buffer.clear();
                buffer.extend_from_slice(frame);
                self.depart(buffer, meta.gso);
            }
            Cutting::BySegment => {
                segment::segments(frame, &meta, wire::checksum::sum, |headers, data| {
                    pieces.push([headers, data].concat());
                });
            }
            Cutting::ByLink | Cutting::Never => {
                if let Err(what) = cut(frame, meta, |piece| pieces.push(piece.to_vec())) {
                    self.fail(format!("a frame that cannot be cut: {what}"));
                }
            }
        }
        self.slot = slot;
        for piece in pieces {
            let packet = piece.len() - wire::ethernet::HEADER_LEN;
            if packet > usize::from(self.plan.mtu) {
                self.fail(format!("a packet of {packet} bytes at an MTU of {}", self.plan.mtu));
            }
            self.depart(piece, Gso::None);
        }
        true
    }

    fn flush(&mut self) {}

    fn is_full(&self) -> bool {
        self.full
    }
}

//! Scenarios out of numbers, and simpler scenarios out of scenarios.

use std::time::Duration;

use super::app::{AppPlan, Close, Stall};
use super::fault::Fault;
use super::link::{Cutting, LinkPlan};
use super::linux::LinuxPlan;
use super::pipe::PipePlan;
use super::rng::Rng;
use super::scenario::{Failure, FlowPlan, GuestPlan, Scenario};
use super::smol::SmolPlan;
use super::socket::{ConnectPlan, SocketPlan};
use super::world::WorkerPlan;
use crate::io::IcmpOrigin;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Scenario {
    /// The scenario number `seed`: at least 256 KiB each way, and whatever else chance has in store.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let ipv6 = rng.chance(4_000);
        let mut link = link(&mut rng, ipv6);
        // Drawn apart: seeds are known for what they do.
        let mut apart = Rng::new(!seed);
        if apart.chance(3_000) {
            link.fills = apart.range(1, 30) as u32;
            link.full_for = Duration::from_micros(apart.pick(&[100, 10_000, 200_000, 1_000_000]));
        }
        let guest = guest(&mut rng, &link, ipv6);
        let count = 1 + rng.below(4) * rng.below(2);
        let mut flows: Vec<_> = (0..count).map(|n| flow(&mut rng, n, ipv6, &link)).collect();
        for flow in &mut flows {
            let unreachable = matches!(flow.host.connect, ConnectPlan::Unreachable(_));
            if unreachable && matches!(guest, GuestPlan::Smol(_)) {
                // smoltcp does not listen to ICMP: it would ask for ever.
                flow.host.connect = ConnectPlan::Refuse;
            }
        }
        let latency = Duration::from_micros(rng.pick(&[0, 5, 50, 300]));
        let nudges = rng.pick(&[0, 0, 100, 2_000]);
        Self {
            seed,
            link,
            worker: WorkerPlan { latency, nudges },
            guest,
            flows,
            fault: Fault::None,
            limit: Duration::from_secs(2_000),
        }
    }

    /// Looks for the simplest scenario that fails in the same way.
    pub fn shrink(self, failure: Failure) -> (Self, Failure) {
        let mut best = (self, failure);
        let mut budget = 400;
        'again: loop {
            for candidate in best.0.simpler() {
                if budget == 0 {
                    return best;
                }
                budget -= 1;
                match candidate.run() {
                    Err(failure) if failure.kind == best.1.kind => {
                        best = (candidate, failure);
                        continue 'again;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            return best;
        }
    }

    /// Scenarios with one thing less.
    fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut other = self.clone();
            change(&mut other);
            if other != *self {
                all.push(other);
            }
        };
        for skip in 0..self.flows.len() {
            if self.flows.len() > 1 {
                with(&|s| {
                    s.flows.remove(skip);
                });
            }
        }
        with(&|s| s.link.loss = 0);
        with(&|s| s.link.reorder = 0);
        with(&|s| s.link.duplicate = 0);
        with(&|s| s.link.refuse = 0);
        with(&|s| s.link.fills = 0);
        with(&|s| s.link.fills /= 2);
        with(&|s| s.worker.nudges = 0);
        with(&|s| s.worker.latency = Duration::ZERO);
        with(&|s| s.link.cutting = Cutting::Never);
        with(&|s| s.link.delay = Duration::from_micros(10));
        for n in 0..self.flows.len() {
            with(&|s| s.flows[n].guest.stall = None);
            with(&|s| s.flows[n].host.app.stall = None);
            with(&|s| (s.flows[n].guest.read_rate, s.flows[n].guest.write_rate) = (0, 0));
            with(&|s| (s.flows[n].host.app.read_rate, s.flows[n].host.app.write_rate) = (0, 0));
            with(&|s| s.flows[n].guest.send = 0);
            with(&|s| s.flows[n].host.app.send = 0);
            with(&|s| s.flows[n].guest.send /= 2);
            with(&|s| s.flows[n].host.app.send /= 2);
            with(&|s| s.flows[n].start = Duration::ZERO);
            with(&|s| s.flows[n].host.connect = ConnectPlan::Accept);
            with(&|s| s.flows[n].host.old_info = false);
            with(&|s| s.flows[n].guest.reset_after = None);
            with(&|s| s.flows[n].host.app.reset_after = None);
            with(&|s| {
                s.flows[n].host.outward.delay = Duration::from_micros(20);
                s.flows[n].host.inward.delay = Duration::from_micros(20);
            });
            with(&|s| s.flows[n].host.outward.buffer = s.flows[n].host.outward.buffer_max);
            with(&|s| s.flows[n].host.inward.buffer = s.flows[n].host.inward.buffer_max);
            with(&|s| s.flows[n].host.sndbuf = s.flows[n].host.sndbuf_max);
        }
        let roomy = |guest: &mut GuestPlan| {
            if let GuestPlan::Linux(plan) = guest {
                plan.overhead = 20;
                plan.buffer = plan.buffer_max;
            }
        };
        with(&|s| roomy(&mut s.guest));
        all
    }
}

fn link(rng: &mut Rng, ipv6: bool) -> LinkPlan {
    let small = if ipv6 { 1280 } else { 576 };
    let least = if rng.chance(5_000) { small } else { 1_280 };
    let mtu = rng.pick(&[65_520, 9_000, 1_500, least]);
    let cutting = rng.pick(&[Cutting::Whole, Cutting::ByLink, Cutting::BySegment, Cutting::Never]);
    let plan = LinkPlan {
        mtu,
        cutting,
        loss: 0,
        reorder: 0,
        duplicate: 0,
        refuse: 0,
        delay: Duration::from_micros(rng.pick(&[5, 50, 500, 3_000])),
        rate: rng.pick(&[20_000_000, 125_000_000, 1_000_000_000, 5_000_000_000]),
        queue: usize::MAX,
        fills: 0,
        full_for: Duration::ZERO,
    };
    if rng.chance(2_500) {
        return plan;
    }
    LinkPlan {
        loss: rng.below(501) as u32,
        reorder: rng.below(301) as u32 * u32::from(rng.chance(7_000)),
        duplicate: rng.below(201) as u32 * u32::from(rng.chance(7_000)),
        refuse: rng.pick(&[0, 0, 20, 200]),
        queue: rng.pick(&[30, 300, 1_000, 10_000]),
        ..plan
    }
}

fn guest(rng: &mut Rng, link: &LinkPlan, ipv6: bool) -> GuestPlan {
    if rng.chance(4_000) {
        return GuestPlan::Smol(SmolPlan {
            rx_buffer: rng.pick(&[4_096, 20_000, 65_535, 400_000]),
            tx_buffer: rng.pick(&[4_096, 20_000, 65_535, 400_000]),
            timestamps: rng.chance(3_000),
            reno: rng.chance(5_000),
            nagle: rng.chance(5_000),
            mtu: link.mtu,
        });
    }
    let mss = link.mtu - if ipv6 { 60 } else { 40 };
    let tso = link.cutting != Cutting::Never;
    GuestPlan::Linux(LinuxPlan {
        buffer: rng.pick(&[32 * KIB, 128 * KIB, 128 * KIB, 1_024 * KIB]),
        buffer_max: rng.pick(&[128 * KIB, 2 * MIB, 6 * MIB, 6 * MIB]),
        overhead: rng.pick(&[10, 60, 90, 150]),
        send_buffer: rng.pick(&[16 * KIB, 256 * KIB, 4 * MIB, 4 * MIB]),
        shrinks: rng.chance(5_000),
        shift: rng.chance(9_000).then(|| rng.pick(&[2, 7, 10, 14])),
        sack: rng.chance(8_000),
        timestamps: rng.chance(8_000),
        mss,
        superframe: if tso { 65_000 } else { u64::from(mss) },
        probe_data: rng.chance(3_000),
    })
}

fn flow(rng: &mut Rng, n: u64, ipv6: bool, link: &LinkPlan) -> FlowPlan {
    let main = n == 0;
    let mut guest = app(rng, main);
    let mut remote = app(rng, main);
    if guest.close == Close::AfterPeer && remote.close == Close::AfterPeer {
        guest.close = Close::AfterSending;
    }
    let mut connect = ConnectPlan::Accept;
    if rng.chance(2_000) {
        connect = ConnectPlan::Late(Duration::from_millis(rng.range(1, 4_000)));
    }
    if !main && rng.chance(2_000) {
        let at = Some(rng.below(128 * KIB));
        if rng.chance(5_000) {
            guest.reset_after = at;
        } else {
            remote.reset_after = at;
        }
    } else if !main && rng.chance(2_000) {
        let icmp = IcmpOrigin {
            offender: if ipv6 {
                std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1).into()
            } else {
                std::net::Ipv4Addr::new(203, 0, 113, 1).into()
            },
            kind: if ipv6 { 1 } else { 3 },
            code: if ipv6 { 0 } else { 1 },
            info: 0,
        };
        connect = rng.pick(&[
            ConnectPlan::Refuse,
            ConnectPlan::Refuse,
            ConnectPlan::Unreachable(icmp),
            ConnectPlan::Silence,
        ]);
    }
    let active = !matches!(connect, ConnectPlan::Accept) || rng.chance(7_000);
    FlowPlan {
        n,
        active,
        ipv6,
        start: Duration::from_micros(rng.below(200_000) * u64::from(!main)),
        guest,
        host: socket(rng, connect, remote, link),
    }
}

fn app(rng: &mut Rng, main: bool) -> AppPlan {
    let send = if main { 256 * KIB } else { 0 } + rng.below(256 * KIB);
    let stall = rng.chance(3_000).then(|| Stall {
        at: rng.below(send.max(1)),
        lasts: Duration::from_millis(rng.range(10, 6_000)),
    });
    let rate = |rng: &mut Rng| if rng.chance(2_000) { rng.range(60_000, 4_000_000) } else { 0 };
    AppPlan {
        send: if !main && rng.chance(1_000) { 0 } else { send },
        write_rate: rate(rng),
        read_rate: rate(rng),
        stall,
        close: if rng.chance(5_000) { Close::AfterSending } else { Close::AfterPeer },
        reset_after: None,
    }
}

fn socket(rng: &mut Rng, connect: ConnectPlan, app: AppPlan, link: &LinkPlan) -> SocketPlan {
    let delay = Duration::from_micros(rng.pick(&[10, 200, 5_000, 40_000]));
    let rate = rng.pick(&[2_000_000, 125_000_000, 1_000_000_000, 5_000_000_000]);
    let mss = u64::from(link.mtu).min(rng.pick(&[536, 1_448, 1_448, 65_483]));
    let mut pipe = |smallest: u64| {
        let buffer = rng.pick(&[smallest, 16 * KIB, 64 * KIB, 128 * KIB]);
        let buffer_max = buffer.max(rng.pick(&[0, 256 * KIB, 6 * MIB, 6 * MIB]));
        PipePlan { delay, rate, mss, buffer, buffer_max }
    };
    let outward = pipe(3 * KIB);
    let inward = pipe(8 * KIB);
    let sndbuf = rng.pick(&[4 * KIB, 16 * KIB, 87_040, 2_560 * KIB]);
    SocketPlan {
        connect,
        outward,
        inward,
        sndbuf,
        sndbuf_max: sndbuf.max(rng.pick(&[4 * KIB, 64 * KIB, 4 * MIB, 6 * MIB])),
        overhead: rng.pick(&[3, 10, 30, 80]),
        app,
        old_info: rng.chance(1_000),
    }
}

//! How fast data moves under loss, over distance and through small buffers: a table, so that a change shows.
//!
//! `SIM_BLESS=1 cargo test -p stack --test recovery` writes the table anew.
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::fmt::Write;
use std::time::Duration;

use stack::sim::Scenario;
use stack::sim::app::{AppPlan, Close};
use stack::sim::fault::Fault;
use stack::sim::link::{Cutting, LinkPlan};
use stack::sim::linux::LinuxPlan;
use stack::sim::pipe::PipePlan;
use stack::sim::scenario::{FlowPlan, GuestPlan};
use stack::sim::socket::{ConnectPlan, SocketPlan};
use stack::sim::world::WorkerPlan;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recovery.txt");
/// Bytes moved per cell.
const BYTES: u64 = 8 << 20;
/// Runs per cell: losses fall differently in each.
const RUNS: u64 = 5;

/// Loss on the guest's link, in 1/10 000.
const LOSSES: [u32; 4] = [0, 10, 100, 500];
/// Round trip to the remote.
const ROUND_TRIPS: [Duration; 3] =
    [Duration::from_micros(100), Duration::from_millis(10), Duration::from_millis(100)];
/// Most the buffers of host, remote and guest grow to.
const BUFFERS: [u64; 2] = [256 << 10, 6 << 20];

fn scenario(out: bool, loss: u32, round_trip: Duration, buffer: u64, seed: u64) -> Scenario {
    let sends = AppPlan { send: BYTES, ..AppPlan::default() };
    let listens = AppPlan::default();
    let (guest, app) = if out { (sends, listens) } else { (listens, sends) };
    let pipe = PipePlan {
        delay: round_trip / 2,
        rate: 1_250_000_000,
        mss: 1_448,
        buffer: 128 << 10,
        buffer_max: buffer,
    };
    Scenario {
        seed,
        link: LinkPlan {
            mtu: 1_500,
            cutting: Cutting::ByLink,
            loss,
            reorder: 0,
            duplicate: 0,
            refuse: 0,
            delay: Duration::from_micros(20),
            rate: 1_250_000_000,
            queue: 1_000,
            fills: 0,
            full_for: Duration::ZERO,
        },
        worker: WorkerPlan { latency: Duration::from_micros(5), nudges: 0 },
        guest: GuestPlan::Linux(LinuxPlan {
            buffer: 128 << 10,
            buffer_max: buffer,
            overhead: 60,
            send_buffer: buffer,
            shrinks: true,
            shift: Some(7),
            sack: true,
            timestamps: true,
            mss: 1_460,
            superframe: 65_000,
            probe_data: false,
        }),
        flows: vec![FlowPlan {
            n: 0,
            active: true,
            ipv6: false,
            start: Duration::ZERO,
            guest,
            host: SocketPlan {
                connect: ConnectPlan::Accept,
                outward: pipe,
                inward: pipe,
                sndbuf: 87_040.min(buffer),
                sndbuf_max: buffer,
                overhead: 5,
                app,
                old_info: false,
            },
        }],
        fault: Fault::None,
        limit: Duration::from_secs(2_000),
    }
}

/// Mbit/s, the median of some runs.
fn rate(out: bool, loss: u32, round_trip: Duration, buffer: u64) -> u64 {
    let mut rates: Vec<u64> = (0..RUNS)
        .map(|seed| {
            let report = scenario(out, loss, round_trip, buffer, seed).run();
            let report = report.unwrap_or_else(|failure| {
                panic!("out {out} loss {loss} {round_trip:?} {buffer} seed {seed}: {failure}")
            });
            let micros = u64::try_from(report.took.as_micros()).unwrap();
            BYTES * 8 / micros.max(1)
        })
        .collect();
    rates.sort_unstable();
    rates[rates.len() / 2]
}

/// Lines of a direction, a buffer and a round trip, with one column per loss.
fn table() -> Vec<(String, Vec<u64>)> {
    let mut lines = Vec::new();
    for (out, name) in [(true, "to host"), (false, "to guest")] {
        for buffer in BUFFERS {
            for round_trip in ROUND_TRIPS {
                let rates = LOSSES.map(|loss| rate(out, loss, round_trip, buffer)).to_vec();
                let round_trip = format!("{round_trip:?}");
                lines.push((format!("{name:8} {:>5} KiB {round_trip:>6}", buffer >> 10), rates));
            }
        }
    }
    lines
}

fn text(lines: &[(String, Vec<u64>)]) -> String {
    let mut text = String::from("Mbit/s         buffer    RTT |");
    for loss in LOSSES {
        write!(text, "{:>7}.{:02}%", loss / 100, loss % 100).unwrap();
    }
    text.push('\n');
    for (name, rates) in lines {
        write!(text, "{name} |").unwrap();
        for rate in rates {
            write!(text, "{rate:>11}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn no_cell_is_much_slower_than_the_table_says() {
    let lines = table();
    let text = text(&lines);
    if std::env::var_os("SIM_BLESS").is_some() {
        std::fs::write(TABLE, &text).unwrap();
    }
    println!("{text}");
    let known = std::fs::read_to_string(TABLE).unwrap();
    let known: Vec<Vec<u64>> = known
        .lines()
        .skip(1)
        .map(|line| {
            let rates = line.split('|').nth(1).unwrap_or_default();
            rates.split_whitespace().map(|rate| rate.parse().unwrap()).collect()
        })
        .collect();
    assert_eq!(known.len(), lines.len(), "the table has other lines; SIM_BLESS=1 renews it");
    for ((name, rates), known) in lines.iter().zip(&known) {
        for ((loss, rate), known) in LOSSES.iter().zip(rates).zip(known) {
            assert!(
                rate * 10 >= known * 7,
                "{name}, loss {loss}/10000: {rate} Mbit/s, the table says {known}"
            );
        }
    }
}

/// A guest that now and then sends a little never takes that for lost, however far away the remote is and
/// whoever began: a handshake that it had with us alone tells it nothing of the distance.
#[test]
fn distance_is_no_loss() {
    for millis in [1, 20, 100, 150, 180, 250, 400, 700] {
        for out in [true, false] {
            let mut scenario = scenario(out, 0, Duration::from_millis(millis), 256 << 10, 1);
            for flow in &mut scenario.flows {
                flow.active = out;
                flow.guest = AppPlan { send: 3_000, write_rate: 1_000, ..AppPlan::default() };
                flow.host.app = AppPlan { close: Close::AfterPeer, ..AppPlan::default() };
            }
            let report = scenario.run().unwrap();
            assert_eq!(report.to_host, 3_000);
            let (timeouts, twice) = (report.guest_timeouts, report.guest_twice);
            assert_eq!((timeouts, twice), (0, 0), "{millis} ms, begun by the guest: {out}");
        }
    }
}

//! The stack in the simulation: every byte right, nothing stuck, no rule broken, whatever the link does.
//!
//! `SIM_SEED=n cargo test -p stack --test simulation one_seed -- --nocapture` runs one seed again and
//! prints what happened; `SIM_PCAP=file` keeps what passed the link.
#![expect(clippy::print_stdout, reason = "a test, helpers included")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use stack::sim::Scenario;
use stack::sim::scenario::{Failure, Kind, Report};

/// Seeds per test function: a test runner with a process per test spreads them over the processors.
const SHARD: u64 = 125;

fn run(scenario: &Scenario) -> Result<Report, Failure> {
    catch_unwind(AssertUnwindSafe(|| scenario.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        Err(Failure { kind: Kind::Wrong, at: std::time::Duration::ZERO, what })
    })
}

fn seeds(seeds: impl IntoIterator<Item = u64>) {
    let mut failed = Vec::new();
    for seed in seeds {
        let scenario = Scenario::from_seed(seed);
        if let Err(failure) = run(&scenario) {
            println!("seed {seed}: {failure}");
            failed.push((scenario, failure));
        }
    }
    if let Some((scenario, failure)) = failed.first().cloned() {
        let seed = scenario.seed;
        let panicked = failure.what.starts_with("panic");
        let (simple, how) = if panicked { (scenario, failure) } else { scenario.shrink(failure) };
        let count = failed.len();
        panic!(
            "{count} seeds failed; run one again with SIM_SEED={seed}; simplest: {how}\n{simple:#?}"
        );
    }
}

fn shard(n: u64) {
    seeds(n * SHARD..(n + 1) * SHARD);
}

macro_rules! thousand_seeds {
    ($($name:ident = $n:literal),*) => {
        mod thousand_seeds {
            $(
                #[test]
                fn $name() {
                    super::shard($n);
                }
            )*
        }
    };
}

thousand_seeds!(
    to_125 = 0,
    to_250 = 1,
    to_375 = 2,
    to_500 = 3,
    to_625 = 4,
    to_750 = 5,
    to_875 = 6,
    to_1000 = 7
);

/// The seed in `SIM_SEED`, for a closer look.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()) else {
        return;
    };
    let scenario = Scenario::from_seed(seed);
    println!("{scenario:#?}");
    let (result, capture) = scenario.run_captured();
    println!("{result:#?}");
    if let Some(path) = std::env::var_os("SIM_PCAP") {
        std::fs::write(path, capture).unwrap();
    }
    if let Err(failure) = result {
        let (simple, failure) = scenario.shrink(failure);
        println!("simplest: {failure}\n{simple:#?}");
        if let Some(path) = std::env::var_os("SIM_PCAP") {
            let mut path = std::path::PathBuf::from(path);
            path.set_extension("simplest.pcap");
            std::fs::write(path, simple.run_captured().1).unwrap();
        }
        panic!("seed {seed} fails");
    }
}

/// A suite that does not notice faults proves nothing: each one planted in the models has to fail it.
mod planted_faults {
    use stack::sim::Scenario;
    use stack::sim::fault::Fault;
    use stack::sim::scenario::Kind;

    use super::run;

    /// Plants `fault` in scenarios that pass without it; how many of them fail then, and how.
    fn found(fault: Fault) -> Vec<(u64, Kind, String)> {
        let mut all = Vec::new();
        for seed in 0..200 {
            let healthy = Scenario::from_seed(seed);
            let sick = Scenario { fault, ..healthy.clone() };
            let Err(failure) = run(&sick) else { continue };
            assert!(run(&healthy).is_ok(), "seed {seed} fails by itself");
            all.push((seed, failure.kind, failure.what));
        }
        println!("{fault:?}: {} of 200 seeds fail, such as {:?}", all.len(), all.first());
        all
    }

    #[test]
    fn a_spill_byte_lost() {
        let found = found(Fault::SpillByteLost);
        assert!(found.len() >= 20, "{found:?}");
        assert!(found.iter().all(|(_, kind, what)| *kind == Kind::Wrong
            && (what.contains("wrong bytes") || what.contains("the guest got"))));
    }

    #[test]
    fn the_right_edge_moved_left() {
        let found = found(Fault::EdgeMovedLeft);
        assert!(found.len() >= 100, "{found:?}");
        assert!(found.iter().all(|(_, _, what)| what.contains("right edge moved left")));
    }

    #[test]
    fn a_hole_not_peeked_again() {
        let found = found(Fault::HoleNotPeeked);
        assert!(found.len() >= 50, "{found:?}");
        assert!(found.iter().all(|(_, kind, _)| matches!(kind, Kind::Stuck | Kind::Wrong)));
    }

    #[test]
    fn a_hole_peeked_wrongly() {
        let found = found(Fault::HolePeekedWrong);
        assert!(found.len() >= 50, "{found:?}");
        assert!(found.iter().all(|(_, kind, what)| *kind == Kind::Wrong && what.contains("wrong")));
    }
}

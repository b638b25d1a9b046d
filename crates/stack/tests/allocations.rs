//! No allocation per segment: the stack takes what it needs once.
#![expect(clippy::print_stdout, reason = "a test, helpers included")]

use stack::sim::steady::{Load, Steady};

/// Counts over the models too: they reuse their buffers.
fn allocations(load: Load) -> u64 {
    let mut steady = Steady::new(load, 10);
    steady.steady_phase(64 << 20);
    let frames = steady.stats().frames_from_guest + steady.stats().frames_to_guest;
    let counted = allocation_counter::measure(|| steady.steady_phase(64 << 20));
    let frames = steady.stats().frames_from_guest + steady.stats().frames_to_guest - frames;
    assert!(frames > 1_000, "{frames} frames prove nothing");
    let spilled = steady.stats().tcp_spilled > 0;
    assert_eq!(spilled, load == Load::ToSlowHost, "the spill is to be used by that load only");
    println!("{load:?}: {counted:?} for {frames} frames");
    counted.count_total
}

#[test]
fn none_per_segment_to_the_host() {
    assert_eq!(allocations(Load::ToHost), 0);
}

#[test]
fn none_per_segment_to_the_guest() {
    assert_eq!(allocations(Load::ToGuest), 0);
}

#[test]
fn none_per_segment_through_the_spill() {
    assert_eq!(allocations(Load::ToSlowHost), 0);
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| {
        std::hint::black_box(vec![1u8; 100]);
    });
    assert_eq!(counted.count_total, 1);
}

//! Moves data through one connection among many idle ones, for counting what that costs:
//!
//! ```text
//! cargo build --profile test -p stack --features sim --example steady
//! for idle in 0 10000; do
//!   valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*measured*' \
//!     target/debug/examples/steady to-guest 64 $idle
//! done
//! ```
//!
//! The two counts must not differ by more than five per cent: what a wake-up costs does not depend on how
//! many connections there are.

use std::io::Write;

use stack::sim::steady::{Load, Steady};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let load = match args.next().as_deref() {
        Some("to-host") => Load::ToHost,
        Some("to-slow-host") => Load::ToSlowHost,
        Some("to-guest") => Load::ToGuest,
        _ => {
            writeln!(std::io::stderr(), "usage: steady to-host|to-slow-host|to-guest MIB IDLE")?;
            std::process::exit(2);
        }
    };
    let mut number = || args.next().and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(0);
    let (mib, idle) = (number(), number());
    let mut steady = Steady::new(load, idle);
    steady.steady_phase(8 << 20);
    let before = steady.moved();
    // The second call is the one to look at: buffers have grown, windows are open.
    measured(&mut steady, mib << 20);
    writeln!(
        std::io::stdout(),
        "{} bytes with {} connections open\n{:?}",
        steady.moved() - before,
        steady.connections(),
        steady.stats(),
    )
}

#[inline(never)]
fn measured(steady: &mut Steady, bytes: u64) {
    steady.steady_phase(bytes);
}

//! The wrapper for QEMU before 7.2.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::qrap::main()
}

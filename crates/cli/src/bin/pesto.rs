//! The client of the configuration socket.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::pesto::main()
}

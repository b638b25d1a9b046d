//! The program under the name pasta; the name decides what it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

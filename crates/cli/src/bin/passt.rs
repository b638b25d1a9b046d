//! The program under the name passt; the name decides what it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

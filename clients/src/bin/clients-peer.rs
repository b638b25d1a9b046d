//! The helper program of the checks, see `testkit::peer`.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    testkit::peer::main(&args)
}

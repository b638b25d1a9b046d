//! Developer tasks: `cargo xtask TASK`.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod clients;
mod dist;
mod generated;
mod test;
mod tools;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask TASK

  test [ARGS]        checks and every test, then a minute of fuzzing; ARGS go to the runner
  e2e [--full] [ARGS]
                     the end-to-end tests alone; --full moves a GiB in each bulk transfer
                     and takes a minute where time matters
  guest              makes the virtual machines' guest of the newest packages (the tests make it
                     if there is none)
  check              lengths of files, places of unsafe, dependencies between crates
  bench [OPTIONS]    pasta and passt beside the C ones, slirp4netns, plain veth (bench --help says more)
  clients [OPTIONS]  Podman, RootlessKit, libvirt and QEMU of Debian sid with our programs and with the C
                     ones (clients --help says more)
  dist [--check]     makes a tarball with static programs and a Debian package; --check looks at them in
                     a Debian sid tree
  man                writes man/ from the table of flags
  completions        writes completions/ from the table of flags
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("test") => test::run(args),
        Some("e2e") => test::e2e(args),
        Some("guest") => tools::guest(),
        Some("check") => check::run(),
        Some("bench") => bench::run(args),
        Some("clients") => clients::run(args),
        Some("dist") => dist::run(args),
        Some("man") => generated::write("man"),
        Some("completions") => generated::write("completions"),
        _ => bail!("{USAGE}"),
    }
}

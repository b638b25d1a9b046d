//! Developer tasks: `cargo xtask TASK`.
#![forbid(unsafe_code)]

mod bench;
mod generated;

use anyhow::{Result, bail};

const USAGE: &str = "\
Usage: cargo xtask TASK

  bench [OPTIONS]    our pasta beside C pasta, slirp4netns and plain veth (bench --help says more)
  man                writes man/ from the table of flags
  completions        writes completions/ from the table of flags
";

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("bench") => bench::run(args),
        Some("man") => generated::write("man"),
        Some("completions") => generated::write("completions"),
        _ => bail!("{USAGE}"),
    }
}

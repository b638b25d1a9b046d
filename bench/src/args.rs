//! The command line of the harness.

use crate::peer::Peer;
use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask bench [OPTIONS]          (as root)

  --quick           one run of a second per row and peer, cubic only
  --runs N          runs per row and peer (default 5; rows that hardly vary take at most 3)
  --secs S          length of a timed run (default 3)
  --rows A,B,...    only rows whose name contains one of these words; a word of the form A+B
                    wants both parts
  --peers A,B,...   only these of pasta, c, slirp4netns, veth; in rows of streams, pasta is our passt
  --sid DIR         the Debian sid tree with the C pasta (default: sid in the target directory)
  --out DIR         where table and raw figures are kept (default: bench in the target directory)
  --list            names of the rows
  -h, --help        this text

Environment: PASTA_BIN, the pasta to measure (default: the one built beside this program); passt is the
program of that name in the same directory.
";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) quick: bool,
    pub(crate) runs: u32,
    pub(crate) window: Duration,
    rows: Vec<String>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) sid: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) pasta: PathBuf,
    pub(crate) load: PathBuf,
    pub(crate) bridge: PathBuf,
    pub(crate) list: bool,
    pub(crate) help: bool,
}

/// Reads the command line and the environment.
pub(crate) fn parse() -> Result<Args> {
    let exe = std::env::current_exe().context("cannot find this program")?;
    let built = exe.parent().context("this program lies in no directory")?;
    let target = built.parent().unwrap_or(built);
    let mut args = Args {
        quick: false,
        runs: 5,
        window: Duration::from_secs(3),
        rows: Vec::new(),
        peers: Peer::ALL.to_vec(),
        sid: target.join("sid"),
        out: target.join("bench"),
        pasta: std::env::var_os("PASTA_BIN").map_or_else(|| built.join("pasta"), PathBuf::from),
        load: built.join("bench-load"),
        bridge: built.join("bench-bridge"),
        list: false,
        help: false,
    };
    let (mut runs, mut secs) = (None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("quick") => args.quick = true,
            Long("runs") => runs = Some(parser.value()?.parse::<u32>()?),
            Long("secs") => secs = Some(parser.value()?.parse::<f64>()?),
            Long("rows") => {
                args.rows.extend(parser.value()?.string()?.split(',').map(str::to_owned));
            }
            Long("peers") => {
                let value = parser.value()?.string()?;
                args.peers = value.split(',').map(Peer::from_name).collect::<Result<_>>()?;
            }
            Long("sid") => args.sid = std::path::absolute(parser.value()?)?,
            Long("out") => args.out = std::path::absolute(parser.value()?)?,
            Long("list") => args.list = true,
            Short('h') | Long("help") => args.help = true,
            Short(_) | Long(_) | Value(_) => bail!("{}\n{USAGE}", arg.unexpected()),
        }
    }
    args.runs = runs.unwrap_or(if args.quick { 1 } else { 5 }).max(1);
    let secs = secs.unwrap_or(if args.quick { 1.0 } else { 3.0 }).clamp(0.5, 300.0);
    args.window = Duration::from_secs_f64(secs);
    Ok(args)
}

impl Args {
    /// Whether the row of this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let named = |word: &String| word.split('+').all(|part| name.contains(part));
        if self.rows.is_empty() {
            return !self.quick || !(name.contains("bbr") || name.contains("reno"));
        }
        self.rows.iter().any(named)
    }
}

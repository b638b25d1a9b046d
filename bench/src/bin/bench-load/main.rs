//! The load generator of the benchmark: a server for the far end, and clients for the near end.
//!
//! One measurement is one server process and one client process. Results are one line of
//! `key=value` words on standard output; the server prints its line when `report` arrives on its
//! standard input and ends when that input does.
#![forbid(unsafe_code)]

mod meter;
mod request;
mod server;
mod spawn;
mod tcp;
mod udp;

use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

/// Which way the bytes of a throughput measurement go, seen from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// The client sends.
    Out,
    /// The server sends.
    In,
}

/// Everything the command line can say; each command takes what concerns it.
#[derive(Debug)]
struct Options {
    command: String,
    to: SocketAddr,
    direction: Direction,
    streams: u32,
    window: Duration,
    congestion: Option<String>,
    udp: bool,
    flight: u32,
    count: Option<u32>,
    rate: u32,
    size: u16,
    gso: bool,
    program: Vec<OsString>,
}

const USAGE: &str = "\
bench-load server --to ADDR:PORT [--cc NAME]
bench-load tcp    --to ADDR:PORT [--in] [--streams N] [--secs S] [--cc NAME]
bench-load rr     --to ADDR:PORT [--udp] [--secs S]
bench-load crr    --to ADDR:PORT [--flight N] [--secs S | --count N]
bench-load udp    --to ADDR:PORT [--in] [--rate PPS (0: as fast as it goes)] [--size BYTES] [--gso] [--secs S]
bench-load idle   --to ADDR:PORT --count N
bench-load spawn  --count N -- PROGRAM [ARGS...]
";

fn parse() -> Result<Options> {
    let mut o = Options {
        command: String::new(),
        to: SocketAddr::from(([127, 0, 0, 1], 5001)),
        direction: Direction::Out,
        streams: 1,
        window: Duration::from_secs(3),
        congestion: None,
        udp: false,
        flight: 16,
        count: None,
        rate: 0,
        size: 1400,
        gso: false,
        program: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("to") => o.to = parser.value()?.parse()?,
            Long("in") => o.direction = Direction::In,
            Long("streams") => o.streams = parser.value()?.parse()?,
            Long("secs") => o.window = Duration::try_from_secs_f64(parser.value()?.parse()?)?,
            Long("cc") => o.congestion = Some(parser.value()?.string()?),
            Long("udp") => o.udp = true,
            Long("flight") => o.flight = parser.value()?.parse()?,
            Long("count") => o.count = Some(parser.value()?.parse()?),
            Long("rate") => o.rate = parser.value()?.parse()?,
            Long("size") => o.size = parser.value()?.parse()?,
            Long("gso") => o.gso = true,
            Value(v) if o.command.is_empty() => o.command = v.string()?,
            Value(v) if o.command == "spawn" => {
                o.program.push(v);
                o.program.extend(parser.raw_args()?);
            }
            Short(_) | Long(_) | Value(_) => return Err(arg.unexpected().into()),
        }
    }
    Ok(o)
}

fn main() -> Result<()> {
    let o = parse().context(USAGE)?;
    // Ten thousand idle connections need more than the usual soft limit of descriptors.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    match o.command.as_str() {
        "server" => server::run(&o),
        "tcp" => tcp::throughput(&o),
        "rr" if o.udp => udp::request_response(&o),
        "rr" => tcp::request_response(&o),
        "crr" => tcp::connect_request_response(&o),
        "udp" => udp::stream(&o),
        "idle" => tcp::idle(&o),
        "spawn" => spawn::run(&o),
        _ => bail!("{USAGE}"),
    }
}

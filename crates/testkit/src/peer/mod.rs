//! The helper program: servers and clients with one task each, for every place in a rig.
//!
//! | arguments | does |
//! |---|---|
//! | `init -- COMMAND…` | runs COMMAND and reaps every orphan until COMMAND ends; its status |
//! | `pivot UID PROGRAM…` | makes the current directory, a mount, the root; runs PROGRAM there as UID |
//! | `hold [MARK]` | says `ready`, then waits for the end of its standard input |
//! | `serve ADDR PORT` | the server of [`tcp`] and [`udp`]; says `serving` |
//! | `connect ADDR PORT` | says `connected`, or the error as [`tcp::describe`] names it |
//! | `put`, `get`, `get-later`, `put-get`, `get-put`, `read`, `abort` | transfers, see [`tcp::client`] |
//! | `idle ADDR PORT COUNT` | COUNT connections that stay open, see [`tcp::client`] |
//! | `many ADDR PORT COUNT BYTES` | COUNT connections at once, each echoing BYTES |
//! | `udp-…` | datagrams, see [`udp::client`] |
//! | `noise FILE SEED COUNT ADDR PORT` | damaged copies of the frames in a capture, as datagrams |
//! | `witness`, `probe` | what a server sees of its clients, see [`witness`] |
//! | `refuse CALL COMMAND…` | becomes COMMAND, to which the kernel refuses CALL: `pivot_root`, `close_range`, `landlock`, `sock_diag` |
//! | `sum BYTES` | the SHA-256 of the test stream's first BYTES |

mod noise;
mod refuse;
pub mod stream;
pub mod tcp;
pub mod udp;
pub mod witness;

use anyhow::{Context, Result, bail};
use rustix::mount::UnmountFlags;
use rustix::process::{WaitOptions, wait};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// The helper's main function. `args` are its arguments without the program name.
pub fn main(args: &[String]) -> ExitCode {
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard output at once: whoever started us waits for it.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The argument at `index` as a number.
pub(crate) fn number<T: std::str::FromStr>(args: &[&str], index: usize) -> Result<T> {
    let text = args.get(index).with_context(|| format!("argument {index} is missing"))?;
    text.parse().ok().with_context(|| format!("'{text}' is not a number"))
}

fn socket_addr(args: &[&str]) -> Result<SocketAddr> {
    let [addr, port, ..] = args else { bail!("ADDR and PORT are missing") };
    Ok(SocketAddr::new(addr.parse()?, port.parse()?))
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["init", "--", command @ ..] => return init(command),
        ["pivot", uid, program, args @ ..] => return pivot(uid.parse()?, program, args),
        ["hold", ..] => {
            say("ready")?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        ["refuse", call, command @ ..] => match refuse::become_refused(call, command)? {},
        ["serve", rest @ ..] => serve(socket_addr(rest)?)?,
        ["noise", file, seed, count, rest @ ..] => {
            noise::send(file, seed.parse()?, count.parse()?, socket_addr(rest)?)?;
        }
        ["witness", rest @ ..] => witness::serve(rest)?,
        ["probe", rest @ ..] => witness::probe(rest)?,
        ["sum", size] => say(&stream::sum(size.parse()?))?,
        [verb, rest @ ..] if verb.starts_with("udp-") => {
            udp::client(verb, socket_addr(rest)?, rest.get(2..).unwrap_or(&[]))?;
        }
        [verb, rest @ ..] => {
            tcp::client(verb, socket_addr(rest)?, rest.get(2..).unwrap_or(&[]))?;
        }
        [] => bail!("no verb given"),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(addr: SocketAddr) -> Result<()> {
    let tcp = tcp::listen(addr)?;
    let udp = udp::listen(addr)?;
    say("serving")?;
    let datagrams = std::thread::spawn(move || udp::serve(&udp));
    tcp::serve(&tcp)?;
    let _ = datagrams.join();
    Ok(())
}

/// Becomes a program in another root, of which nothing of this one is to be seen.
fn pivot(uid: u32, program: &str, args: &[&str]) -> Result<ExitCode> {
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("the former root")?;
    std::env::set_current_dir("/")?;
    // Together with the user, supplementary groups go.
    let error = Command::new(program).args(args).gid(uid).uid(uid).exec();
    Err(error).context(program.to_owned())
}

/// Runs a command as the first process of a PID namespace.
fn init(command: &[&str]) -> Result<ExitCode> {
    let (program, args) = command.split_first().context("no command given")?;
    let mut child = Command::new(program).args(args).spawn()?;
    let main = rustix::process::Pid::from_child(&child);
    loop {
        // Orphans, daemons of the program under test among them, end up here.
        let Some((pid, status)) = wait(WaitOptions::empty())? else { continue };
        if pid == main {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            let code = status.exit_status().or(signal).unwrap_or(1);
            // It is gone already; this only tells the handle.
            let _ = child.try_wait();
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
    }
}

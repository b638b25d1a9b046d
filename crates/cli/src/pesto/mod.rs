//! `pesto`, the client of the configuration socket: shows and changes the forwarding rules of a
//! running passt or pasta.
//!
//! It reads all tables of the server, applies its commands, in their order, to a copy, sends the
//! copy, and reads again to see what became of it, since the protocol has no answer.
//!
//! It talks to whoever listens at a path, so few system calls are left to it before it looks at its arguments.
//! None of them gets memory, which the binary has from the start; and it ends without going back to the
//! runtime, whose clean-up makes other calls.

mod change;
mod client;
mod flags;
mod man;
mod request;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Result, bail};
use control::PifTable;
use log::LevelFilter;
use sys::privileges;
use sys::process::exit_now;
use sys::seccomp::{self, Filter};

use self::client::{Connection, Limits};
pub use self::flags::{Action, FLAGS};
pub use self::man::man;
use self::request::{Asked, Request};
use crate::flags::Group;
use crate::spec::Ephemeral;
use crate::start::failure;
use crate::{help, version};

/// Runs the program. The status is 1 for every error, with a line on standard error.
pub fn main() -> ! {
    crate::log::start(LevelFilter::Info);
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    let ephemeral = Ephemeral::read();
    let status = confine().and_then(|()| program(&argv0.to_string_lossy(), args, ephemeral));
    let status = status.unwrap_or_else(|error| {
        log::error!("{error:#}");
        1
    });
    // Who closes it does not want to read it.
    let _ = io::stdout().flush();
    exit_now(status)
}

/// Gives up what is not needed to talk to a server.
fn confine() -> Result<()> {
    privileges::forbid_dumping().map_err(|error| failure("Couldn't forbid core dumps", &error))?;
    privileges::forbid_new_privileges()
        .map_err(|error| failure("Couldn't forbid new privileges", &error))?;
    Filter::new(seccomp::PESTO)
        .and_then(|filter| filter.apply())
        .map_err(|error| failure("Couldn't filter system calls", &error))
}

fn program(
    argv0: &str,
    args: impl Iterator<Item = OsString>,
    ephemeral: Result<Ephemeral, String>,
) -> Result<u8> {
    let mut stdout = io::stdout();
    match request::read(argv0, args) {
        Ok(Request::Help) => print(&mut stdout, &usage(argv0)),
        Ok(Request::Version) => print(&mut stdout, &version::text("pesto")),
        Ok(Request::Run(asked)) => {
            if asked.debug {
                crate::log::start(LevelFilter::Debug);
            }
            run(&asked, Limits::DEFAULT, ephemeral, &mut stdout)?;
        }
        Err(refusal) => {
            log::error!("{refusal}");
            if refusal.usage {
                crate::start::complain(&usage(argv0));
            }
            return Ok(1);
        }
    }
    Ok(0)
}

/// The text of `--help`.
fn usage(argv0: &str) -> String {
    let mut text = format!(
        "Usage: {argv0} [OPTION]... PATH\n\
         \n\
         Show or change the forwarding rules of the passt or pasta whose option\n\
         --conf-path named the socket PATH. Without -A and -D, rules replace all others\n\
         of their table; options are obeyed in their order.\n"
    );
    for group in Group::ALL {
        help::section(&mut text, group, FLAGS.group(group));
    }
    text
}

/// Does what was asked for; `out` gets what was asked to be shown.
fn run(
    asked: &Asked,
    limits: Limits,
    ephemeral: Result<Ephemeral, String>,
    out: &mut impl Write,
) -> Result<()> {
    let path = asked.path.as_path();
    log::debug!("debug_flag={}, path=\"{}\"", u8::from(asked.debug), path.display());
    let (connection, before) = Connection::open(path, limits)?;
    describe(&before);
    if !asked.is_change() {
        print(out, &listing("passt/pasta configuration", path, &before));
        return Ok(());
    }
    if asked.show {
        print(out, &listing("Previous configuration", path, &before));
    }
    let wanted = change::apply(&asked.commands, &before, ephemeral)?;
    let mut now = before.clone();
    if wanted != before {
        connection.replace(&wanted)?;
        (_, now) = Connection::open(path, limits)?;
        describe(&now);
    }
    if asked.show {
        print(out, &listing("Updated configuration", path, &now));
    }
    let undone = change::undone(&before, &wanted, &now);
    if !undone.is_empty() {
        bail!("Server didn't make every change\n{}", undone.join("\n"));
    }
    Ok(())
}

/// Tables for people.
fn listing(title: &str, path: &Path, tables: &[PifTable]) -> String {
    let mut text = format!("{title} ({})\n", path.display());
    for entry in tables {
        // The pieces go to a String, which takes them all.
        let _ = writeln!(text, "  {}", entry.pif.name());
        for rule in entry.table.rules() {
            let _ = writeln!(text, "    {rule}");
        }
    }
    text
}

/// Says what was received.
fn describe(tables: &[PifTable]) {
    for PifTable { pif, caps, table } in tables {
        let (number, name, rules) = (pif.number(), pif.name(), table.rules().len());
        log::debug!("Receiving config for PIF {number}");
        let caps = control::Shown(*caps);
        log::debug!("PIF {number}: {name}, {rules} rules, capabilities {caps}");
    }
}

/// Writes to standard output. Who closes it does not want to read it.
fn print(out: &mut impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;

//! `qrap`, for QEMU before 7.2, which cannot connect to a UNIX domain socket itself: connects to a passt
//! and executes QEMU with that connection as an open descriptor.
//!
//! Nothing of ours may reach QEMU but that descriptor: signals, limits and privileges stay as they are.

mod command;
mod device;
mod line;
mod machine;
mod man;
mod probe;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use log::LevelFilter;
use sys::process::Program;
use sys::{fd, signal};

use self::command::{Command, Refusal};
pub use self::man::man;
use crate::start::failure;

/// Where passt makes its sockets if it is not told a path.
const DIRECTORY: &str = "/tmp";

/// Runs the program: it becomes QEMU. If that fails, the status is 1, with a line on standard error.
#[must_use]
pub fn main() -> ExitCode {
    crate::log::start(LevelFilter::Info);
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    match program(args.collect()) {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("{error:#}");
            if error.downcast_ref().is_some_and(Refusal::is_of_usage) {
                log::error!("{}", usage(&argv0.to_string_lossy()));
            }
            ExitCode::FAILURE
        }
    }
}

fn usage(argv0: &str) -> String {
    format!(
        "Usage: {argv0} [FDNUM QEMU_CMD] [QEMU_ARG]...\n\
         \n\
         Connect to passt and run QEMU, before 7.2, with that connection.\n\
         With FDNUM, 3 or more, it is that descriptor of QEMU_CMD, whose arguments are\n\
         left as they are. Without, it is descriptor {}, and the network options and\n\
         devices among the arguments are replaced by one that uses it.",
        line::DESCRIPTOR
    )
}

fn program(args: Vec<OsString>) -> Result<Infallible> {
    // Whatever may be wrong with the command is found out before passt sees a connection.
    let Command { descriptor, path, argv } = Command::new(args)?;
    let name = path.display().to_string();
    let program = Program::new(path.as_os_str(), &argv)
        .map_err(|error| failure(&format!("Couldn't run {name}"), &error))?;
    let stream = probe::find(Path::new(DIRECTORY)).with_context(|| {
        format!(
            "No passt found: none answered at {DIRECTORY}/passt_1.socket to \
             {DIRECTORY}/passt_{}.socket, start one first",
            probe::LAST
        )
    })?;
    fd::hand_on(stream.into(), descriptor)
        .map_err(|error| failure(&format!("Couldn't make descriptor {descriptor}"), &error))?;
    signal::restore_pipe().map_err(|error| failure("Couldn't restore signals", &error))?;
    program.exec().map_err(|error| failure(&format!("Couldn't run {name}"), &error))
}

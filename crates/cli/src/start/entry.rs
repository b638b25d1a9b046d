//! The way from `argv` to the exit status, the same for every name of the program.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use sys::netlink::Netlink;
use sys::process::{exit_now, share_one_heap};

use super::capabilities;
use crate::config::Forwarding;
use crate::parse::{self, Lookup, Request};
use crate::said::Mode;
use crate::{doctor, help, version};

/// Runs the program. The status is 1 for every error, one line of which is on standard error. It ends without
/// going back to the runtime, whose clean-up makes calls that are forbidden by then.
pub fn main() -> ! {
    share_one_heap();
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    let status = program(&argv0.to_string_lossy(), args).unwrap_or_else(|error| {
        // With its causes, in one line.
        log::error!("{error:#}");
        1
    });
    let _ = io::stdout().flush();
    crate::log::finish();
    exit_now(status)
}

fn program(argv0: &str, args: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    crate::log::start(log::LevelFilter::Info);
    super::fail("Couldn't drop capabilities", super::drop::at_the_start())?;
    let Some(mode) = Mode::from_argv0(argv0) else {
        anyhow::bail!("Cannot tell what to be from the name {argv0}: call me passt or pasta");
    };
    let mut warnings = Vec::new();
    let request = parse::command_line(mode, argv0, args, &System, &mut warnings);
    for warning in warnings {
        log::warn!("{warning}");
    }
    match request {
        Ok(Request::Help) => print(&help::text(mode, argv0)),
        Ok(Request::Version) => print(&version::text(mode.name())),
        Ok(Request::Capabilities) => print(&capabilities::text()),
        Ok(Request::Doctor) => {
            let (text, status) = doctor::examine(mode);
            print(&text);
            return Ok(status);
        }
        Ok(Request::Run(said)) => {
            crate::log::start(crate::log::level(&said));
            let forwarding = match Forwarding::new(mode, &said, &System) {
                Ok(forwarding) => forwarding,
                Err(refusal) => {
                    log::error!("{refusal}");
                    return Ok(1);
                }
            };
            return super::run(mode, &said, &forwarding);
        }
        Err(refusal) => {
            log::error!("{refusal}");
            if refusal.usage {
                complain(&help::text(mode, argv0));
            }
            return Ok(1);
        }
    }
    Ok(0)
}

/// Writes to standard error what is no message.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output. Who closes it does not want to read it.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The system we run on.
struct System;

impl Lookup for System {
    fn interface_index(&self, name: &str) -> io::Result<u32> {
        /// `ENODEV`.
        const NO_SUCH_DEVICE: i32 = 19;
        let link = Netlink::open()?.link_named(name)?;
        link.map(|link| link.index).ok_or_else(|| io::Error::from_raw_os_error(NO_SUCH_DEVICE))
    }

    fn read_text(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn can_bind_device(&self) -> bool {
        sys::socket::can_bind_device()
    }

    fn has_ipv6(&self) -> bool {
        sys::socket::has_ipv6()
    }
}

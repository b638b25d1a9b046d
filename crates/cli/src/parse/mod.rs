//! From `argv` to [`Said`].
//!
//! The rules are those of glibc's `getopt_long` with an option string that starts with `+`: long
//! names may be abbreviated, short options clustered, values attached or separate, and the first
//! argument that is no option ends the options. (For [`crate::pesto`] there is no `+`: options may
//! follow.) Its messages are kept to the letter, because callers look for them. `lexopt` cuts the
//! arguments into pieces; names are resolved by [`crate::flags`].

mod number;
mod user;
mod value;

use std::ffi::{OsStr, OsString};

pub(crate) use self::user::nobody;
pub use self::value::{Given, Lookup};
use crate::flags::{self, Action, Flag, Flags, Long};
use crate::said::{Families, Mode, Said};

/// Why a command line was refused. The exit status is 1 in every case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub struct Refusal {
    /// The line to print.
    pub line: String,
    /// Whether the usage follows it.
    pub usage: bool,
}

impl Refusal {
    /// A refusal in one line.
    pub fn line(line: impl Into<String>) -> Self {
        Self { line: line.into(), usage: false }
    }

    /// A mistake in the use of options as such: the usage follows.
    pub(crate) fn usage(line: String) -> Self {
        Self { line, usage: true }
    }
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
    /// Print what we can do.
    Capabilities,
    /// Print what this machine can do for us.
    Doctor,
    /// Do the work.
    Run(Box<Said>),
}

/// One option as it stands on the command line.
#[derive(Clone, Debug)]
pub struct Found<A: 'static = Action> {
    /// The option.
    pub flag: &'static Flag<A>,
    /// As it was meant: `-t`, or `--tcp-ports` in full even if it was abbreviated.
    pub option: String,
    /// The value, if it takes one.
    pub value: Option<OsString>,
}

/// Reads options one by one, as `getopt_long` does.
#[derive(Debug)]
pub struct Options<'a, A: 'static = Action> {
    flags: &'static Flags<A>,
    /// Whether options may follow other arguments.
    permute: bool,
    argv0: &'a str,
    parser: lexopt::Parser,
    rest: Vec<OsString>,
}

impl<'a> Options<'a> {
    /// Options of passt and pasta in `args`, which does not include the program's name; that is
    /// `argv0`. The first argument that is none ends them.
    pub fn new(argv0: &'a str, args: impl IntoIterator<Item = OsString>) -> Self {
        Self { permute: false, ..Options::permuting(&flags::PASST, argv0, args) }
    }
}

impl<'a, A> Options<'a, A> {
    /// Options out of `flags` that may stand between other arguments, up to `--`.
    pub fn permuting(
        flags: &'static Flags<A>,
        argv0: &'a str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Self {
        // Collected here: a lexopt parser over a lazy iterator could not look ahead.
        let args: Vec<OsString> = args.into_iter().collect();
        let mut parser = lexopt::Parser::from_args(args);
        // To getopt, `-m=1500` has the value `=1500`.
        parser.set_short_equals(false);
        Self { flags, permute: true, argv0, parser, rest: Vec::new() }
    }

    /// The next option; `None` at the end of the options.
    pub fn next_option(&mut self) -> Result<Option<Found<A>>, Refusal> {
        let unexpected = |err: lexopt::Error| Refusal::usage(format!("{}: {err}", self.argv0));
        // The borrow of the argument ends here, before the parser is asked for a value.
        let (long, short) = loop {
            match self.parser.next().map_err(unexpected)? {
                None => return Ok(None),
                Some(lexopt::Arg::Long(name)) => break (Some(name.to_owned()), None),
                Some(lexopt::Arg::Short(name)) => break (None, Some(name)),
                Some(lexopt::Arg::Value(other)) => self.rest.push(other),
            }
            if !self.permute {
                return Ok(None);
            }
        };
        match (long, short) {
            (Some(name), _) => self.long(&name).map(Some),
            (None, Some(name)) => self.short(name).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The arguments that are no options.
    #[must_use]
    pub fn rest(mut self) -> Vec<OsString> {
        if let Ok(more) = self.parser.raw_args() {
            self.rest.extend(more);
        }
        self.rest
    }

    fn long(&mut self, typed: &str) -> Result<Found<A>, Refusal> {
        let attached = self.parser.optional_value();
        // glibc names an option it does not know together with its value.
        let whole = || match &attached {
            Some(value) => format!("{typed}={}", value.to_string_lossy()),
            None => typed.to_owned(),
        };
        let argv0 = self.argv0;
        let (flag, name) = match self.flags.long(OsStr::new(typed)) {
            Long::One(flag, name) => (flag, name),
            Long::None => {
                return Err(Refusal::usage(format!(
                    "{argv0}: unrecognized option '--{}'",
                    whole()
                )));
            }
            Long::Several(names) => {
                let names: String = names.iter().map(|name| format!(" '--{name}'")).collect();
                return Err(Refusal::usage(format!(
                    "{argv0}: option '--{}' is ambiguous; possibilities:{names}",
                    whole()
                )));
            }
        };
        let option = format!("--{name}");
        let value = match (flag.takes_value(), attached) {
            (false, None) => None,
            (true, Some(value)) => Some(value),
            (false, Some(_)) => {
                return Err(Refusal::usage(format!(
                    "{argv0}: option '{option}' doesn't allow an argument"
                )));
            }
            (true, None) => Some(self.parser.value().map_err(|_| {
                Refusal::usage(format!("{argv0}: option '{option}' requires an argument"))
            })?),
        };
        Ok(Found { flag, option, value })
    }

    fn short(&mut self, name: char) -> Result<Found<A>, Refusal> {
        let argv0 = self.argv0;
        let Some(flag) = self.flags.short(name) else {
            return Err(Refusal::usage(format!("{argv0}: invalid option -- '{name}'")));
        };
        let value = if flag.takes_value() {
            Some(self.parser.value().map_err(|_| {
                Refusal::usage(format!("{argv0}: option requires an argument -- '{name}'"))
            })?)
        } else {
            None
        };
        Ok(Found { flag, option: format!("-{name}"), value })
    }
}

/// Reads a whole command line. `warnings` receives what is worth saying even if it is refused later.
pub fn command_line(
    mode: Mode,
    argv0: &str,
    args: impl IntoIterator<Item = OsString>,
    lookup: &dyn Lookup,
    warnings: &mut Vec<String>,
) -> Result<Request, Refusal> {
    let args: Vec<OsString> = args.into_iter().collect();
    let vhost_user = asks_for_vhost_user(Options::new(argv0, args.iter().cloned()));
    let mut said = Said { vhost_user, ..Said::default() };
    let request = options(mode, Options::new(argv0, args), lookup, &mut said);
    warnings.append(&mut said.warnings);
    Ok(match request? {
        Some(request) => request,
        None => Request::Run(Box::new(said)),
    })
}

/// Whether `--vhost-user` is among the options, wherever it stands: those in front of it are taken for what they
/// are with it, too.
fn asks_for_vhost_user(mut options: Options<'_>) -> bool {
    // What is wrong will be found once more.
    let mut options = std::iter::from_fn(|| options.next_option().ok().flatten());
    options.any(|found| found.flag.long == "vhost-user")
}

/// Fills `said`; returns a request if an option cuts things short.
fn options(
    mode: Mode,
    mut options: Options<'_>,
    lookup: &dyn Lookup,
    said: &mut Said,
) -> Result<Option<Request>, Refusal> {
    let mut unavailable = None;
    while let Some(found) = options.next_option()? {
        let flag = found.flag;
        if !flag.modes.hold(mode, said.vhost_user) {
            let modes = flag.modes.name;
            return Err(Refusal::line(format!("{} is for {modes} mode only", found.option)));
        }
        match flag.action {
            Action::Switch(set) => set(said),
            Action::Value(set) => {
                let value = found.value.unwrap_or_default();
                set(said, &Given::new(&found.option, &value, lookup))?;
            }
            Action::Help => return Ok(Some(Request::Help)),
            Action::Version => return Ok(Some(Request::Version)),
            Action::Capabilities => return Ok(Some(Request::Capabilities)),
            Action::Doctor => return Ok(Some(Request::Doctor)),
            // Options behind it may still cut things short, or be wrong themselves.
            Action::Later => unavailable = unavailable.or(Some(found.option)),
        }
    }
    if let Some(option) = unavailable {
        return Err(Refusal::line(format!("{option} is not available in this version")));
    }
    arguments(mode, options.rest(), said)?;
    agreement(mode, said)?;
    if !lookup.has_ipv6() {
        match said.families {
            Families::Both => said.families = Families::Ipv4,
            Families::Ipv4 => {}
            Families::Ipv6 => return Err(Refusal::line("IPv6 sockets are not available")),
        }
    }
    Ok(None)
}

/// The arguments behind the options: a PID, or a command.
fn arguments(mode: Mode, rest: Vec<OsString>, said: &mut Said) -> Result<(), Refusal> {
    let Some(first) = rest.first() else {
        return Ok(());
    };
    if mode == Mode::Passt {
        let first = first.to_string_lossy();
        return Err(Refusal::line(format!("Extra non-option argument: {first}")));
    }
    if said.netns.is_some() {
        return Err(Refusal::line("Both --netns and PID or command given"));
    }
    if rest.len() == 1 {
        if let Some(text) = first.to_str().filter(|text| number::is_decimal(text)) {
            // A number that no process can have does not turn into a command.
            said.pid = match text.parse() {
                Ok(pid) if pid >= 0 => Some(pid),
                Ok(_) | Err(_) => return Err(Refusal::line(format!("Invalid PID {text}"))),
            };
            return Ok(());
        }
    }
    said.command = rest;
    Ok(())
}

/// Whether what was said fits together.
fn agreement(mode: Mode, said: &Said) -> Result<(), Refusal> {
    let refuse = |line: &str| Err(Refusal::line(line));
    if said.no_splice && said.host_lo_to_ns_lo {
        return refuse("--host-lo-to-ns-lo is incompatible with --no-splice");
    }
    if said.no_copy_routes && !said.config_net {
        return refuse("--no-copy-routes needs --config-net");
    }
    if said.no_copy_addrs && !said.config_net {
        return refuse("--no-copy-addrs needs --config-net");
    }
    if said.no_splice && said.splice_only {
        return refuse("--splice-only is incompatible with --no-splice");
    }
    let spawns = mode == Mode::Pasta && said.pid.is_none() && said.netns.is_none();
    if said.no_pidns && !spawns {
        return refuse("--no-pidns is incompatible with PID or --netns");
    }
    if said.stats.is_some_and(|delay| delay > 0) && !said.foreground && !spawns {
        return refuse("Can't display statistics if not running in foreground");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

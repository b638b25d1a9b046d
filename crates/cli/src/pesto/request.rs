//! From `argv` to what is asked for.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use stack::rule::{Pif, Protocol};

use super::flags::{Action, FLAGS};
use crate::parse::{Options, Refusal};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
    /// Talk to a server.
    Run(Asked),
}

/// What is asked of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its socket.
    pub(super) path: PathBuf,
    /// `-d`.
    pub(super) debug: bool,
    /// `-s`.
    pub(super) show: bool,
    /// In the order in which they were typed.
    pub(super) commands: Vec<Command>,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `-A`: add what follows.
    Add,
    /// `-D`: delete what follows.
    Delete,
    /// `-C`: clear the table with this name.
    Clear(String),
    /// `-t`, `-u`, `-T`, `-U`.
    Rules {
        /// As it was typed: `-t`, `--tcp-ports`.
        option: String,
        /// The ports, as they were typed.
        spec: String,
        /// Protocol of the rules.
        protocol: Protocol,
        /// The table they are for.
        pif: Pif,
    },
}

impl Asked {
    /// Whether anything shall be different.
    pub(super) fn is_change(&self) -> bool {
        self.commands
            .iter()
            .any(|command| matches!(command, Command::Clear(_) | Command::Rules { .. }))
    }
}

/// Reads a command line; `args` does not include the program's name, which is `argv0`.
pub(super) fn read(
    argv0: &str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Request, Refusal> {
    let mut options = Options::permuting(&FLAGS, argv0, args);
    let mut asked = Asked::default();
    while let Some(found) = options.next_option()? {
        let value = found.value.unwrap_or_default();
        match found.flag.action {
            Action::Debug => asked.debug = true,
            Action::Show => asked.show = true,
            Action::Help => return Ok(Request::Help),
            Action::Version => return Ok(Request::Version),
            Action::Add => asked.commands.push(Command::Add),
            Action::Delete => asked.commands.push(Command::Delete),
            Action::Clear => asked.commands.push(Command::Clear(shown(&value))),
            Action::Rules(protocol, pif) => asked.commands.push(Command::Rules {
                option: found.option,
                // What is not text has no port in it, and is refused as such.
                spec: shown(&value),
                protocol,
                pif,
            }),
        }
    }
    match options.rest().as_slice() {
        [path] if path.is_empty() || path.len() > sys::unix::LONGEST => {
            return Err(Refusal::line(format!("Invalid socket path \"{}\"", shown(path))));
        }
        [path] => asked.path = PathBuf::from(path),
        [] => return Err(Refusal::usage(format!("{argv0}: missing PATH of the socket"))),
        [_, extra, ..] => {
            let extra = shown(extra);
            return Err(Refusal::usage(format!("{argv0}: extra non-option argument: {extra}")));
        }
    }
    Ok(Request::Run(asked))
}

fn shown(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<Request, Refusal> {
        read("pesto", line.split_whitespace().map(OsString::from))
    }

    fn asked(line: &str) -> Asked {
        match request(line) {
            Ok(Request::Run(asked)) => asked,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn rules(option: &str, spec: &str, protocol: Protocol, pif: Pif) -> Command {
        Command::Rules { option: option.into(), spec: spec.into(), protocol, pif }
    }

    #[test]
    fn order_is_kept_and_options_may_follow() {
        let wanted = Asked {
            path: "sock".into(),
            debug: true,
            show: true,
            commands: vec![
                rules("-t", "80", Protocol::Tcp, Pif::Host),
                Command::Add,
                rules("--udp-ports", "53", Protocol::Udp, Pif::Host),
                Command::Clear("SPLICE".into()),
                Command::Delete,
                rules("--tcp-ns", "22", Protocol::Tcp, Pif::Splice),
                rules("-U", "1", Protocol::Udp, Pif::Splice),
            ],
        };
        let line = "-dst80 -A --udp-p 53 sock --clear=SPLICE --del --tcp-ns 22 -U1";
        assert_eq!(asked(line), wanted);
    }

    #[test]
    fn lines_of_clients() {
        let line = "--add -t 127.0.0.1/8080-8080:10.88.0.2/80-80 -u [::]/53:fd00::2/53 /run/sock";
        assert_eq!(
            asked(line).commands,
            [
                Command::Add,
                rules("-t", "127.0.0.1/8080-8080:10.88.0.2/80-80", Protocol::Tcp, Pif::Host),
                rules("-u", "[::]/53:fd00::2/53", Protocol::Udp, Pif::Host),
            ]
        );
        assert!(asked("-A --tcp-ports=127.0.0.1/8080:80 /run/sock").is_change());
        assert!(asked("-C HOST sock").is_change());
        assert!(!asked("sock -A -s").is_change());
        assert_eq!(asked("-- -A").path, PathBuf::from("-A"));
    }

    #[test]
    fn mistakes_show_the_usage() {
        for (line, wanted) in [
            ("", "pesto: missing PATH of the socket"),
            ("-s", "pesto: missing PATH of the socket"),
            ("a b", "pesto: extra non-option argument: b"),
            ("a -Z", "pesto: invalid option -- 'Z'"),
            ("--nosuchoption", "pesto: unrecognized option '--nosuchoption'"),
            ("--de a", "pesto: option '--de' is ambiguous; possibilities: '--debug' '--delete'"),
            ("a -t", "pesto: option requires an argument -- 't'"),
            ("--add=1 a", "pesto: option '--add' doesn't allow an argument"),
        ] {
            let refusal = request(line).unwrap_err();
            assert_eq!((refusal.line.as_str(), refusal.usage), (wanted, true), "{line}");
        }
        for path in [String::new(), "x".repeat(108)] {
            let refusal = read("pesto", [path.clone().into()]).unwrap_err();
            assert_eq!(refusal, Refusal::line(format!("Invalid socket path \"{path}\"")));
        }
        assert_eq!(asked(&"x".repeat(107)).path.as_os_str().len(), 107);
        assert_eq!(request("--version -Z"), Ok(Request::Version));
        assert_eq!(request("-h"), Ok(Request::Help));
        assert!(request("-Z --version").is_err());
    }
}

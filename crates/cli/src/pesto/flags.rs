//! The table of flags.

use stack::rule::{Pif, Protocol};

use crate::flags::{Complete, Flag, Flags, Group, Modes};

/// What a flag of pesto does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tells what is going on.
    Debug,
    /// Shows the rules before and after.
    Show,
    /// Prints the usage and ends.
    Help,
    /// Prints the version and ends.
    Version,
    /// Rules that follow are added.
    Add,
    /// Rules that follow are deleted.
    Delete,
    /// Clears the table whose name is the value.
    Clear,
    /// The value stands for rules of this protocol in this table.
    Rules(Protocol, Pif),
}

/// The flags, in the order of the help text.
pub static FLAGS: Flags<Action> = Flags::new(&[LIST]);

const BASE: Flag<Action> = Flag {
    long: "",
    aliases: &[],
    short: None,
    metavar: None,
    modes: Modes::ALL,
    group: Group::General,
    help: "",
    man: "",
    default: None,
    complete: Complete::Nothing,
    exact: false,
    action: Action::Help,
};

const CHANGE: Flag<Action> = Flag { group: Group::Ports, ..BASE };

const RULES: Flag<Action> =
    Flag { metavar: Some("SPEC"), complete: Complete::Words(&["none", "all", "auto"]), ..CHANGE };

const LIST: &[Flag<Action>] = &[
    Flag {
        long: "debug",
        short: Some('d'),
        help: "Tell what is going on, on standard error",
        man: "Every line carries the seconds since the start.",
        action: Action::Debug,
        ..BASE
    },
    Flag {
        long: "show",
        short: Some('s'),
        help: "Print the rules before and after a change",
        man: "The rules after it are those that the server says it has.",
        action: Action::Show,
        ..BASE
    },
    Flag {
        long: "help",
        short: Some('h'),
        help: "Print this text and end",
        action: Action::Help,
        ..BASE
    },
    Flag { long: "version", help: "Print the version and end", action: Action::Version, ..BASE },
    Flag {
        long: "add",
        short: Some('A'),
        help: "Add the rules that follow to those there are",
        man: "A rule that is there already, the same in every respect, is left as it is.",
        default: Some("replace all rules of the table"),
        action: Action::Add,
        ..CHANGE
    },
    Flag {
        long: "delete",
        short: Some('D'),
        help: "Delete the rules that follow",
        man: "They have to be there, the same in every respect.",
        action: Action::Delete,
        ..CHANGE
    },
    Flag {
        long: "clear",
        short: Some('C'),
        metavar: Some("PIF"),
        help: "Delete all rules of a table: HOST or SPLICE",
        complete: Complete::Words(&["HOST", "SPLICE"]),
        action: Action::Clear,
        ..CHANGE
    },
    Flag {
        long: "tcp-ports",
        short: Some('t'),
        help: "TCP ports forwarded to the guest",
        man: "SPEC is that of pasta(1).",
        action: Action::Rules(Protocol::Tcp, Pif::Host),
        ..RULES
    },
    Flag {
        long: "udp-ports",
        short: Some('u'),
        help: "UDP ports forwarded to the guest",
        man: "SPEC is that of pasta(1).",
        action: Action::Rules(Protocol::Udp, Pif::Host),
        ..RULES
    },
    Flag {
        long: "tcp-ns",
        short: Some('T'),
        help: "TCP ports forwarded to the host (pasta)",
        man: "SPEC is that of pasta(1).",
        action: Action::Rules(Protocol::Tcp, Pif::Splice),
        ..RULES
    },
    Flag {
        long: "udp-ns",
        short: Some('U'),
        help: "UDP ports forwarded to the host (pasta)",
        man: "SPEC is that of pasta(1).",
        action: Action::Rules(Protocol::Udp, Pif::Splice),
        ..RULES
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_where_they_are_needed() {
        for flag in FLAGS.iter() {
            let needs = matches!(flag.action, Action::Clear | Action::Rules(..));
            assert_eq!(flag.takes_value(), needs, "--{}", flag.long);
        }
    }
}

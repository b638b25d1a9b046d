//! One table of flags as data. ([`crate::pesto`] has its own, of the same kind.)
//!
//! Parsing, `--help`, the man page and the completions all read this table, so that none of them can
//! say anything the others do not know. The table lists every option the command line will ever
//! accept; those whose [`Action`] is [`Action::Later`] are recognised, abbreviated and completed with
//! their value like the others, and then refused by name.

mod address;
mod general;
mod namespace;
mod ports;
mod services;

use std::ffi::OsStr;

use crate::parse::{Given, Refusal};
use crate::said::{Mode, Said};

/// The personalities in which a flag means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// A hypervisor connects by a stream socket.
    pub passt: bool,
    /// A hypervisor shares its memory (vhost-user), still under the name `passt`.
    pub vhost: bool,
    /// A network namespace is connected by a tap device.
    pub pasta: bool,
    /// All of them in words, for `X is for … mode only`.
    pub name: &'static str,
}

impl Modes {
    /// Every personality.
    pub const ALL: Self = Self { passt: true, vhost: true, pasta: true, name: "every" };
    /// Only the namespace personality.
    pub const PASTA: Self = Self { passt: false, vhost: false, pasta: true, name: "pasta" };
    /// Both hypervisor personalities, under the name of the first.
    pub const PASST: Self = Self { passt: true, vhost: true, pasta: false, name: "passt" };
    /// Only the vhost-user personality.
    pub const VHOST: Self = Self { passt: false, vhost: true, pasta: false, name: "vhost-user" };

    /// Whether the flag is accepted from who is started as `mode`, with or without `--vhost-user`, which makes
    /// the same of both.
    #[must_use]
    pub const fn hold(self, mode: Mode, vhost_user: bool) -> bool {
        match mode {
            Mode::Passt | Mode::Pasta if vhost_user => self.vhost,
            Mode::Passt => self.passt,
            Mode::Pasta => self.pasta,
        }
    }

    /// Whether the flag means something under the name the program was started with. That of `passt`
    /// covers both hypervisor personalities.
    #[must_use]
    pub const fn include(self, mode: Mode) -> bool {
        match mode {
            Mode::Passt => self.passt || self.vhost,
            Mode::Pasta => self.pasta,
        }
    }
}

/// Where a flag stands in `--help` and the man page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Process, logging, files.
    General,
    /// The namespace and its interface (pasta).
    Namespace,
    /// The link to the hypervisor (passt).
    Hypervisor,
    /// Addresses, routes, mappings.
    Network,
    /// What the guest is told and which protocols are translated.
    Services,
    /// Forwarded ports.
    Ports,
}

impl Group {
    /// All groups in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::General,
        Self::Namespace,
        Self::Hypervisor,
        Self::Network,
        Self::Services,
        Self::Ports,
    ];

    /// Heading of the group.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::General => "General options",
            Self::Namespace => "Namespace options",
            Self::Hypervisor => "Hypervisor options",
            Self::Network => "Network options",
            Self::Services => "Protocol and service options",
            Self::Ports => "Port forwarding options",
        }
    }
}

/// What a shell should offer as the value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    /// Nothing in particular.
    Nothing,
    /// File names.
    File,
    /// Names of the host's network interfaces.
    Interface,
    /// These words.
    Words(&'static [&'static str]),
}

/// What a flag does when it is met.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Records that it was given.
    Switch(fn(&mut Said)),
    /// Checks and records its value.
    Value(fn(&mut Said, &Given<'_>) -> Result<(), Refusal>),
    /// Prints the usage and ends.
    Help,
    /// Prints the version and ends.
    Version,
    /// Prints what we can do and ends.
    Capabilities,
    /// Prints what this machine can do for us and ends.
    Doctor,
    /// Known, and not available in this version.
    Later,
}

/// One option of a command line. `A` says what it does; the default is for passt and pasta.
#[derive(Clone, Copy, Debug)]
pub struct Flag<A = Action> {
    /// Long name without dashes.
    pub long: &'static str,
    /// Further long names.
    pub aliases: &'static [&'static str],
    /// Short name without dash.
    pub short: Option<char>,
    /// Name of the value in help texts. A flag without one takes no value.
    pub metavar: Option<&'static str>,
    /// Where it means something.
    pub modes: Modes,
    /// Where it is shown.
    pub group: Group,
    /// What it does, for `--help`: lines of at most 50 columns.
    pub help: &'static str,
    /// What it does, for the man page, behind the text of `help`: paragraphs divided by empty lines.
    pub man: &'static str,
    /// What holds without it, in words.
    pub default: Option<&'static str>,
    /// What a shell offers as value.
    pub complete: Complete,
    /// Whether only its full name stands for it: it takes no part in abbreviation. So it is for what the C
    /// implementation does not have, where a beginning goes on meaning what it means there.
    pub exact: bool,
    /// What happens when it is met.
    pub action: A,
}

impl Flag {
    /// A flag that is only known by name and refused; entries of the table start from it.
    const LATER: Self = Self {
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
        action: Action::Later,
    };

    /// Whether this version does what the flag asks for.
    #[must_use]
    pub const fn available(&self) -> bool {
        !matches!(self.action, Action::Later)
    }
}

impl<A> Flag<A> {
    /// Whether a value follows.
    #[must_use]
    pub const fn takes_value(&self) -> bool {
        self.metavar.is_some()
    }

    /// All long names, the main one first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.long).chain(self.aliases.iter().copied())
    }

    /// How messages call it: `-i` if there is a short form, else `--no-tcp`.
    #[must_use]
    pub fn spelled(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}"),
            None => format!("--{}", self.long),
        }
    }
}

/// The flags of a program, in the order of its help text.
#[derive(Clone, Copy, Debug)]
pub struct Flags<A: 'static = Action>(&'static [&'static [Flag<A>]]);

/// The flags of passt and pasta.
pub static PASST: Flags =
    Flags(&[general::FLAGS, namespace::FLAGS, address::FLAGS, services::FLAGS, ports::FLAGS]);

/// Every flag of passt and pasta, in the order of the help text.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    PASST.iter()
}

/// The flags of one group that mean something in `mode`.
pub fn group(group: Group, mode: Mode) -> impl Iterator<Item = &'static Flag> {
    PASST.group(group).filter(move |flag| flag.modes.include(mode))
}

/// What a long name, possibly cut short, stands for.
#[derive(Clone, Debug)]
pub enum Long<A: 'static = Action> {
    /// Exactly one flag, with the complete name that was meant.
    One(&'static Flag<A>, &'static str),
    /// No flag.
    None,
    /// Several flags that differ, by their names.
    Several(Vec<&'static str>),
}

impl<A> Flags<A> {
    /// Flags that stand in lists.
    #[must_use]
    pub const fn new(lists: &'static [&'static [Flag<A>]]) -> Self {
        Self(lists)
    }

    /// Every flag.
    pub fn iter(&self) -> impl Iterator<Item = &'static Flag<A>> + use<A> {
        self.0.iter().copied().flatten()
    }

    /// The flags of one group.
    pub fn group(&self, group: Group) -> impl Iterator<Item = &'static Flag<A>> + use<A> {
        self.iter().filter(move |flag| flag.group == group)
    }

    /// The flag with the short name `name`.
    #[must_use]
    pub fn short(&self, name: char) -> Option<&'static Flag<A>> {
        self.iter().find(|flag| flag.short == Some(name))
    }

    /// Resolves a long name as glibc does: an exact match wins; else an unambiguous beginning counts.
    /// Names of the same flag do not compete with each other, and those of an exact one with nobody's.
    #[must_use]
    pub fn long(&self, name: &OsStr) -> Long<A> {
        let wanted = name.as_encoded_bytes();
        let names = || self.iter().flat_map(|flag| flag.names().map(move |name| (flag, name)));
        if let Some((flag, name)) = names().find(|(_, name)| name.as_bytes() == wanted) {
            return Long::One(flag, name);
        }
        let mut candidates =
            names().filter(|(flag, name)| !flag.exact && name.as_bytes().starts_with(wanted));
        let Some((first, first_name)) = candidates.next() else {
            return Long::None;
        };
        let mut several = vec![first_name];
        several.extend(
            candidates.filter(|(flag, _)| !std::ptr::eq(*flag, first)).map(|(_, name)| name),
        );
        if several.len() == 1 { Long::One(first, first_name) } else { Long::Several(several) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Whether names are unique and texts present.
    fn check<A>(flags: &Flags<A>) {
        let mut long_names = HashSet::new();
        let mut short_names = HashSet::new();
        for flag in flags.iter() {
            for name in flag.names() {
                assert!(long_names.insert(name), "--{name} twice");
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                );
            }
            if let Some(name) = flag.short {
                assert!(name.is_ascii_alphanumeric());
                assert!(short_names.insert(name), "-{name} twice");
            }
            assert!(!flag.help.is_empty(), "--{} has no help", flag.long);
            assert!(flag.help.lines().all(|line| line.len() <= 50), "help of --{}", flag.long);
        }
    }

    #[test]
    fn names_are_unique_and_texts_present() {
        check(&PASST);
        check(&crate::pesto::FLAGS);
        for flag in all() {
            let value = matches!(flag.action, Action::Value(_));
            assert!(!value || flag.takes_value(), "--{}", flag.long);
            let switch = matches!(
                flag.action,
                Action::Switch(_)
                    | Action::Help
                    | Action::Version
                    | Action::Capabilities
                    | Action::Doctor
            );
            assert!(!switch || !flag.takes_value(), "--{}", flag.long);
        }
    }

    #[test]
    fn abbreviations() {
        let one = |name: &str| {
            let Long::One(flag, full) = PASST.long(OsStr::new(name)) else { panic!("{name}") };
            (flag.long, full)
        };
        assert_eq!(one("vers"), ("version", "version"));
        assert_eq!(one("netns"), ("netns", "netns"));
        assert_eq!(one("dns"), ("dns", "dns"));
        assert_eq!(one("sock"), ("socket", "socket"));
        assert!(matches!(PASST.long(OsStr::new("nosuch")), Long::None));
        let Long::Several(names) = PASST.long(OsStr::new("no-dhcp-")) else {
            panic!("not ambiguous")
        };
        assert_eq!(names, ["dhcp-dns", "dhcp-search"].map(|name| format!("no-{name}")));
    }

    #[test]
    fn names_of_our_own_are_exact() {
        // So beginnings mean what they mean where there is no such option.
        for (name, meant) in [("re", Some("repair-path")), ("rea", None), ("ready-f", None)] {
            let found = match PASST.long(OsStr::new(name)) {
                Long::One(flag, _) => Some(flag.long),
                Long::None | Long::Several(_) => None,
            };
            assert_eq!(found, meant, "--{name}");
        }
        assert!(matches!(PASST.long(OsStr::new("ready-fd")), Long::One(..)));
    }

    #[test]
    fn exact_names_are_not_abbreviated() {
        const BASE: Flag = Flag::LATER;
        static LIST: [Flag; 3] = [
            Flag { long: "pid", ..BASE },
            Flag { long: "ready-fd", exact: true, ..BASE },
            Flag { long: "pidfile", exact: true, ..BASE },
        ];
        static LISTS: [&[Flag]; 1] = [&LIST];
        let flags = Flags(&LISTS);
        let one = |name: &str| match flags.long(OsStr::new(name)) {
            Long::One(flag, _) => Some(flag.long),
            Long::None | Long::Several(_) => None,
        };
        assert_eq!(one("ready-fd"), Some("ready-fd"));
        assert_eq!(one("ready-f"), None);
        assert_eq!(one("pidfile"), Some("pidfile"));
        // Nor do they make others ambiguous.
        assert_eq!(one("p"), Some("pid"));
    }
}

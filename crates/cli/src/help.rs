//! `--help`, from the table of flags.

use std::fmt::Write as _;

use crate::flags::{self, Flag, Group};
use crate::said::Mode;

/// Column at which descriptions start.
const COLUMN: usize = 30;

/// The usage of the personality `mode`, called `argv0`.
#[must_use]
pub fn text(mode: Mode, argv0: &str) -> String {
    let mut text = match mode {
        Mode::Passt => format!("Usage: {argv0} [OPTION]...\n"),
        Mode::Pasta => format!(
            "Usage: {argv0} [OPTION]... [COMMAND] [ARGS]...\n\
             \x20      {argv0} [OPTION]... PID\n\
             \x20      {argv0} [OPTION]... --netns [PATH|NAME]\n\
             \n\
             Without PID and --netns, run COMMAND, or a login shell, in network and user\n\
             namespaces of its own, and connect those to the host's network. Otherwise,\n\
             connect the namespaces that are there.\n"
        ),
    };
    for group in Group::ALL {
        section(&mut text, group, flags::group(group, mode).filter(|flag| flag.available()));
    }
    let later = unavailable(mode);
    if !later.is_empty() {
        let _ = writeln!(text, "\nKnown, but not available in this version:");
        for line in wrapped(&later, 76) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Names of the flags of `mode` that are refused.
pub(crate) fn unavailable(mode: Mode) -> Vec<String> {
    flags::all()
        .filter(|flag| flag.modes.include(mode) && !flag.available())
        .filter(|flag| mode == Mode::Passt || flag.group != Group::Hypervisor)
        .map(|flag| match flag.short {
            Some(short) => format!("-{short}/--{}", flag.long),
            None => format!("--{}", flag.long),
        })
        .collect()
}

/// The flags of a group under their heading, if there are any.
pub(crate) fn section<A: 'static>(
    text: &mut String,
    group: Group,
    flags: impl Iterator<Item = &'static Flag<A>>,
) {
    let mut flags = flags.peekable();
    if flags.peek().is_some() {
        // The pieces go to a String, which takes them all.
        let _ = writeln!(text, "\n{}:", group.title());
        flags.for_each(|flag| describe(text, flag));
    }
}

fn describe<A>(text: &mut String, flag: &Flag<A>) {
    let mut head = match flag.short {
        Some(short) => format!("  -{short}, "),
        None => "      ".to_owned(),
    };
    let names: Vec<String> = flag.names().map(|name| format!("--{name}")).collect();
    head.push_str(&names.join(", "));
    if let Some(metavar) = flag.metavar {
        head.push(' ');
        head.push_str(metavar);
    }
    // A head that leaves no gap has a line of its own.
    if head.len() + 2 > COLUMN {
        let _ = writeln!(text, "{head}");
        head.clear();
    }
    for line in flag.help.lines() {
        let _ = writeln!(text, "{head:COLUMN$}{line}");
        head.clear();
    }
    if let Some(default) = flag.default {
        let _ = writeln!(text, "{:COLUMN$}  default: {default}", "");
    }
}

/// Words in lines of at most `width` columns.
fn wrapped(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta() {
        let text = text(Mode::Pasta, "/usr/bin/pasta");
        assert!(text.starts_with("Usage: /usr/bin/pasta [OPTION]... "));
        assert_eq!(text.matches("/usr/bin/pasta [OPTION]...").count(), 3);
        // Callers look for these words to learn what they may use.
        for word in [
            "--map-host-loopback",
            "--map-guest-addr",
            "--dns-forward",
            "--gateway",
            "--pid",
            "--netns",
        ] {
            let found = text.match_indices(word).any(|(at, _)| {
                !text[at + word.len()..]
                    .starts_with(|next: char| next.is_alphanumeric() || next == '-')
            });
            assert!(found, "{word}");
        }
        assert!(
            text.contains("\n  -m, --mtu MTU               MTU of the guest's link, in bytes\n")
        );
        assert!(text.contains("\n                                default: 65520\n"));
        assert!(!text.contains("--vhost-user") && !text.contains("--no-dhcp-dns"));
        assert!(text.lines().all(|line| line.len() <= 90), "{text}");
    }

    #[test]
    fn every_flag_is_shown() {
        for mode in [Mode::Passt, Mode::Pasta] {
            let text = text(mode, mode.name());
            for flag in flags::all().filter(|flag| flag.modes.include(mode) && flag.available()) {
                assert!(text.contains(&format!("--{}", flag.long)), "{}", flag.long);
            }
        }
    }
}

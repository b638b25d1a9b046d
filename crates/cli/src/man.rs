//! The manual page, from the table of flags, in the man(7) macros.

use std::fmt::Write as _;

use crate::flags::{self, Flag, Group};
use crate::help;
use crate::said::Mode;
use crate::version::VERSION;

const DESCRIPTION: &str = "\
pasta connects a network namespace to the network of the host, without privileges and without any \
change to the host: it plays the other end of a tap device in the namespace, and translates what is \
sent there to ordinary sockets, connection by connection.

Without --netns and PID, it makes a user namespace and a network namespace, together with further \
namespaces as far as no option says otherwise, and runs COMMAND in them. Without COMMAND, that is the \
shell of the environment variable SHELL, or /bin/sh, as a login shell. In the namespace, the calling \
user appears as root. A single argument that is a number is the PID of a process: its namespaces are \
connected.

Unless told otherwise, addresses, routes and resolvers of the guest are those of the host. With \
--config-net they are set on the interface in the namespace; without it, DHCP, DHCPv6 and router \
advertisements offer them, and any client in the namespace may ask.

The gateway's address, as seen from the namespace, stands for the host itself: what is sent there \
reaches the services on the host's loopback address. --no-map-gw and --map-host-loopback change that.";

const ABBREVIATIONS: &str = "\
Long names may be shortened as long as they stay unambiguous. Of an option that takes one value, the \
last one counts. The first argument that is no option, or the argument --, ends the options: what \
follows belongs to COMMAND.";

const STATUS: &str = "\
With a command: the exit status of the command, or 128 and the number of the signal that ended it. \
Otherwise 0 if everything went well, which includes SIGTERM, SIGQUIT and the end of the namespace, and 1 \
on any error, with one line on standard error.";

const EXAMPLES: [(&str, &str); 3] = [
    ("A shell whose network works:", "pasta --config-net"),
    ("Connect the namespaces of a process, in the background:", "pasta --config-net 12345"),
    (
        "Connect a namespace made by ip-netns(8), as root, and stay root:",
        "pasta --runas 0 --config-net --netns blue",
    ),
];

/// The manual page of pasta, for section 1.
#[must_use]
pub fn pasta() -> String {
    let mut page = title("pasta", "connect a network namespace without privileges");
    // The pieces go to a String, which takes them all.
    let _ = writeln!(
        page,
        ".SH SYNOPSIS\n\
         .B pasta\n[\\fIOPTION\\fR]... [\\fICOMMAND\\fR [\\fIARG\\fR]...]\n.br\n\
         .B pasta\n[\\fIOPTION\\fR]... \\fIPID\\fR\n.br\n\
         .B pasta\n[\\fIOPTION\\fR]... \\fB\\-\\-netns\\fR \\fIPATH\\fR|\\fINAME\\fR"
    );
    section(&mut page, "DESCRIPTION", DESCRIPTION);
    section(&mut page, "OPTIONS", ABBREVIATIONS);
    for group in Group::ALL {
        let flags = flags::group(group, Mode::Pasta).filter(|flag| flag.available());
        subsection(&mut page, group, flags);
    }
    let later = help::unavailable(Mode::Pasta);
    if !later.is_empty() {
        let _ = writeln!(page, ".SS Known, but not available in this version");
        let _ = writeln!(page, "{}", roff(&format!("{}.", later.join(", "))));
    }
    section(&mut page, "EXIT STATUS", STATUS);
    examples(&mut page, &EXAMPLES);
    let _ = writeln!(
        page,
        ".SH SEE ALSO\n\
         .BR namespaces (7),\n.BR network_namespaces (7),\n.BR user_namespaces (7),\n\
         .BR nsenter (1),\n.BR unshare (1),\n.BR resolv.conf (5)"
    );
    page
}

/// The beginning of the page of `name` in section 1, with `what` it does in half a line.
pub(crate) fn title(name: &str, what: &str) -> String {
    format!(".\\\" Generated from the table of flags.\n{}", heading(name, what))
}

/// The same for the page of a program without flags.
pub(crate) fn heading(name: &str, what: &str) -> String {
    format!(
        ".TH {} 1 \"\" \"passt {VERSION}\" \"User Commands\"\n\
         .SH NAME\n{} \\- {}\n",
        escaped(&name.to_uppercase()),
        escaped(name),
        roff(what)
    )
}

/// The flags of a group under their heading, if there are any.
pub(crate) fn subsection<A: 'static>(
    page: &mut String,
    group: Group,
    flags: impl Iterator<Item = &'static Flag<A>>,
) {
    let mut flags = flags.peekable();
    if flags.peek().is_some() {
        let _ = writeln!(page, ".SS {}", group.title());
        flags.for_each(|flag| option(page, flag));
    }
}

/// What to type for what.
pub(crate) fn examples(page: &mut String, examples: &[(&str, &str)]) {
    let _ = writeln!(page, ".SH EXAMPLES");
    for (what, command) in examples {
        let _ = writeln!(page, ".PP\n{}\n.RS\n.nf\n{}\n.fi\n.RE", roff(what), roff(command));
    }
}

/// Plain text under a heading, in paragraphs divided by empty lines.
pub(crate) fn section(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, ".SH {title}");
    paragraphs(page, text);
}

fn paragraphs(page: &mut String, text: &str) {
    for (index, paragraph) in text.split("\n\n").enumerate() {
        if index > 0 {
            let _ = writeln!(page, ".PP");
        }
        let _ = writeln!(page, "{}", roff(paragraph));
    }
}

fn option<A>(page: &mut String, flag: &Flag<A>) {
    let names = flag.short.map(|short| format!("-{short}")).into_iter();
    let names = names.chain(flag.names().map(|name| format!("--{name}")));
    let mut head = names.map(|name| bold(&name)).collect::<Vec<_>>().join(", ");
    if let Some(metavar) = flag.metavar {
        let _ = write!(head, " \\fI{}\\fR", escaped(metavar));
    }
    let _ = writeln!(page, ".TP\n{head}");
    let _ = writeln!(page, "{}.", roff(&flag.help.replace('\n', " ")));
    if !flag.man.is_empty() {
        for paragraph in flag.man.split("\n\n") {
            let _ = writeln!(page, "{}", roff(paragraph));
        }
    }
    if let Some(default) = flag.default {
        let _ = writeln!(page, ".br\n{}", roff(&format!("Default: {default}.")));
    }
}

/// Plain text for roff, with options set in bold.
fn roff(text: &str) -> String {
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            let core = word.trim_end_matches([',', '.', ';', ':']);
            if core.starts_with("--") || (core.starts_with('-') && core.len() > 1) {
                format!("{}{}", bold(core), word.get(core.len()..).unwrap_or_default())
            } else {
                escaped(word)
            }
        })
        .collect();
    let line = words.join(" ");
    // A dot or a quote at the start of a line would be a macro.
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_flag_has_its_paragraph() {
        let page = pasta();
        for flag in flags::all().filter(|flag| flag.modes.include(Mode::Pasta) && flag.available())
        {
            assert!(page.contains(&bold(&format!("--{}", flag.long))), "{}", flag.long);
        }
        let macros = page.lines().filter(|line| line.starts_with('.'));
        for line in macros {
            let name = line.split(' ').next().unwrap();
            assert!(
                [
                    ".\\\"", ".TH", ".SH", ".SS", ".B", ".BR", ".br", ".TP", ".PP", ".RS", ".RE",
                    ".nf", ".fi"
                ]
                .contains(&name),
                "{line}"
            );
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(roff("a-b --mtu, .x \\"), "a\\-b \\fB\\-\\-mtu\\fR, .x \\e");
        assert_eq!(roff(".x"), "\\&.x");
        assert_eq!(roff("--"), "\\fB\\-\\-\\fR");
    }
}

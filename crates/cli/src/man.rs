//! The manual pages of passt and pasta, from the table of flags, in the man(7) macros.

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

const PASST_DESCRIPTION: &str = "\
passt connects a virtual machine to the network of the host, without privileges and without any change to \
the host: it takes the frames of the machine's network interface from the hypervisor, by a UNIX domain \
socket, and translates them to ordinary sockets, connection by connection.

The hypervisor sends and receives Ethernet frames, each behind its length in four bytes, most significant \
first; that is what QEMU's network back-ends stream and socket do. There is one hypervisor at a time. When it \
disconnects, passt waits for the next one, which it takes for the same machine: connections live on.

Unless told otherwise, the machine is offered the addresses, routes and resolvers of the host, by DHCP, \
DHCPv6 and router advertisements.

The gateway's address, as seen from the machine, stands for the host itself: what is sent there reaches the \
services on the host's loopback address. --no-map-gw and --map-host-loopback change that.";

const PASST_ABBREVIATIONS: &str = "\
Long names may be shortened as long as they stay unambiguous. Of an option that takes one value, the last \
one counts.";

const PASST_STATUS: &str = "\
0 if everything went well, which includes SIGTERM, SIGQUIT and, with --one-off, the end of the connection to \
the hypervisor, and 1 on any error, with one line on standard error.";

const PASST_EXAMPLES: [(&str, &str); 2] = [
    (
        "Wait for a machine in the background, with the host's port 2222 as its port 22:",
        "passt -s /tmp/vm.socket -t 2222:22",
    ),
    (
        "Start that machine:",
        "qemu-system-x86_64 ... -device virtio-net-pci,netdev=s \
         -netdev stream,id=s,server=off,addr.type=unix,addr.path=/tmp/vm.socket",
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
    all_flags(&mut page, Mode::Pasta);
    section(&mut page, "EXIT STATUS", STATUS);
    examples(&mut page, &EXAMPLES);
    let _ = writeln!(
        page,
        ".SH SEE ALSO\n\
         .BR passt (1),\n.BR pesto (1),\n.BR namespaces (7),\n.BR network_namespaces (7),\n.BR user_namespaces (7),\n\
         .BR nsenter (1),\n.BR unshare (1),\n.BR resolv.conf (5)"
    );
    page
}

/// The manual page of passt, for section 1.
#[must_use]
pub fn passt() -> String {
    let mut page = title("passt", "connect a virtual machine without privileges");
    // The pieces go to a String, which takes them all.
    let _ = writeln!(page, ".SH SYNOPSIS\n.B passt\n[\\fIOPTION\\fR]...");
    section(&mut page, "DESCRIPTION", PASST_DESCRIPTION);
    section(&mut page, "OPTIONS", PASST_ABBREVIATIONS);
    all_flags(&mut page, Mode::Passt);
    section(&mut page, "EXIT STATUS", PASST_STATUS);
    examples(&mut page, &PASST_EXAMPLES);
    let _ = writeln!(
        page,
        ".SH SEE ALSO\n\
         .BR pasta (1),\n.BR pesto (1),\n.BR qrap (1),\n.BR passt-repair (1),\n.BR qemu (1)"
    );
    page
}

/// The flags of a personality, by groups, and those that are refused.
fn all_flags(page: &mut String, mode: Mode) {
    for group in Group::ALL {
        let flags = flags::group(group, mode).filter(|flag| flag.available());
        subsection(page, group, flags);
    }
    let later = help::unavailable(mode);
    if !later.is_empty() {
        let _ = writeln!(page, ".SS Known, but not available in this version");
        let _ = writeln!(page, "{}", roff(&format!("{}.", later.join(", "))));
    }
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
    for (index, (what, command)) in examples.iter().enumerate() {
        if index > 0 {
            let _ = writeln!(page, ".PP");
        }
        let _ = writeln!(page, "{}\n.RS\n.nf\n{}\n.fi\n.RE", roff(what), roff(command));
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
        for (mode, page) in [(Mode::Pasta, pasta()), (Mode::Passt, passt())] {
            let flags = flags::all().filter(|flag| flag.modes.include(mode) && flag.available());
            for flag in flags {
                assert!(page.contains(&bold(&format!("--{}", flag.long))), "{}", flag.long);
            }
        }
        let page = pasta() + &passt();
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

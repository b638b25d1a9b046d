//! The manual page.

use std::fmt::Write as _;

use super::flags::FLAGS;
use crate::flags::Group;
use crate::man::{examples, section, subsection, title};

const DESCRIPTION: &str = "\
pesto shows and changes the forwarding rules of a running pasta or passt, through the socket PATH that \
its option --conf-path names. Connections that are established stay as they are.

Rules stand in tables, one for each side on which connections begin: HOST has those of -t and -u, SPLICE \
those of -T and -U, which only pasta has. Without an option that changes rules, they are printed.

Options that change rules are obeyed in their order. Before any -A or -D, rules replace: the first -t or \
-u deletes everything in HOST, TCP and UDP alike, and the first -T or -U everything in SPLICE, so that -t \
none leaves nothing in HOST. If one of the options cannot be obeyed, nothing is changed at all. If nothing \
would be different, nothing is sent.";

const VERIFICATION: &str = "\
The protocol has no answer to new rules. Therefore pesto waits until the server has closed the connection, \
connects again and reads the rules: those that are missing, or are still there and should not be, are \
reported. Rules that came from other clients in the meantime are not.

With a server of this implementation, rules that are there are in effect: a server that cannot listen on \
a port goes back to the rules it had. The server of the C implementation keeps rules whether or not the ports \
could be had; what pesto proves there is that they were accepted.";

const OPTIONS: &str = "\
Long names may be shortened as long as they stay unambiguous. Options may stand before and behind PATH; the \
argument -- ends them.";

const STATUS: &str = "\
0 if everything is as it should be, which includes a rule to be added that was there already. 1 on any \
error, with a line on standard error, and if the server has not done what it was asked for. A server that \
says nothing is given up after 10 seconds; the same goes for each further step of a change.";

const EXAMPLES: [(&str, &str); 4] = [
    ("Show all rules:", "pesto /run/pasta.conf"),
    ("Forward one more port, to port 80 of the guest:", "pesto --add -t 8080:80 /run/pasta.conf"),
    ("No longer forward it:", "pesto --delete -t 8080:80 /run/pasta.conf"),
    (
        "Forward these ports to the guest and no others, and show what becomes of it:",
        "pesto --show -t 22,443 -u 443 /run/pasta.conf",
    ),
];

/// The manual page of pesto, for section 1.
#[must_use]
pub fn man() -> String {
    let mut page = title("pesto", "show and change forwarding rules of pasta and passt");
    // The pieces go to a String, which takes them all.
    let _ = writeln!(page, ".SH SYNOPSIS\n.B pesto\n[\\fIOPTION\\fR]... \\fIPATH\\fR");
    section(&mut page, "DESCRIPTION", DESCRIPTION);
    section(&mut page, "OPTIONS", OPTIONS);
    for group in Group::ALL {
        subsection(&mut page, group, FLAGS.group(group));
    }
    section(&mut page, "VERIFICATION", VERIFICATION);
    section(&mut page, "EXIT STATUS", STATUS);
    examples(&mut page, &EXAMPLES);
    let _ = writeln!(page, ".SH SEE ALSO\n.BR pasta (1)");
    page
}

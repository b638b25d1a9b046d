//! Forwarded ports.

use stack::rule::{Pif, Protocol};

use super::{Action, Complete, Flag, Group, Modes};
use crate::said::{Forward, Said};

/// How a SPEC is written, and what it does: one text for the programs that take one.
pub(crate) const GRAMMAR: &str = "\
SPEC is a list of ports and ranges, divided by commas, such as 22,80-90. A range may be followed by a colon \
and the port or range of the same length that it is forwarded to: 8080:80, 2000-2009:3000-3009. In front of \
that an address and a slash may stand, 5000:192.0.2.5/6000, or the address alone, 5000:192.0.2.5, to which \
traffic then goes instead of to the guest's own.

A range behind a tilde is left out: 2000-3000,~2500 is two rules. The word all stands for every port except \
those left out, those named otherwise and the ephemeral ones of the host (net.ipv4.ip_local_port_range); \
so does a SPEC that names nothing else. Of these, ports that cannot be had are tolerated, unless it is all \
of them; a port that was named and cannot be had is an error. With the word auto, ports are listened on \
only while something listens on their target, in the namespace for -t and -u, on the host for -T and -U. \
UDP ports count as listened on where TCP is. The word none stands for no ports.

In front of all that, an address, an interface behind a percent sign, or both, and a slash say where to \
listen: 127.0.0.1/22, %eth0/22, 192.0.2.1%eth0/22. Without it, any address of both families is listened on. \
IPv6 addresses may be in brackets.";

const BASE: Flag = Flag {
    group: Group::Ports,
    metavar: Some("SPEC"),
    default: Some("auto"),
    complete: Complete::Words(&["none", "all", "auto"]),
    ..Flag::LATER
};

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "tcp-ports",
        short: Some('t'),
        help: "Forward these TCP ports of the host to the guest:\n\
               [[ADDR][%IF]/]PORTS, where PORTS is a list of\n\
               FIRST[-LAST][:[ADDR/]FIRST[-LAST]], all, auto,\n\
               ~FIRST[-LAST] to leave out; or none",
        man: GRAMMAR,
        default: Some("auto (for passt: none)"),
        action: Action::Value(|said, given| {
            record(said, Pif::Host, Protocol::Tcp, given.option(), &given.shown());
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "udp-ports",
        short: Some('u'),
        help: "The same for UDP",
        default: Some("auto (for passt: none)"),
        action: Action::Value(|said, given| {
            record(said, Pif::Host, Protocol::Udp, given.option(), &given.shown());
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "tcp-ns",
        short: Some('T'),
        modes: Modes::PASTA,
        help: "Forward these TCP ports of the namespace's\n\
               loopback interface to the host's",
        man: "No address to listen on can be given.",
        action: Action::Value(|said, given| {
            record(said, Pif::Splice, Protocol::Tcp, given.option(), &given.shown());
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "udp-ns",
        short: Some('U'),
        modes: Modes::PASTA,
        help: "The same for UDP",
        action: Action::Value(|said, given| {
            record(said, Pif::Splice, Protocol::Udp, given.option(), &given.shown());
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "freebind",
        metavar: None,
        help: "Listen on addresses that do not exist yet",
        default: None,
        complete: Complete::Nothing,
        action: Action::Switch(|said| said.freebind = true),
        ..BASE
    },
    Flag {
        long: "host-lo-to-ns-lo",
        metavar: None,
        modes: Modes::PASTA,
        help: "Forward what is sent to a loopback address of the\n\
               host to the same address of the namespace",
        man: "Without it, such traffic goes to the namespace's own address, so that services that listen on \
              its loopback address alone are not exposed.",
        default: None,
        complete: Complete::Nothing,
        action: Action::Switch(|said| said.host_lo_to_ns_lo = true),
        ..BASE
    },
    Flag {
        long: "no-splice",
        metavar: None,
        help: "Forward loopback traffic of the host like other\n\
               traffic, through the guest's interface",
        man: "That is what passt always does.",
        default: None,
        complete: Complete::Nothing,
        action: Action::Switch(|said| said.no_splice = true),
        ..BASE
    },
    Flag {
        long: "splice-only",
        metavar: None,
        modes: Modes::PASTA,
        help: "Forward loopback traffic only",
        man: "The namespace gets no interface, and the host's network is not looked at. Implies \
              --host-lo-to-ns-lo.",
        default: None,
        complete: Complete::Nothing,
        action: Action::Switch(|said| said.splice_only = true),
        ..BASE
    },
];

fn record(said: &mut Said, pif: Pif, protocol: Protocol, option: &str, value: &str) {
    let (option, value) = (option.to_owned(), value.to_owned());
    said.forwards.push(Forward { pif, protocol, option, value });
}

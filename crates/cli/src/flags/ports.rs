//! Forwarded ports. Until they are available, only `none`, which is also the default.

use super::{Action, Complete, Flag, Group, Modes};
use crate::parse::{Given, Refusal};
use crate::said::Said;

const BASE: Flag = Flag {
    group: Group::Ports,
    metavar: Some("SPEC"),
    default: Some("none"),
    complete: Complete::Words(&["none"]),
    action: Action::Value(only_none),
    ..Flag::LATER
};

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "tcp-ports",
        short: Some('t'),
        help: "TCP ports forwarded to the guest: none",
        man: "This version forwards no ports: the only SPEC it takes is none.",
        ..BASE
    },
    Flag {
        long: "udp-ports",
        short: Some('u'),
        help: "UDP ports forwarded to the guest: none",
        man: "This version forwards no ports: the only SPEC it takes is none.",
        ..BASE
    },
    Flag {
        long: "tcp-ns",
        short: Some('T'),
        modes: Modes::PASTA,
        help: "TCP ports forwarded to the host: none",
        man: "This version forwards no ports: the only SPEC it takes is none.",
        ..BASE
    },
    Flag {
        long: "udp-ns",
        short: Some('U'),
        modes: Modes::PASTA,
        help: "UDP ports forwarded to the host: none",
        man: "This version forwards no ports: the only SPEC it takes is none.",
        ..BASE
    },
];

fn only_none(_: &mut Said, given: &Given<'_>) -> Result<(), Refusal> {
    if given.is_none() {
        return Ok(());
    }
    Err(Refusal::line(format!(
        "Port forwarding is not available in this version: {} {}",
        given.option(),
        given.shown()
    )))
}

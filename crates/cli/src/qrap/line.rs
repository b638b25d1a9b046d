//! QEMU's command line, with its networks replaced by ours.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;

use serde_json::json;
use thiserror::Error;

use super::device::{Device, Syntax};
use super::machine::Machine;

/// The descriptor of the connection on a line that was edited.
pub(super) const DESCRIPTOR: RawFd = 5;
/// The name that connects the two halves of the network.
const NETDEV: &str = "hostnet0";

/// The machine is full.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("No free address left for a network device")]
pub(super) struct NoAddress;

/// An option that matters here. All of them take a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Net,
    Netdev,
    Device,
    Machine,
}

impl Flag {
    /// QEMU takes one hyphen or two.
    fn of(arg: &OsStr) -> Option<Self> {
        let name = arg.to_str()?.strip_prefix('-')?;
        match name.strip_prefix('-').unwrap_or(name) {
            "net" => Some(Self::Net),
            "netdev" => Some(Self::Netdev),
            "device" => Some(Self::Device),
            "machine" | "M" => Some(Self::Machine),
            _ => None,
        }
    }
}

/// Drops networks and NICs from the arguments, without the zeroth, and adds ours. The order of what stays
/// is as it was.
///
/// Without any device on the line there is no NIC either, only what it would be connected to: this is not
/// a machine to be run, but somebody who wants to know what QEMU can do.
pub(super) fn edit(args: Vec<OsString>) -> Result<Vec<OsString>, NoAddress> {
    let mut kept = Vec::with_capacity(args.len() + 4);
    let mut devices = Vec::new();
    let mut machine = Machine::default();
    let (mut device_syntax, mut netdev_syntax) = (None, Syntax::Plain);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(flag) = Flag::of(&arg) else {
            kept.push(arg);
            continue;
        };
        let value = args.next();
        let text = value.as_deref().unwrap_or_default().to_string_lossy();
        match flag {
            Flag::Net => continue,
            Flag::Netdev => {
                if Syntax::of(&text) == Syntax::Json {
                    netdev_syntax = Syntax::Json;
                }
                continue;
            }
            Flag::Device => {
                if device_syntax != Some(Syntax::Json) {
                    device_syntax = Some(Syntax::of(&text));
                }
                let device = Device::parse(&text);
                if device.is_nic() {
                    continue;
                }
                devices.push(device);
            }
            Flag::Machine => machine = Machine::named(&text).unwrap_or(machine),
        }
        kept.push(arg);
        kept.extend(value);
    }
    if let Some(syntax) = device_syntax {
        let address = machine.free(&devices).ok_or(NoAddress)?;
        kept.extend(["-device".into(), address.nic(NETDEV, syntax).into()]);
    }
    kept.extend(["-netdev".into(), netdev(netdev_syntax).into()]);
    Ok(kept)
}

/// The value of `-netdev`. JSON only where the line has it there already: for devices QEMU knows it since
/// 6.2, for networks not before 7.2.
fn netdev(syntax: Syntax) -> String {
    match syntax {
        Syntax::Plain => format!("socket,fd={DESCRIPTOR},id={NETDEV}"),
        Syntax::Json => {
            json!({ "type": "socket", "fd": DESCRIPTOR.to_string(), "id": NETDEV }).to_string()
        }
    }
}

//! Port specifiers: the values of `-t`, `-u`, `-T` and `-U`.
//!
//! ```text
//! SPEC   = "none" | [ LISTEN "/" ] CHUNK *( "," CHUNK )
//! LISTEN = [ ADDR | "*" ] [ "%" INTERFACE ]
//! CHUNK  = "all" [ ":" ADDR ] | "auto" | "~" RANGE
//!        | RANGE [ ":" ADDR "/" RANGE | ":" ADDR | ":" RANGE ]
//! RANGE  = PORT [ "-" PORT ]
//! ADDR   = IPv4 or IPv6 address, in brackets or not
//! ```
//!
//! A specifier is taken apart here, and turned into rules in view of what the server can do.

mod ephemeral;
mod expand;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use stack::rule::is_device_name;

pub use self::ephemeral::{Ephemeral, SYSCTL};
pub use self::expand::Expansion;

/// A range of ports, the first one not above the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// Number of ports less one.
    fn span(self) -> u16 {
        self.last - self.first
    }
}

impl FromStr for PortRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first).ok_or(())?, port(last).ok_or(())?);
        if first > last { Err(()) } else { Ok(Self { first, last }) }
    }
}

/// Digits only: Rust would take a sign.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Where to listen, if that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// The address; `None` is any.
    pub address: Option<IpAddr>,
    /// The interface, if only one.
    pub device: Option<String>,
}

impl FromStr for Listening {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (typed, device) = match text.split_once('%') {
            Some((typed, device)) if is_device_name(device) => (typed, Some(device.to_owned())),
            Some(_) => return Err(()),
            None => (text, None),
        };
        let address = match typed {
            "" | "*" => None,
            _ => Some(address(typed).ok_or(())?),
        };
        Ok(Self { address, device })
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", Bracketed(address))?,
            None => f.write_str("*")?,
        }
        match &self.device {
            Some(device) => write!(f, "%{device}"),
            None => Ok(()),
        }
    }
}

/// An address, in brackets or not. What is IPv4 in IPv6 notation is IPv4.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// An address so that no colon of it is taken for anything else.
struct Bracketed(IpAddr);

impl fmt::Display for Bracketed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// One part of a specifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Every port that is not excluded.
    All {
        /// Where to.
        target: Option<IpAddr>,
    },
    /// Ports are listened on only while something listens on their target.
    Auto,
    /// These ports are left out.
    Exclude(PortRange),
    /// These ports.
    Ports {
        /// The ports listened on.
        from: PortRange,
        /// Where to, if to an address of choice.
        target: Option<IpAddr>,
        /// The ports they are forwarded to, as many, if not to themselves.
        to: Option<PortRange>,
    },
}

impl FromStr for Chunk {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(range) = text.strip_prefix('~') {
            return range.parse().map(Self::Exclude);
        }
        let (from, rest) = match text.split_once(':') {
            Some((from, rest)) => (from, Some(rest)),
            None => (text, None),
        };
        if from == "all" {
            let target = rest.map(|rest| address(rest).ok_or(())).transpose()?;
            return Ok(Self::All { target });
        }
        let from: PortRange = from.parse()?;
        let (target, to) = match rest {
            None => (None, None),
            Some(rest) => destination(rest)?,
        };
        match to {
            Some(to) if to.span() != from.span() => Err(()),
            Some(_) | None => Ok(Self::Ports { from, target, to }),
        }
    }
}

/// `ADDR/RANGE`, `ADDR` or `RANGE`.
fn destination(text: &str) -> Result<(Option<IpAddr>, Option<PortRange>), ()> {
    if let Some((typed, range)) = text.split_once('/') {
        return Ok((Some(address(typed).ok_or(())?), Some(range.parse()?)));
    }
    match address(text) {
        Some(target) => Ok((Some(target), None)),
        None => Ok((None, Some(text.parse()?))),
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { target: None } => f.write_str("all"),
            Self::All { target: Some(target) } => write!(f, "all:{}", Bracketed(*target)),
            Self::Auto => f.write_str("auto"),
            Self::Exclude(range) => write!(f, "~{range}"),
            Self::Ports { from, target, to } => {
                write!(f, "{from}")?;
                match (target, to) {
                    (None, None) => Ok(()),
                    (None, Some(to)) => write!(f, ":{to}"),
                    (Some(target), None) => write!(f, ":{}", Bracketed(*target)),
                    (Some(target), Some(to)) => write!(f, ":{}/{to}", Bracketed(*target)),
                }
            }
        }
    }
}

/// A specifier, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Nothing is forwarded.
    None,
    /// Ports are.
    Ports {
        /// Where to listen, if that was said.
        listen: Option<Listening>,
        /// Which ports, and where to: at least one part.
        chunks: Vec<Chunk>,
    },
}

/// What is no specifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid port specifier '{0}'")]
pub struct InvalidSpec(String);

impl FromStr for Spec {
    type Err = InvalidSpec;

    fn from_str(text: &str) -> Result<Self, InvalidSpec> {
        if text == "none" {
            return Ok(Self::None);
        }
        // A slash may also be part of a target: what is in front of it decides.
        let listening = text.split_once('/').and_then(|(front, ports)| {
            front.parse().ok().map(|listening: Listening| (Some(listening), ports))
        });
        let (listen, ports) = listening.unwrap_or((None, text));
        let chunks: Result<Vec<Chunk>, ()> = ports.split(',').map(str::parse).collect();
        match chunks {
            Ok(chunks) => Ok(Self::Ports { listen, chunks }),
            Err(()) => Err(InvalidSpec(text.to_owned())),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ports { listen, chunks } = self else { return f.write_str("none") };
        if let Some(listen) = listen {
            write!(f, "{listen}/")?;
        }
        for (index, chunk) in chunks.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{chunk}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

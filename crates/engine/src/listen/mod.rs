//! Listening sockets: one for each port of each rule.

mod auto;
mod change;
mod ports;
mod set;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stack::rule::{Listen, Pif, Protocol, Rule, Table};
use sys::socket::{Binding, Device, TcpListener, UdpListener};

pub use auto::Source;
pub(crate) use auto::{Auto, Reach};
pub(crate) use change::{Change, Outcome};
pub(crate) use set::{Entry, Listeners};

/// Where a socket listens, apart from the interface on which its flows begin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Protocol.
    pub protocol: Protocol,
    /// Address.
    pub listen: Listen,
    /// Interface, if only one.
    pub device: Option<Arc<str>>,
    /// Port.
    pub port: u16,
}

impl Place {
    fn of(rule: &Rule, device: &Option<Arc<str>>, port: u16) -> Self {
        Self { protocol: rule.protocol, listen: rule.listen, device: device.clone(), port }
    }

    /// Whether both cannot be listened on at the same time.
    fn conflicts(&self, other: &Self) -> bool {
        let meet = match (self.listen, other.listen) {
            (Listen::DualStack, _) | (_, Listen::DualStack) => true,
            (Listen::On(a), Listen::On(b)) => self.listen.takes(b) || other.listen.takes(a),
        };
        self.protocol == other.protocol && self.port == other.port && meet
    }
}

/// `ADDRESS%INTERFACE/PORT`, as the options take it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listen {
            Listen::DualStack => f.write_str("*")?,
            Listen::On(address) => write!(f, "{address}")?,
        }
        if let Some(device) = &self.device {
            write!(f, "%{device}")?;
        }
        write!(f, "/{}", self.port)
    }
}

/// How listening sockets are made, on one interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// Addresses need not exist (`IP_FREEBIND`).
    pub freebind: bool,
    /// Interface index of link-local addresses.
    pub scope_id: u32,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    place: Place,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpListener),
}

impl Listener {
    /// Listens at `place`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Those of the system calls: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `ENODEV`, `EMFILE`.
    pub fn open(place: &Place, opening: Opening) -> io::Result<Self> {
        let device = place
            .device
            .as_deref()
            .map(|name| Device::new(name).ok_or_else(|| io::Error::from(ErrorKind::InvalidInput)));
        let device = device.transpose()?;
        let binding = Binding {
            address: address(place.listen),
            port: place.port,
            device: device.as_ref(),
            scope_id: opening.scope_id,
            freebind: opening.freebind,
        };
        let socket = match place.protocol {
            Protocol::Tcp => Socket::Tcp(TcpListener::open(&binding)?),
            Protocol::Udp => Socket::Udp(UdpListener::open(&binding)?),
        };
        Ok(Self { place: place.clone(), socket })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }
}

fn address(listen: Listen) -> Option<IpAddr> {
    match listen {
        Listen::DualStack => None,
        Listen::On(address) => Some(address),
    }
}

/// Why the rules of a table cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A port of a strict rule.
    #[error(
        "Listen failed for {} {} port {place}: {}\nCouldn't listen on requested ports",
        .pif.name(), .place.protocol.name(), sys::reason(.error)
    )]
    Port {
        /// Whose rule.
        pif: Pif,
        /// The port.
        place: Place,
        /// What the kernel said.
        error: io::Error,
    },
    /// Every port of a best-effort rule.
    #[error(
        "All listens failed for {} {rule}: {}\nCouldn't listen on requested ports",
        .pif.name(), sys::reason(.error)
    )]
    Rule {
        /// Whose rule.
        pif: Pif,
        /// The rule.
        rule: Box<Rule>,
        /// What the kernel said about the last port.
        error: io::Error,
    },
}

/// Listening sockets that best-effort rules may take: half of the descriptors, so that there are some
/// left for what comes in.
fn best_effort_limit() -> usize {
    sys::fd::limit() / 2
}

/// How long a port may be somebody else's at the start: a predecessor whose namespace has just gone may be
/// about to end. And how often to look.
const PREDECESSOR: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);

/// Listens at `place`, which may become free until `end`.
fn open_until(place: &Place, opening: Opening, end: Instant) -> io::Result<Listener> {
    loop {
        match Listener::open(place, opening) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}

/// Opens the ports of those rules that are always listened on, in the network namespace of the calling
/// thread.
///
/// Ports that were named are waited for a little if they are in use.
///
/// # Errors
/// When a port of a strict rule, or all of a best-effort one, cannot be had.
pub fn open_table(pif: Pif, table: &Table, opening: Opening) -> Result<Vec<Listener>, ListenError> {
    let mut opened = Vec::new();
    let limit = best_effort_limit();
    let end = Instant::now() + PREDECESSOR;
    for rule in table.rules().iter().filter(|rule| !rule.scan) {
        let before = opened.len();
        let device: Option<Arc<str>> = rule.device.as_deref().map(Into::into);
        let mut failed = None;
        for port in rule.first..=rule.last {
            if rule.best_effort && opened.len() >= limit {
                log::warn!("Too many ports: none from {port} on are listened on for {rule}");
                break;
            }
            let place = Place::of(rule, &device, port);
            let listener = if rule.best_effort {
                Listener::open(&place, opening)
            } else {
                open_until(&place, opening, end)
            };
            match listener {
                Ok(listener) => opened.push(listener),
                Err(error) if rule.best_effort => failed = Some(error),
                Err(error) => return Err(ListenError::Port { pif, place, error }),
            }
        }
        if let (true, Some(error)) = (opened.len() == before, failed) {
            return Err(ListenError::Rule { pif, rule: Box::new(rule.clone()), error });
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_as_options_take_them() {
        let place = |listen, device: Option<&str>| Place {
            protocol: Protocol::Tcp,
            listen,
            device: device.map(Into::into),
            port: 22,
        };
        assert_eq!(place(Listen::DualStack, None).to_string(), "*/22");
        assert_eq!(place(Listen::DualStack, Some("lo")).to_string(), "*%lo/22");
        let v6 = place(Listen::On("::1".parse().unwrap()), None);
        assert_eq!(v6.to_string(), "::1/22");
        assert!(v6.conflicts(&place(Listen::DualStack, Some("lo"))));
        assert!(!v6.conflicts(&Place { port: 23, ..place(Listen::DualStack, None) }));
        assert!(!v6.conflicts(&place(Listen::On("127.0.0.1".parse().unwrap()), None)));
    }

    #[test]
    fn refusals_say_what_and_why() {
        let error = ListenError::Port {
            pif: Pif::Host,
            place: Place {
                protocol: Protocol::Tcp,
                listen: Listen::DualStack,
                device: None,
                port: 22,
            },
            error: io::Error::from_raw_os_error(13),
        };
        assert_eq!(
            error.to_string(),
            "Listen failed for HOST TCP port */22: Permission denied\n\
             Couldn't listen on requested ports"
        );
    }
}

//! Values of options: what is accepted, and how a wrong one is called.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use wire::ethernet::MacAddr;

use super::{Refusal, number, user};
use crate::said::{Said, User};

/// Largest MTU: a frame of 65535 bytes without its Ethernet header.
const MAX_MTU: u16 = 65_521;
/// A log file of fewer bytes is refused.
const MIN_LOG_SIZE: u64 = 5 * 8192;
/// Bytes of a path at most, without the final zero (`PATH_MAX`).
const MAX_PATH: usize = 4095;
/// Bytes of an interface name at most, without the final zero (`IFNAMSIZ`).
const MAX_INTERFACE: usize = 15;
/// Bytes of a host name at most (RFC 1035 §2.3.4, in text form).
const MAX_NAME: usize = 253;

/// What has to be asked of the system while the command line is read.
pub trait Lookup {
    /// Index of the network interface `name`.
    fn interface_index(&self, name: &str) -> io::Result<u32>;
    /// Contents of a text file.
    fn read_text(&self, path: &Path) -> io::Result<String>;
    /// Whether sockets may be bound to an interface (`SO_BINDTODEVICE`).
    fn can_bind_device(&self) -> bool {
        true
    }
    /// Whether there are IPv6 sockets.
    fn has_ipv6(&self) -> bool {
        true
    }
}

/// The value of an option as it was typed.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    option: &'a str,
    value: &'a OsStr,
    lookup: &'a dyn Lookup,
}

impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.option, self.value)
    }
}

impl<'a> Given<'a> {
    /// `option` as it is called in messages, with its value.
    pub fn new(option: &'a str, value: &'a OsStr, lookup: &'a dyn Lookup) -> Self {
        Self { option, value, lookup }
    }

    /// The option, with its dashes.
    #[must_use]
    pub fn option(&self) -> &str {
        self.option
    }

    /// The value for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        self.value.to_string_lossy().into_owned()
    }

    /// Refuses the value: `WRONG: VALUE`.
    pub fn refuse<T>(&self, wrong: &str) -> Result<T, Refusal> {
        Err(self.refusal(wrong))
    }

    fn refusal(&self, wrong: &str) -> Refusal {
        Refusal::line(format!("{wrong}: {}", self.shown()))
    }

    /// Whether the value is the word `none`.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.value == "none"
    }

    /// Any text.
    pub fn text(&self, wrong: &str) -> Result<&'a str, Refusal> {
        self.value.to_str().ok_or_else(|| self.refusal(wrong))
    }

    /// A number in C notation, not above `max`.
    pub fn number_up_to(&self, wrong: &str, max: u64) -> Result<u64, Refusal> {
        number::c_notation(self.text(wrong)?)
            .filter(|&n| n <= max)
            .ok_or_else(|| self.refusal(wrong))
    }

    /// An MTU in bytes, 0 for none.
    pub fn mtu(&self) -> Result<u16, Refusal> {
        let mtu = self.number_up_to("Invalid MTU", u64::MAX)?;
        u16::try_from(mtu)
            .ok()
            .filter(|&mtu| mtu <= MAX_MTU)
            .ok_or_else(|| Refusal::line(format!("MTU {mtu} too large (max {MAX_MTU})")))
    }

    /// Number of a descriptor.
    pub fn descriptor(&self, wrong: &str) -> Result<i32, Refusal> {
        i32::try_from(self.number_up_to(wrong, u64::MAX)?).map_err(|_| self.refusal(wrong))
    }

    /// Size of a log file that holds some messages at least.
    pub fn log_size(&self) -> Result<u64, Refusal> {
        const WRONG: &str = "Invalid --log-size";
        match self.number_up_to(WRONG, u64::MAX)? {
            size if size < MIN_LOG_SIZE => self.refuse(WRONG),
            size => Ok(size),
        }
    }

    /// A path of a possible length.
    pub fn path(&self, wrong: &str) -> Result<PathBuf, Refusal> {
        if self.value.is_empty() || self.value.len() > MAX_PATH {
            return self.refuse(wrong);
        }
        Ok(PathBuf::from(self.value))
    }

    /// A path that fits into the address of a UNIX domain socket.
    pub fn socket_path(&self, wrong: &str) -> Result<PathBuf, Refusal> {
        if self.value.is_empty() || self.value.len() > sys::unix::LONGEST {
            return self.refuse(wrong);
        }
        Ok(PathBuf::from(self.value))
    }

    /// A name that an interface could have.
    pub fn interface_name(&self) -> Result<String, Refusal> {
        const WRONG: &str = "Invalid interface name";
        let name = self.text(WRONG)?;
        if name.is_empty() || name.len() > MAX_INTERFACE {
            return self.refuse(WRONG);
        }
        Ok(name.to_owned())
    }

    /// The name of an interface of the host.
    pub fn existing_interface(&self) -> Result<String, Refusal> {
        const WRONG: &str = "Invalid interface name";
        let name = self.text(WRONG)?;
        match self.lookup.interface_index(name) {
            Ok(_) => Ok(name.to_owned()),
            Err(err) => Err(Refusal::line(format!("{WRONG} {name}: {}", sys::reason(&err)))),
        }
    }

    /// A MAC address: six pairs of hexadecimal digits, divided by colons.
    pub fn mac(&self) -> Result<MacAddr, Refusal> {
        const WRONG: &str = "Invalid MAC address";
        parse_mac(self.text(WRONG)?).ok_or_else(|| self.refusal(WRONG))
    }

    /// An address of either family.
    pub fn address(&self, wrong: &str) -> Result<IpAddr, Refusal> {
        self.text(wrong)?.parse().map_err(|_| self.refusal(wrong))
    }

    /// A netmask in dotted notation or in bits.
    pub fn netmask(&self) -> Result<u8, Refusal> {
        const WRONG: &str = "Invalid prefix length";
        let text = self.text(WRONG)?;
        let bits = match text.parse::<Ipv4Addr>() {
            Ok(mask) => {
                let mask = u32::from(mask);
                u8::try_from(mask.leading_ones())
                    .ok()
                    .filter(|_| mask.trailing_zeros() == mask.count_zeros())
            }
            Err(_) => number::c_notation(text).and_then(|n| u8::try_from(n).ok()),
        };
        bits.filter(|&bits| bits <= 32).ok_or_else(|| self.refusal(WRONG))
    }

    /// `ADDR[/LEN]` for the guest, recorded in `said`.
    pub fn guest_address(&self, said: &mut Said) -> Result<(), Refusal> {
        const WRONG: &str = "Invalid guest address";
        const WRONG_LENGTH: &str = "Invalid prefix length";
        let text = self.text(WRONG)?;
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let unbracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let typed: IpAddr =
            unbracketed.unwrap_or(address).parse().map_err(|_| self.refusal(WRONG))?;
        let address = typed.to_canonical();
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast
        {
            return self.refuse(WRONG);
        }
        // Bits of an IPv4 address in IPv6 notation count from its own start.
        let (offset, most) = match (typed, address) {
            (IpAddr::V6(_), IpAddr::V4(_)) => (96, 32),
            (IpAddr::V4(_), _) => (0, 32),
            (IpAddr::V6(_), IpAddr::V6(_)) => (0, 128),
        };
        let length = match length {
            None => None,
            Some(length) => Some(
                number::decimal(length)
                    .and_then(|bits| bits.checked_sub(offset))
                    .and_then(|bits| u8::try_from(bits).ok())
                    .filter(|&bits| bits <= most)
                    .ok_or_else(|| self.refusal(WRONG_LENGTH))?,
            ),
        };
        if length.is_some() && said.netmask.is_some() {
            return Err(Refusal::line("Redundant prefix length specification"));
        }
        said.last_address_had_length = length.is_some();
        match address {
            IpAddr::V4(address) => said.address4 = Some((address, length)),
            IpAddr::V6(address) => said.address6 = Some(address),
        }
        Ok(())
    }

    /// A name that DNS could have. An empty one stands for none.
    pub fn domain_name(&self, wrong: &str) -> Result<Option<String>, Refusal> {
        match self.text(wrong)? {
            "" => Ok(None),
            name if name.len() > MAX_NAME => self.refuse(wrong),
            name => Ok(Some(name.to_owned())),
        }
    }

    /// A user with a group.
    pub fn user(&self) -> Result<User, Refusal> {
        const WRONG: &str = "Invalid --runas option";
        let text = self.text(WRONG)?;
        // A missing file knows no names.
        let read = |path: &str| self.lookup.read_text(Path::new(path)).unwrap_or_default();
        user::resolve(text, &read("/etc/passwd"), &read("/etc/group"))
            .ok_or_else(|| self.refusal(WRONG))
    }
}

fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut bytes = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        let pair = pairs.next()?;
        // Rust would take a sign.
        if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(MacAddr(bytes))
}

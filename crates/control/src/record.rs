//! A forwarding rule as 56 bytes.

use std::net::{IpAddr, Ipv6Addr};

use stack::rule::{Listen, Protocol, Rule};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::hello::DEVICE_NAME_LEN;

/// Length of [`RuleRecord`] in bytes.
pub const LEN: usize = 56;

/// The rule listens on any address of both families.
const DUAL_STACK: u8 = 1 << 0;
/// Ports that cannot be had are tolerated.
const BEST_EFFORT: u8 = 1 << 1;
/// Ports follow what listens on their targets.
const SCAN: u8 = 1 << 2;

/// A rule as it is sent. Addresses are IPv6 ones, those of IPv4 mapped (RFC 4291 §2.5.5.2).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct RuleRecord {
    /// Address listened on.
    pub listen: [u8; 16],
    /// Target address; all zero for none in particular.
    pub target: [u8; 16],
    /// Interface listened on, ended and filled by zeros; all zero for none in particular.
    pub device: [u8; DEVICE_NAME_LEN],
    /// First port listened on.
    pub first: U16,
    /// Last port listened on.
    pub last: U16,
    /// Target of the first port.
    pub to: U16,
    /// Protocol number.
    pub protocol: u8,
    /// 1: dual stack, 2: best effort, 4: scan.
    pub flags: u8,
}

const _: () = assert!(size_of::<RuleRecord>() == LEN);

/// Why bytes are not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The name fills its field, without a zero at the end.
    #[error("Interface name of a rule is not terminated")]
    UnterminatedDevice,
    /// A name that is not text.
    #[error("Invalid interface name '{0}'")]
    Device(String),
    /// A flag without a meaning.
    #[error("Unknown flags {0:#04x} of a rule")]
    Flags(u8),
    /// Neither TCP nor UDP.
    #[error("Unknown protocol {0} of a rule")]
    Protocol(u8),
    /// One address cannot be any of both families.
    #[error("Dual stack forward with listening address {0}")]
    DualStackAddress(IpAddr),
}

impl RuleRecord {
    /// The rule that these bytes stand for. Whether it makes sense is for
    /// [`Table::add`](stack::rule::Table::add) to say.
    ///
    /// # Errors
    /// If they do not stand for any.
    pub fn rule(&self) -> Result<Rule, RecordError> {
        let unknown = self.flags & !(DUAL_STACK | BEST_EFFORT | SCAN);
        if unknown != 0 {
            return Err(RecordError::Flags(unknown));
        }
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.number() == self.protocol)
            .ok_or(RecordError::Protocol(self.protocol))?;
        let listen = match (self.flags & DUAL_STACK != 0, address(self.listen)) {
            (true, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Listen::DualStack,
            (true, other) => return Err(RecordError::DualStackAddress(other)),
            (false, on) => Listen::On(on),
        };
        let target = Some(address(self.target)).filter(|&target| target != Ipv6Addr::UNSPECIFIED);
        Ok(Rule {
            protocol,
            listen,
            device: self.device_name()?,
            first: self.first.get(),
            last: self.last.get(),
            to: self.to.get(),
            target,
            best_effort: self.flags & BEST_EFFORT != 0,
            scan: self.flags & SCAN != 0,
        })
    }

    fn device_name(&self) -> Result<Option<String>, RecordError> {
        if self.device.last() != Some(&0) {
            return Err(RecordError::UnterminatedDevice);
        }
        let name = self.device.split(|&byte| byte == 0).next().unwrap_or_default();
        match std::str::from_utf8(name) {
            Ok("") => Ok(None),
            Ok(name) => Ok(Some(name.to_owned())),
            Err(_) => Err(RecordError::Device(String::from_utf8_lossy(name).into_owned())),
        }
    }
}

/// Names longer than 15 bytes are cut; the rules of a [`Table`](stack::rule::Table) have none.
impl From<&Rule> for RuleRecord {
    fn from(rule: &Rule) -> Self {
        let (listen, dual_stack) = match rule.listen {
            Listen::DualStack => (Ipv6Addr::UNSPECIFIED.octets(), DUAL_STACK),
            Listen::On(on) => (octets(on), 0),
        };
        let mut device = [0; DEVICE_NAME_LEN];
        let name = rule.device.as_deref().unwrap_or_default().bytes();
        // The last byte remains zero.
        device.iter_mut().take(DEVICE_NAME_LEN - 1).zip(name).for_each(|(to, from)| *to = from);
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        Self {
            listen,
            target: rule.target.map_or([0; 16], octets),
            device,
            first: U16::new(rule.first),
            last: U16::new(rule.last),
            to: U16::new(rule.to),
            protocol: rule.protocol.number(),
            flags: dual_stack | flag(rule.best_effort, BEST_EFFORT) | flag(rule.scan, SCAN),
        }
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(port: u16) -> Rule {
        Rule {
            protocol: Protocol::Tcp,
            listen: Listen::DualStack,
            device: None,
            first: port,
            last: port,
            to: port,
            target: None,
            best_effort: false,
            scan: false,
        }
    }

    #[test]
    fn the_simplest_rule() {
        let mut wanted = [0; LEN];
        wanted[48..].copy_from_slice(&[0x1f, 0x40, 0x1f, 0x40, 0x1f, 0x40, 6, 1]);
        assert_eq!(RuleRecord::from(&any(8000)).as_bytes(), wanted);
        assert_eq!(RuleRecord::read_from_bytes(&wanted).unwrap().rule(), Ok(any(8000)));
    }

    #[test]
    fn a_rule_with_everything() {
        let mut wanted = [0; LEN];
        wanted[10..16].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        wanted[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 5]);
        wanted[32..34].copy_from_slice(b"lo");
        wanted[48..].copy_from_slice(&[0x14, 0xb4, 0x14, 0xb4, 0x14, 0xe9, 17, 0]);
        let rule = Rule {
            protocol: Protocol::Udp,
            listen: Listen::On([127, 0, 0, 1].into()),
            device: Some("lo".into()),
            target: Some([10, 0, 0, 5].into()),
            to: 5353,
            ..any(5300)
        };
        assert_eq!(RuleRecord::from(&rule).as_bytes(), wanted);
        assert_eq!(RuleRecord::read_from_bytes(&wanted).unwrap().rule(), Ok(rule));
    }

    #[test]
    fn unspecified_addresses_differ() {
        let listening = |text: &str| Rule { listen: Listen::On(text.parse().unwrap()), ..any(1) };
        for rule in [any(1), listening("::"), listening("0.0.0.0"), listening("::1")] {
            assert_eq!(RuleRecord::from(&rule).rule(), Ok(rule));
        }
        let target = Rule { target: Some([0, 0, 0, 0].into()), ..listening("0.0.0.0") };
        assert_eq!(RuleRecord::from(&target).rule(), Ok(target));
    }

    #[test]
    fn flags() {
        for (best_effort, scan, byte) in [(false, true, 5), (true, false, 3), (true, true, 7)] {
            let rule = Rule { best_effort, scan, ..any(1) };
            let record = RuleRecord::from(&rule);
            assert_eq!(record.flags, byte);
            assert_eq!(record.rule(), Ok(rule));
        }
    }

    #[test]
    fn bytes_that_are_no_rule() {
        let good = RuleRecord::from(&any(1));
        let error = |record: RuleRecord| record.rule().unwrap_err();
        assert_eq!(error(RuleRecord { flags: 0x89, ..good }), RecordError::Flags(0x88));
        assert_eq!(error(RuleRecord { protocol: 132, ..good }), RecordError::Protocol(132));
        assert_eq!(
            error(RuleRecord { device: [b'x'; 16], ..good }),
            RecordError::UnterminatedDevice
        );
        let mut device = [0; 16];
        device[0] = 0xff;
        assert!(matches!(error(RuleRecord { device, ..good }), RecordError::Device(_)));
        let listen = octets([0, 0, 0, 0].into());
        assert_eq!(
            error(RuleRecord { listen, ..good }).to_string(),
            "Dual stack forward with listening address 0.0.0.0"
        );
    }

    #[test]
    fn names_keep_their_zero() {
        let rule = Rule { device: Some("a-name-of-20-bytes..".into()), ..any(1) };
        let record = RuleRecord::from(&rule);
        assert_eq!(&record.device, b"a-name-of-20-by\0");
        // What is behind the zero does not count.
        let mut device = *b"lo\0garbage\0\0\0\0\0\0";
        device[15] = 0;
        let record = RuleRecord { device, ..record };
        assert_eq!(record.rule().unwrap().device.as_deref(), Some("lo"));
    }
}

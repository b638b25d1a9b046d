//! Ethernet II: addresses and the 14-byte header, without frame check sequence.

use core::fmt;
use core::str::FromStr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Length of [`EthernetHeader`] in bytes.
pub const HEADER_LEN: usize = 14;
/// The shortest frame in bytes, header included, frame check sequence not: shorter ones are padded
/// with zeros, because some drivers reject runts (IEEE 802.3).
pub const MIN_FRAME_LEN: usize = 60;

/// An IEEE 802 MAC address, in transmission order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff, every station of the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, "not known" in ARP requests.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set; the broadcast address is a group, too.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is [`MacAddr::BROADCAST`].
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// The group address that carries an IPv6 multicast destination (RFC 2464 §7): 33:33 and the
    /// last four bytes.
    #[must_use]
    pub const fn ipv6_multicast(group: core::net::Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// The group address that carries an IPv4 multicast destination (RFC 1112 §6.4): 01:00:5e and
    /// the last 23 bits.
    #[must_use]
    pub const fn ipv4_multicast(group: core::net::Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The 64-bit interface identifier made of this address (RFC 4291 appendix A, "modified
    /// EUI-64"), as SLAAC uses it.
    #[must_use]
    pub const fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal groups with colons between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address of the form xx:xx:xx:xx:xx:xx")
    }
}

impl core::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Strict: exactly 17 characters, two hexadecimal digits per group, either case.
    fn from_str(s: &str) -> Result<Self, ParseMacError> {
        fn digit(b: u8) -> Option<u8> {
            match b {
                b'0'..=b'9' => Some(b - b'0'),
                b'a'..=b'f' => Some(b - b'a' + 10),
                b'A'..=b'F' => Some(b - b'A' + 10),
                _ => None,
            }
        }
        let mut mac = [0; 6];
        let mut groups = s.split(':');
        for byte in &mut mac {
            let group = groups.next().ok_or(ParseMacError)?;
            let &[hi, lo] = group.as_bytes() else { return Err(ParseMacError) };
            let (Some(hi), Some(lo)) = (digit(hi), digit(lo)) else { return Err(ParseMacError) };
            *byte = hi << 4 | lo;
        }
        if groups.next().is_some() { Err(ParseMacError) } else { Ok(Self(mac)) }
    }
}

/// The header of an Ethernet II frame.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// What follows: one of the `ETHERTYPE_` constants, or something else.
    pub ethertype: U16,
}

const _: () = assert!(size_of::<EthernetHeader>() == HEADER_LEN);

impl EthernetHeader {
    /// A header with the given fields.
    #[must_use]
    pub const fn new(dst: MacAddr, src: MacAddr, ethertype: u16) -> Self {
        Self { dst, src, ethertype: U16::new(ethertype) }
    }

    /// The header and what follows it (with padding, if any); `None` if shorter than 14 bytes.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(frame).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trip_and_strictness() {
        let mac: MacAddr = "9a:55:9A:55:9a:5f".parse().unwrap();
        assert_eq!(mac.0, [0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x5f]);
        assert_eq!(mac.to_string(), "9a:55:9a:55:9a:5f");
        for bad in [
            "",
            "9a:55:9a:55:9a",
            "9a:55:9a:55:9a:55:00",
            "9a:55:9a:55:9a:5",
            "9a-55-9a-55-9a-55",
            "9a:55:9a:55:9a:5g",
            "+a:55:9a:55:9a:55",
            " 9a:55:9a:55:9a:55",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn groups() {
        assert!(MacAddr::BROADCAST.is_multicast() && MacAddr::BROADCAST.is_broadcast());
        assert!(!MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]).is_multicast());
        let all_nodes = "ff02::1".parse().unwrap();
        assert_eq!(MacAddr::ipv6_multicast(all_nodes).to_string(), "33:33:00:00:00:01");
        let mdns = "224.128.0.251".parse().unwrap();
        assert_eq!(MacAddr::ipv4_multicast(mdns).to_string(), "01:00:5e:00:00:fb");
        // RFC 4291 appendix A's example shape.
        assert_eq!(
            MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]).eui64(),
            [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]
        );
    }

    #[test]
    fn header_view() {
        let mut frame = vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 99];
        let (header, rest) = EthernetHeader::parse(&frame).unwrap();
        assert_eq!(header.dst, MacAddr([1, 2, 3, 4, 5, 6]));
        assert_eq!(header.src, MacAddr([7, 8, 9, 10, 11, 12]));
        assert_eq!(header.ethertype.get(), ETHERTYPE_IPV6);
        assert_eq!(rest, [99]);
        frame.truncate(13);
        assert!(EthernetHeader::parse(&frame).is_none());
    }
}

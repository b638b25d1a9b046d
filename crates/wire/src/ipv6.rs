//! IPv6 (RFC 8200): the 40-byte header and the walk over extension headers.

use core::fmt;
use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::protocol;

/// Length of [`Ipv6Header`] in bytes.
pub const HEADER_LEN: usize = 40;
/// The bits of the first word that hold the flow label.
pub const FLOW_LABEL_MASK: u32 = 0x000f_ffff;
/// The smallest MTU a link may have (RFC 8200 §5), in bytes.
pub const MIN_MTU: usize = 1280;

/// An IPv6 header.
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
pub struct Ipv6Header {
    /// Version (4 bits, 6), traffic class (8 bits), flow label (20 bits).
    pub version_class_flow: U32,
    /// Length in bytes of everything after this header.
    pub payload_len: U16,
    /// What follows (see [`crate::protocol`]).
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
}

const _: () = assert!(size_of::<Ipv6Header>() == HEADER_LEN);

impl Ipv6Header {
    /// A header with traffic class and flow label 0.
    #[must_use]
    pub const fn new(
        next_header: u8,
        hop_limit: u8,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        payload_len: u16,
    ) -> Self {
        Self {
            version_class_flow: U32::new(0x6000_0000),
            payload_len: U16::new(payload_len),
            next_header,
            hop_limit,
            src: src.octets(),
            dst: dst.octets(),
        }
    }

    /// The header and its payload (extension headers included), cut to the payload length: padding
    /// of the frame is not part of it. `None` if the version is not 6 or the payload length more
    /// than what is there. Jumbograms (RFC 2675) appear as an empty payload.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<(&Self, &[u8])> {
        let (header, rest) = Self::ref_from_prefix(packet).ok()?;
        if header.version_class_flow.get() >> 28 != 6 {
            return None;
        }
        let payload = rest.get(..usize::from(header.payload_len.get()))?;
        Some((header, payload))
    }

    /// Source address.
    #[must_use]
    pub const fn src_addr(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.src))
    }

    /// Destination address.
    #[must_use]
    pub const fn dst_addr(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.dst))
    }

    /// The 20-bit flow label.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & FLOW_LABEL_MASK
    }

    /// Sets the flow label to the low 20 bits of `label`.
    pub fn set_flow_label(&mut self, label: u32) {
        let rest = self.version_class_flow.get() & !FLOW_LABEL_MASK;
        self.version_class_flow.set(rest | (label & FLOW_LABEL_MASK));
    }

    /// Traffic class: DSCP (six bits) and ECN (two bits).
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20 & 0xff) as u8
    }

    /// Sets the traffic class.
    pub fn set_traffic_class(&mut self, class: u8) {
        let rest = self.version_class_flow.get() & !0x0ff0_0000;
        self.version_class_flow.set(rest | u32::from(class) << 20);
    }
}

/// The fragment header (RFC 8200 §4.5).
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
pub struct FragmentHeader {
    /// The first header of the fragmentable part.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset (13 bits, units of 8 bytes), two reserved bits, "more fragments".
    pub offset_flags: U16,
    /// Equal in all fragments of a packet.
    pub id: U32,
}

const _: () = assert!(size_of::<FragmentHeader>() == 8);

impl FragmentHeader {
    /// Where the data belongs in the fragmentable part, in **bytes** (0 to 65528).
    #[must_use]
    pub fn offset(&self) -> usize {
        usize::from(self.offset_flags.get() & 0xfff8)
    }

    /// Whether fragments with a higher offset exist.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.offset_flags.get() & 1 != 0
    }

    /// Whether this is a whole packet that merely carries the header (RFC 6946).
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.offset() == 0 && !self.more_fragments()
    }
}

/// Where a walk over extension headers ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport<'a> {
    /// The protocol of `payload`: a transport, ESP, "no next header", or, for a fragment, whatever
    /// the fragmentable part begins with (possibly further extension headers).
    pub protocol: u8,
    /// What follows the last header walked.
    pub payload: &'a [u8],
    /// Set if this is a fragment of a larger packet: `payload` is then only a piece, and once the
    /// pieces are together, they are walked again from `protocol`. Atomic fragments are walked
    /// through and do not show here.
    pub fragment: Option<FragmentHeader>,
}

/// Why a chain of extension headers could not be walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtensionError {
    /// A header reaches beyond the end of the packet.
    Truncated,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("IPv6 extension header beyond the end of the packet"),
        }
    }
}

impl core::error::Error for ExtensionError {}

/// Walks the extension headers from the one numbered `next_header`, at the start of `payload`, to the
/// first thing that is none.
///
/// Every header takes at least 8 bytes, so the walk ends with the packet.
///
/// # Errors
/// [`ExtensionError::Truncated`] if a header does not fit into the packet.
pub fn walk_extensions(
    mut next_header: u8,
    mut payload: &[u8],
) -> Result<Transport<'_>, ExtensionError> {
    loop {
        let len = match next_header {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
            | protocol::EXPERIMENT_253
            | protocol::EXPERIMENT_254 => (length_field(payload)? + 1) * 8,
            // RFC 4302 §2.2: in 32-bit words, minus 2.
            protocol::AH => (length_field(payload)? + 2) * 4,
            protocol::FRAGMENT => {
                let (fragment, rest) = FragmentHeader::read_from_prefix(payload)
                    .map_err(|_| ExtensionError::Truncated)?;
                if !fragment.is_atomic() {
                    return Ok(Transport {
                        protocol: fragment.next_header,
                        payload: rest,
                        fragment: Some(fragment),
                    });
                }
                size_of::<FragmentHeader>()
            }
            _ => return Ok(Transport { protocol: next_header, payload, fragment: None }),
        };
        next_header = *payload.first().ok_or(ExtensionError::Truncated)?;
        payload = payload.get(len..).ok_or(ExtensionError::Truncated)?;
    }
}

/// The second byte of an extension header.
fn length_field(header: &[u8]) -> Result<usize, ExtensionError> {
    header.get(1).map(|&len| usize::from(len)).ok_or(ExtensionError::Truncated)
}

/// Whether `number` names an extension header that [`walk_extensions`] steps over.
#[must_use]
pub const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
            | protocol::EXPERIMENT_253
            | protocol::EXPERIMENT_254
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let (src, dst) = ("2001:db8::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let mut header = Ipv6Header::new(58, 255, src, dst, 3);
        header.set_traffic_class(0xab);
        header.set_flow_label(0xfff1_2345);
        assert_eq!(header.version_class_flow.get(), 0x6ab1_2345);
        assert_eq!((header.traffic_class(), header.flow_label()), (0xab, 0x1_2345));
        assert_eq!((header.src_addr(), header.dst_addr()), (src, dst));

        let mut packet = header.as_bytes().to_vec();
        packet.extend_from_slice(&[1, 2, 3, 0, 0]);
        assert_eq!(Ipv6Header::parse(&packet).unwrap().1, [1, 2, 3]);
        packet.truncate(42);
        assert!(Ipv6Header::parse(&packet).is_none());
        packet[0] = 0x40;
        assert!(Ipv6Header::parse(&packet).is_none());
    }

    #[test]
    fn destination_options_before_udp() {
        // One 8-byte destination options header (PadN), then UDP to port 9002.
        let packet = [17, 0, 1, 4, 0, 0, 0, 0, 0x12, 0x34, 0x23, 0x2a, 0, 8, 0, 0];
        let t = walk_extensions(60, &packet).unwrap();
        assert_eq!((t.protocol, t.payload, t.fragment), (17, &packet[8..], None));
    }

    #[test]
    fn every_kind_in_a_row() {
        let mut packet = Vec::new();
        packet.extend_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0]); // hop-by-hop
        packet.extend_from_slice(&[51, 1]); // destination options, 16 bytes
        packet.extend_from_slice(&[0; 14]);
        packet.extend_from_slice(&[43, 4]); // AH, (4 + 2) * 4 = 24 bytes
        packet.extend_from_slice(&[0; 22]);
        packet.extend_from_slice(&[44, 2]); // routing, 24 bytes
        packet.extend_from_slice(&[0; 22]);
        packet.extend_from_slice(&[135, 0, 0, 0, 9, 9, 9, 9]); // atomic fragment
        packet.extend_from_slice(&[59, 0, 0, 0, 0, 0, 0, 0]); // mobility
        let t = walk_extensions(0, &packet).unwrap();
        assert_eq!((t.protocol, t.payload.len()), (59, 0));
        for len in 0..packet.len() {
            assert_eq!(walk_extensions(0, &packet[..len]), Err(ExtensionError::Truncated));
        }
    }

    #[test]
    fn fragment_is_reported() {
        let packet = [17, 0, 0x05, 0xa9, 0, 0, 0, 7, 1, 2, 3];
        let t = walk_extensions(44, &packet).unwrap();
        let fragment = t.fragment.unwrap();
        assert_eq!((t.protocol, t.payload), (17, &[1u8, 2, 3][..]));
        assert_eq!((fragment.offset(), fragment.more_fragments()), (0x5a8, true));
        assert_eq!(fragment.id.get(), 7);
    }

    #[test]
    fn esp_ends_the_walk() {
        let t = walk_extensions(50, &[1, 2, 3]).unwrap();
        assert_eq!((t.protocol, t.payload), (50, &[1u8, 2, 3][..]));
    }
}

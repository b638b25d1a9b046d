//! IPv4 (RFC 791): the 20-byte header, options as opaque bytes.

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;

/// Length in bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// The "don't fragment" bit of [`Ipv4Header::frag`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The "more fragments" bit of [`Ipv4Header::frag`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of [`Ipv4Header::frag`] that hold the offset, in units of 8 bytes.
pub const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of an IPv4 header.
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
pub struct Ipv4Header {
    /// Version (4) in the high half, header length in 32-bit words in the low half.
    pub version_ihl: u8,
    /// DSCP (six bits) and ECN (two bits).
    pub tos: u8,
    /// Length in bytes of header, options and payload.
    pub total_len: U16,
    /// Identification, equal in all fragments of a datagram.
    pub id: U16,
    /// Flags (three bits) and fragment offset.
    pub frag: U16,
    /// Time to live.
    pub ttl: u8,
    /// What follows (see [`crate::protocol`]).
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == HEADER_LEN);

impl Ipv4Header {
    /// A header without options: "don't fragment" set, identification 0, `payload_len` bytes to
    /// follow. The checksum is computed. A payload that does not fit a datagram (more than 65515
    /// bytes) is a caller's error and saturates the length.
    #[must_use]
    pub fn new(protocol: u8, ttl: u8, src: Ipv4Addr, dst: Ipv4Addr, payload_len: u16) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            total_len: U16::new(payload_len.saturating_add(20)),
            frag: U16::new(DONT_FRAGMENT),
            ttl,
            protocol,
            src: src.octets(),
            dst: dst.octets(),
            ..Self::default()
        };
        header.checksum.set(header.compute_checksum());
        header
    }

    /// The header, its options (possibly malformed) and the payload, cut to the total length:
    /// padding of the frame is not part of it. `None` if the version is not 4, the header length
    /// below 20, or anything longer than what is there. The checksum is not verified.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<(&Self, &[u8], &[u8])> {
        let (header, _) = Self::ref_from_prefix(packet).ok()?;
        let header_len = header.header_len();
        if header.version_ihl >> 4 != 4 || header_len < HEADER_LEN {
            return None;
        }
        let packet = packet.get(..usize::from(header.total_len.get()))?;
        let options = packet.get(HEADER_LEN..header_len)?;
        let payload = packet.get(header_len..)?;
        Some((header, options, payload))
    }

    /// Source address.
    #[must_use]
    pub const fn src_addr(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.src;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    #[must_use]
    pub const fn dst_addr(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.dst;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Length of header and options in bytes, as the header says (0 to 60).
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.version_ihl & 0x0f) as usize * 4
    }

    /// Whether this is a piece of a datagram: more to come, or not the first.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.frag.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Whether fragments with a higher offset exist.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.frag.get() & MORE_FRAGMENTS != 0
    }

    /// Whether routers may not fragment this datagram.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.frag.get() & DONT_FRAGMENT != 0
    }

    /// Where the payload belongs in the datagram's payload, in **bytes** (0 to 65528).
    #[must_use]
    pub fn frag_offset(&self) -> usize {
        usize::from(self.frag.get() & OFFSET_MASK) * 8
    }

    /// What the checksum field must hold for a header without options; the field's present value
    /// does not matter.
    #[must_use]
    pub fn compute_checksum(&self) -> u16 {
        self.compute_checksum_with(&[])
    }

    /// What the checksum field must hold for this header with these options (a multiple of 4 bytes).
    #[must_use]
    pub fn compute_checksum_with(&self, options: &[u8]) -> u16 {
        let present = u64::from(!self.checksum.get());
        // Adding the complement of the present value takes it out of a one's complement sum.
        !checksum::fold(checksum::sum(self.as_bytes()) + checksum::sum(options) + present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_has_a_right_checksum() {
        let src = Ipv4Addr::new(192, 0, 2, 1);
        let dst = Ipv4Addr::new(198, 51, 100, 7);
        let header = Ipv4Header::new(17, 255, src, dst, 12);
        assert_eq!(checksum::fold(checksum::sum(header.as_bytes())), 0xffff);
        assert_eq!(header.compute_checksum(), header.checksum.get());
        assert_eq!((header.src_addr(), header.dst_addr()), (src, dst));
        assert!(header.dont_fragment() && !header.is_fragment());
    }

    #[test]
    fn known_checksum() {
        // The worked example of many textbooks: the checksum is b861.
        let bytes = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        let header = Ipv4Header::read_from_bytes(&bytes).unwrap();
        assert_eq!(header.compute_checksum(), 0xb861);
    }

    #[test]
    fn options_padding_and_fragments() {
        let mut packet = vec![0x46, 0, 0, 26, 0, 0, 0x20, 0x02, 64, 17, 0, 0];
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0, 7, 8]);
        packet.extend_from_slice(&[0; 20]);
        let (header, options, payload) = Ipv4Header::parse(&packet).unwrap();
        assert_eq!(options, [1, 1, 1, 0]);
        assert_eq!(payload, [7, 8]);
        assert!(header.is_fragment() && header.more_fragments());
        assert_eq!(header.frag_offset(), 16);
        for len in 0..26 {
            assert!(Ipv4Header::parse(&packet[..len]).is_none(), "{len}");
        }
        packet[0] = 0x44;
        assert!(Ipv4Header::parse(&packet).is_none());
        packet[0] = 0x66;
        assert!(Ipv4Header::parse(&packet).is_none());
    }
}

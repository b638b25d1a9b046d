//! UDP (RFC 768): the 8-byte header.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of [`UdpHeader`] in bytes.
pub const HEADER_LEN: usize = 8;
/// Where the checksum is, in bytes from the start of the header (`csum_offset` of a virtio header).
pub const CHECKSUM_OFFSET: u16 = 6;

/// A UDP header.
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
pub struct UdpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Length in bytes of header and payload.
    pub len: U16,
    /// Checksum over pseudo header, header and payload; 0 means none (IPv4 only).
    pub checksum: U16,
}

const _: () = assert!(size_of::<UdpHeader>() == HEADER_LEN);

impl UdpHeader {
    /// A header for `payload_len` bytes, checksum 0. More than 65527 bytes saturate the length.
    #[must_use]
    pub const fn new(src_port: u16, dst_port: u16, payload_len: u16) -> Self {
        Self {
            src_port: U16::new(src_port),
            dst_port: U16::new(dst_port),
            len: U16::new(payload_len.saturating_add(8)),
            checksum: U16::new(0),
        }
    }

    /// The header and the payload, cut to the length field. `None` if that is below 8 or more than
    /// what is there. The checksum is not verified.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<(&Self, &[u8])> {
        let (header, _) = Self::ref_from_prefix(datagram).ok()?;
        let payload = datagram.get(HEADER_LEN..usize::from(header.len.get()))?;
        Some((header, payload))
    }

    /// As [`UdpHeader::parse`], but every byte that follows is payload, whatever the length field
    /// says: for super-datagrams of segmentation offload.
    #[must_use]
    pub fn parse_unsized(datagram: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(datagram).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_field_rules() {
        let mut bytes = [0x1f, 0x90, 0, 53, 0, 10, 0, 0, 7, 8, 9];
        let (header, payload) = UdpHeader::parse(&bytes).unwrap();
        assert_eq!((header.src_port.get(), header.dst_port.get()), (8080, 53));
        assert_eq!(payload, [7, 8]);
        assert_eq!(UdpHeader::parse_unsized(&bytes).unwrap().1, [7, 8, 9]);
        for (len, ok) in [(0u8, false), (7, false), (8, true), (11, true), (12, false)] {
            bytes[5] = len;
            assert_eq!(UdpHeader::parse(&bytes).is_some(), ok, "{len}");
        }
        assert!(UdpHeader::parse(&bytes[..7]).is_none());
    }
}

//! TCP (RFC 9293): the 20-byte header.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length in bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where the checksum is, in bytes from the start of the header (`csum_offset` of a virtio header).
pub const CHECKSUM_OFFSET: u16 = 16;

/// The eight control bits of a TCP header.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// No bit at all.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of either; usable in constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for TcpFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for TcpFlags {
    /// One letter per bit set, as in `[SA]`, highest sequence of habit first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (flag, letter) in [
            (Self::SYN, "S"),
            (Self::FIN, "F"),
            (Self::RST, "R"),
            (Self::PSH, "P"),
            (Self::ACK, "A"),
            (Self::URG, "U"),
            (Self::ECE, "E"),
            (Self::CWR, "W"),
        ] {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        f.write_str("]")
    }
}

/// The fixed part of a TCP header.
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
pub struct TcpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Sequence number of the first byte (or of the SYN).
    pub seq: U32,
    /// The next sequence number expected.
    pub ack: U32,
    /// Header length in 32-bit words in the high half; the low half is reserved.
    pub data_off: u8,
    /// Control bits.
    pub flags: TcpFlags,
    /// Receive window, not scaled.
    pub window: U16,
    /// Checksum over pseudo header, header, options and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

const _: () = assert!(size_of::<TcpHeader>() == HEADER_LEN);

impl TcpHeader {
    /// The header, its options (possibly malformed) and the payload. `None` if the data offset is
    /// below 20 bytes or beyond the segment. The checksum is not verified.
    #[must_use]
    pub fn parse(segment: &[u8]) -> Option<(&Self, &[u8], &[u8])> {
        let (header, rest) = Self::ref_from_prefix(segment).ok()?;
        let options_len = header.header_len().checked_sub(HEADER_LEN)?;
        let (options, payload) = rest.split_at_checked(options_len)?;
        Some((header, options, payload))
    }

    /// Length of header and options in bytes, as the header says (0 to 60).
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.data_off >> 4) as usize * 4
    }

    /// Sets the data offset for a header followed by `options_len` bytes of options (a multiple of
    /// 4, at most 40; anything else is a caller's error and is rounded down or capped).
    pub fn set_options_len(&mut self, options_len: usize) {
        const WORDS: [u8; 11] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        self.data_off = WORDS.get(options_len / 4).map_or(15, |&words| words) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_and_bounds() {
        let mut header = TcpHeader {
            src_port: U16::new(80),
            dst_port: U16::new(40000),
            seq: U32::new(0x0102_0304),
            flags: TcpFlags::SYN | TcpFlags::ACK,
            ..TcpHeader::default()
        };
        header.set_options_len(4);
        let mut segment = header.as_bytes().to_vec();
        segment.extend_from_slice(&[2, 4, 5, 0xb4, 42]);
        let (view, options, payload) = TcpHeader::parse(&segment).unwrap();
        assert_eq!(view, &header);
        assert_eq!((options, payload), (&[2u8, 4, 5, 0xb4][..], &[42u8][..]));
        for len in 0..24 {
            assert!(TcpHeader::parse(&segment[..len]).is_none());
        }
        segment[12] = 0x40;
        assert!(TcpHeader::parse(&segment).is_none());
        segment[12] = 0xf0;
        assert!(TcpHeader::parse(&segment).is_none());
    }

    #[test]
    fn options_len_never_wraps() {
        let mut header = TcpHeader::default();
        for (len, words) in [(0, 5), (12, 8), (40, 15), (44, 15), (1000, 15)] {
            header.set_options_len(len);
            assert_eq!(header.data_off >> 4, words);
        }
    }

    #[test]
    fn flags() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        assert!(flags.contains(TcpFlags::SYN) && flags.intersects(TcpFlags::ACK | TcpFlags::FIN));
        assert!(!flags.contains(TcpFlags::SYN | TcpFlags::FIN));
        assert_eq!(flags.without(TcpFlags::SYN), TcpFlags::ACK);
        assert_eq!(format!("{flags:?}"), "[SA]");
    }
}

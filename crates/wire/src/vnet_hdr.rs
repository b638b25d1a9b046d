//! `struct virtio_net_hdr` as a Linux tap with `IFF_VNET_HDR` reads and writes it in front of every
//! frame: 10 bytes, 16-bit fields in the machine's byte order (unless `TUNSETVNETLE`/`BE` was used).

use zerocopy::native_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of [`VnetHdr`] in bytes (the kernel's default of `TUNSETVNETHDRSZ`).
pub const HEADER_LEN: usize = 10;

/// [`VnetHdr::flags`]: the receiver must complete the checksum (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
pub const NEEDS_CSUM: u8 = 1;
/// [`VnetHdr::flags`]: the checksum was checked (`VIRTIO_NET_HDR_F_DATA_VALID`).
pub const DATA_VALID: u8 = 2;

/// [`VnetHdr::gso_type`]: an ordinary frame.
pub const GSO_NONE: u8 = 0;
/// [`VnetHdr::gso_type`]: TCP over IPv4 to be cut into segments.
pub const GSO_TCPV4: u8 = 1;
/// [`VnetHdr::gso_type`]: UDP to be fragmented at the IP layer (obsolete, `UFO`).
pub const GSO_UDP: u8 = 3;
/// [`VnetHdr::gso_type`]: TCP over IPv6 to be cut into segments.
pub const GSO_TCPV6: u8 = 4;
/// [`VnetHdr::gso_type`]: UDP to be cut into datagrams (`USO`).
pub const GSO_UDP_L4: u8 = 5;
/// [`VnetHdr::gso_type`]: this bit says that the TCP segment has CWR set.
pub const GSO_ECN: u8 = 0x80;

/// What a sender leaves to the receiver of a frame: checksum and segmentation.
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
pub struct VnetHdr {
    /// [`NEEDS_CSUM`] and [`DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` constants, possibly with [`GSO_ECN`].
    pub gso_type: u8,
    /// Length in bytes of all headers of a frame to be cut, Ethernet included. A hint.
    pub hdr_len: U16,
    /// Payload bytes per segment.
    pub gso_size: U16,
    /// Where checksumming starts, in bytes from the start of the frame.
    pub csum_start: U16,
    /// Where the checksum goes, in bytes from `csum_start`.
    pub csum_offset: U16,
}

const _: () = assert!(size_of::<VnetHdr>() == HEADER_LEN);

impl VnetHdr {
    /// An ordinary frame with complete checksums.
    pub const PLAIN: Self = Self {
        flags: 0,
        gso_type: GSO_NONE,
        hdr_len: U16::ZERO,
        gso_size: U16::ZERO,
        csum_start: U16::ZERO,
        csum_offset: U16::ZERO,
    };

    /// A frame whose checksum is completed by the receiver: from `start`, into `start + offset`.
    #[must_use]
    pub const fn with_checksum(start: u16, offset: u16) -> Self {
        Self {
            flags: NEEDS_CSUM,
            csum_start: U16::new(start),
            csum_offset: U16::new(offset),
            ..Self::PLAIN
        }
    }

    /// The `GSO_` constant without the ECN bit.
    #[must_use]
    pub const fn gso_kind(&self) -> u8 {
        self.gso_type & !GSO_ECN
    }

    /// The header and the frame behind it; `None` if shorter than 10 bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let mut header = VnetHdr::with_checksum(34, 16);
        header.gso_type = GSO_TCPV4 | GSO_ECN;
        header.gso_size.set(1448);
        let mut expected = vec![1, 0x81, 0, 0];
        for word in [1448u16, 34, 16] {
            expected.extend_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(header.as_bytes(), expected);
        assert_eq!(header.gso_kind(), GSO_TCPV4);
        assert_eq!(VnetHdr::parse(&expected).unwrap().0, &header);
        assert!(VnetHdr::parse(&expected[..9]).is_none());
    }
}

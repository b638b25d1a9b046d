//! Headers of the classic pcap capture format, in the byte order of this machine, microseconds.

use core::time::Duration;

use zerocopy::{Immutable, IntoBytes};

/// The longest frame a record may hold, in bytes.
pub const SNAP_LEN: u32 = 65535;

/// The first 24 bytes of a capture file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct FileHeader {
    magic: u32,
    version_major: u16,
    version_minor: u16,
    zone: i32,
    sigfigs: u32,
    snap_len: u32,
    link_type: u32,
}

const _: () = assert!(size_of::<FileHeader>() == 24);

impl FileHeader {
    /// Ethernet frames, version 2.4, microseconds.
    pub const ETHERNET: Self = Self {
        magic: 0xa1b2_c3d4,
        version_major: 2,
        version_minor: 4,
        zone: 0,
        sigfigs: 0,
        snap_len: SNAP_LEN,
        link_type: 1,
    };
}

/// The 16 bytes before each captured frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct RecordHeader {
    seconds: u32,
    microseconds: u32,
    captured_len: u32,
    original_len: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == 16);

impl RecordHeader {
    /// The header of a frame of `original_len` bytes seen at `since_epoch`, of which the first
    /// `captured_len` follow.
    ///
    /// Nanoseconds are cut, not rounded: a fraction never becomes 1 000 000 microseconds. Seconds
    /// wrap in 2106, as the format does.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the format has 32 bits of seconds")]
    pub const fn new(since_epoch: Duration, captured_len: u32, original_len: u32) -> Self {
        Self {
            seconds: since_epoch.as_secs() as u32,
            microseconds: since_epoch.subsec_micros(),
            captured_len,
            original_len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_a_million_microseconds() {
        let header = RecordHeader::new(Duration::new(5, 999_999_999), 60, 60);
        assert_eq!((header.seconds, header.microseconds), (5, 999_999));
        assert_eq!(header.as_bytes().len(), 16);
        assert_eq!(FileHeader::ETHERNET.as_bytes()[..4], 0xa1b2_c3d4u32.to_ne_bytes());
    }
}

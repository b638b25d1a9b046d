//! Frames on a byte stream, as QEMU's stream and socket network back-ends carry them: a length in four
//! bytes, most significant first, then as many bytes of Ethernet frame.

use core::ops::Range;

use crate::ethernet;

/// Bytes in front of each frame.
pub const PREFIX_LEN: usize = 4;
/// The longest frame in bytes.
pub const MAX_FRAME_LEN: usize = 65_535;

/// What stands at the beginning of a piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame, in these bytes; the next length follows it.
    Frame(Range<usize>),
    /// Not all of a length, or of a frame: this many bytes are missing at least.
    More(usize),
    /// A length that no frame has. Nothing behind it can be made sense of.
    BadLength(u32),
}

/// Looks for a frame at the beginning of `bytes`.
#[must_use]
pub fn next(bytes: &[u8]) -> Next {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return Next::More(PREFIX_LEN - bytes.len());
    };
    let length = u32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(len) if (ethernet::HEADER_LEN..=MAX_FRAME_LEN).contains(&len) => {
            match len.checked_sub(rest.len()) {
                Some(missing) if missing > 0 => Next::More(missing),
                _ => Next::Frame(PREFIX_LEN..PREFIX_LEN + len),
            }
        }
        _ => Next::BadLength(length),
    }
}

/// What goes in front of a frame of `len` bytes. `None` if no frame has that length.
#[must_use]
pub fn prefix(len: usize) -> Option<[u8; PREFIX_LEN]> {
    let fits = (ethernet::HEADER_LEN..=MAX_FRAME_LEN).contains(&len);
    u32::try_from(len).ok().filter(|_| fits).map(u32::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_their_lengths() {
        let mut bytes = vec![0, 0, 0, 14];
        bytes.extend([7; 14]);
        bytes.extend([0, 1]);
        assert_eq!(next(&bytes), Next::Frame(4..18));
        assert_eq!(next(&bytes[18..]), Next::More(2));
        assert_eq!(next(&bytes[..17]), Next::More(1));
        assert_eq!(next(&[]), Next::More(4));
        assert_eq!(prefix(14), Some([0, 0, 0, 14]));
        assert_eq!(prefix(65_535), Some([0, 0, 255, 255]));
    }

    #[test]
    fn lengths_that_no_frame_has() {
        for length in [0, 13, 65_536, u32::MAX] {
            assert_eq!(next(&length.to_be_bytes()), Next::BadLength(length));
            assert_eq!(prefix(length as usize), None);
        }
    }
}

//! From the bytes of the stream to frames.

use wire::stream::{self, Next};

/// Bytes that can be received at once, always: as much as a stream socket holds by default.
const RECEIVE: usize = 256 << 10;

/// A length that no frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad frame size {0}")]
pub struct BadLength(pub u32);

/// Where in a buffer there are bytes that have not been taken as frames yet.
///
/// The buffer is an argument, always the same one, so that frames can be looked at while the link they
/// came by sends others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inbound {
    start: usize,
    end: usize,
}

impl Inbound {
    /// A buffer in which there is always room for [`RECEIVE`] bytes behind the beginning of a frame.
    #[must_use]
    pub fn buffer() -> Box<[u8]> {
        vec![0; 2 * RECEIVE].into_boxed_slice()
    }

    /// Where to receive more: behind the beginning of a frame, if there is one. To be asked for when no
    /// whole frame is left.
    ///
    /// That beginning is moved to the front each time: it costs less than receiving into memory that the
    /// processor has not seen lately.
    pub fn room<'a>(&mut self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// This many bytes were received there.
    pub fn received(&mut self, len: usize) {
        self.end += len;
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// A length that no frame has: there is no telling where the next frame begins.
    pub fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<Option<&'a [u8]>, BadLength> {
        let Some(bytes) = buffer.get(self.start..self.end) else { return Ok(None) };
        match stream::next(bytes) {
            Next::Frame(at) => {
                self.start += at.end;
                Ok(bytes.get(at))
            }
            Next::More(_) => Ok(None),
            Next::BadLength(length) => Err(BadLength(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream_of(frames: &[Vec<u8>]) -> Vec<u8> {
        let with_prefix =
            |frame: &Vec<u8>| [&stream::prefix(frame.len()).unwrap(), &frame[..]].concat();
        frames.iter().flat_map(with_prefix).collect()
    }

    /// What comes out if the stream arrives in pieces.
    fn frames(bytes: &[u8], mut piece: impl FnMut() -> usize) -> Result<Vec<Vec<u8>>, BadLength> {
        let mut buffer = Inbound::buffer();
        let mut inbound = Inbound::default();
        let (mut rest, mut out) = (bytes, Vec::new());
        while !rest.is_empty() {
            let room = inbound.room(&mut buffer);
            assert!(room.len() >= RECEIVE);
            let len = piece().clamp(1, room.len()).min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            inbound.received(len);
            rest = &rest[len..];
            while let Some(frame) = inbound.next(&buffer)? {
                out.push(frame.to_vec());
            }
        }
        Ok(out)
    }

    #[test]
    fn any_pieces_make_the_same_frames() {
        let lengths = [14, 60, 1514, 65_535, 15, 9014, 65_535, 65_535, 14, 70, 65_534, 14];
        let wanted: Vec<Vec<u8>> =
            (1u8..).zip(lengths).map(|(fill, len)| vec![fill; len]).collect();
        let bytes = stream_of(&wanted);
        for piece in [1, 2, 3, 5, 17, 1000, 4096, 65_535, 65_539, 70_000, usize::MAX] {
            assert_eq!(frames(&bytes, || piece).unwrap(), wanted, "in pieces of {piece}");
        }
        let mut state = 1usize;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            1 << (state >> 47 & 15)
        };
        for _ in 0..20 {
            assert_eq!(frames(&bytes, &mut random).unwrap(), wanted);
        }
    }

    #[test]
    fn nothing_follows_a_bad_length() {
        let mut bytes = stream_of(&[vec![1; 60]]);
        bytes.extend([0, 0, 0, 13]);
        bytes.extend([9; 100]);
        assert_eq!(frames(&bytes, || 1), Err(BadLength(13)));
        assert_eq!(frames(&bytes, || 1000), Err(BadLength(13)));
        assert_eq!(frames(&[255; 4], || 4), Err(BadLength(u32::MAX)));
    }
}

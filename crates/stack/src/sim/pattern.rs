//! Bytes that know where they belong.

use std::sync::LazyLock;

use super::rng::Rng;

/// A prime just below 64 KiB: a shift by a segment, a buffer or a power of two never fits.
const PERIOD: usize = 65_521;

static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::new(0x7061_7474_6572_6e73);
    (0..PERIOD).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
});

/// The stream of one direction of one flow: the byte at each position is known from the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    phase: u64,
}

impl Pattern {
    /// The stream number `n`.
    pub fn new(n: u64) -> Self {
        Self { phase: Rng::new(n).below(PERIOD as u64) }
    }

    /// Fills `buf` with the bytes from `position` on.
    pub fn fill(self, position: u64, mut buf: &mut [u8]) {
        let mut at = self.index(position);
        while !buf.is_empty() {
            let piece = &TABLE[at..PERIOD.min(at + buf.len())];
            let (head, rest) = buf.split_at_mut(piece.len());
            head.copy_from_slice(piece);
            buf = rest;
            at = 0;
        }
    }

    /// The position of the first byte of `buf` that is not what belongs at `position` and behind.
    pub fn mismatch(self, position: u64, mut buf: &[u8]) -> Option<u64> {
        let mut at = self.index(position);
        let mut done = 0;
        while !buf.is_empty() {
            let piece = &TABLE[at..PERIOD.min(at + buf.len())];
            let (head, rest) = buf.split_at(piece.len());
            if head != piece {
                let wrong = head.iter().zip(piece).position(|(a, b)| a != b).unwrap_or(0);
                return Some(position + done + wrong as u64);
            }
            done += head.len() as u64;
            buf = rest;
            at = 0;
        }
        None
    }

    fn index(self, position: u64) -> usize {
        ((self.phase + position) % PERIOD as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let pattern = Pattern::new(3);
        let mut buf = vec![0; 200_000];
        pattern.fill(5, &mut buf);
        assert_eq!(pattern.mismatch(5, &buf), None);
        assert_eq!(pattern.mismatch(70_005, &buf[70_000..]), None);
        buf[150_000] ^= 1;
        assert_eq!(pattern.mismatch(5, &buf), Some(150_005));
        for shift in [1, 536, 1448, 1460, 4096, 65_536] {
            let mut other = vec![0; 64];
            pattern.fill(5 + shift, &mut other);
            assert!(pattern.mismatch(5, &other).is_some(), "{shift}");
        }
    }
}

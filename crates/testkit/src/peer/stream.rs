//! The test stream: the same bytes for everybody who counts from the same start, no period that
//! a lost segment could hide in, and fast enough to be no bottleneck.

use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes moved per call.
pub(super) const CHUNK: usize = 128 * 1024;

/// The stream's generator: xorshift64*, eight bytes a step.
#[derive(Debug)]
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Fills `room`, whose length must be a multiple of eight except for the last call.
    pub(super) fn fill(&mut self, room: &mut [u8]) {
        for eight in room.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            eight.copy_from_slice(&word[..eight.len()]);
        }
    }
}

/// A count of bytes and their SHA-256, printed as `COUNT HEX`.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) count: u64,
    hash: Sha256,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { count: 0, hash: Sha256::new() }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.count)?;
        self.hash.clone().finalize().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Count and SHA-256 of the stream's first `size` bytes: what a perfect transfer prints.
pub fn sum(size: u64) -> String {
    let mut sum = Sum::new();
    // Writing to the sum cannot fail.
    let _ = send(size, |bytes| {
        sum.add(bytes);
        Ok(())
    });
    sum.to_string()
}

/// Gives the stream's first `size` bytes to `write`, chunk by chunk.
fn send(size: u64, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut stream = Stream::new();
    let mut chunk = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        stream.fill(&mut chunk[..now]);
        write(&chunk[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// Writes the stream's first `size` bytes.
pub(super) fn write_to(out: &mut impl Write, size: u64) -> io::Result<()> {
    send(size, |bytes| out.write_all(bytes))
}

/// Reads to the end and sums up. On an error, what was read until then comes with it.
pub(super) fn read_from(from: &mut impl Read) -> (Sum, io::Result<()>) {
    let mut sum = Sum::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return (sum, Ok(())),
            Ok(n) => sum.add(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (sum, Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_nothing_is_the_known_one() {
        let empty = "0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sum(0), empty);
    }

    #[test]
    fn writer_and_reader_agree_with_sum() {
        let size = CHUNK as u64 * 2 + 5;
        let mut bytes = Vec::new();
        write_to(&mut bytes, size).unwrap();
        let (read, end) = read_from(&mut bytes.as_slice());
        end.unwrap();
        assert_eq!(read.to_string(), sum(size));
    }
}

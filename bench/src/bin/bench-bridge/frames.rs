//! Frames in a stream: each behind its length, in four bytes of which the most significant comes first.

use anyhow::{Result, ensure};
use std::ops::RangeInclusive;

/// Bytes of the length in front of a frame.
const HEAD: usize = 4;
/// How long a frame may be: its Ethernet header at least, what a tap interface takes at most.
pub(crate) const LENGTHS: RangeInclusive<usize> = 14..=65_535;
/// Room for what one call receives or sends; a frame fits many times.
const ROOM: usize = 1 << 20;

/// Takes bytes in whatever pieces the stream hands them out, and makes frames of them again.
#[derive(Debug)]
pub(crate) struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; ROOM].into(), start: 0, end: 0 }
    }

    /// Where the next bytes of the stream go. Room for a whole frame at least, if all frames were taken.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that `len` bytes were put there.
    pub(crate) fn put(&mut self, len: usize) {
        self.end = (self.end + len).min(self.buffer.len());
    }

    /// The whole frame behind the first `at` bytes, if there is one, and how many bytes there are before the one
    /// behind it.
    ///
    /// # Errors
    /// If the length is none of [`LENGTHS`]: from there on, nothing in the stream makes sense.
    pub(crate) fn frame(&self, at: usize) -> Result<Option<(&[u8], usize)>> {
        let bytes = self.buffer.get(self.start + at..self.end).unwrap_or_default();
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*head))?;
        ensure!(LENGTHS.contains(&len), "the stream announces a frame of {len} bytes");
        Ok(rest.get(..len).map(|frame| (frame, at + HEAD + len)))
    }

    /// Notes that the first `len` bytes are done with.
    pub(crate) fn taken(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// Bytes of a frame that is not whole yet.
    pub(crate) fn left(&self) -> usize {
        self.end - self.start
    }
}

/// Frames that wait to be sent, as the stream wants them: many leave in one call.
#[derive(Debug)]
pub(crate) struct Outgoing {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; ROOM].into(), start: 0, end: 0 }
    }

    /// Where the next frame goes, or nothing if the longest one would not fit.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.end + HEAD;
        self.buffer.get_mut(start..start + LENGTHS.end())
    }

    /// Notes that a frame of `len` bytes was put there.
    pub(crate) fn put(&mut self, len: usize) {
        let start = self.end + HEAD;
        let head = u32::try_from(len).unwrap_or_default().to_be_bytes();
        if let Some(room) = self.buffer.get_mut(self.end..start) {
            room.copy_from_slice(&head);
            self.end = start + len;
        }
    }

    /// What is to be sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Notes that the first `len` bytes of it were sent.
    pub(crate) fn sent(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of which every byte tells which frame it is of, in the form of the stream.
    fn stream(lengths: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let frames: Vec<Vec<u8>> =
            lengths.iter().zip(1u8..).map(|(&len, mark)| vec![mark; len]).collect();
        let mut outgoing = Outgoing::new();
        for frame in &frames {
            outgoing.room().unwrap()[..frame.len()].copy_from_slice(frame);
            outgoing.put(frame.len());
        }
        let bytes = outgoing.waiting().to_vec();
        assert_eq!(bytes.len(), lengths.iter().map(|len| len + HEAD).sum::<usize>());
        (frames, bytes)
    }

    fn feed(incoming: &mut Incoming, bytes: &[u8]) -> Vec<Vec<u8>> {
        incoming.room()[..bytes.len()].copy_from_slice(bytes);
        incoming.put(bytes.len());
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some((frame, next)) = incoming.frame(at).unwrap() {
            frames.push(frame.to_vec());
            at = next;
        }
        incoming.taken(at);
        frames
    }

    #[test]
    fn frames_survive_being_split_anywhere() {
        let (frames, bytes) = stream(&[14, 60, 15, 1514]);
        for at in 0..=bytes.len() {
            let mut incoming = Incoming::new();
            let mut seen = feed(&mut incoming, &bytes[..at]);
            seen.extend(feed(&mut incoming, &bytes[at..]));
            assert_eq!(seen, frames, "split at {at}");
            assert_eq!(incoming.left(), 0);
        }
        for size in [1, 2, 3, 7, 1000] {
            let mut incoming = Incoming::new();
            let pieces = bytes.chunks(size);
            let seen: Vec<_> = pieces.flat_map(|piece| feed(&mut incoming, piece)).collect();
            assert_eq!(seen, frames, "pieces of {size}");
        }
    }

    #[test]
    fn the_longest_frames_fit_again_and_again() {
        let (frames, bytes) = stream(&[65_535; 5]);
        let mut incoming = Incoming::new();
        let mut seen = Vec::new();
        for _ in 0..20 {
            for piece in bytes.chunks(50_001) {
                seen.extend(feed(&mut incoming, piece));
            }
        }
        assert_eq!(seen.len(), 100);
        assert!(seen.chunks(5).all(|five| five == frames));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for (len, wrong) in [(0u32, true), (13, true), (14, false), (65_535, false), (65_536, true)]
            .into_iter()
            .chain([(u32::MAX, true)])
        {
            let mut incoming = Incoming::new();
            incoming.room()[..4].copy_from_slice(&len.to_be_bytes());
            incoming.put(3);
            assert_eq!(incoming.frame(0).unwrap(), None);
            incoming.put(1);
            assert_eq!(incoming.frame(0).is_err(), wrong, "{len}");
        }
    }

    #[test]
    fn what_was_sent_in_part_goes_on_where_it_stopped() {
        let mut outgoing = Outgoing::new();
        for len in [100, 200] {
            assert!(outgoing.room().unwrap().len() >= len);
            outgoing.put(len);
        }
        let all = outgoing.waiting().to_vec();
        outgoing.sent(101);
        assert_eq!(outgoing.waiting(), &all[101..]);
        outgoing.sent(all.len() - 101);
        assert!(outgoing.waiting().is_empty());
        let mut count = 0;
        while outgoing.room().is_some() {
            outgoing.put(65_535);
            count += 1;
        }
        assert_eq!(count, ROOM / (65_535 + HEAD));
    }
}

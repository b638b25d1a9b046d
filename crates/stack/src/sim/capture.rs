//! What passed the link, for Wireshark and the like.

use wire::IntoBytes;
use wire::pcap::{FileHeader, RecordHeader, SNAP_LEN};

use crate::time::Instant;

/// A capture in memory, in pcap format.
#[derive(Clone, Debug)]
pub struct Capture(Vec<u8>);

impl Capture {
    /// An empty capture.
    pub fn new() -> Self {
        Self(FileHeader::ETHERNET.as_bytes().to_vec())
    }

    /// Adds a frame.
    pub fn frame(&mut self, now: Instant, frame: &[u8]) {
        let kept = frame.get(..SNAP_LEN as usize).unwrap_or(frame);
        let time = now.since(Instant::default());
        let header = RecordHeader::new(time, kept.len() as u32, frame.len() as u32);
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(kept);
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

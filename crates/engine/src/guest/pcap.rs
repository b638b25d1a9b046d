//! Frames as they pass the guest's link, in a file (`--pcap`).

use std::fs::File;
use std::io::{IoSlice, Write};
use std::time::Duration;

use wire::IntoBytes;
use wire::checksum;
use wire::pcap::{FileHeader, RecordHeader, SNAP_LEN};

/// A capture file. What cannot be written ends the capture, nothing else.
///
/// Frames are recorded as they are handed over: padded, superframes whole, and with the checksums that
/// a link with offload leaves open filled in.
#[derive(Debug)]
pub struct Capture {
    file: Option<File>,
    time: Duration,
}

impl Capture {
    /// Starts a capture in an empty file.
    pub fn new(file: File) -> Self {
        let mut capture = Self { file: Some(file), time: Duration::ZERO };
        let header = FileHeader::ETHERNET;
        capture.write(&[IoSlice::new(header.as_bytes())]);
        capture
    }

    /// Sets the wall-clock time of the frames to come. Once per wake-up is enough.
    pub fn set_time(&mut self, since_epoch: Duration) {
        self.time = since_epoch;
    }

    /// Records a frame. `checksum` is where an open checksum starts and where from there it goes.
    pub fn record(&mut self, frame: &[u8], checksum: Option<(u16, u16)>) {
        let captured = frame.get(..SNAP_LEN as usize).unwrap_or(frame);
        let completed = checksum.and_then(|(start, offset)| completed(captured, start, offset));
        match &completed {
            Some((before, checksum, after)) => self.put([before, checksum, after], frame.len()),
            None => self.put([captured, &[], &[]], frame.len()),
        }
    }

    /// Records a frame that stands in pieces, at most 65535 bytes in all.
    pub fn record_pieces(&mut self, pieces: [&[u8]; 3]) {
        self.put(pieces, pieces.iter().map(|piece| piece.len()).sum());
    }

    fn put(&mut self, pieces: [&[u8]; 3], len: usize) {
        let captured = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let (Ok(captured), Ok(len)) = (u32::try_from(captured), u32::try_from(len)) else { return };
        let header = RecordHeader::new(self.time, captured, len);
        let [first, second, third] = pieces.map(IoSlice::new);
        self.write(&[IoSlice::new(header.as_bytes()), first, second, third]);
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) {
        /// `ENOSPC`.
        const NO_SPACE: i32 = 28;
        let Some(file) = &mut self.file else { return };
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let problem = match file.write_vectored(slices) {
            Ok(written) if written == wanted => return,
            // Files take all or nearly nothing: the disk is full.
            Ok(_) => std::io::Error::from_raw_os_error(NO_SPACE),
            Err(error) => error,
        };
        log::error!("Packet capture ends: {}", sys::Reason(&problem));
        self.file = None;
    }

    /// Makes sure that what was recorded outlives us.
    pub fn finish(self) {
        if let Some(file) = self.file {
            if let Err(error) = file.sync_all() {
                log::debug!("Packet capture: {error}");
            }
        }
    }
}

/// A frame in three parts, the middle one being its completed checksum.
fn completed(frame: &[u8], start: u16, offset: u16) -> Option<(&[u8], [u8; 2], &[u8])> {
    let start = usize::from(start);
    let at = start + usize::from(offset);
    // The field holds the sum of the pseudo-header until then.
    let sum = !checksum::fold(checksum::sum(frame.get(start..)?));
    let checksum = if sum == 0 { 0xffff } else { sum };
    Some((frame.get(..at)?, checksum.to_be_bytes(), frame.get(at + 2..)?))
}

//! A tap interface in a namespace.

use std::io::{self, IoSlice};
use std::time::Duration;

use stack::io::{FrameMeta, Gso, Guest, HEADROOM, Limits};
use stack::segment;
use sys::tun::{Offload, Tap};
use wire::ethernet::{self, MIN_FRAME_LEN};
use wire::tcp::TcpHeader;
use wire::vnet_hdr::{self, VnetHdr};
use wire::{IntoBytes, udp};

use super::Capture;
use super::trace::Frame;

/// The largest frame in bytes: a capture holds it whole.
const MAX_FRAME: usize = 65_535;
/// Bytes in a buffer for a slot of the largest frame, with room for padding.
const SLOT_LEN: usize = HEADROOM + MAX_FRAME + MIN_FRAME_LEN;
/// Bytes read at once: the largest frame the kernel makes, an Ethernet and a VLAN header and 64 KiB of
/// packet, behind a virtio header.
const READ_LEN: usize = vnet_hdr::HEADER_LEN + 18 + 65_536 + 40;

/// What short frames are filled up with.
const PADDING: [u8; MIN_FRAME_LEN] = [0; MIN_FRAME_LEN];

const EIO: i32 = 5;
const EBADFD: i32 = 77;

/// The link to a guest behind a tap interface.
#[derive(Debug)]
pub struct TapLink {
    tap: Tap,
    limits: Limits,
    slot: Box<[u8]>,
    capture: Option<Capture>,
    failure: Option<io::Error>,
}

/// A frame that was read: where it stands in the buffer, and how it is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameIn {
    start: usize,
    end: usize,
    /// Segment size if it is a superframe.
    pub gso: Gso,
}

impl FrameIn {
    /// The frame in the buffer it was read into.
    pub fn bytes<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.start..self.end).unwrap_or_default()
    }
}

impl TapLink {
    /// A link of the given MTU (bytes of IP packet).
    pub fn new(tap: Tap, mtu: u16, capture: Option<Capture>) -> Self {
        Self {
            tap,
            limits: Limits { mtu, max_packet: MAX_FRAME - ethernet::HEADER_LEN },
            slot: vec![0; SLOT_LEN].into_boxed_slice(),
            capture,
            failure: None,
        }
    }

    /// A buffer for [`read`](Self::read).
    pub fn read_buffer() -> Box<[u8]> {
        vec![0; READ_LEN].into_boxed_slice()
    }

    /// The tap interface.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Sets the wall-clock time of captured frames, if there is a capture.
    pub fn set_capture_time(&mut self, time: impl FnOnce() -> Duration) {
        if let Some(capture) = &mut self.capture {
            capture.set_time(time());
        }
    }

    /// What made the link unusable, if anything did.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Ends the capture, if there is one.
    pub fn finish(self) {
        if let Some(capture) = self.capture {
            capture.finish();
        }
    }

    /// Reads the next frame into `buffer`; `None` if there is none, or if the link failed.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<FrameIn> {
        let end = loop {
            match self.tap.read(buffer) {
                Ok(0) => {
                    self.failure = Some(io::ErrorKind::UnexpectedEof.into());
                    return None;
                }
                Ok(len) => break len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    self.failure = Some(error);
                    return None;
                }
            }
        };
        let bytes = buffer.get(..end)?;
        let (start, header) = if self.tap.offload() == Offload::None {
            (0, VnetHdr::PLAIN)
        } else {
            (vnet_hdr::HEADER_LEN, *VnetHdr::parse(bytes)?.0)
        };
        let size = header.gso_size.get();
        let gso = match header.gso_kind() {
            vnet_hdr::GSO_TCPV4 | vnet_hdr::GSO_TCPV6 => Gso::Tcp(size),
            vnet_hdr::GSO_UDP_L4 => Gso::Udp(size),
            _ => Gso::None,
        };
        log::trace!("from guest: {}", Frame(bytes.get(start..)?));
        if let Some(capture) = &mut self.capture {
            let open = header.flags & vnet_hdr::NEEDS_CSUM != 0;
            let checksum = (header.csum_start.get(), header.csum_offset.get());
            capture.record(bytes.get(start..)?, open.then_some(checksum));
        }
        Some(FrameIn { start, end, gso })
    }

    /// Whether the kernel cuts such frames.
    fn cuts(&self, gso: Gso) -> bool {
        match gso {
            Gso::None => true,
            Gso::Tcp(_) => self.tap.offload() >= Offload::Tcp,
            Gso::Udp(_) => self.tap.offload() >= Offload::Udp,
        }
    }

    /// Sends bytes `start..end` of the slot, at least 60 of them, behind their virtio header.
    fn send_whole(&mut self, start: usize, end: usize, meta: &FrameMeta) -> Option<bool> {
        let frame = self.slot.get_mut(start..end)?;
        let from = if self.tap.offload() == Offload::None {
            segment::complete_checksum(frame, meta, sys::cpu::checksum_sum);
            start
        } else {
            let header = vnet_header(frame, meta);
            let from = start.checked_sub(vnet_hdr::HEADER_LEN)?;
            self.slot.get_mut(from..start)?.copy_from_slice(header.as_bytes());
            from
        };
        let result = self.tap.write(self.slot.get(from..end)?);
        let sent = outcome(result, &mut self.failure);
        if let Some(capture) = self.capture.as_mut().filter(|_| sent) {
            let checksum = meta.csum_start.map(|start| (start, meta.csum_offset));
            let checksum = checksum.filter(|_| from != start);
            capture.record(self.slot.get(start..end)?, checksum);
        }
        Some(sent)
    }

    /// Sends bytes `start..end` of the slot as the segments they are to be cut into.
    fn send_segments(&mut self, start: usize, end: usize, meta: &FrameMeta) -> Option<bool> {
        let Self { tap, slot, capture, failure, .. } = self;
        let plain = VnetHdr::PLAIN;
        let with_header = tap.offload() != Offload::None;
        let mut all = true;
        segment::segments(
            slot.get_mut(start..end)?,
            meta,
            sys::cpu::checksum_sum,
            |headers, data| {
                let virtio = if with_header { plain.as_bytes() } else { &[] };
                let missing = MIN_FRAME_LEN.saturating_sub(headers.len() + data.len());
                let padding = PADDING.get(..missing).unwrap_or_default();
                let slices = [virtio, headers, data, padding].map(IoSlice::new);
                let sent = outcome(tap.write_vectored(&slices), failure);
                if let Some(capture) = capture.as_mut().filter(|_| sent) {
                    capture.record_pieces([headers, data, padding]);
                }
                all &= sent;
            },
        );
        Some(all)
    }
}

impl Guest for TapLink {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        // Room for padding stays behind the slot.
        let len = HEADROOM.checked_add(room).filter(|len| *len <= SLOT_LEN - MIN_FRAME_LEN)?;
        self.slot.get_mut(..len)
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        log::trace!("to guest: {}", Frame(self.slot.get(start..end).unwrap_or_default()));
        let sent = if self.cuts(meta.gso) {
            let padded = end.max(start.saturating_add(MIN_FRAME_LEN));
            match self.slot.get_mut(end..padded) {
                Some(padding) => padding.fill(0),
                None => return false,
            }
            self.send_whole(start, padded, &meta)
        } else {
            self.send_segments(start, end, &meta)
        };
        sent.unwrap_or(false)
    }

    fn flush(&mut self) {}
}

/// The virtio header of a frame to be sent.
fn vnet_header(frame: &[u8], meta: &FrameMeta) -> VnetHdr {
    let Some(start) = meta.csum_start else { return VnetHdr::PLAIN };
    let mut header = VnetHdr::with_checksum(start, meta.csum_offset);
    let transport = frame.get(usize::from(start)..).unwrap_or_default();
    let (kind, size, transport_len) = match meta.gso {
        Gso::None => return header,
        Gso::Tcp(size) => {
            let len = TcpHeader::parse(transport).map_or(0, |(header, ..)| header.header_len());
            let v4 = matches!(frame.get(12..14), Some([0x08, 0x00]));
            (if v4 { vnet_hdr::GSO_TCPV4 } else { vnet_hdr::GSO_TCPV6 }, size, len)
        }
        Gso::Udp(size) => (vnet_hdr::GSO_UDP_L4, size, udp::HEADER_LEN),
    };
    header.gso_type = kind;
    header.gso_size.set(size);
    header.hdr_len.set(start.saturating_add(u16::try_from(transport_len).unwrap_or(0)));
    header
}

/// Whether a frame was taken. The link lives on unless the interface is gone.
fn outcome(result: io::Result<usize>, failure: &mut Option<io::Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            match error.raw_os_error() {
                // The interface is down.
                Some(EIO) => {}
                Some(EBADFD) => *failure = Some(error),
                _ => log::debug!("tap: {error}"),
            }
            false
        }
    }
}

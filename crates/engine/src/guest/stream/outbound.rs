//! Frames on their way into the stream: several in one system call, and none of them torn.

use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;

use stack::io::{FrameMeta, Gso, HEADROOM};
use stack::segment;
use wire::ethernet::MIN_FRAME_LEN;
use wire::stream::{self, MAX_FRAME_LEN, PREFIX_LEN};

use crate::guest::Capture;
use crate::guest::trace::Frame;

/// Bytes in the buffer for a slot of the largest frame, with room for padding.
const SLOT_LEN: usize = HEADROOM + MAX_FRAME_LEN + MIN_FRAME_LEN;
/// Slots start at multiples of this, and so do their payloads: the length of a cache line.
const ALIGN: usize = 64;
/// Frames of this many bytes in all are handed over, while they are still in the processor's cache: a few
/// of the largest. With each alone, the other end would be woken, and we interrupted, more often.
const ENOUGH: usize = 250_000;
/// Pieces in one system call.
const SLICES: usize = 400;
/// Pieces up to which it is not worth preparing for more.
const FEW: usize = 16;
/// Pieces after which it is time for one. One frame of the stack can add a few thousand.
const ENOUGH_PIECES: usize = 2 * SLICES;

/// Bytes that go out next: of the slots, or of the headers of segments.
#[derive(Clone, Debug)]
enum Piece {
    Slots(Range<usize>),
    Headers(Range<usize>),
}

impl Piece {
    fn range_mut(&mut self) -> &mut Range<usize> {
        match self {
            Self::Slots(range) | Self::Headers(range) => range,
        }
    }
}

/// Frames that were sent and have not been taken yet.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Slots, one behind the other: whole frames with their prefix, or payload of segments.
    slots: Box<[u8]>,
    used: usize,
    /// Prefixes and headers of segments.
    headers: Vec<u8>,
    pieces: Vec<Piece>,
    /// Of these, so many are gone.
    taken: usize,
    /// Bytes in the pieces.
    queued: usize,
    /// The stream takes no more for now.
    blocked: bool,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; 5 * SLOT_LEN].into_boxed_slice(),
            used: 0,
            headers: Vec::with_capacity(SLOT_LEN),
            pieces: Vec::with_capacity(2 * ENOUGH_PIECES),
            taken: 0,
            queued: 0,
            blocked: false,
        }
    }

    /// Forgets everything: the stream is another one now.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.headers.clear();
        self.pieces.clear();
        self.taken = 0;
        self.queued = 0;
        self.blocked = false;
    }

    /// Whether the stream has refused something that waits here.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether something waits to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// See [`stack::io::Guest::slot`].
    pub(super) fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        let len = HEADROOM.checked_add(room).filter(|len| *len <= SLOT_LEN - MIN_FRAME_LEN)?;
        self.slots.get_mut(self.used..self.used + len)
    }

    /// See [`stack::io::Guest::send`]. `true`: there is enough to be handed over.
    pub(super) fn send(
        &mut self,
        (start, end): (usize, usize),
        meta: &FrameMeta,
        capture: Option<&mut Capture>,
    ) -> Option<bool> {
        let (start, end) = (self.used.checked_add(start)?, self.used.checked_add(end)?);
        log::trace!("to guest: {}", Frame(self.slots.get(start..end)?));
        let end = match meta.gso {
            Gso::None => self.send_whole(start, end, meta, capture)?,
            Gso::Tcp(_) | Gso::Udp(_) => self.send_segments(start, end, meta, capture)?,
        };
        self.used = end.next_multiple_of(ALIGN);
        Some(
            self.queued >= ENOUGH
                || self.pieces.len() >= ENOUGH_PIECES
                || self.slots.len().saturating_sub(self.used) < SLOT_LEN,
        )
    }

    fn send_whole(
        &mut self,
        start: usize,
        end: usize,
        meta: &FrameMeta,
        capture: Option<&mut Capture>,
    ) -> Option<usize> {
        let padded = end.max(start + MIN_FRAME_LEN);
        self.slots.get_mut(end..padded)?.fill(0);
        segment::complete_checksum(self.slots.get_mut(start..end)?, meta, sys::cpu::checksum_sum);
        if let Some(capture) = capture {
            capture.record(self.slots.get(start..padded)?, None);
        }
        let prefixed = start.checked_sub(PREFIX_LEN)?;
        let prefix = stream::prefix(padded - start)?;
        self.slots.get_mut(prefixed..start)?.copy_from_slice(&prefix);
        self.push(Piece::Slots(prefixed..padded));
        Some(padded)
    }

    fn send_segments(
        &mut self,
        start: usize,
        end: usize,
        meta: &FrameMeta,
        mut capture: Option<&mut Capture>,
    ) -> Option<usize> {
        let Self { slots, headers, pieces, queued, .. } = self;
        let frame = slots.get_mut(start..end)?;
        let mut at = None;
        let len = frame.len();
        segment::segments(frame, meta, sys::cpu::checksum_sum, |head, data| {
            // The first payload begins where the headers end.
            let from = at.unwrap_or(start + head.len());
            at = Some(from + data.len());
            let missing = MIN_FRAME_LEN.saturating_sub(head.len() + data.len());
            let padding = [0; MIN_FRAME_LEN];
            let padding = padding.get(..missing).unwrap_or_default();
            let Some(prefix) = stream::prefix(head.len() + data.len() + missing) else { return };
            let begin = headers.len();
            headers.extend_from_slice(&prefix);
            headers.extend_from_slice(head);
            if missing > 0 {
                headers.extend_from_slice(data);
                headers.extend_from_slice(padding);
            }
            pieces.push(Piece::Headers(begin..headers.len()));
            if missing == 0 && !data.is_empty() {
                pieces.push(Piece::Slots(from..from + data.len()));
            }
            *queued += PREFIX_LEN + head.len() + data.len() + missing;
            if let Some(capture) = &mut capture {
                capture.record_pieces([head, data, padding]);
            }
        });
        at.map(|_| start + len)
    }

    fn push(&mut self, mut piece: Piece) {
        self.queued += piece.range_mut().len();
        self.pieces.push(piece);
    }

    /// Hands over as much as `send` takes; `send` is given slices and says how many bytes it took.
    pub(super) fn flush(
        &mut self,
        mut send: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(rest) = self.pieces.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let (result, wanted) = if rest.len() <= FEW {
                self.gather::<FEW>(rest, &mut send)
            } else {
                self.gather::<SLICES>(rest, &mut send)
            };
            match result {
                Ok(sent) => {
                    self.consume(sent);
                    if sent < wanted {
                        self.blocked = true;
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }

    /// Offers up to `N` pieces to `send`. Returns what that said, and how many bytes there were.
    fn gather<const N: usize>(
        &self,
        pieces: &[Piece],
        send: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> (io::Result<usize>, usize) {
        let mut slices = [IoSlice::new(&[]); N];
        let mut wanted = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            let bytes = match piece {
                Piece::Slots(range) => self.slots.get(range.clone()),
                Piece::Headers(range) => self.headers.get(range.clone()),
            };
            let bytes = bytes.unwrap_or_default();
            wanted += bytes.len();
            *slice = IoSlice::new(bytes);
        }
        (send(slices.get(..pieces.len().min(N)).unwrap_or_default()), wanted)
    }

    /// So many bytes are gone.
    fn consume(&mut self, mut len: usize) {
        while let Some(piece) = self.pieces.get_mut(self.taken) {
            let range = piece.range_mut();
            if len < range.len() {
                range.start += len;
                return;
            }
            len -= range.len();
            self.taken += 1;
        }
    }
}

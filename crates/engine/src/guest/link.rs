//! The kind of link a worker has.

use std::io;
use std::time::Duration;

use stack::io::{FrameMeta, Guest, Limits};

use super::{FrameIn, TapLink};

/// A link to the guest, or none.
#[derive(Debug)]
pub enum GuestLink {
    /// By a tap interface.
    Tap(Box<TapLink>),
    /// Traffic is between sockets only.
    None,
}

impl GuestLink {
    /// Sets the wall-clock time of captured frames, if there is a capture.
    pub(crate) fn set_capture_time(&mut self, time: impl FnOnce() -> Duration) {
        if let Self::Tap(tap) = self {
            tap.set_capture_time(time);
        }
    }

    /// What made the link unusable, if anything did.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        match self {
            Self::Tap(tap) => tap.failure(),
            Self::None => None,
        }
    }

    /// Reads the next frame into `buffer`; `None` if there is none, or if the link failed.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<FrameIn> {
        match self {
            Self::Tap(tap) => tap.read(buffer),
            Self::None => None,
        }
    }

    /// Ends the capture, if there is one.
    pub(crate) fn finish(self) {
        if let Self::Tap(tap) = self {
            tap.finish();
        }
    }
}

impl Guest for GuestLink {
    fn limits(&self) -> Limits {
        match self {
            Self::Tap(tap) => tap.limits(),
            Self::None => Limits { mtu: 0, max_packet: 0 },
        }
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        match self {
            Self::Tap(tap) => tap.slot(room),
            Self::None => None,
        }
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        match self {
            Self::Tap(tap) => tap.send(start, end, meta),
            Self::None => false,
        }
    }

    fn flush(&mut self) {
        match self {
            Self::Tap(tap) => tap.flush(),
            Self::None => {}
        }
    }
}

//! The kind of link a worker has.

use std::io;
use std::time::Duration;

use stack::io::{FrameMeta, Guest, Limits};
use sys::epoll::{Epoll, Interest};
use sys::tun::Tap;

use super::{Capture, Hypervisor, StreamLink, TapLink};
use crate::token::Token;

/// Where the guest is.
#[derive(Debug)]
pub enum Attachment {
    /// Behind a tap interface.
    Tap(Tap),
    /// Behind a hypervisor's stream socket.
    Stream(Hypervisor),
    /// Nowhere: traffic is between sockets only.
    None,
}

/// A link to the guest, or none.
#[derive(Debug)]
pub enum GuestLink {
    /// By a tap interface.
    Tap(Box<TapLink>),
    /// By a hypervisor's stream socket.
    Stream(Box<StreamLink>),
    /// Traffic is between sockets only.
    None,
}

impl GuestLink {
    /// A link of the given MTU (bytes of IP packet), watched by `epoll`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, and of making a descriptor.
    pub(crate) fn new(
        attachment: Attachment,
        mtu: u16,
        capture: Option<Capture>,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        Ok(match attachment {
            Attachment::Tap(tap) => {
                epoll.add(&tap, Token::Tap.to_cookie(), Interest::Read)?;
                Self::Tap(Box::new(TapLink::new(tap, mtu, capture)))
            }
            Attachment::Stream(hypervisor) => {
                Self::Stream(Box::new(StreamLink::new(hypervisor, mtu, capture, epoll)?))
            }
            Attachment::None => Self::None,
        })
    }

    /// A buffer for what the guest sends.
    pub(crate) fn read_buffer(&self) -> Box<[u8]> {
        match self {
            Self::Tap(_) => TapLink::read_buffer(),
            Self::Stream(_) => StreamLink::read_buffer(),
            Self::None => Box::default(),
        }
    }

    /// Whether the guest can be talked to already.
    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::Tap(_) | Self::None => true,
            Self::Stream(stream) => stream.is_connected(),
        }
    }

    /// Sets the wall-clock time of captured frames, if there is a capture.
    pub(crate) fn set_capture_time(&mut self, time: impl FnOnce() -> Duration) {
        match self {
            Self::Tap(tap) => tap.set_capture_time(time),
            Self::Stream(stream) => stream.set_capture_time(time),
            Self::None => {}
        }
    }

    /// Ends the capture, if there is one.
    pub(crate) fn finish(self) {
        match self {
            Self::Tap(tap) => tap.finish(),
            Self::Stream(stream) => stream.finish(),
            Self::None => {}
        }
    }
}

impl Guest for GuestLink {
    fn limits(&self) -> Limits {
        match self {
            Self::Tap(tap) => tap.limits(),
            Self::Stream(stream) => stream.limits(),
            Self::None => Limits { mtu: 0, max_packet: 0 },
        }
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        match self {
            Self::Tap(tap) => tap.slot(room),
            Self::Stream(stream) => stream.slot(room),
            Self::None => None,
        }
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        match self {
            Self::Tap(tap) => tap.send(start, end, meta),
            Self::Stream(stream) => stream.send(start, end, meta),
            Self::None => false,
        }
    }

    fn flush(&mut self) {
        match self {
            Self::Tap(tap) => tap.flush(),
            Self::Stream(stream) => stream.flush(),
            Self::None => {}
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Tap(tap) => tap.is_full(),
            Self::Stream(stream) => stream.is_full(),
            Self::None => false,
        }
    }
}

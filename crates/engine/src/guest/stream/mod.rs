//! A hypervisor at a UNIX domain stream socket, one at a time.

mod inbound;
mod outbound;

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use stack::io::{FrameMeta, Guest, Limits};
use sys::epoll::{Epoll, Interest};
use sys::fd::Spare;
use sys::unix;
use wire::ethernet;
use wire::stream::MAX_FRAME_LEN;

pub use self::inbound::{BadLength, Inbound};
use self::outbound::Outbound;
use super::Capture;
use super::trace::Frame;
use crate::token::Token;

/// The longest IP packet in bytes.
#[expect(clippy::cast_possible_truncation, reason = "lengths of frames have 16 bits")]
const MAX_PACKET: u16 = (MAX_FRAME_LEN - ethernet::HEADER_LEN) as u16;

/// Where the hypervisor comes from.
#[derive(Debug)]
pub enum Hypervisor {
    /// It connects to this socket; when it leaves, the next one may. `one_off`: there is no next one.
    Listener {
        /// The listening socket, which does not block.
        socket: UnixListener,
        /// The first one is the last one, too.
        one_off: bool,
    },
    /// It is at the other end of this socket.
    Connected(UnixStream),
}

/// The link to a guest whose hypervisor is at the other end of a stream socket.
///
/// What was sent is never lost and never reordered: what the socket does not take is kept, and until that is
/// gone the link takes nothing ([`Guest::is_full`]). A hypervisor that does not read at all leaves it at that.
#[derive(Debug)]
pub struct StreamLink {
    listener: Option<UnixListener>,
    one_off: bool,
    client: Option<UnixStream>,
    /// For the one client that there may be, whatever the number of flows.
    spare: Spare,
    /// Whether we are told when the socket takes more.
    watched_for_room: bool,
    inbound: Inbound,
    outbound: Outbound,
    limits: Limits,
    capture: Option<Capture>,
}

impl StreamLink {
    /// A link of the given MTU (bytes of IP packet), watched by `epoll`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, and of making a descriptor.
    pub(crate) fn new(
        hypervisor: Hypervisor,
        mtu: u16,
        capture: Option<Capture>,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let (listener, client, one_off) = match hypervisor {
            Hypervisor::Listener { socket, one_off } => (Some(socket), None, one_off),
            Hypervisor::Connected(client) => (None, Some(client), true),
        };
        if let Some(listener) = &listener {
            epoll.add(listener, Token::StreamListener.to_cookie(), Interest::Edges)?;
        }
        let mut link = Self {
            listener,
            one_off,
            client: None,
            spare: Spare::new()?,
            watched_for_room: false,
            inbound: Inbound::default(),
            outbound: Outbound::new(),
            limits: Limits { mtu: mtu.min(MAX_PACKET), max_packet: MAX_PACKET.into() },
            capture,
        };
        if let Some(client) = client {
            link.serve(client, epoll)?;
        }
        Ok(link)
    }

    /// A buffer for [`receive`](Self::receive).
    pub(crate) fn read_buffer() -> Box<[u8]> {
        Inbound::buffer()
    }

    /// Whether a hypervisor is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// Whether the end of the hypervisor is ours.
    pub(crate) fn is_one_off(&self) -> bool {
        self.one_off
    }

    /// Sets the wall-clock time of captured frames, if there is a capture.
    pub(crate) fn set_capture_time(&mut self, time: impl FnOnce() -> Duration) {
        if let Some(capture) = &mut self.capture {
            capture.set_time(time());
        }
    }

    /// Ends the capture, if there is one.
    pub(crate) fn finish(self) {
        if let Some(capture) = self.capture {
            capture.finish();
        }
    }

    /// Whether there is a hypervisor that sends no more, although it may have left something to be received.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.client.as_ref().is_some_and(unix::has_hung_up)
    }

    /// The next one who wants to connect.
    pub(crate) fn accept(&mut self) -> Option<UnixStream> {
        let listener = self.listener.as_ref()?;
        self.spare.release();
        let client = loop {
            match listener.accept() {
                Ok((client, _)) => break Some(client),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        log::warn!("Couldn't accept connection: {}", sys::reason(&error));
                    }
                    break None;
                }
            }
        };
        self.spare.regain();
        client
    }

    /// Serves who wants to connect, or sends it away if there is a hypervisor. `true`: it is the hypervisor now.
    pub(crate) fn admit(&mut self, client: UnixStream, epoll: &Epoll) -> bool {
        let pid = unix::peer_pid(&client);
        if self.client.is_some() {
            log::info!("discarding connection from PID {pid}");
            return false;
        }
        log::info!("accepted connection from PID {pid}");
        let served = self.serve(client, epoll);
        if let Err(error) = &served {
            log::warn!("Couldn't watch connection: {}", sys::reason(error));
        }
        served.is_ok()
    }

    /// Asks to be told once more of those who want to connect.
    pub(crate) fn ask_again(&self, epoll: &Epoll) {
        let Some(listener) = &self.listener else { return };
        let again = epoll.modify(listener, Token::StreamListener.to_cookie(), Interest::Edges);
        if let Err(error) = again {
            log::error!("epoll: {error}");
        }
    }

    fn serve(&mut self, client: UnixStream, epoll: &Epoll) -> io::Result<()> {
        unix::enlarge_send_buffer(&client);
        epoll.add(&client, Token::Stream.to_cookie(), Interest::Read)?;
        self.watched_for_room = false;
        self.client = Some(client);
        Ok(())
    }

    /// The hypervisor has gone, or is sent away. Nothing of what passed is left for the next one.
    pub(crate) fn disconnect(&mut self) {
        let last = if self.one_off { ", exiting" } else { "" };
        log::info!("Client connection closed{last}");
        self.client = None;
        self.inbound = Inbound::default();
        self.outbound.clear();
        self.spare.regain();
    }

    /// Receives what there is, once. `false`: the hypervisor has gone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        let Some(client) = &self.client else { return true };
        loop {
            match unix::receive(client, self.inbound.room(buffer)) {
                Ok(0) => return false,
                Ok(len) => {
                    self.inbound.received(len);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // It went with something unread on its side.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => {
                    log::error!("Receive error on guest connection: {}", sys::reason(&error));
                    return false;
                }
            }
        }
    }

    /// The next frame of what was received.
    ///
    /// # Errors
    /// A length that no frame has: the hypervisor is to be sent away.
    pub(crate) fn next_frame<'a>(
        &mut self,
        buffer: &'a [u8],
    ) -> Result<Option<&'a [u8]>, BadLength> {
        let frame = self.inbound.next(buffer)?;
        if let Some(frame) = frame {
            log::trace!("from guest: {}", Frame(frame));
        }
        if let Some((frame, capture)) = frame.zip(self.capture.as_mut()) {
            capture.record(frame, None);
        }
        Ok(frame)
    }

    /// Asks to be told when the socket takes more, if that is worth knowing.
    pub(crate) fn watch_for_room(&mut self, epoll: &Epoll) {
        let wanted = self.outbound.is_blocked();
        let Some(client) = self.client.as_ref().filter(|_| wanted != self.watched_for_room) else {
            return;
        };
        let interest = if wanted { Interest::ReadWrite } else { Interest::Read };
        match epoll.modify(client, Token::Stream.to_cookie(), interest) {
            Ok(()) => self.watched_for_room = wanted,
            Err(error) => log::error!("epoll: {error}"),
        }
    }

    /// Hands over what waits. `true`: the link took nothing before, and does now.
    pub(crate) fn drain(&mut self) -> bool {
        let was_full = self.is_full();
        self.hand_over();
        was_full && !self.is_full()
    }

    fn hand_over(&mut self) {
        let Some(client) = &self.client else { return };
        if self.outbound.is_empty() {
            return;
        }
        if let Err(error) = self.outbound.flush(|slices| unix::send(client, slices)) {
            // A frame may be torn, so nothing can follow. With both directions closed, the next receive
            // says that the other end is gone, which it is in most cases.
            log::debug!("guest connection: {error}");
            self.outbound.clear();
            if let Err(error) = client.shutdown(Shutdown::Both) {
                log::debug!("guest connection: {error}");
            }
        }
    }
}

impl Guest for StreamLink {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        if self.is_full() { None } else { self.outbound.slot(room) }
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        match self.outbound.send((start, end), &meta, self.capture.as_mut()) {
            Some(enough) => {
                if enough {
                    self.hand_over();
                }
                true
            }
            None => false,
        }
    }

    fn flush(&mut self) {
        if !self.outbound.is_blocked() {
            self.hand_over();
        }
    }

    fn is_full(&self) -> bool {
        self.client.is_none() || self.outbound.is_blocked()
    }
}

//! Loopback traffic: two sockets joined, one of the host and one in the guest's namespace.

mod pipes;
mod relay;
mod way;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use stack::flow::{Slab, Slot};
use stack::io::Readiness;
use sys::epoll::{Epoll, Interest};
use sys::socket::{Stream, Unbound};

use self::pipes::Pipes;
use self::way::{COPIED, End, Way};
use crate::token::{Side, Token};

pub(crate) use relay::{Key, MAX_BURST, Relays};

/// A TCP connection, spliced.
#[derive(Debug)]
struct Connection {
    /// The accepted socket, and the one that connects.
    ends: [End; 2],
    /// From the first end to the second, and back.
    ways: [Way; 2],
    connected: bool,
    /// Waits in [`Connections::pending`].
    pending: bool,
}

/// All spliced TCP connections.
#[derive(Debug)]
pub(crate) struct Connections {
    table: Slab<Connection>,
    pipes: Pipes,
    /// Those that gave up their turn with work left.
    pending: VecDeque<Slot>,
    buffer: Box<[u8]>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            table: Slab::default(),
            pipes: Pipes::default(),
            pending: VecDeque::new(),
            buffer: vec![0; COPIED].into_boxed_slice(),
        }
    }
}

impl Connections {
    /// Joins an accepted connection with one from `socket` to `to`. If that cannot be, the accepted one is
    /// reset.
    pub(crate) fn open(
        &mut self,
        epoll: &Epoll,
        accepted: Stream,
        socket: io::Result<Unbound>,
        to: SocketAddr,
    ) {
        let connecting = match socket.and_then(|socket| Stream::connect(socket, to)) {
            Ok(connecting) => connecting,
            Err(error) => return refuse(&accepted, to, &error),
        };
        let opened = self.table.try_insert_with(|slot| {
            let watch = |socket: &Stream, side| {
                epoll.add(socket, Token::Spliced(slot, side).to_cookie(), Interest::Edges)
            };
            let watched = watch(&accepted, Side::Near).and_then(|()| watch(&connecting, Side::Far));
            if let Err(error) = watched {
                refuse(&accepted, to, &error);
                return Err(error);
            }
            Ok(Connection {
                ends: [End::new(accepted), End::new(connecting)],
                ways: [Way::NEW, Way::NEW],
                connected: false,
                pending: false,
            })
        });
        debug_assert!(opened.is_some(), "there are fewer descriptors than places");
    }

    /// Readiness of one of the sockets.
    pub(crate) fn on_event(&mut self, epoll: &Epoll, slot: Slot, side: Side, ready: Readiness) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let Some(end) = connection.ends.get_mut(side.index()) else { return };
        end.readable |= ready.readable || ready.read_closed || ready.hang_up;
        end.writable |= ready.writable;
        end.urgent |= ready.urgent;
        end.closing |= ready.read_closed || ready.hang_up;
        if ready.error {
            log::debug!("spliced connection: {:?}", end.socket.take_error());
            self.reset(slot);
            return;
        }
        if side == Side::Far && !connection.connected {
            if !ready.writable {
                // The kernel looks at one thing after the other: the end of the stream may be seen by a look
                // that began before the connection was there. Room to write is reported then, too.
                if ready.hang_up {
                    self.reset(slot);
                }
                return;
            }
            connection.connected = true;
        }
        self.pump(epoll, slot);
    }

    /// Lets those go on that had more to do.
    pub(crate) fn resume(&mut self, epoll: &Epoll) {
        for _ in 0..self.pending.len() {
            let Some(slot) = self.pending.pop_front() else { return };
            if let Some(connection) = self.table.get_mut(slot) {
                connection.pending = false;
                self.pump(epoll, slot);
            }
        }
    }

    /// Whether [`resume`](Self::resume) has something to do.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn pump(&mut self, epoll: &Epoll, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot).filter(|open| open.connected) else {
            return;
        };
        let Connection { ends: [near, far], ways: [there, back], .. } = connection;
        let (pipes, buffer) = (&mut self.pipes, &mut self.buffer);
        let result = there.pump(near, far, pipes, buffer, back.shut).and_then(|more| {
            let last = there.shut;
            let more = more | back.pump(far, near, pipes, buffer, last)?;
            watch(epoll, slot, Side::Near, near, there)?;
            watch(epoll, slot, Side::Far, far, back)?;
            Ok(more)
        });
        match result {
            // The kernel sees to what was written last.
            Ok(_) if there.shut && back.shut => drop(self.table.remove(slot)),
            Ok(true) => {
                if !std::mem::replace(&mut connection.pending, true) {
                    self.pending.push_back(slot);
                }
            }
            Ok(false) => {}
            Err(error) => {
                log::debug!("spliced connection: {error}");
                self.reset(slot);
            }
        }
    }

    /// Ends a connection so that both sides see it broken.
    fn reset(&mut self, slot: Slot) {
        if let Some(Connection { ends, .. }) = self.table.remove(slot) {
            for end in ends {
                end.socket.reset_on_close();
            }
        }
    }
}

/// Sees to it that room to write on `end` is reported where somebody may wait for it, and not while only
/// much comes from there, on the way `from` it.
fn watch(epoll: &Epoll, slot: Slot, side: Side, end: &mut End, from: &Way) -> io::Result<()> {
    // Who has blocked will do it again; who blocks now waits for that report.
    end.blocks = (end.blocks && from.is_bulk()) || !end.writable;
    let wanted = !from.is_bulk() || end.blocks;
    if wanted == end.reports_room {
        return Ok(());
    }
    end.reports_room = wanted;
    let interest = if wanted { Interest::Edges } else { Interest::EdgesIn };
    epoll.modify(&end.socket, Token::Spliced(slot, side).to_cookie(), interest)
}

/// Resets an accepted connection that leads nowhere.
fn refuse(accepted: &Stream, to: SocketAddr, error: &io::Error) {
    log::debug!("spliced connection to {to} refused: {error}");
    accepted.reset_on_close();
}

#[cfg(test)]
mod tests;

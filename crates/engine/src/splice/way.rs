//! One direction of a spliced TCP connection.

use std::io::{self, ErrorKind};

use sys::pipe::Pipe;
use sys::socket::Stream;

use super::pipes::Pipes;

/// Bytes moved at a time by copying, which costs less than a pipe for small exchanges.
pub(super) const COPIED: usize = 16 << 10;
/// A pipe that gets less than this at a time is not worth it.
const WORTH_A_PIPE: usize = 4 << 10;
/// Bytes moved per event before others get their turn.
const TURN: usize = 2 << 20;

/// A socket and what is known of its readiness.
#[derive(Debug)]
pub(super) struct End {
    pub(super) socket: Stream,
    /// A read may bring something.
    pub(super) readable: bool,
    /// A write may take something.
    pub(super) writable: bool,
    /// The other end has sent FIN: reads go on until they bring it.
    pub(super) closing: bool,
    /// It has sent urgent data, at which a read stops once: a short read does not mean that all was read.
    pub(super) urgent: bool,
    /// It takes nothing now, or did so since the last time that small pieces came from here.
    pub(super) blocks: bool,
    /// What is reported about it includes room to write.
    pub(super) reports_room: bool,
}

impl End {
    pub(super) fn new(socket: Stream) -> Self {
        Self {
            socket,
            readable: false,
            writable: true,
            closing: false,
            urgent: false,
            blocks: false,
            reports_room: true,
        }
    }
}

/// What was read and could not be written yet.
#[derive(Debug)]
enum Held {
    Nothing,
    /// So many bytes in a pipe.
    Pipe(Pipe, usize),
    /// So many bytes at the end of these.
    Bytes(Box<[u8]>, usize),
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Way {
    held: Held,
    /// The last read filled its buffer: the next one uses a pipe.
    bulk: bool,
    /// The last write announced more: the kernel may hold back a part of it.
    announced: bool,
    /// The reading side has seen the end of the stream.
    ended: bool,
    /// And the writing side has passed it on.
    pub(super) shut: bool,
}

impl Way {
    pub(super) const NEW: Self =
        Self { held: Held::Nothing, bulk: false, announced: false, ended: false, shut: false };

    /// Whether much is coming.
    pub(super) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Moves bytes `from` one socket `to` the other for as long as both do their part. `true`: there may
    /// be more, and it is somebody else's turn. If this is the `last` way that is open, the sockets will be
    /// closed at its end, which ends the stream, too.
    ///
    /// # Errors
    /// Those of the sockets, after which the connection is broken.
    pub(super) fn pump(
        &mut self,
        from: &mut End,
        to: &mut End,
        pipes: &mut Pipes,
        buffer: &mut [u8],
        last: bool,
    ) -> io::Result<bool> {
        let mut moved = 0;
        while moved < TURN {
            if !self.write_held(to, pipes)? {
                return Ok(false);
            }
            if self.ended {
                if !self.shut {
                    self.shut = true;
                    if !last {
                        to.socket.shutdown_write()?;
                    }
                }
                return Ok(false);
            }
            if !from.readable || !to.writable {
                return Ok(false);
            }
            let read = if self.bulk {
                self.read_to_pipe(from, pipes, buffer)
            } else {
                self.copy(from, to, buffer)
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(len) => moved += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    from.readable = false;
                    if std::mem::take(&mut self.announced) {
                        to.socket.push()?;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads into `buffer` and writes that at once; what is not taken is held.
    fn copy(&mut self, from: &mut End, to: &mut End, buffer: &mut [u8]) -> io::Result<usize> {
        let len = from.socket.recv(buffer)?;
        let data = buffer.get(..len).unwrap_or_default();
        self.bulk = len == COPIED;
        // A short read has emptied the queue: there will be an event for what comes next. Only the end of
        // the stream may have been announced already.
        from.readable = len == COPIED || from.closing || from.urgent;
        if len == 0 {
            return Ok(0);
        }
        let sent = match to.socket.send(data) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < len {
            to.writable = false;
            self.held = Held::Bytes(data.get(sent..).unwrap_or_default().into(), len - sent);
        }
        Ok(len)
    }

    /// Lets the kernel move what is there into a pipe, from where it will be written.
    fn read_to_pipe(
        &mut self,
        from: &mut End,
        pipes: &mut Pipes,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let Ok(pipe) = pipes.take() else {
            // No descriptors: without a pipe, then.
            let len = from.socket.recv(buffer)?;
            if len > 0 {
                self.held = Held::Bytes(buffer.get(..len).unwrap_or_default().into(), len);
            }
            return Ok(len);
        };
        match pipe.fill(&from.socket, pipe.capacity()) {
            Ok(len) if len > 0 => {
                self.bulk = len >= WORTH_A_PIPE;
                self.held = Held::Pipe(pipe, len);
                Ok(len)
            }
            other => {
                pipes.give(pipe);
                other
            }
        }
    }

    /// Writes what is held; `false` if some is left.
    fn write_held(&mut self, to: &mut End, pipes: &mut Pipes) -> io::Result<bool> {
        while to.writable {
            let (written, left) = match &mut self.held {
                Held::Nothing => return Ok(true),
                Held::Pipe(pipe, left) => {
                    // Filled to the brim, it is not the last one: segments need not end with it.
                    self.announced = *left >= pipe.capacity();
                    (pipe.drain(&to.socket, *left, self.announced), left)
                }
                Held::Bytes(bytes, left) => {
                    let rest = bytes.get(bytes.len() - *left..).unwrap_or_default();
                    (to.socket.send(rest), left)
                }
            };
            match written {
                Ok(len) => *left = left.saturating_sub(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => to.writable = false,
                Err(error) => return Err(error),
            }
            if *left == 0 {
                if let Held::Pipe(pipe, _) = std::mem::replace(&mut self.held, Held::Nothing) {
                    pipes.give(pipe);
                }
            }
        }
        Ok(matches!(self.held, Held::Nothing))
    }
}

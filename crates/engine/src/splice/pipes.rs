//! Pipes for bytes between two sockets, kept for the next ones who need one.

use std::io;

use sys::pipe::Pipe;

/// Capacity of a pipe in bytes: the most that a user may ask for by default (`fs.pipe-max-size`).
const SIZE: usize = 1024 << 10;
/// Pipes kept while nobody needs them.
const KEPT: usize = 32;

/// Empty pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
}

impl Pipes {
    /// An empty pipe.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(super) fn take(&mut self) -> io::Result<Pipe> {
        self.free.pop().map_or_else(|| Pipe::new(SIZE), Ok)
    }

    /// Whether no pipe was ever given back.
    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.free.is_empty()
    }

    /// Gives back a pipe, which must be empty.
    pub(super) fn give(&mut self, pipe: Pipe) {
        if self.free.len() < KEPT {
            self.free.push(pipe);
        }
    }
}

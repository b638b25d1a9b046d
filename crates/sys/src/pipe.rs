//! Pipes through which bytes go from one socket to another without being copied (`splice(2)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe of our own, both of whose ends never block.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// A pipe of `size` bytes, or of less where a user may not have as much
    /// (`/proc/sys/fs/pipe-user-pages-soft`).
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new(size: usize) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let capacity = match fcntl_setpipe_size(&write, size) {
            Ok(capacity) => capacity,
            Err(_) => fcntl_getpipe_size(&write)?,
        };
        Ok(Self { read, write, capacity })
    }

    /// How many bytes fit in at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves up to `len` bytes of a socket's receive queue into the pipe; 0 at the end of the stream.
    ///
    /// # Errors
    /// Would-block if there is nothing, or no room; those of the socket.
    pub fn fill(&self, from: impl AsFd, len: usize) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        retry(|| splice(from.as_fd(), None, &self.write, None, len, flags))
    }

    /// Moves up to `len` bytes from the pipe to a socket. `more` says that more will follow soon.
    ///
    /// # Errors
    /// Would-block if the socket takes none; those of the socket.
    pub fn drain(&self, to: impl AsFd, len: usize, more: bool) -> io::Result<usize> {
        let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        flags.set(SpliceFlags::MORE, more);
        retry(|| splice(&self.read, None, to.as_fd(), None, len, flags))
    }
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_pass() {
        let pipe = Pipe::new(256 << 10).unwrap();
        assert!(pipe.capacity() >= 4096);
        let (mut a, b) = UnixStream::pair().unwrap();
        let (c, mut d) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        assert_eq!(pipe.fill(&b, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        a.write_all(b"hello").unwrap();
        assert_eq!(pipe.fill(&b, 100).unwrap(), 5);
        assert_eq!(pipe.drain(&c, 5, false).unwrap(), 5);
        let mut text = [0; 5];
        d.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        drop(a);
        assert_eq!(pipe.fill(&b, 100).unwrap(), 0, "the end");
    }
}

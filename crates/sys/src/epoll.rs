//! `epoll(7)`: readiness of many descriptors at once.
//!
//! Descriptors are added once: sockets edge-triggered for everything, the others level-triggered for
//! reading. A descriptor leaves when its last copy is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

/// What to report about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable, as long as it is (`EPOLLIN | EPOLLRDHUP`).
    Read,
    /// Readable or writable, as long as it is (`EPOLLIN | EPOLLOUT | EPOLLRDHUP`).
    ReadWrite,
    /// Every change to readable, urgent, writable or closed
    /// (`EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET`).
    Edges,
    /// As [`Interest::Edges`], but not that it became writable. To the kernel, every report is about all
    /// that is ready: a socket that can be written to all the time would be reported, for what has been read
    /// long since.
    EdgesIn,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let edges = EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET;
        match self {
            Self::Read => EventFlags::IN | EventFlags::RDHUP,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP,
            Self::Edges => edges | EventFlags::OUT,
            Self::EdgesIn => edges,
        }
    }
}

/// One report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The number given to [`Epoll::add`].
    pub cookie: u64,
    /// `EPOLLIN`.
    pub readable: bool,
    /// `EPOLLOUT`.
    pub writable: bool,
    /// `EPOLLRDHUP`: the other end will send nothing more.
    pub read_closed: bool,
    /// `EPOLLHUP`.
    pub hang_up: bool,
    /// `EPOLLERR`.
    pub error: bool,
    /// `EPOLLPRI`: urgent data on the way, at which a read stops once.
    pub urgent: bool,
}

/// Reports taken by one [`Epoll::wait`].
pub struct Events {
    buffer: Vec<epoll::Event>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Events {
    /// Room for `capacity` reports at a time.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity) }
    }

    /// Number of reports.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Report number `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Event> {
        self.buffer.get(index).map(|event| {
            // The struct is packed: copy the fields out before looking at them.
            let (flags, data) = (event.flags, event.data);
            Event {
                cookie: data.u64(),
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                read_closed: flags.contains(EventFlags::RDHUP),
                hang_up: flags.contains(EventFlags::HUP),
                error: flags.contains(EventFlags::ERR),
                urgent: flags.contains(EventFlags::PRI),
            }
        })
    }

    /// All reports.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Makes one. To be called after the last fork: signalfds report to the process that added them.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Starts reporting about `fd` as `cookie`.
    ///
    /// # Errors
    /// `ENOSPC` at the limit of watches per user, `ENOMEM`, `EPERM` for what cannot be watched.
    pub fn add(&self, fd: impl AsFd, cookie: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(cookie), interest.flags())?)
    }

    /// Changes what is reported about `fd`. What is ready is reported again.
    ///
    /// # Errors
    /// `ENOENT` if it was not added.
    pub fn modify(&self, fd: impl AsFd, cookie: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(cookie), interest.flags())?)
    }

    /// Waits until there is something to report or `timeout` has passed (rounded up to whole
    /// milliseconds; `None` waits for ever). A signal ends the wait without reports.
    ///
    /// # Errors
    /// None that a correct program can cause.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.buffer.clear();
        let timeout = timeout.map(whole_millis);
        match epoll::wait(
            &self.0,
            rustix::buffer::spare_capacity(&mut events.buffer),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Rounded up, so that a wait never ends before its time, and at most a day, so that it fits into the
/// 32 bits of milliseconds of `epoll_wait`.
fn whole_millis(timeout: Duration) -> Timespec {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(86_400_000);
    let millis = i64::try_from(millis).unwrap_or(86_400_000);
    Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn edges_are_reported_once_and_levels_again() {
        let epoll = Epoll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (mut ours, edge) = UnixStream::pair().unwrap();
        let (mut other, level) = UnixStream::pair().unwrap();
        epoll.add(&edge, u64::MAX - 1, Interest::Edges).unwrap();
        epoll.add(&level, 7, Interest::Read).unwrap();
        ours.write_all(b"x").unwrap();
        other.write_all(b"x").unwrap();
        for expected in [vec![7, u64::MAX - 1], vec![7], vec![7]] {
            epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            let mut seen: Vec<_> =
                events.iter().filter(|event| event.readable).map(|event| event.cookie).collect();
            seen.sort_unstable();
            assert_eq!(seen, expected);
        }
        (&level).read_exact(&mut [0]).unwrap();
        drop(other);
        epoll.wait(&mut events, None).unwrap();
        let event = events.get(0).unwrap();
        assert!(event.read_closed && event.hang_up && event.cookie == 7, "{event:?}");
        drop(level);
        epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "a closed descriptor leaves by itself: {events:?}");
    }

    #[test]
    fn a_timeout_never_ends_early() {
        let epoll = Epoll::new().unwrap();
        let start = Instant::now();
        let timeout = Duration::from_micros(3_300);
        epoll.wait(&mut Events::with_capacity(1), Some(timeout)).unwrap();
        assert!(start.elapsed() >= timeout);
        assert_eq!(whole_millis(Duration::MAX).tv_sec, 86_400);
        assert_eq!(whole_millis(Duration::from_nanos(1)).tv_nsec, 1_000_000);
    }
}

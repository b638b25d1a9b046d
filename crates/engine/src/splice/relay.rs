//! Spliced UDP: datagrams between a socket of the host and one in the guest's namespace, in bursts.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stack::Settings;
use stack::flow::{Secret, Slab, Slot, TimerWheel};
use stack::io::Readiness;
use stack::rule::Pif;
use stack::time::Instant;
use sys::epoll::{Epoll, Interest};
use sys::socket::{Burst, UdpSocket};

use crate::token::{Side, Token};

/// Bursts per event before others get their turn.
const TURN: usize = 64;
/// Bytes of the largest burst.
pub(crate) const MAX_BURST: usize = 65_535;
/// Errors taken from one socket per event.
const ERRORS: usize = 64;
/// TTL of datagrams whose own is not known; they do not leave the machine.
const TTL: u8 = 64;

/// Who began a flow, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Where.
    pub(crate) pif: Pif,
    /// The sender of the first datagram.
    pub(crate) source: SocketAddr,
    /// The address and port to which it was sent.
    pub(crate) destination: (Option<IpAddr>, u16),
}

#[derive(Debug)]
struct Relay {
    key: Key,
    /// The socket towards the sender of the first datagram, and the one towards its destination.
    ends: [UdpSocket; 2],
    last: Instant,
    /// Bursts that came from either end; two are as good as many.
    seen: [u8; 2],
    /// Which ends wait in [`Relays::pending`].
    pending: [bool; 2],
}

/// All spliced UDP flows.
#[derive(Debug)]
pub(crate) struct Relays {
    table: Slab<Relay>,
    by_key: HashMap<Key, Slot, Secret>,
    timers: TimerWheel<Slot>,
    pending: VecDeque<(Slot, Side)>,
    timeout: Duration,
    stream_timeout: Duration,
}

impl Relays {
    pub(crate) fn new(secret: Secret, settings: &Settings, now: Instant) -> Self {
        Self {
            table: Slab::default(),
            by_key: HashMap::with_hasher(secret),
            timers: TimerWheel::new(now),
            pending: VecDeque::new(),
            timeout: settings.udp_timeout,
            stream_timeout: settings.udp_stream_timeout,
        }
    }

    /// Passes on datagrams that came in on a listening socket. `make` makes both sockets if they are the
    /// first of a flow.
    ///
    /// # Errors
    /// When there are no sockets to be had. The datagrams are lost.
    pub(crate) fn arrived(
        &mut self,
        epoll: &Epoll,
        key: Key,
        (burst, payload): (&Burst, &[u8]),
        now: Instant,
        make: impl FnOnce() -> io::Result<[UdpSocket; 2]>,
    ) -> io::Result<()> {
        let slot = match self.by_key.get(&key) {
            Some(slot) => *slot,
            None => self.open(epoll, key, now, make)?,
        };
        let Some(relay) = self.table.get_mut(slot) else { return Ok(()) };
        relay.note(Side::Near, now);
        let [_, far] = &mut relay.ends;
        send(far, burst, payload);
        Ok(())
    }

    fn open(
        &mut self,
        epoll: &Epoll,
        key: Key,
        now: Instant,
        make: impl FnOnce() -> io::Result<[UdpSocket; 2]>,
    ) -> io::Result<Slot> {
        let ends = make()?;
        let inserted = self.table.try_insert_with(|slot| {
            let watched = ends.iter().zip([Side::Near, Side::Far]);
            for (end, side) in watched.filter(|(end, _)| end.receives()) {
                epoll.add(end, Token::Relay(slot, side).to_cookie(), Interest::Edges)?;
            }
            Ok::<_, io::Error>(Relay { key, ends, last: now, seen: [0; 2], pending: [false; 2] })
        });
        let slot = inserted.unwrap_or_else(|| Err(ErrorKind::OutOfMemory.into()))?;
        self.by_key.insert(key, slot);
        self.timers.arm(slot, now + self.timeout);
        Ok(slot)
    }

    /// Readiness of one of the sockets.
    pub(crate) fn on_event(
        &mut self,
        slot: Slot,
        side: Side,
        ready: Readiness,
        now: Instant,
        buffer: &mut [u8],
    ) {
        let Some(relay) = self.table.get_mut(slot) else { return };
        if ready.error {
            relay.drain_errors(side);
        }
        if ready.readable {
            self.receive(slot, side, now, buffer);
        }
    }

    /// Lets those go on that had more to do.
    pub(crate) fn resume(&mut self, now: Instant, buffer: &mut [u8]) {
        for _ in 0..self.pending.len() {
            let Some((slot, side)) = self.pending.pop_front() else { return };
            if let Some(relay) = self.table.get_mut(slot) {
                if let Some(pending) = relay.pending.get_mut(side.index()) {
                    *pending = false;
                }
                self.receive(slot, side, now, buffer);
            }
        }
    }

    /// Ends those that have been idle for long enough.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        while let Some(slot) = self.timers.poll(now) {
            let Some(relay) = self.table.get(slot) else { continue };
            let [near, far] = relay.seen;
            let stream = near.min(far) >= 1 && near.max(far) >= 2;
            let end = relay.last + if stream { self.stream_timeout } else { self.timeout };
            if now < end {
                self.timers.arm(slot, end);
            } else if let Some(relay) = self.table.remove(slot) {
                self.by_key.remove(&relay.key);
            }
        }
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether [`resume`](Self::resume) has something to do.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn receive(&mut self, slot: Slot, side: Side, now: Instant, buffer: &mut [u8]) {
        let Some(relay) = self.table.get_mut(slot) else { return };
        for _ in 0..TURN {
            let [near, far] = &mut relay.ends;
            let (from, to) = match side {
                Side::Near => (near, far),
                Side::Far => (far, near),
            };
            match from.recv(buffer) {
                Ok(burst) => {
                    if burst.source.is_some_and(|source| !from.is_peer(&source)) {
                        continue;
                    }
                    send(to, &burst, buffer.get(..burst.len).unwrap_or_default());
                    relay.note(side, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What the network said about an earlier datagram, not about those that wait.
                Err(_) if relay.drain_errors(side) > 0 => {}
                Err(_) => return,
            }
        }
        if let Some(pending) = relay.pending.get_mut(side.index()) {
            if !std::mem::replace(pending, true) {
                self.pending.push_back((slot, side));
            }
        }
    }
}

impl Relay {
    /// Takes note of a burst from one end.
    fn note(&mut self, side: Side, now: Instant) {
        self.last = now;
        if let Some(seen) = self.seen.get_mut(side.index()) {
            *seen = seen.saturating_add(1);
        }
    }

    /// Takes what an error queue holds; returns how much that was.
    fn drain_errors(&mut self, side: Side) -> usize {
        let Some(end) = self.ends.get_mut(side.index()) else { return 0 };
        (0..ERRORS).take_while(|_| end.take_error().is_some()).count()
    }
}

/// Sends a burst on; what cannot be sent is lost, like on any network.
fn send(to: &mut UdpSocket, burst: &Burst, payload: &[u8]) {
    let slices = [IoSlice::new(payload)];
    let bufs: &[IoSlice<'_>] = if payload.is_empty() { &[] } else { &slices };
    if let Err(error) = to.send(bufs, burst.segment, burst.ttl.unwrap_or(TTL)) {
        log::trace!("spliced datagrams: {error}");
    }
}

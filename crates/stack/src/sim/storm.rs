//! Frames that make little sense, as many as possible: nothing a guest sends may hurt the stack.
//!
//! The stack runs against a link that swallows everything and sockets that answer anything. [`Storm`] makes
//! its frames from a collection of good ones and from the stack's own answers; [`frame_entry`] takes them
//! from a fuzzer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::good_frames;
use super::rng::Rng;
use super::world::{World, config};
use crate::flow::{FlowId, Secret};
use crate::io::{
    DatagramBurst, FrameMeta, Gso, Guest, HEADROOM, Host, IcmpOrigin, Limits, PingSocket,
    Readiness, SendRoom, SocketError, TcpInfo, TcpSocket, UdpSocket,
};
use crate::time::Instant;
use crate::{Io, Settings, Stack};

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(good_frames::all);

/// Sockets that may be open at a time.
const MAX_SOCKETS: usize = 256;
/// Bytes kept of each of the stack's latest frames.
const KEPT: usize = 128;

/// A link that takes what it is given and remembers the beginning of the latest frames.
#[derive(Debug)]
struct Swallow {
    slot: Vec<u8>,
    latest: Vec<[u8; KEPT]>,
    count: u64,
}

impl Guest for Swallow {
    fn limits(&self) -> Limits {
        Limits { mtu: 1_500, max_packet: 65_535 }
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        self.slot.get_mut(..HEADROOM + room)
    }

    fn send(&mut self, start: usize, end: usize, _meta: FrameMeta) -> bool {
        let Some(frame) = self.slot.get(start..end) else {
            debug_assert!(false, "a frame of {start}..{end}");
            return false;
        };
        let place = (self.count % self.latest.len() as u64) as usize;
        let kept = frame.len().min(KEPT);
        self.latest[place][..kept].copy_from_slice(&frame[..kept]);
        self.count += 1;
        true
    }

    fn flush(&mut self) {}
}

#[derive(Debug, Default)]
struct Open {
    ids: Vec<FlowId>,
}

/// A host on which everything can happen.
#[derive(Debug)]
struct AnyHost {
    open: Rc<RefCell<Open>>,
    rng: Rng,
}

/// A socket of any kind that answers as chance will have it.
#[derive(Debug)]
struct AnySocket {
    id: FlowId,
    open: Rc<RefCell<Open>>,
    rng: Rng,
    queue: u32,
}

impl AnyHost {
    fn socket(&mut self, id: FlowId) -> io::Result<AnySocket> {
        let mut open = self.open.borrow_mut();
        if open.ids.len() >= MAX_SOCKETS || self.rng.chance(300) {
            const EMFILE: i32 = 24;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        open.ids.push(id);
        Ok(AnySocket { id, open: Rc::clone(&self.open), rng: self.rng.fork(), queue: 0 })
    }
}

impl Drop for AnySocket {
    fn drop(&mut self) {
        let mut open = self.open.borrow_mut();
        if let Some(place) = open.ids.iter().position(|id| *id == self.id) {
            open.ids.swap_remove(place);
        }
    }
}

impl Host for AnyHost {
    type Tcp = AnySocket;
    type Udp = AnySocket;
    type Ping = AnySocket;

    fn connect_tcp(
        &mut self,
        id: FlowId,
        _to: SocketAddr,
        _from: Option<IpAddr>,
    ) -> io::Result<AnySocket> {
        self.socket(id)
    }

    fn open_udp(
        &mut self,
        id: FlowId,
        _from: SocketAddr,
        _to: SocketAddr,
    ) -> io::Result<AnySocket> {
        self.socket(id)
    }

    fn open_ping(
        &mut self,
        id: FlowId,
        _from: Option<IpAddr>,
        _to: SocketAddr,
        _ident: u16,
    ) -> io::Result<AnySocket> {
        self.socket(id)
    }
}

impl AnySocket {
    fn fails(&mut self) -> io::Result<()> {
        const ERRNOS: [i32; 4] = [11, 104, 32, 113];
        if self.rng.chance(1_500) {
            return Err(io::Error::from_raw_os_error(self.rng.pick(&ERRNOS)));
        }
        Ok(())
    }

    fn error(&mut self) -> Option<SocketError> {
        self.rng.chance(3_000).then(|| {
            let icmp = self.rng.chance(5_000).then(|| IcmpOrigin {
                offender: if self.rng.chance(5_000) {
                    super::world::REMOTE_V4.into()
                } else {
                    super::world::REMOTE_V6.into()
                },
                kind: self.rng.next_u64() as u8,
                code: self.rng.next_u64() as u8,
                info: self.rng.next_u64() as u32,
            });
            SocketError { errno: self.rng.pick(&[111, 104, 113, 90]), icmp }
        })
    }
}

impl TcpSocket for AnySocket {
    fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        self.fails()?;
        if offset > self.queue {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.rng.chance(200) {
            return Ok(0);
        }
        if self.rng.chance(5_000) {
            self.queue = self.queue.saturating_add(self.rng.below(20_000) as u32);
        }
        let n = buf.len().min((self.queue - offset) as usize);
        if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    fn discard(&mut self, n: u32) -> io::Result<u32> {
        self.fails()?;
        let n = n.min(self.queue);
        self.queue -= n;
        Ok(n)
    }

    fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.fails()?;
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.rng.chance(3_000) { Ok(self.rng.index(all + 1)) } else { Ok(all) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.fails()
    }

    fn reset_on_close(&mut self) {}

    fn info(&mut self) -> TcpInfo {
        TcpInfo {
            bytes_acked: self.rng.chance(8_000).then(|| self.rng.below(100_000)),
            delivery_rate: self.rng.chance(8_000).then(|| self.rng.next_u64()),
            rtt: Duration::from_micros(self.rng.below(1_000_000)),
            min_rtt: self.rng.chance(8_000).then(|| Duration::from_micros(self.rng.below(1_000))),
        }
    }

    fn send_room(&mut self) -> SendRoom {
        SendRoom { sndbuf: self.rng.next_u64() as u32, queued: self.rng.next_u64() as u32 }
    }

    fn set_keepalive(&mut self) {}

    fn take_error(&mut self) -> Option<SocketError> {
        self.error()
    }
}

impl UdpSocket for AnySocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.fails()?;
        if self.rng.chance(7_000) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.rng.index(buf.len() + 1);
        let segment = if self.rng.chance(5_000) { len } else { self.rng.index(2_000) };
        let (ttl, tos) = (self.rng.next_u64() as u8, self.rng.next_u64() as u8);
        Ok(DatagramBurst { len, segment, source: None, ttl: Some(ttl), tos: Some(tos) })
    }

    fn send(&mut self, bufs: &[IoSlice<'_>], _segment: usize, _ttl: u8) -> io::Result<usize> {
        TcpSocket::send(self, bufs)
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.error()
    }
}

impl PingSocket for AnySocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        UdpSocket::recv(self, buf)
    }

    fn send(&mut self, message: &[u8], _ttl: u8) -> io::Result<usize> {
        self.fails()?;
        Ok(message.len())
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.error()
    }
}

/// A stack in bad company.
#[derive(Debug)]
pub struct Storm {
    stack: Stack<AnyHost>,
    guest: Swallow,
    host: AnyHost,
    now: Instant,
    rng: Rng,
    good: &'static [Vec<u8>],
    frame: Vec<u8>,
    in_burst: u32,
}

impl Storm {
    /// A new stack, and frames made from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = World::START;
        let open = Rc::new(RefCell::new(Open::default()));
        let settings = Settings { seed, ..Settings::default() };
        let mut storm = Self {
            stack: Stack::new(Arc::new(config()), Secret::new([7; 16]), settings, now),
            guest: Swallow {
                slot: vec![0; HEADROOM + (1 << 17)],
                latest: vec![[0; KEPT]; 16],
                count: 0,
            },
            host: AnyHost { open, rng: rng.fork() },
            now,
            rng,
            good: &GOOD,
            frame: Vec::with_capacity(1 << 16),
            in_burst: 0,
        };
        storm.call(|stack, io| stack.start(io));
        storm
    }

    fn call(&mut self, event: impl FnOnce(&mut Stack<AnyHost>, &mut Io<'_, Swallow, AnyHost>)) {
        let mut io = Io { guest: &mut self.guest, host: &mut self.host, now: self.now };
        event(&mut self.stack, &mut io);
    }

    /// Sends `count` frames of its own making; how many frames the stack sent by then.
    pub fn run(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            self.make();
            let gso = match self.rng.below(32) {
                0 => Gso::Tcp(self.rng.next_u64() as u16),
                1 => Gso::Udp(self.rng.next_u64() as u16),
                _ => Gso::None,
            };
            let frame = std::mem::take(&mut self.frame);
            self.frame(&frame, gso);
            self.frame = frame;
        }
        self.guest.count
    }

    /// One frame, and what goes with it: the end of a burst, sockets, time.
    fn frame(&mut self, frame: &[u8], gso: Gso) {
        self.call(|stack, io| stack.on_frame(io, frame, gso));
        self.in_burst += 1;
        if self.in_burst < 32 {
            return;
        }
        self.in_burst = 0;
        self.sockets();
        self.call(|stack, io| stack.end_of_burst(io));
        let step = match self.rng.below(64) {
            0 => Duration::from_secs(self.rng.below(400)),
            1..8 => Duration::from_millis(self.rng.below(500)),
            _ => Duration::from_micros(self.rng.below(100)),
        };
        self.advance(step);
    }

    /// A good frame (its number first), changed where `data` says; what is left of that.
    fn good_frame<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let [number, count, changes @ ..] = data else { return &[] };
        let mut frame = self.good[usize::from(*number) % self.good.len()].clone();
        let (changes, rest) = changes.split_at(changes.len().min(usize::from(count & 7) * 2));
        for change in changes.chunks_exact(2) {
            let at = usize::from(change[0]) % frame.len();
            frame[at] = change[1];
        }
        self.call(|stack, io| stack.on_frame(io, &frame, Gso::None));
        rest
    }

    fn sockets(&mut self) {
        for _ in 0..4 {
            let len = self.host.open.borrow().ids.len();
            let place = self.rng.index(len);
            let Some(id) = self.host.open.borrow().ids.get(place).copied() else { return };
            let bits = self.rng.next_u64();
            let ready = Readiness {
                readable: bits & 1 != 0,
                writable: bits & 2 != 0,
                read_closed: bits & 0x70 == 0,
                hang_up: bits & 0x700 == 0,
                error: bits & 0x7000 == 0,
                urgent: bits & 0x7_0000 == 0,
            };
            self.call(|stack, io| stack.on_socket(io, id, ready));
        }
    }

    fn advance(&mut self, step: Duration) {
        self.now = self.now + step;
        if self.stack.next_deadline().is_some_and(|at| at <= self.now) {
            self.call(|stack, io| stack.on_deadline(io));
        }
    }

    /// Makes the next frame: a good one, or an answer to one of the stack's, then spoilt a little.
    fn make(&mut self) {
        self.frame.clear();
        if self.rng.chance(4_000) {
            let place = self.rng.index(self.guest.latest.len());
            self.frame.extend_from_slice(&self.guest.latest[place]);
            good_frames::answer(&mut self.frame, &mut self.rng);
        } else {
            let place = self.rng.index(self.good.len());
            self.frame.extend_from_slice(&self.good[place]);
        }
        if self.frame.is_empty() {
            return;
        }
        let bits = self.rng.next_u64();
        // A quarter stays good: otherwise nothing ever gets past the first check.
        for n in 0..(bits & 3) {
            let at = self.rng.index(self.frame.len());
            let noise = self.rng.next_u64();
            self.frame[at] = match (bits >> (8 + 2 * n)) & 3 {
                0 => noise as u8,
                1 => self.frame[at] ^ (1 << (noise & 7)),
                2 => self.frame[at].wrapping_add(noise as u8 & 3).wrapping_sub(1),
                _ => [0, 0xff, 0x7f, 0x80][(noise & 3) as usize],
            };
        }
        match bits >> 60 {
            0 => self.frame.truncate(self.rng.index(self.frame.len())),
            1 => {
                let more = self.rng.index(64);
                self.frame.resize(self.frame.len() + more, bits as u8);
            }
            _ => {}
        }
    }
}

/// Takes frames and events from a fuzzer. Each begins with a byte that says what it is: below 180, a frame
/// of that many bytes (64 more for each `0xff` that follows); then a good frame with up to seven bytes
/// changed; sockets that are ready; the end of a burst; time that passes. A new stack each time: what
/// happens depends on `data` alone.
pub fn frame_entry(data: &[u8]) {
    let mut storm = Storm::new(1);
    let mut rest = data;
    while let [kind, tail @ ..] = rest {
        rest = tail;
        match kind {
            0..=179 => {
                let mut len = usize::from(*kind);
                while let [0xff, tail @ ..] = rest {
                    len += 64;
                    rest = tail;
                }
                let (frame, tail) = rest.split_at(len.min(rest.len()));
                let gso = if *kind & 0x1f == 0 { Gso::Tcp(1_448) } else { Gso::None };
                storm.call(|stack, io| stack.on_frame(io, frame, gso));
                rest = tail;
            }
            180..=209 => rest = storm.good_frame(rest),
            210..=219 => storm.sockets(),
            220..=239 => storm.call(|stack, io| stack.end_of_burst(io)),
            240..=255 => storm.advance(Duration::from_millis(1 << (kind - 240))),
        }
    }
    storm.call(|stack, io| stack.end_of_burst(io));
    storm.advance(Duration::from_secs(60));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_frames_are_answered() {
        let mut storm = Storm::new(3);
        for frame in storm.good {
            storm.call(|stack, io| stack.on_frame(io, frame, Gso::None));
        }
        storm.call(|stack, io| stack.end_of_burst(io));
        assert!(storm.guest.count > 4, "{} answers", storm.guest.count);
        let stats = storm.stack.stats();
        let opened = [stats.tcp_opened, stats.udp_opened, stats.ping_opened];
        assert!(opened.iter().all(|&count| count > 0), "{stats:?}");
    }

    /// In a thread of its own, for an endless loop would otherwise look like patience.
    #[test]
    fn two_hundred_thousand_bad_frames() {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(Storm::new(1).run(200_000)));
        let answers = receiver.recv_timeout(Duration::from_secs(60));
        assert!(answers.expect("a panic or an endless loop in the stack") > 1_000);
    }

    #[test]
    fn any_bytes_will_do() {
        let mut rng = Rng::new(9);
        for len in 0..400 {
            let data: Vec<u8> = (0..len * 3).map(|_| rng.next_u64() as u8).collect();
            frame_entry(&data);
        }
        let frame = good_frames::all().remove(0);
        let mut data = vec![frame.len() as u8];
        data.extend_from_slice(&frame);
        data.extend_from_slice(&[180, 7, 2, 20, 1, 21, 2, 210, 220, 255]);
        frame_entry(&data);
    }
}

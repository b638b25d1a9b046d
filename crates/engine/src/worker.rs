//! The loop.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use stack::coalesce::Run;
use stack::config::Config;
use stack::flow::Secret;
use stack::io::{Gso, Readiness};
use stack::time::Instant;
use stack::{Io, Settings, Stack};
use sys::clock;
use sys::epoll::{Epoll, Event, Events, Interest};
use sys::netns::QuitWatch;
use sys::process::Child;
use sys::signal::{Signal, SignalFd};
use wire::ethernet::MacAddr;

use crate::counters::{Counters, Kind, StatsReport};
use crate::forward::{Forwarder, Forwarding};
use crate::guest::{Attachment, Capture, GuestLink};
use crate::host::{HostOptions, KernelHost};
use crate::later::{Later, Pending};
use crate::neighbours::Neighbours;
use crate::token::Token;

/// Events taken per wake-up.
const EVENTS: usize = 64;
/// Connections taken or sent away per wake-up: nobody can keep us busy with that alone.
const HYPERVISORS: usize = 64;
/// Frames read from the tap per wake-up, so that sockets get their turn.
const BURST: usize = 32;
/// A tick of the kernel's scheduler, as a rule. Deadlines are about retransmissions and the like: nobody misses
/// it.
const TIMER_SLACK: Duration = Duration::from_millis(4);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where the guest is; without one, only loopback traffic is forwarded.
    pub guest: Attachment,
    /// MTU of the link, in bytes of IP packet.
    pub mtu: u16,
    /// What the guest is told and how addresses map.
    pub config: Arc<Config>,
    /// Key of hashes and of initial sequence numbers, fresh from the kernel's random numbers.
    pub secret: Secret,
    /// Knobs of the stack.
    pub settings: Settings,
    /// What host sockets are tied to.
    pub host: HostOptions,
    /// Forwarded ports.
    pub forwarding: Forwarding,
    /// An empty file for a packet capture.
    pub pcap: Option<File>,
    /// Ends the run when the namespace's file is gone.
    pub watch: Option<QuitWatch>,
    /// Ends the run when the command ends.
    pub child: Option<Child>,
    /// The host's neighbours.
    pub neighbours: Option<Neighbours>,
    /// Who is told about counts of events.
    pub stats: Option<StatsReport>,
    /// What is to be done once, in a while.
    pub later: Option<Later>,
}

/// Why a worker's run ended.
#[derive(Debug)]
pub enum ExitReason {
    /// `SIGTERM` or `SIGQUIT`.
    Signal(Signal),
    /// The command ended: its exit status, or 128 and the number of the signal that ended it.
    Child(u8),
    /// The file of the watched namespace is gone.
    NamespaceGone,
    /// The tap interface is gone, or its descriptor unusable.
    TapGone,
    /// The hypervisor is gone, and there is to be no other.
    HypervisorGone,
    /// Waiting for events failed.
    Failed(io::Error),
}

/// Moves everything of one guest.
#[derive(Debug)]
pub struct Worker {
    stack: Stack<KernelHost>,
    host: KernelHost,
    link: GuestLink,
    forwarder: Forwarder,
    input: Box<[u8]>,
    signals: SignalFd,
    watch: Option<QuitWatch>,
    child: Option<Child>,
    neighbours: Option<Neighbours>,
    counters: Counters,
    later: Pending,
    now: Instant,
    burst: Burst,
}

/// How many frames to read before asking epoll again.
///
/// Where one frame comes at a time (a request, its response), a second read would only be told that there
/// is nothing; where many come, asking epoll between them would be the waste.
#[derive(Clone, Copy, Debug)]
struct Burst {
    limit: usize,
    /// The wake-up before this one had a frame, too.
    again: bool,
}

impl Burst {
    const NEW: Self = Self { limit: 1, again: false };

    /// What to do in a wake-up in which there are frames.
    fn limit(&mut self) -> usize {
        if self.limit == 1 && self.again {
            self.limit = 2;
        }
        self.limit
    }

    /// What came of it: `read` frames, fewer than the limit if there were no more.
    fn done(&mut self, read: usize) {
        self.again = read == self.limit;
        self.limit = match read {
            0 | 1 if read < self.limit => 1,
            _ if read < self.limit => self.limit,
            1 => 1,
            _ => (self.limit * 2).min(BURST),
        };
    }

    /// A wake-up without frames.
    fn idle(&mut self) {
        self.again = false;
    }
}

fn monotonic() -> Instant {
    Instant::from_nanos(clock::monotonic_nanos())
}

impl Worker {
    /// Gets everything watched. To be called after the last fork, with `SIGTERM` and `SIGQUIT` blocked.
    ///
    /// # Errors
    /// Those of making descriptors.
    pub fn new(parts: Parts) -> io::Result<Self> {
        clock::set_timer_slack(TIMER_SLACK);
        let epoll = Epoll::new()?;
        let signals = SignalFd::new()?;
        let watch =
            |fd: BorrowedFd<'_>, token: Token| epoll.add(fd, token.to_cookie(), Interest::Read);
        watch(signals.as_fd(), Token::Signals)?;
        if let Some(quit) = &parts.watch {
            watch(quit.as_fd(), Token::Watch)?;
        }
        if let Some(child) = &parts.child {
            watch(child.as_fd(), Token::Child)?;
        }
        if let Some(neighbours) = &parts.neighbours {
            watch(neighbours.as_fd(), Token::Neighbours)?;
        }
        let now = monotonic();
        let (secret, settings) = (parts.secret, parts.settings);
        let forwarder = Forwarder::new(parts.forwarding, &epoll, secret, &settings, now)?;
        let capture = parts.pcap.map(Capture::new);
        let link = GuestLink::new(parts.guest, parts.mtu, capture, &epoll)?;
        let mut stack = Stack::new(parts.config, secret, settings, now);
        stack.set_targets(forwarder.targets());
        Ok(Self {
            forwarder,
            input: link.read_buffer(),
            link,
            stack,
            host: KernelHost::new(epoll, parts.host),
            signals,
            watch: parts.watch,
            child: parts.child,
            neighbours: parts.neighbours,
            counters: Counters::new(parts.stats),
            later: Pending::new(parts.later, now),
            now,
            burst: Burst::NEW,
        })
    }

    /// Runs until there is a reason to end.
    pub fn run(mut self) -> ExitReason {
        let reason = self.run_loop();
        self.link.finish();
        reason
    }

    fn run_loop(&mut self) -> ExitReason {
        let mut events = Events::with_capacity(EVENTS);
        self.start();
        loop {
            if let Err(error) = self.host.epoll().wait(&mut events, self.timeout()) {
                return ExitReason::Failed(error);
            }
            if let Some(reason) = self.wake_up(&events) {
                return reason;
            }
        }
    }

    fn start(&mut self) {
        self.link.set_capture_time(clock::realtime);
        if let Some(neighbours) = &mut self.neighbours {
            let stack = &mut self.stack;
            let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
            neighbours.dump(&mut |news| {
                stack.neighbor_changed(&mut io, news.addr, news.mac.map(MacAddr));
            });
        }
        if self.link.is_connected() {
            self.meet_guest();
        }
        let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
        self.stack.end_of_burst(&mut io);
    }

    /// The guest is there, perhaps again: it is told and asked what is told and asked first, and whatever
    /// waited for it, or got lost on the way to it, goes on.
    fn meet_guest(&mut self) {
        let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
        self.stack.start(&mut io);
        self.stack.on_new_link();
    }

    /// How long to sleep: until the next deadline.
    fn timeout(&self) -> Option<Duration> {
        let deadlines =
            [self.stack.next_deadline(), self.forwarder.next_deadline(), self.later.deadline()];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(self.now))
    }

    /// Handles what one wait brought, and what is due.
    fn wake_up(&mut self, events: &Events) -> Option<ExitReason> {
        self.now = monotonic();
        self.link.set_capture_time(clock::realtime);
        let mut frames = false;
        for event in events.iter() {
            let Some(token) = Token::from_cookie(event.cookie) else { continue };
            log::trace!("event: {token:?}");
            if let Some(kind) = Kind::of(token) {
                self.counters.count(kind);
            }
            let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
            let reason = match token {
                Token::Flow(id) => {
                    self.stack.on_socket(&mut io, id, readiness(&event));
                    None
                }
                Token::Tap => {
                    frames = true;
                    self.on_tap(&event)
                }
                Token::Stream => self.on_stream(&event),
                Token::StreamListener => self.on_hypervisor(),
                Token::TcpListener(_)
                | Token::UdpListener(_)
                | Token::Spliced(..)
                | Token::Relay(..)
                | Token::Configuration
                | Token::Client(_) => {
                    self.forwarder.on_event(&mut self.stack, &mut io, token, readiness(&event));
                    None
                }
                Token::Signals => self.signals.read().ok().flatten().map(ExitReason::Signal),
                Token::Child => self.on_child(),
                Token::Watch => self.on_watch(),
                Token::Neighbours => {
                    self.on_neighbours();
                    None
                }
            };
            if reason.is_some() {
                return reason;
            }
        }
        if !frames {
            self.burst.idle();
        }
        let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
        if self.stack.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.counters.count(Kind::Timer);
            self.stack.on_deadline(&mut io);
        }
        if self.forwarder.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.forwarder.poll(&mut self.stack, &mut io);
        }
        self.later.poll(self.now);
        self.stack.end_of_burst(&mut io);
        if let GuestLink::Stream(stream) = &mut self.link {
            stream.watch_for_room(self.host.epoll());
        }
        self.counters.report(self.now);
        self.tap_failed()
    }

    fn on_tap(&mut self, event: &Event) -> Option<ExitReason> {
        if event.readable {
            let limit = self.burst.limit();
            let mut read = 0;
            while read < limit {
                let GuestLink::Tap(tap) = &mut self.link else { break };
                let Some(frame) = tap.read(&mut self.input) else { break };
                read += 1;
                let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
                self.stack.on_frame(&mut io, frame.bytes(&self.input), frame.gso);
            }
            self.burst.done(read);
            self.tap_failed()
        } else if event.error || event.hang_up {
            Some(tap_gone())
        } else {
            None
        }
    }

    fn tap_failed(&self) -> Option<ExitReason> {
        let GuestLink::Tap(tap) = &self.link else { return None };
        tap.failure().map(|error| {
            log::debug!("tap: {error}");
            tap_gone()
        })
    }

    /// Somebody wants to connect as the guest's hypervisor. One that has hung up makes room for the next,
    /// whichever of the two we are told of first; what it left is taken before.
    fn on_hypervisor(&mut self) -> Option<ExitReason> {
        for _ in 0..HYPERVISORS {
            let GuestLink::Stream(stream) = &mut self.link else { return None };
            let newcomer = stream.accept()?;
            // Looked at only now: who left before that one came is not in its way.
            while matches!(&self.link, GuestLink::Stream(stream) if stream.has_hung_up()) {
                let reason = self.take_frames();
                if reason.is_some() {
                    return reason;
                }
            }
            let GuestLink::Stream(stream) = &mut self.link else { return None };
            if stream.admit(newcomer, self.host.epoll()) {
                self.meet_guest();
            }
        }
        if let GuestLink::Stream(stream) = &self.link {
            stream.ask_again(self.host.epoll());
        }
        None
    }

    fn on_stream(&mut self, event: &Event) -> Option<ExitReason> {
        let GuestLink::Stream(stream) = &mut self.link else { return None };
        if event.writable && stream.drain() {
            self.stack.on_link_ready();
        }
        if event.readable || event.read_closed || event.hang_up || event.error {
            let reason = self.take_frames();
            if reason.is_none() && !self.link.is_connected() {
                return self.on_hypervisor();
            }
            return reason;
        }
        None
    }

    /// Takes what the hypervisor has sent, as far as one receive goes.
    fn take_frames(&mut self) -> Option<ExitReason> {
        let GuestLink::Stream(stream) = &mut self.link else { return None };
        if !stream.receive(&mut self.input) {
            return self.lose_hypervisor();
        }
        let mut next = stream.next_frame(&self.input);
        while let Ok(Some(frame)) = next {
            let GuestLink::Stream(stream) = &mut self.link else { return None };
            next = stream.next_frame(&self.input);
            let second = next.as_ref().ok().copied().flatten();
            let run = second.and_then(|second| Run::start(frame, second)).map(|mut run| {
                next = stream.next_frame(&self.input);
                while let Ok(Some(frame)) = next {
                    if !run.takes(frame) {
                        break;
                    }
                    next = stream.next_frame(&self.input);
                }
                run
            });
            let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
            match run {
                Some(run) => self.stack.on_run(&mut io, &run),
                None => self.stack.on_frame(&mut io, frame, Gso::None),
            }
        }
        match next {
            Ok(_) => None,
            Err(error) => {
                log::error!("Bad frame size from guest, resetting connection: {error}");
                self.lose_hypervisor()
            }
        }
    }

    /// The hypervisor is gone. Flows live on: the next one is taken for the same guest.
    fn lose_hypervisor(&mut self) -> Option<ExitReason> {
        let GuestLink::Stream(stream) = &mut self.link else { return None };
        stream.disconnect();
        stream.is_one_off().then_some(ExitReason::HypervisorGone)
    }

    fn on_child(&self) -> Option<ExitReason> {
        match self.child.as_ref()?.try_wait() {
            Ok(status) => status.map(ExitReason::Child),
            Err(error) => Some(ExitReason::Failed(error)),
        }
    }

    fn on_watch(&mut self) -> Option<ExitReason> {
        let watch = self.watch.as_mut()?;
        watch.is_gone().then(|| {
            log::info!("Namespace {} is gone, exiting", watch.name().to_string_lossy());
            ExitReason::NamespaceGone
        })
    }

    fn on_neighbours(&mut self) {
        let stack = &mut self.stack;
        let mut io = Io { guest: &mut self.link, host: &mut self.host, now: self.now };
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.read(&mut |news| {
                stack.neighbor_changed(&mut io, news.addr, news.mac.map(MacAddr));
            });
        }
    }
}

fn tap_gone() -> ExitReason {
    log::error!("Disconnect event on /dev/net/tun device, exiting");
    ExitReason::TapGone
}

pub(crate) fn readiness(event: &Event) -> Readiness {
    let &Event { cookie: _, readable, writable, read_closed, hang_up, error, urgent } = event;
    Readiness { readable, writable, read_closed, hang_up, error, urgent }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads that a tap with `frames` frames in each wake-up needs: frames and fruitless reads, and how
    /// many frames a wake-up left behind in all.
    fn reads(wake_ups: &[usize]) -> (usize, usize, usize) {
        let mut burst = Burst::NEW;
        let (mut frames, mut fruitless, mut left) = (0, 0, 0);
        for &waiting in wake_ups {
            let waiting = waiting + left;
            if waiting == 0 {
                burst.idle();
                continue;
            }
            let limit = burst.limit();
            let read = waiting.min(limit);
            burst.done(read);
            frames += read;
            fruitless += usize::from(read < limit);
            left = waiting - read;
        }
        (frames, fruitless, left)
    }

    #[test]
    fn requests_and_responses_are_read_once() {
        // Between two frames from the guest comes the response from the host.
        assert_eq!(reads(&[1, 0, 1, 0, 1, 0, 1, 0, 1]), (5, 0, 0));
    }

    #[test]
    fn a_flood_is_read_in_bursts() {
        let (frames, fruitless, left) = reads(&[20; 200]);
        assert!(left < 60 && frames > 3900, "{frames} {left}");
        assert!(fruitless < 200, "at most one per wake-up: {fruitless}");
        let (frames, _, _) = reads(&[1000]);
        assert_eq!(frames, 1, "the first wake-up does not know yet");
        let (frames, _, left) = reads(&[100, 100, 100, 100, 100, 100]);
        assert_eq!((frames, left), (1 + 2 + 4 + 8 + 16 + 32, 600 - 63), "sockets get their turn");
    }
}

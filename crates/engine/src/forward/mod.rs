//! Forwarded ports: from listening sockets to flows.

mod tcp;
mod udp;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;

use control::PifTable;
use stack::flow::{Secret, Slot};
use stack::forward::Splicing;
use stack::io::Readiness;
use stack::rule::{Capabilities, Pif, Table};
use stack::time::Instant;
use stack::{Io, Settings, Stack};
use sys::epoll::Epoll;
use sys::fd::Spare;

use self::udp::Stray;
pub(crate) use self::udp::drain;
use crate::configuration::Configuration;
use crate::guest::GuestLink;
use crate::host::KernelHost;
use crate::listen::{Auto, Change, Listener, Listeners, Opening, Outcome, Place, Reach, Source};
use crate::namespace::Namespace;
use crate::splice::{Connections, MAX_BURST, Relays};
use crate::token::Token;

/// When to look again at sockets from which nothing could be taken for lack of something.
const RETRY: std::time::Duration = std::time::Duration::from_millis(100);

/// The rules for flows that begin on one interface, with the sockets that were opened for them.
#[derive(Debug)]
pub struct Served {
    /// The interface.
    pub pif: Pif,
    /// The rules.
    pub table: Table,
    /// What rules may ask for that come later.
    pub caps: Capabilities,
    /// From [`crate::open_table`].
    pub opened: Vec<Listener>,
    /// How further sockets are opened.
    pub opening: Opening,
}

/// What a worker needs to forward ports.
#[derive(Debug, Default)]
pub struct Forwarding {
    /// Every interface on which flows may begin.
    pub tables: Vec<Served>,
    /// What loopback traffic may do.
    pub splicing: Splicing,
    /// Makes sockets in the guest's namespace: for spliced flows, and for rules of [`Pif::Splice`].
    pub namespace: Option<Namespace>,
    /// What listens on the host, and in the guest's namespace: for rules that follow that.
    pub sources: Option<(Source, Source)>,
    /// The configuration socket.
    pub configuration: Option<UnixListener>,
}

/// What the methods here are given besides the event.
pub(crate) type Surroundings<'a> = Io<'a, GuestLink, KernelHost>;

/// Forwards ports.
#[derive(Debug)]
pub(crate) struct Forwarder {
    listeners: Listeners,
    settings: Vec<(Pif, Capabilities, Opening)>,
    splicing: Splicing,
    namespace: Option<Namespace>,
    auto: Option<Auto>,
    connections: Connections,
    relays: Relays,
    configuration: Option<Configuration>,
    change: Option<Change>,
    /// Listening sockets from which not everything was taken.
    pending: VecDeque<Slot>,
    /// Those from which nothing could be taken, and when to try again.
    stuck: VecDeque<Slot>,
    retry: Option<Instant>,
    /// Given up for a moment to refuse what there is no descriptor for.
    spare: Spare,
    /// That was said, and not accepted anything since.
    refusing: bool,
    buffer: Box<[u8]>,
    strays: VecDeque<Stray>,
}

impl Forwarder {
    /// Puts the sockets that are open into service.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, and of making a descriptor.
    pub(crate) fn new(
        forwarding: Forwarding,
        epoll: &Epoll,
        secret: Secret,
        settings: &Settings,
        now: Instant,
    ) -> io::Result<Self> {
        let Forwarding { tables, splicing, namespace, sources, configuration } = forwarding;
        let mut listeners = Listeners::new();
        let mut per_pif = Vec::new();
        for Served { pif, table, caps, opened, opening } in tables {
            listeners.start(epoll, pif, table, opened)?;
            per_pif.push((pif, caps, opening));
        }
        let reach = match splicing {
            Splicing { only: true, .. } => Reach::Loopback,
            Splicing { to_loopback: true, .. } => Reach::Both,
            Splicing { .. } => Reach::Address,
        };
        let configuration =
            configuration.map(|listener| Configuration::new(listener, epoll)).transpose()?;
        let mut forwarder = Self {
            listeners,
            settings: per_pif,
            splicing,
            namespace,
            auto: sources.map(|(host, namespace)| Auto::new(host, namespace, reach)),
            connections: Connections::default(),
            relays: Relays::new(secret, settings, now),
            configuration,
            change: None,
            pending: VecDeque::new(),
            stuck: VecDeque::new(),
            retry: None,
            spare: Spare::new()?,
            refusing: false,
            buffer: vec![0; MAX_BURST].into_boxed_slice(),
            strays: VecDeque::new(),
        };
        // What is there already is forwarded when we say that we are ready.
        forwarder.follow(epoll, now);
        Ok(forwarder)
    }

    /// The addresses that rules name as targets.
    pub(crate) fn targets(&self) -> Vec<IpAddr> {
        let rules = Pif::ALL.iter().flat_map(|pif| self.listeners.table(*pif).rules());
        let mut targets: Vec<IpAddr> = rules.filter_map(|rule| rule.target).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// Readiness of something of ours.
    pub(crate) fn on_event(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        token: Token,
        ready: Readiness,
    ) {
        match token {
            Token::TcpListener(slot) | Token::UdpListener(slot) => self.take_from(stack, io, slot),
            Token::Spliced(slot, side) => {
                self.connections.on_event(io.host.epoll(), slot, side, ready)
            }
            Token::Relay(slot, side) => {
                self.relays.on_event(slot, side, ready, io.now, &mut self.buffer);
            }
            Token::Configuration => {
                if let Some(configuration) = &mut self.configuration {
                    configuration.on_connect(io.now);
                }
            }
            Token::Client(slot) => {
                let configuration = self.configuration.as_mut();
                let wanted = configuration.and_then(|c| c.on_client(slot, ready));
                if let Some(tables) = wanted {
                    self.change = Some(Change::new(&self.listeners, tables));
                }
            }
            Token::Tap
            | Token::Stream
            | Token::StreamListener
            | Token::Signals
            | Token::Watch
            | Token::Child
            | Token::Neighbours
            | Token::Flow(_) => {}
        }
    }

    /// Does what is due, and a little of what takes long.
    pub(crate) fn poll(&mut self, stack: &mut Stack<KernelHost>, io: &mut Surroundings<'_>) {
        self.connections.resume(io.host.epoll());
        self.relays.resume(io.now, &mut self.buffer);
        self.relays.on_deadline(io.now);
        self.take_strays(stack, io);
        for _ in 0..self.pending.len() {
            if let Some(slot) = self.pending.pop_front() {
                self.take_from(stack, io, slot);
            }
        }
        if self.retry.is_some_and(|retry| retry <= io.now) {
            self.retry = None;
            for slot in std::mem::take(&mut self.stuck) {
                self.take_from(stack, io, slot);
            }
        }
        self.listeners.close_some();
        if self.go_on_changing(io.host.epoll()) {
            stack.set_targets(self.targets());
        }
        self.follow(io.host.epoll(), io.now);
        if let Some(configuration) = &mut self.configuration {
            let (listeners, settings) = (&self.listeners, &self.settings);
            configuration.poll(io.host.epoll(), io.now, || {
                let table = |&(pif, caps, _): &_| PifTable {
                    pif,
                    caps,
                    table: listeners.table(pif).clone(),
                };
                settings.iter().map(table).collect()
            });
        }
    }

    /// When [`poll`](Self::poll) has something to do. A time in the past: at once.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let at_once = self.change.is_some()
            || self.listeners.has_closing()
            || self.connections.has_pending()
            || self.relays.has_pending()
            || !self.strays.is_empty()
            || !self.pending.is_empty();
        if at_once {
            return Some(Instant::default());
        }
        let look = self.auto.as_ref().filter(|_| self.listeners.scans()).map(Auto::next);
        let client = self.configuration.as_ref().and_then(Configuration::next_deadline);
        [self.relays.next_deadline(), look, client, self.retry].into_iter().flatten().min()
    }

    /// Takes from a listening socket what waits there.
    fn take_from(&mut self, stack: &mut Stack<KernelHost>, io: &mut Surroundings<'_>, slot: Slot) {
        let Some(entry) = self.listeners.get(slot) else { return };
        let all = if entry.tcp().is_some() {
            self.accept(stack, io, slot)
        } else {
            self.receive(stack, io, slot)
        };
        match all {
            Taken::All => {}
            Taken::Some => self.pending.push_back(slot),
            Taken::None => {
                self.stuck.push_back(slot);
                self.retry.get_or_insert(io.now + RETRY);
            }
        }
    }

    /// Keeps in step with what listens elsewhere, unless the rules are being changed.
    fn follow(&mut self, epoll: &Epoll, now: Instant) {
        let Some(auto) = self.auto.as_mut().filter(|auto| auto.next() <= now) else { return };
        if self.change.is_none() && self.listeners.scans() {
            let (namespace, settings) = (&mut self.namespace, &self.settings);
            let mut open = |pif, places: &[Place]| open(namespace, settings, pif, places);
            auto.poll(&mut self.listeners, epoll, &mut open, now);
        }
    }

    /// Does a little of a change of the rules. `true`: the new ones hold.
    fn go_on_changing(&mut self, epoll: &Epoll) -> bool {
        let Some(change) = &mut self.change else { return false };
        let (namespace, settings) = (&mut self.namespace, &self.settings);
        let mut open = |pif, places: &[Place]| open(namespace, settings, pif, places);
        let changed = match change.step(&mut self.listeners, epoll, &mut open) {
            Outcome::More => return false,
            Outcome::Done => {
                self.tell_rules();
                true
            }
            Outcome::Failed(error) => {
                log::error!("Forwarding rules stay as they are: {error}");
                false
            }
        };
        self.change = None;
        if let Some(auto) = &mut self.auto {
            auto.start_over();
        }
        if let Some(configuration) = &mut self.configuration {
            configuration.served();
        }
        changed
    }

    fn tell_rules(&self) {
        for (pif, ..) in &self.settings {
            let rules = self.listeners.table(*pif).rules().iter();
            // One message: of many in a row, not all would be written.
            let lines: String = rules.map(|rule| format!("\n    {rule}")).collect();
            log::info!("New forwarding rules for {}:{lines}", pif.name());
        }
    }
}

impl Forwarder {
    /// Whether sockets of an interface may have addresses that do not exist.
    fn freebind(&self, pif: Pif) -> bool {
        self.settings.iter().any(|(of, _, opening)| *of == pif && opening.freebind)
    }
}

/// What came of taking from a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// All that was there.
    All,
    /// Enough for now.
    Some,
    /// Nothing, because something is lacking.
    None,
}

/// Opens sockets at places on one interface.
fn open(
    namespace: &mut Option<Namespace>,
    settings: &[(Pif, Capabilities, Opening)],
    pif: Pif,
    places: &[Place],
) -> Vec<io::Result<Listener>> {
    let opening = settings.iter().find(|(of, ..)| *of == pif).map(|(.., opening)| *opening);
    let opening = opening.unwrap_or_default();
    match (pif, namespace) {
        (Pif::Splice, Some(namespace)) => namespace.listen(places, opening),
        (Pif::Host, _) => places.iter().map(|place| Listener::open(place, opening)).collect(),
        (Pif::Splice, None) => {
            places.iter().map(|_| Err(io::ErrorKind::Unsupported.into())).collect()
        }
    }
}

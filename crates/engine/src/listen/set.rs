//! The listening sockets there are, and the rules they stand for.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use stack::flow::{Slab, Slot};
use stack::rule::{Listen, Pif, Protocol, Rule, Table};
use sys::epoll::{Epoll, Interest};
use sys::socket::{TcpListener, UdpListener};

use super::ports::Ports;
use super::{Listener, Place, Socket};
use crate::token::Token;

/// Sockets closed at a time: closing many at once would keep everything else waiting.
const CLOSED_AT_ONCE: usize = 64;

/// One listening socket in service.
#[derive(Debug)]
pub(crate) struct Entry {
    listener: Listener,
    pif: Pif,
    rule: Arc<Rule>,
}

impl Entry {
    /// Where its flows begin.
    pub(crate) fn pif(&self) -> Pif {
        self.pif
    }

    /// Its rule.
    pub(crate) fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Where it listens.
    pub(crate) fn place(&self) -> &Place {
        &self.listener.place
    }

    /// The port its flows are forwarded to.
    pub(crate) fn target_port(&self) -> u16 {
        self.rule.target_port(self.listener.place.port)
    }

    /// Its socket, if it is one of TCP.
    pub(crate) fn tcp(&self) -> Option<&TcpListener> {
        match &self.listener.socket {
            Socket::Tcp(socket) => Some(socket),
            Socket::Udp(_) => None,
        }
    }

    /// Its socket, if it is one of UDP.
    pub(crate) fn udp(&self) -> Option<&UdpListener> {
        match &self.listener.socket {
            Socket::Tcp(_) => None,
            Socket::Udp(socket) => Some(socket),
        }
    }
}

/// The rules of one interface, as sockets refer to them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    table: Table,
    shared: Vec<Arc<Rule>>,
}

impl Rules {
    pub(super) fn new(table: Table) -> Self {
        let shared = table.rules().iter().cloned().map(Arc::new).collect();
        Self { table, shared }
    }

    pub(super) fn shared(&self) -> &[Arc<Rule>] {
        &self.shared
    }

    /// The rule that a socket at `place` stands for.
    pub(super) fn covering(&self, place: &Place) -> Option<&Arc<Rule>> {
        self.shared.iter().find(|rule| covers(rule, place))
    }
}

/// Whether a socket at `place` is one of those that serve `rule`. A rule that follows what others listen
/// on has a socket for each family.
fn covers(rule: &Rule, place: &Place) -> bool {
    let same = rule.listen == place.listen;
    let of_one_family = rule.scan
        && rule.listen == Listen::DualStack
        && matches!(place.listen, Listen::On(address) if address.is_unspecified());
    rule.protocol == place.protocol
        && (rule.first..=rule.last).contains(&place.port)
        && rule.device.as_deref() == place.device.as_deref()
        && if rule.scan && rule.listen == Listen::DualStack { of_one_family } else { same }
}

/// All listening sockets.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// How many of them best-effort rules may take.
    best_effort_limit: usize,
    entries: Slab<Entry>,
    by_place: HashMap<(Pif, Place), Slot>,
    rules: [Rules; 2],
    closing: Vec<Listener>,
}

fn index(pif: Pif) -> usize {
    match pif {
        Pif::Host => 0,
        Pif::Splice => 1,
    }
}

impl Listeners {
    /// None yet. What the limit of descriptors is has to be asked here: later it may not be.
    pub(crate) fn new() -> Self {
        Self {
            best_effort_limit: super::best_effort_limit(),
            entries: Slab::default(),
            by_place: HashMap::new(),
            rules: Default::default(),
            closing: Vec::new(),
        }
    }

    /// How many sockets best-effort rules may take.
    pub(super) fn best_effort_limit(&self) -> usize {
        self.best_effort_limit
    }

    /// Puts sockets into service that were opened for `table`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn start(
        &mut self,
        epoll: &Epoll,
        pif: Pif,
        table: Table,
        opened: Vec<Listener>,
    ) -> io::Result<()> {
        let rules = Rules::new(table);
        for listener in opened {
            if let Some(rule) = rules.covering(&listener.place) {
                self.add(epoll, pif, listener, Arc::clone(rule))?;
            }
        }
        self.set_rules(pif, rules);
        Ok(())
    }

    /// Puts one socket into service.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(super) fn add(
        &mut self,
        epoll: &Epoll,
        pif: Pif,
        listener: Listener,
        rule: Arc<Rule>,
    ) -> io::Result<()> {
        let place = listener.place.clone();
        let added = self.entries.try_insert_with(|slot| {
            let token = match &listener.socket {
                Socket::Tcp(_) => Token::TcpListener(slot),
                Socket::Udp(_) => Token::UdpListener(slot),
            };
            epoll.add(&listener, token.to_cookie(), Interest::Edges)?;
            Ok::<_, io::Error>(Entry { listener, pif, rule })
        });
        if let Some(added) = added {
            self.by_place.insert((pif, place), added?);
        }
        Ok(())
    }

    /// The socket with this number.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot)
    }

    /// The current rules of an interface.
    pub(crate) fn table(&self, pif: Pif) -> &Table {
        &self.rules(pif).table
    }

    pub(super) fn rules(&self, pif: Pif) -> &Rules {
        let [host, splice] = &self.rules;
        match pif {
            Pif::Host => host,
            Pif::Splice => splice,
        }
    }

    /// New rules for an interface. Sockets that serve one of them, too, serve that one from now on.
    pub(super) fn set_rules(&mut self, pif: Pif, rules: Rules) {
        let mine = self.by_place.iter().filter(|((of, _), _)| *of == pif);
        for ((_, place), slot) in mine {
            if let (Some(entry), Some(rule)) = (self.entries.get_mut(*slot), rules.covering(place))
            {
                entry.rule = Arc::clone(rule);
            }
        }
        if let Some(place) = self.rules.get_mut(index(pif)) {
            *place = rules;
        }
    }

    /// Every socket of an interface with its number.
    pub(super) fn of(&self, pif: Pif) -> impl Iterator<Item = (Slot, &Entry)> {
        self.entries.iter().filter(move |(_, entry)| entry.pif == pif)
    }

    /// Whether a place is listened on.
    pub(super) fn has(&self, pif: Pif, place: &Place) -> bool {
        self.by_place.contains_key(&(pif, place.clone()))
    }

    /// Ports that are listened on, whatever the address.
    pub(super) fn ports(&self, pif: Pif, protocol: Protocol) -> Ports {
        let mut ports = Ports::default();
        for (_, entry) in self.of(pif).filter(|(_, entry)| entry.place().protocol == protocol) {
            ports.insert(entry.place().port);
        }
        ports
    }

    /// Whether some rule follows what others listen on.
    pub(crate) fn scans(&self) -> bool {
        Pif::ALL.iter().any(|pif| self.table(*pif).rules().iter().any(|rule| rule.scan))
    }

    /// Takes a socket out of service, closed at once.
    pub(super) fn close(&mut self, slot: Slot) -> Option<(Pif, Place, Arc<Rule>)> {
        let Entry { listener, pif, rule } = self.entries.remove(slot)?;
        let place = listener.place.clone();
        drop(listener);
        self.by_place.remove(&(pif, place.clone()));
        Some((pif, place, rule))
    }

    /// Takes a socket out of service, closed when there is time.
    pub(super) fn close_later(&mut self, slot: Slot) {
        if let Some(Entry { listener, pif, .. }) = self.entries.remove(slot) {
            self.by_place.remove(&(pif, listener.place.clone()));
            self.closing.push(listener);
        }
    }

    /// Closes a few of those that are to be closed.
    pub(crate) fn close_some(&mut self) {
        let rest = self.closing.len().saturating_sub(CLOSED_AT_ONCE);
        self.closing.truncate(rest);
    }

    /// Whether some are to be closed.
    pub(crate) fn has_closing(&self) -> bool {
        !self.closing.is_empty()
    }
}

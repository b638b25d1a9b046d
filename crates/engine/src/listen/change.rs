//! New rules while running: all of them or none.
//!
//! Sockets that serve old and new rules alike stay as they are, with what waits in them. The others are
//! opened before anything is closed, except where an old socket is in the way of a new one. It all goes in
//! small steps, between which traffic moves on.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use stack::flow::Slot;
use stack::rule::{Pif, Protocol, Rule, Table};
use sys::epoll::Epoll;

use super::set::{Listeners, Rules};
use super::{ListenError, Listener, Place};

/// Sockets opened per step.
const OPENED_AT_ONCE: usize = 64;

/// How a step went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There is more to do.
    More,
    /// The new rules hold.
    Done,
    /// The old rules hold.
    Failed(ListenError),
}

/// Opens sockets at places that are all on one interface.
pub(crate) type Opener<'a> = dyn FnMut(Pif, &[Place]) -> Vec<io::Result<Listener>> + 'a;

/// A socket that is to be opened, or was.
#[derive(Clone, Debug)]
struct Wanted {
    pif: Pif,
    place: Place,
    rule: Arc<Rule>,
    /// Which of its table's rules that is.
    number: usize,
}

/// The rules to come for one interface, and how they fare.
#[derive(Debug)]
struct Plan {
    pif: Pif,
    rules: Rules,
    /// Which rules have a socket.
    served: Vec<bool>,
    /// What the kernel said last about a port of a best-effort rule.
    failed: Vec<Option<io::Error>>,
}

/// A change on its way.
#[derive(Debug)]
pub(crate) struct Change {
    plans: Vec<Plan>,
    /// Still to be opened, the next ones last.
    wanted: Vec<Wanted>,
    /// Opened and not in service yet.
    opened: Vec<(Listener, Wanted)>,
    /// Closed because they were in the way.
    closed: Vec<(Pif, Place, Arc<Rule>)>,
    /// To be closed once the new rules hold.
    superfluous: Vec<Slot>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Opening,
    Committing,
    Restoring(Option<ListenError>),
}

impl Change {
    /// The way from what is to `tables`.
    pub(crate) fn new(listeners: &Listeners, tables: Vec<(Pif, Table)>) -> Self {
        let mut wanted = Vec::new();
        let mut superfluous = Vec::new();
        let mut plans = Vec::new();
        for (pif, table) in tables {
            let rules = Rules::new(table);
            let kept = |(slot, place)| rules.covering(place).is_none().then_some(slot);
            superfluous.extend(
                listeners.of(pif).map(|(slot, entry)| (slot, entry.place())).filter_map(kept),
            );
            let mut served = Vec::new();
            for (number, rule) in rules.shared().iter().enumerate() {
                let before = wanted.len();
                let always = if rule.scan { None } else { Some(rule.first..=rule.last) };
                let device: Option<Arc<str>> = rule.device.as_deref().map(Into::into);
                for port in always.into_iter().flatten() {
                    let place = Place::of(rule, &device, port);
                    if !listeners.has(pif, &place) {
                        wanted.push(Wanted { pif, place, rule: Arc::clone(rule), number });
                    }
                }
                served.push(rule.scan || wanted.len() - before < rule.ports());
            }
            let failed = served.iter().map(|_| None).collect();
            plans.push(Plan { pif, rules, served, failed });
        }
        wanted.reverse();
        Self {
            plans,
            wanted,
            opened: Vec::new(),
            closed: Vec::new(),
            superfluous,
            stage: Stage::Opening,
        }
    }

    /// Does a little of it.
    pub(crate) fn step(
        &mut self,
        listeners: &mut Listeners,
        epoll: &Epoll,
        open: &mut Opener<'_>,
    ) -> Outcome {
        match &mut self.stage {
            Stage::Opening => self.open_some(listeners, open),
            Stage::Committing => self.commit_some(listeners, epoll),
            Stage::Restoring(why) => {
                let why = why.take();
                self.restore(listeners, epoll, open);
                why.map_or(Outcome::Done, Outcome::Failed)
            }
        }
    }

    fn open_some(&mut self, listeners: &mut Listeners, open: &mut Opener<'_>) -> Outcome {
        let Some(pif) = self.wanted.last().map(|wanted| wanted.pif) else {
            return self.all_opened(listeners);
        };
        let mut next = Vec::with_capacity(OPENED_AT_ONCE);
        while next.len() < OPENED_AT_ONCE
            && self.wanted.last().is_some_and(|wanted| wanted.pif == pif)
        {
            next.extend(self.wanted.pop());
        }
        if self.opened.len() >= listeners.best_effort_limit() {
            next.retain(|wanted| !wanted.rule.best_effort);
        }
        self.make_way(listeners, &next);
        let places: Vec<Place> = next.iter().map(|wanted| wanted.place.clone()).collect();
        for (wanted, result) in next.into_iter().zip(open(pif, &places)) {
            let plan = self.plans.iter_mut().find(|plan| plan.pif == pif);
            match (result, plan) {
                (Ok(listener), plan) => {
                    if let Some(served) = plan.and_then(|plan| plan.served.get_mut(wanted.number)) {
                        *served = true;
                    }
                    self.opened.push((listener, wanted));
                }
                (Err(error), Some(plan)) if wanted.rule.best_effort => {
                    if let Some(failed) = plan.failed.get_mut(wanted.number) {
                        *failed = Some(error);
                    }
                }
                (Err(error), _) => {
                    let place = wanted.place;
                    return self.fail(ListenError::Port { pif, place, error });
                }
            }
        }
        Outcome::More
    }

    /// Closes those sockets of the old rules that would keep the new ones from being opened.
    fn make_way(&mut self, listeners: &mut Listeners, next: &[Wanted]) {
        let ports: HashSet<(Pif, Protocol, u16)> = next
            .iter()
            .map(|wanted| (wanted.pif, wanted.place.protocol, wanted.place.port))
            .collect();
        let closed = &mut self.closed;
        self.superfluous.retain(|slot| {
            let Some(entry) = listeners.get(*slot) else { return false };
            let place = entry.place();
            let in_the_way = ports.contains(&(entry.pif(), place.protocol, place.port))
                && next.iter().any(|wanted| wanted.place.conflicts(place));
            if in_the_way {
                closed.extend(listeners.close(*slot));
            }
            !in_the_way
        });
    }

    fn all_opened(&mut self, listeners: &mut Listeners) -> Outcome {
        let without = self.plans.iter_mut().find_map(|plan| {
            let number = plan.served.iter().position(|served| !served)?;
            let error = plan.failed.get_mut(number)?.take()?;
            let rule = Box::new(Rule::clone(plan.rules.shared().get(number)?));
            Some(ListenError::Rule { pif: plan.pif, rule, error })
        });
        if let Some(why) = without {
            return self.fail(why);
        }
        for plan in self.plans.drain(..) {
            listeners.set_rules(plan.pif, plan.rules);
        }
        self.stage = Stage::Committing;
        Outcome::More
    }

    fn commit_some(&mut self, listeners: &mut Listeners, epoll: &Epoll) -> Outcome {
        for _ in 0..OPENED_AT_ONCE {
            if let Some((listener, wanted)) = self.opened.pop() {
                put(listeners, epoll, wanted.pif, listener, wanted.rule);
            } else if let Some(slot) = self.superfluous.pop() {
                listeners.close_later(slot);
            } else {
                return Outcome::Done;
            }
        }
        Outcome::More
    }

    /// It cannot be: back to the old rules, in the next step.
    fn fail(&mut self, why: ListenError) -> Outcome {
        self.wanted.clear();
        // At once: the old ones may need the ports.
        self.opened.clear();
        self.stage = Stage::Restoring(Some(why));
        Outcome::More
    }

    /// Opens again what was closed because it was in the way.
    fn restore(&mut self, listeners: &mut Listeners, epoll: &Epoll, open: &mut Opener<'_>) {
        for (pif, place, rule) in self.closed.drain(..) {
            for result in open(pif, std::slice::from_ref(&place)) {
                match result {
                    Ok(listener) => put(listeners, epoll, pif, listener, Arc::clone(&rule)),
                    Err(error) => {
                        let (pif, protocol) = (pif.name(), place.protocol.name());
                        log::error!("{pif} {protocol} port {place} was lost: {error}");
                    }
                }
            }
        }
    }
}

/// Puts a socket into service.
fn put(listeners: &mut Listeners, epoll: &Epoll, pif: Pif, listener: Listener, rule: Arc<Rule>) {
    if let Err(error) = listeners.add(epoll, pif, listener, rule) {
        log::error!("Couldn't watch listening socket: {error}");
    }
}

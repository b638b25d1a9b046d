//! The server of the configuration socket: who connects is shown the forwarding rules and may replace them.
//!
//! Clients read the rules and send all of them back, so each has to be done before the next one is shown
//! anything: otherwise one would undo what the other did. They wait in the order in which they came. A
//! client that takes its time keeps nobody but its successors waiting, and those not for long.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use control::{PifTable, UpdateDecoder, encode_configuration};
use stack::flow::{Slab, Slot};
use stack::io::Readiness;
use stack::rule::{Pif, Table};
use stack::time::Instant;
use sys::epoll::{Epoll, Interest};

use crate::token::Token;

/// Clients connected at a time; others wait in the socket's backlog.
const CLIENTS: usize = 16;
/// How long a client may take while others wait, counted from when it was shown the rules.
const PATIENCE: Duration = Duration::from_secs(5);
/// And at least, however many wait.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// When to accept again after there were no descriptors.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    stage: Stage,
    /// When it connected, or was shown the rules.
    since: Instant,
}

#[derive(Debug)]
enum Stage {
    /// For its predecessors.
    Waiting,
    /// The rules are being sent, up to here.
    Shown(Box<Shown>),
    /// What it sent is being carried out.
    Served,
}

#[derive(Debug)]
struct Shown {
    message: Vec<u8>,
    sent: usize,
    decoder: UpdateDecoder,
}

/// The configuration socket and its clients.
#[derive(Debug)]
pub(crate) struct Configuration {
    listener: UnixListener,
    clients: Slab<Client>,
    order: VecDeque<Slot>,
    /// There may be more to accept: from when on.
    accept: Option<Instant>,
}

impl Configuration {
    /// Serves clients of `listener`, which does not block.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn new(listener: UnixListener, epoll: &Epoll) -> io::Result<Self> {
        epoll.add(&listener, Token::Configuration.to_cookie(), Interest::Edges)?;
        let clients = Slab::default();
        Ok(Self { listener, clients, order: VecDeque::new(), accept: None })
    }

    /// Somebody wants to connect.
    pub(crate) fn on_connect(&mut self, now: Instant) {
        self.accept = Some(now);
    }

    /// Readiness of a client. Returns the rules it wants, once it has sent them.
    pub(crate) fn on_client(&mut self, slot: Slot, ready: Readiness) -> Option<Vec<(Pif, Table)>> {
        let client = self.clients.get_mut(slot)?;
        match &mut client.stage {
            Stage::Waiting if ready.hang_up || ready.error => self.leave(slot),
            Stage::Waiting | Stage::Served => {}
            Stage::Shown(_) => match client.talk() {
                Ok(Talk::Update(tables)) => return Some(tables),
                Ok(Talk::More) => {}
                Ok(Talk::Over) => self.leave(slot),
                Err(error) => {
                    log::warn!("Configuration client: {error}");
                    self.leave(slot);
                }
            },
        }
        None
    }

    /// What the first client asked for has been carried out, or could not be.
    pub(crate) fn served(&mut self) {
        if let Some(&first) = self.order.front() {
            self.leave(first);
        }
    }

    /// Accepts, sends away who takes too long, and shows `rules` to the next one.
    pub(crate) fn poll(&mut self, epoll: &Epoll, now: Instant, rules: impl Fn() -> Vec<PifTable>) {
        if self.accept.is_some_and(|from| from <= now) {
            self.accept_all(epoll, now);
        }
        while let Some(&first) = self.order.front() {
            let patience = self.patience();
            let Some(client) = self.clients.get_mut(first) else { return };
            match &client.stage {
                Stage::Waiting => {
                    client.show(&rules(), now);
                    if client.send().is_err() {
                        self.leave(first);
                    }
                }
                Stage::Shown(_)
                    if patience.is_some_and(|patience| client.since + patience <= now) =>
                {
                    log::warn!("Configuration client: no answer, others are waiting");
                    self.leave(first);
                }
                Stage::Shown(_) | Stage::Served => return,
            }
        }
    }

    /// How long the first client may take: for ever, while nobody else wants to be served.
    fn patience(&self) -> Option<Duration> {
        let waiting = u32::try_from(self.order.len().saturating_sub(1)).ok()?;
        Some(PATIENCE.checked_div(waiting)?.max(LEAST_PATIENCE))
    }

    /// When [`poll`](Self::poll) has something to do by itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.order.front().and_then(|first| self.clients.get(*first));
        let patience = first.and_then(|client| match client.stage {
            Stage::Waiting => Some(Instant::default()),
            Stage::Shown(_) => self.patience().map(|patience| client.since + patience),
            Stage::Served => None,
        });
        let accept = self.accept.filter(|_| self.clients.len() < CLIENTS);
        accept.into_iter().chain(patience).min()
    }

    fn accept_all(&mut self, epoll: &Epoll, now: Instant) {
        while self.clients.len() < CLIENTS {
            let stream = match sys::unix::accept(&self.listener) {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accept = None;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::warn!("Configuration socket: {error}");
                    self.accept = Some(now + RETRY);
                    return;
                }
            };
            let pid = sys::unix::peer_pid(&stream);
            log::info!("Accepted configuration client, PID {pid}");
            let added = self.clients.try_insert_with(|slot| {
                epoll.add(&stream, Token::Client(slot).to_cookie(), Interest::Edges)?;
                Ok::<_, io::Error>(Client { stream, stage: Stage::Waiting, since: now })
            });
            match added {
                Some(Ok(slot)) => self.order.push_back(slot),
                Some(Err(error)) => log::warn!("Configuration client: {error}"),
                None => {}
            }
        }
    }

    fn leave(&mut self, slot: Slot) {
        self.clients.remove(slot);
        self.order.retain(|other| *other != slot);
    }
}

/// What a client wants now.
enum Talk {
    More,
    Update(Vec<(Pif, Table)>),
    Over,
}

impl Client {
    fn show(&mut self, rules: &[PifTable], now: Instant) {
        self.since = now;
        self.stage = Stage::Shown(Box::new(Shown {
            message: encode_configuration(rules),
            sent: 0,
            decoder: UpdateDecoder::new(rules.iter().map(|table| (table.pif, table.caps))),
        }));
    }

    /// Sends what is left of the rules, as far as that goes.
    fn send(&mut self) -> io::Result<()> {
        let Stage::Shown(shown) = &mut self.stage else { return Ok(()) };
        while let Some(rest) = shown.message.get(shown.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(len) => shown.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends and reads as far as that goes.
    fn talk(&mut self) -> Result<Talk, Box<dyn std::error::Error>> {
        // Who has only come to send does not mind that it cannot be shown anything.
        let sent = self.send();
        let Stage::Shown(shown) = &mut self.stage else { return Ok(Talk::More) };
        let decoder = &mut shown.decoder;
        let mut buffer = [0; 4096];
        loop {
            let len = match self.stream.read(&mut buffer) {
                Ok(0) if decoder.started() => return Err("the message ends too early".into()),
                Ok(0) => return Ok(Talk::Over),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(sent.map(|()| Talk::More)?);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Talk::Over),
                Err(error) => return Err(error.into()),
            };
            let mut input = buffer.get(..len).unwrap_or_default();
            if let Some(tables) = decoder.feed(&mut input)? {
                self.stage = Stage::Served;
                let tables = tables.into_iter().map(|PifTable { pif, table, .. }| (pif, table));
                return Ok(Talk::Update(tables.collect()));
            }
        }
    }
}

//! The thread that lives in the guest's namespace, where it makes sockets for us.
//!
//! A socket belongs to the network namespace of the thread that made it, and can be used from every other.
//! Bound or connected to anything it is by whoever uses it, except where that takes a privilege over the
//! namespace: listening sockets come complete.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use sys::netns;
use sys::socket::{Kind, Unbound};

use crate::listen::{Listener, Opening, Place};

/// Sockets made ahead the first time, and most of them: each takes a descriptor while it waits.
const FIRST_BATCH: usize = 4;
const MOST: usize = 32;

/// What the thread is asked for.
enum Request {
    /// So many sockets of this kind.
    Sockets(Pool, usize),
    /// Sockets that listen at these places.
    Listen(Vec<Place>, Opening),
}

/// What it answers.
enum Answer {
    /// As many as could be had, and why there are not more.
    Sockets(Pool, Vec<Unbound>, Option<io::Error>),
    Listeners(Vec<io::Result<Listener>>),
}

/// Which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pool {
    kind: Kind,
    ipv6: bool,
}

/// Sockets of one kind, made ahead.
#[derive(Debug)]
struct Stock {
    pool: Pool,
    sockets: VecDeque<Unbound>,
    /// How many are asked for next time.
    batch: usize,
    /// Some are on their way.
    asked: bool,
}

/// Makes sockets in a network namespace.
#[derive(Debug)]
pub struct Namespace {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    stocks: Vec<Stock>,
}

impl Namespace {
    /// Starts the thread in `namespace`. There, `prepare` runs first: it gives up what the thread is not
    /// to have.
    ///
    /// # Errors
    /// Those of starting a thread, of `setns(2)`, and of `prepare`.
    pub fn start(
        namespace: OwnedFd,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let (outbox, answers) = mpsc::channel();
        let (ready, readiness) = mpsc::channel();
        thread::Builder::new().name("netns".into()).spawn(move || {
            let entered = netns::enter_network(namespace.as_fd()).and_then(|()| prepare());
            // Open, it would keep its file from being unmounted.
            drop(namespace);
            let live = entered.is_ok();
            if ready.send(entered).is_ok() && live {
                serve(&inbox, &outbox);
                // Nobody is left to ask: the process is about to end, and this thread with it. Ending by
                // itself takes calls that `prepare` may have forbidden.
                loop {
                    thread::park();
                }
            }
        })?;
        readiness.recv().unwrap_or_else(|_| Err(gone()))?;
        let stock = |kind, ipv6| Stock {
            pool: Pool { kind, ipv6 },
            sockets: VecDeque::new(),
            batch: FIRST_BATCH,
            asked: false,
        };
        let stocks = vec![
            stock(Kind::Tcp, false),
            stock(Kind::Tcp, true),
            stock(Kind::Udp, false),
            stock(Kind::Udp, true),
        ];
        Ok(Self { requests, answers, stocks })
    }

    /// A socket of the namespace, as a rule one that was made ahead.
    ///
    /// # Errors
    /// Those of `socket(2)`.
    pub(crate) fn socket(&mut self, kind: Kind, ipv6: bool) -> io::Result<Unbound> {
        let pool = Pool { kind, ipv6 };
        while let Ok(answer) = self.answers.try_recv() {
            // Nobody asked for listening sockets without waiting for them.
            let _ = self.store(answer);
        }
        let stock = self.stock(pool)?;
        if let Some(socket) = stock.sockets.pop_front() {
            if stock.sockets.len() < stock.batch / 2 {
                self.ask(pool)?;
            }
            return Ok(socket);
        }
        self.ask(pool)?;
        loop {
            let answer = self.answers.recv().map_err(|_| gone())?;
            if let Some(error) = self.store(answer) {
                return Err(error);
            }
            if let Some(socket) = self.stock(pool)?.sockets.pop_front() {
                return Ok(socket);
            }
        }
    }

    /// Listens at `places`; an outcome for each.
    pub(crate) fn listen(
        &mut self,
        places: &[Place],
        opening: Opening,
    ) -> Vec<io::Result<Listener>> {
        if self.requests.send(Request::Listen(places.to_vec(), opening)).is_ok() {
            while let Ok(answer) = self.answers.recv() {
                match answer {
                    Answer::Listeners(listeners) => return listeners,
                    Answer::Sockets(..) => drop(self.store(answer)),
                }
            }
        }
        places.iter().map(|_| Err(gone())).collect()
    }

    fn stock(&mut self, pool: Pool) -> io::Result<&mut Stock> {
        self.stocks.iter_mut().find(|stock| stock.pool == pool).ok_or_else(gone)
    }

    /// Asks for more sockets, unless that has been done.
    fn ask(&mut self, pool: Pool) -> io::Result<()> {
        let stock = self.stock(pool)?;
        if !std::mem::replace(&mut stock.asked, true) {
            let batch = stock.batch;
            stock.batch = (batch * 2).min(MOST);
            self.requests.send(Request::Sockets(pool, batch)).map_err(|_| gone())?;
        }
        Ok(())
    }

    /// Puts sockets where they belong; returns why there are not more.
    fn store(&mut self, answer: Answer) -> Option<io::Error> {
        let Answer::Sockets(pool, sockets, error) = answer else { return None };
        let stock = self.stock(pool).ok()?;
        stock.asked = false;
        let none = sockets.is_empty();
        stock.sockets.extend(sockets);
        error.filter(|_| none)
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread in the namespace is gone")
}

/// Answers until nobody is left to ask.
fn serve(inbox: &Receiver<Request>, outbox: &Sender<Answer>) {
    while let Ok(request) = inbox.recv() {
        let answer = match request {
            Request::Sockets(pool, count) => sockets(pool, count),
            Request::Listen(places, opening) => Answer::Listeners(
                places.iter().map(|place| Listener::open(place, opening)).collect(),
            ),
        };
        if outbox.send(answer).is_err() {
            return;
        }
    }
}

fn sockets(pool: Pool, count: usize) -> Answer {
    let mut sockets = Vec::with_capacity(count);
    let mut error = None;
    while sockets.len() < count && error.is_none() {
        match Unbound::new(pool.kind, pool.ipv6) {
            Ok(socket) => sockets.push(socket),
            Err(why) => error = Some(why),
        }
    }
    Answer::Sockets(pool, sockets, error)
}

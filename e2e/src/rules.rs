//! Forwarding rules while pasta runs: its client pesto, the protocol between them, and the sockets
//! that come of it.

use crate::{Case, SHORT};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Outcome, Pasta, Place, User, wait_for};

/// A pasta with a configuration socket, and how to talk to it.
#[derive(Debug)]
pub struct Served<'c> {
    case: &'c Case<'c>,
    /// The program and its namespace.
    pub guest: Pasta,
    /// The configuration socket.
    pub socket: PathBuf,
    pesto: Vec<String>,
}

/// Listening sockets: `tcp ADDRESS:PORT` as ss(8) writes it, with the number of the socket's inode.
pub type Sockets = BTreeMap<String, u64>;

impl<'c> Served<'c> {
    /// A pasta with `options` (split at spaces), whose socket is `control` in the rig's directory.
    pub fn start(case: &'c Case<'c>, options: &str) -> Result<Self> {
        let socket = case.rig.tmp().join("control");
        let path = socket.display().to_string();
        let words: Vec<&str> = options.split_whitespace().chain(["-c", &path]).collect();
        let guest = case.guest(&words)?;
        Self::of(case, guest, socket)
    }

    /// A pasta that runs already.
    pub fn of(case: &'c Case<'c>, guest: Pasta, socket: PathBuf) -> Result<Self> {
        Ok(Self { case, guest, socket, pesto: our_client(case)? })
    }

    /// With another client in place of our own.
    #[must_use]
    pub fn with_client(mut self, argv: &[String]) -> Self {
        argv.clone_into(&mut self.pesto);
        self
    }

    /// Runs pesto with these arguments (split at spaces) and the socket, as the user who runs pasta.
    pub fn pesto(&self, args: &str) -> Result<Outcome> {
        self.run(&self.pesto, args)
    }

    /// Runs any client like that.
    pub fn run(&self, client: &[String], args: &str) -> Result<Outcome> {
        // A script changes the user itself.
        let own = client.first().is_some_and(|program| program.ends_with("/pesto"));
        let user = if own { self.case.user } else { User::Root };
        let mut argv = client.to_vec();
        argv.extend(args.split_whitespace().map(str::to_owned));
        argv.push(self.socket.display().to_string());
        self.case.rig.outcome(&Place::Host, user, SHORT, &argv)
    }

    /// Runs pesto, which must end with 0 and say nothing.
    pub fn change(&self, args: &str) -> Result<()> {
        let outcome = self.pesto(args)?;
        let quiet = outcome.stdout.is_empty() && outcome.stderr.is_empty();
        ensure!(outcome.code() == Some(0) && quiet, "pesto {args}: {outcome:?}");
        Ok(())
    }

    /// Runs pesto, which must end with 1 and change nothing; returns what it said about that.
    pub fn refused(&self, args: &str) -> Result<String> {
        let before = (self.rules()?, self.sockets(&Place::Host)?, self.inside()?);
        let outcome = self.pesto(args)?;
        ensure!(outcome.code() == Some(1), "pesto {args}: {outcome:?}");
        ensure!(outcome.stdout.is_empty(), "pesto {args}: {outcome:?}");
        let after = (self.rules()?, self.sockets(&Place::Host)?, self.inside()?);
        ensure!(before == after, "pesto {args}: {before:?} before, {after:?} after");
        Ok(outcome.stderr)
    }

    /// The rules as pesto prints them: lines `TABLE RULE`.
    pub fn rules(&self) -> Result<Vec<String>> {
        let text = self.pesto("")?.ok("pesto")?;
        let head = format!("passt/pasta configuration ({})", self.socket.display());
        let mut lines = text.lines();
        ensure!(lines.next() == Some(&head), "{text}");
        tables(lines)
    }

    /// What pasta listens on at a place.
    pub fn sockets(&self, place: &Place) -> Result<Sockets> {
        sockets(self.case, place, &["pasta"])
    }

    /// What pasta listens on in the namespace.
    pub fn inside(&self) -> Result<Sockets> {
        self.sockets(&self.guest.place())
    }

    /// Waits until pasta listens on just these on the host, for those that are closed with time.
    pub fn listens(&self, wanted: &[&str]) -> Result<()> {
        self.listens_at(&Place::Host, wanted)
    }

    /// Like [`Served::listens`], at any place.
    pub fn listens_at(&self, place: &Place, wanted: &[&str]) -> Result<()> {
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        let mut now = Sockets::new();
        wait_for("listening sockets", Duration::from_secs(3), || {
            now = self.sockets(place)?;
            Ok(now.keys().eq(&wanted).then_some(()))
        })
        .with_context(|| format!("{now:?}, wanted {wanted:?}"))
    }

    /// Connects to the configuration socket without a client's help.
    pub fn connect(&self) -> Result<Session> {
        Session::open(&self.socket)
    }
}

/// Our client, as a command line.
pub fn our_client(case: &Case<'_>) -> Result<Vec<String>> {
    Ok(vec![case.rig.pesto()?.display().to_string()])
}

/// The packaged C client, as a command line of the ordinary user.
pub fn their_client(case: &Case<'_>) -> Result<Vec<String>> {
    let path = case.rig.debian()?.join("cpesto").display().to_string();
    Ok(vec!["env".into(), "PASTA_UID=1000".into(), path])
}

/// Reads tables as a client prints them: lines `TABLE RULE`.
pub fn tables<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<String>> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in lines {
        if let Some(rule) = line.strip_prefix("    ") {
            rules.push(format!("{table} {}", rule.trim_end()));
        } else {
            table = line.strip_prefix("  ").context("neither a table nor a rule")?;
            rules.push(table.to_owned());
        }
    }
    Ok(rules)
}

/// What processes with one of these names listen on at a place.
pub fn sockets(case: &Case<'_>, place: &Place, names: &[&str]) -> Result<Sockets> {
    case.rig.needs(&["ss"])?;
    let text = case.rig.run(place, SHORT, &["ss", "-Hlntupe"])?;
    let mut found = Sockets::new();
    for line in text.lines() {
        let ours = names.iter().any(|name| line.contains(&format!("((\"{name}")));
        let words: Vec<&str> = line.split_whitespace().collect();
        if let (true, [protocol, _, _, _, local, ..]) = (ours, words.as_slice()) {
            let inode = words.iter().find_map(|word| word.strip_prefix("ino:")?.parse().ok());
            found.insert(format!("{protocol} {local}"), inode.context("no inode")?);
        }
    }
    Ok(found)
}

/// What a server says first: a name, version 2, and the sizes of two kinds of names.
const HELLO: &[u8] = b"basil:s\0\0\0\0\x02\0\0\0\x80\0\0\0\x10";
/// Length of a rule.
const RULE: usize = 56;
/// Length of what precedes a table's rules: name, capabilities, count.
const HEADER: usize = 136;

/// A rule as it is sent.
pub type Record = [u8; RULE];

/// A conversation with a server, in bytes. Number 1 is the table `HOST`, 3 is `SPLICE`.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    /// Number and rules of each table that the server has shown.
    pub tables: Vec<(u8, Vec<Record>)>,
}

impl Session {
    /// Connects and reads what the server has.
    pub fn open(path: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        stream.set_read_timeout(Some(SHORT))?;
        let mut hello = [0; HELLO.len()];
        stream.read_exact(&mut hello)?;
        ensure!(hello == HELLO, "hello: {hello:?}");
        let mut tables = Vec::new();
        loop {
            let mut number = [0];
            stream.read_exact(&mut number)?;
            let [number] = number;
            if number == 0 {
                return Ok(Self { stream, tables });
            }
            let mut header = [0; HEADER];
            stream.read_exact(&mut header)?;
            let [.., a, b, c, d] = header;
            let mut rules = Vec::new();
            for _ in 0..u32::from_be_bytes([a, b, c, d]) {
                let mut rule = [0; RULE];
                stream.read_exact(&mut rule)?;
                rules.push(rule);
            }
            tables.push((number, rules));
        }
    }

    /// The rules of a table.
    pub fn table(&mut self, number: u8) -> Result<&mut Vec<Record>> {
        let found = self.tables.iter_mut().find(|(of, _)| *of == number);
        Ok(&mut found.context("no such table")?.1)
    }

    /// The message that asks for the tables as they are in `self`.
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, rules) in &self.tables {
            message.push(*number);
            message.extend(u32::try_from(rules.len()).unwrap_or(0).to_be_bytes());
            message.extend(rules.iter().flatten());
        }
        message.push(0);
        message
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Waits for the end of the connection.
    pub fn end(mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let n = self.stream.read(&mut [0]).context("the end of the connection")?;
        ensure!(n == 0, "an answer");
        Ok(())
    }

    /// Asks for the tables as they are in `self` and waits until that was done, or refused.
    pub fn commit(mut self) -> Result<()> {
        let message = self.message();
        self.send(&message)?;
        self.end()
    }
}

/// The rule of `-t FIRST:TO`, on any address.
pub fn tcp_rule(first: u16, to: u16) -> Record {
    let mut rule = [0; RULE];
    for (at, port) in [(48, first), (50, first), (52, to)] {
        rule[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
    rule[54] = 6;
    rule[55] = 1;
    rule
}

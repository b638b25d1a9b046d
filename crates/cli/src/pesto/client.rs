//! Conversations with a server, none of which lasts for ever.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use control::{ConfigurationDecoder, PifTable, encode_update};
use sys::unix::Client;

use crate::start::failure;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For one exchange, from its first system call to its last: connecting and reading the tables, or
    /// writing them and waiting for the end of the connection.
    pub(super) exchange: Duration,
    /// For listening on a socket that is there: before it does, connections are refused.
    pub(super) refused: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self =
        Self { exchange: Duration::from_secs(10), refused: Duration::from_secs(1) };
}

/// A connection to a server that has said what tables it has.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    stream: Client,
    path: &'a Path,
    limits: Limits,
}

impl<'a> Connection<'a> {
    /// Connects to the socket at `path` and reads the tables.
    pub(super) fn open(path: &'a Path, limits: Limits) -> Result<(Self, Vec<PifTable>)> {
        let deadline = Deadline::after(limits.exchange);
        let stream = connect(path, limits, deadline)
            .map_err(|error| failure(&format!("Couldn't connect to {}", path.display()), &error))?;
        log::debug!("Connected to passt/pasta control socket");
        let connection = Self { stream, path, limits };
        let tables = connection.receive(deadline)?;
        Ok((connection, tables))
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<PifTable>> {
        let path = self.path.display();
        let mut decoder = ConfigurationDecoder::new();
        let mut buffer = [0; 4096];
        loop {
            let len = match deadline.read(&self.stream, &mut buffer) {
                Ok(0) => {
                    bail!("Server closed the connection before its configuration was complete")
                }
                Ok(len) => len,
                Err(error) if is_timeout(&error) => bail!(
                    "No configuration from {path} within {} s\n\
                     Another client is being served, or this is not the socket of --conf-path",
                    self.limits.exchange.as_secs_f32()
                ),
                Err(error) => {
                    return Err(failure(
                        &format!("Couldn't read configuration from {path}"),
                        &error,
                    ));
                }
            };
            let mut piece = buffer.get(..len).unwrap_or_default();
            match decoder.feed(&mut piece) {
                Ok(None) => {}
                Ok(Some(tables)) => return Ok(tables),
                Err(control::Error::Hello(error)) => return Err(error.into()),
                Err(error) => bail!("Invalid configuration from {path}: {error}"),
            }
        }
    }

    /// Sends tables, and returns when the server has closed the connection, which it does when it has
    /// put them into effect, or failed to.
    pub(super) fn replace(self, tables: &[PifTable]) -> Result<()> {
        let deadline = Deadline::after(self.limits.exchange);
        let sent = deadline
            .write(&self.stream, &encode_update(tables))
            .and_then(|()| self.stream.finish())
            .and_then(|()| {
                loop {
                    // Nothing is said any more; what is said nevertheless is not for us.
                    if deadline.read(&self.stream, &mut [0; 64])? == 0 {
                        break Ok(());
                    }
                }
            });
        sent.map_err(|error| {
            if is_closed(&error) {
                anyhow!("Server refused the new rules\nIts own messages say why")
            } else if is_timeout(&error) {
                anyhow!(
                    "Server didn't finish with the new rules within {} s",
                    self.limits.exchange.as_secs_f32()
                )
            } else {
                failure("Couldn't send new rules", &error)
            }
        })
    }
}

/// Connects to a server that may just be starting, or have no room in its queue: it serves one client at a
/// time.
fn connect(path: &Path, limits: Limits, deadline: Deadline) -> io::Result<Client> {
    let refused = Deadline::after(limits.refused);
    loop {
        let error = match Client::connect(path) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let starting = error.kind() == ErrorKind::ConnectionRefused && !refused.is_over();
        if !(is_passing(&error) || starting) {
            return Err(error);
        }
        if deadline.is_over() {
            return Err(if starting { error } else { ErrorKind::TimedOut.into() });
        }
        sys::clock::pause(PAUSE);
    }
}

/// Whether the server has closed the connection. With data of ours unread, that resets it.
fn is_closed(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionReset | BrokenPipe | NotConnected)
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::TimedOut
}

/// A point in time after which nothing is waited for.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// What is left, if anything is.
    fn left(self) -> io::Result<Duration> {
        match self.0.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    fn read(self, stream: &Client, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match stream.read(buffer, self.left()?) {
                Err(error) if is_passing(&error) => {}
                result => return result,
            }
        }
    }

    fn write(self, stream: &Client, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match stream.write(bytes, self.left()?) {
                Err(error) if is_passing(&error) => {}
                result => bytes = bytes.get(result?..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

/// Whether it is no more than a reason to try again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

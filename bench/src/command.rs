//! Running other programs, always for a bounded time.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a set-up command may take.
const SETUP: Duration = Duration::from_secs(10);

/// A command line of whitespace-separated words.
pub(crate) fn words(line: &str) -> Command {
    let mut words = line.split_ascii_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Runs a command line of whitespace-separated words; anything but success is an error.
pub(crate) fn sh(line: &str) -> Result<String> {
    output(words(line), SETUP)
}

/// Runs a command for at most `limit` and returns what it wrote to standard output.
pub(crate) fn output(mut command: Command, limit: Duration) -> Result<String> {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| format!("cannot run {what}"))?);
    let (out, err) = (running.0.stdout.take(), running.0.stderr.take());
    let out = thread::spawn(move || slurp(out));
    let err = thread::spawn(move || slurp(err));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = running.0.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            drop(running);
            bail!("{what}: not done after {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        let err = err.join().unwrap_or_default();
        bail!("{what}: {status}: {}", err.trim());
    }
    Ok(out.join().unwrap_or_default())
}

fn slurp(from: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that is talked to in lines.
#[derive(Debug)]
pub(crate) struct Talking {
    /// Ends it with this value.
    running: Running,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talking {
    /// Starts `command` with both ends in our hands.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let input = child.stdin.take();
        let out = child.stdout.take().context("no standard output")?;
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { running: Running(child), input, lines })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.running.alive()
    }

    /// Says one line.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input is closed")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// The next line it says, within `limit`.
    pub(crate) fn hear(&mut self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer after {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("ended without an answer"),
        }
    }
}

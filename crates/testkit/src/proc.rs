//! Programs started by a test: killed when dropped, never waited for without a limit.

use crate::wait::wait_for;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a program that has ended left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to its standard output.
    pub stdout: String,
    /// Everything it wrote to its standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit status, or `None` if a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The standard output, provided that the program ended with 0.
    pub fn ok(self, what: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{what}: {}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

#[derive(Default)]
struct Text {
    stdout: String,
    stderr: String,
}

/// A running program whose output is collected. Dropping it kills it.
pub struct Proc {
    what: String,
    child: Child,
    text: Arc<Mutex<Text>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl fmt::Debug for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proc").field("what", &self.what).field("pid", &self.child.id()).finish()
    }
}

fn lock(text: &Mutex<Text>) -> MutexGuard<'_, Text> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(
    from: impl Read + Send + 'static,
    text: Arc<Mutex<Text>>,
    pick: fn(&mut Text) -> &mut String,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            pick(&mut lock(&text)).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

impl Proc {
    /// Starts `command` with its standard input a pipe and its outputs collected.
    pub fn start(mut command: Command) -> Result<Self> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let what = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| what.clone())?;
        let text = Arc::new(Mutex::new(Text::default()));
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(collect(out, Arc::clone(&text), |t| &mut t.stdout));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(collect(err, Arc::clone(&text), |t| &mut t.stderr));
        }
        Ok(Self { what, child, text, readers, status: None })
    }

    /// Starts `command` and waits until it has ended and closed its outputs.
    pub fn run(command: Command, limit: Duration) -> Result<Outcome> {
        let mut proc = Self::start(command)?;
        drop(proc.child.stdin.take());
        proc.finish(limit)
    }

    /// The process id, as the caller's PID namespace counts.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program wrote to its standard output so far.
    pub fn stdout(&self) -> String {
        lock(&self.text).stdout.clone()
    }

    /// What the program wrote to its standard error so far.
    pub fn stderr(&self) -> String {
        lock(&self.text).stderr.clone()
    }

    /// Writes a line to the program's standard input.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("standard input was closed")?;
        writeln!(stdin, "{line}").with_context(|| self.what.clone())
    }

    /// Closes the program's standard input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether the program still runs.
    pub fn running(&mut self) -> Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_none())
    }

    /// Waits for a line of standard output that contains `needle`, and returns it.
    pub fn wait_line(&mut self, needle: &str, limit: Duration) -> Result<String> {
        let what = format!("'{needle}' from {}", self.what);
        let found = wait_for(&what, limit, || {
            let ended = !self.running()?;
            let text = lock(&self.text);
            let whole = text.stdout.rfind('\n').map_or("", |end| &text.stdout[..end]);
            if let Some(line) = whole.lines().find(|line| line.contains(needle)) {
                return Ok(Some(line.to_owned()));
            }
            if ended && self.readers.iter().all(JoinHandle::is_finished) {
                bail!("{} ended without saying '{needle}'", self.what);
            }
            Ok(None)
        });
        found.with_context(|| {
            format!("{}\nstdout: {}\nstderr: {}", self.what, self.stdout(), self.stderr())
        })
    }

    /// Waits for the program's end and for the end of its outputs.
    ///
    /// The outputs end when every process that inherited them has closed them: a daemon that keeps
    /// its starter's pipes open fails here.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let what = format!("the end of {}", self.what);
        let ended = wait_for(&what, limit, || {
            let over = !self.running()? && self.readers.iter().all(JoinHandle::is_finished);
            Ok(if over { self.status } else { None })
        });
        let status = ended.with_context(|| {
            format!(
                "status: {:?}\nstdout: {}\nstderr: {}",
                self.status,
                self.stdout(),
                self.stderr()
            )
        })?;
        Ok(Outcome { status, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| self.what.clone())
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

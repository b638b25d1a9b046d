//! QEMU's control socket.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest time that an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A conversation in QEMU's machine protocol.
#[derive(Debug)]
pub(super) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self(BufReader::new(stream));
        qmp.read().context("greeting")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command with these arguments, an object, and returns its answer.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        // At once: QEMU does not wait for the end of the line.
        self.0.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut message = self.read().with_context(|| command.to_owned())?;
            if let Some(error) = message.get("error") {
                bail!("QEMU, {command}: {error}");
            }
            // Events come between.
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("QEMU's control socket")? == 0 {
            bail!("QEMU closed its control socket");
        }
        serde_json::from_str(&line).with_context(|| line)
    }
}

//! Where messages go: standard error as long as it is ours, and a file or the system's log; by level, with a
//! limit for what traffic can provoke.
//!
//! Nothing here waits for anybody (except for who reads our standard error), needs memory or takes notice of what
//! becomes of a message: a full disk or a log daemon that does not read costs messages, and nothing else.

mod file;
mod limit;
mod line;
mod rotation;
mod syslog;

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use self::file::LogFile;
use self::limit::SLOTS;
pub use self::limit::{Admission, RateLimit};
use self::line::{Line, Stamp};
use self::syslog::Syslog;
use crate::said::{Mode, Said};
use crate::version::VERSION;

/// Bytes of a message at most.
const MESSAGE: usize = 8192;

static SINK: Sink = Sink::new();

/// What is worth a line, according to `-q`, `-d` and `--trace`.
#[must_use]
pub fn level(said: &Said) -> LevelFilter {
    if said.trace {
        LevelFilter::Trace
    } else if said.debug {
        LevelFilter::Debug
    } else if said.quiet {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    }
}

/// Starts the clock of the time stamps and sends messages up to `level` to standard error. Called
/// again, it changes the level only.
pub fn start(level: LevelFilter) {
    SINK.epoch.get_or_init(Instant::now);
    // A second call fails, and the logger that is there is ours already.
    let _ = log::set_logger(&SINK);
    log::set_max_level(level);
}

/// Sends messages to the file at `path` as well, made for that, which never has `size` bytes.
///
/// # Errors
/// Those of making it.
pub fn to_file(mode: Mode, path: &Path, size: u64) -> io::Result<()> {
    let program = std::env::current_exe().unwrap_or_default();
    let (name, program, pid) = (mode.name(), program.display(), std::process::id());
    let header = format!("{name} {VERSION}: {program} ({pid})");
    let file = LogFile::create(path, &header, size)?;
    let _ = SINK.destination.set(Destination::File(Mutex::new(file)));
    Ok(())
}

/// Sends messages to the system's log as well, if there is one. Who asks for debug lines wants them on standard
/// error, and nowhere else.
pub fn to_system(mode: Mode) {
    if SINK.debugs() {
        return;
    }
    // To be without one is nothing special.
    if let Ok(syslog) = Syslog::connect(syslog::PATH, mode.name()) {
        let _ = SINK.destination.set(Destination::System(syslog));
    }
}

/// From now on messages are those of process `pid`, as others count.
pub fn set_pid(pid: u32) {
    if let Some(Destination::System(syslog)) = SINK.destination.get() {
        syslog.set_pid(pid);
    }
}

/// Leaves standard error to others: a command that runs in the foreground. Lines for `-d` and
/// `--trace` are still written, as somebody asked for them, unless they go to a file.
pub fn release_stderr() {
    SINK.stderr.store(RELEASED, Ordering::Relaxed);
}

/// Nobody reads our standard error any more.
pub fn leave_stderr() {
    SINK.stderr.store(LEFT, Ordering::Relaxed);
}

/// Makes sure that what was written to a file outlives us.
pub fn finish() {
    if let Some(Destination::File(file)) = SINK.destination.get() {
        lock(file).finish();
    }
}

/// Standard error is for our messages.
const OURS: u8 = 0;
/// It is somebody else's.
const RELEASED: u8 = 1;
/// It is nobody's.
const LEFT: u8 = 2;

/// Where messages go besides standard error.
enum Destination {
    File(Mutex<LogFile>),
    System(Syslog),
}

fn lock(file: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one logger of the process.
struct Sink {
    epoch: OnceLock<Instant>,
    destination: OnceLock<Destination>,
    stderr: AtomicU8,
    limits: [RateLimit; SLOTS],
}

impl Sink {
    const fn new() -> Self {
        Self {
            epoch: OnceLock::new(),
            destination: OnceLock::new(),
            stderr: AtomicU8::new(OURS),
            limits: [const { RateLimit::new() }; SLOTS],
        }
    }

    fn debugs(&self) -> bool {
        log::max_level() >= LevelFilter::Debug
    }

    fn since_start(&self) -> Duration {
        self.epoch.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The limit that applies to a record, if traffic can provoke it.
    fn limit(&self, record: &Record<'_>) -> Option<&RateLimit> {
        let of_data_path = ["stack", "engine"].iter().any(|krate| {
            record
                .target()
                .strip_prefix(krate)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
        // Who asks for debug lines wants all of them.
        if !of_data_path || record.level() > Level::Info {
            return None;
        }
        let place = (record.file().unwrap_or_default(), record.line().unwrap_or_default());
        self.limits.get(limit::slot(place.0, place.1))
    }

    /// Writes a message wherever it belongs, line by line.
    fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        let message = Line::<MESSAGE>::new(text);
        for line in message.text().lines() {
            self.line(level, line);
        }
    }

    fn line(&self, level: Level, line: &str) {
        let debugs = self.debugs();
        let destination = self.destination.get();
        let gone = match destination {
            Some(Destination::File(file)) => {
                lock(file).write(self.since_start(), level, line);
                false
            }
            Some(Destination::System(syslog)) => syslog.send(level, line),
            None => false,
        };
        if gone {
            self.to_stderr(debugs, "The system's log is gone: nothing is sent there any more");
        }
        self.to_stderr(debugs && !matches!(destination, Some(Destination::File(_))), line);
    }

    fn to_stderr(&self, stamped: bool, line: &str) {
        let written = match self.stderr.load(Ordering::Relaxed) {
            OURS => true,
            RELEASED => stamped,
            _ => false,
        };
        if !written {
            return;
        }
        let line = if stamped {
            let stamp = Stamp(self.since_start());
            Line::<MESSAGE>::ended(format_args!("{stamp}: {line}"))
        } else {
            Line::ended(format_args!("{line}"))
        };
        // In one piece, so that lines of several threads do not mix; and nobody is left to tell if
        // standard error is closed.
        let _ = io::stderr().write_all(line.bytes());
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level();
        let Some(limit) = self.limit(record) else {
            return self.write(level, *record.args());
        };
        let now = u64::try_from(self.since_start().as_millis()).unwrap_or(u64::MAX);
        let Admission::Say { suppressed, last } = limit.admit(now) else {
            return;
        };
        if suppressed > 0 {
            self.write(level, format_args!("(suppressed {suppressed} similar messages)"));
        }
        self.write(level, *record.args());
        if last {
            self.write(level, format_args!("(suppressing further similar messages)"));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let level_of =
            |debug, trace, quiet| level(&Said { debug, trace, quiet, ..Said::default() });
        assert_eq!(level_of(false, false, false), LevelFilter::Info);
        assert_eq!(level_of(false, false, true), LevelFilter::Warn);
        assert_eq!(level_of(true, false, false), LevelFilter::Debug);
        assert_eq!(level_of(true, true, false), LevelFilter::Trace);
    }

    #[test]
    fn only_places_that_traffic_reaches_are_limited() {
        let limited = |target, level| {
            SINK.limit(&Record::builder().target(target).level(level).line(Some(1)).build())
                .is_some()
        };
        assert!(limited("stack::tcp", Level::Warn));
        assert!(limited("engine", Level::Info));
        assert!(!limited("engine", Level::Debug));
        assert!(!limited("engines", Level::Warn));
        assert!(!limited("cli::start", Level::Warn));
    }
}

//! Where messages go: standard error, by level, with a limit for what traffic can provoke.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::said::Said;

/// Messages that one place of the data path may write within [`WINDOW_MS`].
const BURST: u32 = 5;
/// Length of the window of the limit, in milliseconds.
const WINDOW_MS: u64 = 1000;
/// Slots of the limiter; places whose hashes collide share their allowance.
const SLOTS: usize = 64;

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

/// Leaves standard error to others: a command that runs in the foreground. Lines for `-d` and
/// `--trace` are still written, as somebody asked for them.
pub fn release_stderr() {
    SINK.released.store(true, Ordering::Relaxed);
}

/// The one logger of the process.
struct Sink {
    epoch: OnceLock<Instant>,
    released: AtomicBool,
    limits: [RateLimit; SLOTS],
}

impl Sink {
    const fn new() -> Self {
        Self {
            epoch: OnceLock::new(),
            released: AtomicBool::new(false),
            limits: [const { RateLimit::new() }; SLOTS],
        }
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
        self.limits.get(slot(record.file().unwrap_or_default(), record.line().unwrap_or_default()))
    }

    fn write(&self, text: std::fmt::Arguments<'_>) {
        let debug = log::max_level() >= LevelFilter::Debug;
        if self.released.load(Ordering::Relaxed) && !debug {
            return;
        }
        let line = match self.epoch.get() {
            Some(epoch) if debug => format!("{}{text}\n", Stamp(epoch.elapsed())),
            Some(_) | None => format!("{text}\n"),
        };
        // In one piece, so that lines of several threads do not mix; and nobody is left to tell if
        // standard error is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
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
        let Some(limit) = self.limit(record) else {
            return self.write(*record.args());
        };
        let now = self
            .epoch
            .get()
            .map_or(0, |epoch| u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX));
        let Admission::Say { suppressed, last } = limit.admit(now) else {
            return;
        };
        if suppressed > 0 {
            self.write(format_args!("(suppressed {suppressed} similar messages)"));
        }
        self.write(*record.args());
        if last {
            self.write(format_args!("(suppressing further similar messages)"));
        }
    }

    fn flush(&self) {}
}

/// Slot of a place in the source (FNV-1a).
fn slot(file: &str, line: u32) -> usize {
    let bytes = file.bytes().chain(line.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of FNV are its weakest.
    usize::try_from((hash >> 32) % SLOTS as u64).unwrap_or(0)
}

/// Seconds since the start with four decimals: `12.0345: `.
struct Stamp(std::time::Duration);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:04}: ", self.0.as_secs(), self.0.subsec_micros() / 100)
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is written.
    Say {
        /// Messages that were dropped since the last one that was written.
        suppressed: u32,
        /// Further ones will be dropped for a while.
        last: bool,
    },
    /// It is dropped.
    Drop,
}

/// At most five messages a second from one place. Allocates nothing; time is an argument.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// Start of the current window, in milliseconds.
    window: AtomicU64,
    /// Messages in the current window, dropped ones included.
    count: AtomicU32,
}

impl RateLimit {
    /// A limit that has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), count: AtomicU32::new(0) }
    }

    /// Counts a message at `now`, in milliseconds on a clock that does not go back.
    pub fn admit(&self, now: u64) -> Admission {
        let mut suppressed = 0;
        let window = self.window.load(Ordering::Relaxed);
        if now.saturating_sub(window) >= WINDOW_MS {
            // Of several threads, the one that moves the window reports what was dropped in it.
            let moved =
                self.window.compare_exchange(window, now, Ordering::Relaxed, Ordering::Relaxed);
            if moved.is_ok() {
                suppressed = self.count.swap(0, Ordering::Relaxed).saturating_sub(BURST);
            }
        }
        // Saturating: a flood must not start the count anew within its window.
        let count = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_add(1)))
            .unwrap_or(u32::MAX);
        if count < BURST {
            Admission::Say { suppressed, last: count + 1 == BURST }
        } else {
            Admission::Drop
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn stamps() {
        assert_eq!(Stamp(Duration::from_micros(12_034_567)).to_string(), "12.0345: ");
        assert_eq!(Stamp(Duration::ZERO).to_string(), "0.0000: ");
    }

    #[test]
    fn five_a_second() {
        let limit = RateLimit::new();
        let say = |suppressed, last| Admission::Say { suppressed, last };
        for _ in 0..4 {
            assert_eq!(limit.admit(10), say(0, false));
        }
        assert_eq!(limit.admit(11), say(0, true));
        for _ in 0..7 {
            assert_eq!(limit.admit(999), Admission::Drop);
        }
        assert_eq!(limit.admit(1000), say(7, false));
        assert_eq!(limit.admit(2000), say(0, false));
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

//! Counts of events by kind (`--stats`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use stack::flow::{FlowId, FlowKind};
use stack::time::Instant;

/// What an event can be, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp = 0,
    Timer = 3,
    Udp = 5,
    Ping = 6,
    QuitWatch = 7,
    Tap = 9,
    Neighbours = 16,
}

/// Names of all kinds there will be: the positions are part of what scripts read.
const NAMES: [&str; 19] = [
    "connected TCP socket",
    "connected spliced TCP socket",
    "listening TCP socket",
    "TCP timer",
    "listening UDP socket",
    "UDP flow socket",
    "ICMP/ICMPv6 ping socket",
    "namespace inotify watch",
    "namespace timer watch",
    "/dev/net/tun device",
    "connected qemu socket",
    "listening qemu socket",
    "vhost-user command socket",
    "vhost-user kick socket",
    "TCP_REPAIR helper listening socket",
    "TCP_REPAIR helper socket",
    "netlink neighbour notifier socket",
    "configuration listening socket",
    "configuration socket",
];

/// Rows between two headers.
const ROWS: u32 = 20;

impl From<FlowId> for Kind {
    fn from(id: FlowId) -> Self {
        match id.kind() {
            FlowKind::Tcp => Self::Tcp,
            FlowKind::Udp => Self::Udp,
            FlowKind::Ping => Self::Ping,
        }
    }
}

/// Counts events, and prints them to standard error at most once per interval.
#[derive(Debug)]
pub(crate) struct Counters {
    counts: [u64; NAMES.len()],
    interval: Option<Duration>,
    printed: Option<Instant>,
    rows: u32,
}

impl Counters {
    /// `None` only counts.
    pub(crate) fn new(interval: Option<Duration>) -> Self {
        Self { counts: [0; NAMES.len()], interval, printed: None, rows: 0 }
    }

    pub(crate) fn count(&mut self, kind: Kind) {
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Prints a row if it is time for one.
    pub(crate) fn print(&mut self, now: Instant) {
        let Some(interval) = self.interval else { return };
        if self.printed.is_some_and(|printed| now.since(printed) < interval) {
            return;
        }
        self.printed = Some(now);
        let text = self.row();
        // Nobody can be told that standard error does not work.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn row(&mut self) -> String {
        let mut text = String::new();
        if self.rows % ROWS == 0 {
            for (position, name) in NAMES.iter().enumerate() {
                text.extend(std::iter::repeat_n("|      ", position));
                let _ = writeln!(text, "{name}");
            }
        }
        self.rows = self.rows.wrapping_add(1);
        text.push(' ');
        for count in self.counts {
            let _ = write!(text, " {count:6}");
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_every_twenty_rows() {
        let mut counters = Counters::new(None);
        counters.count(Kind::Udp);
        counters.count(Kind::Neighbours);
        counters.count(Kind::Neighbours);
        let first = counters.row();
        assert_eq!(first.lines().count(), NAMES.len() + 1);
        assert_eq!(first.lines().nth(2).unwrap(), "|      |      listening TCP socket");
        let row = first.lines().last().unwrap();
        assert_eq!(row.len(), 1 + 7 * NAMES.len());
        let values: Vec<u64> = row.split_whitespace().map(|value| value.parse().unwrap()).collect();
        assert_eq!((values[5], values[16], values.iter().sum::<u64>()), (1, 2, 3));
        for _ in 1..ROWS {
            assert_eq!(counters.row().lines().count(), 1);
        }
        assert_eq!(counters.row().lines().count(), NAMES.len() + 1);
    }
}

//! Counts of events by kind (`--stats`).

use std::time::Duration;

use stack::flow::FlowKind;
use stack::time::Instant;

use crate::token::Token;

/// What an event can be, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp = 0,
    Spliced = 1,
    TcpListener = 2,
    Timer = 3,
    UdpListener = 4,
    Udp = 5,
    Ping = 6,
    QuitWatch = 7,
    Tap = 9,
    Stream = 10,
    StreamListener = 11,
    Neighbours = 16,
    Configuration = 17,
    Client = 18,
}

/// Names of the kinds of events that are counted, those that no link has yet included: the positions are
/// part of what scripts read.
pub const EVENT_KINDS: [&str; 19] = [
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

/// Takes the counts since the start, in the order of [`EVENT_KINDS`].
pub type Report = dyn FnMut(&[u64]) + Send;

/// Who is told about counts of events, and how often (`--stats`).
pub struct StatsReport {
    /// The least time between two reports. Where nothing happens, nothing is reported.
    pub interval: Duration,
    /// Takes the counts since the start, in the order of [`EVENT_KINDS`].
    pub report: Box<Report>,
}

impl std::fmt::Debug for StatsReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatsReport").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Kind {
    /// What an event is counted as, if it is counted.
    pub(crate) fn of(token: Token) -> Option<Self> {
        Some(match token {
            Token::Flow(id) => match id.kind() {
                FlowKind::Tcp => Self::Tcp,
                FlowKind::Udp => Self::Udp,
                FlowKind::Ping => Self::Ping,
            },
            Token::Tap => Self::Tap,
            Token::Stream => Self::Stream,
            Token::StreamListener => Self::StreamListener,
            Token::Spliced(..) => Self::Spliced,
            Token::Relay(..) => Self::Udp,
            Token::TcpListener(_) => Self::TcpListener,
            Token::UdpListener(_) => Self::UdpListener,
            Token::Watch => Self::QuitWatch,
            Token::Neighbours => Self::Neighbours,
            Token::Configuration => Self::Configuration,
            Token::Client(_) => Self::Client,
            Token::Signals | Token::Child => return None,
        })
    }
}

/// Counts events, and reports them at most once per interval.
#[derive(Debug)]
pub(crate) struct Counters {
    counts: [u64; EVENT_KINDS.len()],
    report: Option<StatsReport>,
    reported: Option<Instant>,
}

impl Counters {
    /// `None` only counts.
    pub(crate) fn new(report: Option<StatsReport>) -> Self {
        Self { counts: [0; EVENT_KINDS.len()], report, reported: None }
    }

    pub(crate) fn count(&mut self, kind: Kind) {
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Reports if it is time for that.
    pub(crate) fn report(&mut self, now: Instant) {
        let Some(to) = &mut self.report else { return };
        if self.reported.is_none_or(|reported| now.since(reported) >= to.interval) {
            self.reported = Some(now);
            (to.report)(&self.counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn at_most_once_per_interval() {
        let (sender, reports) = mpsc::channel();
        let mut counters = Counters::new(Some(StatsReport {
            interval: Duration::from_secs(2),
            report: Box::new(move |counts| sender.send(counts.to_vec()).unwrap()),
        }));
        counters.count(Kind::Udp);
        counters.count(Kind::Neighbours);
        for seconds in [1, 2, 3, 4] {
            counters.count(Kind::Neighbours);
            counters.report(Instant::from_millis(seconds * 1000));
        }
        let seen: Vec<_> = reports.try_iter().map(|counts| (counts[5], counts[16])).collect();
        assert_eq!(seen, [(1, 2), (1, 4)]);
        assert!(EVENT_KINDS[Kind::Neighbours as usize].starts_with("netlink"));
        assert!(EVENT_KINDS[Kind::Tap as usize].contains("tun"));
        assert!(EVENT_KINDS[Kind::Stream as usize].starts_with("connected qemu"));
    }
}

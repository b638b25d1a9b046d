//! What a handler is given besides the event itself.

use crate::addr::Link;
use crate::config::Config;
use crate::flow::TimerWheel;
use crate::io::{Guest, Host};
use crate::stats::Stats;
use crate::time::Instant;

/// The surroundings of one event: both sides, the time, and the state that flows share.
#[derive(Debug)]
pub struct Cx<'a, G, H> {
    /// The guest's link.
    pub guest: &'a mut G,
    /// The host's sockets.
    pub host: &'a mut H,
    /// Time of this wake-up.
    pub now: Instant,
    /// What the guest is told and how addresses map.
    pub config: &'a Config,
    /// What was observed on the guest's link.
    pub link: &'a mut Link,
    /// Where flows wait for their deadlines.
    pub timers: &'a mut TimerWheel,
    /// Counters.
    pub stats: &'a mut Stats,
}

impl<G: Guest, H: Host> Cx<'_, G, H> {
    /// Sends bytes `start..end` of the slot handed out last and counts the outcome.
    pub fn send(&mut self, start: usize, end: usize, meta: crate::io::FrameMeta) -> bool {
        let sent = self.guest.send(start, end, meta);
        if sent {
            self.stats.frames_to_guest += 1;
        } else {
            self.stats.frames_refused += 1;
        }
        sent
    }
}

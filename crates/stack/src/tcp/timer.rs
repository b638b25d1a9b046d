//! Deadlines of a connection.

use std::time::Duration;

use super::connection::{Connection, MIN_CWND, Shared, State, Verdict, Wait};
use crate::cx::Cx;
use crate::io::{Guest, Host, TcpSocket};
use crate::time::Instant;

/// A guest that acknowledges nothing for so long is gone. Paused machines come back within this.
const GIVE_UP: Duration = Duration::from_secs(15 * 60);
/// Silence of the guest after which it is asked whether it still knows the connection.
const KEEPALIVE: Duration = Duration::from_secs(300);
/// Silence of both sides, unanswered keep-alives included, after which a connection is reset.
const INACTIVITY: Duration = Duration::from_secs(7200);
/// How soon a link that took nothing is tried again.
const LINK_RETRY: Duration = Duration::from_millis(1);

impl<S: TcpSocket> Connection<S> {
    /// Arms the wheel for the next deadline.
    pub(super) fn arm<G, H>(&mut self, cx: &mut Cx<'_, G, H>) {
        let mut next = self.keepalive_at();
        for deadline in [self.wait.map(|(_, at)| at), self.ack_check].into_iter().flatten() {
            next = next.min(deadline);
        }
        self.armed.arm(cx.timers, self.id, next);
    }

    /// After sending: when to worry about the answer.
    pub(super) fn rearm_retransmission(&mut self, now: Instant) {
        let flight = self.max.since(self.una);
        let waiting = self.wait.map(|(wait, _)| wait);
        if waiting == Some(Wait::Link) {
            return;
        }
        if flight == 0 {
            if !self.may_need_persist() {
                self.wait = None;
            } else if waiting != Some(Wait::Persist) {
                self.wait = Some((Wait::Persist, now + self.rtt.timeout(true)));
            }
        } else if waiting.is_none() || waiting == Some(Wait::Persist) {
            let lone = flight <= u32::from(self.mss);
            self.wait = Some(match self.rtt.probe_timeout(lone) {
                Some(probe) if self.recover.is_none() && self.wnd > 0 => (Wait::Probe, now + probe),
                _ => (Wait::Timeout, now + self.rtt.timeout(lone)),
            });
        }
    }

    /// Nothing in flight, no window, and perhaps something to send.
    fn may_need_persist(&self) -> bool {
        self.wnd == 0 && self.fin.is_none() && (!self.drained || self.read_closed)
    }

    /// Something is due, or the wheel was armed for what has moved since.
    pub(super) fn on_deadline<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        let now = cx.now;
        if let Some((wait, at)) = self.wait {
            if at <= now {
                self.wait = None;
                if self.on_wait(cx, shared, wait) == Verdict::Remove {
                    return Verdict::Remove;
                }
            }
        }
        if self.ack_check.is_some_and(|at| at <= now) && self.state == State::Established {
            self.settle_ack(cx, shared, true);
        }
        self.check_idle(cx)
    }

    fn on_wait<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        wait: Wait,
    ) -> Verdict {
        if wait == Wait::Handshake {
            return self.on_handshake_timeout(cx, shared);
        }
        if cx.now.since(self.progress) >= GIVE_UP && cx.now.since(self.last_guest) >= GIVE_UP {
            log::debug!("TCP {:?}: the guest does not answer", self.key);
            self.reset_both(cx);
            return Verdict::Remove;
        }
        if cx.guest.is_full() {
            // Nothing could be sent, and what is in flight may not even have got to the guest.
            self.await_link(cx, shared, false);
            self.rtt.back_off();
            self.wait = Some((wait, cx.now + self.rtt.timeout(false)));
            return Verdict::Keep;
        }
        let verdict = match wait {
            Wait::Handshake | Wait::Link => self.push(cx, shared),
            Wait::Probe => {
                let lone = self.max.since(self.una) <= u32::from(self.mss);
                let verdict = self.probe_tail(cx);
                self.wait = Some((Wait::Timeout, cx.now + self.rtt.timeout(lone)));
                verdict
            }
            Wait::Persist => {
                self.rtt.back_off();
                self.probe_window(cx)
            }
            Wait::Timeout => self.on_timeout(cx, shared),
        };
        if verdict == Verdict::Keep {
            self.rearm_retransmission(cx.now);
        }
        verdict
    }

    /// RFC 6298 5.4 to 5.6, RFC 5681 3.1: go back to the first byte not acknowledged.
    fn on_timeout<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        cx.stats.tcp_timeouts += 1;
        if self.rtt.backed_off() {
            // Twice in a row: the guest may have dropped what it reported to hold (RFC 2018 8).
            self.sacked.clear();
        }
        self.rtt.back_off();
        self.timed = None;
        self.recover = None;
        self.dup_acks = 0;
        self.ssthresh = (self.max.since(self.una) / 2).max(MIN_CWND);
        self.cwnd = MIN_CWND;
        if self.wnd == 0 {
            return self.probe_window(cx);
        }
        self.nxt = self.una;
        self.push(cx, shared)
    }

    /// Nothing of what is in flight gets to the guest, and for reasons that will not be there again: go back to
    /// the first byte not acknowledged, as if the path were new. Neither has the guest seen our last ACKs.
    pub(super) fn lose_flight(&mut self) {
        match self.state {
            State::Established => {
                self.nxt = self.una;
                self.wait = None;
                self.timed = None;
                self.recover = None;
                self.dup_acks = 0;
                self.must_ack = true;
            }
            State::SynAckSent | State::SynSent => {
                self.owes_handshake = true;
                self.timed = None;
            }
            State::Connecting | State::Failed => {}
        }
        self.rtt.reset_backoff();
    }

    /// Keep-alive and inactivity.
    fn check_idle<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) -> Verdict {
        if cx.now < self.keepalive_at() {
            return Verdict::Keep;
        }
        self.asked = cx.now;
        if self.state != State::Established {
            return Verdict::Keep;
        }
        if cx.now.since(self.last_any) >= INACTIVITY {
            log::debug!("TCP {:?}: idle on both sides", self.key);
            self.reset_both(cx);
            return Verdict::Remove;
        }
        if self.wait.is_none() && !self.guest_is_done() {
            self.send_keepalive(cx);
        }
        Verdict::Keep
    }

    /// When the guest will have been silent, or has not answered, for too long.
    fn keepalive_at(&self) -> Instant {
        self.last_guest.max(self.asked) + KEEPALIVE
    }

    /// The link took nothing: go on when it says that it takes frames again, or else try again soon.
    /// `served`: it took some of this connection in this turn.
    pub(super) fn await_link<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &Cx<'_, G, H>,
        shared: &mut Shared,
        served: bool,
    ) {
        if !cx.guest.is_full() {
            self.wait = Some((Wait::Link, cx.now + LINK_RETRY));
        } else if !self.parked {
            self.parked = true;
            let [hungry, fed] = &mut shared.parked;
            (if served { fed } else { hungry }).push(self.id);
        }
    }
}

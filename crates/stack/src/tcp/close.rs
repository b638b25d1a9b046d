//! Events of the host socket, and the end.

use super::connection::{Connection, Shared, State, Verdict};
use crate::cx::Cx;
use crate::flow::TimerWheel;
use crate::io::{Guest, Host, Readiness, TcpSocket};

impl<S: TcpSocket> Connection<S> {
    /// Readiness of the host socket.
    pub(super) fn on_socket<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        ready: Readiness,
    ) -> Verdict {
        if self.state != State::Established {
            return self.on_socket_opening(cx, shared, ready);
        }
        self.drained &= !(ready.readable || ready.read_closed || ready.hang_up);
        self.urgent |= ready.urgent;
        let mut broken = false;
        if ready.error {
            while let Some(error) = self.sock.take_error() {
                log::debug!("TCP {:?}: {error:?}", self.key);
                // With an ICMP message behind it, it is a soft error (RFC 1122 4.2.3.9).
                broken |= error.icmp.is_none();
                if error.icmp.is_none() {
                    break;
                }
            }
        }
        if ready.writable && !broken {
            let waited = !self.spill.is_empty();
            if let Err(error) = self.drain_spill(shared) {
                log::debug!("TCP {:?}: {error}", self.key);
                broken = true;
            }
            if waited || self.rcv_advertised.since(self.rcv_nxt) < u32::from(self.mss) {
                self.settle_ack(cx, shared, false);
            }
        }
        self.reset_by_remote |= broken;
        self.read_closed |= ready.read_closed && !broken;
        // What the remote sent before it went away is still there to be read.
        if self.push(cx, shared) == Verdict::Remove {
            return Verdict::Remove;
        }
        if broken {
            self.reset_both(cx);
            return Verdict::Remove;
        }
        if self.owes_ack || self.must_ack {
            self.settle_ack(cx, shared, false);
        }
        self.finish()
    }

    /// Whether this is the end of it: both FINs passed on and acknowledged.
    pub(super) fn finish(&mut self) -> Verdict {
        if !self.is_over() {
            return Verdict::Keep;
        }
        // A close with unread data would reset the remote.
        self.discard(true);
        Verdict::Remove
    }

    /// Gives back what is shared.
    pub(super) fn release(&mut self, shared: &mut Shared, timers: &mut TimerWheel) {
        self.armed.cancel(timers, self.id);
        self.spill.release(&mut shared.pool);
        let half_open = match self.state {
            State::Connecting => &mut shared.connecting,
            State::SynSent => &mut shared.accepted,
            State::SynAckSent | State::Established | State::Failed => return,
        };
        *half_open = half_open.saturating_sub(1);
    }
}

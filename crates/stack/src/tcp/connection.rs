//! One connection: what must be known of it between two events.

use std::time::Duration;

use super::emit::Outgoing;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::seq::Seq;
use super::spill::{Spill, SpillPool};
use crate::flow::{FlowId, FlowKey, Timer, TimerWheel};
use crate::time::Instant;

/// Window shift we offer: windows up to 16 MiB in steps of 256 bytes, as much as a kernel socket takes.
pub(super) const OUR_SHIFT: u8 = 8;
/// MSS of a guest that names none (RFC 9293 3.7.1).
pub(super) const DEFAULT_MSS_V4: u16 = 536;
/// The same for IPv6.
pub(super) const DEFAULT_MSS_V6: u16 = 1220;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// SYN from the guest; the host's connect() is under way.
    Connecting,
    /// The remote accepted; our SYN-ACK waits for the guest's ACK.
    SynAckSent,
    /// The remote connected to us; our SYN waits for the guest's SYN-ACK.
    SynSent,
    /// Both sides are synchronised. What has been closed is told by the FIN fields.
    Established,
    /// connect() failed and the guest was told by ICMP; should it insist, it gets a reset.
    Failed,
}

/// What became of a connection in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Keep,
    /// It is over in both directions, or was reset: forget it.
    Remove,
}

/// Why the retransmission timer is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Handshake segment unanswered.
    Handshake,
    /// Tail loss probe (RFC 8985).
    Probe,
    /// Retransmission timeout.
    Timeout,
    /// The guest's window is closed.
    Persist,
    /// The link took no frame.
    Link,
}

/// State shared by the connections of a worker.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: SpillPool,
    /// Connections touched in this burst: ACKs, discards and data are settled at its end.
    pub(super) touched: Vec<FlowId>,
    /// Connections that wait for room on the link: first those that got nothing of it when there was some
    /// last, then the others.
    pub(super) parked: [Vec<FlowId>; 2],
    /// Resets of established connections for which there was no room on the link: no more than there were
    /// connections when it became full.
    pub(super) resets: Vec<(FlowKey, Outgoing)>,
    /// Connections that the host has not opened yet, and those that the guest has not: counted apart, so that
    /// whoever connects to a silent port of the guest does not keep it from connecting, nor the other way round.
    pub(super) connecting: usize,
    pub(super) accepted: usize,
    pub(super) settings: super::Settings,
    /// Challenge ACKs sent in the current second (RFC 5961 7).
    pub(super) challenges: (u64, u32),
}

/// Which deadlines the timer wheel holds for a connection: the earliest few.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Armed([Option<(Instant, Timer)>; 4]);

impl Armed {
    /// Arms `wheel` for `at`, unless it will fire by then anyway.
    pub(super) fn arm(&mut self, wheel: &mut TimerWheel, id: FlowId, at: Instant) {
        if self.0.iter().flatten().any(|(armed, _)| *armed <= at) {
            return;
        }
        // A free place, else that of the latest entry.
        let place =
            self.0.iter_mut().max_by_key(|armed| armed.map_or(u64::MAX, |(at, _)| at.nanos()));
        let Some(place) = place else { return };
        if let Some((_, timer)) = place.replace((at, wheel.arm(id, at))) {
            wheel.cancel(id, timer);
        }
    }

    /// Forgets the entries that have fired.
    pub(super) fn fired(&mut self, now: Instant) {
        for armed in &mut self.0 {
            if armed.is_some_and(|(at, _)| at <= now) {
                *armed = None;
            }
        }
    }

    /// Cancels everything: the connection is over.
    pub(super) fn cancel(&mut self, wheel: &mut TimerWheel, id: FlowId) {
        for (_, timer) in self.0.iter_mut().filter_map(Option::take) {
            wheel.cancel(id, timer);
        }
    }
}

/// A TCP connection between the guest and a host socket.
#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) id: FlowId,
    pub(super) key: FlowKey,
    pub(super) sock: S,
    pub(super) state: State,

    // Guest to host.
    /// Initial sequence number of the guest.
    pub(super) irs: Seq,
    /// Next byte expected from the guest: everything before is in the socket or the spill.
    pub(super) rcv_nxt: Seq,
    /// Last acknowledgement sent.
    pub(super) rcv_acked: Seq,
    /// Right edge of the window we mean to offer.
    pub(super) rcv_edge: Seq,
    /// Right edge last seen by the guest.
    pub(super) rcv_advertised: Seq,
    /// Shift of the windows we send.
    pub(super) rcv_shift: u8,
    /// Bytes received since the send room was last asked for.
    pub(super) rcv_since_room: u32,
    /// `tcpi_bytes_acked` when nothing of the guest had been passed on.
    pub(super) acked_base: u64,
    /// What is acknowledged when the socket has it, not when the remote has it.
    pub(super) ack_on_accept: bool,
    /// Round-trip time to the remote: pace of ACK and window checks.
    pub(super) host_rtt: Duration,
    pub(super) host_min_rtt: Duration,
    /// The smoothed round-trip time that the guest has come to by our acknowledgements. Zero after a handshake
    /// that the guest had with us alone.
    pub(super) guest_rtt: Duration,
    /// Since when the remote's acknowledgement has not come further.
    pub(super) unacked_since: Option<Instant>,
    pub(super) spill: Spill,
    /// Start of the segment behind a gap that came last.
    pub(super) recent_later: Seq,
    /// The guest's FIN was received in order.
    pub(super) guest_fin: bool,
    /// ... and passed on.
    pub(super) fin_passed: bool,
    /// The guest's FIN stands here, behind a gap.
    pub(super) later_fin: Option<Seq>,
    /// The guest is owed an ACK at the end of the burst, if there is something new to acknowledge.
    pub(super) owes_ack: bool,
    /// ... or even if there is not.
    pub(super) must_ack: bool,
    /// Data was passed on and nothing came back yet.
    pub(super) unanswered: bool,
    /// How many times in a row one message of the guest was followed by one from the remote.
    pub(super) exchanges: u8,
    /// Send buffer of the socket, and our quota beyond it.
    pub(super) sndbuf: u32,
    pub(super) quota: u32,
    /// The socket holds data that the remote has not acknowledged: its room will grow.
    pub(super) room_may_grow: bool,
    pub(super) touched: bool,
    /// In [`Shared::parked`].
    pub(super) parked: bool,
    /// There was no room on the link for the SYN or SYN-ACK.
    pub(super) owes_handshake: bool,
    /// ... or for the reset at the end.
    pub(super) owes_reset: bool,

    // Host to guest.
    /// Our initial sequence number.
    pub(super) iss: Seq,
    /// Oldest byte not acknowledged.
    pub(super) una: Seq,
    /// Next byte to send.
    pub(super) nxt: Seq,
    /// Next byte never sent before.
    pub(super) max: Seq,
    /// Sequence number of the first byte in the socket's receive queue.
    pub(super) queue_front: Seq,
    /// Frames sent since the last discard.
    pub(super) sent_since_discard: u8,
    /// The remote has only sent small messages so far.
    pub(super) small_messages: bool,
    /// The guest's window in bytes, and the segment that told it (RFC 9293 3.10.7.4).
    pub(super) wnd: u32,
    pub(super) wl1: Seq,
    pub(super) wl2: Seq,
    pub(super) max_wnd: u32,
    pub(super) snd_shift: u8,
    /// Payload bytes per segment.
    pub(super) mss: u16,
    /// Nothing more to read until the next event.
    pub(super) drained: bool,
    /// The remote has sent urgent data: a short read does not mean that nothing follows.
    pub(super) urgent: bool,
    /// The remote's FIN is known to be in the queue.
    pub(super) read_closed: bool,
    /// The remote reset the connection: where its data ends is not the end of the stream.
    pub(super) reset_by_remote: bool,
    /// Sequence number of our FIN, once sent.
    pub(super) fin: Option<Seq>,
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    pub(super) dup_acks: u8,
    pub(super) sacked: Scoreboard,
    /// In recovery until this is acknowledged.
    pub(super) recover: Option<Seq>,
    /// Retransmitted up to here in this recovery.
    pub(super) rtx_next: Seq,
    pub(super) rtt: Rtt,
    /// A byte whose round trip is being timed, and since when.
    pub(super) timed: Option<(Seq, Instant)>,

    // Options both sides agreed on.
    pub(super) sack_ok: bool,
    /// Timestamps: the guest's latest value.
    pub(super) ts_recent: Option<u32>,
    pub(super) flow_label: u32,

    // Deadlines.
    pub(super) wait: Option<(Wait, Instant)>,
    pub(super) ack_check: Option<Instant>,
    pub(super) retries: u8,
    /// Last sign of progress or life, for giving up.
    pub(super) progress: Instant,
    pub(super) last_guest: Instant,
    pub(super) last_any: Instant,
    /// When the guest was last asked whether it lives.
    pub(super) asked: Instant,
    pub(super) armed: Armed,
}

/// First congestion window of the link: what a guest's receive buffer takes before it has grown.
pub(super) const INITIAL_CWND: u32 = 640 << 10;
/// Two superframes: the least we keep in flight.
pub(super) const MIN_CWND: u32 = 128 << 10;
/// More in flight gains nothing: it is the product of 16 Gbit/s and a millisecond, and the guest is closer.
/// It costs: the kernel walks its queue past it at each peek, and what waits leaves the processor's cache.
pub(super) const MAX_CWND: u32 = 2 << 20;

impl<S> Connection<S> {
    /// A connection about which nothing is known but who takes part.
    pub(super) fn new(
        id: FlowId,
        key: FlowKey,
        sock: S,
        state: State,
        iss: Seq,
        now: Instant,
    ) -> Self {
        Self {
            id,
            key,
            sock,
            state,
            irs: Seq(0),
            rcv_nxt: Seq(0),
            rcv_acked: Seq(0),
            rcv_edge: Seq(0),
            rcv_advertised: Seq(0),
            rcv_shift: 0,
            rcv_since_room: 0,
            acked_base: 0,
            ack_on_accept: true,
            host_rtt: Duration::ZERO,
            host_min_rtt: Duration::ZERO,
            guest_rtt: Duration::ZERO,
            unacked_since: None,
            spill: Spill::default(),
            recent_later: Seq(0),
            guest_fin: false,
            fin_passed: false,
            later_fin: None,
            owes_ack: false,
            must_ack: false,
            unanswered: false,
            exchanges: 0,
            sndbuf: 0,
            quota: 0,
            room_may_grow: false,
            touched: false,
            parked: false,
            owes_handshake: false,
            owes_reset: false,
            iss,
            una: iss,
            nxt: iss,
            max: iss,
            queue_front: iss + 1,
            sent_since_discard: 0,
            small_messages: true,
            wnd: 0,
            wl1: Seq(0),
            wl2: Seq(0),
            max_wnd: 0,
            snd_shift: 0,
            mss: if key.is_ipv6() { DEFAULT_MSS_V6 } else { DEFAULT_MSS_V4 },
            drained: true,
            urgent: false,
            read_closed: false,
            reset_by_remote: false,
            fin: None,
            cwnd: INITIAL_CWND,
            ssthresh: u32::MAX,
            dup_acks: 0,
            sacked: Scoreboard::default(),
            recover: None,
            rtx_next: iss,
            rtt: Rtt::default(),
            timed: None,
            sack_ok: false,
            ts_recent: None,
            flow_label: iss.0 & wire::ipv6::FLOW_LABEL_MASK,
            wait: None,
            ack_check: None,
            retries: 0,
            progress: now,
            last_guest: now,
            last_any: now,
            asked: now,
            armed: Armed::default(),
        }
    }

    /// Bytes (and a FIN) sent and not acknowledged.
    pub(super) fn in_flight(&self) -> u32 {
        self.nxt.since(self.una)
    }

    /// Where our data ends as far as it was ever sent: before the FIN.
    pub(super) fn data_end(&self) -> Seq {
        self.fin.unwrap_or(self.max)
    }

    /// Whether our FIN was acknowledged.
    pub(super) fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.una.after(fin))
    }

    /// Whether the guest has sent and received everything: nothing more is expected of it.
    pub(super) fn guest_is_done(&self) -> bool {
        self.guest_fin && self.rcv_acked == self.rcv_nxt && self.fin_acked()
    }

    /// Marks the connection for the end of the burst.
    pub(super) fn touch(&mut self, shared: &mut Shared) {
        if !self.touched {
            self.touched = true;
            shared.touched.push(self.id);
        }
    }

    /// Whether both directions are closed and everybody knows.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Established && self.fin_passed && self.guest_is_done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_deadlines_are_armed_again() {
        let at = Instant::from_millis;
        let id = FlowId::from_cookie(1 << 60).unwrap();
        let mut wheel = TimerWheel::new(at(0));
        let mut armed = Armed::default();
        for deadline in [30_000, 50, 60, 10] {
            armed.arm(&mut wheel, id, at(deadline));
        }
        let mut fired = Vec::new();
        while let Some(now) = wheel.next().filter(|now| *now < at(1000)) {
            while wheel.poll(now).is_some() {
                fired.push(now.millis());
                armed.fired(now);
            }
        }
        assert_eq!(fired, [10, 50], "60 was covered by 50");
        armed.arm(&mut wheel, id, at(30_000));
        armed.cancel(&mut wheel, id);
        assert_eq!(wheel.next(), None, "nothing is left of a connection that is over");
    }
}

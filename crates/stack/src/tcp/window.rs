//! What the guest is told: how far its data has come, and how much more may come.

use std::time::Duration;

use super::connection::{Connection, Shared, State};
use super::seq::Seq;
use crate::cx::Cx;
use crate::io::{Guest, Host, TcpInfo, TcpSocket};
use crate::time::Instant;

/// Remotes closer than this are as good as local: what the socket took counts as delivered. Waiting for
/// the remote's own ACK would only add a timer to each exchange.
pub(super) const LOCAL_RTT: Duration = Duration::from_millis(1);
/// A sender that fills this share of its buffer per round trip is limited by the buffer: acknowledging
/// what the socket took keeps the buffer full, and only a full buffer grows.
const BULK_SHARE: u64 = 20;
/// After this many bytes the room is asked for again.
const ROOM_INTERVAL: u32 = 64 << 10;
/// So many exchanges make a dialogue.
const DIALOGUE: u8 = 4;
/// How long the ACK waits for an answer to carry it.
const ANSWER_WAIT: Duration = Duration::from_millis(1);
/// How much later than the round trips that the guest has seen the remote's acknowledgement may come before
/// the guest gets one anyway: neither a queue on the path nor a remote that is far away may run into the
/// guest's retransmission timeout, which is at least 200 ms above those.
const ACK_PATIENCE: Duration = Duration::from_millis(100);
/// Bounds of the pace at which ACK and window are looked at again.
const MIN_CHECK: Duration = Duration::from_millis(1);
const MAX_CHECK: Duration = Duration::from_millis(100);

impl<S: TcpSocket> Connection<S> {
    /// Learns from `TCP_INFO` how to acknowledge.
    pub(super) fn take_info(&mut self, info: &TcpInfo) {
        self.host_rtt = info.rtt;
        self.host_min_rtt = info.min_rtt.unwrap_or(info.rtt);
        let local = self.host_min_rtt < LOCAL_RTT;
        let (Some(_), Some(rate)) = (info.bytes_acked, info.delivery_rate) else {
            self.ack_on_accept = true;
            return;
        };
        let in_a_round_trip = u128::from(rate) * info.rtt.as_micros() / 1_000_000;
        let bulk = u128::from(self.sndbuf) <= u128::from(BULK_SHARE) * in_a_round_trip;
        self.ack_on_accept = local || bulk;
    }

    /// Asks the socket for its room and moves the right edge accordingly, never to the left.
    pub(super) fn refresh_room(&mut self, shared: &mut Shared) {
        let room = self.sock.send_room();
        // sk_wmem_queued counts buffers with their overhead: the room for payload is a little less. The
        // spill takes the difference.
        let socket = room.sndbuf.saturating_sub(room.queued);
        let busy = self.state == State::Established && self.rcv_nxt.since(self.irs) > ROOM_INTERVAL;
        let quota = self.spill.quota(busy, &mut shared.pool);
        // What waits in the spill goes into the socket's room first.
        let offer = (u64::from(socket) + u64::from(quota)).saturating_sub(self.spill.len().into());
        let limit = u32::from(u16::MAX) << self.rcv_shift;
        let offer = u32::try_from(offer).unwrap_or(limit).min(limit);
        self.rcv_edge = self.rcv_edge.max(self.rcv_nxt + offer);
        self.rcv_since_room = 0;
        self.sndbuf = room.sndbuf;
        self.quota = quota;
        self.room_may_grow = room.queued > 0 || !self.spill.is_empty();
    }

    /// At the end of a burst, or when a check is due: updates acknowledgement and window, and sends them
    /// if the guest should know.
    pub(super) fn settle_ack<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        due: bool,
    ) {
        self.ack_check = None;
        if self.window_is_tight() || self.rcv_since_room >= ROOM_INTERVAL {
            self.refresh_room(shared);
        }
        let before = self.rcv_acked;
        let target = self.ack_target(cx.now);
        let advanced = target.after(self.rcv_acked);
        self.rcv_acked = target;
        // RFC 9293 3.8.6.2.2: a window opens in steps worth a segment.
        // As far as the field can say so: without scaling, it cannot go beyond 64 KiB.
        let (_, edge) = self.window_field(self.rcv_acked);
        let opened = edge.since(self.rcv_advertised);
        // Not to a guest that has sent all: it may have forgotten the connection, and would reset it.
        let reopened = !self.guest_fin && self.window_is_tight() && opened >= self.worthwhile();
        let settled = self.owes_ack && self.rcv_acked == self.rcv_nxt;
        if due {
            self.exchanges = 0;
        }
        if settled && !self.must_ack && !reopened && self.may_wait_for_answer(before) {
            self.rcv_acked = before;
            self.ack_check = Some(cx.now + ANSWER_WAIT);
            return;
        }
        if self.must_ack || settled || advanced || reopened {
            self.owes_ack = false;
            self.must_ack = !self.send_ack(cx) && cx.guest.is_full();
            if self.must_ack {
                // Until then there is nothing to be looked at.
                return self.await_link(cx, shared, false);
            }
        }
        let behind = self.rcv_acked.before(self.rcv_nxt);
        if behind || self.window_is_tight() && self.room_may_grow && !self.guest_fin {
            let pace = (self.host_rtt / 2).clamp(MIN_CHECK, MAX_CHECK);
            let patience = self.unacked_since.map(|since| since + self.patience());
            self.ack_check = Some((cx.now + pace).min(patience.unwrap_or(cx.now + pace)));
        }
    }

    /// How long the guest may wait for the remote's acknowledgement.
    fn patience(&self) -> Duration {
        self.host_min_rtt.min(self.guest_rtt) + ACK_PATIENCE
    }

    /// The guest gets an acknowledgement of what it sent so long ago, and learns from that as RFC 6298 2.3 says.
    fn note_guest_rtt(&mut self, sample: Duration) {
        self.guest_rtt = self.guest_rtt - self.guest_rtt / 8 + sample / 8;
    }

    /// In a dialogue of small messages the answer will carry the ACK: one frame less for both. Any other
    /// pattern is acknowledged at once, since a guest with Nagle's algorithm may wait for it.
    fn may_wait_for_answer(&self, acked: Seq) -> bool {
        self.exchanges >= DIALOGUE
            && !self.guest_fin
            && self.rcv_nxt.since(acked) < u32::from(self.mss)
    }

    /// Whether the guest may hesitate to send because of what it was last told.
    fn window_is_tight(&self) -> bool {
        // Before its first byte it has what it needs: the unscaled window of the handshake.
        self.rcv_nxt != self.irs + 1 && self.rcv_advertised.since(self.rcv_nxt) < self.worthwhile()
    }

    /// The least that is worth telling: two segments, or a quarter of what there is.
    fn worthwhile(&self) -> u32 {
        (2 * u32::from(self.mss)).min(self.sndbuf.saturating_add(self.quota) / 4).max(1)
    }

    /// How far the guest's data may be acknowledged.
    fn ack_target(&mut self, now: Instant) -> Seq {
        if self.rcv_acked == self.rcv_nxt {
            self.unacked_since = None;
            return self.rcv_nxt;
        }
        if self.host_rtt >= LOCAL_RTT {
            let info = self.sock.info();
            self.take_info(&info);
            let since = *self.unacked_since.get_or_insert(now);
            let late = now.since(since) >= self.patience() || !self.spill.is_empty();
            // Once either side has closed, no event may come that would tell of more.
            if !self.ack_on_accept && !self.guest_fin && !self.read_closed && !late {
                let acked = info.bytes_acked.unwrap_or(0).saturating_sub(self.acked_base);
                // Sequence numbers count modulo 2^32.
                let remote = self.irs + 1 + u32::try_from(acked & 0xffff_ffff).unwrap_or(0);
                let target = remote.min(self.rcv_nxt).max(self.rcv_acked);
                if target != self.rcv_acked {
                    self.note_guest_rtt(now.since(since));
                    self.unacked_since = (target != self.rcv_nxt).then_some(now);
                }
                return target;
            }
            self.note_guest_rtt(now.since(since));
        }
        self.unacked_since = None;
        self.rcv_nxt
    }
}

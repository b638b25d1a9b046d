//! Segments of an established connection: what is acceptable, and what its acknowledgement says.
//! (RFC 9293 3.10.7.4, RFC 5961, RFC 7323, RFC 2018.)

use wire::tcp::TcpFlags;

use super::Segment;
use super::connection::{Connection, MAX_CWND, MIN_CWND, Shared, State, Verdict};
use super::emit::ts_clock;
use super::seq::Seq;
use crate::cx::Cx;
use crate::io::{Guest, Host, TcpSocket};

/// Challenge ACKs per second and guest (RFC 5961 7).
const MAX_CHALLENGES: u32 = 100;
/// Duplicate ACKs that mean a loss (RFC 5681 3.2).
const DUP_THRESHOLD: u8 = 3;

impl<S: TcpSocket> Connection<S> {
    /// A segment from the guest.
    pub(super) fn on_segment<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        if self.state != State::Established {
            return self.on_segment_opening(cx, shared, segment);
        }
        if segment.has(TcpFlags::RST) {
            return self.on_reset(cx, shared, segment);
        }
        if segment.has(TcpFlags::SYN) {
            self.challenge(cx, shared);
            return Verdict::Keep;
        }
        if !segment.has(TcpFlags::ACK) {
            return Verdict::Keep;
        }
        if !self.timestamp_is_fresh(segment) || !self.is_acceptable(segment) {
            // An old or stray segment, or a probe: the answer tells where we stand.
            if segment.seq + 1 == self.rcv_nxt && segment.payload_len <= 1 {
                self.sock.set_keepalive();
                self.on_ack(cx, segment);
            }
            self.must_ack = true;
            self.touch(shared);
            return Verdict::Keep;
        }
        if !self.ack_is_plausible(segment) {
            self.challenge(cx, shared);
            return Verdict::Keep;
        }
        if let Some((value, _)) = segment.options.timestamps {
            // RFC 7323 4.3: the value to echo is that of the segment that carried our ACK point.
            if self.ts_recent.is_some() && !segment.seq.after(self.rcv_acked) {
                self.ts_recent = Some(value);
            }
        }
        self.on_ack(cx, segment);
        self.touch(shared);
        if segment.len() > 0 {
            return self.on_data(cx, shared, segment);
        }
        Verdict::Keep
    }

    /// RFC 5961 3: only the exact next sequence number resets; what is merely in the window is asked to
    /// prove itself.
    fn on_reset<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        if self.guest_is_done() {
            // It has forgotten the connection; what it sent is still on its way to the remote.
            return Verdict::Keep;
        }
        if segment.seq == self.rcv_nxt || segment.seq == self.rcv_acked {
            log::debug!("TCP {:?}: reset by the guest", self.key);
            cx.stats.tcp_reset += 1;
            self.sock.reset_on_close();
            return Verdict::Remove;
        }
        if !segment.seq.before(self.rcv_acked) && segment.seq.before(self.rcv_advertised) {
            self.challenge(cx, shared);
        }
        Verdict::Keep
    }

    /// Sends a challenge ACK unless there were too many this second.
    pub(super) fn challenge<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) {
        let second = cx.now.millis() / 1000;
        if shared.challenges.0 != second {
            shared.challenges = (second, 0);
        }
        if shared.challenges.1 < MAX_CHALLENGES {
            shared.challenges.1 += 1;
            self.send_ack(cx);
        }
    }

    /// PAWS (RFC 7323 5).
    fn timestamp_is_fresh(&self, segment: &Segment<'_>) -> bool {
        match (self.ts_recent, segment.options.timestamps) {
            (Some(recent), Some((value, _))) => !Seq(value).before(Seq(recent)),
            _ => true,
        }
    }

    /// RFC 9293 3.10.7.4, first check: some of the segment lies in the window.
    fn is_acceptable(&self, segment: &Segment<'_>) -> bool {
        let edge = self.rcv_advertised.max(self.rcv_nxt);
        let len = segment.len();
        if len == 0 {
            !segment.seq.before(self.rcv_nxt) && !segment.seq.after(edge)
        } else {
            (segment.seq + len).after(self.rcv_nxt) && segment.seq.before(edge)
                || segment.seq == self.rcv_nxt
        }
    }

    /// RFC 5961 5: an ACK of something never sent, or of long ago, is none.
    fn ack_is_plausible(&self, segment: &Segment<'_>) -> bool {
        !segment.ack.after(self.max) && !segment.ack.before(self.una - self.max_wnd)
    }

    /// Takes acknowledgement, SACK and window of a segment.
    pub(super) fn on_ack<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        segment: &Segment<'_>,
    ) {
        let ack = segment.ack;
        if ack.before(self.una) || ack.after(self.max) {
            return;
        }
        let mut news = false;
        if self.sack_ok {
            for &(left, right) in segment.options.sack_blocks() {
                let (left, right) = (Seq(left), Seq(right));
                // Also skips D-SACK blocks (RFC 2883), which lie below the ACK.
                if left.after(ack) && !right.after(self.max) {
                    news |= self.sacked.insert(left, right);
                }
            }
        }
        let advance = ack.since(self.una);
        if advance > 0 {
            self.on_progress(cx, segment, advance);
        }
        let old_wnd = self.wnd;
        self.update_window(segment, advance > 0);
        if advance == 0 && self.in_flight() > 0 {
            let duplicate = segment.payload_len == 0
                && !segment.has(TcpFlags::FIN)
                && (self.wnd == old_wnd || news)
                && self.wnd > 0;
            if duplicate && (news || !self.sack_ok) {
                self.dup_acks = self.dup_acks.saturating_add(1);
            }
            if old_wnd == 0 && self.wnd > 0 {
                // What was in flight while the window was closed, a probe or more, was dropped by the
                // guest (Linux closes it over data in flight under memory pressure): again, at once.
                self.nxt = self.una;
            }
        }
        if self.recover.is_none() && self.in_flight() > 0 && self.loss_is_evident() {
            self.enter_recovery();
        }
    }

    fn on_progress<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &Cx<'_, G, H>,
        segment: &Segment<'_>,
        advance: u32,
    ) {
        let ack = segment.ack;
        match (self.ts_recent, segment.options.timestamps) {
            (Some(_), Some((_, echo))) if echo != 0 => {
                let elapsed = ts_clock(cx.now).wrapping_sub(echo);
                // A millisecond clock measures nothing finer; the timed byte below does.
                if elapsed > 1 && elapsed < 60_000 {
                    self.rtt.sample(std::time::Duration::from_millis(elapsed.into()));
                }
            }
            _ => {}
        }
        if let Some((timed, since)) = self.timed {
            if ack.after(timed) {
                self.rtt.sample(cx.now.since(since));
                self.timed = None;
            }
        }
        self.rtt.reset_backoff();
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        self.rtx_next = self.rtx_next.max(ack);
        self.sacked.advance(ack);
        self.progress = cx.now;
        self.retries = 0;
        match self.recover {
            Some(recover) if ack.before(recover) => {
                // Partial: without SACK, the next hole starts right here (RFC 6582 3.2).
                if !self.sack_ok {
                    self.rtx_next = ack;
                }
            }
            Some(_) => {
                self.recover = None;
                self.dup_acks = 0;
                self.cwnd = self.ssthresh.max(MIN_CWND);
            }
            None => {
                self.dup_acks = 0;
                let grown = if self.cwnd < self.ssthresh {
                    self.cwnd.saturating_add(advance)
                } else {
                    // One superframe per round trip.
                    let share = u64::from(advance) * u64::from(MIN_CWND / 2) / u64::from(self.cwnd);
                    self.cwnd.saturating_add(u32::try_from(share).unwrap_or(0))
                };
                self.cwnd = grown.min(MAX_CWND);
            }
        }
        // The timer starts anew with the next frame or at the end of the burst.
        self.wait = None;
    }

    /// RFC 9293 3.10.7.4, and whatever the sequence number, with an ACK that is news: the edge must not
    /// move along with it unasked.
    fn update_window(&mut self, segment: &Segment<'_>, acked: bool) {
        let newer = acked
            || self.wl1.before(segment.seq)
            || self.wl1 == segment.seq && !segment.ack.before(self.wl2);
        if !newer {
            return;
        }
        self.wnd = u32::from(segment.window) << self.snd_shift;
        self.max_wnd = self.max_wnd.max(self.wnd);
        self.wl1 = self.wl1.max(segment.seq);
        self.wl2 = segment.ack;
    }

    /// Three duplicate ACKs, or as much reported behind the hole (RFC 6675 5).
    fn loss_is_evident(&self) -> bool {
        self.dup_acks >= DUP_THRESHOLD
            || self.sacked.bytes() > u32::from(DUP_THRESHOLD - 1) * u32::from(self.mss)
                && self.dup_acks > 0
    }

    fn enter_recovery(&mut self) {
        self.recover = Some(self.max);
        self.rtx_next = self.una;
        self.ssthresh = (self.in_flight() / 2).max(MIN_CWND);
        self.cwnd = self.ssthresh;
        self.timed = None;
    }

    /// Payload and FIN.
    fn on_data<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        if self.guest_fin {
            // Nothing can follow a FIN that was received.
            self.must_ack = true;
            return Verdict::Keep;
        }
        let before = self.rcv_nxt;
        if segment.has(TcpFlags::FIN) {
            self.later_fin = Some(segment.seq + segment.len() - 1);
        }
        let taken = match segment.payloads {
            [] => self.take_payload(cx, shared, segment.seq, segment.payload),
            several => self.take_payloads(cx, shared, segment, several),
        };
        if let Err(error) = taken {
            return self.on_host_error(cx, &error);
        }
        if self.later_fin == Some(self.rcv_nxt) {
            self.rcv_nxt += 1;
            self.guest_fin = true;
            self.pass_fin();
        }
        if self.rcv_nxt == before {
            self.must_ack = true;
        } else {
            self.owes_ack = true;
            if self.unanswered {
                self.exchanges = 0;
            }
            self.unanswered = true;
        }
        Verdict::Keep
    }
}

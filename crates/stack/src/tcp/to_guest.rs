//! Host to guest: what the socket holds is peeked into frames, and stays in the socket until the guest
//! has acknowledged it.

use std::io::ErrorKind;

use wire::tcp::TcpFlags;
use wire::tcp_option::TcpOptions;

use super::connection::{Connection, Shared, State, Verdict};
use super::emit;
use super::seq::Seq;
use super::to_host::is_soft;
use super::window::LOCAL_RTT;
use crate::cx::Cx;
use crate::io::{Guest, HEADROOM, Host, TcpSocket};

/// Acknowledged bytes are removed from the socket when there are this many: a call less per ACK, and the
/// remote is told of new room in steps that matter to it. A fraction of the smallest receive buffer.
const DISCARD_BYTES: u32 = 32 << 10;
/// With nothing in flight no further ACK will come, so all of it goes. Only in a dialogue of messages smaller
/// than this it waits for company: as much in all, or so many frames. Not after anything larger: once the kernel has seen
/// full segments, it closes its window rather than offer less than one, and a few bytes left behind in a
/// buffer of about that size would keep it closed.
const SMALL_MESSAGE: u32 = 1 << 10;
const DISCARD_IDLE_FRAMES: u8 = 16;

/// So many frames at a time. Then other flows have their turn, and the ACKs that came meanwhile are seen:
/// what they free in the socket lets the remote go on, while it is still in the processor's cache.
const FRAMES_PER_TURN: u8 = 8;

/// What became of an attempt to send data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// This many bytes went out. Fewer than asked for: the socket has no more.
    Bytes(u32),
    /// Nothing there.
    Drained,
    /// The remote's FIN stands there.
    End,
    /// The link takes nothing now.
    LinkFull,
    /// The socket failed.
    Failed,
}

impl<S: TcpSocket> Connection<S> {
    /// At the end of a burst: discard, send, acknowledge.
    pub(super) fn settle<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        if self.state != State::Established {
            if self.owes_handshake {
                self.send_handshake(cx, shared);
            }
            return Verdict::Keep;
        }
        self.discard(false);
        if self.push(cx, shared) == Verdict::Remove {
            return Verdict::Remove;
        }
        self.settle_ack(cx, shared, false);
        self.finish()
    }

    /// Removes acknowledged bytes from the socket, if it is worth a call or if `all` of them have to go.
    pub(super) fn discard(&mut self, all: bool) {
        let acked = self.una.min(self.data_end()).since(self.queue_front);
        let worth = acked >= DISCARD_BYTES
            || self.una == self.nxt
                && (!self.small_messages
                    || acked >= SMALL_MESSAGE
                    || self.sent_since_discard >= DISCARD_IDLE_FRAMES);
        if acked == 0 || !(worth || all) {
            return;
        }
        match self.sock.discard(acked) {
            Ok(removed) => {
                self.queue_front += removed.min(acked);
                self.sent_since_discard = 0;
            }
            Err(error) => log::debug!("TCP {:?}: discard: {error}", self.key),
        }
    }

    /// Sends what the guest may get: holes first, then what was not sent yet.
    pub(super) fn push<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        let acked = self.rcv_acked;
        if self.owes_ack && self.ack_on_accept && self.host_rtt < LOCAL_RTT {
            // Whatever goes out now carries it.
            self.rcv_acked = self.rcv_nxt;
        }
        let verdict = self.push_data(cx, shared);
        if self.owes_ack {
            // Nothing went out.
            self.rcv_acked = acked;
        }
        verdict
    }

    fn push_data<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        if self.recover.is_some() {
            match self.fill_holes(cx) {
                Sent::Failed => return self.fail_to_guest(cx),
                Sent::LinkFull => self.await_link(cx, shared, false),
                Sent::Bytes(_) | Sent::Drained | Sent::End => {}
            }
        }
        let mut turn = FRAMES_PER_TURN;
        while let Some(len) = self.sendable() {
            if self.nxt == self.max && self.fin.is_none() && self.drained && !self.read_closed {
                break;
            }
            if turn == 0 {
                self.touch(shared);
                break;
            }
            turn -= 1;
            match self.send_data(cx, self.nxt, len) {
                Sent::Bytes(_) => {}
                Sent::Drained => break,
                Sent::LinkFull => {
                    self.await_link(cx, shared, turn + 1 < FRAMES_PER_TURN);
                    break;
                }
                Sent::End => {
                    if !self.send_fin(cx) {
                        self.await_link(cx, shared, turn + 1 < FRAMES_PER_TURN);
                    }
                    break;
                }
                Sent::Failed => return self.fail_to_guest(cx),
            }
        }
        self.rearm_retransmission(cx.now);
        Verdict::Keep
    }

    /// How many bytes may be sent at `nxt`; skips what the guest reported to hold.
    fn sendable(&mut self) -> Option<u32> {
        if self.nxt.before(self.max) {
            let (hole, _) = self.sacked.hole(self.nxt);
            self.nxt = hole.min(self.max);
        }
        if self.fin.is_some_and(|fin| self.nxt.after(fin)) {
            return None;
        }
        let in_network = self.in_network();
        let window = (self.una + self.wnd).since(self.nxt);
        let room = window.min(self.cwnd.saturating_sub(in_network));
        // Not in dribs and drabs: an ACK is on its way that opens the window further.
        let enough = room >= u32::from(self.mss) || self.in_flight() == 0 && room > 0;
        if !enough {
            return None;
        }
        // Not what the guest holds already.
        let end = self.sacked.hole(self.nxt).1.unwrap_or(self.nxt + room);
        Some(room.min(end.since(self.nxt)).max(1))
    }

    /// Estimate of the bytes on their way (RFC 6675 4, "pipe").
    fn in_network(&self) -> u32 {
        let flight = self.in_flight();
        match self.recover {
            None => flight.saturating_sub(self.sacked.bytes()),
            Some(_) if self.sack_ok => {
                let behind = self.sacked.highest().map_or(flight, |high| self.nxt.since(high));
                behind.saturating_add(self.rtx_next.since(self.una)).min(flight)
            }
            Some(_) => flight.saturating_sub(u32::from(self.dup_acks) * u32::from(self.mss)),
        }
    }

    /// In recovery: sends each hole once.
    fn fill_holes<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) -> Sent {
        let Some(recover) = self.recover else { return Sent::Drained };
        loop {
            let (hole, end) = self.sacked.hole(self.rtx_next.max(self.una));
            let end = match end {
                Some(end) => end,
                // Nothing reported behind it. Without SACK the hole is one segment long (RFC 6582);
                // with SACK it is none that we know of, unless it is the first.
                None if hole == self.una && self.rtx_next == self.una => hole + u32::from(self.mss),
                None => return Sent::Drained,
            };
            let end = end.min(recover).min(self.max);
            if !hole.before(end) || self.in_network() > self.cwnd {
                return Sent::Drained;
            }
            let window = (self.una + self.wnd).since(hole);
            let len = end.since(hole).min(window);
            if len == 0 {
                return Sent::Drained;
            }
            let sent = match self.send_data(cx, hole, len) {
                Sent::Bytes(sent) => sent,
                Sent::End if self.send_fin(cx) => 1,
                Sent::End => return Sent::LinkFull,
                other @ (Sent::Drained | Sent::LinkFull | Sent::Failed) => return other,
            };
            self.rtx_next = hole + sent;
        }
    }

    /// Peeks up to `len` bytes from `seq` on into a frame and sends it.
    fn send_data<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        seq: Seq,
        len: u32,
    ) -> Sent {
        if self.fin == Some(seq) {
            return Sent::End;
        }
        let again = seq.before(self.max);
        let known = self.fin.map_or(u32::MAX, |fin| fin.since(seq));
        let want = self.frame_payload(cx, len.min(known));
        let route = cx.link.route_to_guest(cx.config, self.key.guest().ip(), self.key.peer().ip());
        let Some(buf) = cx.guest.slot(want) else { return Sent::LinkFull };
        let Some(payload) = buf.get_mut(HEADROOM..) else { return Sent::LinkFull };
        let got = match self.sock.peek(seq.since(self.queue_front), payload) {
            Ok(0) if self.reset_by_remote => return Sent::Drained,
            Ok(0) => {
                self.drained = true;
                self.read_closed = true;
                return Sent::End;
            }
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.drained = !again;
                return Sent::Drained;
            }
            Err(error) if is_soft(&error) => return Sent::Drained,
            Err(error) => {
                log::debug!("TCP {:?}: peek: {error}", self.key);
                return Sent::Failed;
            }
        };
        let sent = u32::try_from(got).unwrap_or(u32::MAX);
        let short = got < want && !self.urgent;
        let end = seq + sent;
        let last = short && !end.before(self.max);
        let pushed = last || again && end == self.data_end();
        let mut flags = if pushed { TcpFlags::PSH } else { TcpFlags::empty() };
        let new_fin = last && self.read_closed && !self.reset_by_remote && self.fin.is_none();
        if new_fin || self.fin == Some(end) {
            // The FIN was in the queue when we peeked, so this is the end of it.
            flags |= TcpFlags::FIN;
        }
        let segment = self.outgoing(seq, flags, cx.now);
        let Some((start, stop, meta)) = emit::write(buf, &self.key, &route, &segment, got) else {
            return Sent::LinkFull;
        };
        if !cx.send(start, stop, meta) {
            return Sent::LinkFull;
        }
        self.drained |= last;
        self.small_messages &= sent < SMALL_MESSAGE;
        if self.unanswered {
            self.unanswered = false;
            self.exchanges = self.exchanges.saturating_add(1);
        }
        let fin = u32::from(flags.contains(TcpFlags::FIN));
        if new_fin {
            self.fin = Some(end);
        }
        if again {
            cx.stats.tcp_retransmitted += 1;
            self.timed = self.timed.filter(|(timed, _)| timed.before(seq));
        } else if self.timed.is_none() {
            self.timed = Some((seq, cx.now));
        }
        self.sent(seq, sent + fin);
        Sent::Bytes(sent)
    }

    /// Payload of the next frame: as much as the link takes at once, in whole segments.
    fn frame_payload<G: Guest, H>(&self, cx: &Cx<'_, G, H>, len: u32) -> usize {
        let headers = if self.key.is_ipv6() { 40 } else { 20 } + 20 + 12;
        let mss = usize::from(self.mss);
        let most = cx.guest.limits().max_packet.saturating_sub(headers).max(mss);
        let len = usize::try_from(len).unwrap_or(most).min(most);
        if len > mss { len - len % mss } else { len }
    }

    /// Sends FIN alone. `false`: the link did not take it.
    fn send_fin<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) -> bool {
        let seq = self.fin.unwrap_or(self.nxt);
        let segment = self.outgoing(seq, TcpFlags::FIN, cx.now);
        let sent = emit::send_bare(cx, &self.key, &segment);
        if sent {
            self.fin = Some(seq);
            self.sent(seq, 1);
        }
        sent
    }

    /// Accounts for `len` sequence numbers from `seq` on, which went out with ACK and window.
    fn sent(&mut self, seq: Seq, len: u32) {
        let end = seq + len;
        if seq == self.nxt {
            self.nxt = end;
        }
        self.max = self.max.max(end);
        self.sent_since_discard = self.sent_since_discard.saturating_add(1);
        self.advertised();
        if self.rcv_acked == self.rcv_nxt && !self.spill.has_gap() {
            self.owes_ack = false;
            self.must_ack = false;
        }
    }

    /// Tail loss probe: the last segment again (RFC 8985 7.3).
    pub(super) fn probe_tail<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
    ) -> Verdict {
        let end = self.data_end();
        if end.after(self.una + self.wnd) {
            // The guest took its window back: the timeout will do.
            return Verdict::Keep;
        }
        let from = self.una.max(end - u32::from(self.mss).min(end.since(self.una)));
        if from == end {
            self.send_fin(cx);
        } else if self.send_data(cx, from, end.since(from)) == Sent::Failed {
            return self.fail_to_guest(cx);
        }
        Verdict::Keep
    }

    /// Asks a guest with a closed window for news with one byte (RFC 9293 3.8.6.1).
    pub(super) fn probe_window<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
    ) -> Verdict {
        self.nxt = self.una;
        match self.send_data(cx, self.una, 1) {
            Sent::Failed => self.fail_to_guest(cx),
            Sent::End => {
                self.send_fin(cx);
                Verdict::Keep
            }
            Sent::Bytes(_) | Sent::Drained | Sent::LinkFull => Verdict::Keep,
        }
    }

    /// An ACK below the window: alive guests answer it, others reset.
    pub(super) fn send_keepalive<G: Guest, H: Host<Tcp = S>>(&self, cx: &mut Cx<'_, G, H>) {
        let mut segment = self.outgoing(self.una - 1, TcpFlags::empty(), cx.now);
        segment.options =
            TcpOptions { timestamps: self.timestamps(cx.now), ..TcpOptions::default() };
        emit::send_bare(cx, &self.key, &segment);
    }

    fn fail_to_guest<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) -> Verdict {
        self.reset_both(cx);
        Verdict::Remove
    }
}

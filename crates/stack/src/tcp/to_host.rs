//! Guest to host: payload goes from the frame straight to the socket; what does not fit waits in the spill.

use std::io::{self, ErrorKind, IoSlice};

use super::Segment;
use super::connection::{Connection, Shared, Verdict};
use super::seq::Seq;
use crate::cx::Cx;
use crate::io::{Guest, Host, TcpSocket};

impl<S: TcpSocket> Connection<S> {
    /// Takes payload that starts at `seq`: in order to the socket, behind a gap aside. What lies beyond
    /// the advertised edge is not taken.
    pub(super) fn take_payload<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        seq: Seq,
        payload: &[u8],
    ) -> io::Result<()> {
        let edge = self.rcv_advertised.max(self.rcv_nxt);
        let allowed = edge.since(seq) as usize;
        let payload = payload.get(..allowed).unwrap_or(payload);
        let old = self.rcv_nxt.since(seq) as usize;
        let fresh = payload.get(old..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(());
        }
        if seq.after(self.rcv_nxt) {
            self.recent_later = seq;
            self.spill.keep_later(seq, fresh, &mut shared.pool);
            // Each segment behind a gap is answered at once, so that the guest counts duplicates.
            self.send_ack(cx);
            return Ok(());
        }
        self.take_in_order(cx, shared, fresh)?;
        while let Some((seq, bytes)) = self.spill.take_ready(self.rcv_nxt, &mut shared.pool) {
            let old = self.rcv_nxt.since(seq) as usize;
            if let Some(fresh) = bytes.get(old..) {
                self.take_in_order(cx, shared, fresh)?;
            }
        }
        Ok(())
    }

    fn take_in_order<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        bytes: &[u8],
    ) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.pass_on(cx, shared, &[IoSlice::new(bytes)], len)
    }

    /// Takes the payloads of segments that continue each other.
    pub(super) fn take_payloads<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
        payloads: &[IoSlice<'_>],
    ) -> io::Result<()> {
        let edge = self.rcv_advertised.max(self.rcv_nxt);
        let len = segment.payload_len;
        if segment.seq == self.rcv_nxt && len <= edge.since(self.rcv_nxt) && !self.spill.has_gap() {
            return self.pass_on(cx, shared, payloads, len);
        }
        let mut seq = segment.seq;
        for payload in payloads {
            self.take_payload(cx, shared, seq, payload)?;
            seq += u32::try_from(payload.len()).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// Gives the next `len` bytes to the socket, and to the spill what that does not take.
    fn pass_on<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        pieces: &[IoSlice<'_>],
        len: u32,
    ) -> io::Result<()> {
        let mut sent = if self.spill.is_empty() {
            match self.sock.send(pieces) {
                Ok(sent) => sent,
                Err(error) if is_soft(&error) => 0,
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        if sent < len as usize {
            for piece in pieces {
                let rest = piece.get(sent..).unwrap_or_default();
                sent = sent.saturating_sub(piece.len());
                cx.stats.tcp_spilled += rest.len() as u64;
                if !rest.is_empty() {
                    self.spill.push(rest, &mut shared.pool);
                }
            }
        }
        self.rcv_nxt += len;
        self.rcv_since_room = self.rcv_since_room.saturating_add(len);
        Ok(())
    }

    /// The socket has room again: the spill goes first.
    pub(super) fn drain_spill(&mut self, shared: &mut Shared) -> io::Result<()> {
        while !self.spill.is_empty() {
            match self.sock.send(&self.spill.parts()) {
                Ok(0) => break,
                Ok(sent) => self.spill.consume(sent, &mut shared.pool),
                Err(error) if is_soft(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.pass_fin();
        Ok(())
    }

    /// The guest's FIN goes to the remote behind the last byte.
    pub(super) fn pass_fin(&mut self) {
        if self.guest_fin && !self.fin_passed && self.spill.is_empty() {
            self.fin_passed = true;
            if let Err(error) = self.sock.shutdown_write() {
                log::debug!("TCP {:?}: shutdown: {error}", self.key);
            }
        }
    }

    /// The host socket failed: the guest gets what is still readable, then a reset.
    pub(super) fn on_host_error<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        error: &io::Error,
    ) -> Verdict {
        log::debug!("TCP {:?}: {error}", self.key);
        self.reset_both(cx);
        Verdict::Remove
    }
}

/// Whether an error leaves the connection alive: no room, or an ICMP message that the kernel reports
/// because the error queue is on (RFC 1122 4.2.3.9: soft errors).
pub(super) fn is_soft(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::ConnectionRefused
    )
}

//! Segments towards the guest.

use wire::IntoBytes;
use wire::checksum;
use wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN, TcpFlags, TcpHeader};
use wire::tcp_option::{MAX_LEN, TcpOptions};

use super::connection::{Connection, State};
use super::seq::Seq;
use crate::cx::Cx;
use crate::flow::FlowKey;
use crate::frame::{IpFields, Route, write_ip};
use crate::io::{FrameMeta, Gso, Guest, HEADROOM, Host, TcpSocket};

/// Protocol number of TCP.
pub(super) const PROTOCOL: u8 = 6;

/// A segment to be written in front of its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
    pub(super) options: TcpOptions,
    /// Payload bytes per packet.
    pub(super) mss: u16,
    pub(super) flow_label: u32,
}

/// Writes the headers of `segment` in front of `payload_len` bytes that stand at [`HEADROOM`]. Returns
/// first and last byte of the frame, and what the link must do with it.
pub(super) fn write(
    buf: &mut [u8],
    key: &FlowKey,
    route: &Route,
    segment: &Outgoing,
    payload_len: usize,
) -> Option<(usize, usize, FrameMeta)> {
    let mut options = [0; MAX_LEN];
    let options_len = segment.options.emit(&mut options);
    let header_len = HEADER_LEN + options_len;
    let l4_start = HEADROOM - header_len;
    let l4_len = header_len + payload_len;
    let pseudo =
        checksum::pseudo_header(route.src, route.dst, PROTOCOL, u32::try_from(l4_len).ok()?);
    let mut header = TcpHeader {
        src_port: key.peer().port().into(),
        dst_port: key.guest().port().into(),
        seq: segment.seq.0.into(),
        ack: segment.ack.0.into(),
        flags: segment.flags,
        window: segment.window.into(),
        checksum: checksum::partial_for_offload(pseudo).into(),
        ..TcpHeader::default()
    };
    header.set_options_len(options_len);
    buf.get_mut(l4_start..l4_start + HEADER_LEN)?.copy_from_slice(header.as_bytes());
    buf.get_mut(l4_start + HEADER_LEN..HEADROOM)?.copy_from_slice(options.get(..options_len)?);
    let fields = IpFields { flow_label: segment.flow_label, ..IpFields::default() };
    let start = write_ip(buf, l4_start, l4_len, PROTOCOL, route, &fields)?;
    let gso =
        if payload_len > usize::from(segment.mss) { Gso::Tcp(segment.mss) } else { Gso::None };
    let meta = FrameMeta {
        gso,
        csum_start: Some(u16::try_from(l4_start - start).ok()?),
        csum_offset: CHECKSUM_OFFSET,
    };
    Some((start, HEADROOM + payload_len, meta))
}

/// Sends a segment without payload for the flow `key`.
pub(super) fn send_bare<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    segment: &Outgoing,
) -> bool {
    let route = cx.link.route_to_guest(cx.config, key.guest().ip(), key.peer().ip());
    let Some(buf) = cx.guest.slot(0) else { return false };
    match write(buf, key, &route, segment, 0) {
        Some((start, end, meta)) => cx.send(start, end, meta),
        None => false,
    }
}

impl<S: TcpSocket> Connection<S> {
    /// Timestamps as agreed; our clock counts milliseconds.
    pub(super) fn timestamps(&self, now: crate::time::Instant) -> Option<(u32, u32)> {
        self.ts_recent.map(|recent| (ts_clock(now), recent))
    }

    /// The window field of a segment that acknowledges `ack`, and the edge the guest will see.
    ///
    /// Rounded up, so that the edge never moves left; the spill has room for that. Only when a guest of
    /// tiny segments has crept far beyond it that way, down.
    pub(super) fn window_field(&self, ack: Seq) -> (u16, Seq) {
        let unit = 1u32 << self.rcv_shift;
        let open = self.rcv_edge.since(ack);
        let units = if self.spill.len() > 2 * super::spill::QUOTA {
            open / unit
        } else {
            open.div_ceil(unit)
        };
        let field = u16::try_from(units).unwrap_or(u16::MAX);
        (field, ack + u32::from(field) * unit)
    }

    /// A segment with the current acknowledgement and window.
    pub(super) fn outgoing(
        &self,
        seq: Seq,
        flags: TcpFlags,
        now: crate::time::Instant,
    ) -> Outgoing {
        let (window, _) = self.window_field(self.rcv_acked);
        let options = TcpOptions { timestamps: self.timestamps(now), ..TcpOptions::default() };
        Outgoing {
            seq,
            ack: self.rcv_acked,
            flags: flags | TcpFlags::ACK,
            window,
            options,
            mss: self.mss,
            flow_label: self.flow_label,
        }
    }

    /// Notes what the guest learnt from a segment that went out.
    pub(super) fn advertised(&mut self) {
        let (_, edge) = self.window_field(self.rcv_acked);
        self.rcv_advertised = self.rcv_advertised.max(edge);
        self.rcv_edge = self.rcv_edge.max(edge);
    }

    /// Sends an ACK with window and, if there are gaps, SACK blocks.
    pub(super) fn send_ack<G: Guest, H: Host>(&mut self, cx: &mut Cx<'_, G, H>) -> bool {
        // Not beyond the guest's window, where a window probe may have taken us: it would not look at it.
        let seq = self.max.min(self.una + self.wnd);
        let mut segment = self.outgoing(seq, TcpFlags::empty(), cx.now);
        if self.sack_ok && self.spill.has_gap() {
            let options = &mut segment.options;
            self.spill
                .sack_blocks(self.recent_later, |left, right| options.push_sack(left.0, right.0));
        }
        let sent = send_bare(cx, &self.key, &segment);
        if sent {
            self.advertised();
        }
        sent
    }

    /// Sends a reset that the guest accepts, and makes the host socket reset its peer.
    pub(super) fn reset_both<G: Guest, H: Host>(&mut self, cx: &mut Cx<'_, G, H>) {
        cx.stats.tcp_reset += 1;
        let sent = send_bare(cx, &self.key, &self.reset(cx.now));
        // A guest that only listens would never learn. Of what is not established it has heard nothing.
        self.owes_reset = !sent && cx.guest.is_full() && self.state == State::Established;
        self.sock.reset_on_close();
    }

    /// A reset that the guest accepts.
    pub(super) fn reset(&self, now: crate::time::Instant) -> Outgoing {
        self.outgoing(self.max, TcpFlags::RST, now)
    }
}

/// Our timestamp clock: milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "the clock wraps (RFC 7323 5.4)")]
pub(super) const fn ts_clock(now: crate::time::Instant) -> u32 {
    now.millis() as u32
}

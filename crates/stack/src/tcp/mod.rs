//! The TCP translator: the guest's TCP on one side, a kernel socket on the other, nothing stored between.
//!
//! Three rules hold throughout. A byte the guest sent inside the window we advertised is never dropped by
//! us. A byte is acknowledged to the guest only when the socket or the spill holds it, and removed from the
//! socket's receive queue only when the guest acknowledged it: that queue is the retransmission buffer. The
//! advertised right edge does not move left.
//!
//! A segment is handled in two steps: [`Connections::segment`] takes its payload to the socket at once,
//! straight from the frame, and notes what is owed; [`Connections::end_of_burst`] sends one ACK, discards
//! once and sends what may be sent, however many segments there were.

mod close;
mod connection;
mod emit;
mod handshake;
mod receive;
mod rtt;
mod scoreboard;
mod seq;
mod spill;
#[cfg(test)]
mod tests;
mod timer;
mod to_guest;
mod to_host;
mod window;

use std::io::IoSlice;
use std::net::IpAddr;

use wire::tcp::{TcpFlags, TcpHeader};
use wire::tcp_option::TcpOptions;

use self::connection::{Connection, Shared, Verdict};
use self::emit::Outgoing;
use self::seq::Seq;
use self::spill::SpillPool;
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey, FlowKind, FlowTable, Secret};
use crate::io::{Guest, Host, Readiness, TcpSocket};

pub(crate) use crate::Settings;

/// A TCP segment from the guest, as the input side found it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub guest: IpAddr,
    /// Destination address.
    pub peer: IpAddr,
    /// The fixed header.
    pub header: &'a TcpHeader,
    /// Options, possibly malformed.
    pub options: &'a [u8],
    /// Payload; more than one segment's worth if the link does segmentation.
    pub payload: &'a [u8],
    /// If it is the first of several segments that continue each other: the payloads of all of them.
    pub payloads: &'a [IoSlice<'a>],
    /// IPv6 flow label, echoed in resets that belong to no flow.
    pub flow_label: u32,
}

/// A segment with the parts that are looked at more than once.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    seq: Seq,
    ack: Seq,
    flags: TcpFlags,
    window: u16,
    options: TcpOptions,
    payload: &'a [u8],
    /// See [`Packet::payloads`].
    payloads: &'a [IoSlice<'a>],
    payload_len: u32,
}

impl Segment<'_> {
    /// SEG.LEN: payload, SYN and FIN.
    fn len(&self) -> u32 {
        self.payload_len
            + u32::from(self.flags.contains(TcpFlags::SYN))
            + u32::from(self.flags.contains(TcpFlags::FIN))
    }

    fn has(&self, flag: TcpFlags) -> bool {
        self.flags.contains(flag)
    }
}

/// All TCP connections of a guest.
#[derive(Debug)]
pub struct Connections<S> {
    table: FlowTable<Connection<S>>,
    shared: Shared,
    secret: Secret,
    /// The flow of the last segment: the next one is likely of the same.
    last: Option<(FlowKey, FlowId)>,
    /// Reused by [`Connections::end_of_burst`].
    settling: Vec<FlowId>,
}

impl<S: TcpSocket> Connections<S> {
    /// No connections yet.
    pub fn new(secret: Secret, settings: Settings) -> Self {
        Self {
            table: FlowTable::new(FlowKind::Tcp, secret),
            shared: Shared {
                pool: SpillPool::default(),
                touched: Vec::with_capacity(64),
                parked: [Vec::new(), Vec::new()],
                resets: Vec::new(),
                connecting: 0,
                accepted: 0,
                settings,
                challenges: (0, 0),
            },
            secret,
            last: None,
            settling: Vec::with_capacity(64),
        }
    }

    /// Number of connections in any state.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether [`end_of_burst`](Self::end_of_burst) has more to do: to be called again soon.
    pub fn has_pending(&self) -> bool {
        !self.shared.touched.is_empty()
    }

    /// A segment from the guest.
    pub fn segment<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        packet: &Packet<'_>,
    ) {
        let header = packet.header;
        let key = FlowKey::new(
            (packet.guest, header.src_port.get()).into(),
            (packet.peer, header.dst_port.get()).into(),
        );
        let payload_len = match packet.payloads {
            [] => packet.payload.len(),
            several => several.iter().map(|payload| payload.len()).sum(),
        };
        let segment = Segment {
            seq: Seq(header.seq.get()),
            ack: Seq(header.ack.get()),
            flags: header.flags,
            window: header.window.get(),
            options: TcpOptions::parse(packet.options),
            payload: packet.payload,
            payloads: packet.payloads,
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
        };
        let id = match self.last {
            Some((last, id)) if last == key => Some(id),
            _ => self.table.find(&key),
        };
        let Some(connection) = id.and_then(|id| self.table.get_mut(id)) else {
            return self.segment_without_flow(cx, &key, &segment, packet.flow_label);
        };
        self.last = id.map(|id| (key, id));
        connection.last_guest = cx.now;
        connection.last_any = cx.now;
        let verdict = connection.on_segment(cx, &mut self.shared, &segment);
        self.settle(cx, id, verdict);
    }

    /// Sends the ACKs owed, discards what the guest has, and sends it what there is.
    pub fn end_of_burst<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) {
        self.send_resets(cx);
        std::mem::swap(&mut self.shared.touched, &mut self.settling);
        for index in 0..self.settling.len() {
            let Some(&id) = self.settling.get(index) else { break };
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.touched = false;
            let verdict = connection.settle(cx, &mut self.shared);
            self.settle(cx, Some(id), verdict);
        }
        self.settling.clear();
    }

    /// Tells the guest about connections that ended while the link was full.
    fn send_resets<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) {
        while let Some((key, reset)) = self.shared.resets.last() {
            // If there is another one with these ends by now, the guest knows.
            if self.table.find(key).is_none() && !emit::send_bare(cx, key, reset) {
                return;
            }
            self.shared.resets.pop();
        }
    }

    /// The link takes frames again: whoever waited for that goes on with the end of this burst, before
    /// those that something else has happened to. Such a one would get ahead of them time and again.
    pub fn on_link_ready(&mut self) {
        let parked = std::mem::take(&mut self.shared.parked);
        std::mem::swap(&mut self.shared.touched, &mut self.settling);
        for &id in parked.iter().flatten() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.touched = true;
            self.shared.touched.push(id);
        }
        for id in self.settling.drain(..) {
            if self.table.get_mut(id).is_some_and(|connection| !connection.parked) {
                self.shared.touched.push(id);
            }
        }
        for &id in parked.iter().flatten() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.parked = false;
        }
        // The room stays ours.
        self.shared.parked = parked.map(|mut ids| {
            ids.clear();
            ids
        });
    }

    /// The link is another one: what was on its way over the old one is lost, and is sent again with the end of
    /// this burst.
    pub fn on_new_link(&mut self) {
        self.on_link_ready();
        for connection in self.table.values_mut() {
            connection.lose_flight();
            connection.touch(&mut self.shared);
        }
    }

    /// Readiness of a host socket.
    pub fn on_socket<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        id: FlowId,
        ready: Readiness,
    ) {
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.last_any = cx.now;
        let verdict = connection.on_socket(cx, &mut self.shared, ready);
        self.settle(cx, Some(id), verdict);
    }

    /// A deadline of a connection may have passed.
    pub fn on_deadline<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>, id: FlowId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.armed.fired(cx.now);
        let verdict = connection.on_deadline(cx, &mut self.shared);
        self.settle(cx, Some(id), verdict);
    }

    /// After an event of a connection: forget it or see that its next deadline is armed.
    fn settle<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        id: Option<FlowId>,
        verdict: Verdict,
    ) {
        let Some(id) = id else { return };
        if verdict == Verdict::Remove {
            if let Some((key, mut connection)) = self.table.remove(id) {
                log::debug!("TCP {key:?}: closed");
                if connection.owes_reset {
                    let reset = connection.reset(cx.now);
                    self.shared.resets.push((key, reset));
                }
                connection.release(&mut self.shared, cx.timers);
            }
            self.last = None;
        } else if let Some(connection) = self.table.get_mut(id) {
            connection.arm(cx);
        }
    }

    /// RFC 9293 3.10.7.1, and the SYN that opens a flow.
    fn segment_without_flow<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: &FlowKey,
        segment: &Segment<'_>,
        flow_label: u32,
    ) {
        if segment.has(TcpFlags::RST) {
            return;
        }
        if segment.has(TcpFlags::SYN) && !segment.has(TcpFlags::ACK) {
            return self.open_from_guest(cx, key, segment, flow_label);
        }
        refuse(cx, key, segment, flow_label);
    }
}

/// Answers a segment with the reset it deserves.
fn refuse<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    segment: &Segment<'_>,
    flow_label: u32,
) {
    let (seq, ack, flags) = if segment.has(TcpFlags::ACK) {
        (segment.ack, Seq(0), TcpFlags::RST)
    } else {
        (Seq(0), segment.seq + segment.len(), TcpFlags::RST | TcpFlags::ACK)
    };
    let options = TcpOptions::default();
    let reset = Outgoing { seq, ack, flags, window: 0, options, mss: u16::MAX, flow_label };
    emit::send_bare(cx, key, &reset);
}

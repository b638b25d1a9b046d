//! Looks at every frame on the link and says what a TCP may not do.

use std::collections::HashMap;
use std::net::SocketAddr;

use wire::tcp::TcpFlags;
use wire::tcp_option::MAX_WINDOW_SCALE;

use super::host::{REMOTE_PORT, patterns};
use super::link::LinkPlan;
use super::packet::{Frame, TcpView};
use super::pattern::Pattern;
use super::ranges::Ranges;
use crate::io::{FrameMeta, Gso};

/// What one side said in its SYN.
#[derive(Clone, Copy, Debug)]
struct Syn {
    iss: u32,
    shift: Option<u8>,
    sack: bool,
    timestamps: bool,
    mss: Option<u16>,
}

impl Syn {
    fn of(view: &TcpView<'_>) -> Self {
        Self {
            iss: view.header.seq.get(),
            shift: view.options.window_scale.map(|shift| shift.min(MAX_WINDOW_SCALE)),
            sack: view.options.sack_permitted,
            timestamps: view.options.timestamps.is_some(),
            mss: view.options.mss,
        }
    }

    /// Position of a sequence number near `near`; the first byte behind the SYN is 1.
    fn position(&self, seq: u32, near: u64) -> Option<u64> {
        let offset = seq.wrapping_sub(self.iss.wrapping_add(near as u32)) as i32;
        near.checked_add_signed(i64::from(offset))
    }
}

/// What was seen of one flow. Positions count from the SYN, which is position 0.
#[derive(Clone, Debug, Default)]
pub struct FlowWatch {
    guest_syn: Option<Syn>,
    our_syn: Option<Syn>,
    /// Highest position the guest sent, exclusive.
    pub guest_sent: u64,
    /// The guest sent beyond the window it was told.
    pub guest_overran: bool,
    /// Bytes the guest sent more than once.
    pub guest_twice: u64,
    /// What the stack was handed of the guest's stream.
    delivered: Ranges,
    /// Everything before was delivered.
    pub contiguous: u64,
    /// Highest acknowledgement of the guest that the stack was handed.
    pub guest_acked: u64,
    /// Farthest right edge of the guest's window that the stack was handed.
    guest_edge: u64,
    /// Highest position the stack sent, exclusive.
    pub sent: u64,
    /// Bytes the stack sent more than once.
    pub twice: u64,
    /// Last acknowledgement the stack sent.
    pub acked: u64,
    /// Right edge of the window the stack advertised last.
    pub edge: u64,
    /// Position of the FIN that the stack sent.
    pub fin: Option<u64>,
    /// The stack was handed a reset.
    guest_reset: bool,
    /// The stack sent a reset.
    pub reset: bool,
    /// The guest closed its window, or shrank it, at some time.
    pub guest_pressed: bool,
}

/// The flows on a link.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    flows: HashMap<(SocketAddr, SocketAddr), FlowWatch>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was seen of the flow between `guest` and `peer`.
    pub fn flow(&self, guest: SocketAddr, peer: SocketAddr) -> Option<&FlowWatch> {
        self.flows.get(&(guest, peer))
    }

    /// All flows.
    pub fn flows(&self) -> impl Iterator<Item = &FlowWatch> {
        self.flows.values()
    }

    /// The flow whose remote has this port.
    pub fn by_peer_port(&self, port: u16) -> Option<&FlowWatch> {
        self.flows.iter().find(|((_, peer), _)| peer.port() == port).map(|(_, flow)| flow)
    }

    /// The guest sent a frame.
    pub fn guest_sent(&mut self, frame: &Frame) {
        let Some(view) = TcpView::parse(&frame.data) else { return };
        let flow = self.flows.entry((view.src, view.dst)).or_default();
        if view.has(TcpFlags::SYN) {
            flow.guest_syn = Some(Syn::of(&view));
            flow.guest_sent = flow.guest_sent.max(1);
            return;
        }
        let Some(syn) = flow.guest_syn.filter(|_| !view.has(TcpFlags::RST)) else { return };
        let Some(start) = syn.position(view.header.seq.get(), flow.guest_sent) else { return };
        let end = start + view.payload.len() as u64;
        // A single byte is a window probe, and comes again with what follows.
        let again = flow.guest_sent.min(end).saturating_sub(start);
        if again > 1 {
            flow.guest_twice += again;
        }
        flow.guest_sent = flow.guest_sent.max(end);
        flow.guest_overran |= view.payload.len() > 1 && end > flow.edge;
    }

    /// The stack is about to be handed a frame.
    pub fn deliver(&mut self, frame: &Frame) {
        let Some(view) = TcpView::parse(&frame.data) else { return };
        let flow = self.flows.entry((view.src, view.dst)).or_default();
        flow.guest_reset |= view.has(TcpFlags::RST);
        let Some(syn) = flow.guest_syn.filter(|_| !view.has(TcpFlags::RST)) else { return };
        if view.has(TcpFlags::SYN) {
            flow.contiguous = flow.contiguous.max(1);
            flow.guest_edge = flow.guest_edge.max(1 + u64::from(view.header.window.get()));
        } else if let Some(start) = syn.position(view.header.seq.get(), flow.contiguous) {
            let fin = u64::from(view.has(TcpFlags::FIN));
            flow.delivered.insert(start, start + view.payload.len() as u64 + fin);
            flow.contiguous = flow.delivered.end_of(flow.contiguous);
        }
        let Some(ours) = flow.our_syn.filter(|_| view.has(TcpFlags::ACK)) else { return };
        if let Some(ack) = ours.position(view.header.ack.get(), flow.guest_acked) {
            if ack <= flow.sent {
                flow.guest_acked = flow.guest_acked.max(ack);
            }
            let scaled = !view.has(TcpFlags::SYN) && ours.shift.is_some();
            let shift = if scaled { syn.shift.unwrap_or(0) } else { 0 };
            let edge = ack + (u64::from(view.header.window.get()) << shift);
            flow.guest_pressed |= edge < flow.guest_edge || edge <= flow.sent;
            flow.guest_edge = flow.guest_edge.max(edge);
        }
    }

    /// The stack sends a frame; an error says what is wrong with it.
    pub fn stack_sent(
        &mut self,
        frame: &[u8],
        meta: FrameMeta,
        plan: &LinkPlan,
    ) -> Result<(), String> {
        let Some(view) = TcpView::parse(frame) else { return Ok(()) };
        let flow = self.flows.entry((view.dst, view.src)).or_default();
        flow.stack_sent(&view, meta, plan).map_err(|what| {
            format!(
                "{what}: {} -> {} {:?} seq {} ack {} window {} payload {}",
                view.src,
                view.dst,
                view.header.flags,
                view.header.seq,
                view.header.ack,
                view.header.window,
                view.payload.len(),
            )
        })
    }
}

impl FlowWatch {
    fn stack_sent(
        &mut self,
        view: &TcpView<'_>,
        meta: FrameMeta,
        plan: &LinkPlan,
    ) -> Result<(), String> {
        if view.has(TcpFlags::RST) {
            self.reset = true;
            return Ok(());
        }
        if view.has(TcpFlags::SYN) {
            self.syn(view, plan)?;
        }
        let Some(ours) = self.our_syn else { return Err("before any SYN".into()) };
        if let Some(guest) = self.guest_syn.filter(|_| view.has(TcpFlags::ACK)) {
            self.acknowledgement(view, guest, ours)?;
        }
        if !view.has(TcpFlags::SYN) {
            self.data(view, ours, meta, plan)?;
        }
        Ok(())
    }

    fn syn(&mut self, view: &TcpView<'_>, plan: &LinkPlan) -> Result<(), String> {
        let syn = Syn::of(view);
        let over = self.fin.is_some() || self.reset || self.guest_reset;
        if over && view.has(TcpFlags::ACK) {
            // A late duplicate of the guest's SYN, after the end: another connection.
            let guest_syn = self.guest_syn;
            *self =
                Self { guest_syn, contiguous: 1, guest_edge: self.guest_edge, ..Self::default() };
        }
        if self.our_syn.is_some_and(|known| known.iss != syn.iss) {
            return Err("another initial sequence number".into());
        }
        let headers = if view.src.is_ipv4() { 40 } else { 60 };
        if syn.mss.is_none_or(|mss| usize::from(mss) > usize::from(plan.mtu) - headers) {
            return Err(format!("an MSS of {:?} at an MTU of {}", syn.mss, plan.mtu));
        }
        if let (true, Some(guest)) = (view.has(TcpFlags::ACK), self.guest_syn) {
            let unasked = [
                (syn.shift.is_some() && guest.shift.is_none(), "window scale"),
                (syn.sack && !guest.sack, "SACK"),
                (syn.timestamps && !guest.timestamps, "timestamps"),
            ];
            if let Some((_, what)) = unasked.iter().find(|(bad, _)| *bad) {
                return Err(format!("{what} that the guest did not offer"));
            }
        }
        self.our_syn = Some(syn);
        self.sent = self.sent.max(1);
        Ok(())
    }

    fn acknowledgement(&mut self, view: &TcpView<'_>, guest: Syn, ours: Syn) -> Result<(), String> {
        let ack = guest.position(view.header.ack.get(), self.acked);
        let Some(ack) = ack.filter(|&ack| ack >= self.acked) else {
            return Err(format!("the acknowledgement moved left of {}", self.acked));
        };
        if ack > self.contiguous {
            return Err(format!("{ack} acknowledged, {} received", self.contiguous));
        }
        self.acked = ack;
        let scaled = !view.has(TcpFlags::SYN) && guest.shift.is_some();
        let shift = if scaled { ours.shift.unwrap_or(0) } else { 0 };
        let edge = ack + (u64::from(view.header.window.get()) << shift);
        if edge < self.edge {
            return Err(format!("the right edge moved left, from {} to {edge}", self.edge));
        }
        self.edge = edge;
        for &(left, right) in view.options.sack_blocks() {
            let block = (guest.position(left, ack), guest.position(right, ack));
            let (Some(left), Some(right)) = block else { return Err("a SACK block".into()) };
            if left >= right || !self.delivered.contains(left, right) {
                return Err(format!("{left}..{right} SACKed, but not received"));
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        view: &TcpView<'_>,
        ours: Syn,
        meta: FrameMeta,
        plan: &LinkPlan,
    ) -> Result<(), String> {
        let guest = self.guest_syn;
        let timestamps = guest.is_some_and(|syn| syn.timestamps) && ours.timestamps;
        if view.options.timestamps.is_some() != timestamps {
            return Err("timestamps not as agreed".into());
        }
        let Some(start) = ours.position(view.header.seq.get(), self.sent) else {
            return Err("a sequence number from nowhere".into());
        };
        let len = view.payload.len() as u64;
        let fin = u64::from(view.has(TcpFlags::FIN));
        let end = start + len + fin;
        if len > 0 {
            self.payload(view, start, meta, plan)?;
            // One segment at the very end is a tail loss probe (RFC 8985 7), a single byte a window probe.
            let mss = u64::from(guest.and_then(|syn| syn.mss).unwrap_or(1220));
            let probe = len <= mss && start + len + fin == self.sent;
            if len > 1 && !probe {
                self.twice += self.sent.min(start + len).saturating_sub(start);
            }
            if len > 1 && start + len > self.guest_edge {
                return Err(format!(
                    "{} sent, the window ends at {}",
                    start + len,
                    self.guest_edge
                ));
            }
        }
        if start > self.sent {
            return Err(format!("a hole before {start}, {} sent", self.sent));
        }
        if fin > 0 && self.fin.is_some_and(|at| at != end - 1) {
            return Err("another FIN".into());
        }
        if self.fin.is_some_and(|at| end > at + 1) {
            return Err("data behind the FIN".into());
        }
        self.fin = self.fin.or_else(|| (fin > 0).then(|| end - 1));
        self.sent = self.sent.max(end);
        Ok(())
    }

    fn payload(
        &self,
        view: &TcpView<'_>,
        start: u64,
        meta: FrameMeta,
        plan: &LinkPlan,
    ) -> Result<(), String> {
        let n = view.src.port().wrapping_sub(REMOTE_PORT);
        let (_, pattern): (Pattern, Pattern) = patterns(u64::from(n));
        if let Some(at) = pattern.mismatch(start - 1, view.payload) {
            return Err(format!("byte {at} of the remote's stream is wrong"));
        }
        let fallback = if view.src.is_ipv4() { 536 } else { 1220 };
        let mss = self.guest_syn.and_then(|syn| syn.mss).unwrap_or(fallback);
        let headers = view.packet_len - view.payload.len();
        let size = match meta.gso {
            Gso::Tcp(size) => usize::from(size),
            Gso::None => view.payload.len(),
            Gso::Udp(_) => return Err("a UDP superframe of TCP".into()),
        };
        let options = headers - if view.src.is_ipv4() { 40 } else { 60 };
        if size + options > usize::from(mss) || size + headers > usize::from(plan.mtu) {
            return Err(format!("segments of {size} bytes, MSS {mss}, MTU {}", plan.mtu));
        }
        Ok(())
    }
}

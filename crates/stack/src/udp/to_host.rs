//! Datagrams from the guest.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use wire::udp::UdpHeader;

use super::{Flow, Flows, MAX_DATAGRAM, report_errors};
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey};
use crate::input::Ip;
use crate::io::{Gso, Guest, Host, UdpSocket};

/// Datagrams that one `UDP_SEGMENT` send takes everywhere (`UDP_MAX_SEGMENTS` of kernels before 6.10).
const MAX_SEGMENTS: usize = 64;
/// Bytes that one send takes: what IPv4 can carry.
const MAX_BURST: usize = MAX_DATAGRAM - 20;

/// Equal datagrams of one flow, held back until the end of the burst to be sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    flow: Option<FlowId>,
    data: Vec<u8>,
    /// Payload bytes of each datagram; the last one may be shorter, which closes the batch.
    segment: usize,
    count: usize,
    ttl: u8,
    closed: bool,
}

impl Batch {
    /// Adds a datagram; `false` if it does not belong here.
    fn push(&mut self, id: FlowId, ttl: u8, payload: &[u8]) -> bool {
        if self.flow.is_none() {
            if self.data.capacity() == 0 {
                self.data.reserve_exact(MAX_BURST);
            }
            self.flow = Some(id);
            self.segment = payload.len();
            self.ttl = ttl;
        } else if self.closed
            || self.flow != Some(id)
            || self.ttl != ttl
            || payload.len() > self.segment
            || self.count >= MAX_SEGMENTS
            || self.data.len() + payload.len() > MAX_BURST
        {
            return false;
        }
        self.closed = payload.len() < self.segment;
        self.count += 1;
        self.data.extend_from_slice(payload);
        true
    }

    fn clear(&mut self) {
        self.flow = None;
        self.data.clear();
        self.count = 0;
        self.closed = false;
    }
}

impl<S: UdpSocket> Flows<S> {
    /// Takes a datagram of the guest, or several equal ones if `gso` says so. Source and ports have been
    /// found to be those of a single endpoint.
    pub(crate) fn datagram<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        ip: &Ip,
        (header, payload): (&UdpHeader, &[u8]),
        gso: Gso,
    ) {
        let guest = SocketAddr::new(ip.src, header.src_port.get());
        let peer = SocketAddr::new(ip.dst, header.dst_port.get());
        let Some(id) = self.find_or_open(cx, FlowKey::new(guest, peer)) else { return };
        let Some((key, flow)) = self.flows.entry_mut(id) else { return };
        flow.last = cx.now;
        flow.from_guest = flow.from_guest.saturating_add(1);
        flow.header = *header;
        let ttl = ip.ttl.max(1);
        let segment = match gso {
            Gso::Udp(size) if size > 0 && payload.len() > usize::from(size) => usize::from(size),
            Gso::None | Gso::Tcp(_) | Gso::Udp(_) => {
                // A datagram that could not be joined by another gains nothing from waiting.
                let joinable = !payload.is_empty() && payload.len() * 2 <= MAX_BURST;
                if joinable {
                    if !self.batch.push(id, ttl, payload) {
                        self.flush(cx);
                        self.batch.push(id, ttl, payload);
                    }
                    return;
                }
                payload.len()
            }
        };
        if gso != Gso::None {
            // The header of a superframe covers all of it; an error will be about one datagram.
            let len = segment + wire::udp::HEADER_LEN;
            flow.header.len.set(u16::try_from(len).unwrap_or(u16::MAX));
        }
        if self.batch.flow.is_some() {
            let key = *key;
            self.flush(cx);
            if let Some(flow) = self.flows.get_mut(id) {
                transmit(cx, &key, flow, payload, segment, ttl);
            }
        } else {
            transmit(cx, key, flow, payload, segment, ttl);
        }
    }

    /// Sends what was held back.
    pub(crate) fn flush<G: Guest, H: Host<Udp = S>>(&mut self, cx: &mut Cx<'_, G, H>) {
        let batch = &mut self.batch;
        let Some(id) = batch.flow else { return };
        if let Some((key, flow)) = self.flows.entry_mut(id) {
            transmit(cx, key, flow, &batch.data, batch.segment, batch.ttl);
        }
        batch.clear();
    }
}

/// Sends datagrams of `segment` bytes; one that cannot be sent is lost, like on any network.
fn transmit<G: Guest, H: Host, S: UdpSocket>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    flow: &mut Flow<S>,
    data: &[u8],
    segment: usize,
    ttl: u8,
) {
    let slices = [IoSlice::new(data)];
    let bufs: &[IoSlice<'_>] = if data.is_empty() { &[] } else { &slices };
    match flow.socket.send(bufs, segment, ttl) {
        Ok(_) => {}
        // The send buffer is full: a network's queue would drop this, too.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => {
            log::trace!("UDP {key:?}: {error}");
            // An error that came in earlier is reported by the next send, which then does not happen:
            // pass the error on and try again.
            if report_errors(cx, key, flow) > 0 {
                let _ = flow.socket.send(bufs, segment, ttl);
            }
        }
    }
}

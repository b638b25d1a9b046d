//! Datagrams towards the guest.

use std::io::ErrorKind;
use std::net::IpAddr;

use wire::udp::{self, UdpHeader};
use wire::{IntoBytes, checksum, ipv4, ipv6, protocol};

use super::{Flows, MAX_DATAGRAM, report_errors};
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey};
use crate::fragment;
use crate::frame::{self, IpFields, Route};
use crate::io::{DatagramBurst, FrameMeta, Gso, Guest, HEADROOM, Host, UdpSocket};

/// Receives per event: edge-triggered sockets are read until empty, but a flood on one must not keep the
/// others waiting.
const BUDGET: usize = 128;
/// Single datagrams joined in one superframe; what the kernel's own GRO would join.
const MAX_JOINED: usize = 64;

/// Equal datagrams that stand in the guest's slot, at [`HEADROOM`].
#[derive(Clone, Copy, Debug)]
struct Train {
    len: usize,
    segment: usize,
    count: usize,
    fields: IpFields,
}

impl Train {
    fn of(burst: &DatagramBurst) -> Self {
        let fields =
            IpFields { ttl: burst.ttl.unwrap_or(255), tos: burst.tos.unwrap_or(0), flow_label: 0 };
        let segment = burst.segment.clamp(1, burst.len.max(1));
        Self { len: burst.len, segment, count: burst.len.div_ceil(segment).max(1), fields }
    }

    /// Whether `next` can follow in the same superframe of at most `limit` payload bytes.
    fn takes(&self, next: &Self, limit: usize) -> bool {
        self.len > 0
            && next.len > 0
            && self.len % self.segment == 0
            && (next.segment == self.segment || (next.count == 1 && next.len < self.segment))
            && self.fields == next.fields
            && self.len + next.len <= limit
            && self.count + next.count <= MAX_JOINED
    }

    /// Whether another datagram could follow at all.
    fn has_room(&self, limit: usize) -> bool {
        self.len > 0
            && self.len % self.segment == 0
            && self.len + self.segment <= limit
            && self.count < MAX_JOINED
    }
}

/// Where a flow's datagrams go, and how much fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    key: FlowKey,
    pub(super) route: Route,
    /// Payload of the longest datagram that needs no fragments, in bytes.
    max_segment: usize,
    /// Payload of the longest superframe, in bytes.
    max_train: usize,
}

impl Path {
    pub(super) fn new<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, key: FlowKey) -> Self {
        let (guest, peer) = (key.guest().ip(), key.peer().ip());
        let headers = udp::HEADER_LEN
            + match guest {
                IpAddr::V4(_) => ipv4::HEADER_LEN,
                IpAddr::V6(_) => ipv6::HEADER_LEN,
            };
        let limits = cx.guest.limits();
        Self {
            key,
            route: cx.link.route_to_guest(cx.config, guest, peer),
            max_segment: usize::from(limits.mtu).saturating_sub(headers),
            max_train: limits.max_packet.min(65_535).saturating_sub(headers),
        }
    }
}

impl<S: UdpSocket> Flows<S> {
    /// Passes on what has come in for a flow, datagrams of equal length together.
    pub(super) fn receive<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        id: FlowId,
    ) {
        let Some((key, flow)) = self.flows.entry_mut(id) else { return };
        let path = Path::new(cx, *key);
        let scratch = sized(&mut self.scratch);
        // What stands in the slot and has not been sent yet.
        let mut train: Option<Train> = None;
        for _ in 0..BUDGET {
            let joining = train.is_some_and(|train| {
                train.segment <= path.max_segment && train.has_room(path.max_train)
            });
            if !joining {
                if let Some(train) = train.take() {
                    deliver(cx, &path, &train, scratch);
                }
            }
            let received = if joining {
                flow.socket.recv(scratch)
            } else {
                let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { break };
                flow.socket.recv(slot.get_mut(HEADROOM..).unwrap_or_default())
            };
            let next = match received {
                Ok(burst) => Train::of(&burst),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    if let Some(train) = train.take() {
                        deliver(cx, &path, &train, scratch);
                    }
                    if error.kind() == ErrorKind::WouldBlock || report_errors(cx, key, flow) == 0 {
                        return;
                    }
                    continue;
                }
            };
            flow.last = cx.now;
            flow.from_host = flow.from_host.saturating_add(1);
            train = match train {
                None => Some(next),
                Some(held) => append(cx, &path, held, next, scratch),
            };
        }
        if let Some(train) = train {
            deliver(cx, &path, &train, scratch);
        }
        if !std::mem::replace(&mut flow.pending, true) {
            self.pending.push_back(id);
        }
    }
}

/// The buffer for what has to be moved; made when it is first needed.
fn sized(scratch: &mut Vec<u8>) -> &mut [u8] {
    if scratch.is_empty() {
        scratch.resize(MAX_DATAGRAM, 0);
    }
    scratch
}

/// Sends datagrams that stand elsewhere.
pub(super) fn put<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    path: &Path,
    (burst, payload): (&DatagramBurst, &[u8]),
    scratch: &mut Vec<u8>,
) {
    let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { return };
    let Some(place) = slot.get_mut(HEADROOM..HEADROOM + payload.len()) else { return };
    place.copy_from_slice(payload);
    let train = Train::of(&DatagramBurst { len: payload.len(), ..*burst });
    deliver(cx, path, &train, sized(scratch));
}

/// Puts `next`, which stands in `scratch`, behind `held` in the slot, or in its place after that was sent.
fn append<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    path: &Path,
    held: Train,
    next: Train,
    scratch: &[u8],
) -> Option<Train> {
    let joined = held.takes(&next, path.max_train);
    if !joined {
        // `held` is short enough for the link, so it leaves `scratch` alone.
        deliver_whole(cx, path, &held);
    }
    let (at, train) = if joined {
        let (len, count) = (held.len + next.len, held.count + next.count);
        (held.len, Train { len, count, ..held })
    } else {
        (0, next)
    };
    let slot = cx.guest.slot(MAX_DATAGRAM)?;
    let place = slot.get_mut(HEADROOM + at..HEADROOM + at + next.len)?;
    place.copy_from_slice(scratch.get(..next.len)?);
    Some(train)
}

/// Sends what stands in the slot, in the form that the link takes.
fn deliver<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    path: &Path,
    train: &Train,
    scratch: &mut [u8],
) {
    if train.segment <= path.max_segment && train.len <= path.max_train {
        deliver_whole(cx, path, train);
        return;
    }
    let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { return };
    let (Some(copy), Some(data)) =
        (scratch.get_mut(..train.len), slot.get(HEADROOM..HEADROOM + train.len))
    else {
        return;
    };
    copy.copy_from_slice(data);
    if train.segment <= path.max_segment {
        // Longer than a superframe can be: several.
        for data in copy.chunks((path.max_train / train.segment).max(1) * train.segment) {
            let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { return };
            let Some(place) = slot.get_mut(HEADROOM..HEADROOM + data.len()) else { return };
            place.copy_from_slice(data);
            deliver_whole(cx, path, &Train { len: data.len(), ..*train });
        }
    } else {
        for datagram in copy.chunks(train.segment) {
            deliver_fragments(cx, path, train, datagram);
        }
    }
}

/// Sends what stands in the slot as one frame, checksum and segmentation left to the link.
fn deliver_whole<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, path: &Path, train: &Train) {
    let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { return };
    let Some(mut header) = header(path, train.len) else { return };
    let pseudo = pseudo_header(path, header.len.get());
    header.checksum.set(checksum::partial_for_offload(pseudo));
    let l4 = HEADROOM - udp::HEADER_LEN;
    let Some(place) = slot.get_mut(l4..HEADROOM) else { return };
    place.copy_from_slice(header.as_bytes());
    let l4_len = usize::from(header.len.get());
    let start = frame::write_ip(slot, l4, l4_len, protocol::UDP, &path.route, &train.fields);
    let Some(start) = start else { return };
    let gso = match u16::try_from(train.segment) {
        Ok(segment) if train.len > train.segment => Gso::Udp(segment),
        _ => Gso::None,
    };
    let meta = FrameMeta {
        gso,
        csum_start: u16::try_from(l4 - start).ok(),
        csum_offset: udp::CHECKSUM_OFFSET,
    };
    cx.send(start, HEADROOM + train.len, meta);
}

/// Sends one datagram that exceeds the MTU.
fn deliver_fragments<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    path: &Path,
    train: &Train,
    payload: &[u8],
) {
    let Some(mut header) = header(path, payload.len()) else { return };
    let sum = pseudo_header(path, header.len.get())
        + checksum::sum(header.as_bytes())
        + checksum::sum(payload);
    let value = !checksum::fold(sum);
    header.checksum.set(if value == 0 { 0xffff } else { value });
    fragment::send(cx, &path.route, &train.fields, protocol::UDP, header.as_bytes(), payload);
}

fn header(path: &Path, payload_len: usize) -> Option<UdpHeader> {
    let len = u16::try_from(payload_len + udp::HEADER_LEN).ok()?;
    let payload_len = len.checked_sub(8)?;
    Some(UdpHeader::new(path.key.peer().port(), path.key.guest().port(), payload_len))
}

fn pseudo_header(path: &Path, len: u16) -> u64 {
    checksum::pseudo_header(path.route.src, path.route.dst, protocol::UDP, len.into())
}

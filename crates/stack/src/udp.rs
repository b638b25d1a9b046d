//! UDP: one host socket per pair of endpoints, datagrams in batches both ways.
//!
//! A flow is made by the first datagram, of the guest or of a peer that found a listening socket, and ends when nothing has passed for a while, or the guest
//! says that nobody is there any more. Towards the host, equal datagrams of a burst leave in one
//! `UDP_SEGMENT` send; towards the guest, what `UDP_GRO` put together stays together as one superframe.

mod arrival;
mod to_guest;
mod to_host;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use wire::protocol;
use wire::udp::{self, UdpHeader};
use wire::{IntoBytes, checksum};

use self::to_host::Batch;
use crate::Settings;
use crate::addr;
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey, FlowKind, FlowTable, Secret};
use crate::icmp;
use crate::io::{Guest, Host, Readiness, UdpSocket};
use crate::rate::RateLimit;
use crate::time::Instant;

/// The longest payload of a datagram in bytes, and of a burst of them (IPv6; IPv4 takes 20 less).
pub(crate) const MAX_DATAGRAM: usize = 65_535 - udp::HEADER_LEN;

/// Errors taken from one socket per event.
const ERRORS: usize = 64;
/// Most that an error message quotes of a datagram in bytes, header included.
const MAX_QUOTED: usize = 1280;

/// Flows that the guest can end per second by ICMP errors, as many as a kernel sends
/// (`net.ipv4.icmp_msgs_per_sec`). Timers of flows that ended stay until they go off: without a limit,
/// making and ending flows would fill the memory with them.
const UNREACHABLE_PER_SECOND: u32 = 1000;

/// Datagrams between one endpoint of the guest and one beyond.
#[derive(Debug)]
struct Flow<S> {
    socket: S,
    /// When a datagram last passed, either way.
    last: Instant,
    /// Datagrams or bursts from the guest and from the host; two are as good as many.
    from_guest: u8,
    from_host: u8,
    /// Header of the guest's last datagram: what an error is about if it does not say.
    header: UdpHeader,
    /// Waits in [`Flows::pending`].
    pending: bool,
}

/// All UDP flows.
#[derive(Debug)]
pub(crate) struct Flows<S> {
    flows: FlowTable<Flow<S>>,
    timeout: Duration,
    stream_timeout: Duration,
    /// The flow of the last datagram: datagrams come in trains.
    recent: Option<(FlowKey, FlowId)>,
    batch: Batch,
    pending: VecDeque<FlowId>,
    scratch: Vec<u8>,
    refused: RateLimit,
    unreachable: RateLimit,
}

impl<S: UdpSocket> Flows<S> {
    pub(crate) fn new(secret: Secret, settings: &Settings) -> Self {
        Self {
            flows: FlowTable::new(FlowKind::Udp, secret),
            timeout: settings.udp_timeout,
            stream_timeout: settings.udp_stream_timeout,
            recent: None,
            batch: Batch::default(),
            pending: VecDeque::new(),
            scratch: Vec::new(),
            refused: RateLimit::default(),
            unreachable: RateLimit::default(),
        }
    }

    /// The flow with this key, made if there is none.
    fn find_or_open<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
    ) -> Option<FlowId> {
        if let Some((recent, id)) = self.recent {
            // Removed flows are not remembered.
            if recent == key {
                return Some(id);
            }
        }
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => self.open(cx, key)?,
        };
        self.recent = Some((key, id));
        Some(id)
    }

    /// Opens a flow for the guest's first datagram.
    fn open<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
    ) -> Option<FlowId> {
        let outbound = addr::outbound(cx.config, protocol::UDP, key.peer());
        let from = SocketAddr::new(
            outbound.from.unwrap_or_else(|| unspecified(outbound.to.ip())),
            key.guest().port(),
        );
        self.insert(cx, key, |host, id| open_socket(host, id, from, outbound.to))
    }

    /// Adds a flow with the socket that `make` makes.
    fn insert<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
        make: impl FnOnce(&mut H, FlowId) -> io::Result<S>,
    ) -> Option<FlowId> {
        let host = &mut *cx.host;
        let now = cx.now;
        let opened = self.flows.try_insert_with(key, |id| {
            let socket = make(host, id)?;
            Ok::<_, io::Error>(Flow {
                socket,
                last: now,
                from_guest: 0,
                from_host: 0,
                header: UdpHeader::default(),
                pending: false,
            })
        });
        match opened {
            Some(Ok(id)) => {
                cx.stats.udp_opened += 1;
                cx.timers.arm(id, now + self.timeout);
                Some(id)
            }
            Some(Err(error)) => {
                cx.stats.flows_refused += 1;
                if self.refused.allow(now) {
                    log::debug!("no UDP socket for {key:?}: {error}");
                }
                None
            }
            None => {
                cx.stats.flows_refused += 1;
                if self.refused.allow(now) {
                    log::warn!("too many UDP flows: none for {key:?}");
                }
                None
            }
        }
    }

    /// Something happened on the socket of a flow.
    pub(crate) fn on_socket<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        id: FlowId,
        ready: Readiness,
    ) {
        if ready.error {
            if let Some((key, flow)) = self.flows.entry_mut(id) {
                report_errors(cx, key, flow);
            }
        }
        if ready.readable {
            self.receive(cx, id);
        }
    }

    /// Goes on where the budget of an event ended.
    pub(crate) fn resume<G: Guest, H: Host<Udp = S>>(&mut self, cx: &mut Cx<'_, G, H>) {
        for _ in 0..self.pending.len() {
            let Some(id) = self.pending.pop_front() else { return };
            if let Some(flow) = self.flows.get_mut(id) {
                flow.pending = false;
                self.receive(cx, id);
            }
        }
    }

    /// Whether [`resume`](Self::resume) has something to do.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A flow's timer went off: ends it if it has been idle for long enough.
    pub(crate) fn on_deadline<G, H: Host<Udp = S>>(&mut self, cx: &mut Cx<'_, G, H>, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        // Whoever began, the other one has answered.
        let stream =
            flow.from_guest.min(flow.from_host) >= 1 && flow.from_guest.max(flow.from_host) >= 2;
        let end = flow.last + if stream { self.stream_timeout } else { self.timeout };
        if cx.now < end {
            cx.timers.arm(id, end);
        } else {
            self.end(id);
        }
    }

    /// Nobody in the guest takes datagrams of this flow any more: ends it. With its socket closed, the
    /// host's kernel answers the peer's next datagram as the guest's did, "port unreachable". `None` if
    /// there is no such flow, or too many end in this way.
    pub(crate) fn peer_unreachable<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: &FlowKey,
    ) -> Option<()> {
        let id = self.flows.find(key)?;
        if !self.unreachable.allow_up_to(UNREACHABLE_PER_SECOND, cx.now) {
            return None;
        }
        // What the guest sent before its socket was closed may still be held back.
        self.flush(cx);
        self.end(id);
        Some(())
    }

    fn end(&mut self, id: FlowId) {
        self.flows.remove(id);
        self.recent = self.recent.filter(|(_, recent)| *recent != id);
    }
}

/// Opens a socket with the guest's own source port or, if that cannot be had (in use by somebody else on
/// the host, privileged), with any: some answer is better than none.
fn open_socket<H: Host>(
    host: &mut H,
    id: FlowId,
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<H::Udp> {
    match host.open_udp(id, from, to) {
        Err(error)
            if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) =>
        {
            host.open_udp(id, SocketAddr::new(from.ip(), 0), to)
        }
        opened => opened,
    }
}

pub(crate) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Passes on what the socket's error queue holds; returns how many errors there were.
fn report_errors<G: Guest, H: Host, S: UdpSocket>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    flow: &mut Flow<S>,
) -> usize {
    for count in 0..ERRORS {
        let Some(error) = flow.socket.take_error() else { return count };
        let Some(origin) = error.icmp else { continue };
        let mut message = [0; MAX_QUOTED];
        let Some(len) = quote(&mut message, key, flow.header, flow.socket.quoted()) else {
            continue;
        };
        let quoted = message.get(..len).unwrap_or_default();
        icmp::send_error(cx, &origin, key.guest(), key.peer(), protocol::UDP, quoted);
    }
    ERRORS
}

/// Rebuilds the beginning of a datagram as the guest sent it. `header` is the one of the guest's last
/// datagram, which it probably is; its checksum is made right if the whole payload is there.
fn quote(out: &mut [u8], key: &FlowKey, header: UdpHeader, payload: &[u8]) -> Option<usize> {
    let mut header = header;
    let payload = payload.get(..out.len() - udp::HEADER_LEN).unwrap_or(payload);
    let known = udp::HEADER_LEN + payload.len();
    let len = u16::try_from(known).ok()?.max(header.len.get());
    header.len.set(len);
    out.get_mut(udp::HEADER_LEN..known)?.copy_from_slice(payload);
    if known == usize::from(len) {
        header.checksum.set(0);
        out.get_mut(..udp::HEADER_LEN)?.copy_from_slice(header.as_bytes());
        let (src, dst) = (key.guest().ip(), key.peer().ip());
        let pseudo = checksum::pseudo_header(src, dst, protocol::UDP, len.into());
        let value = checksum::transport_checksum(pseudo, protocol::UDP, out.get(..known)?);
        header.checksum.set(value);
    } else if header.checksum.get() == 0 && key.is_ipv6() {
        header.checksum.set(0xffff);
    }
    out.get_mut(..udp::HEADER_LEN)?.copy_from_slice(header.as_bytes());
    Some(known)
}

#[cfg(test)]
mod tests;

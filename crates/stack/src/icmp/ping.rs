//! Echo requests of the guest through ping sockets of the host.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::icmp4::{self, EchoHeader};
use wire::{FromBytes, IntoBytes, checksum, icmp6, protocol};

use super::IcmpError;
use crate::addr::{self, is_unicast};
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey, FlowKind, FlowTable, Secret};
use crate::fragment;
use crate::frame::{self, IpFields};
use crate::input::Ip;
use crate::io::{FrameMeta, Guest, HEADROOM, Host, PingSocket, Readiness};
use crate::rate::RateLimit;
use crate::time::Instant;
use crate::udp::MAX_DATAGRAM;

/// An echo flow ends after this long without a request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Messages taken from one socket per event: edge-triggered sockets are read until empty, but a flood on
/// one must not keep the others waiting.
const BUDGET: usize = 64;
/// Errors taken from one socket per event.
const ERRORS: usize = 64;

/// Echo requests of one identifier to one destination.
#[derive(Debug)]
struct Ping<S> {
    socket: S,
    last_request: Instant,
    /// Header and length of the last request, for errors that do not say what they are about.
    last: (EchoHeader, usize),
    /// Waits in [`Pings::pending`].
    pending: bool,
}

/// All echo flows.
#[derive(Debug)]
pub(crate) struct Pings<S> {
    flows: FlowTable<Ping<S>>,
    pending: VecDeque<FlowId>,
    refused: RateLimit,
    scratch: Vec<u8>,
}

impl<S: PingSocket> Pings<S> {
    pub(crate) fn new(secret: Secret) -> Self {
        Self {
            flows: FlowTable::new(FlowKind::Ping, secret),
            pending: VecDeque::new(),
            refused: RateLimit::default(),
            scratch: Vec::new(),
        }
    }

    /// Takes an ICMP or ICMPv6 message of the guest; `None` if it is no echo request.
    pub(crate) fn message<G: Guest, H: Host<Ping = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        ip: &Ip,
        message: &[u8],
    ) -> Option<()> {
        let request = if ip.src.is_ipv4() { icmp4::ECHO_REQUEST } else { icmp6::ECHO_REQUEST };
        let (header, _) = EchoHeader::parse(message)?;
        let valid = is_unicast(ip.src) && !ip.dst.is_unspecified();
        if header.kind != request || header.code != 0 || !valid {
            return None;
        }
        let guest = SocketAddr::new(ip.src, header.id.get());
        let key = FlowKey::new(guest, SocketAddr::new(ip.dst, 0));
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => self.open(cx, key)?,
        };
        let flow = self.flows.get_mut(id)?;
        flow.last_request = cx.now;
        flow.last = (*header, message.len());
        let ttl = ip.ttl.max(1);
        if flow.socket.send(message, ttl).is_err() {
            // An error that came in earlier stands in the way of this request: pass it on, try again.
            report_errors(cx, &key, flow);
            if let Err(error) = flow.socket.send(message, ttl) {
                log::trace!("echo request {key:?} not sent: {error}");
                report_errors(cx, &key, flow);
            }
        }
        Some(())
    }

    fn open<G: Guest, H: Host<Ping = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
    ) -> Option<FlowId> {
        let protocol = if key.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        let outbound = addr::outbound(cx.config, protocol, key.peer());
        let host = &mut *cx.host;
        let now = cx.now;
        let opened = self.flows.try_insert_with(key, |id| {
            let socket = host.open_ping(id, outbound.from, outbound.to, key.guest().port())?;
            let last = (EchoHeader::new(0, 0, 0), 0);
            Ok::<_, std::io::Error>(Ping { socket, last_request: now, last, pending: false })
        });
        match opened {
            Some(Ok(id)) => {
                cx.stats.ping_opened += 1;
                cx.timers.arm(id, now + TIMEOUT);
                Some(id)
            }
            Some(Err(error)) => {
                cx.stats.flows_refused += 1;
                if self.refused.allow(now) {
                    warn_refused(outbound.to.ip(), &error);
                }
                None
            }
            None => {
                cx.stats.flows_refused += 1;
                None
            }
        }
    }

    /// Something happened on the socket of a flow.
    pub(crate) fn on_socket<G: Guest, H: Host<Ping = S>>(
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

    /// Passes replies on to the guest.
    fn receive<G: Guest, H: Host<Ping = S>>(&mut self, cx: &mut Cx<'_, G, H>, id: FlowId) {
        let Some((key, flow)) = self.flows.entry_mut(id) else { return };
        for _ in 0..BUDGET {
            let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { break };
            let Some(buf) = slot.get_mut(HEADROOM..) else { return };
            let received = match flow.socket.recv(buf) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if report_errors(cx, key, flow) > 0 => continue,
                Err(_) => return,
            };
            let Some(message) = buf.get_mut(..received.len) else { return };
            if restore(message, key) {
                let ttl = received.ttl.unwrap_or(255);
                let fields = IpFields { ttl, tos: received.tos.unwrap_or(0), flow_label: 0 };
                send_reply(cx, key, &fields, received.len, &mut self.scratch);
            }
        }
        if !std::mem::replace(&mut flow.pending, true) {
            self.pending.push_back(id);
        }
    }

    /// Goes on where the budget of an event ended.
    pub(crate) fn resume<G: Guest, H: Host<Ping = S>>(&mut self, cx: &mut Cx<'_, G, H>) {
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
    pub(crate) fn on_deadline<G, H: Host<Ping = S>>(&mut self, cx: &mut Cx<'_, G, H>, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let end = flow.last_request + TIMEOUT;
        if cx.now < end {
            cx.timers.arm(id, end);
        } else {
            self.flows.remove(id);
        }
    }
}

fn warn_refused(to: IpAddr, error: &std::io::Error) {
    if error.kind() == ErrorKind::PermissionDenied {
        log::warn!(
            "no ping socket for {to}: {error}; echo requests need our group to be within the host's \
             net.ipv4.ping_group_range"
        );
    } else {
        log::warn!("no ping socket for {to}: {error}");
    }
}

/// Makes a reply to the host's request one to the guest's; `false` if it is none.
fn restore(message: &mut [u8], key: &FlowKey) -> bool {
    let reply = if key.is_ipv6() { icmp6::ECHO_REPLY } else { icmp4::ECHO_REPLY };
    match EchoHeader::mut_from_prefix(message) {
        Ok((header, _)) if header.kind == reply && header.code == 0 => {
            header.id.set(key.guest().port());
        }
        _ => return false,
    }
    match (key.peer().ip(), key.guest().ip()) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => icmp6::set_checksum(message, src, dst),
        _ => icmp4::set_checksum(message),
    }
    true
}

/// Sends the reply of `len` bytes that stands in the slot.
fn send_reply<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    fields: &IpFields,
    len: usize,
    scratch: &mut Vec<u8>,
) {
    let (guest, peer) = (key.guest().ip(), key.peer().ip());
    let (protocol, overhead) = match guest {
        IpAddr::V4(_) => (protocol::ICMP, wire::ipv4::HEADER_LEN),
        IpAddr::V6(_) => (protocol::ICMPV6, wire::ipv6::HEADER_LEN),
    };
    let route = cx.link.route_to_guest(cx.config, guest, peer);
    let mtu = usize::from(cx.guest.limits().mtu);
    let Some(slot) = cx.guest.slot(MAX_DATAGRAM) else { return };
    if len + overhead > mtu {
        scratch.clear();
        scratch.extend_from_slice(slot.get(HEADROOM..HEADROOM + len).unwrap_or_default());
        fragment::send(cx, &route, fields, protocol, &[], scratch);
        return;
    }
    if let Some(start) = frame::write_ip(slot, HEADROOM, len, protocol, &route, fields) {
        cx.send(start, HEADROOM + len, FrameMeta::default());
    }
}

/// Passes on what the socket's error queue holds; returns how many errors there were.
fn report_errors<G: Guest, H: Host, S: PingSocket>(
    cx: &mut Cx<'_, G, H>,
    key: &FlowKey,
    flow: &mut Ping<S>,
) -> usize {
    for count in 0..ERRORS {
        let Some(error) = flow.socket.take_error() else { return count };
        let Some(origin) = error.icmp else { continue };
        let quoted = flow.socket.quoted();
        let mut message = [0; 1280];
        let (mut header, mut len) = flow.last;
        let mut known = size_of::<EchoHeader>();
        if let Some((request, _)) = EchoHeader::parse(quoted) {
            known = quoted.len().min(message.len());
            if let (Some(to), Some(from)) = (message.get_mut(..known), quoted.get(..known)) {
                to.copy_from_slice(from);
            }
            len = len.max(quoted.len());
            header = with_id(request, key.guest().port());
        }
        if let Some(place) = message.get_mut(..size_of::<EchoHeader>()) {
            place.copy_from_slice(header.as_bytes());
        }
        IcmpError {
            origin,
            guest: SocketAddr::new(key.guest().ip(), 0),
            peer: key.peer(),
            protocol: if key.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP },
            quoted: message.get(..known).unwrap_or_default(),
            len,
        }
        .send(cx);
    }
    ERRORS
}

/// The header with another identifier and the checksum that goes with it (RFC 1624).
fn with_id(header: &EchoHeader, id: u16) -> EchoHeader {
    let mut header = *header;
    let sum = u64::from(!header.checksum.get()) + u64::from(!header.id.get()) + u64::from(id);
    header.checksum.set(!checksum::fold(sum));
    header.id.set(id);
    header
}

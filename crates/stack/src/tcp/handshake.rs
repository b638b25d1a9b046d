//! Opening connections, from either side.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use wire::tcp::{TcpFlags, TcpHeader};
use wire::tcp_option::{MAX_WINDOW_SCALE, TcpOptions};
use wire::{IntoBytes, icmp4, icmp6};

use super::connection::{
    Connection, DEFAULT_MSS_V4, DEFAULT_MSS_V6, OUR_SHIFT, Shared, State, Verdict, Wait,
};
use super::emit::{self, PROTOCOL, ts_clock};
use super::seq::Seq;
use super::{Connections, Segment, refuse};
use crate::addr;
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey};
use crate::icmp;
use crate::io::{Guest, Host, IcmpOrigin, Readiness, SocketError, TcpSocket};
use crate::time::Instant;

/// connect() calls under way at once, SYNs beyond wait for the guest to repeat them; and accepted connections
/// that the guest has not answered.
const MAX_HALF_OPEN: usize = 4096;
/// How often a SYN-ACK is sent again.
const SYN_ACK_RETRIES: u8 = 6;
/// How long a guest that was told of a failure by ICMP may take to repeat its SYN.
pub(super) const FAILED_LINGER: Duration = Duration::from_secs(10);
/// Length of Ethernet's payload headers: what is left of the MTU is the MSS.
const V4_HEADERS: u16 = 40;
const V6_HEADERS: u16 = 60;
/// Segments smaller than this are no use to anybody.
const MIN_MSS: u16 = 48;

impl<S: TcpSocket> Connections<S> {
    /// A SYN from the guest for which there is no flow.
    pub(super) fn open_from_guest<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: &FlowKey,
        segment: &Segment<'_>,
        flow_label: u32,
    ) {
        let (guest, peer) = (key.guest(), key.peer());
        if guest.port() == 0
            || peer.port() == 0
            || !is_unicast(guest.ip())
            || !is_unicast(peer.ip())
        {
            cx.stats.frames_dropped += 1;
            return;
        }
        if self.shared.connecting >= MAX_HALF_OPEN {
            cx.stats.flows_refused += 1;
            return;
        }
        let target = addr::outbound(cx.config, PROTOCOL, peer);
        let iss = self.initial_sequence(key, cx.now);
        let now = cx.now;
        let host = &mut *cx.host;
        let opened = self.table.try_insert_with(*key, |id| {
            let sock = host.connect_tcp(id, target.to, target.from)?;
            let mut connection = Connection::new(id, *key, sock, State::Connecting, iss, now);
            connection.take_syn(segment);
            Ok::<_, io::Error>(connection)
        });
        match opened {
            Some(Ok(id)) => {
                log::debug!("TCP {key:?}: connecting to {}", target.to);
                cx.stats.tcp_opened += 1;
                self.shared.connecting += 1;
                if let Some(connection) = self.table.get_mut(id) {
                    connection.limit_mss(cx.guest.limits().mtu);
                    connection.flow_label = flow_label;
                    connection.arm(cx);
                }
            }
            Some(Err(error)) => {
                log::debug!("TCP {key:?}: no connection to {}: {error}", target.to);
                cx.stats.flows_refused += 1;
                let errno = error.raw_os_error().unwrap_or(0);
                match local_unreachable(cx, key, errno) {
                    Some(origin) => report(cx, key, segment.seq, &origin),
                    // Out of descriptors or memory: the guest's next SYN may find some.
                    None if is_shortage(errno) => {}
                    None => refuse(cx, key, segment, flow_label),
                }
            }
            None => cx.stats.flows_refused += 1,
        }
    }

    /// Opens a connection towards the guest for one that the host accepted. `make` makes the flow's socket
    /// of it. `false` if there is none now: the tuple is taken, the table full, too many connections are
    /// half open, or `make` failed.
    pub fn accept<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
        make: impl FnOnce(&mut H, FlowId) -> io::Result<S>,
    ) -> bool {
        if self.shared.accepted >= MAX_HALF_OPEN {
            cx.stats.flows_refused += 1;
            return false;
        }
        let iss = self.initial_sequence(&key, cx.now);
        let now = cx.now;
        let host = &mut *cx.host;
        let opened = self.table.try_insert_with(key, |id| {
            Ok::<_, io::Error>(Connection::new(id, key, make(host, id)?, State::SynSent, iss, now))
        });
        let Some(Ok(id)) = opened else {
            cx.stats.flows_refused += 1;
            return false;
        };
        log::debug!("TCP {key:?}: accepted");
        cx.stats.tcp_opened += 1;
        self.shared.accepted += 1;
        if let Some(connection) = self.table.get_mut(id) {
            connection.limit_mss(cx.guest.limits().mtu);
            connection.rcv_shift = OUR_SHIFT;
            connection.acked_base = connection.sock.info().bytes_acked.unwrap_or(0);
            connection.send_handshake(cx, &mut self.shared);
            connection.wait = Some((Wait::Handshake, cx.now + Duration::from_secs(1)));
            connection.arm(cx);
        }
        true
    }

    /// RFC 6528: a keyed hash of the tuple plus a clock of about 4 µs.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are 32 bits of both")]
    fn initial_sequence(&self, key: &FlowKey, now: Instant) -> Seq {
        let hash = self.secret.hash(key);
        Seq(((hash ^ hash >> 32) as u32).wrapping_add((now.nanos() >> 12) as u32))
    }
}

impl<S: TcpSocket> Connection<S> {
    /// Takes over what a SYN or SYN-ACK of the guest says.
    fn take_syn(&mut self, segment: &Segment<'_>) {
        let options = &segment.options;
        self.irs = segment.seq;
        self.rcv_nxt = segment.seq + 1;
        self.rcv_acked = self.rcv_nxt;
        self.rcv_edge = self.rcv_nxt;
        self.rcv_advertised = self.rcv_nxt;
        let default = if self.key.is_ipv6() { DEFAULT_MSS_V6 } else { DEFAULT_MSS_V4 };
        self.mss = options.mss.filter(|mss| *mss > 0).unwrap_or(default);
        match options.window_scale {
            Some(shift) => {
                self.snd_shift = shift.min(MAX_WINDOW_SCALE);
                self.rcv_shift = OUR_SHIFT;
            }
            None => (self.snd_shift, self.rcv_shift) = (0, 0),
        }
        self.sack_ok = options.sack_permitted;
        self.ts_recent = options.timestamps.map(|(value, _)| value);
        self.wnd = u32::from(segment.window);
        self.max_wnd = self.wnd;
        self.wl1 = segment.seq;
        self.wl2 = self.iss;
    }

    /// Payload per segment: what the guest takes, what the link carries, less the options on each.
    fn limit_mss(&mut self, mtu: u16) {
        let options = if self.ts_recent.is_some() { 12 } else { 0 };
        self.mss = (self.mss.min(self.link_mss(mtu)).saturating_sub(options)).max(MIN_MSS);
    }

    /// The MSS we announce.
    fn link_mss(&self, mtu: u16) -> u16 {
        let headers = if self.key.is_ipv6() { V6_HEADERS } else { V4_HEADERS };
        mtu.saturating_sub(headers).max(MIN_MSS)
    }

    /// Readiness before the connection is established.
    pub(super) fn on_socket_opening<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        ready: Readiness,
    ) -> Verdict {
        if self.state == State::Failed {
            return Verdict::Keep;
        }
        if ready.error || ready.hang_up {
            let error = self.sock.take_error();
            if self.state == State::Connecting {
                return self.fail(cx, shared, error);
            }
            self.reset_both(cx);
            return Verdict::Remove;
        }
        // Noted for later: edges come once.
        self.read_closed |= ready.read_closed;
        self.drained &= !(ready.readable || ready.read_closed);
        self.urgent |= ready.urgent;
        if self.state == State::Connecting && ready.writable {
            shared.connecting = shared.connecting.saturating_sub(1);
            self.state = State::SynAckSent;
            let info = self.sock.info();
            self.acked_base = info.bytes_acked.unwrap_or(0);
            self.refresh_room(shared);
            self.take_info(&info);
            // Its SYN is answered when the remote has answered ours.
            self.guest_rtt = self.host_rtt;
            self.send_handshake(cx, shared);
            self.wait = Some((Wait::Handshake, cx.now + Duration::from_secs(1)));
        }
        Verdict::Keep
    }

    /// The host could not connect.
    fn fail<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        error: Option<SocketError>,
    ) -> Verdict {
        let origin = error
            .and_then(|error| error.icmp.or_else(|| local_unreachable(cx, &self.key, error.errno)));
        let Some(origin) = origin else {
            log::debug!("TCP {:?}: refused", self.key);
            self.rcv_acked = self.rcv_nxt;
            cx.stats.tcp_reset += 1;
            let reset = self.outgoing(Seq(0), TcpFlags::RST, cx.now);
            emit::send_bare(cx, &self.key, &super::Outgoing { window: 0, ..reset });
            return Verdict::Remove;
        };
        log::debug!("TCP {:?}: unreachable, {origin:?}", self.key);
        report(cx, &self.key, self.irs, &origin);
        shared.connecting = shared.connecting.saturating_sub(1);
        self.state = State::Failed;
        self.wait = Some((Wait::Handshake, cx.now + FAILED_LINGER));
        Verdict::Keep
    }

    /// Sends SYN or SYN-ACK, the same one however often.
    pub(super) fn send_handshake<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) {
        let answer = self.state == State::SynAckSent;
        let offered = |peer_did: bool| !answer || peer_did;
        let mtu = cx.guest.limits().mtu;
        let mut segment = self.outgoing(self.iss, TcpFlags::SYN, cx.now);
        segment.options = TcpOptions {
            mss: Some(self.link_mss(mtu)),
            window_scale: offered(self.rcv_shift > 0).then_some(OUR_SHIFT),
            sack_permitted: offered(self.sack_ok),
            timestamps: if answer { self.timestamps(cx.now) } else { Some((ts_clock(cx.now), 0)) },
            ..TcpOptions::default()
        };
        // Windows in segments with SYN are not scaled (RFC 7323 2.2).
        let open = self.rcv_edge.since(self.rcv_nxt);
        segment.window = u16::try_from(open).unwrap_or(u16::MAX);
        if !answer {
            segment.flags = TcpFlags::SYN;
            segment.ack = Seq(0);
            segment.window = u16::MAX;
        }
        let sent = emit::send_bare(cx, &self.key, &segment);
        self.owes_handshake = !sent && cx.guest.is_full();
        if self.owes_handshake {
            self.await_link(cx, shared, false);
        }
        if answer {
            self.rcv_advertised = self.rcv_advertised.max(self.rcv_nxt + u32::from(segment.window));
        }
        self.nxt = self.iss + 1;
        self.max = self.nxt;
        if sent && self.retries == 0 {
            self.timed = Some((self.iss, cx.now));
        }
    }

    /// A segment before the connection is established.
    pub(super) fn on_segment_opening<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        match self.state {
            State::Failed => {
                if segment.has(TcpFlags::SYN) {
                    refuse(cx, &self.key, segment, self.flow_label);
                    return Verdict::Remove;
                }
                Verdict::Keep
            }
            State::Connecting => {
                if segment.has(TcpFlags::RST) {
                    let exact = segment.seq == self.rcv_nxt || segment.seq == self.irs;
                    return if exact { self.abandon(cx) } else { Verdict::Keep };
                }
                // A repeated SYN waits like the first one; anything else makes no sense yet.
                let repeated = segment.has(TcpFlags::SYN)
                    && !segment.has(TcpFlags::ACK)
                    && segment.seq == self.irs;
                if !repeated {
                    refuse(cx, &self.key, segment, self.flow_label);
                    return self.abandon(cx);
                }
                Verdict::Keep
            }
            State::SynAckSent => self.on_segment_syn_ack_sent(cx, shared, segment),
            State::SynSent => self.on_segment_syn_sent(cx, shared, segment),
            State::Established => Verdict::Keep,
        }
    }

    fn on_segment_syn_ack_sent<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        if segment.has(TcpFlags::RST) {
            return if segment.seq == self.rcv_nxt { self.abandon(cx) } else { Verdict::Keep };
        }
        if segment.has(TcpFlags::SYN) {
            // The guest did not get our SYN-ACK. RFC 5961 4 for a SYN that is not the first one again.
            if segment.seq == self.irs && !segment.has(TcpFlags::ACK) {
                self.send_handshake(cx, shared);
            } else {
                self.challenge(cx, shared);
            }
            return Verdict::Keep;
        }
        if !segment.has(TcpFlags::ACK) {
            return Verdict::Keep;
        }
        if segment.ack != self.iss + 1 {
            refuse(cx, &self.key, segment, self.flow_label);
            return Verdict::Keep;
        }
        self.established(cx, segment);
        self.on_segment(cx, shared, segment)
    }

    fn on_segment_syn_sent<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
        segment: &Segment<'_>,
    ) -> Verdict {
        if !segment.has(TcpFlags::ACK) {
            return Verdict::Keep;
        }
        if segment.ack != self.iss + 1 {
            if !segment.has(TcpFlags::RST) {
                refuse(cx, &self.key, segment, self.flow_label);
            }
            return Verdict::Keep;
        }
        if segment.has(TcpFlags::RST) {
            return self.abandon(cx);
        }
        if !segment.has(TcpFlags::SYN) {
            return Verdict::Keep;
        }
        shared.accepted = shared.accepted.saturating_sub(1);
        self.take_syn(segment);
        self.limit_mss(cx.guest.limits().mtu);
        let info = self.sock.info();
        self.refresh_room(shared);
        self.take_info(&info);
        self.established(cx, segment);
        self.must_ack |= !self.send_ack(cx);
        self.touch(shared);
        Verdict::Keep
    }

    /// Both sides are synchronised.
    fn established<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        segment: &Segment<'_>,
    ) {
        self.state = State::Established;
        self.owes_handshake = false;
        self.una = self.iss + 1;
        self.rtx_next = self.una;
        self.queue_front = self.una;
        self.progress = cx.now;
        self.retries = 0;
        self.wait = None;
        if let Some((_, since)) = self.timed.take() {
            self.rtt.sample(cx.now.since(since));
        }
        let shift = if segment.has(TcpFlags::SYN) { 0 } else { self.snd_shift };
        self.wnd = u32::from(segment.window) << shift;
        self.max_wnd = self.max_wnd.max(self.wnd);
        self.wl1 = segment.seq;
        self.wl2 = segment.ack;
    }

    /// The guest does not want the connection any more.
    fn abandon<G: Guest, H: Host<Tcp = S>>(&mut self, cx: &mut Cx<'_, G, H>) -> Verdict {
        cx.stats.tcp_reset += 1;
        self.sock.reset_on_close();
        Verdict::Remove
    }

    /// The handshake timer expired.
    pub(super) fn on_handshake_timeout<G: Guest, H: Host<Tcp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        shared: &mut Shared,
    ) -> Verdict {
        let settings = &shared.settings;
        let linear = settings.tcp_syn_linear_timeouts;
        let (limit, doublings) = match self.state {
            State::SynAckSent => (SYN_ACK_RETRIES, self.retries + 1),
            State::SynSent => (
                settings.tcp_syn_retries.saturating_add(linear),
                (self.retries + 1).saturating_sub(linear),
            ),
            State::Failed => return Verdict::Remove,
            State::Connecting | State::Established => return Verdict::Keep,
        };
        if self.retries >= limit {
            self.reset_both(cx);
            return Verdict::Remove;
        }
        self.retries += 1;
        self.timed = None;
        self.send_handshake(cx, shared);
        let wait = Duration::from_secs(1).saturating_mul(1 << doublings.min(6));
        self.wait = Some((Wait::Handshake, cx.now + wait));
        Verdict::Keep
    }
}

/// Tells the guest by ICMP what became of its SYN.
fn report<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, key: &FlowKey, irs: Seq, origin: &IcmpOrigin) {
    let mut syn = TcpHeader {
        src_port: key.guest().port().into(),
        dst_port: key.peer().port().into(),
        seq: irs.0.into(),
        flags: TcpFlags::SYN,
        ..TcpHeader::default()
    };
    syn.set_options_len(0);
    icmp::send_error(cx, origin, key.guest(), key.peer(), PROTOCOL, syn.as_bytes());
}

/// An error that the host itself found while routing, as the ICMP message a router would have sent: from
/// our own address.
fn local_unreachable<G, H>(cx: &Cx<'_, G, H>, key: &FlowKey, errno: i32) -> Option<IcmpOrigin> {
    const ENETUNREACH: i32 = 101;
    const EHOSTUNREACH: i32 = 113;
    let network = match errno {
        ENETUNREACH => true,
        EHOSTUNREACH => false,
        _ => return None,
    };
    let (offender, kind, code): (IpAddr, _, _) = if key.is_ipv6() {
        let code = if network { icmp6::NO_ROUTE } else { icmp6::ADDRESS_UNREACHABLE };
        (cx.config.v6.as_ref()?.our_link_local.into(), icmp6::DEST_UNREACHABLE, code)
    } else {
        let code = if network { icmp4::NET_UNREACHABLE } else { icmp4::HOST_UNREACHABLE };
        (cx.config.v4.as_ref()?.gateway?.into(), icmp4::DEST_UNREACHABLE, code)
    };
    Some(IcmpOrigin { offender, kind, code, info: 0 })
}

/// Whether an error means that we ran out of something.
fn is_shortage(errno: i32) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const EAGAIN: i32 = 11;
    matches!(errno, ENOMEM | ENFILE | EMFILE | ENOBUFS | EAGAIN)
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    }
}

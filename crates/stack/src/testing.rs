//! A guest's link and a host made of vectors, for the tests of this crate.

mod frames;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wire::ethernet::MacAddr;

use crate::config::{Config, Ipv4Config, Ipv6Config, Services};
use crate::flow::{FlowId, Secret};
use crate::io::{
    DatagramBurst, FrameMeta, Gso, Guest, HEADROOM, Host, IcmpOrigin, Limits, PingSocket,
    Readiness, SendRoom, SocketError, TcpInfo, TcpSocket, UdpSocket,
};
use crate::time::Instant;
use crate::{Io, Settings, Stack};

pub(crate) use self::frames::{
    echo_frame, from_guest, udp_frame, udp_frame_ttl, unreachable_frame,
};

pub(crate) const OUR_MAC: MacAddr = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
pub(crate) const GUEST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Host 192.0.2.1 and 2001:db8:1::1, gateway 192.0.2.2 and fe80::1, which stands for the host's loopback.
pub(crate) fn config() -> Config {
    Config {
        our_mac: OUR_MAC,
        mtu: Some(65520),
        v4: Some(Ipv4Config {
            addr: [192, 0, 2, 1].into(),
            prefix_len: 24,
            addr_fixed: false,
            gateway: Some([192, 0, 2, 2].into()),
            local_mode: false,
            map_host_loopback: Some([192, 0, 2, 2].into()),
            map_guest_addr: None,
            dns: vec![],
            dns_match: None,
            dns_host: None,
            addr_out: None,
        }),
        v6: Some(Ipv6Config {
            addr: Some("2001:db8:1::1".parse().unwrap()),
            addr_fixed: false,
            gateway: Some("fe80::1".parse().unwrap()),
            our_link_local: "fe80::1".parse().unwrap(),
            local_mode: false,
            map_host_loopback: Some("fe80::1".parse().unwrap()),
            map_guest_addr: None,
            dns: vec![],
            dns_match: None,
            dns_host: None,
            addr_out: None,
            scope_id: 7,
        }),
        shared: Vec::new(),
        search: vec![],
        hostname: None,
        fqdn: None,
        duid_time: 0,
        services: Services {
            tcp: true,
            udp: true,
            icmp: true,
            dhcp: true,
            dhcpv6: true,
            ndp: true,
            ra: true,
            announce_dns: true,
            announce_search: true,
        },
    }
}

#[derive(Debug)]
pub(crate) struct FakeGuest {
    pub(crate) limits: Limits,
    buf: Vec<u8>,
    pub(crate) frames: Vec<(Vec<u8>, FrameMeta)>,
    pub(crate) full: bool,
    /// Takes this many frames more, and is full then.
    pub(crate) room: Option<usize>,
    /// It says when it is full, and tells when it is not any more.
    pub(crate) tells: bool,
}

impl Guest for FakeGuest {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        self.buf.resize(HEADROOM + room, 0xee);
        (!self.full).then_some(&mut self.buf[..])
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        self.frames.push((self.buf[start..end].to_vec(), meta));
        // Nobody may rely on what is left.
        self.buf.fill(0xee);
        if let Some(room) = &mut self.room {
            *room -= 1;
            self.full = *room == 0;
        }
        true
    }

    fn flush(&mut self) {}

    fn is_full(&self) -> bool {
        self.full && self.tells
    }
}

/// What a socket was asked to do, and what it is to answer.
#[derive(Debug, Default)]
pub(crate) struct SocketState {
    pub(crate) id: Option<FlowId>,
    pub(crate) from: Option<SocketAddr>,
    pub(crate) to: Option<SocketAddr>,
    /// Payload, segment, TTL.
    pub(crate) sent: Vec<(Vec<u8>, usize, u8)>,
    pub(crate) incoming: VecDeque<(Vec<u8>, usize)>,
    pub(crate) ttl: Option<u8>,
    pub(crate) tos: Option<u8>,
    pub(crate) errors: VecDeque<(SocketError, Vec<u8>)>,
    pub(crate) send_results: VecDeque<ErrorKind>,
    pub(crate) recv_results: VecDeque<ErrorKind>,
    pub(crate) receives: usize,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct FakeSocket(Rc<RefCell<SocketState>>, Vec<u8>);

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

impl FakeSocket {
    fn receive(&self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        let mut state = self.0.borrow_mut();
        state.receives += 1;
        if let Some(kind) = state.recv_results.pop_front() {
            return Err(kind.into());
        }
        let (data, segment) = state.incoming.pop_front().ok_or(ErrorKind::WouldBlock)?;
        buf[..data.len()].copy_from_slice(&data);
        Ok(DatagramBurst { len: data.len(), segment, source: None, ttl: state.ttl, tos: state.tos })
    }

    fn transmit(&self, data: Vec<u8>, segment: usize, ttl: u8) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if let Some(kind) = state.send_results.pop_front() {
            return Err(kind.into());
        }
        let len = data.len();
        state.sent.push((data, segment, ttl));
        Ok(len)
    }

    fn next_error(&mut self) -> Option<SocketError> {
        let (error, quoted) = self.0.borrow_mut().errors.pop_front()?;
        self.1 = quoted;
        Some(error)
    }
}

impl UdpSocket for FakeSocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.receive(buf)
    }

    fn send(&mut self, bufs: &[IoSlice<'_>], segment: usize, ttl: u8) -> io::Result<usize> {
        let data = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.transmit(data, segment, ttl)
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.next_error()
    }

    fn quoted(&self) -> &[u8] {
        &self.1
    }
}

impl PingSocket for FakeSocket {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<DatagramBurst> {
        self.receive(buf)
    }

    fn send(&mut self, message: &[u8], ttl: u8) -> io::Result<usize> {
        self.transmit(message.to_vec(), message.len(), ttl)
    }

    fn take_error(&mut self) -> Option<SocketError> {
        self.next_error()
    }

    fn quoted(&self) -> &[u8] {
        &self.1
    }
}

/// What a TCP socket was asked to do, and what it is to answer.
#[derive(Debug)]
pub(crate) struct TcpState {
    pub(crate) id: FlowId,
    pub(crate) incoming: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) sent: Vec<u8>,
    /// Takes no more than this in all.
    pub(crate) takes: usize,
    pub(crate) discarded: u32,
    pub(crate) shut: bool,
    pub(crate) reset: bool,
    pub(crate) closed: bool,
    pub(crate) error: Option<SocketError>,
    pub(crate) info: TcpInfo,
    pub(crate) room: SendRoom,
}

#[derive(Debug)]
pub(crate) struct FakeTcp(Rc<RefCell<TcpState>>);

impl Drop for FakeTcp {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

impl TcpSocket for FakeTcp {
    fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.0.borrow();
        let there = &state.incoming[offset as usize..];
        if there.is_empty() {
            return if state.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let n = there.len().min(buf.len());
        buf[..n].copy_from_slice(&there[..n]);
        Ok(n)
    }

    fn discard(&mut self, n: u32) -> io::Result<u32> {
        let mut state = self.0.borrow_mut();
        state.incoming.drain(..n as usize);
        state.discarded += n;
        Ok(n)
    }

    fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let data: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let n = data.len().min(state.takes - state.sent.len());
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.sent.extend(&data[..n]);
        Ok(n)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().shut = true;
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.0.borrow_mut().reset = true;
    }

    fn info(&mut self) -> TcpInfo {
        self.0.borrow().info
    }

    fn send_room(&mut self) -> SendRoom {
        self.0.borrow().room
    }

    fn set_keepalive(&mut self) {}

    fn take_error(&mut self) -> Option<SocketError> {
        self.0.borrow_mut().error.take()
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeHost {
    pub(crate) udp: Vec<Rc<RefCell<SocketState>>>,
    pub(crate) ping: Vec<Rc<RefCell<SocketState>>>,
    pub(crate) tcp: Vec<(SocketAddr, Option<IpAddr>)>,
    pub(crate) tcp_sockets: Vec<Rc<RefCell<TcpState>>>,
    /// Answers to the next attempts to open a socket.
    pub(crate) refusals: VecDeque<ErrorKind>,
    /// errno of the next connect() calls.
    pub(crate) tcp_errors: VecDeque<i32>,
    /// Every `from` that was tried.
    pub(crate) binds: Vec<SocketAddr>,
}

impl Host for FakeHost {
    type Tcp = FakeTcp;
    type Udp = FakeSocket;
    type Ping = FakeSocket;

    fn connect_tcp(
        &mut self,
        id: FlowId,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<FakeTcp> {
        self.tcp.push((to, from));
        if let Some(errno) = self.tcp_errors.pop_front() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let state = TcpState {
            id,
            incoming: vec![],
            ended: false,
            sent: vec![],
            takes: usize::MAX,
            discarded: 0,
            shut: false,
            reset: false,
            closed: false,
            error: None,
            info: TcpInfo::default(),
            room: SendRoom { sndbuf: 87_040, queued: 0 },
        };
        self.tcp_sockets.push(Rc::new(RefCell::new(state)));
        Ok(FakeTcp(self.tcp_sockets.last().unwrap().clone()))
    }

    fn open_udp(&mut self, id: FlowId, from: SocketAddr, to: SocketAddr) -> io::Result<FakeSocket> {
        self.binds.push(from);
        if let Some(kind) = self.refusals.pop_front() {
            return Err(kind.into());
        }
        let state =
            SocketState { id: Some(id), from: Some(from), to: Some(to), ..SocketState::default() };
        self.udp.push(Rc::new(RefCell::new(state)));
        Ok(FakeSocket(self.udp.last().unwrap().clone(), vec![]))
    }

    fn open_ping(
        &mut self,
        id: FlowId,
        from: Option<IpAddr>,
        to: SocketAddr,
        ident: u16,
    ) -> io::Result<FakeSocket> {
        if let Some(kind) = self.refusals.pop_front() {
            return Err(kind.into());
        }
        let from = from.unwrap_or_else(|| crate::udp::unspecified(to.ip()));
        let state = SocketState {
            id: Some(id),
            from: Some(SocketAddr::new(from, ident)),
            to: Some(to),
            ..SocketState::default()
        };
        self.ping.push(Rc::new(RefCell::new(state)));
        Ok(FakeSocket(self.ping.last().unwrap().clone(), vec![]))
    }
}

/// A stack between the two.
pub(crate) struct Rig {
    pub(crate) stack: Stack<FakeHost>,
    pub(crate) guest: FakeGuest,
    pub(crate) host: FakeHost,
    pub(crate) now: Instant,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        Self::with(config, 65520)
    }

    pub(crate) fn with(config: Config, mtu: u16) -> Self {
        let now = Instant::from_millis(1_000_000);
        let secret = Secret::new([7; 16]);
        Self {
            stack: Stack::new(Arc::new(config), secret, Settings::default(), now),
            guest: FakeGuest {
                limits: Limits { mtu, max_packet: 65535 },
                buf: Vec::new(),
                frames: Vec::new(),
                full: false,
                room: None,
                tells: false,
            },
            host: FakeHost::default(),
            now,
        }
    }

    fn io(&mut self) -> (&mut Stack<FakeHost>, Io<'_, FakeGuest, FakeHost>) {
        let io = Io { guest: &mut self.guest, host: &mut self.host, now: self.now };
        (&mut self.stack, io)
    }

    /// A frame alone in its burst.
    pub(crate) fn frame(&mut self, frame: &[u8]) {
        self.frame_of_burst(frame, Gso::None);
        self.end_of_burst();
    }

    pub(crate) fn frame_of_burst(&mut self, frame: &[u8], gso: Gso) {
        let (stack, mut io) = self.io();
        stack.on_frame(&mut io, frame, gso);
    }

    pub(crate) fn end_of_burst(&mut self) {
        let (stack, mut io) = self.io();
        stack.end_of_burst(&mut io);
    }

    pub(crate) fn ready(&mut self, socket: &Rc<RefCell<SocketState>>, ready: Readiness) {
        let id = socket.borrow().id.unwrap();
        let (stack, mut io) = self.io();
        stack.on_socket(&mut io, id, ready);
        stack.end_of_burst(&mut io);
    }

    pub(crate) fn tcp_ready(&mut self, socket: &Rc<RefCell<TcpState>>, ready: Readiness) {
        let id = socket.borrow().id;
        let (stack, mut io) = self.io();
        stack.on_socket(&mut io, id, ready);
        stack.end_of_burst(&mut io);
    }

    pub(crate) fn readable(&mut self, socket: &Rc<RefCell<SocketState>>) {
        self.ready(socket, Readiness { readable: true, ..Readiness::default() });
    }

    pub(crate) fn error(&mut self, socket: &Rc<RefCell<SocketState>>) {
        self.ready(socket, Readiness { error: true, ..Readiness::default() });
    }

    /// The link becomes full; it tells.
    pub(crate) fn fill_link(&mut self) {
        (self.guest.full, self.guest.tells) = (true, true);
        self.end_of_burst();
    }

    /// The link takes `room` frames more, or all there are.
    pub(crate) fn empty_link(&mut self, room: Option<usize>) {
        (self.guest.full, self.guest.room) = (false, room);
        self.stack.on_link_ready();
        self.end_of_burst();
    }

    /// There is another link, which takes all there is.
    pub(crate) fn renew_link(&mut self) {
        (self.guest.full, self.guest.room) = (false, None);
        self.stack.on_new_link();
        self.end_of_burst();
    }

    /// Lets time pass, with every deadline in between. Returns how many there were.
    pub(crate) fn pass(&mut self, span: Duration) -> usize {
        let end = self.now + span;
        for count in 0..100_000 {
            let next = self.stack.next_deadline().filter(|next| *next <= end);
            self.now = next.unwrap_or(end).max(self.now);
            let (stack, mut io) = self.io();
            stack.on_deadline(&mut io);
            stack.end_of_burst(&mut io);
            if next.is_none() {
                return count;
            }
        }
        panic!("it does not come to rest within {span:?}");
    }

    /// The host accepted a connection for the guest.
    pub(crate) fn connected(&mut self, guest: &str, peer: &str) -> Rc<RefCell<TcpState>> {
        assert!(self.try_connected((guest.parse().unwrap(), peer.parse().unwrap())));
        self.host.tcp_sockets.last().unwrap().clone()
    }

    /// As [`connected`](Self::connected); whether it was taken.
    pub(crate) fn try_connected(&mut self, ends: (SocketAddr, SocketAddr)) -> bool {
        let (stack, mut io) = self.io();
        let made =
            stack.on_connection(&mut io, ends, |host, id| host.connect_tcp(id, ends.1, None));
        stack.end_of_burst(&mut io);
        made
    }

    pub(crate) fn start(&mut self) {
        let (stack, mut io) = self.io();
        stack.start(&mut io);
    }

    /// Datagrams that the host received on a listening socket.
    pub(crate) fn arrived(&mut self, guest: &str, peer: &str, payload: &[u8], segment: usize) {
        let ends = (guest.parse::<SocketAddr>().unwrap(), peer.parse::<SocketAddr>().unwrap());
        let burst =
            DatagramBurst { len: payload.len(), segment, source: None, ttl: Some(61), tos: None };
        let from = SocketAddr::from(([203, 0, 113, 2], 53));
        let (stack, mut io) = self.io();
        if ends.0.ip().is_multicast() {
            stack.on_group_datagrams(&mut io, ends, (&burst, payload));
        } else {
            stack.on_datagrams(&mut io, ends, (&burst, payload), |host, id| {
                host.open_udp(id, from, ends.1)
            });
        }
    }

    pub(crate) fn neighbor(&mut self, ip: &str, mac: Option<MacAddr>) {
        let ip = ip.parse().unwrap();
        let (stack, mut io) = self.io();
        stack.neighbor_changed(&mut io, ip, mac);
    }

    /// What the guest was sent since the last look.
    pub(crate) fn frames(&mut self) -> Vec<(Vec<u8>, FrameMeta)> {
        std::mem::take(&mut self.guest.frames)
    }

    /// The only UDP socket.
    pub(crate) fn udp(&self) -> Rc<RefCell<SocketState>> {
        assert_eq!(self.host.udp.len(), 1);
        self.host.udp[0].clone()
    }

    /// The only ping socket.
    pub(crate) fn ping(&self) -> Rc<RefCell<SocketState>> {
        assert_eq!(self.host.ping.len(), 1);
        self.host.ping[0].clone()
    }
}

/// An ICMP error of the host's network.
pub(crate) fn icmp_error(offender: &str, kind: u8, code: u8, info: u32) -> SocketError {
    let origin = IcmpOrigin { offender: offender.parse().unwrap(), kind, code, info };
    SocketError { errno: 111, icmp: Some(origin) }
}

//! smoltcp as the guest's TCP.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use wire::IntoBytes;
use wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};

use super::app::App;
use super::guest::{GuestFlow, GuestStack, Outbox};
use super::host::patterns;
use super::packet::Frame;
use super::rng::Rng;
use crate::time::Instant;

/// How the guest behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmolPlan {
    /// Receive buffer in bytes.
    pub rx_buffer: usize,
    /// Send buffer in bytes.
    pub tx_buffer: usize,
    /// Offers timestamps.
    pub timestamps: bool,
    /// Congestion control by Reno; otherwise none.
    pub reno: bool,
    /// Nagle's algorithm.
    pub nagle: bool,
    /// MTU of the link.
    pub mtu: u16,
}

#[derive(Debug, Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _timestamp: SmolInstant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Rx(packet), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _timestamp: SmolInstant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

#[derive(Debug)]
struct Conn {
    flow: GuestFlow,
    app: App,
    handle: SocketHandle,
    started: bool,
}

/// The guest.
pub struct SmolGuest {
    plan: SmolPlan,
    macs: (MacAddr, MacAddr),
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    conns: Vec<Conn>,
    wrong: Option<String>,
}

impl std::fmt::Debug for SmolGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmolGuest").field("plan", &self.plan).finish_non_exhaustive()
    }
}

fn smol_time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.micros()).unwrap_or(i64::MAX))
}

impl SmolGuest {
    /// A guest with these addresses on the link: its own, the stack's.
    pub fn new(plan: SmolPlan, macs: (MacAddr, MacAddr), mut rng: Rng, now: Instant) -> Self {
        let mut wire = Wire { mtu: usize::from(plan.mtu), ..Wire::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rng.next_u64();
        let interface = Interface::new(config, &mut wire, smol_time(now));
        Self {
            plan,
            macs,
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            conns: Vec::new(),
            wrong: None,
        }
    }

    fn programs(&mut self, now: Instant) {
        for conn in &mut self.conns {
            let socket = self.sockets.get_mut::<Socket<'_>>(conn.handle);
            if let Err(what) = conn.work(socket, now) {
                self.wrong.get_or_insert(what);
            }
        }
    }
}

impl Conn {
    fn work(&mut self, socket: &mut Socket<'static>, now: Instant) -> Result<(), String> {
        let state = socket.state();
        if !self.started {
            match state {
                State::Listen | State::SynSent | State::SynReceived => return Ok(()),
                State::Closed => {
                    self.app.failed = true;
                    return Ok(());
                }
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait => {
                    self.started = true;
                    self.app.start(now);
                }
            }
        }
        if self.app.done() {
            return Ok(());
        }
        if state == State::Closed && socket.recv_queue() == 0 && !self.app.peer_closed {
            // Reset, unless the peer's FIN is still to be told of.
            self.app.failed = socket.recv(|_| (0, ())) != Err(RecvError::Finished);
        }
        if state == State::Closed && self.app.peer_closed && !self.app.closed {
            self.app.failed = true;
        }
        if self.app.failed {
            return Ok(());
        }
        let (out, incoming) = patterns(self.flow.n);
        loop {
            let allowed = usize::try_from(self.app.may_read(now)).unwrap_or(usize::MAX);
            let position = self.app.read;
            let received = socket.recv(|data| {
                let n = data.len().min(allowed);
                (n, (n, incoming.mismatch(position, &data[..n])))
            });
            match received {
                Ok((_, Some(at))) => return Err(format!("the guest received a wrong byte {at}")),
                Ok((0, None)) => break,
                Ok((n, None)) => self.app.read += n as u64,
                Err(RecvError::Finished) => {
                    self.app.peer_closed = true;
                    break;
                }
                Err(RecvError::InvalidState) => {
                    self.app.failed = !self.app.done();
                    return Ok(());
                }
            }
        }
        loop {
            let allowed = usize::try_from(self.app.may_write(now)).unwrap_or(usize::MAX);
            let position = self.app.written;
            let sent = socket.send(|buf| {
                let n = buf.len().min(allowed);
                out.fill(position, &mut buf[..n]);
                (n, n)
            });
            match sent {
                Ok(n) if n > 0 => self.app.written += n as u64,
                Ok(_) | Err(_) => break,
            }
        }
        if self.app.wants_reset() {
            self.app.reset = true;
            socket.abort();
        } else if self.app.wants_close() {
            self.app.closed = true;
            socket.close();
        }
        Ok(())
    }
}

impl GuestStack for SmolGuest {
    fn open(&mut self, flow: GuestFlow, now: Instant) {
        let ip = IpAddress::from(flow.local.ip());
        self.interface.update_ip_addrs(|addrs| {
            // Everything is on the link: the stack is every other host.
            let cidr = IpCidr::new(ip, 0);
            if !addrs.contains(&cidr) {
                let _ = addrs.push(cidr);
            }
        });
        let rx = SocketBuffer::new(vec![0; self.plan.rx_buffer]);
        let tx = SocketBuffer::new(vec![0; self.plan.tx_buffer]);
        let mut socket = Socket::new(rx, tx);
        socket.set_nagle_enabled(self.plan.nagle);
        if self.plan.reno {
            socket.set_congestion_control(CongestionControl::Reno);
        }
        if self.plan.timestamps {
            socket.set_tsval_generator(Some(|| 1));
        }
        let opened = if flow.active {
            let context = self.interface.context();
            socket.connect(context, flow.peer, flow.local).map_err(|error| error.to_string())
        } else {
            socket.listen(flow.local).map_err(|error| error.to_string())
        };
        if let Err(what) = opened {
            self.wrong.get_or_insert_with(|| format!("smoltcp: {what}"));
        }
        let handle = self.sockets.add(socket);
        let app = App::new(flow.app, now);
        self.conns.push(Conn { flow, app, handle, started: false });
    }

    fn receive(&mut self, frame: &Frame, _now: Instant, _out: &mut Outbox) {
        if let Some((header, packet)) = EthernetHeader::parse(&frame.data) {
            if matches!(header.ethertype.get(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
                self.wire.incoming.push_back(packet.to_vec());
            }
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant> {
        let time = smol_time(now);
        self.programs(now);
        // Programs may make room for what did not fit, and the other way round.
        for _ in 0..8 {
            let result = self.interface.poll(time, &mut self.wire, &mut self.sockets);
            self.programs(now);
            if result == PollResult::None {
                break;
            }
        }
        for packet in self.wire.outgoing.drain(..) {
            let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
            let ethertype = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            let mut data = out.buffer();
            data.clear();
            data.extend_from_slice(
                EthernetHeader::new(self.macs.1, self.macs.0, ethertype).as_bytes(),
            );
            data.extend_from_slice(&packet);
            out.frames.push(Frame { data, ..Frame::default() });
        }
        let poll_at = self.interface.poll_at(time, &self.sockets);
        let poll_at = poll_at.map(|at| {
            Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000).max(now)
        });
        let apps = self.conns.iter().filter(|conn| conn.started).filter_map(|conn| {
            let socket = self.sockets.get::<Socket<'_>>(conn.handle);
            conn.app.next(now, socket.recv_queue() > 0)
        });
        apps.chain(poll_at).min()
    }

    fn app(&self, n: u64) -> Option<&App> {
        self.conns.iter().find(|conn| conn.flow.n == n).map(|conn| &conn.app)
    }

    fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn timeouts(&self) -> u64 {
        0
    }
}

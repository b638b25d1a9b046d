//! Datagrams at listening sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use stack::Stack;
use stack::flow::Slot;
use stack::forward::{self, Arrival, Inbound};
use stack::rule::{Listen, Pif};
use sys::socket::{Burst, Datagram, Device, Kind, Ties, UdpSocket, unspecified};

use super::{Forwarder, Surroundings, Taken};
use crate::host::{KernelHost, answering, burst_of};
use crate::listen::{Entry, Place};
use crate::splice::Key;

/// Bursts taken from one socket before others get their turn.
const TURN: usize = 64;
/// Failures in one turn after which there is something wrong with the socket.
const FAILURES: usize = 8;
/// Datagrams kept that came to the wrong socket.
const STRAYS: usize = 1024;

/// Datagrams that came to the socket of another flow before that was connected: as if they had come to
/// the listening socket.
#[derive(Debug)]
pub(super) struct Stray {
    slot: Slot,
    datagram: Datagram,
    payload: Vec<u8>,
}

/// What a listening socket tells about a datagram's way.
struct Way {
    slot: Slot,
    pif: Pif,
    place: Place,
    target: Option<IpAddr>,
    /// The port it is forwarded to.
    port: u16,
}

impl Forwarder {
    /// Takes what waits at a listening socket.
    pub(super) fn receive(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        slot: Slot,
    ) -> Taken {
        let mut buffer = std::mem::take(&mut self.buffer);
        let taken = self.receive_into(stack, io, slot, &mut buffer);
        self.buffer = buffer;
        taken
    }

    fn receive_into(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        slot: Slot,
        buffer: &mut [u8],
    ) -> Taken {
        let mut failures = 0;
        for _ in 0..TURN {
            let Some(entry) = self.listeners.get(slot) else { return Taken::All };
            let Some(listener) = entry.udp() else { return Taken::All };
            match listener.recv(buffer) {
                Ok(datagram) => {
                    let payload = buffer.get(..datagram.burst.len).unwrap_or_default();
                    self.arrived(stack, io, slot, &datagram, payload);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Taken::All,
                Err(error) => {
                    log::debug!("listening socket {}: {error}", entry.place());
                    listener.clear_error();
                    failures += 1;
                    if failures == FAILURES {
                        return Taken::None;
                    }
                }
            }
            self.take_strays(stack, io);
        }
        Taken::Some
    }

    /// Takes some of what came to the wrong socket.
    pub(super) fn take_strays(&mut self, stack: &mut Stack<KernelHost>, io: &mut Surroundings<'_>) {
        for _ in 0..TURN {
            let Some(Stray { slot, datagram, payload }) = self.strays.pop_front() else { return };
            self.arrived(stack, io, slot, &datagram, &payload);
        }
    }

    /// Datagrams of one sender that belong to no socket of a flow.
    fn arrived(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        slot: Slot,
        datagram: &Datagram,
        payload: &[u8],
    ) {
        let Some(entry) = self.listeners.get(slot) else { return };
        let way = Way {
            slot,
            pif: entry.pif(),
            place: entry.place().clone(),
            target: entry.rule().target,
            port: entry.target_port(),
        };
        let Some(source) = datagram.burst.source else { return };
        let result = match way.pif {
            Pif::Host => self.towards_guest_udp(stack, io, &way, source, datagram, payload),
            Pif::Splice => {
                let destination = sent_to(datagram, &way.place);
                let arrival = Arrival { source, destination, target: way.target, port: way.port };
                match forward::outbound(&arrival) {
                    Some(to) => self.relay(io, &way, source, to, datagram, payload),
                    None => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            log::debug!("datagram from {source} to {}: {error}", way.place);
        }
    }

    fn towards_guest_udp(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        way: &Way,
        source: SocketAddr,
        datagram: &Datagram,
        payload: &[u8],
    ) -> io::Result<()> {
        let destination = sent_to(datagram, &way.place);
        let arrival = Arrival { source, destination, target: way.target, port: way.port };
        let burst = burst_of(datagram.burst);
        match forward::inbound(stack.config(), stack.link(), self.splicing, &arrival) {
            Some(Inbound::Splice(to)) => self.relay(io, way, source, to, datagram, payload),
            Some(Inbound::Link { guest, peer }) if datagram.is_to_group() => {
                let group = match guest.ip() {
                    ip if ip.is_multicast() => ip,
                    // The guest's network may be another than the host's.
                    _ => Ipv4Addr::BROADCAST.into(),
                };
                let group = SocketAddr::new(group, way.port);
                stack.on_group_datagrams(io, (group, peer), (&burst, payload));
                Ok(())
            }
            Some(Inbound::Link { guest, peer }) => {
                let from = sent_from(destination, source, way.place.port);
                let device = device(&way.place);
                let freebind = self.freebind(way.pif);
                let ties = (device.as_ref(), freebind);
                let Some(listener) = self.listeners.get(way.slot).and_then(Entry::udp) else {
                    return Ok(());
                };
                let strays = &mut self.strays;
                let make = |host: &mut KernelHost, id| {
                    host.answer_udp(id, from, source, ties, listener, &mut |burst, data| {
                        keep(strays, way.slot, destination, burst, data);
                    })
                };
                stack.on_datagrams(io, (guest, peer), (&burst, payload), make);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Passes on datagrams between loopback interfaces.
    fn relay(
        &mut self,
        io: &mut Surroundings<'_>,
        way: &Way,
        source: SocketAddr,
        to: SocketAddr,
        datagram: &Datagram,
        payload: &[u8],
    ) -> io::Result<()> {
        let destination = sent_to(datagram, &way.place);
        let key = Key { pif: way.pif, source, destination: (destination, way.place.port) };
        let from = sent_from(destination, source, way.place.port);
        let (namespace, strays) = (&mut self.namespace, &mut self.strays);
        let mut inside = |from: SocketAddr, to: SocketAddr| {
            let namespace = namespace.as_mut().ok_or(ErrorKind::Unsupported)?;
            let socket = namespace.socket(Kind::Udp, to.is_ipv6())?;
            UdpSocket::from_unbound(socket, from, to, &Ties::default())
        };
        let outside = |from, to| UdpSocket::open(from, to, &Ties::default());
        let Some(listener) = self.listeners.get(way.slot).and_then(Entry::udp) else {
            return Ok(());
        };
        let ties = Ties::default();
        let make = || {
            // The sender's port, as it would be without us; any if somebody else has it.
            let port = SocketAddr::new(unspecified(to.ip()), source.port());
            let any = SocketAddr::new(port.ip(), 0);
            let [near, far] = match way.pif {
                Pif::Host => {
                    let near =
                        answering(listener, from, source, &ties, |from| outside(from, source))?;
                    [near, with_port_or_any(|from| inside(from, to), port, any)?]
                }
                Pif::Splice => {
                    let near =
                        answering(listener, from, source, &ties, |from| inside(from, source))?;
                    [near, with_port_or_any(|from| outside(from, to), port, any)?]
                }
            };
            let mut near = near;
            drain(&mut near, &mut |burst, data| {
                keep(strays, way.slot, destination, burst, data);
            });
            Ok([near, far])
        };
        self.relays.arrived(io.host.epoll(), key, (&datagram.burst, payload), io.now, make)
    }
}

/// Opens a socket with one port, or with any if that one cannot be had.
fn with_port_or_any(
    mut open: impl FnMut(SocketAddr) -> io::Result<UdpSocket>,
    port: SocketAddr,
    any: SocketAddr,
) -> io::Result<UdpSocket> {
    match open(port) {
        Err(error)
            if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) =>
        {
            open(any)
        }
        opened => opened,
    }
}

/// The address datagrams were sent to: what the kernel says, or the only one the socket listens on.
fn sent_to(datagram: &Datagram, place: &Place) -> Option<IpAddr> {
    match (datagram.destination, place.listen) {
        (Some(to), _) => Some(to),
        (None, Listen::On(address)) if !address.is_unspecified() => Some(address),
        (None, Listen::On(_) | Listen::DualStack) => None,
    }
}

/// Address and port from which `source` expects answers to what it sent to `destination`.
fn sent_from(destination: Option<IpAddr>, source: SocketAddr, port: u16) -> SocketAddr {
    match (destination.unwrap_or_else(|| unspecified(source.ip())), source) {
        (IpAddr::V6(ip), SocketAddr::V6(source)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, source.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, port),
    }
}

/// The interface of a listening socket; answers leave by it, too.
fn device(place: &Place) -> Option<Device> {
    place.device.as_deref().and_then(Device::new)
}

/// Takes what came to a socket between its being bound and its being connected.
pub(crate) fn drain(socket: &mut UdpSocket, each: &mut dyn FnMut(Burst, &[u8])) {
    // Rarely anything at all: worth a system call, not a buffer.
    if !socket.has_waiting() {
        return;
    }
    let mut buffer = vec![0; crate::splice::MAX_BURST];
    // What the peer goes on sending is no stray, and may come without end.
    for _ in 0..TURN {
        match socket.recv(&mut buffer) {
            Ok(burst) => each(burst, buffer.get(..burst.len).unwrap_or_default()),
            Err(_) => return,
        }
    }
}

/// Keeps datagrams that came to a flow's socket too early.
fn keep(
    strays: &mut std::collections::VecDeque<Stray>,
    slot: Slot,
    destination: Option<IpAddr>,
    burst: Burst,
    data: &[u8],
) {
    if strays.len() < STRAYS {
        let datagram = Datagram { burst, destination, local: None };
        strays.push_back(Stray { slot, datagram, payload: data.to_vec() });
    }
}

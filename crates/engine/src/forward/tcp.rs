//! Connections to listening sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use stack::Stack;
use stack::flow::Slot;
use stack::forward::{self, Arrival, Inbound};
use stack::rule::{Listen, Pif};
use sys::socket::{Kind, Stream, Unbound, local_address};

use super::{Forwarder, Surroundings, Taken};
use crate::host::{KernelHost, is_out_of_descriptors};
use crate::listen::Place;

/// Connections accepted from one socket before others get their turn.
const TURN: usize = 64;

impl Forwarder {
    /// Accepts what waits at a listening socket.
    pub(super) fn accept(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        slot: Slot,
    ) -> Taken {
        for _ in 0..TURN {
            let Some(entry) = self.listeners.get(slot) else { return Taken::All };
            let Some(listener) = entry.tcp() else { return Taken::All };
            match listener.accept() {
                Ok((socket, source)) => {
                    self.refusing = false;
                    let (pif, port) = (entry.pif(), entry.target_port());
                    let target = entry.rule().target;
                    let place = entry.place().clone();
                    match pif {
                        Pif::Host => self.towards_guest(stack, io, socket, source, (target, port)),
                        Pif::Splice => self.towards_host(io, socket, source, &place, port),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Taken::All,
                Err(error) if is_out_of_descriptors(&error) => {
                    if !self.refuse(slot) {
                        return Taken::None;
                    }
                    stack.count_refused();
                }
                Err(error) if is_shortage(&error) => return Taken::None,
                // That connection is over already (accept(2) passes on the errors of the network).
                Err(_) => {}
            }
        }
        Taken::Some
    }

    /// Resets the connection that waits first, for lack of a descriptor to keep it: who connected learns
    /// that at once. `false` if even that is impossible.
    fn refuse(&mut self, slot: Slot) -> bool {
        if !std::mem::replace(&mut self.refusing, true) {
            log::warn!("New connections are refused: no descriptors");
        }
        self.spare.release();
        let listener = self.listeners.get(slot).and_then(|entry| entry.tcp());
        let accepted = listener.map(|listener| listener.accept());
        let refused = match accepted {
            Some(Ok((socket, _))) => {
                Stream::accepted(socket).reset_on_close();
                true
            }
            Some(Err(error)) => error.kind() == ErrorKind::WouldBlock,
            None => true,
        };
        self.spare.regain();
        refused
    }

    /// A connection from the host's world to the guest.
    fn towards_guest(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        socket: OwnedFd,
        source: SocketAddr,
        (target, port): (Option<IpAddr>, u16),
    ) {
        // Only a loopback destination may make a difference.
        let matters = self.splicing.to_loopback && source.ip().is_loopback();
        let destination = if matters { local_address(&socket).ok() } else { None };
        let destination = destination.map(|address| address.ip());
        let arrival = Arrival { source, destination, target, port };
        match forward::inbound(stack.config(), stack.link(), self.splicing, &arrival) {
            Some(Inbound::Splice(to)) => {
                let made = match &mut self.namespace {
                    Some(namespace) => namespace.socket(Kind::Tcp, to.is_ipv6()),
                    None => Err(ErrorKind::Unsupported.into()),
                };
                self.connections.open(io.host.epoll(), Stream::accepted(socket), made, to);
            }
            Some(Inbound::Link { guest, peer }) => {
                let mut socket = Some(socket);
                stack.on_connection(io, (guest, peer), |host, id| match socket.take() {
                    Some(socket) => host.accept_tcp(id, socket),
                    None => Err(io::Error::from(ErrorKind::InvalidInput)),
                });
                if let Some(socket) = socket {
                    Stream::accepted(socket).reset_on_close();
                }
            }
            None => Stream::accepted(socket).reset_on_close(),
        }
    }

    /// A connection from the namespace's loopback to the host's.
    fn towards_host(
        &mut self,
        io: &mut Surroundings<'_>,
        socket: OwnedFd,
        source: SocketAddr,
        place: &Place,
        port: u16,
    ) {
        let destination = match place.listen {
            Listen::On(address) if !address.is_unspecified() => Some(address),
            Listen::On(_) | Listen::DualStack => {
                local_address(&socket).ok().map(|address| address.ip())
            }
        };
        let to = destination.and_then(|address| forward::outbound(source, address, port));
        match to {
            Some(to) => {
                let made = Unbound::new(Kind::Tcp, to.is_ipv6());
                self.connections.open(io.host.epoll(), Stream::accepted(socket), made, to);
            }
            None => {
                log::debug!("connection from {source} is not one of loopback");
                Stream::accepted(socket).reset_on_close();
            }
        }
    }
}

/// `ENOBUFS`, `ENOMEM`, `EPERM` (a firewall): nothing is wrong with the connection.
fn is_shortage(error: &io::Error) -> bool {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(EPERM | ENOMEM | ENOBUFS))
}

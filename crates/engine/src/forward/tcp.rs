//! Connections to listening sockets.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use stack::Stack;
use stack::flow::Slot;
use stack::forward::{self, Arrival, Inbound};
use stack::rule::{Listen, Pif};
use sys::socket::{Kind, Stream, Unbound, local_address};

use super::{Forwarder, Surroundings, Taken};
use crate::host::{KernelHost, is_out_of_descriptors};

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
                    let on = match entry.place().listen {
                        Listen::On(address) if !address.is_unspecified() => Some(address),
                        Listen::On(_) | Listen::DualStack => None,
                    };
                    let arrival = Arrival {
                        source,
                        destination: on,
                        target: entry.rule().target,
                        port: entry.target_port(),
                    };
                    match entry.pif() {
                        Pif::Host => self.towards_guest(stack, io, socket, arrival),
                        Pif::Splice => self.towards_host(io, socket, arrival),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Taken::All,
                Err(error) if is_out_of_descriptors(&error) => match self.refuse(slot) {
                    Taken::Some => stack.count_refused(),
                    // Whether somebody waits is only seen with a descriptor at hand.
                    taken @ (Taken::All | Taken::None) => return taken,
                },
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    log::debug!("listening socket {}: {error}", entry.place());
                    return Taken::None;
                }
            }
        }
        Taken::Some
    }

    /// Resets the connection that waits first, for lack of a descriptor to keep it: who connected learns
    /// that at once.
    fn refuse(&mut self, slot: Slot) -> Taken {
        self.spare.release();
        let listener = self.listeners.get(slot).and_then(|entry| entry.tcp());
        let taken = match listener.map(|listener| listener.accept()) {
            Some(Ok((socket, _))) => {
                Stream::accepted(socket).reset_on_close();
                Taken::Some
            }
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => Taken::None,
            Some(Err(_)) | None => Taken::All,
        };
        self.spare.regain();
        if taken != Taken::All && !std::mem::replace(&mut self.refusing, true) {
            log::warn!("New connections are refused: no descriptors");
        }
        taken
    }

    /// A connection from the host's world to the guest.
    fn towards_guest(
        &mut self,
        stack: &mut Stack<KernelHost>,
        io: &mut Surroundings<'_>,
        socket: OwnedFd,
        mut arrival: Arrival,
    ) {
        // Only a loopback destination may make a difference.
        if self.splicing.to_loopback && arrival.source.ip().is_loopback() {
            arrival.destination = arrival.destination.or_else(|| sent_to(&socket));
        }
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
    fn towards_host(&mut self, io: &mut Surroundings<'_>, socket: OwnedFd, mut arrival: Arrival) {
        arrival.destination = arrival.destination.or_else(|| sent_to(&socket));
        match forward::outbound(&arrival) {
            Some(to) => {
                let made = Unbound::new(Kind::Tcp, to.is_ipv6());
                self.connections.open(io.host.epoll(), Stream::accepted(socket), made, to);
            }
            None => {
                log::debug!("connection from {} is not one of loopback", arrival.source);
                Stream::accepted(socket).reset_on_close();
            }
        }
    }
}

/// The address an accepted connection was made to.
fn sent_to(socket: &OwnedFd) -> Option<IpAddr> {
    local_address(socket).ok().map(|address| address.ip())
}

/// Whether an error says that the connection which waited is over already (accept(2) passes on errors of
/// the network), or that the call is to be made again.
fn is_of_connection(error: &io::Error) -> bool {
    const EINTR: i32 = 4;
    const ENONET: i32 = 64;
    const EPROTO: i32 = 71;
    const ENOPROTOOPT: i32 = 92;
    const EOPNOTSUPP: i32 = 95;
    const ENETDOWN: i32 = 100;
    const ENETUNREACH: i32 = 101;
    const ECONNABORTED: i32 = 103;
    const EHOSTDOWN: i32 = 112;
    const EHOSTUNREACH: i32 = 113;
    matches!(
        error.raw_os_error(),
        Some(
            EINTR
                | ENONET
                | EPROTO
                | ENOPROTOOPT
                | EOPNOTSUPP
                | ENETDOWN
                | ENETUNREACH
                | ECONNABORTED
                | EHOSTDOWN
                | EHOSTUNREACH
        )
    )
}

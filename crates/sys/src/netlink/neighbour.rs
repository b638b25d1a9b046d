//! Neighbours of the host (ARP and NDP caches): a dump, and news as they come.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, Parseable};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourMessageBuffer, NeighbourState,
};
use netlink_sys::Socket;

use super::{Dump, Family, Messages, Netlink, RECEIVE_LEN, emit, open_socket};

/// `RTMGRP_NEIGH`.
const RTMGRP_NEIGH: u32 = 4;
const NDA_IFINDEX: u16 = 8;

/// What the host knows, or no longer knows, about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface it is on.
    pub index: u32,
    /// Its network address.
    pub addr: IpAddr,
    /// Its Ethernet address, `None` when the entry is gone, failed, or unresolved.
    pub mac: Option<[u8; 6]>,
}

impl Neighbour {
    fn parse(kind: u16, body: &[u8]) -> Option<Self> {
        let buffer = NeighbourMessageBuffer::new_checked(&body).ok()?;
        let message = NeighbourMessage::parse(&buffer).ok()?;
        let (mut addr, mut mac) = (None, None);
        for attribute in &message.attributes {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the others do not matter here")]
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    addr = Some(IpAddr::from(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    addr = Some(IpAddr::from(*v6));
                }
                NeighbourAttribute::LinkLocalAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok();
                }
                _ => {}
            }
        }
        let valid = matches!(
            message.header.state,
            NeighbourState::Permanent
                | NeighbourState::Noarp
                | NeighbourState::Reachable
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Stale
        );
        let mac = mac.filter(|_| valid && kind == libc::RTM_NEWNEIGH);
        Some(Self { index: message.header.ifindex, addr: addr?, mac })
    }
}

impl Netlink {
    /// The neighbours of one family on the interface with that index.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn neighbours(&mut self, family: Family, index: u32) -> io::Result<Vec<Neighbour>> {
        let mut request = NeighbourMessage::default();
        request.header.family = family.to_kernel();
        let filter = DefaultNla::new(NDA_IFINDEX, index.to_ne_bytes().to_vec());
        request.attributes = vec![NeighbourAttribute::Other(filter)];
        let mut found = Vec::new();
        self.dump(libc::RTM_GETNEIGH, &emit(&request), &mut |kind, body, dump| {
            if dump == Dump::Restart {
                found.clear();
            } else {
                found.extend(
                    Neighbour::parse(kind, body)
                        .filter(|neighbour| neighbour.index == index)
                        .filter(|_| body.first() == Some(&family.number())),
                );
            }
        })?;
        Ok(found)
    }
}

/// News about neighbours, as the kernel multicasts them (`RTMGRP_NEIGH`).
pub struct NeighbourMonitor {
    socket: Socket,
    received: Vec<u8>,
}

impl std::fmt::Debug for NeighbourMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NeighbourMonitor").finish_non_exhaustive()
    }
}

impl NeighbourMonitor {
    /// Subscribes, in the network namespace of the calling thread. The descriptor is nonblocking.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub fn open() -> io::Result<Self> {
        let socket = open_socket(RTMGRP_NEIGH)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, received: Vec::with_capacity(RECEIVE_LEN) })
    }

    /// Hands over every piece of news that waits, then returns.
    ///
    /// # Errors
    /// `ENOBUFS` when news were lost: dump again. Whatever else `recv(2)` says.
    pub fn read(&mut self, visit: &mut dyn FnMut(Neighbour)) -> io::Result<()> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for news in Messages(&self.received) {
                let kind = news.message_type();
                if kind == libc::RTM_NEWNEIGH || kind == libc::RTM_DELNEIGH {
                    Neighbour::parse(kind, news.payload()).into_iter().for_each(&mut *visit);
                }
            }
        }
    }
}

impl AsFd for NeighbourMonitor {
    /// Readable when there is news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

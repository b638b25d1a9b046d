//! rtnetlink, synchronous: what the host's network looks like, and how to give the namespace one.
//!
//! A [`Netlink`] socket belongs for ever to the network namespace its creating thread was in, so
//! one made by a thread that entered the target namespace configures that namespace from anywhere.
//!
//! Messages are built and read with the `netlink-packet` crates. What gets *copied* (routes,
//! addresses) keeps the kernel's own bytes beside the parsed view: an attribute those crates do
//! not know must survive the copy.

mod address;
mod link;
mod neighbour;
mod route;

use std::io;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NetlinkBuffer, NlaBuffer, NlasIterator,
};
use netlink_packet_route::AddressFamily;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use address::{Address, NewAddress};
pub use link::{Link, LinkChange};
pub use neighbour::{Neighbour, NeighbourMonitor};
pub use route::{NewRoute, NextHop, Route, RouteCopy};

/// Address family of a dump or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    fn to_kernel(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    fn number(self) -> u8 {
        u8::from(self.to_kernel())
    }
}

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;

/// Room for one datagram of a dump: the kernel makes none above 32 KiB.
const RECEIVE_LEN: usize = 65536;

/// How often a dump that changed under our eyes (`NLM_F_DUMP_INTR`) is started again.
const DUMP_ATTEMPTS: usize = 4;

/// A synchronous `NETLINK_ROUTE` socket of the network namespace it was opened in.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    received: Vec<u8>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: open_socket(0)?, sequence: 0, received: Vec::with_capacity(RECEIVE_LEN) })
    }

    /// Sends a request that changes something and waits for the kernel's verdict.
    fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.exchange(kind, flags | NLM_F_ACK, body, &mut |_, _| ()).map(drop)
    }

    /// Dumps a table; `visit` gets type and body of every message. `restart` is called before a
    /// dump is run again because the table changed meanwhile.
    fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        visit: &mut dyn FnMut(u16, &[u8], Dump),
    ) -> io::Result<()> {
        for attempt in 1..=DUMP_ATTEMPTS {
            let complete = self.exchange(kind, NLM_F_DUMP, body, &mut |kind, body| {
                visit(kind, body, Dump::Entry);
            });
            match complete {
                Ok(false) if attempt < DUMP_ATTEMPTS => visit(0, &[], Dump::Restart),
                Ok(_) => return Ok(()),
                // A table that does not exist yet (a namespace without any route) is empty.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One request and everything that answers it. `Ok(false)` is a dump the kernel marked as
    /// inconsistent.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        visit: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = message(kind, flags | NLM_F_REQUEST, self.sequence, body)?;
        let sent = self.socket.send(&request, 0)?;
        if sent != request.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "short netlink request"));
        }
        let mut consistent = true;
        loop {
            self.received.clear();
            retry(|| self.socket.recv(&mut self.received, 0))?;
            for reply in Messages(&self.received) {
                if reply.sequence_number() != self.sequence {
                    continue;
                }
                consistent &= reply.flags() & NLM_F_DUMP_INTR == 0;
                match reply.message_type() {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        return match leading_i32(reply.payload()) {
                            code if code < 0 => Err(io::Error::from_raw_os_error(-code)),
                            _ => Ok(consistent),
                        };
                    }
                    kind => visit(kind, reply.payload()),
                }
            }
        }
    }
}

/// What a call of a dump's visitor is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dump {
    /// One entry of the table.
    Entry,
    /// Forget all entries: the dump starts again.
    Restart,
}

/// A `NETLINK_ROUTE` socket, bound, listening to the given `RTMGRP_*` groups.
fn open_socket(groups: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    // Kernels before 4.20 have no strict checking and ignore the filters of a dump; every reader
    // below filters again.
    if let Err(error) = socket.set_netlink_get_strict_chk(true) {
        log::debug!("netlink: no strict checking: {error}");
    }
    Ok(socket)
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Puts the header in front of a message body.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = HEADER_LEN + body.len();
    let mut bytes = vec![0; HEADER_LEN];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(
        u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
    );
    header.set_message_type(kind);
    header.set_flags(flags);
    header.set_sequence_number(sequence);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// The messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = NetlinkBuffer<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = NetlinkBuffer::new_checked(self.0).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        let whole = self.0.get(..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkBuffer::new(whole))
    }
}

/// The `int` at the head of `NLMSG_ERROR` and `NLMSG_DONE`.
fn leading_i32(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// Serialises a message of the `netlink-packet-route` crate.
fn emit(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

/// The attributes in a message body, malformed ones left out.
fn attributes(body: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    NlasIterator::new(body).filter_map(Result::ok).filter_map(Attribute::new)
}

/// One attribute: its type without flag bits, its value, and its bytes with header, unpadded.
#[derive(Clone, Copy)]
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn new(nla: NlaBuffer<&'a [u8]>) -> Option<Self> {
        let whole = nla.into_inner().get(..usize::from(nla.length()))?;
        Some(Self { kind: nla.kind(), value: whole.get(4..)?, whole })
    }

    /// The value as the native-endian number most attributes are.
    fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.try_into().ok()?))
    }
}

/// Appends an attribute verbatim, with the padding the format asks for.
fn push_whole(body: &mut Vec<u8>, whole: &[u8]) {
    body.extend_from_slice(whole);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Appends an attribute. Values come from attributes of the kernel's, so they fit.
fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    push_whole(body, value);
}

#[cfg(test)]
mod tests;

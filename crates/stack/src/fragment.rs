//! Fragments of both families: reassembly of what the guest sends, in bounded memory, and fragmentation
//! of what is too long for the guest's link.

use std::net::IpAddr;
use std::time::Duration;

use wire::ethernet;
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, FragmentHeader};
use wire::{FromBytes, IntoBytes, U16, U32, protocol};

use crate::cx::Cx;
use crate::frame::{self, IpFields, Route};
use crate::input::Ip;
use crate::io::{FrameMeta, Guest, HEADROOM, Host};
use crate::time::Instant;

/// Datagrams that can be incomplete at a time; one more pushes the oldest out.
const MAX_DATAGRAMS: usize = 32;
/// The longest payload of a datagram in bytes. With [`MAX_DATAGRAMS`] this bounds the memory.
const MAX_LEN: usize = 65_535;
/// Offsets count in units of this many bytes.
const UNIT: usize = 8;
const UNITS: usize = MAX_LEN.div_ceil(UNIT);

/// One fragment, freed of its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    /// The packet it came in. `protocol` is the one of the fragmentable part.
    pub(crate) ip: Ip,
    /// Identification: 16 bits in IPv4, 32 bits in IPv6.
    pub(crate) id: u32,
    /// Where `data` belongs, in bytes.
    pub(crate) offset: usize,
    /// Whether there are fragments with a higher offset.
    pub(crate) more: bool,
    /// A piece of the payload.
    pub(crate) data: &'a [u8],
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// Part of the key in IPv4 only (RFC 791 §3.2, RFC 8200 §4.5).
    protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Collecting,
    /// Fragments contradicted each other: swallows the rest of them (RFC 5722 §4).
    Refused,
}

#[derive(Debug)]
struct Datagram {
    state: State,
    key: Key,
    started: Instant,
    /// What the fragment with offset 0 said.
    first: Option<Ip>,
    /// Length of the payload, once the last fragment was seen.
    total: Option<usize>,
    data: Vec<u8>,
    /// One bit per unit received.
    received: Box<[u64; UNITS.div_ceil(64)]>,
    received_units: usize,
}

/// Datagrams of which pieces are missing.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    datagrams: Vec<Datagram>,
}

impl Reassembly {
    /// Takes a fragment. If it completes a datagram: the header of its first fragment, with the protocol
    /// named there, and the payload.
    pub(crate) fn insert(&mut self, now: Instant, fragment: &Fragment<'_>) -> Option<(Ip, &[u8])> {
        let Fragment { ip, id, offset, more, data } = *fragment;
        let end = offset + data.len();
        if data.is_empty() || end > MAX_LEN || (more && data.len() % UNIT != 0) {
            return None;
        }
        let protocol = if ip.src.is_ipv4() { ip.protocol } else { 0 };
        let index = self.find(Key { src: ip.src, dst: ip.dst, id, protocol }, now)?;
        let datagram = self.datagrams.get_mut(index)?;
        if !datagram.add(ip, offset, more, data) {
            return None;
        }
        let total = datagram.total?;
        if datagram.received_units != total.div_ceil(UNIT) {
            return None;
        }
        datagram.state = State::Free;
        Some((datagram.first?, datagram.data.get(..total)?))
    }

    /// The datagram with this key, or a fresh one in a free, an expired or the oldest place.
    fn find(&mut self, key: Key, now: Instant) -> Option<usize> {
        let alive = |datagram: &Datagram| {
            datagram.state != State::Free && now.since(datagram.started) < timeout(&datagram.key)
        };
        let same = |datagram: &Datagram| datagram.key == key && alive(datagram);
        if let Some(index) = self.datagrams.iter().position(same) {
            return Some(index);
        }
        let free = self.datagrams.iter().position(|datagram| !alive(datagram));
        let index = if let Some(index) = free {
            index
        } else if self.datagrams.len() < MAX_DATAGRAMS {
            self.datagrams.push(Datagram::new(key, now));
            self.datagrams.len() - 1
        } else {
            let ages = self.datagrams.iter().enumerate();
            ages.min_by_key(|(_, datagram)| datagram.started).map(|(index, _)| index)?
        };
        self.datagrams.get_mut(index)?.restart(key, now);
        Some(index)
    }
}

/// How long to wait for the missing pieces: RFC 8200 §4.5 says 60 s, hosts wait 30 s in IPv4.
fn timeout(key: &Key) -> Duration {
    Duration::from_secs(if key.src.is_ipv4() { 30 } else { 60 })
}

impl Datagram {
    fn new(key: Key, now: Instant) -> Self {
        Self {
            state: State::Free,
            key,
            started: now,
            first: None,
            total: None,
            data: Vec::with_capacity(MAX_LEN),
            received: Box::new([0; UNITS.div_ceil(64)]),
            received_units: 0,
        }
    }

    fn restart(&mut self, key: Key, now: Instant) {
        self.state = State::Collecting;
        self.key = key;
        self.started = now;
        self.first = None;
        self.total = None;
        self.data.clear();
        self.received.fill(0);
        self.received_units = 0;
    }

    /// Adds a piece; `false` if it was not needed or contradicts what is there.
    fn add(&mut self, ip: Ip, offset: usize, more: bool, data: &[u8]) -> bool {
        if self.state != State::Collecting {
            return false;
        }
        let end = offset + data.len();
        let range = offset / UNIT..end.div_ceil(UNIT);
        let had = range.clone().filter(|&unit| self.has(unit)).count();
        let total = if more { self.total } else { Some(end) };
        let repeated = had == range.len() && self.data.get(offset..end) == Some(data);
        let fits = match self.total {
            Some(known) => total == Some(known) && end <= known,
            None => more || self.data.len() <= end,
        };
        if had > 0 || !fits {
            // An exact copy is a duplicate of the network's making; anything else is an attack.
            if !(repeated && fits) {
                self.state = State::Refused;
            }
            return false;
        }
        self.total = total;
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        if let Some(place) = self.data.get_mut(offset..end) {
            place.copy_from_slice(data);
        }
        self.received_units += range.len();
        for unit in range {
            if let Some(word) = self.received.get_mut(unit / 64) {
                *word |= 1 << (unit % 64);
            }
        }
        if offset == 0 {
            self.first = Some(ip);
        }
        true
    }

    fn has(&self, unit: usize) -> bool {
        self.received.get(unit / 64).is_some_and(|word| word & 1 << (unit % 64) != 0)
    }
}

/// Sends a transport packet, checksums complete, that exceeds the MTU of the guest's link: in fragments.
/// `header` (a multiple of 8 bytes) and `payload` follow one another. `false`: the link did not take all of
/// them.
pub(crate) fn send<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    route: &Route,
    fields: &IpFields,
    protocol: u8,
    header: &[u8],
    payload: &[u8],
) -> bool {
    let overhead = match route.dst {
        IpAddr::V4(_) => ipv4::HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN + size_of::<FragmentHeader>(),
    };
    let room = usize::from(cx.guest.limits().mtu).saturating_sub(overhead) / UNIT * UNIT;
    if room <= header.len() || header.len() + payload.len() > MAX_LEN {
        return false;
    }
    let id = cx.link.next_ip_id();
    let (mut header, mut payload) = (header, payload);
    let mut offset = 0;
    loop {
        let (data, rest) = payload.split_at_checked(room - header.len()).unwrap_or((payload, &[]));
        let len = header.len() + data.len();
        let place = (id, offset, !rest.is_empty());
        let Some(slot) = cx.guest.slot(len) else { return false };
        let start = write_fragment(slot, route, fields, protocol, place, [header, data]);
        let Some(start) = start else { return false };
        if !cx.send(start, HEADROOM + len, FrameMeta::default()) {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        offset += len;
        (header, payload) = (&[], rest);
    }
}

/// Writes one fragment with its payload at [`HEADROOM`]; returns where the frame starts.
fn write_fragment(
    slot: &mut [u8],
    route: &Route,
    fields: &IpFields,
    protocol: u8,
    (id, offset, more): (u16, usize, bool),
    [header, data]: [&[u8]; 2],
) -> Option<usize> {
    let (data_start, end) = (HEADROOM + header.len(), HEADROOM + header.len() + data.len());
    slot.get_mut(HEADROOM..data_start)?.copy_from_slice(header);
    slot.get_mut(data_start..end)?.copy_from_slice(data);
    let len = header.len() + data.len();
    let offset = u16::try_from(offset).ok()?;
    match route.dst {
        IpAddr::V4(_) => {
            let start = frame::write_ip(slot, HEADROOM, len, protocol, route, fields)?;
            let ip = slot.get_mut(start + ethernet::HEADER_LEN..)?;
            let (header, _) = Ipv4Header::mut_from_prefix(ip).ok()?;
            let more = if more { ipv4::MORE_FRAGMENTS } else { 0 };
            header.id.set(id);
            header.frag.set((offset / 8) | more);
            let checksum = header.compute_checksum();
            header.checksum.set(checksum);
            Some(start)
        }
        IpAddr::V6(_) => {
            let header = FragmentHeader {
                next_header: protocol,
                reserved: 0,
                offset_flags: U16::new(offset | u16::from(more)),
                id: U32::new(id.into()),
            };
            let l4_start = HEADROOM - size_of::<FragmentHeader>();
            slot.get_mut(l4_start..HEADROOM)?.copy_from_slice(header.as_bytes());
            let len = size_of::<FragmentHeader>() + len;
            frame::write_ip(slot, l4_start, len, protocol::FRAGMENT, route, fields)
        }
    }
}

#[cfg(test)]
mod tests;

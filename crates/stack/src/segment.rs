//! Checksums and segmentation in software, for links without offload.

use wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use wire::ipv4::Ipv4Header;
use wire::ipv6::{self, Ipv6Header};
use wire::tcp::{TcpFlags, TcpHeader};
use wire::udp::{self, UdpHeader};
use wire::{FromBytes, checksum, protocol};

use crate::io::{FrameMeta, Gso};

/// Completes the transport checksum of a frame, if `meta` says that it is due. A frame to which `meta`
/// does not apply is left alone.
pub fn complete_checksum(frame: &mut [u8], meta: &FrameMeta) {
    let Some(start) = meta.csum_start.map(usize::from) else { return };
    let offset = usize::from(meta.csum_offset);
    let Some(transport) = frame.get_mut(start..) else { return };
    let value = !checksum::fold(checksum::sum(transport));
    // Zero means "none" in UDP; in every other protocol both are the same number.
    let value =
        if value == 0 && offset == usize::from(udp::CHECKSUM_OFFSET) { 0xffff } else { value };
    if let Some(field) = transport.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Cuts a superframe into frames as `meta` says, all checksums complete, and hands each to `send`; a frame
/// that is not to be cut is handed on whole. `scratch` needs room for the headers and one segment.
/// Returns how many frames were handed on.
///
/// A frame that makes no sense to cut (no IP, headers that do not fit, no room in `scratch`) is dropped.
pub fn segments(
    frame: &mut [u8],
    meta: &FrameMeta,
    scratch: &mut [u8],
    mut send: impl FnMut(&[u8]),
) -> usize {
    let (size, transport) = match meta.gso {
        Gso::None => {
            complete_checksum(frame, meta);
            send(frame);
            return 1;
        }
        Gso::Tcp(size) => (usize::from(size), protocol::TCP),
        Gso::Udp(size) => (usize::from(size), protocol::UDP),
    };
    let Some(layout) = Layout::of(frame, transport) else { return 0 };
    let Some((headers, payload)) = frame.split_at_checked(layout.payload) else { return 0 };
    if size == 0 {
        return 0;
    }
    let count = payload.len().div_ceil(size).max(1);
    let mut sent = 0;
    for index in 0..count {
        let from = index * size;
        let data = payload.get(from..payload.len().min(from + size)).unwrap_or_default();
        let end = headers.len() + data.len();
        let Some(segment) = scratch.get_mut(..end) else { break };
        let (head, body) = segment.split_at_mut(headers.len());
        head.copy_from_slice(headers);
        body.copy_from_slice(data);
        let place = Place { index, first: index == 0, last: index + 1 == count, offset: from };
        if layout.finish(segment, transport, place).is_none() {
            break;
        }
        send(segment);
        sent += 1;
    }
    sent
}

/// Where a segment stands in its superframe.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    first: bool,
    last: bool,
    /// Offset of its payload in bytes.
    offset: usize,
}

/// Where the headers of a superframe are.
#[derive(Clone, Copy)]
struct Layout {
    ipv4: bool,
    transport: usize,
    payload: usize,
}

impl Layout {
    fn of(frame: &[u8], protocol: u8) -> Option<Self> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        let (ipv4, ip_len, next) = match ethernet.ethertype.get() {
            ETHERTYPE_IPV4 => {
                let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
                (true, header.header_len(), header.protocol)
            }
            ETHERTYPE_IPV6 => {
                let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
                (false, ipv6::HEADER_LEN, header.next_header)
            }
            _ => return None,
        };
        if next != protocol {
            return None;
        }
        let transport = ethernet::HEADER_LEN + ip_len;
        let segment = frame.get(transport..)?;
        let header_len = if protocol == protocol::TCP {
            TcpHeader::parse(segment)?.0.header_len()
        } else {
            UdpHeader::parse_unsized(segment)?;
            udp::HEADER_LEN
        };
        Some(Self { ipv4, transport, payload: transport + header_len })
    }

    /// Makes a copy of the superframe's headers right for the segment behind them.
    fn finish(&self, segment: &mut [u8], protocol: u8, place: Place) -> Option<()> {
        let transport_len = segment.len().checked_sub(self.transport)?;
        let (headers, transport) = segment.split_at_mut_checked(self.transport)?;
        let packet = headers.get_mut(ethernet::HEADER_LEN..)?;
        let pseudo_len = u32::try_from(transport_len).ok()?;
        let pseudo = if self.ipv4 {
            let total = u16::try_from(packet.len() + transport_len).ok()?;
            let (header, options) = Ipv4Header::mut_from_prefix(packet).ok()?;
            header.total_len.set(total);
            // Identifications count modulo 2^16.
            let index = u16::try_from(place.index & 0xffff).unwrap_or(0);
            header.id.set(header.id.get().wrapping_add(index));
            let checksum = header.compute_checksum_with(options);
            header.checksum.set(checksum);
            checksum::pseudo_header_v4(header.src_addr(), header.dst_addr(), protocol, pseudo_len)
        } else {
            let (header, _) = Ipv6Header::mut_from_prefix(packet).ok()?;
            header.payload_len.set(u16::try_from(transport_len).ok()?);
            checksum::pseudo_header_v6(header.src_addr(), header.dst_addr(), protocol, pseudo_len)
        };
        if protocol == protocol::TCP {
            let (header, _) = TcpHeader::mut_from_prefix(transport).ok()?;
            let offset = u32::try_from(place.offset).ok()?;
            header.seq.set(header.seq.get().wrapping_add(offset));
            if !place.first {
                header.flags = header.flags.without(TcpFlags::CWR);
            }
            if !place.last {
                header.flags = header.flags.without(TcpFlags::FIN.union(TcpFlags::PSH));
            }
            header.checksum.set(0);
        } else {
            let (header, _) = UdpHeader::mut_from_prefix(transport).ok()?;
            header.len.set(u16::try_from(transport_len).ok()?);
            header.checksum.set(0);
        }
        let value = checksum::transport_checksum(pseudo, protocol, transport);
        if protocol == protocol::TCP {
            TcpHeader::mut_from_prefix(transport).ok()?.0.checksum.set(value);
        } else {
            UdpHeader::mut_from_prefix(transport).ok()?.0.checksum.set(value);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;

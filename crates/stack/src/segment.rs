//! Checksums and segmentation in software, for links without offload.

use wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use wire::ipv4::Ipv4Header;
use wire::ipv6::{self, Ipv6Header};
use wire::tcp::{TcpFlags, TcpHeader};
use wire::udp::{self, UdpHeader};
use wire::{FromBytes, checksum, protocol};

use crate::io::{FrameMeta, Gso};

/// A way to sum up what is long: [`checksum::sum`], or one for the processor at hand.
pub type Sum = fn(&[u8]) -> u64;

/// Completes the transport checksum of a frame, if `meta` says that it is due. A frame to which `meta`
/// does not apply is left alone.
pub fn complete_checksum(frame: &mut [u8], meta: &FrameMeta, sum: Sum) {
    let Some(start) = meta.csum_start.map(usize::from) else { return };
    let offset = usize::from(meta.csum_offset);
    let Some(transport) = frame.get_mut(start..) else { return };
    let value = !checksum::fold(sum(transport));
    // Zero means "none" in UDP; in every other protocol both are the same number.
    let value =
        if value == 0 && offset == usize::from(udp::CHECKSUM_OFFSET) { 0xffff } else { value };
    if let Some(field) = transport.get_mut(offset..offset + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Cuts a superframe into frames as `meta` says, all checksums complete, and hands each to `send`: its
/// headers, and the piece of the payload behind them. A frame that is not to be cut is handed on whole, as
/// if it were all headers. Returns how many frames were handed on.
///
/// The headers of the superframe are made those of each frame in turn. A frame that makes no sense to cut
/// (no IP, headers that do not fit) is dropped.
pub fn segments(
    frame: &mut [u8],
    meta: &FrameMeta,
    sum: Sum,
    mut send: impl FnMut(&[u8], &[u8]),
) -> usize {
    let (size, transport) = match meta.gso {
        Gso::None => {
            complete_checksum(frame, meta, sum);
            send(frame, &[]);
            return 1;
        }
        Gso::Tcp(size) => (usize::from(size), protocol::TCP),
        Gso::Udp(size) => (usize::from(size), protocol::UDP),
    };
    let Some(mut cut) = Cut::new(frame, transport) else { return 0 };
    let Some((headers, payload)) = frame.split_at_mut_checked(cut.payload) else { return 0 };
    if size == 0 {
        return 0;
    }
    let count = payload.len().div_ceil(size).max(1);
    for index in 0..count {
        let from = index * size;
        let data = payload.get(from..payload.len().min(from + size)).unwrap_or_default();
        let place = Place { first: index == 0, last: index + 1 == count, offset: from };
        if cut.write_headers(headers, (data, sum(data)), place).is_none() {
            return index;
        }
        send(headers, data);
    }
    count
}

/// Where a segment stands in its superframe.
#[derive(Clone, Copy)]
struct Place {
    first: bool,
    last: bool,
    /// Offset of its payload in bytes.
    offset: usize,
}

/// What the segments of a superframe have in common, and what their headers are made from.
struct Cut {
    ipv4: bool,
    protocol: u8,
    /// Where the transport header and the payload start.
    transport: usize,
    payload: usize,
    /// The pseudo-header without the length.
    pseudo: u64,
    /// Of the next segment.
    id: u16,
    /// Of the superframe.
    seq: u32,
    flags: TcpFlags,
}

impl Cut {
    fn new(frame: &[u8], protocol: u8) -> Option<Self> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        let (ipv4, ip_len, next, id, pseudo) = match ethernet.ethertype.get() {
            ETHERTYPE_IPV4 => {
                let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
                let (src, dst) = (header.src_addr(), header.dst_addr());
                let pseudo = checksum::pseudo_header_v4(src, dst, protocol, 0);
                (true, header.header_len(), header.protocol, header.id.get(), pseudo)
            }
            ETHERTYPE_IPV6 => {
                let (header, _) = Ipv6Header::ref_from_prefix(packet).ok()?;
                let (src, dst) = (header.src_addr(), header.dst_addr());
                let pseudo = checksum::pseudo_header_v6(src, dst, protocol, 0);
                (false, ipv6::HEADER_LEN, header.next_header, 0, pseudo)
            }
            _ => return None,
        };
        if next != protocol {
            return None;
        }
        let transport = ethernet::HEADER_LEN + ip_len;
        let segment = frame.get(transport..)?;
        let (header_len, seq, flags) = if protocol == protocol::TCP {
            let (header, ..) = TcpHeader::parse(segment)?;
            (header.header_len(), header.seq.get(), header.flags)
        } else {
            UdpHeader::parse_unsized(segment)?;
            (udp::HEADER_LEN, 0, TcpFlags::empty())
        };
        let payload = transport + header_len;
        Some(Self { ipv4, protocol, transport, payload, pseudo, id, seq, flags })
    }

    /// Makes the headers those of the segment with payload `data`, whose sum is `sum`.
    fn write_headers(
        &mut self,
        headers: &mut [u8],
        (data, sum): (&[u8], u64),
        place: Place,
    ) -> Option<()> {
        let (link, transport) = headers.split_at_mut_checked(self.transport)?;
        let packet = link.get_mut(ethernet::HEADER_LEN..)?;
        let len = transport.len() + data.len();
        if self.ipv4 {
            let total = u16::try_from(packet.len() + len).ok()?;
            let (header, options) = Ipv4Header::mut_from_prefix(packet).ok()?;
            header.total_len.set(total);
            header.id.set(self.id);
            // Identifications count modulo 2^16.
            self.id = self.id.wrapping_add(1);
            let checksum = header.compute_checksum_with(options);
            header.checksum.set(checksum);
        } else {
            let (header, _) = Ipv6Header::mut_from_prefix(packet).ok()?;
            header.payload_len.set(u16::try_from(len).ok()?);
        }
        if self.protocol == protocol::TCP {
            let (header, _) = TcpHeader::mut_from_prefix(transport).ok()?;
            header.seq.set(self.seq.wrapping_add(u32::try_from(place.offset).ok()?));
            let mut flags = self.flags;
            if !place.first {
                flags = flags.without(TcpFlags::CWR);
            }
            if !place.last {
                flags = flags.without(TcpFlags::FIN.union(TcpFlags::PSH));
            }
            header.flags = flags;
            header.checksum.set(0);
        } else {
            let (header, _) = UdpHeader::mut_from_prefix(transport).ok()?;
            header.len.set(u16::try_from(len).ok()?);
            header.checksum.set(0);
        }
        let pseudo = self.pseudo + u64::try_from(len).ok()?;
        // Transport headers have an even length: the payload's sum just adds to theirs.
        let pseudo = pseudo + sum;
        let value = checksum::transport_checksum(pseudo, self.protocol, transport);
        if self.protocol == protocol::TCP {
            TcpHeader::mut_from_prefix(transport).ok()?.0.checksum.set(value);
        } else {
            UdpHeader::mut_from_prefix(transport).ok()?.0.checksum.set(value);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;

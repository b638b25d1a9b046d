//! What a kernel or a network card does to a frame that asked for offloads: checksums completed,
//! superframes cut. Written apart from [`crate::segment`], so that each can be tried against the other.

use wire::ethernet::{ETHERTYPE_IPV4, HEADER_LEN as ETHERNET_LEN};
use wire::{checksum, protocol};

use crate::io::{FrameMeta, Gso};

const IPV6_LEN: usize = 40;

/// Completes checksums and cuts; hands each resulting frame to `emit`. A frame that does not make sense
/// is an error that says why.
pub fn cut(frame: &[u8], meta: FrameMeta, mut emit: impl FnMut(&[u8])) -> Result<(), &'static str> {
    let mut whole = frame.to_vec();
    let Some(start) = meta.csum_start else {
        if meta.gso != Gso::None {
            return Err("segmentation without checksum offload");
        }
        emit(&whole);
        return Ok(());
    };
    let l4 = usize::from(start);
    let field = l4 + usize::from(meta.csum_offset);
    if field + 2 > whole.len() {
        return Err("checksum field outside the frame");
    }
    let is_v4 = whole[12..14] == ETHERTYPE_IPV4.to_be_bytes();
    let (segment_size, header_len) = match meta.gso {
        Gso::None => {
            complete(&mut whole, l4, field, meta.csum_offset == 6);
            emit(&whole);
            return Ok(());
        }
        Gso::Tcp(size) => {
            let words = whole.get(l4 + 12).ok_or("no TCP header")? >> 4;
            (usize::from(size), usize::from(words) * 4)
        }
        Gso::Udp(size) => (usize::from(size), 8),
    };
    let headers = l4 + header_len;
    if segment_size == 0 || headers > whole.len() {
        return Err("segment size of zero or headers longer than the frame");
    }
    // The sum in the field covers the pseudo header with the whole length: taken out here, and each
    // piece's own put in.
    let declared = u64::from(u16::from_be_bytes([whole[field], whole[field + 1]]));
    let protocol_number =
        if matches!(meta.gso, Gso::Tcp(_)) { protocol::TCP } else { protocol::UDP };
    let addresses = address_sum(&whole, is_v4) + u64::from(protocol_number);
    if checksum::fold(addresses + (whole.len() - l4) as u64) != checksum::fold(declared) {
        return Err("the partial checksum is not that of the pseudo header");
    }
    let payload = whole.split_off(headers);
    let count = payload.chunks(segment_size).count();
    for (n, piece) in payload.chunks(segment_size).enumerate() {
        let mut packet = whole.clone();
        packet.extend_from_slice(piece);
        let ip_len = packet.len() - ETHERNET_LEN;
        if is_v4 {
            let id = u16::from_be_bytes([packet[18], packet[19]]).wrapping_add(n as u16);
            packet[16..18].copy_from_slice(&(ip_len as u16).to_be_bytes());
            packet[18..20].copy_from_slice(&id.to_be_bytes());
            packet[24..26].fill(0);
            let sum = !checksum::fold(checksum::sum(&packet[ETHERNET_LEN..l4]));
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            let len = ((ip_len - IPV6_LEN) as u16).to_be_bytes();
            packet[18..20].copy_from_slice(&len);
        }
        if protocol_number == protocol::TCP {
            let seq = [packet[l4 + 4], packet[l4 + 5], packet[l4 + 6], packet[l4 + 7]];
            let seq = u32::from_be_bytes(seq).wrapping_add((n * segment_size) as u32);
            packet[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
            if n + 1 < count {
                packet[l4 + 13] &= !0x09;
            }
            if n > 0 {
                packet[l4 + 13] &= !0x80;
            }
        } else {
            let len = ((packet.len() - l4) as u16).to_be_bytes();
            packet[l4 + 4..l4 + 6].copy_from_slice(&len);
        }
        let partial = checksum::fold(addresses + (packet.len() - l4) as u64);
        packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
        complete(&mut packet, l4, field, protocol_number == protocol::UDP);
        emit(&packet);
    }
    Ok(())
}

fn complete(frame: &mut [u8], start: usize, field: usize, udp: bool) {
    let mut sum = !checksum::fold(checksum::sum(&frame[start..]));
    if udp && sum == 0 {
        sum = 0xffff;
    }
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

fn address_sum(frame: &[u8], is_v4: bool) -> u64 {
    checksum::sum(if is_v4 { &frame[26..34] } else { &frame[22..54] })
}

#[cfg(test)]
mod tests {
    use wire::ethernet::MacAddr;
    use wire::tcp::TcpFlags;
    use wire::tcp_option::TcpOptions;

    use super::*;
    use crate::segment;
    use crate::sim::packet::TcpOut;
    use crate::sim::world::ends;

    /// Two implementations, written apart, give the same frames.
    #[test]
    fn as_segment_cuts() {
        for (ipv6, len, size) in
            [(false, 10_000, 1_448), (true, 10_000, 1_428), (false, 1_448, 1_448), (true, 1, 536)]
        {
            let (guest, peer) = ends(0, ipv6);
            let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
            let out = TcpOut {
                macs: (MacAddr([2; 6]), MacAddr([4; 6])),
                src: peer,
                dst: guest,
                seq: u32::MAX - 3_000,
                ack: 7,
                flags,
                window: 9,
                options: TcpOptions { timestamps: Some((1, 2)), ..TcpOptions::default() },
            };
            let mut frame = Vec::new();
            out.build(&mut frame, len, |buf| buf.fill(0x37));
            let l4 = if ipv6 { 54 } else { 34 };
            let (src, dst) = (peer.ip(), guest.ip());
            let whole = (frame.len() - l4) as u32;
            let pseudo = checksum::pseudo_header(src, dst, protocol::TCP, whole);
            let partial = checksum::partial_for_offload(pseudo);
            frame[l4 + 16..l4 + 18].copy_from_slice(&partial.to_be_bytes());
            let gso = Gso::Tcp(size);
            let meta = FrameMeta { gso, csum_start: Some(l4 as u16), csum_offset: 16 };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            cut(&frame, meta, |piece| ours.push(piece.to_vec())).unwrap();
            segment::segments(&mut frame, &meta, checksum::sum, |headers, data| {
                theirs.push([headers, data].concat());
            });
            assert_eq!(ours.len(), len.div_ceil(usize::from(size)));
            assert_eq!(ours, theirs);
        }
    }
}

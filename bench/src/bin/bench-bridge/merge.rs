//! TCP segments that follow each other, made one superframe: what a guest's kernel does with what its card
//! received together (`NAPI`, generic receive offload).

use anyhow::{Context as _, Result, bail};
use stack::coalesce::Run;
use std::io::IoSlice;
use wire::ethernet::{self, ETHERTYPE_IPV4, EthernetHeader, MIN_FRAME_LEN};
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};
use wire::tcp::{self, TcpHeader};
use wire::vnet_hdr::{GSO_TCPV4, GSO_TCPV6, VnetHdr};
use wire::{FromBytes, IntoBytes, checksum, protocol};

/// Bytes that an IP packet can have.
const LONGEST: usize = 65_535;
/// Headers of a frame: Ethernet, IP, TCP with options.
const HEADERS: usize = 14 + 40 + 60;

/// Hands all frames to `write`, a virtio header in front, and those that belong together as one.
pub(crate) fn merged<'a>(
    mut frames: impl Iterator<Item = Result<&'a [u8]>>,
    mut write: impl FnMut(&[IoSlice<'_>]) -> Result<()>,
) -> Result<()> {
    let plain = VnetHdr::PLAIN;
    let mut waiting = frames.next().transpose()?;
    while let Some(first) = waiting.take() {
        waiting = frames.next().transpose()?;
        let second = waiting.filter(|second| second.len() <= first.len());
        // What is that short may have padding.
        let run = second.filter(|_| first.len() > MIN_FRAME_LEN).and_then(|second| {
            let fits = first.len() + second.len() <= LONGEST;
            Some((Run::start(first, second).filter(|_| fits)?, second))
        });
        let Some((mut run, mut last)) = run else {
            write(&[IoSlice::new(plain.as_bytes()), IoSlice::new(first)])?;
            continue;
        };
        let mut len = first.len() + last.len();
        loop {
            waiting = frames.next().transpose()?;
            // All but the last have one size.
            let fits = |next: &&[u8]| {
                last.len() == first.len()
                    && next.len() <= first.len()
                    && len + next.len() <= LONGEST
            };
            match waiting.filter(fits) {
                Some(next) if run.takes(next) => (last, len) = (next, len + next.len()),
                Some(_) | None => break,
            }
        }
        superframe(&run, last, &mut write)?;
    }
    Ok(())
}

/// Writes a run whose last frame is `last`.
fn superframe(
    run: &Run<'_>,
    last: &[u8],
    write: &mut impl FnMut(&[IoSlice<'_>]) -> Result<()>,
) -> Result<()> {
    let payloads = run.payloads();
    let size = payloads.first().map_or(0, |payload| payload.len());
    let whole = payloads.iter().map(|payload| payload.len()).sum();
    let (headers, _) = run.first().split_at(run.first().len() - size);
    let mut room = [0; HEADERS];
    let headers = match room.get_mut(..headers.len()) {
        Some(room) => {
            room.copy_from_slice(headers);
            room
        }
        None => bail!("{} bytes of headers", headers.len()),
    };
    let virtio = rewrite(headers, (whole, size), last).context("headers of a superframe")?;
    let mut pieces = vec![IoSlice::new(virtio.as_bytes()), IoSlice::new(headers)];
    pieces.extend_from_slice(payloads);
    write(&pieces)
}

/// Makes the headers of a segment those of a superframe of `whole` bytes in segments of `size`, and makes the
/// virtio header for it.
fn rewrite(headers: &mut [u8], (whole, size): (usize, usize), last: &[u8]) -> Option<VnetHdr> {
    let all = headers.len();
    let (ethernet, packet) = EthernetHeader::mut_from_prefix(headers).ok()?;
    let ipv4 = ethernet.ethertype.get() == ETHERTYPE_IPV4;
    let ip_len = if ipv4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let (ip, transport) = packet.split_at_mut_checked(ip_len)?;
    let len = transport.len() + whole;
    let transport_len = u32::try_from(len).ok()?;
    let pseudo = if ipv4 {
        let (header, _) = Ipv4Header::mut_from_prefix(ip).ok()?;
        header.total_len.set(u16::try_from(ip_len + len).ok()?);
        header.checksum.set(header.compute_checksum());
        let (src, dst) = (header.src_addr(), header.dst_addr());
        checksum::pseudo_header_v4(src, dst, protocol::TCP, transport_len)
    } else {
        let (header, _) = Ipv6Header::mut_from_prefix(ip).ok()?;
        header.payload_len.set(u16::try_from(len).ok()?);
        let (src, dst) = (header.src_addr(), header.dst_addr());
        checksum::pseudo_header_v6(src, dst, protocol::TCP, transport_len)
    };
    let start = ethernet::HEADER_LEN + ip_len;
    let (tcp, _) = TcpHeader::mut_from_prefix(transport).ok()?;
    tcp.flags = TcpHeader::parse(last.get(start..)?)?.0.flags;
    tcp.checksum.set(checksum::partial_for_offload(pseudo));
    let mut virtio = VnetHdr::with_checksum(u16::try_from(start).ok()?, tcp::CHECKSUM_OFFSET);
    virtio.gso_type = if ipv4 { GSO_TCPV4 } else { GSO_TCPV6 };
    virtio.gso_size.set(u16::try_from(size).ok()?);
    virtio.hdr_len.set(u16::try_from(all).ok()?);
    Some(virtio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::io::{FrameMeta, Gso};
    use stack::segment;
    use wire::tcp::TcpFlags;

    /// The frames of a TCP segment that was cut, and what a guest gets if they arrive together with others.
    fn through(ipv6: bool, len: usize, size: u16) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut frame = headers(ipv6);
        let start = frame.len() - 20;
        frame.extend((0..len).map(|at| at.to_le_bytes()[0]));
        let meta = FrameMeta {
            gso: Gso::Tcp(size),
            csum_start: Some(u16::try_from(start).unwrap()),
            csum_offset: tcp::CHECKSUM_OFFSET,
        };
        let arp = vec![6; 60];
        let mut frames = vec![arp.clone()];
        segment::segments(&mut frame, &meta, checksum::sum, |head, data| {
            frames.push([head, data].concat());
        });
        frames.push(arp);
        let mut written = Vec::new();
        let write = |pieces: &[IoSlice<'_>]| {
            written.push(pieces.iter().flat_map(|piece| piece.to_vec()).collect());
            Ok(())
        };
        merged(frames.iter().map(|frame| Ok(&frame[..])), write).unwrap();
        (frames, written)
    }

    fn headers(ipv6: bool) -> Vec<u8> {
        let mut tcp = TcpHeader { flags: TcpFlags::ACK | TcpFlags::PSH, ..TcpHeader::default() };
        tcp.set_options_len(0);
        let (ethertype, ip) = if ipv6 {
            let header = Ipv6Header::new(6, 64, [1; 16].into(), [2; 16].into(), 0);
            (ethernet::ETHERTYPE_IPV6, header.as_bytes().to_vec())
        } else {
            let header = Ipv4Header::new(6, 64, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 0);
            (ETHERTYPE_IPV4, header.as_bytes().to_vec())
        };
        let mac = ethernet::MacAddr([2; 6]);
        let ethernet = EthernetHeader::new(mac, mac, ethertype);
        [ethernet.as_bytes(), &ip, tcp.as_bytes()].concat()
    }

    /// What the receiver of a virtio header makes of a frame.
    fn cut(written: &[u8]) -> Vec<Vec<u8>> {
        let (virtio, frame) = VnetHdr::parse(written).unwrap();
        let gso = match virtio.gso_kind() {
            GSO_TCPV4 | GSO_TCPV6 => Gso::Tcp(virtio.gso_size.get()),
            _ => return vec![frame.to_vec()],
        };
        let (start, csum_offset) = (virtio.csum_start.get(), virtio.csum_offset.get());
        let meta = FrameMeta { gso, csum_start: Some(start), csum_offset };
        let mut frames = Vec::new();
        segment::segments(&mut frame.to_vec(), &meta, checksum::sum, |head, data| {
            frames.push([head, data].concat());
        });
        frames
    }

    #[test]
    fn superframes_are_the_frames_they_were_made_of() {
        for ipv6 in [false, true] {
            for (len, size, superframes) in [
                (1, 1460, 1),
                (3000, 1460, 1),
                (4380, 1460, 1),
                (100_000, 1460, 2),
                (60_000, 8948, 1),
            ] {
                let (frames, written) = through(ipv6, len, size);
                assert_eq!(written.len(), superframes + 2, "{len} bytes in pieces of {size}");
                let again: Vec<Vec<u8>> = written.iter().flat_map(|frame| cut(frame)).collect();
                assert_eq!(again.len(), frames.len());
                // The numbers of the second superframe go on where the first one stopped: all is equal
                // but the PSH bits between, and with them the checksums.
                for (again, frame) in again.iter().zip(&frames) {
                    assert_eq!(again.len(), frame.len());
                    assert_eq!(again.get(74..), frame.get(74..));
                }
                if superframes == 1 {
                    assert_eq!(again, frames);
                }
            }
        }
    }
}

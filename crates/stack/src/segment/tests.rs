use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use wire::IntoBytes;

use super::*;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

fn cut(frame: &[u8], meta: &FrameMeta) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let count = segments(&mut frame.to_vec(), meta, checksum::sum, |headers, data| {
        out.push([headers, data].concat());
    });
    assert_eq!(count, out.len());
    out
}

/// Checks lengths and checksums with etherparse. Payload; sequence number and flags of TCP; IPv4
/// identification.
fn check(frame: &[u8]) -> (Vec<u8>, Option<(u32, u8)>, Option<u16>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let v4 = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => Some(ip.header().to_header()),
        _ => None,
    };
    let v6 = match &packet.net {
        Some(NetSlice::Ipv6(ip)) => Some(ip.header().to_header()),
        _ => None,
    };
    if let Some(header) = &v4 {
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), frame.len() - 14);
    }
    if let Some(header) = &v6 {
        assert_eq!(usize::from(header.payload_length), frame.len() - 54);
    }
    let id = v4.as_ref().map(|header| header.identification);
    if let Some(TransportSlice::Tcp(tcp)) = &packet.transport {
        let expected = match (&v4, &v6) {
            (Some(ip), _) => tcp.calc_checksum_ipv4(ip.source, ip.destination),
            (_, Some(ip)) => tcp.calc_checksum_ipv6(ip.source, ip.destination),
            (None, None) => panic!("no IP"),
        };
        assert_eq!(tcp.checksum(), expected.unwrap());
        let flags = tcp.slice()[13];
        return (tcp.payload().to_vec(), Some((tcp.sequence_number(), flags)), id);
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("{packet:?}") };
    let expected = match (&v4, &v6) {
        (Some(ip), _) => udp.to_header().calc_checksum_ipv4(ip, udp.payload()),
        (_, Some(ip)) => udp.to_header().calc_checksum_ipv6(ip, udp.payload()),
        (None, None) => panic!("no IP"),
    };
    assert_eq!(udp.checksum(), expected.unwrap());
    assert_eq!(usize::from(udp.length()), udp.payload().len() + 8);
    (udp.payload().to_vec(), None, id)
}

fn superframe(v6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(MACS.0, MACS.1);
    let ip = if v6 {
        ethernet.ipv6([1; 16], [2; 16], 64)
    } else {
        ethernet.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
    };
    let mut out = Vec::new();
    if tcp {
        let mut step = ip.tcp(1000, 2000, 0xffff_f000, 500).ack(7).psh().fin();
        step = step.options_raw(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        step.write(&mut out, payload).unwrap();
        let flags = out.len() - payload.len() - 32 + 13;
        out[flags] |= 0x80;
    } else {
        ip.udp(1000, 2000).write(&mut out, payload).unwrap();
    }
    out
}

proptest! {
    #[test]
    fn pieces_are_right_and_make_the_whole(
        v6 in any::<bool>(),
        tcp in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..20_000),
        size in 1u16..1500,
    ) {
        let frame = superframe(v6, tcp, &payload);
        let gso = if tcp { Gso::Tcp(size) } else { Gso::Udp(size) };
        let pieces = cut(&frame, &FrameMeta { gso, csum_start: Some(34), csum_offset: 0 });
        prop_assert_eq!(pieces.len(), payload.len().div_ceil(size.into()).max(1));
        let mut whole = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            let (data, tcp, id) = check(piece);
            if let Some((seq, flags)) = tcp {
                let offset = u32::try_from(whole.len()).unwrap();
                prop_assert_eq!(seq, 0xffff_f000_u32.wrapping_add(offset));
                let last = i + 1 == pieces.len();
                prop_assert_eq!(flags & 0x09, if last { 0x09 } else { 0 }, "FIN and PSH");
                prop_assert_eq!(flags & 0x80, if i == 0 { 0x80 } else { 0 }, "CWR");
                prop_assert_eq!(flags & 0x10, 0x10);
            }
            if let Some(id) = id {
                prop_assert_eq!(usize::from(id), i);
            }
            prop_assert!(i + 1 == pieces.len() || data.len() == usize::from(size));
            whole.extend_from_slice(&data);
        }
        prop_assert_eq!(whole, payload);
    }

    #[test]
    fn checksums_are_completed(
        v6 in any::<bool>(),
        tcp in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut frame = superframe(v6, tcp, &payload);
        let start = if v6 { 54 } else { 34 };
        let (offset, protocol) = if tcp { (16, 6) } else { (6, 17) };
        let len = u32::try_from(frame.len() - start).unwrap();
        let partial = if v6 {
            checksum::pseudo_header_v6([1; 16].into(), [2; 16].into(), protocol, len)
        } else {
            checksum::pseudo_header_v4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), protocol, len)
        };
        let partial = checksum::partial_for_offload(partial).to_be_bytes();
        frame[start + offset..start + offset + 2].copy_from_slice(&partial);
        let meta = FrameMeta {
            gso: Gso::None,
            csum_start: Some(u16::try_from(start).unwrap()),
            csum_offset: u16::try_from(offset).unwrap(),
        };
        let pieces = cut(&frame, &meta);
        prop_assert_eq!(pieces.len(), 1);
        prop_assert_eq!(check(&pieces[0]).0, payload);
    }

    #[test]
    fn rubbish_is_survived(
        mut frame in prop::collection::vec(any::<u8>(), 0..200),
        sensible in any::<bool>(),
        size in any::<u16>(),
        tcp in any::<bool>(),
        csum_start in prop::option::of(0u16..300),
        csum_offset in any::<u16>(),
    ) {
        if sensible && frame.len() > 40 {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[23] = if tcp { 6 } else { 17 };
        }
        let gso = if tcp { Gso::Tcp(size) } else { Gso::Udp(size) };
        for gso in [gso, Gso::None] {
            let meta = FrameMeta { gso, csum_start, csum_offset };
            segments(&mut frame, &meta, checksum::sum, |_, _| {});
        }
    }
}

#[test]
fn udp_never_carries_a_zero_checksum() {
    // Payload chosen so that the sum comes out as ffff, whose complement is zero.
    let mut frame = superframe(false, false, &[0, 0]);
    let udp = *UdpHeader::ref_from_prefix(&frame[34..]).unwrap().0;
    let wanted = udp.checksum.get();
    frame[42..44].copy_from_slice(&wanted.to_be_bytes());
    let udp = UdpHeader { checksum: 0.into(), ..udp };
    frame[34..42].copy_from_slice(udp.as_bytes());
    let meta = FrameMeta { gso: Gso::Udp(100), csum_start: None, csum_offset: 0 };
    assert_eq!(cut(&frame, &meta)[0][40..42], [0xff, 0xff]);
}

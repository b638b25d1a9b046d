//! Packet captures, read back by somebody else's code.

mod common;

use common::{FAMILIES, Terms, World, datagrams, rig, transfer};
use etherparse::{SlicedPacket, TransportSlice};
use pcap_file::pcap::PcapReader;
use pcap_file::{DataLink, Endianness};
use sys::tun::Offload;

#[test]
fn frames_of_both_directions_with_checksums() {
    rig("frames_of_both_directions_with_checksums", |rig| {
        for (offload, mtu, port) in
            [(Offload::Udp, 65_520, 5000), (Offload::None, 1500, 5100), (Offload::Udp, 1500, 5200)]
        {
            let path = rig.tmp().join(format!("{port}.pcap"));
            let pcap = Some(path.clone());
            let world = World::new(Terms { offload, mtu, pcap, ..Terms::default() });
            for (family, port) in FAMILIES.into_iter().zip([port, port + 10]) {
                transfer(&world, family, port, 300_000);
                let (ours, theirs) = datagrams(&world, family, port + 5);
                theirs.send(b"tiny").unwrap();
                ours.recv(&mut [0; 10]).unwrap();
            }
            world.end();

            let mut reader = PcapReader::new(std::fs::File::open(&path)?)?;
            let header = reader.header();
            assert_eq!((header.version_major, header.version_minor), (2, 4));
            assert_eq!((header.snaplen, header.datalink), (65_535, DataLink::ETHERNET));
            assert_eq!(header.endianness, Endianness::native());
            let mut bytes = [0; 2];
            let mut last = std::time::Duration::ZERO;
            while let Some(packet) = reader.next_packet() {
                let packet = packet?;
                assert!(packet.timestamp >= last);
                last = packet.timestamp;
                assert_eq!(packet.orig_len as usize, packet.data.len());
                let from_guest = packet.data[6..12] == [2, 0, 0, 0, 0, 0x77];
                assert!(packet.data.len() >= 60 || from_guest, "frames of ours are padded");
                let sliced = SlicedPacket::from_ethernet(&packet.data)?;
                bytes[usize::from(from_guest)] += check(&sliced);
            }
            assert!(bytes.iter().all(|bytes| *bytes > 600_000), "{bytes:?}");
        }
        Ok(())
    });
}

/// Checks the checksum of a packet and returns the length of its payload.
fn check(packet: &SlicedPacket<'_>) -> usize {
    use etherparse::NetSlice;
    let (v4, v6) = match &packet.net {
        Some(NetSlice::Ipv4(v4)) => (Some(v4.header().to_header()), None),
        Some(NetSlice::Ipv6(v6)) => (None, Some(v6.header().to_header())),
        _ => (None, None),
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            let expected = match (v4, v6) {
                (Some(v4), _) => header.calc_checksum_ipv4(&v4, payload).expect("short"),
                (_, Some(v6)) => header.calc_checksum_ipv6(&v6, payload).expect("short"),
                (None, None) => panic!("TCP over nothing"),
            };
            assert_eq!(header.checksum, expected);
            payload.len()
        }
        Some(TransportSlice::Udp(udp)) => {
            let (header, payload) = (udp.to_header(), udp.payload());
            let expected = match (v4, v6) {
                (Some(v4), _) => header.calc_checksum_ipv4(&v4, payload).expect("short"),
                (_, Some(v6)) => header.calc_checksum_ipv6(&v6, payload).expect("short"),
                (None, None) => panic!("UDP over nothing"),
            };
            assert_eq!(header.checksum, expected);
            payload.len()
        }
        _ => 0,
    }
}

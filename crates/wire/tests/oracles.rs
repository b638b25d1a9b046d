//! Headers and checksums against implementations by other people.

use std::io::Cursor;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use wire::ethernet::EthernetHeader;
use wire::ipv4::Ipv4Header;
use wire::ipv6::{Ipv6Header, walk_extensions};
use wire::tcp::{TcpFlags, TcpHeader};
use wire::tcp_option::{MAX_LEN, TcpOptions};
use wire::udp::UdpHeader;
use wire::{IntoBytes, checksum, icmp6, pcap, protocol};

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("test packets are short")
}

proptest! {
    /// What etherparse builds is read back field by field, and its checksums verify.
    #[test]
    fn tcp_over_ipv4(
        src: [u8; 4], dst: [u8; 4], ports: (u16, u16), seq: u32, ack: u32, window: u16, ttl: u8,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(src, dst, ttl)
            .tcp(ports.0, ports.1, seq, window)
            .ack(ack)
            .psh()
            .options(&[
                etherparse::TcpOptionElement::MaximumSegmentSize(1460),
                etherparse::TcpOptionElement::WindowScale(7),
                etherparse::TcpOptionElement::SelectiveAcknowledgementPermitted,
                etherparse::TcpOptionElement::Timestamp(seq, ack),
            ])
            .unwrap()
            .write(&mut frame, &payload)
            .unwrap();
        let (ethernet, packet) = EthernetHeader::parse(&frame).unwrap();
        prop_assert_eq!(ethernet.ethertype.get(), wire::ethernet::ETHERTYPE_IPV4);
        let (ip, _, segment) = Ipv4Header::parse(packet).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.ttl, ip.protocol), (src, dst, ttl, protocol::TCP));
        prop_assert_eq!(ip.compute_checksum(), ip.checksum.get());
        let pseudo =
            checksum::pseudo_header_v4(ip.src_addr(), ip.dst_addr(), ip.protocol, length(segment));
        prop_assert!(checksum::verify(pseudo, segment));
        let (tcp, options, body) = TcpHeader::parse(segment).unwrap();
        prop_assert_eq!((tcp.src_port.get(), tcp.dst_port.get()), ports);
        prop_assert_eq!((tcp.seq.get(), tcp.ack.get(), tcp.window.get()), (seq, ack, window));
        prop_assert_eq!(tcp.flags, TcpFlags::ACK | TcpFlags::PSH);
        prop_assert_eq!(body, &payload[..]);
        let expected = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((seq, ack)),
            ..TcpOptions::default()
        };
        prop_assert_eq!(TcpOptions::parse(options), expected);
    }

    /// What is built here is read by etherparse, checksums included.
    #[test]
    fn udp_over_ipv6(
        src: [u8; 16], dst: [u8; 16], ports: (u16, u16), label in 0u32..0x10_0000, class: u8,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let len = u16::try_from(payload.len()).unwrap();
        let (src, dst) = (Ipv6Addr::from(src), Ipv6Addr::from(dst));
        let mut ip = Ipv6Header::new(protocol::UDP, 64, src, dst, len + 8);
        ip.set_flow_label(label);
        ip.set_traffic_class(class);
        let mut datagram = UdpHeader::new(ports.0, ports.1, len).as_bytes().to_vec();
        datagram.extend_from_slice(&payload);
        let pseudo = checksum::pseudo_header_v6(src, dst, protocol::UDP, length(&datagram));
        let value = checksum::transport_checksum(pseudo, protocol::UDP, &datagram);
        datagram[6..8].copy_from_slice(&value.to_be_bytes());
        let packet = [ip.as_bytes(), &datagram].concat();

        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(etherparse::NetSlice::Ipv6(net)) = sliced.net else { panic!("not IPv6") };
        prop_assert_eq!(net.header().flow_label().value(), label);
        prop_assert_eq!(net.header().traffic_class(), class);
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("not UDP") };
        prop_assert_eq!((udp.source_port(), udp.destination_port()), ports);
        prop_assert_eq!(udp.payload(), &payload[..]);
        let expected =
            udp.to_header().calc_checksum_ipv6_raw(src.octets(), dst.octets(), &payload).unwrap();
        prop_assert_eq!(udp.checksum(), expected);
        // A short cut through the accumulator must not differ either.
        prop_assert!(checksum::verify(pseudo, &datagram));
    }

    /// The IPv4 header's checksum and an ICMPv6 message's.
    #[test]
    fn other_checksums(src: [u8; 4], dst: [u8; 4], ttl: u8, proto: u8, len in 0u16..1400,
                       src6: [u8; 16], dst6: [u8; 16], body: [u8; 32]) {
        let header = Ipv4Header::new(proto, ttl, Ipv4Addr::from(src), Ipv4Addr::from(dst), len);
        let mut theirs = etherparse::Ipv4Header::new(len, ttl, proto.into(), src, dst).unwrap();
        theirs.dont_fragment = true;
        theirs.header_checksum = theirs.calc_header_checksum();
        prop_assert_eq!(header.as_bytes(), &theirs.to_bytes()[..]);

        let mut message = [&[128, 0, 0, 0], &body[..]].concat();
        icmp6::set_checksum(&mut message, src6.into(), dst6.into());
        let theirs = etherparse::Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader::from_bytes(
            [body[0], body[1], body[2], body[3]],
        ));
        let expected = theirs.calc_checksum(src6, dst6, &body[4..]).unwrap();
        prop_assert_eq!(u16::from_be_bytes([message[2], message[3]]), expected);
    }

    /// Options survive a round trip, and etherparse reads the same.
    #[test]
    fn tcp_options_round_trip(
        mss: Option<u16>, window_scale: Option<u8>, sack_permitted: bool,
        timestamps: Option<(u32, u32)>, blocks in prop::collection::vec(any::<(u32, u32)>(), 0..5),
    ) {
        let mut options =
            TcpOptions { mss, window_scale, sack_permitted, timestamps, ..TcpOptions::default() };
        for (left, right) in &blocks {
            options.push_sack(*left, *right);
        }
        let mut out = [0; MAX_LEN];
        let len = options.emit(&mut out);
        prop_assert_eq!(len % 4, 0);
        let parsed = TcpOptions::parse(&out[..len]);
        let fits = parsed.sack_blocks().len();
        prop_assert_eq!(parsed.sack_blocks(), &blocks[..fits]);
        prop_assert!(fits == blocks.len() || len + 8 > MAX_LEN);
        options.sack = parsed.sack;
        options.sack_count = parsed.sack_count;
        prop_assert_eq!(parsed, options);
        for element in etherparse::TcpOptionsIterator::from_slice(&out[..len]) {
            prop_assert!(element.is_ok(), "{:?}", element);
        }
    }

    /// No view or walk panics, whatever the bytes.
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), kind: u8) {
        let _ = EthernetHeader::parse(&bytes);
        let _ = Ipv4Header::parse(&bytes);
        let _ = Ipv6Header::parse(&bytes);
        let _ = TcpHeader::parse(&bytes);
        let _ = UdpHeader::parse(&bytes);
        let _ = TcpOptions::parse(&bytes);
        let _ = wire::arp::ArpPacket::parse(&bytes);
        if let Ok(found) = walk_extensions(kind, &bytes) {
            prop_assert!(found.payload.len() <= bytes.len());
        }
    }
}

/// Extension headers built by etherparse are walked to the same transport.
#[test]
fn extension_headers() {
    use etherparse::{
        IpAuthHeader, IpNumber, Ipv6Extensions, Ipv6RawExtHeader, Ipv6RoutingExtensions,
    };
    let raw = |n: usize| Ipv6RawExtHeader::new_raw(IpNumber(0), &vec![0; 6 + 8 * n]).unwrap();
    let mut extensions = Ipv6Extensions {
        hop_by_hop_options: Some(raw(0)),
        destination_options: Some(raw(3)),
        routing: Some(Ipv6RoutingExtensions {
            routing: raw(2),
            final_destination_options: Some(raw(1)),
        }),
        fragment: None,
        auth: Some(IpAuthHeader::new(IpNumber(0), 1, 2, &[0; 12]).unwrap()),
    };
    let first = extensions.set_next_headers(IpNumber::UDP);
    let mut bytes = Vec::new();
    extensions.write(&mut bytes, first).unwrap();
    let headers = bytes.len();
    bytes.extend_from_slice(b"payload");
    let found = walk_extensions(first.0, &bytes).unwrap();
    assert_eq!((found.protocol, found.payload, found.fragment), (17, &bytes[headers..], None));
}

/// A capture of ours is read by pcap-file.
#[test]
fn pcap_file_reads_it() {
    let mut file = pcap::FileHeader::ETHERNET.as_bytes().to_vec();
    let times = [Duration::new(1_800_000_000, 999_999_999), Duration::new(1_800_000_001, 1_000)];
    for (time, len) in times.iter().zip([60u32, 1514]) {
        file.extend_from_slice(pcap::RecordHeader::new(*time, len, len).as_bytes());
        file.resize(file.len() + len as usize, 0xab);
    }
    let mut reader = pcap_file::pcap::PcapReader::new(Cursor::new(file)).unwrap();
    let header = reader.header();
    assert_eq!(header.datalink, pcap_file::DataLink::ETHERNET);
    assert_eq!((header.version_major, header.version_minor, header.snaplen), (2, 4, 65535));
    for (time, len) in times.iter().zip([60usize, 1514]) {
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!(packet.timestamp.as_secs(), time.as_secs());
        assert_eq!(packet.timestamp.subsec_micros(), time.subsec_micros());
        assert_eq!((packet.data.len(), packet.orig_len as usize), (len, len));
    }
    assert!(reader.next_packet().is_none());
}

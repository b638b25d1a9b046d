//! Frames in words, for `--trace`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use wire::arp::ArpPacket;
use wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use wire::tcp::TcpHeader;
use wire::udp::UdpHeader;
use wire::{FromBytes, protocol};

/// A frame, or what stands at the beginning of one, in one line.
#[derive(Debug)]
pub(super) struct Frame<'a>(pub &'a [u8]);

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())?;
        let Some((header, packet)) = EthernetHeader::parse(self.0) else { return Ok(()) };
        match header.ethertype.get() {
            ETHERTYPE_ARP => match ArpPacket::ref_from_prefix(packet) {
                Ok((arp, _)) => {
                    let [sender, target] = [arp.sender_ip, arp.target_ip].map(Ipv4Addr::from);
                    write!(f, ", {sender} > {target}, ARP operation {}", arp.operation)
                }
                Err(_) => f.write_str(", bad ARP"),
            },
            ETHERTYPE_IPV4 => match Ipv4Header::parse(packet) {
                Some((header, ..)) if header.frag_offset() > 0 => {
                    write!(f, ", {} > {}, fragment", header.src_addr(), header.dst_addr())
                }
                Some((header, _, payload)) => {
                    let ends = (header.src_addr().into(), header.dst_addr().into());
                    transport(f, ends, header.protocol, payload)
                }
                None => f.write_str(", bad IPv4"),
            },
            ETHERTYPE_IPV6 => match Ipv6Header::parse(packet) {
                Some((header, payload)) => {
                    let ends = (header.src_addr().into(), header.dst_addr().into());
                    transport(f, ends, header.next_header, payload)
                }
                None => f.write_str(", bad IPv6"),
            },
            other => write!(f, ", EtherType {other:#06x}"),
        }
    }
}

fn transport(
    f: &mut fmt::Formatter<'_>,
    (src, dst): (IpAddr, IpAddr),
    protocol: u8,
    segment: &[u8],
) -> fmt::Result {
    match protocol {
        protocol::TCP => {
            let Some((tcp, _, payload)) = TcpHeader::parse(segment) else {
                return write!(f, ", {src} > {dst}, bad TCP");
            };
            write!(
                f,
                ", {src} {} > {dst} {}, TCP {:?} seq {} ack {} win {} len {}",
                tcp.src_port,
                tcp.dst_port,
                tcp.flags,
                tcp.seq,
                tcp.ack,
                tcp.window,
                payload.len()
            )
        }
        protocol::UDP => match UdpHeader::ref_from_prefix(segment) {
            Ok((udp, payload)) => write!(
                f,
                ", {src} {} > {dst} {}, UDP len {}",
                udp.src_port,
                udp.dst_port,
                payload.len()
            ),
            Err(_) => write!(f, ", {src} > {dst}, bad UDP"),
        },
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, code, ..] = segment else { return write!(f, ", {src} > {dst}, bad ICMP") };
            let name = if protocol == protocol::ICMP { "ICMP" } else { "ICMPv6" };
            write!(f, ", {src} > {dst}, {name} type {kind} code {code}")
        }
        other => write!(f, ", {src} > {dst}, protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use wire::IntoBytes;
    use wire::ethernet::MacAddr;
    use wire::tcp::TcpFlags;

    use super::*;

    fn frame(ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
        let header = EthernetHeader::new(MacAddr([2; 6]), MacAddr([4; 6]), ethertype);
        [header.as_bytes(), &parts.concat()].concat()
    }

    #[test]
    fn a_line_says_who_what_and_how_much() {
        let mut tcp = TcpHeader {
            src_port: 1000.into(),
            dst_port: 80.into(),
            seq: 5.into(),
            ack: 6.into(),
            flags: TcpFlags::ACK | TcpFlags::PSH,
            window: 7.into(),
            ..TcpHeader::default()
        };
        tcp.set_options_len(0);
        let ip = Ipv4Header::new(6, 64, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 23);
        let segment = frame(ETHERTYPE_IPV4, &[ip.as_bytes(), tcp.as_bytes(), b"abc"]);
        let flags = format!("{:?}", tcp.flags);
        assert_eq!(
            Frame(&segment).to_string(),
            format!("57 bytes, 192.0.2.1 1000 > 192.0.2.2 80, TCP {flags} seq 5 ack 6 win 7 len 3")
        );
        let (src, dst) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let udp = [0, 53, 1, 0, 0, 10, 0, 0, 9, 9];
        let ip = Ipv6Header::new(17, 64, src, dst, 10);
        let datagram = frame(ETHERTYPE_IPV6, &[ip.as_bytes(), &udp]);
        let said = Frame(&datagram).to_string();
        assert_eq!(said, "64 bytes, 2001:db8::1 53 > 2001:db8::2 256, UDP len 2");
        let ip = Ipv6Header::new(58, 64, src, dst, 8);
        let echo = frame(ETHERTYPE_IPV6, &[ip.as_bytes(), &[128, 0, 0, 0, 0, 0, 0, 0]]);
        assert!(Frame(&echo).to_string().ends_with(", ICMPv6 type 128 code 0"));
    }

    #[test]
    fn nothing_is_too_odd_for_a_line() {
        for length in 0..80 {
            for ethertype in [ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, 0x88cc] {
                for fill in [0, 0x45, 0x60, 0xff] {
                    let whole = frame(ethertype, &[&vec![fill; length]]);
                    let said = Frame(&whole).to_string();
                    assert!(said.starts_with(&format!("{} bytes, ", whole.len())), "{said}");
                }
            }
        }
        assert_eq!(Frame(&[1; 5]).to_string(), "5 bytes");
    }
}

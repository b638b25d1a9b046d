//! What the tests of the services share: a configuration and a link that keeps frames.

use std::net::{IpAddr, SocketAddr};

use wire::checksum;
use wire::ethernet::EthernetHeader;
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use wire::udp::UdpHeader;

use crate::addr::Link;
use crate::config::{Config, Ipv4Config, Ipv6Config, Services};
use crate::cx::Cx;
use crate::flow::TimerWheel;
use crate::io::{FrameMeta, Guest, HEADROOM, Limits};
use crate::stats::Stats;
use crate::testing::FakeHost;
pub(crate) use crate::testing::{GUEST_MAC, OUR_MAC};
use crate::time::Instant;

/// Guest 192.0.2.1/24 and 2001:db8:1::1, gateways 192.0.2.2 and fe80::1, everything on, one resolver
/// each, two search domains.
pub(crate) fn config() -> Config {
    Config {
        our_mac: OUR_MAC,
        mtu: Some(65520),
        v4: Some(Ipv4Config {
            addr: [192, 0, 2, 1].into(),
            prefix_len: 24,
            addr_fixed: false,
            gateway: Some([192, 0, 2, 2].into()),
            local_mode: false,
            map_host_loopback: None,
            map_guest_addr: None,
            dns: vec![[10, 255, 255, 53].into()],
            dns_match: None,
            dns_host: None,
            addr_out: None,
        }),
        v6: Some(Ipv6Config {
            addr: Some("2001:db8:1::1".parse().unwrap()),
            addr_fixed: false,
            gateway: Some("fe80::1".parse().unwrap()),
            our_link_local: "fe80::1".parse().unwrap(),
            local_mode: false,
            map_host_loopback: None,
            map_guest_addr: None,
            dns: vec!["2001:db8::53".parse().unwrap()],
            dns_match: None,
            dns_host: None,
            addr_out: None,
            scope_id: 0,
        }),
        shared: Vec::new(),
        search: vec!["example.org".into(), "lab.example.org".into()],
        hostname: None,
        fqdn: None,
        duid_time: 0x3039_3039,
        services: Services {
            tcp: true,
            udp: true,
            icmp: true,
            dhcp: true,
            dhcpv6: true,
            ndp: true,
            ra: true,
            announce_dns: true,
            announce_search: true,
        },
    }
}

/// The surroundings of a handler.
pub(crate) struct Rig {
    pub(crate) config: Config,
    pub(crate) link: Link,
    guest: Frames,
    timers: TimerWheel,
    stats: Stats,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            link: Link::new(&config, Some(GUEST_MAC), None),
            config,
            guest: Frames::default(),
            timers: TimerWheel::new(Instant::default()),
            stats: Stats::default(),
        }
    }

    pub(crate) fn run(&mut self, handler: impl FnOnce(&mut Cx<'_, Frames, FakeHost>)) {
        handler(&mut Cx {
            guest: &mut self.guest,
            host: &mut FakeHost::default(),
            now: Instant::default(),
            config: &self.config,
            link: &mut self.link,
            timers: &mut self.timers,
            stats: &mut self.stats,
        });
    }

    /// The frames sent since the last call.
    pub(crate) fn frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.guest.sent)
    }
}

/// The IPv6 header and ICMPv6 message of a frame, checksum verified.
pub(crate) fn icmp6(frame: &[u8]) -> (Ipv6Header, Vec<u8>) {
    let (ethernet, packet) = EthernetHeader::parse(frame).unwrap();
    assert_eq!(ethernet.ethertype.get(), 0x86dd);
    let (ip, message) = Ipv6Header::parse(packet).unwrap();
    assert_eq!(ip.next_header, 58);
    let len = u32::try_from(message.len()).unwrap();
    let pseudo = checksum::pseudo_header_v6(ip.src_addr(), ip.dst_addr(), 58, len);
    assert!(checksum::verify(pseudo, message));
    (*ip, message.to_vec())
}

/// Addresses, ports and payload of a UDP frame, checksums verified.
pub(crate) fn udp(frame: &[u8]) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let (ethernet, packet) = EthernetHeader::parse(frame).unwrap();
    let (src, dst, datagram): (IpAddr, IpAddr, _) = if ethernet.ethertype.get() == 0x0800 {
        let (ip, _, datagram) = Ipv4Header::parse(packet).unwrap();
        assert_eq!((ip.protocol, ip.checksum.get()), (17, ip.compute_checksum()));
        (ip.src_addr().into(), ip.dst_addr().into(), datagram)
    } else {
        let (ip, datagram) = Ipv6Header::parse(packet).unwrap();
        assert_eq!(ip.next_header, 17);
        (ip.src_addr().into(), ip.dst_addr().into(), datagram)
    };
    let len = u32::try_from(datagram.len()).unwrap();
    assert!(checksum::verify(checksum::pseudo_header(src, dst, 17, len), datagram));
    let (header, payload) = UdpHeader::parse(datagram).unwrap();
    let from = SocketAddr::new(src, header.src_port.get());
    (from, SocketAddr::new(dst, header.dst_port.get()), payload.to_vec())
}

/// A link that keeps what is sent.
#[derive(Default)]
pub(crate) struct Frames {
    buf: Vec<u8>,
    sent: Vec<Vec<u8>>,
}

impl Guest for Frames {
    fn limits(&self) -> Limits {
        Limits { mtu: 65520, max_packet: 65520 }
    }

    fn slot(&mut self, room: usize) -> Option<&mut [u8]> {
        self.buf = vec![0xee; HEADROOM + room];
        Some(&mut self.buf)
    }

    fn send(&mut self, start: usize, end: usize, meta: FrameMeta) -> bool {
        assert_eq!(meta, FrameMeta::default(), "services complete their checksums");
        self.sent.push(self.buf[start..end].to_vec());
        true
    }

    fn flush(&mut self) {}
}

//! What the guest is told or asked without having said anything.

use std::net::IpAddr;

use wire::arp::{ArpPacket, REQUEST};
use wire::ethernet::MacAddr;
use wire::ndp as messages;

use super::ndp::{self, ALL_NODES};
use crate::cx::Cx;
use crate::io::{Guest, Host};

/// A guest has connected: asks for its assigned addresses, so that its answers teach us where it is.
pub fn hello<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>) {
    let config = cx.config;
    if let Some((addr, ours)) = config.v4.as_ref().and_then(|v4| Some((v4.addr, v4.gateway?))) {
        let all = MacAddr::BROADCAST;
        let request = ArpPacket::new(REQUEST, config.our_mac, ours, all, addr);
        super::send_arp(cx, &request, config.our_mac, all);
    }
    let Some(v6) = config.v6.as_ref().filter(|_| config.services.ndp) else { return };
    if let Some(addr) = v6.addr {
        let ours = v6.our_link_local;
        let route = super::route(cx, ours.into(), addr.into());
        super::send_icmp6(cx, |_, out| {
            let len = messages::write_neighbor_solicitation(out, addr, None, ours, addr)?;
            Some((len, route))
        });
    }
}

/// The guest sees `ip` under a new link-layer address: an ARP announcement (RFC 5227 §3) or an
/// unsolicited neighbour advertisement (RFC 4861 §7.2.6), as from that neighbour.
pub fn neighbor<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, ip: IpAddr) {
    let config = cx.config;
    let mac = cx.link.mac_of(config, ip);
    match ip {
        IpAddr::V4(ip) => {
            let request = ArpPacket::new(REQUEST, mac, ip, MacAddr::ZERO, ip);
            super::send_arp(cx, &request, mac, MacAddr::BROADCAST);
        }
        IpAddr::V6(ip) => {
            let Some(v6) = config.v6.as_ref().filter(|_| config.services.ndp) else { return };
            let mut route = super::route(cx, v6.our_link_local.into(), ALL_NODES.into());
            route.src_mac = mac;
            super::send_icmp6(cx, |link, out| {
                let len = ndp::write_advertisement(config, v6, link, ip, ALL_NODES, out)?;
                Some((len, route))
            });
        }
    }
}

/// Sends a router advertisement to all nodes of the link; see [`ndp::Advertiser`] for when.
pub fn router<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>) {
    let config = cx.config;
    let Some(v6) = config.v6.as_ref() else { return };
    let route = super::route(cx, v6.our_link_local.into(), ALL_NODES.into());
    super::send_icmp6(cx, |_, out| {
        Some((ndp::router_advertisement(config, ALL_NODES, out)?, route))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::testing::{GUEST_MAC, OUR_MAC, Rig, config, icmp6};
    use wire::ndp::{NA_OVERRIDE, NA_ROUTER, NdpOption, NeighborMessage, RouterAdvertisement};

    #[test]
    fn hello_asks_for_both_addresses() {
        let mut rig = Rig::new(config());
        rig.run(hello);
        let [arp, solicitation] = &rig.frames()[..] else { panic!("two frames expected") };
        // The reference bytes of a first frame, without padding.
        let mut expected = [MacAddr::BROADCAST.0, OUR_MAC.0].concat();
        expected.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        expected.extend_from_slice(&[0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55, 192, 0, 2, 2]);
        expected.extend_from_slice(&[255, 255, 255, 255, 255, 255, 192, 0, 2, 1]);
        assert_eq!(arp, &expected);
        assert_eq!(solicitation[..6], GUEST_MAC.0);
        let (ip, message) = icmp6(solicitation);
        assert_eq!(ip.dst_addr(), "2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap());
        assert_eq!(ip.hop_limit, 255);
        let (ns, mut options) = NeighborMessage::parse(&message).unwrap();
        assert_eq!((ns.kind, ns.target_addr(), options.next()), (135, ip.dst_addr(), None));
    }

    #[test]
    fn hello_says_only_what_makes_sense() {
        let mut quiet = config();
        quiet.v4.as_mut().unwrap().gateway = None;
        quiet.services.ndp = false;
        let mut rig = Rig::new(quiet);
        rig.run(hello);
        assert!(rig.frames().is_empty());
    }

    #[test]
    fn neighbours_are_announced_as_by_themselves() {
        let mut rig = Rig::new(config());
        rig.run(|cx| neighbor(cx, "192.0.2.9".parse().unwrap()));
        rig.run(|cx| neighbor(cx, "2001:db8:1::9".parse().unwrap()));
        let [arp, advertisement] = &rig.frames()[..] else { panic!("two frames expected") };
        let packet = ArpPacket::parse(&arp[14..]).unwrap();
        assert_eq!(packet.operation.get(), REQUEST);
        assert_eq!((packet.sender_ip, packet.target_ip), ([192, 0, 2, 9], [192, 0, 2, 9]));
        assert_eq!(packet.target_mac, MacAddr::ZERO);
        assert_eq!(arp[..6], [0xff; 6]);
        assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
        let (_, message) = icmp6(advertisement);
        let (na, mut options) = NeighborMessage::parse(&message).unwrap();
        assert_eq!((na.kind, na.flags.get()), (136, NA_ROUTER | NA_OVERRIDE));
        assert_eq!(options.next(), Some(NdpOption::TargetLink(OUR_MAC)));
    }

    #[test]
    fn unsolicited_router_advertisement() {
        let mut rig = Rig::new(config());
        rig.run(router);
        let [frame] = &rig.frames()[..] else { panic!("one frame expected") };
        let (ip, message) = icmp6(frame);
        assert_eq!(ip.dst_addr(), ALL_NODES);
        assert!(RouterAdvertisement::parse(&message).is_some());
        let mut off = config();
        off.services.ra = false;
        let mut rig = Rig::new(off);
        rig.run(router);
        assert!(rig.frames().is_empty());
    }
}

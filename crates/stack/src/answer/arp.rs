//! ARP (RFC 826): every address is ours, except the guest's own.

use wire::arp::{ArpPacket, REPLY, REQUEST};
use wire::ethernet::MacAddr;

use crate::addr::Link;
use crate::config::Config;
use crate::cx::Cx;
use crate::io::{Guest, Host};

/// The answer to the ARP packet at the start of an Ethernet payload.
///
/// Requests for any address are answered, so that every address of the guest's network leads to us, and
/// the guest's probes (RFC 5227) find every address taken but its own. Announcements, and requests for the
/// guest's own address, are not.
#[must_use]
pub fn answer(config: &Config, link: &Link, payload: &[u8]) -> Option<ArpPacket> {
    let v4 = config.v4.as_ref()?;
    let request = ArpPacket::parse(payload)?;
    if request.operation.get() != REQUEST {
        return None;
    }
    let (sender, target) = (request.sender_addr(), request.target_addr());
    let announcement = sender == target && !sender.is_unspecified();
    // The gateway is never taken for the guest, whatever sources were seen.
    let guest = (target == v4.addr || link.v4_seen() == Some(target)) && v4.gateway != Some(target);
    if announcement || guest {
        return None;
    }
    let mac = link.mac_of(config, target.into());
    Some(ArpPacket::new(REPLY, mac, target, request.sender_mac, sender))
}

/// Answers the ARP packet in the payload of a frame from `source`.
pub fn on_packet<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, source: MacAddr, payload: &[u8]) {
    if let Some(reply) = answer(cx.config, cx.link, payload) {
        super::send_arp(cx, &reply, cx.config.our_mac, source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::testing::{GUEST_MAC, OUR_MAC, Rig, config};
    use std::net::Ipv4Addr;
    use wire::IntoBytes;

    fn ask(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let (sender, target) = (Ipv4Addr::from(sender), Ipv4Addr::from(target));
        ArpPacket::new(REQUEST, GUEST_MAC, sender, MacAddr::ZERO, target).as_bytes().to_vec()
    }

    fn reply(payload: &[u8]) -> Option<ArpPacket> {
        let config = config();
        answer(&config, &Link::new(&config, Some(GUEST_MAC), None), payload)
    }

    #[test]
    fn any_address_is_answered() {
        // The gateway, a host of the network, one outside it; asked by an address or by a probe.
        for target in [[192, 0, 2, 2], [192, 0, 2, 77], [203, 0, 113, 9]] {
            for sender in [[192, 0, 2, 1], [0, 0, 0, 0]] {
                let packet = reply(&ask(sender, target)).unwrap();
                assert_eq!(packet.operation.get(), REPLY);
                assert_eq!((packet.sender_mac, packet.sender_ip), (OUR_MAC, target));
                assert_eq!((packet.target_mac, packet.target_ip), (GUEST_MAC, sender));
            }
        }
    }

    #[test]
    fn not_answered() {
        assert!(reply(&ask([0; 4], [192, 0, 2, 1])).is_none(), "probe for the guest's address");
        assert!(reply(&ask([192, 0, 2, 9], [192, 0, 2, 9])).is_none(), "announcement");
        let mut bytes = ask([192, 0, 2, 1], [192, 0, 2, 2]);
        assert!(reply(&bytes[..27]).is_none(), "too short");
        bytes[7] = 2;
        assert!(reply(&bytes).is_none(), "a reply");
        let mut off = config();
        off.v4 = None;
        let link = Link::new(&off, None, None);
        assert!(answer(&off, &link, &ask([192, 0, 2, 1], [192, 0, 2, 2])).is_none(), "IPv4 off");
    }

    #[test]
    fn an_address_the_guest_was_seen_with_is_its_own() {
        let config = config();
        let mut link = Link::new(&config, Some(GUEST_MAC), None);
        link.observe_v4(config.v4.as_ref().unwrap(), Ipv4Addr::new(192, 0, 2, 50));
        assert!(answer(&config, &link, &ask([0; 4], [192, 0, 2, 50])).is_none());
        link.observe_v4(config.v4.as_ref().unwrap(), Ipv4Addr::new(192, 0, 2, 2));
        assert!(answer(&config, &link, &ask([192, 0, 2, 1], [192, 0, 2, 2])).is_some());
    }

    #[test]
    fn frame() {
        let mut rig = Rig::new(config());
        rig.run(|cx| on_packet(cx, GUEST_MAC, &ask([192, 0, 2, 1], [192, 0, 2, 2])));
        let [frame] = &rig.frames()[..] else { panic!("one frame expected") };
        assert_eq!(frame[..12], [GUEST_MAC.0, OUR_MAC.0].concat());
        assert_eq!(frame[12..14], [8, 6]);
        assert_eq!(ArpPacket::parse(&frame[14..]).unwrap().sender_ip, [192, 0, 2, 2]);
        rig.run(|cx| on_packet(cx, GUEST_MAC, &[]));
        assert!(rig.frames().is_empty());
    }
}

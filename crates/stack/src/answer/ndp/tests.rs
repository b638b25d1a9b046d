use super::*;
use crate::answer::testing::{GUEST_MAC, OUR_MAC, Rig, config, icmp6};
use wire::ethernet::MacAddr;
use wire::ndp::{INFINITE, NdpOption, RouterAdvertisement};

const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn link(config: &Config) -> Link {
    Link::new(config, Some(GUEST_MAC), Some(addr("fe80::2")))
}

fn solicit(target: &str, source: Ipv6Addr) -> Vec<u8> {
    let mut out = [0; 32];
    let mac = (!source.is_unspecified()).then_some(GUEST_MAC);
    let target = addr(target);
    let len = ndp::write_neighbor_solicitation(&mut out, target, mac, source, target).unwrap();
    out[..len].to_vec()
}

fn reply(config: &Config, source: &str, message: &[u8]) -> Option<(Vec<u8>, Ipv6Addr)> {
    let mut out = [0xee; ROOM];
    let (len, dst) = answer(config, &link(config), addr(source), 255, message, &mut out)?;
    Some((out[..len].to_vec(), dst))
}

fn options(message: &[u8]) -> Vec<NdpOption<'_>> {
    RouterAdvertisement::parse(message).unwrap().1.collect()
}

#[test]
fn any_address_is_answered() {
    let config = config();
    for target in ["fe80::1", "2001:db8:1::77", "2001:db8:ffff::1", "fe80::1234"] {
        for source in ["fe80::2", "2001:db8:1::1"] {
            let (message, dst) = reply(&config, source, &solicit(target, addr(source))).unwrap();
            assert_eq!(dst, addr(source));
            let (na, mut options) = NeighborMessage::parse(&message).unwrap();
            assert_eq!((na.kind, na.target_addr()), (136, addr(target)));
            assert_eq!(na.flags.get(), NA_ROUTER | NA_SOLICITED | NA_OVERRIDE);
            assert_eq!(options.next(), Some(NdpOption::TargetLink(OUR_MAC)));
        }
    }
}

#[test]
fn solicitations_not_answered() {
    let config = config();
    let guest = addr("fe80::2");
    let ask = |target| reply(&config, "fe80::2", &solicit(target, guest));
    assert!(ask("2001:db8:1::1").is_none(), "the guest's assigned address");
    assert!(ask("fe80::2").is_none(), "the guest's link-local address");
    assert!(ask("::").is_none());
    assert!(ask("::1").is_none());
    assert!(ask("ff02::1").is_none());
    let probe = solicit("2001:db8:1::77", Ipv6Addr::UNSPECIFIED);
    assert!(reply(&config, "::", &probe).is_none(), "duplicate address detection");
    // With a nonce (RFC 7527), too.
    let nonce = [&probe[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    assert!(reply(&config, "::", &nonce).is_none());

    let mut out = [0; ROOM];
    let valid = solicit("fe80::1", guest);
    assert!(answer(&config, &link(&config), guest, 254, &valid, &mut out).is_none(), "routed");
    assert!(answer(&config, &link(&config), guest, 255, &valid, &mut out[..31]).is_none());
    let mut bad = valid.clone();
    bad[25] = 0;
    assert!(reply(&config, "fe80::2", &bad).is_none(), "option of length 0");
    let mut advertisement = valid;
    advertisement[0] = 136;
    assert!(reply(&config, "fe80::2", &advertisement).is_none());
    assert!(reply(&config, "fe80::2", &[]).is_none());
}

#[test]
fn an_address_the_guest_was_seen_with_is_its_own_unless_it_is_ours() {
    let config = config();
    let v6 = config.v6.as_ref().unwrap();
    let mut link = link(&config);
    let mut out = [0; ROOM];
    let guest = addr("fe80::2");
    link.observe_v6(v6, addr("2001:db8:1::abc"));
    let message = solicit("2001:db8:1::abc", guest);
    assert!(answer(&config, &link, guest, 255, &message, &mut out).is_none());
    link.observe_v6(v6, addr("fe80::1"));
    assert!(answer(&config, &link, guest, 255, &solicit("fe80::1", guest), &mut out).is_some());
}

#[test]
fn router_advertisement_in_reference_order() {
    let config = config();
    let (message, dst) = reply(&config, "fe80::2", &SOLICITATION).unwrap();
    assert_eq!(dst, addr("fe80::2"));
    let (ra, _) = RouterAdvertisement::parse(&message).unwrap();
    assert_eq!((ra.hop_limit, ra.flags, ra.lifetime.get()), (255, 0x80, 65535));
    assert_eq!((ra.reachable_time.get(), ra.retrans_timer.get()), (0, 0));
    let [prefix, source, mtu, rdnss, dnssl] = options(&message)[..] else { panic!("five options") };
    let NdpOption::Prefix(prefix) = prefix else { panic!("prefix first") };
    assert_eq!((prefix.prefix_len, prefix.flags), (64, 0xc0));
    assert_eq!(prefix.valid_lifetime.get(), INFINITE);
    assert_eq!(prefix.preferred_lifetime.get(), INFINITE);
    assert_eq!(prefix.prefix, addr("2001:db8:1::").octets(), "host bits are cleared");
    assert_eq!(source, NdpOption::SourceLink(OUR_MAC));
    assert_eq!(mtu, NdpOption::Mtu(65520));
    let servers = &[addr("2001:db8::53").octets()];
    assert_eq!(rdnss, NdpOption::Rdnss { lifetime: INFINITE, servers });
    let names = b"\x07example\x03org\0\x03lab\x07example\x03org\0\0\0";
    assert_eq!(dnssl, NdpOption::Dnssl { lifetime: INFINITE, names });
}

#[test]
fn what_is_switched_off_is_not_announced() {
    let mut config = config();
    config.mtu = None;
    config.services.announce_dns = false;
    config.services.dhcpv6 = false;
    let (message, _) = reply(&config, "fe80::2", &SOLICITATION).unwrap();
    let found = options(&message);
    assert!(matches!(
        found[..],
        [NdpOption::Prefix(_), NdpOption::SourceLink(_), NdpOption::Dnssl { .. }]
    ));
    assert_eq!(message[5], 0, "no addresses by DHCPv6");
    config.services.announce_search = false;
    // Local mode: no address, so no prefix.
    config.v6.as_mut().unwrap().addr = None;
    let (message, _) = reply(&config, "fe80::2", &SOLICITATION).unwrap();
    assert_eq!(options(&message), [NdpOption::SourceLink(OUR_MAC)]);

    config.services.ra = false;
    assert!(reply(&config, "fe80::2", &SOLICITATION).is_none());
    let ns = solicit("fe80::1", addr("fe80::2"));
    assert!(reply(&config, "fe80::2", &ns).is_some(), "neighbours are answered all the same");
    config.services.ndp = false;
    assert!(reply(&config, "fe80::2", &ns).is_none());
    config.services.ra = true;
    assert!(reply(&config, "fe80::2", &SOLICITATION).is_none());
}

#[test]
fn solicitation_without_address_is_answered_to_all_nodes() {
    let config = config();
    assert_eq!(reply(&config, "::", &SOLICITATION).unwrap().1, ALL_NODES);
    let with_link = [&SOLICITATION[..], &[1, 1], &GUEST_MAC.0].concat();
    assert!(reply(&config, "::", &with_link).is_none(), "RFC 4861 §6.1.1");
    assert!(reply(&config, "fe80::2", &with_link).is_some());

    let mut rig = Rig::new(config);
    rig.run(|cx| on_message(cx, Ipv6Addr::UNSPECIFIED, 255, &SOLICITATION));
    let [frame] = &rig.frames()[..] else { panic!("one frame expected") };
    assert_eq!(frame[..6], MacAddr([0x33, 0x33, 0, 0, 0, 1]).0);
    assert_eq!(frame[6..12], OUR_MAC.0);
    let (ip, message) = icmp6(frame);
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit), (addr("fe80::1"), ALL_NODES, 255));
    assert_eq!(message[0], 134);
}

#[test]
fn advertisement_goes_to_the_guest() {
    let mut rig = Rig::new(config());
    rig.run(|cx| on_message(cx, addr("fe80::2"), 255, &solicit("fe80::1", addr("fe80::2"))));
    let [frame] = &rig.frames()[..] else { panic!("one frame expected") };
    assert_eq!(frame[..6], GUEST_MAC.0);
    let (ip, message) = icmp6(frame);
    assert_eq!((ip.src_addr(), ip.dst_addr()), (addr("fe80::1"), addr("fe80::2")));
    assert_eq!(message.len(), 32);
}

#[test]
fn long_search_lists_stay_within_the_smallest_mtu() {
    let mut config = config();
    config.search = (0..6).map(|i| format!("{}.{}x{i}", "a".repeat(60), "b.".repeat(90))).collect();
    let (message, _) = reply(&config, "fe80::2", &SOLICITATION).unwrap();
    assert!(message.len() <= ROOM);
    assert_eq!(options(&message).len(), 5);
}

#[test]
fn intervals_are_within_bounds_and_vary() {
    let mut now = Instant::from_millis(5);
    let mut advertiser = Advertiser::new(now, 42);
    let mut intervals = Vec::new();
    for _ in 0..200 {
        assert!(!advertiser.poll(now));
        let interval = advertiser.next().since(now).as_secs_f64();
        assert!((200.0..=600.0).contains(&interval), "{interval}");
        intervals.push(interval);
        now = advertiser.next();
        assert!(advertiser.poll(now));
    }
    let mean = intervals.iter().sum::<f64>() / 200.0;
    assert!((350.0..450.0).contains(&mean), "{mean}");
}

#[test]
fn kinds() {
    for kind in 0..=255 {
        assert_eq!(is_ndp(kind), (133..=136).contains(&kind));
    }
}

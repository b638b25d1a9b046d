use super::*;
use crate::answer::testing::{GUEST_MAC, OUR_MAC, Rig, config, udp};
use dhcproto::v4::{self, DhcpOption, MessageType, OptionCode};
use dhcproto::{Decodable, Encodable};

fn request(kind: Option<MessageType>, options: &[DhcpOption]) -> v4::Message {
    let mut message = v4::Message::default();
    message.set_xid(0x1122_3344).set_secs(9).set_hops(1).set_chaddr(&GUEST_MAC.0);
    if let Some(kind) = kind {
        message.opts_mut().insert(DhcpOption::MessageType(kind));
    }
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message
}

fn bytes_of(config: &Config, message: &v4::Message) -> Option<(Vec<u8>, Reply)> {
    let mut out = [0xee; 600];
    let reply = answer(config, &message.to_vec().unwrap(), &mut out)?;
    Some((out[..reply.len].to_vec(), reply))
}

fn reply(config: &Config, message: &v4::Message) -> v4::Message {
    v4::Message::from_bytes(&bytes_of(config, message).unwrap().0).unwrap()
}

fn options_hex(bytes: &[u8]) -> String {
    bytes[240..].iter().map(|b| format!("{b:02x}")).collect()
}

/// The list of a client, in its own order: dhcproto's type keeps it.
fn list(codes: &[OptionCode]) -> DhcpOption {
    DhcpOption::ParameterRequestList(codes.to_vec())
}

/// As when the reference was taken: no search list there.
fn reference_config() -> Config {
    let mut config = config();
    config.search.clear();
    config
}

#[test]
fn reference_offer() {
    let config = reference_config();
    let (bytes, sent) = bytes_of(&config, &request(Some(MessageType::Discover), &[])).unwrap();
    let expected = "0104ffffff000304c000020206040affff351a02fff03304ffffffff3501023604c0000202ff";
    assert_eq!(options_hex(&bytes), format!("{expected:0<120}"));
    assert_eq!(bytes.len() + 14 + 20 + 8, 342);
    assert_eq!((sent.src, sent.dst), ([192, 0, 2, 2].into(), [192, 0, 2, 1].into()));
}

#[test]
fn reference_rapid_commit_with_list_and_broadcast() {
    let config = reference_config();
    let mut message = request(
        Some(MessageType::Discover),
        &[
            list(&[
                OptionCode::Router,
                OptionCode::SubnetMask,
                OptionCode::DomainNameServer,
                OptionCode::InterfaceMtu,
            ]),
            DhcpOption::RapidCommit,
        ],
    );
    message.set_flags(v4::Flags::default().set_broadcast());
    let (bytes, sent) = bytes_of(&config, &message).unwrap();
    let expected =
        "3501050304c00002020104ffffff0006040affff351a02fff03304ffffffff3604c00002025000ff";
    assert_eq!(options_hex(&bytes), format!("{expected:0<120}"));
    assert_eq!(sent.dst, Ipv4Addr::BROADCAST);

    let mut rig = Rig::new(config);
    rig.run(|cx| on_datagram(cx, &message.to_vec().unwrap()));
    let [frame] = &rig.frames()[..] else { panic!("one frame expected") };
    assert_eq!(frame[..12], [GUEST_MAC.0, OUR_MAC.0].concat());
    let (src, dst, payload) = udp(frame);
    assert_eq!(src, "192.0.2.2:67".parse().unwrap());
    assert_eq!(dst, "255.255.255.255:68".parse().unwrap());
    assert_eq!(payload, bytes);
}

#[test]
fn fixed_part() {
    let mut message = request(Some(MessageType::Request), &[]);
    message.set_ciaddr([192, 0, 2, 44]).set_giaddr([192, 0, 2, 45]);
    let reply = reply(&config(), &message);
    assert_eq!(reply.opcode(), v4::Opcode::BootReply);
    assert_eq!((reply.htype(), reply.hlen()), (v4::HType::Eth, 6));
    assert_eq!((reply.xid(), reply.secs(), reply.hops()), (0x1122_3344, 0, 0));
    assert_eq!(reply.yiaddr(), Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(reply.ciaddr(), Ipv4Addr::new(192, 0, 2, 44));
    assert_eq!(reply.giaddr(), Ipv4Addr::new(192, 0, 2, 45));
    assert_eq!(reply.siaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(reply.chaddr(), GUEST_MAC.0);
}

#[test]
fn message_types() {
    let config = config();
    let kind = |kind, options: &[DhcpOption]| {
        let (bytes, _) = bytes_of(&config, &request(kind, options))?;
        v4::Message::from_bytes(&bytes).unwrap().opts().msg_type()
    };
    assert_eq!(kind(Some(MessageType::Discover), &[]), Some(MessageType::Offer));
    let rapid = [DhcpOption::RapidCommit];
    assert_eq!(kind(Some(MessageType::Discover), &rapid), Some(MessageType::Ack));
    assert_eq!(kind(Some(MessageType::Request), &[]), Some(MessageType::Ack));
    assert_eq!(kind(None, &[]), Some(MessageType::Ack), "BOOTP");
    for ignored in
        [MessageType::Decline, MessageType::Release, MessageType::Offer, MessageType::Ack]
    {
        assert_eq!(kind(Some(ignored), &[]), None);
    }
    // Wishes do not matter, and a REQUEST has no rapid commit.
    let wishes = [
        DhcpOption::RequestedIpAddress([10, 9, 8, 7].into()),
        DhcpOption::ServerIdentifier([10, 9, 8, 6].into()),
        DhcpOption::RapidCommit,
    ];
    let reply = reply(&config, &request(Some(MessageType::Request), &wishes));
    assert_eq!(reply.yiaddr(), Ipv4Addr::new(192, 0, 2, 1));
    assert!(!reply.opts().contains(OptionCode::RapidCommit));
}

#[test]
fn inform_gets_configuration_without_lease() {
    let mut message = request(Some(MessageType::Inform), &[]);
    message.set_ciaddr([192, 0, 2, 50]);
    let (bytes, sent) = bytes_of(&config(), &message).unwrap();
    let reply = v4::Message::from_bytes(&bytes).unwrap();
    assert_eq!(reply.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!(reply.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(!reply.opts().contains(OptionCode::AddressLeaseTime));
    assert!(reply.opts().contains(OptionCode::DomainNameServer));
    assert_eq!(sent.dst, Ipv4Addr::new(192, 0, 2, 50));
}

#[test]
fn every_option() {
    let mut config = config();
    config.hostname = Some("guest".into());
    config.fqdn = Some("guest.example.org.".into());
    config.v4.as_mut().unwrap().gateway = Some([10, 0, 0, 1].into());
    let (bytes, _) = bytes_of(&config, &request(Some(MessageType::Request), &[])).unwrap();
    let (_, area) = DhcpHeader::parse(&bytes).unwrap();
    let options: Vec<_> = Options::new(area).collect();
    let codes: Vec<u8> = options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 3, 6, 12, 26, 51, 53, 54, 81, 119, 121]);
    let value = |code| Options::new(area).get(code).unwrap();
    assert_eq!(value(3), [10, 0, 0, 1]);
    assert_eq!(value(54), [10, 0, 0, 1]);
    assert_eq!(value(12), b"guest");
    assert_eq!(value(81), b"\x04\xff\xff\x05guest\x07example\x03org\0");
    assert_eq!(value(119), b"\x07example\x03org\0\x03lab\xc0\0");
    assert_eq!(value(121), [32, 10, 0, 0, 1, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    // The other side understands it all.
    let reply = v4::Message::from_bytes(&bytes).unwrap();
    let Some(DhcpOption::DomainSearch(names)) = reply.opts().get(OptionCode::DomainSearch) else {
        panic!("no search list")
    };
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["example.org.", "lab.example.org."]);
    let Some(DhcpOption::ClientFQDN(fqdn)) = reply.opts().get(OptionCode::ClientFQDN) else {
        panic!("no name")
    };
    assert_eq!(fqdn.domain().to_string(), "guest.example.org.");
    assert!(matches!(
        reply.opts().get(OptionCode::AddressLeaseTime),
        Some(DhcpOption::AddressLeaseTime(u32::MAX))
    ));
}

#[test]
fn what_is_off_is_not_sent() {
    let mut config = config();
    config.mtu = None;
    config.services.announce_dns = false;
    config.services.announce_search = false;
    let reply = reply(&config, &request(Some(MessageType::Request), &[]));
    for absent in [
        OptionCode::InterfaceMtu,
        OptionCode::DomainNameServer,
        OptionCode::DomainSearch,
        OptionCode::Hostname,
        OptionCode::ClientFQDN,
        OptionCode::ClasslessStaticRoute,
        OptionCode::RapidCommit,
    ] {
        assert!(!reply.opts().contains(absent), "{absent:?}");
    }
    let message = request(Some(MessageType::Discover), &[]);
    for off in [
        |config: &mut Config| config.services.dhcp = false,
        |config: &mut Config| config.v4.as_mut().unwrap().gateway = None,
        |config: &mut Config| config.v4 = None,
    ] {
        let mut config = config.clone();
        off(&mut config);
        assert!(bytes_of(&config, &message).is_none());
    }
}

#[test]
fn type_comes_first_only_if_a_list_leaves_it_out() {
    let config = reference_config();
    let codes = |options: &[DhcpOption]| {
        let (bytes, _) = bytes_of(&config, &request(Some(MessageType::Request), options)).unwrap();
        let (_, area) = DhcpHeader::parse(&bytes).unwrap();
        Options::new(area).map(|(code, _)| code).collect::<Vec<_>>()
    };
    use OptionCode::{MessageType as Kind, Router, SubnetMask};
    assert_eq!(codes(&[]), [1, 3, 6, 26, 51, 53, 54]);
    assert_eq!(codes(&[list(&[Router, SubnetMask, Router])]), [53, 3, 1, 6, 26, 51, 54]);
    assert_eq!(codes(&[list(&[Router, Kind])]), [3, 53, 1, 6, 26, 51, 54]);
    // Pad, end and things we do not have.
    let odd = [OptionCode::Pad, OptionCode::End, OptionCode::NtpServers, Router];
    assert_eq!(codes(&[list(&odd)]), [53, 3, 1, 6, 26, 51, 54]);
}

#[test]
fn too_much_is_left_out_and_the_rest_fits_576_bytes() {
    let mut config = config();
    config.hostname = Some("h".repeat(250));
    config.fqdn = Some(format!("{}example", "abc.".repeat(60)));
    config.search = (0..6).map(|i| format!("{}{i}.example.org", "s".repeat(60))).collect();
    let (bytes, _) = bytes_of(&config, &request(Some(MessageType::Request), &[])).unwrap();
    assert!(bytes.len() + 28 <= 576);
    let reply = v4::Message::from_bytes(&bytes).unwrap();
    assert!(reply.opts().contains(OptionCode::ServerIdentifier));
    assert!(reply.opts().contains(OptionCode::Hostname));
    assert!(!reply.opts().contains(OptionCode::ClientFQDN));
    // Alone, as many names as one option holds.
    config.hostname = None;
    config.fqdn = None;
    let reply = self::reply(&config, &request(Some(MessageType::Request), &[]));
    let Some(DhcpOption::DomainSearch(names)) = reply.opts().get(OptionCode::DomainSearch) else {
        panic!("no search list")
    };
    assert_eq!(names.len(), 3);
}

#[test]
fn malformed_requests() {
    let config = config();
    let mut out = [0; 600];
    let good = request(Some(MessageType::Discover), &[]).to_vec().unwrap();
    assert!(answer(&config, &good, &mut out).is_some());
    for len in 0..240 {
        assert!(answer(&config, &good[..len], &mut out).is_none());
    }
    let mut reply = good.clone();
    reply[0] = 2;
    assert!(answer(&config, &reply, &mut out).is_none(), "not a request");
    let mut magic = good.clone();
    magic[239] ^= 1;
    assert!(answer(&config, &magic, &mut out).is_none(), "no magic number");
    let mut kind = good[..240].to_vec();
    kind.extend_from_slice(&[53, 2, 1, 1, 255]);
    assert!(answer(&config, &kind, &mut out).is_none(), "type of two bytes");
    assert!(answer(&config, &good, &mut out[..547]).is_none());
}

#[test]
fn masks() {
    for (len, expected) in [(0, 0), (1, 0x8000_0000), (24, 0xffff_ff00), (32, u32::MAX)] {
        assert_eq!(mask(len), expected);
    }
    assert_eq!(mask(200), u32::MAX);
}

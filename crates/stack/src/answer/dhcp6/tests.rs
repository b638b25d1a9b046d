use super::*;
use crate::answer::testing::{GUEST_MAC, OUR_MAC, Rig, config, udp};
use dhcproto::v6::{
    self, DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IATA, MessageType, OptionCode, Status,
};
use dhcproto::{Decodable, Encodable};

const CLIENT: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ADDR: &str = "2001:db8:1::1";

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn servers() -> Ipv6Addr {
    addr("ff02::1:2")
}

fn server_id() -> DhcpOption {
    let mut duid = vec![0, 1, 0, 1, 0x30, 0x39, 0x30, 0x39];
    duid.extend_from_slice(&OUR_MAC.0);
    DhcpOption::ServerId(duid)
}

fn ia_na(id: u32, addrs: &[&str]) -> DhcpOption {
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: ia_addrs(addrs) })
}

fn ia_addrs(addrs: &[&str]) -> DhcpOptions {
    addrs
        .iter()
        .map(|text| {
            DhcpOption::IAAddr(IAAddr {
                addr: addr(text),
                preferred_life: 0,
                valid_life: 0,
                opts: DhcpOptions::default(),
            })
        })
        .collect()
}

fn message(kind: MessageType, options: &[DhcpOption]) -> Vec<u8> {
    let mut message = v6::Message::new_with_id(kind, [0xab, 0xcd, 0xef]);
    message.opts_mut().insert(DhcpOption::ClientId(CLIENT.to_vec()));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message.to_vec().unwrap()
}

fn bytes_of(config: &Config, request: &[u8]) -> Option<(Vec<u8>, Reply)> {
    let mut out = [0xee; ROOM];
    let reply = answer(config, servers(), request, &mut out)?;
    Some((out[..reply.len].to_vec(), reply))
}

fn reply(config: &Config, kind: MessageType, options: &[DhcpOption]) -> Option<v6::Message> {
    let (bytes, _) = bytes_of(config, &message(kind, options))?;
    Some(v6::Message::from_bytes(&bytes).unwrap())
}

/// Codes of the options, in order.
fn codes(bytes: &[u8]) -> Vec<u16> {
    MessageHeader::parse(bytes).unwrap().1.map(|(code, _)| code).collect()
}

fn status_of(options: &DhcpOptions) -> Option<Status> {
    let Some(DhcpOption::StatusCode(code)) = options.get(OptionCode::StatusCode) else {
        return None;
    };
    Some(code.status)
}

/// An identity association for addresses.
#[derive(Debug, PartialEq)]
struct Ia {
    id: u32,
    t1: u32,
    /// With their valid lifetimes.
    addrs: Vec<(Ipv6Addr, u32)>,
    status: Option<Status>,
}

fn associations(message: &v6::Message) -> Vec<Ia> {
    let all = message.opts().get_all(OptionCode::IANA).unwrap_or_default();
    all.iter()
        .map(|option| {
            let DhcpOption::IANA(ia) = option else { panic!("not an IA_NA") };
            let addrs = ia.opts.get_all(OptionCode::IAAddr).unwrap_or_default().iter();
            let addrs = addrs.map(|option| {
                let DhcpOption::IAAddr(addr) = option else { panic!("not an address") };
                assert_eq!(addr.preferred_life, addr.valid_life);
                (addr.addr, addr.valid_life)
            });
            Ia { id: ia.id, t1: ia.t1, addrs: addrs.collect(), status: status_of(&ia.opts) }
        })
        .collect()
}

/// The first association, when all is well.
fn assigned(id: u32, stale: &[&str]) -> Ia {
    let stale = stale.iter().map(|text| (addr(text), 0));
    let addrs = std::iter::once((addr(ADDR), INFINITE)).chain(stale).collect();
    Ia { id, t1: INFINITE, addrs, status: None }
}

#[test]
fn reference_advertise() {
    let config = config();
    let request = message(MessageType::Solicit, &[ia_na(7, &[])]);
    let (bytes, sent) = bytes_of(&config, &request).unwrap();
    let mut expected = vec![2, 0xab, 0xcd, 0xef];
    expected.extend_from_slice(&[0, 2, 0, 14, 0, 1, 0, 1, 0x30, 0x39, 0x30, 0x39]);
    expected.extend_from_slice(&OUR_MAC.0);
    expected.extend_from_slice(&[0, 3, 0, 0x28, 0, 0, 0, 7]);
    expected.extend_from_slice(&[0xff; 8]);
    expected.extend_from_slice(&[0, 5, 0, 0x18]);
    expected.extend_from_slice(&addr(ADDR).octets());
    expected.extend_from_slice(&[0xff; 8]);
    expected.extend_from_slice(&[0, 1, 0, 10]);
    expected.extend_from_slice(&CLIENT);
    expected.extend_from_slice(&[0, 0x17, 0, 0x10]);
    expected.extend_from_slice(&addr("2001:db8::53").octets());
    expected.extend_from_slice(&[0, 0x18, 0, 0x1e]);
    expected.extend_from_slice(b"\x07example\x03org\0\x03lab\x07example\x03org\0");
    assert_eq!(bytes, expected);
    assert_eq!((sent.xid, sent.assigned), (0xab_cdef, false));
}

#[test]
fn reference_not_on_link() {
    let request = message(MessageType::Request, &[server_id(), ia_na(7, &["2001:db8:9::1"])]);
    let (bytes, sent) = bytes_of(&config(), &request).unwrap();
    assert_eq!(codes(&bytes), [2, 3, 1]);
    assert_eq!(bytes[0], 7);
    let mut expected = vec![0, 3, 0, 0x32, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&[0, 0x0d, 0, 0x22, 0, 4]);
    expected.extend_from_slice(b"Prefix not appropriate for link.");
    assert_eq!(bytes[22..76], expected);
    assert!(!sent.assigned);
}

#[test]
fn who_is_answered() {
    let config = config();
    let other = DhcpOption::ServerId(vec![0, 1, 0, 1, 9, 9, 9, 9, 1, 2, 3, 4, 5, 6]);
    let ia = ia_na(1, &[ADDR]);
    let kind = |kind, options: &[DhcpOption]| {
        reply(&config, kind, options).map(|message| message.msg_type())
    };
    use MessageType::{
        Advertise, Confirm, Decline, InformationRequest, Rebind, Release, Renew, Request, Solicit,
    };
    let yes = Some(MessageType::Reply);
    // Message, without a server identifier, with ours, with another.
    for (message, none, ours) in [
        (Solicit, Some(Advertise), None),
        (Confirm, yes, None),
        (Request, None, yes),
        (Renew, None, yes),
        (Release, None, yes),
        (Decline, None, yes),
        (Rebind, yes, yes),
    ] {
        assert_eq!(kind(message, std::slice::from_ref(&ia)), none, "{message:?}");
        assert_eq!(kind(message, &[ia.clone(), server_id()]), ours, "{message:?}");
        assert_eq!(kind(message, &[ia.clone(), other.clone()]), None, "{message:?}");
    }
    assert_eq!(kind(InformationRequest, &[]), yes);
    assert_eq!(kind(InformationRequest, &[server_id()]), yes);
    assert_eq!(kind(InformationRequest, &[other]), None);
    assert_eq!(kind(InformationRequest, &[ia]), None);
    assert_eq!(kind(Advertise, &[]), None);
    assert_eq!(kind(MessageType::Reply, &[]), None);
}

#[test]
fn client_identifier() {
    let config = config();
    let with = |kind: u8, duid: &[u8]| {
        let mut bytes = vec![kind, 1, 2, 3, 0, 1];
        bytes.extend_from_slice(&u16::try_from(duid.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(duid);
        bytes_of(&config, &bytes).is_some()
    };
    assert!(with(1, &[7; 130]));
    assert!(!with(1, &[7; 131]));
    assert!(!with(1, &[]));
    assert!(bytes_of(&config, &[1, 1, 2, 3]).is_none(), "none");
    let (bytes, _) = bytes_of(&config, &[11, 1, 2, 3]).unwrap();
    assert_eq!(codes(&bytes), [2, 23, 24], "not needed for information");
}

#[test]
fn replies_with_an_address() {
    let config = config();
    for (kind, options) in [
        (MessageType::Request, vec![server_id(), ia_na(7, &[ADDR])]),
        (MessageType::Request, vec![server_id(), ia_na(7, &[])]),
        (MessageType::Renew, vec![server_id(), ia_na(7, &[ADDR])]),
        (MessageType::Rebind, vec![ia_na(7, &[ADDR])]),
    ] {
        let (bytes, sent) = bytes_of(&config, &message(kind, &options)).unwrap();
        assert!(sent.assigned);
        assert_eq!(codes(&bytes), [2, 3, 1, 23, 24]);
        let message = v6::Message::from_bytes(&bytes).unwrap();
        assert_eq!(associations(&message), [assigned(7, &[])]);
    }
}

#[test]
fn stale_addresses_are_withdrawn() {
    let config = config();
    let ia = ia_na(7, &["2001:db8:9::1", ADDR]);
    for options in [vec![server_id(), ia.clone()], vec![ia]] {
        let kind = if options.len() == 2 { MessageType::Renew } else { MessageType::Rebind };
        let message = reply(&config, kind, &options).unwrap();
        assert_eq!(associations(&message), [assigned(7, &["2001:db8:9::1"])]);
    }
}

#[test]
fn hints_of_a_solicit_do_not_matter() {
    let hint = ia_na(7, &["2001:db8:9::1"]);
    let message = reply(&config(), MessageType::Solicit, &[hint]).unwrap();
    assert_eq!(associations(&message), [assigned(7, &[])]);
}

#[test]
fn one_address_only() {
    let options = [
        // dhcproto puts the later one of equals first.
        ia_na(2, &[]),
        ia_na(1, &[]),
        DhcpOption::IATA(IATA { id: 3, opts: DhcpOptions::default() }),
        DhcpOption::IAPD(IAPD { id: 4, t1: 0, t2: 0, opts: DhcpOptions::default() }),
    ];
    let message = reply(&config(), MessageType::Solicit, &options).unwrap();
    let none = Ia { id: 2, t1: 0, addrs: vec![], status: Some(Status::NoAddrsAvail) };
    assert_eq!(associations(&message), [assigned(1, &[]), none]);
    let Some(DhcpOption::IATA(temporary)) = message.opts().get(OptionCode::IATA) else {
        panic!("no IA_TA")
    };
    assert_eq!(status_of(&temporary.opts), Some(Status::NoAddrsAvail));
    let Some(DhcpOption::IAPD(prefixes)) = message.opts().get(OptionCode::IAPD) else {
        panic!("no IA_PD")
    };
    assert_eq!(status_of(&prefixes.opts), Some(Status::NoPrefixAvail));
}

#[test]
fn no_address_unless_asked_for() {
    let config = config();
    let (bytes, _) = bytes_of(&config, &message(MessageType::Solicit, &[])).unwrap();
    assert_eq!(codes(&bytes), [2, 1, 23, 24]);
    let (bytes, sent) = bytes_of(&config, &message(MessageType::InformationRequest, &[])).unwrap();
    assert_eq!((bytes[0], codes(&bytes)), (7, vec![2, 1, 23, 24]));
    assert!(!sent.assigned);
}

#[test]
fn rapid_commit() {
    let request = message(MessageType::Solicit, &[DhcpOption::RapidCommit, ia_na(7, &[])]);
    let (bytes, sent) = bytes_of(&config(), &request).unwrap();
    assert_eq!((bytes[0], codes(&bytes)), (7, vec![2, 3, 1, 14, 23, 24]));
    assert!(sent.assigned);
    let request = message(MessageType::Request, &[server_id(), DhcpOption::RapidCommit]);
    let (bytes, _) = bytes_of(&config(), &request).unwrap();
    assert!(!codes(&bytes).contains(&14));
}

#[test]
fn confirm() {
    let config = config();
    let status = |addrs: &[&str]| {
        let (bytes, sent) = bytes_of(&config, &message(MessageType::Confirm, &[ia_na(7, addrs)]))?;
        assert_eq!(codes(&bytes), [2, 13, 1]);
        let message = v6::Message::from_bytes(&bytes).unwrap();
        Some((status_of(message.opts()).unwrap(), sent.assigned))
    };
    assert_eq!(status(&[ADDR]), Some((Status::Success, true)));
    assert_eq!(status(&["2001:db8:9::1"]), Some((Status::NotOnLink, false)));
    assert_eq!(status(&[ADDR, "2001:db8:9::1"]), Some((Status::NotOnLink, false)));
    assert_eq!(status(&[]), None, "nothing to confirm");
}

#[test]
fn release_and_decline() {
    for kind in [MessageType::Release, MessageType::Decline] {
        let options = [server_id(), ia_na(7, &[ADDR])];
        let (bytes, sent) = bytes_of(&config(), &message(kind, &options)).unwrap();
        assert_eq!((bytes[0], codes(&bytes)), (7, vec![2, 13, 1]));
        let message = v6::Message::from_bytes(&bytes).unwrap();
        assert_eq!(status_of(message.opts()), Some(Status::Success));
        assert!(!sent.assigned);
    }
}

#[test]
fn names() {
    let mut config = config();
    config.fqdn = Some("guest.example.org".into());
    config.search = vec![".".into(), "a.example.".into(), "x".repeat(64), "b.example".into()];
    let fqdn = |flags: Option<u8>| {
        let wish = flags.map(|flags| {
            DhcpOption::Unknown(v6::UnknownOption::new(OptionCode::ClientFqdn, vec![flags, 0]))
        });
        let request = message(MessageType::Solicit, &wish.into_iter().collect::<Vec<_>>());
        let (bytes, _) = bytes_of(&config, &request).unwrap();
        assert_eq!(codes(&bytes), [2, 1, 23, 24, 39]);
        let (_, options) = MessageHeader::parse(&bytes).unwrap();
        assert_eq!(options.get(24), Some(&b"\x01a\x07example\0\x01b\x07example\0"[..]));
        let value = options.get(39).unwrap().to_vec();
        assert_eq!(&value[1..], b"\x05guest\x07example\x03org\0");
        value[0]
    };
    assert_eq!(fqdn(None), 0);
    assert_eq!(fqdn(Some(0)), 0);
    assert_eq!(fqdn(Some(1)), 2);
    assert_eq!(fqdn(Some(5)), 2);
}

#[test]
fn what_is_off_is_not_sent() {
    let mut config = config();
    config.services.announce_dns = false;
    config.services.announce_search = false;
    let request = message(MessageType::Solicit, &[ia_na(7, &[])]);
    assert_eq!(codes(&bytes_of(&config, &request).unwrap().0), [2, 3, 1]);
    let mut out = [0; ROOM];
    let unicast = answer(&config, addr("fe80::1"), &request, &mut out);
    assert_eq!(unicast, None, "only to multicast addresses");
    for off in [
        |config: &mut Config| config.services.dhcpv6 = false,
        |config: &mut Config| config.v6.as_mut().unwrap().addr = None,
        |config: &mut Config| config.v6 = None,
    ] {
        let mut config = config.clone();
        off(&mut config);
        assert!(bytes_of(&config, &request).is_none());
    }
}

#[test]
fn too_much_is_left_out() {
    let mut config = config();
    config.search = (0..6).map(|i| format!("{}{i}.example", "abc.".repeat(58))).collect();
    config.fqdn = Some(format!("{}example", "abc.".repeat(58)));
    let request = message(MessageType::Solicit, &[ia_na(7, &[])]);
    let (bytes, _) = bytes_of(&config, &request).unwrap();
    assert!(bytes.len() <= ROOM);
    assert_eq!(codes(&bytes), [2, 3, 1, 23, 24]);
    // More associations than a packet holds: no answer rather than half of one.
    let many: Vec<_> = (0..40).map(|id| ia_na(id, &[])).collect();
    assert!(bytes_of(&config, &message(MessageType::Solicit, &many)).is_none());
}

#[test]
fn frame() {
    let mut rig = Rig::new(config());
    let v6 = rig.config.v6.clone().unwrap();
    rig.link.observe_v6(&v6, addr("2001:db8:1::abc"));
    let source = addr("fe80::2");
    let solicit = message(MessageType::Solicit, &[ia_na(7, &[])]);
    rig.run(|cx| on_datagram(cx, source, servers(), &solicit));
    assert_eq!(rig.link.v6_seen(), Some(addr("2001:db8:1::abc")), "only advertised");
    let request = message(MessageType::Request, &[server_id(), ia_na(7, &[ADDR])]);
    rig.run(|cx| on_datagram(cx, source, servers(), &request));
    assert_eq!(rig.link.v6_seen(), Some(addr(ADDR)));
    let frames = rig.frames();
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!(frame[..12], [GUEST_MAC.0, OUR_MAC.0].concat());
        assert_eq!(frame[14..18], [0x60, 0x0b, 0xcd, 0xef], "transaction in the flow label");
        let (src, dst, _) = udp(&frame);
        assert_eq!(src, "[fe80::1]:547".parse().unwrap());
        assert_eq!(dst, "[fe80::2]:546".parse().unwrap());
    }
}

#![no_main]

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stack::answer::dhcp6;
use stack::config::Config;
use wire::dhcp6::{MessageHeader, code};

static CONFIG: LazyLock<Config> = LazyLock::new(fuzz::config);
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fuzz_target!(|data: &[u8]| {
    check(data);
    // With both identifiers in place, which mutation alone hardly finds.
    let [kind, options @ ..] = data else { return };
    let mut message = vec![*kind, 1, 2, 3, 0, 1, 0, 3, 9, 9, 9];
    if kind & 0x80 != 0 {
        message[0] = kind & 0x7f;
        message.extend_from_slice(&[0, 2, 0, 14, 0, 1, 0, 1, 1, 2, 3, 4]);
        message.extend_from_slice(&CONFIG.our_mac.0);
    }
    message.extend_from_slice(options);
    check(&message);
});

fn check(message: &[u8]) {
    let mut out = [0xee; 1232];
    let Some(reply) = dhcp6::answer(&CONFIG, SERVERS, message, &mut out) else { return };
    let (request, asked) = MessageHeader::parse(message).unwrap();
    let (header, options) = MessageHeader::parse(&out[..reply.len]).unwrap();
    assert!(matches!(header.kind, 2 | 7));
    assert_eq!(header.xid, request.xid);
    assert!(options.get(code::SERVER_ID).is_some());
    assert_eq!(options.get(code::CLIENT_ID), asked.get(code::CLIENT_ID));
    let associations = options.associations().count();
    assert!(associations <= asked.associations().count());
    assert!(!reply.assigned || header.kind == 7);
}

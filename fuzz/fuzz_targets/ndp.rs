#![no_main]

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use fuzz::{config, link};
use libfuzzer_sys::fuzz_target;
use stack::addr::Link;
use stack::answer::ndp;
use stack::config::Config;
use wire::ndp::{NeighborMessage, Options, RouterAdvertisement};
use wire::{checksum, protocol};

static NETWORK: LazyLock<(Config, Link)> = LazyLock::new(|| {
    let config = config();
    let link = link(&config);
    (config, link)
});

fuzz_target!(|data: &[u8]| {
    let (config, link) = &*NETWORK;
    if let Some(options) = Options::new(data) {
        assert!(options.count() <= data.len() / 8);
    }
    let [choice, message @ ..] = data else { return };
    let source = if choice & 1 == 0 { Ipv6Addr::UNSPECIFIED } else { "fe80::2".parse().unwrap() };
    let mut out = [0; 1240];
    let Some((len, dst)) = ndp::answer(config, link, source, 255, message, &mut out) else {
        return;
    };
    let ours = config.v6.as_ref().unwrap().our_link_local;
    let pseudo = checksum::pseudo_header_v6(ours, dst, protocol::ICMPV6, len as u32);
    assert!(checksum::verify(pseudo, &out[..len]));
    let options = match out[0] {
        134 => RouterAdvertisement::parse(&out[..len]).unwrap().1,
        136 => NeighborMessage::parse(&out[..len]).unwrap().1,
        other => panic!("answer of type {other}"),
    };
    assert!(options.count() > 0);
});

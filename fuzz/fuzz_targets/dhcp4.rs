#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stack::answer::dhcp4;
use stack::config::Config;
use wire::dhcp4::{DhcpHeader, Options, code};

static CONFIG: LazyLock<Config> = LazyLock::new(fuzz::config);

fuzz_target!(|data: &[u8]| {
    check(data);
    // Straight to the options, behind a valid fixed part.
    let mut message = [0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    check(&[&message, data].concat());
});

fn check(message: &[u8]) {
    let mut out = [0xee; 600];
    let Some(reply) = dhcp4::answer(&CONFIG, message, &mut out) else { return };
    assert!((300..=548).contains(&reply.len));
    let (header, area) = DhcpHeader::parse(&out[..reply.len]).unwrap();
    assert_eq!(header.op, 2);
    let mut seen = [false; 256];
    for (code, _) in Options::new(area) {
        assert!(!std::mem::replace(&mut seen[usize::from(code)], true), "option {code} twice");
    }
    let options = Options::new(area);
    assert!(matches!(options.message_type(), Some(2 | 5)));
    assert!(options.get(code::SERVER_ID).is_some());
    let used: usize = options.map(|(_, value)| 2 + value.len()).sum();
    assert_eq!(area[used], code::END);
    assert!(area[used + 1..].iter().all(|byte| *byte == 0));
}

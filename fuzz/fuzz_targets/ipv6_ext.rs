#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::ipv6::{Ipv6Header, walk_extensions};

fuzz_target!(|data: &[u8]| {
    if let Some((header, payload)) = Ipv6Header::parse(data) {
        check(header.next_header, payload);
    }
    if let [first, rest @ ..] = data {
        check(*first, rest);
    }
});

fn check(next_header: u8, payload: &[u8]) {
    if let Ok(found) = walk_extensions(next_header, payload) {
        assert!(payload.ends_with(found.payload));
        if let Some(fragment) = found.fragment {
            assert!(!fragment.is_atomic());
        } else {
            // Nothing is left to walk.
            let again = walk_extensions(found.protocol, found.payload);
            assert_eq!(again, Ok(found));
        }
    }
}

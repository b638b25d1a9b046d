#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::tcp::TcpHeader;
use wire::tcp_option::{MAX_LEN, MAX_SACK_BLOCKS, TcpOptions};

fuzz_target!(|data: &[u8]| {
    let _ = TcpHeader::parse(data);
    let options = TcpOptions::parse(data);
    assert!(options.sack_blocks().len() <= MAX_SACK_BLOCKS);
    let mut out = [0; MAX_LEN];
    let len = options.emit(&mut out);
    assert_eq!(len % 4, 0);
    let again = TcpOptions::parse(&out[..len]);
    // SACK blocks give way when there is no room for all; everything else survives.
    assert_eq!(again.mss, options.mss);
    assert_eq!(again.window_scale, options.window_scale);
    assert_eq!(again.sack_permitted, options.sack_permitted);
    assert_eq!(again.timestamps, options.timestamps);
    assert!(options.sack_blocks().starts_with(again.sack_blocks()));
});

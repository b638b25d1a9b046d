#![no_main]

use libfuzzer_sys::fuzz_target;
use stack::coalesce::Run;
use stack::io::{FrameMeta, Gso};
use stack::segment;

const ETHERNET: usize = 14;

/// A frame with a TCP segment in which nothing is special.
fn plain(ipv6: bool, seq: u32, options: usize, payload: &[u8]) -> Vec<u8> {
    let words = 5 + options.min(10);
    let len = 4 * words + payload.len();
    let mut frame = vec![2; 12];
    if ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((len as u16).to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([0xfd; 32]);
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + len as u16).to_be_bytes());
        frame.extend([0, 7, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    }
    frame.extend([0x12, 0x34, 0, 80]);
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 9, (words as u8) << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.resize(frame.len() + 4 * (words - 5), 1);
    frame.extend(payload);
    frame
}

/// Changes single bytes: a place and what is done to it, in pairs.
fn spoil(frame: &mut Vec<u8>, changes: &[u8]) {
    for change in changes.chunks_exact(2) {
        match change {
            // Cut short, or longer than it says.
            [255, by] => frame.truncate(frame.len().saturating_sub(usize::from(*by))),
            [254, by] => frame.resize(frame.len() + usize::from(*by), 0),
            [at, bits] => {
                if let Some(byte) = frame.get_mut(usize::from(*at)) {
                    *byte ^= bits;
                }
            }
            _ => {}
        }
    }
}

/// Where the TCP header and the payload of a plain segment begin and where it ends.
fn places(frame: &[u8]) -> (usize, usize, usize) {
    let length = |at| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let (tcp, end) = match frame[12..14] {
        [8, 0] => {
            assert_eq!((frame[14], frame[23]), (0x45, 6), "IPv4 without options");
            assert_eq!([frame[20] & 0x3f, frame[21]], [0, 0], "a fragment");
            (ETHERNET + 20, ETHERNET + length(16))
        }
        [0x86, 0xdd] => {
            assert_eq!((frame[14] >> 4, frame[20]), (6, 6), "IPv6 without extensions");
            (ETHERNET + 40, ETHERNET + 40 + length(18))
        }
        _ => panic!("no IP"),
    };
    (tcp, tcp + 4 * usize::from(frame[tcp + 12] >> 4), end)
}

/// Headers without what differs between segments of one superframe.
fn masked(headers: &[u8], tcp: usize) -> Vec<u8> {
    let mut headers = headers.to_vec();
    if tcp == ETHERNET + 20 {
        // Length, identification, checksum.
        headers[16..20].fill(0);
        headers[24..26].fill(0);
    } else {
        headers[18..20].fill(0);
    }
    // Sequence number, PSH, checksum.
    headers[tcp + 4..tcp + 8].fill(0);
    headers[tcp + 13] &= !8;
    headers[tcp + 16..tcp + 18].fill(0);
    headers
}

fn check(first: &[u8], second: &[u8], run: &Run<'_>) {
    let (tcp, start, end) = places(first);
    assert_eq!((tcp, start), (places(second).0, places(second).1));
    let (one, two) = (&first[start..end], &second[start..places(second).2]);
    assert_eq!((&*run.payloads()[0], &*run.payloads()[1]), (one, two));
    assert!(!one.is_empty() && !two.is_empty());
    assert_eq!(masked(&first[..start], tcp), masked(&second[..start], tcp));
    assert_eq!(first[tcp + 13] & !8, 0x10, "only ACK and PSH");
    let seq = |frame: &[u8]| u32::from_be_bytes([4, 5, 6, 7].map(|at| frame[tcp + at]));
    assert_eq!(seq(first).wrapping_add(one.len() as u32), seq(second));
    if two.len() > one.len() {
        return;
    }
    // One superframe, cut as the guest's kernel would have.
    let mut whole = [&first[..start], one, two].concat();
    let (at, from) = if tcp == ETHERNET + 20 { (16, ETHERNET) } else { (18, tcp) };
    let Ok(length) = u16::try_from(whole.len() - from) else { return };
    whole[at..at + 2].copy_from_slice(&length.to_be_bytes());
    let gso = Gso::Tcp(one.len() as u16);
    let meta = FrameMeta { gso, csum_start: Some(tcp as u16), csum_offset: 16 };
    let mut frames = Vec::new();
    segment::segments(&mut whole, &meta, wire::checksum::sum, |head, data| {
        frames.push((masked(head, tcp), seq(head), head[at..at + 2].to_vec(), data.to_vec()));
    });
    let wanted = [(first, one), (second, two)].map(|(frame, payload)| {
        let length = frame[at..at + 2].to_vec();
        (masked(&frame[..start], tcp), seq(frame), length, payload.to_vec())
    });
    assert_eq!(frames, wanted);
}

// Two frames as they are, or good ones spoilt a little, first both in the same way, then the second alone.
fuzz_target!(|data: &[u8]| {
    let Some((&[how, a, b, both], rest)) = data.split_first_chunk() else { return };
    let (mut first, mut second);
    if how & 1 == 0 {
        let (one, two) = rest.split_at(usize::from(a).min(rest.len()));
        (first, second) = (one.to_vec(), two.to_vec());
    } else {
        let (ipv6, options) = (how & 2 == 0, usize::from(how >> 2 & 15));
        let (one, two) = (vec![3; usize::from(a)], vec![4; usize::from(b)]);
        let seq = u32::MAX - 100;
        first = plain(ipv6, seq, options, &one);
        second = plain(ipv6, seq.wrapping_add(a.into()), options, &two);
        let (same, other) = rest.split_at(2 * usize::from(both & 7).min(rest.len() / 2));
        spoil(&mut first, same);
        spoil(&mut second, same);
        spoil(&mut second, other);
    }
    if let Some(mut run) = Run::start(&first, &second) {
        check(&first, &second, &run);
        let third = plain(how & 2 == 0, 0, 0, &[5]);
        if run.takes(&third) {
            assert_eq!(run.payloads().len(), 3);
        }
    }
});

//! Damaged copies of real frames, sent as datagrams to whoever puts them on a link.

use super::say;
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Header of a capture, and of each of its packets.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Largest frame of a link with an MTU of 1500.
const LARGEST: usize = 1514;

/// Sends `count` frames of the capture in `file`, damaged as `seed` says.
pub(super) fn send(file: &str, seed: u64, count: u64, to: SocketAddr) -> Result<()> {
    let capture = std::fs::read(file).with_context(|| file.to_owned())?;
    let frames = frames(&capture);
    ensure!(!frames.is_empty(), "no frames in {file}");
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let mut random = Random(seed | 1);
    let mut frame = Vec::new();
    for i in 0..count {
        frame.clear();
        frame.extend_from_slice(frames[random.below(frames.len())]);
        damage(&mut frame, &mut random);
        frame.truncate(LARGEST);
        // A refusal means that nobody puts them on a link.
        socket.send_to(&frame, to)?;
        if i % 64 == 63 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    say(&format!("sent {count}"))
}

/// The packets of a little-endian capture.
fn frames(capture: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = capture.get(FILE_HEADER..).unwrap_or_default();
    while let Some(length) = rest.get(8..12).and_then(|four| four.try_into().ok()) {
        let end = PACKET_HEADER + usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let Some(frame) = rest.get(PACKET_HEADER..end) else { break };
        if (14..=LARGEST).contains(&frame.len()) {
            frames.push(frame);
        }
        rest = &rest[end..];
    }
    frames
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// Changes, cuts or prolongs a frame, mostly in its headers.
fn damage(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let reach = if random.below(4) == 0 { frame.len() } else { frame.len().min(80) };
        let at = random.below(reach);
        match random.below(6) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 | 3 => frame[at] = random.byte(),
            4 => frame.truncate(at.max(14)),
            _ => {
                let more = random.below(64);
                frame.extend((0..more).map(|_| random.byte()));
            }
        }
    }
}

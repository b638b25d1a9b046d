//! The Internet checksum (RFC 1071): one's complement sums over 16-bit words.
//!
//! A *partial* here is a `u64` that holds the sum of 16-bit words in network meaning (the first byte
//! of a pair is the high one). Partials of consecutive pieces are simply added, as long as every
//! piece but the last has an even length; [`fold`] brings them to 16 bits and `!fold(..)` is what goes
//! into a header.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::FromBytes;

use crate::protocol;

/// The partial sum of `data`. A last odd byte counts as the high byte of a word.
///
/// What is added up are 64-bit words, modulo 2^64, and their upper halves alone; the sum of the lower halves
/// is the difference. That takes the fewest operations of a vector unit, and none that moves
/// bytes. No sum can overflow before 16 GiB.
#[must_use]
pub fn sum(data: &[u8]) -> u64 {
    const LANES: usize = 8;
    let (mut whole, mut upper) = ([0u64; LANES], [0u64; LANES]);
    // Slices of alignment 1 and non-zero element size always have a (possibly empty) prefix.
    let (blocks, rest) = <[[[u8; 8]; LANES]]>::ref_from_prefix(data).unwrap_or((&[], data));
    for block in blocks {
        for ((whole, upper), word) in whole.iter_mut().zip(&mut upper).zip(block) {
            let word = u64::from_ne_bytes(*word);
            *whole = whole.wrapping_add(word);
            *upper += word >> 32;
        }
    }
    let mut whole = whole.into_iter().fold(0, u64::wrapping_add);
    let mut upper: u64 = upper.into_iter().sum();
    let (words, rest) = <[[u8; 8]]>::ref_from_prefix(rest).unwrap_or((&[], rest));
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    for word in words.iter().chain([&last]) {
        let word = u64::from_ne_bytes(*word);
        whole = whole.wrapping_add(word);
        upper += word >> 32;
    }
    in_network_meaning(halves(whole, upper))
}

/// From a sum of 64-bit words modulo 2^64 and the sum of their upper halves: a sum of all halves, in 34 bits.
#[must_use]
pub const fn halves(whole: u64, upper: u64) -> u64 {
    let lower = whole.wrapping_sub(upper << 32);
    (lower & 0xffff_ffff) + (lower >> 32) + (upper & 0xffff_ffff) + (upper >> 32)
}

/// The partial for a sum of words that were read in the machine's own byte order (RFC 1071 §2).
#[must_use]
pub const fn in_network_meaning(total: u64) -> u64 {
    u16::from_be(fold(total)) as u64
}

/// A partial brought to 16 bits by end-around carries. Not inverted.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the loop ends below 0x1_0000")]
pub const fn fold(mut partial: u64) -> u16 {
    while partial > 0xffff {
        partial = (partial & 0xffff) + (partial >> 16);
    }
    partial as u16
}

/// The partial sum of the IPv4 pseudo header (RFC 9293 §3.1): addresses, protocol, and `len`, the
/// length in bytes of the transport header and its payload.
#[must_use]
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u32) -> u64 {
    sum(&src.octets()) + sum(&dst.octets()) + u64::from(protocol) + u64::from(len)
}

/// The partial sum of the IPv6 pseudo header (RFC 8200 §8.1): addresses, the transport protocol (not
/// an extension header's number), and `len`, the length in bytes of the transport header and its
/// payload.
#[must_use]
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> u64 {
    sum(&src.octets()) + sum(&dst.octets()) + u64::from(protocol) + u64::from(len)
}

/// The pseudo header's partial for addresses of one family. Mixed families count as if the other
/// address were absent: such a packet cannot exist.
#[must_use]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> u64 {
    fn address(ip: IpAddr) -> u64 {
        match ip {
            IpAddr::V4(ip) => sum(&ip.octets()),
            IpAddr::V6(ip) => sum(&ip.octets()),
        }
    }
    address(src) + address(dst) + u64::from(protocol) + u64::from(len)
}

/// What a transport checksum field must hold when the rest of the work is left to the receiver of a
/// virtio header with `NEEDS_CSUM`: the folded pseudo header sum, **not** inverted.
#[must_use]
pub const fn partial_for_offload(pseudo: u64) -> u16 {
    fold(pseudo)
}

/// The value of a header's checksum field: the inverted sum of `pseudo` and `segment`, whose own
/// checksum field must be zero. For UDP, a result of zero is sent as 0xffff, because zero means
/// "none" (RFC 768; forbidden in IPv6, RFC 8200 §8.1).
#[must_use]
pub fn transport_checksum(pseudo: u64, transport: u8, segment: &[u8]) -> u16 {
    let value = !fold(pseudo + sum(segment));
    if value == 0 && transport == protocol::UDP { 0xffff } else { value }
}

/// Whether `segment`, checksum field included, sums up right under `pseudo`. The caller knows about
/// an absent UDP checksum.
#[must_use]
pub fn verify(pseudo: u64, segment: &[u8]) -> bool {
    fold(pseudo + sum(segment)) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(data: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in data.chunks(2) {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            total += u32::from(word);
            total = (total & 0xffff) + (total >> 16);
        }
        u16::try_from(total).unwrap()
    }

    #[test]
    fn rfc1071_example() {
        // RFC 1071 §3: the words 0001 f203 f4f5 f6f7 sum up to ddf2.
        assert_eq!(fold(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn equals_the_plain_loop_at_every_length_and_alignment() {
        let data: Vec<u8> =
            (0..700u32).map(|i| u8::try_from((i * 151 + 77) % 256).unwrap()).collect();
        for start in 0..9 {
            for end in start..data.len() {
                let piece = &data[start..end];
                assert_eq!(fold(sum(piece)), naive(piece), "{start}..{end}");
            }
        }
        assert_eq!(fold(sum(&[0xff; 65535])), naive(&[0xff; 65535]));
    }

    #[test]
    fn pieces_add_up() {
        let data: Vec<u8> = (0..255).collect();
        for split in (0..255).step_by(2) {
            let (a, b) = data.split_at(split);
            assert_eq!(fold(sum(a) + sum(b)), fold(sum(&data)));
        }
    }

    #[test]
    fn udp_zero_becomes_all_ones() {
        // A segment whose sum is ffff inverts to zero.
        let segment = [0xff, 0xff];
        assert_eq!(transport_checksum(0, protocol::UDP, &segment), 0xffff);
        assert_eq!(transport_checksum(0, protocol::TCP, &segment), 0);
        assert!(verify(0, &segment));
    }
}

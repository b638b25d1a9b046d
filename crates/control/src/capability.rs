//! Capabilities of a table as bits.

use std::fmt;

use stack::rule::Capabilities;

const IPV4: u32 = 1 << 0;
const IPV6: u32 = 1 << 1;
const TCP: u32 = 1 << 2;
const UDP: u32 = 1 << 3;
const SCAN: u32 = 1 << 4;
const DEVICE: u32 = 1 << 5;

/// The bits, lowest first, with the words by which they are shown.
fn named(caps: Capabilities) -> [(bool, u32, &'static str); 6] {
    [
        (caps.ipv4, IPV4, "IPv4"),
        (caps.ipv6, IPV6, "IPv6"),
        (caps.tcp, TCP, "TCP"),
        (caps.udp, UDP, "UDP"),
        (caps.scan, SCAN, "scan"),
        (caps.device, DEVICE, "ifname"),
    ]
}

/// As sent.
pub(crate) fn to_bits(caps: Capabilities) -> u32 {
    named(caps).iter().filter(|(on, ..)| *on).fold(0, |bits, (_, bit, _)| bits | bit)
}

/// As received. Bits without a meaning are for rules that cannot be expressed here.
pub(crate) fn from_bits(bits: u32) -> Capabilities {
    Capabilities {
        ipv4: bits & IPV4 != 0,
        ipv6: bits & IPV6 != 0,
        tcp: bits & TCP != 0,
        udp: bits & UDP != 0,
        scan: bits & SCAN != 0,
        device: bits & DEVICE != 0,
    }
}

/// Capabilities in bits and words, for messages: `0x05: IPv4 TCP`.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Capabilities);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}:", to_bits(self.0))?;
        named(self.0).iter().filter(|(on, ..)| *on).try_for_each(|(.., word)| write!(f, " {word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives() {
        for bits in 0..0x40 {
            assert_eq!(to_bits(from_bits(bits)), bits);
        }
        assert_eq!(to_bits(from_bits(u32::MAX)), 0x3f);
    }

    #[test]
    fn words() {
        assert_eq!(Shown(Capabilities::ALL).to_string(), "0x3f: IPv4 IPv6 TCP UDP scan ifname");
        assert_eq!(Shown(from_bits(5)).to_string(), "0x05: IPv4 TCP");
    }
}

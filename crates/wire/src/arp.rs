//! ARP for IPv4 over Ethernet (RFC 826): 28 bytes after the Ethernet header.

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ethernet::{ETHERTYPE_IPV4, MacAddr};

/// Length of [`ArpPacket`] in bytes.
pub const PACKET_LEN: usize = 28;
/// [`ArpPacket::operation`]: who has the target address?
pub const REQUEST: u16 = 1;
/// [`ArpPacket::operation`]: the sender has its address.
pub const REPLY: u16 = 2;

/// An ARP packet for Ethernet and IPv4.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct ArpPacket {
    /// Hardware type: 1, Ethernet.
    pub hardware: U16,
    /// Protocol type: 0x0800, IPv4.
    pub protocol: U16,
    /// Length of a hardware address: 6.
    pub hardware_len: u8,
    /// Length of a protocol address: 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: U16,
    /// Sender hardware address.
    pub sender_mac: MacAddr,
    /// Sender protocol address.
    pub sender_ip: [u8; 4],
    /// Target hardware address.
    pub target_mac: MacAddr,
    /// Target protocol address.
    pub target_ip: [u8; 4],
}

const _: () = assert!(size_of::<ArpPacket>() == PACKET_LEN);

impl ArpPacket {
    /// A packet for Ethernet and IPv4.
    #[must_use]
    pub const fn new(
        operation: u16,
        sender_mac: MacAddr,
        sender_ip: Ipv4Addr,
        target_mac: MacAddr,
        target_ip: Ipv4Addr,
    ) -> Self {
        Self {
            hardware: U16::new(1),
            protocol: U16::new(ETHERTYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac,
            sender_ip: sender_ip.octets(),
            target_mac,
            target_ip: target_ip.octets(),
        }
    }

    /// The packet at the start of an Ethernet payload; `None` if too short or not for Ethernet and
    /// IPv4.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<&Self> {
        let (packet, _) = Self::ref_from_prefix(payload).ok()?;
        let ours = packet.hardware.get() == 1
            && packet.protocol.get() == ETHERTYPE_IPV4
            && packet.hardware_len == 6
            && packet.protocol_len == 4;
        ours.then_some(packet)
    }

    /// Sender protocol address.
    #[must_use]
    pub const fn sender_addr(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.sender_ip;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Target protocol address.
    #[must_use]
    pub const fn target_addr(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.target_ip;
        Ipv4Addr::new(a, b, c, d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_checks() {
        let packet = ArpPacket::new(
            REQUEST,
            MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]),
            Ipv4Addr::new(192, 0, 2, 2),
            MacAddr::BROADCAST,
            Ipv4Addr::new(192, 0, 2, 1),
        );
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, 0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55, 192, 0, 2, 2, 255, 255,
            255, 255, 255, 255, 192, 0, 2, 1,
        ];
        assert_eq!(packet.as_bytes(), expected);
        assert_eq!(ArpPacket::parse(&expected), Some(&packet));
        for i in [1, 2, 4, 5] {
            let mut bad = expected;
            bad[i] ^= 2;
            assert!(ArpPacket::parse(&bad).is_none(), "byte {i}");
        }
        assert!(ArpPacket::parse(&expected[..27]).is_none());
    }
}

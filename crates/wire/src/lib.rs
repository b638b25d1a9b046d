//! Bytes and their meaning: packet formats, without any I/O, clock or state.
//!
//! Every header is a `#[repr(C)]` struct of alignment 1, so that a view of it is borrowed from the
//! bytes of a frame without copying. `parse` functions check every length they rely on and return
//! `None` (or an error) for anything malformed: **no function of this crate panics on any input**,
//! whatever the bytes or buffer lengths. Builders write into a caller's buffer and say how much they
//! wrote, or that it did not fit; nothing here allocates unless its name says so.
//!
//! Multi-byte fields are [`U16`] and [`U32`] in network byte order: `.get()` reads, `.set()` writes,
//! `U16::new(x)` makes one. [`IntoBytes`] gives `as_bytes()`, [`FromBytes`] gives `ref_from_prefix()`
//! and `mut_from_prefix()`.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod dhcp4;
pub mod dhcp6;
pub mod dns_name;
pub mod ethernet;
pub mod icmp4;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod pcap;
pub mod stream;
pub mod tcp;
pub mod tcp_option;
pub mod udp;
pub mod vnet_hdr;
pub mod writer;

pub use zerocopy::network_endian::{U16, U32};
pub use zerocopy::{FromBytes, IntoBytes};

/// IP protocol and IPv6 next-header numbers (IANA "Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200 §4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 routing header (RFC 8200 §4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 §4.5).
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload (RFC 4303): what follows cannot be read.
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 no next header (RFC 8200 §4.7).
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options (RFC 8200 §4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol (RFC 7401).
    pub const HIP: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
    /// Experiments (RFC 3692), 253.
    pub const EXPERIMENT_253: u8 = 253;
    /// Experiments (RFC 3692), 254.
    pub const EXPERIMENT_254: u8 = 254;
}

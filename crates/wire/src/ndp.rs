//! IPv6 neighbour discovery (RFC 4861): solicitations, advertisements and their options, with the
//! resolver options of RFC 8106.

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dns_name;
use crate::ethernet::MacAddr;
use crate::icmp6::{self, Icmp6Header};
use crate::writer::Writer;

/// Hop limit of every neighbour discovery packet; a smaller one came from beyond the link (§6.1, §7.1).
pub const HOP_LIMIT: u8 = 255;
/// A lifetime that never ends.
pub const INFINITE: u32 = 0xffff_ffff;

/// Flag of a neighbour advertisement: the sender is a router.
pub const NA_ROUTER: u32 = 0x8000_0000;
/// Flag of a neighbour advertisement: it answers a solicitation.
pub const NA_SOLICITED: u32 = 0x4000_0000;
/// Flag of a neighbour advertisement: it overrides a cache entry.
pub const NA_OVERRIDE: u32 = 0x2000_0000;

/// Flag of a router advertisement: addresses by DHCPv6.
pub const RA_MANAGED: u8 = 0x80;
/// Flag of a router advertisement: other configuration by DHCPv6.
pub const RA_OTHER: u8 = 0x40;

/// Flag of a prefix: its addresses are on the link.
pub const PREFIX_ON_LINK: u8 = 0x80;
/// Flag of a prefix: addresses may be made from it (SLAAC).
pub const PREFIX_AUTONOMOUS: u8 = 0x40;

const OPT_SOURCE_LINK: u8 = 1;
const OPT_TARGET_LINK: u8 = 2;
const OPT_PREFIX: u8 = 3;
const OPT_MTU: u8 = 5;
const OPT_RDNSS: u8 = 25;
const OPT_DNSSL: u8 = 31;

/// A neighbour solicitation or advertisement, without options.
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
pub struct NeighborMessage {
    /// [`icmp6::NEIGHBOR_SOLICITATION`] or [`icmp6::NEIGHBOR_ADVERTISEMENT`].
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Checksum over pseudo header and message.
    pub checksum: U16,
    /// `NA_` flags of an advertisement, else 0.
    pub flags: U32,
    /// The address asked for, or told about.
    pub target: [u8; 16],
}

/// A router advertisement, without options.
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
pub struct RouterAdvertisement {
    /// [`icmp6::ROUTER_ADVERTISEMENT`].
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Checksum over pseudo header and message.
    pub checksum: U16,
    /// Hop limit hosts shall use; 0: not said.
    pub hop_limit: u8,
    /// `RA_` flags.
    pub flags: u8,
    /// How long the sender is a default router, in seconds; 0: it is none.
    pub lifetime: U16,
    /// Reachable time in milliseconds; 0: not said.
    pub reachable_time: U32,
    /// Time between retransmitted solicitations in milliseconds; 0: not said.
    pub retrans_timer: U32,
}

/// Prefix information (§4.6.2), without the two bytes of option type and length.
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
pub struct PrefixInformation {
    /// Length in bits, 0 to 128.
    pub prefix_len: u8,
    /// `PREFIX_` flags.
    pub flags: u8,
    /// Seconds for which the prefix is on the link.
    pub valid_lifetime: U32,
    /// Seconds for which addresses of it are preferred.
    pub preferred_lifetime: U32,
    /// 0.
    pub reserved: U32,
    /// The prefix; bits beyond its length are 0.
    pub prefix: [u8; 16],
}

const _: () = assert!(size_of::<NeighborMessage>() == 24);
const _: () = assert!(size_of::<RouterAdvertisement>() == 16);
const _: () = assert!(size_of::<PrefixInformation>() == 30);

impl NeighborMessage {
    /// A solicitation or advertisement with valid form (§7.1): code 0, a target that is no group, and
    /// options none of which has length 0; with its options. `None` otherwise. The type, the checksum
    /// and the hop limit are the caller's.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, Options<'_>)> {
        let (view, rest) = Self::ref_from_prefix(message).ok()?;
        let options = Options::new(rest)?;
        (view.code == 0 && !view.target_addr().is_multicast()).then_some((view, options))
    }

    /// The address asked for, or told about.
    #[must_use]
    pub const fn target_addr(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.target))
    }
}

impl RouterAdvertisement {
    /// An advertisement and its options; `None` if too short, the code is not 0 or an option has
    /// length 0 (§6.1.2).
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, Options<'_>)> {
        let (view, rest) = Self::ref_from_prefix(message).ok()?;
        let options = Options::new(rest)?;
        (view.code == 0).then_some((view, options))
    }
}

/// The options of a router solicitation; `None` if the message is malformed (§6.1.1: too short, code not
/// 0, an option of length 0).
#[must_use]
pub fn parse_router_solicitation(message: &[u8]) -> Option<Options<'_>> {
    let (header, rest) = Icmp6Header::parse(message)?;
    if header.code == 0 { Options::new(rest) } else { None }
}

/// One option of a neighbour discovery message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NdpOption<'a> {
    /// Link-layer address of the sender.
    SourceLink(MacAddr),
    /// Link-layer address of the target.
    TargetLink(MacAddr),
    /// A prefix of the link.
    Prefix(&'a PrefixInformation),
    /// MTU of the link in bytes.
    Mtu(u32),
    /// Resolvers (RFC 8106 §5.1).
    Rdnss {
        /// Seconds for which they may be used.
        lifetime: u32,
        /// Their addresses.
        servers: &'a [[u8; 16]],
    },
    /// Search list (RFC 8106 §5.2).
    Dnssl {
        /// Seconds for which it may be used.
        lifetime: u32,
        /// Names as [`dns_name`] has them, padded with zeros.
        names: &'a [u8],
    },
    /// Any other option, or one of these with an unexpected length: type and what follows the length.
    Other(u8, &'a [u8]),
}

/// The options of a message whose lengths have been checked.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Checks that `bytes` is a sequence of whole options, none of length 0.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, _, rest) = split_option(rest)?;
        }
        Some(Self(bytes))
    }

    /// The first source link-layer address.
    #[must_use]
    pub fn source_link(&self) -> Option<MacAddr> {
        self.clone().find_map(|option| match option {
            NdpOption::SourceLink(mac) => Some(mac),
            NdpOption::TargetLink(_)
            | NdpOption::Prefix(_)
            | NdpOption::Mtu(_)
            | NdpOption::Rdnss { .. }
            | NdpOption::Dnssl { .. }
            | NdpOption::Other(..) => None,
        })
    }
}

/// Type, body and what follows the first option.
fn split_option(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let &[kind, units, ..] = bytes else { return None };
    let (option, rest) = bytes.split_at_checked(usize::from(units) * 8)?;
    let body = option.get(2..)?;
    Some((kind, body, rest))
}

impl<'a> Iterator for Options<'a> {
    type Item = NdpOption<'a>;

    fn next(&mut self) -> Option<NdpOption<'a>> {
        let (kind, body, rest) = split_option(self.0)?;
        self.0 = rest;
        Some(decode(kind, body).unwrap_or(NdpOption::Other(kind, body)))
    }
}

fn decode(kind: u8, body: &[u8]) -> Option<NdpOption<'_>> {
    let with_lifetime = || match *body {
        [_, _, a, b, c, d, ref rest @ ..] => Some((u32::from_be_bytes([a, b, c, d]), rest)),
        _ => None,
    };
    match kind {
        OPT_SOURCE_LINK => Some(NdpOption::SourceLink(MacAddr::read_from_bytes(body).ok()?)),
        OPT_TARGET_LINK => Some(NdpOption::TargetLink(MacAddr::read_from_bytes(body).ok()?)),
        OPT_PREFIX => Some(NdpOption::Prefix(PrefixInformation::ref_from_bytes(body).ok()?)),
        OPT_MTU => match with_lifetime()? {
            (mtu, []) => Some(NdpOption::Mtu(mtu)),
            _ => None,
        },
        OPT_RDNSS => {
            let (lifetime, rest) = with_lifetime()?;
            let servers = <[[u8; 16]]>::ref_from_bytes(rest).ok()?;
            Some(NdpOption::Rdnss { lifetime, servers })
        }
        OPT_DNSSL => {
            let (lifetime, names) = with_lifetime()?;
            Some(NdpOption::Dnssl { lifetime, names })
        }
        _ => None,
    }
}

/// Writes a neighbour solicitation for `target` with a source link-layer option if `source_mac` is
/// given, and returns its length; `None` if `out` is too short. `src` and `dst` are the addresses of the
/// packet, for the checksum.
pub fn write_neighbor_solicitation(
    out: &mut [u8],
    target: Ipv6Addr,
    source_mac: Option<MacAddr>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Option<usize> {
    let kind = icmp6::NEIGHBOR_SOLICITATION;
    write_neighbor(out, (kind, 0, target), source_mac.map(|m| (OPT_SOURCE_LINK, m)), src, dst)
}

/// Writes a neighbour advertisement: `target` is at `mac`. `flags` are the `NA_` constants. Returns its
/// length; `None` if `out` is too short. `src` and `dst` are the addresses of the packet, for the
/// checksum.
pub fn write_neighbor_advertisement(
    out: &mut [u8],
    flags: u32,
    (target, mac): (Ipv6Addr, MacAddr),
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Option<usize> {
    let kind = icmp6::NEIGHBOR_ADVERTISEMENT;
    write_neighbor(out, (kind, flags, target), Some((OPT_TARGET_LINK, mac)), src, dst)
}

fn write_neighbor(
    out: &mut [u8],
    (kind, flags, target): (u8, u32, Ipv6Addr),
    link: Option<(u8, MacAddr)>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Option<usize> {
    let mut w = Writer::new(out);
    let message = NeighborMessage {
        kind,
        flags: U32::new(flags),
        target: target.octets(),
        ..NeighborMessage::default()
    };
    w.put(message.as_bytes())?;
    if let Some((option, mac)) = link {
        w.put(&[option, 1])?;
        w.put(mac.as_bytes())?;
    }
    icmp6::set_checksum(w.written_mut(), src, dst);
    Some(w.len())
}

/// Builds a router advertisement, option by option.
#[derive(Debug)]
pub struct RouterAdvertisementWriter<'a> {
    w: Writer<'a>,
}

impl<'a> RouterAdvertisementWriter<'a> {
    /// Starts at the front of `out`, whose length is the limit of the whole message. `lifetime` is in
    /// seconds, `flags` are the `RA_` constants. `None` if `out` is too short.
    #[must_use]
    pub fn new(out: &'a mut [u8], hop_limit: u8, flags: u8, lifetime: u16) -> Option<Self> {
        let mut w = Writer::new(out);
        let message = RouterAdvertisement {
            kind: icmp6::ROUTER_ADVERTISEMENT,
            hop_limit,
            flags,
            lifetime: U16::new(lifetime),
            ..RouterAdvertisement::default()
        };
        w.put(message.as_bytes())?;
        Some(Self { w })
    }

    /// A prefix with infinite lifetimes; bits of `addr` beyond `prefix_len` are cleared. `None`, with
    /// nothing written, if it does not fit; so with all of these.
    pub fn prefix(&mut self, addr: Ipv6Addr, prefix_len: u8, flags: u8) -> Option<()> {
        let host_bits = 128u32.saturating_sub(u32::from(prefix_len));
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let body = PrefixInformation {
            prefix_len,
            flags,
            valid_lifetime: U32::new(INFINITE),
            preferred_lifetime: U32::new(INFINITE),
            reserved: U32::ZERO,
            prefix: (addr.to_bits() & mask).to_be_bytes(),
        };
        self.w.atomically(|w| {
            w.put(&[OPT_PREFIX, 4])?;
            w.put(body.as_bytes())
        })
    }

    /// Our link-layer address.
    pub fn source_link(&mut self, mac: MacAddr) -> Option<()> {
        self.w.atomically(|w| {
            w.put(&[OPT_SOURCE_LINK, 1])?;
            w.put(mac.as_bytes())
        })
    }

    /// MTU of the link in bytes.
    pub fn mtu(&mut self, mtu: u32) -> Option<()> {
        self.w.atomically(|w| {
            w.put(&[OPT_MTU, 1, 0, 0])?;
            w.put_u32(mtu)
        })
    }

    /// Resolvers, usable forever; none is no option.
    pub fn rdnss(&mut self, servers: &[Ipv6Addr]) -> Option<()> {
        if servers.is_empty() {
            return Some(());
        }
        let units = u8::try_from(1 + 2 * servers.len()).ok()?;
        self.w.atomically(|w| {
            w.put(&[OPT_RDNSS, units, 0, 0])?;
            w.put_u32(INFINITE)?;
            servers.iter().try_for_each(|server| w.put(&server.octets()))
        })
    }

    /// Search list, usable forever; names that cannot be encoded or do not fit are left out, and if none
    /// remains, so is the option.
    pub fn dnssl<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Option<()> {
        self.w.atomically(|w| {
            let start = w.len();
            w.put(&[OPT_DNSSL, 0, 0, 0])?;
            w.put_u32(INFINITE)?;
            let empty = w.len();
            for name in names {
                let before = w.len();
                // What does not fit together with its padding is taken back.
                let fits = dns_name::write(w, name).is_some()
                    && padding(w.len() - start) <= w.room()
                    && w.len() - start <= 255 * 8;
                if !fits {
                    w.truncate(before);
                }
            }
            if w.len() == empty {
                return None;
            }
            w.zeros(padding(w.len() - start))?;
            let units = u8::try_from((w.len() - start) / 8).ok()?;
            w.patch(start + 1, &[units])
        })
    }

    /// Fills in the checksum for a packet with these addresses and returns the message's length.
    #[must_use]
    pub fn finish(mut self, src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        icmp6::set_checksum(self.w.written_mut(), src, dst);
        self.w.len()
    }
}

/// How many bytes bring `len` to a multiple of 8.
const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 7
}

#[cfg(test)]
mod tests;

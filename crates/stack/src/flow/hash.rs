//! The tuple that names a flow on the guest's side, and the keyed hash over it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

/// 128-bit key of the hash: peers choose tuples, so they must not know it (SipHash-1-3).
#[derive(Clone, Copy)]
pub struct Secret([u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A key from 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Keyed hash of a tuple.
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hash_one(key)
    }
}

impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Both ends of a flow as the guest sees them. IPv4 addresses are kept v4-mapped.
///
/// For echo flows the guest's port holds the identifier and the peer's port is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    guest: u128,
    peer: u128,
    ports: u32,
}

impl FlowKey {
    /// The flow between `guest` and `peer`, addresses as the guest sees them.
    pub fn new(guest: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            guest: mapped(guest.ip()),
            peer: mapped(peer.ip()),
            ports: u32::from(guest.port()) << 16 | u32::from(peer.port()),
        }
    }

    /// Address and port of the guest.
    pub fn guest(&self) -> SocketAddr {
        SocketAddr::new(unmapped(self.guest), (self.ports >> 16) as u16)
    }

    /// Address and port of the other end, as the guest sees them.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the peer's port")]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(unmapped(self.peer), self.ports as u16)
    }

    /// Whether the guest sees this flow as IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.guest >> 32 != V4_PREFIX
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.guest);
        state.write_u128(self.peer);
        state.write_u32(self.ports);
    }
}

impl std::fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.guest(), self.peer())
    }
}

/// Bits 32.. of a v4-mapped address (RFC 4291 2.5.5.2).
const V4_PREFIX: u128 = 0xffff;

fn mapped(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => V4_PREFIX << 32 | u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
fn unmapped(bits: u128) -> IpAddr {
    if bits >> 32 == V4_PREFIX { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_keeps_both_families() {
        for (guest, peer) in
            [("192.0.2.1:1000", "198.51.100.7:80"), ("[2001:db8::1]:65535", "[2001:db8::2]:1")]
        {
            let (guest, peer): (SocketAddr, SocketAddr) =
                (guest.parse().unwrap(), peer.parse().unwrap());
            let key = FlowKey::new(guest, peer);
            assert_eq!((key.guest(), key.peer()), (guest, peer));
            assert_eq!(key.is_ipv6(), guest.is_ipv6());
        }
    }

    #[test]
    fn hash_depends_on_key_and_tuple() {
        let key = FlowKey::new("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let other = FlowKey::new("192.0.2.1:2".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let (a, b) = (Secret::new([1; 16]), Secret::new([2; 16]));
        assert_eq!(a.hash(&key), a.hash(&key));
        assert_ne!(a.hash(&key), b.hash(&key));
        assert_ne!(a.hash(&key), a.hash(&other));
    }
}

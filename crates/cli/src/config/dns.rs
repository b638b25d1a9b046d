//! Resolvers: which ones the guest is told, and which address stands for the host's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Resolvers announced at most, per family.
const MAX_RESOLVERS: usize = 3;

/// An address of either family.
pub(super) trait Address: Copy + PartialEq {
    /// The address, if it is of this family.
    fn of_family(address: IpAddr) -> Option<Self>;
    /// Whether only the host itself can reach it.
    fn is_local(self) -> bool;
}

impl Address for Ipv4Addr {
    fn of_family(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn is_local(self) -> bool {
        self.is_loopback()
    }
}

impl Address for Ipv6Addr {
    fn of_family(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    fn is_local(self) -> bool {
        self.is_loopback()
    }
}

/// Name resolution of one family: what was said, and completed what holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolvers<A> {
    /// Announced to the guest (`-D`).
    pub(super) announced: Vec<A>,
    /// Destination whose queries are redirected (`--dns-forward`).
    pub(super) matched: Option<A>,
    /// Where they are redirected to (`--dns-host`).
    pub(super) host: Option<A>,
}

impl<A: Address> Resolvers<A> {
    /// Completes what was said by the host's resolvers, of any family, in their order. `mapped` is the
    /// address that stands for the host's loopback.
    ///
    /// A resolver on the host's loopback cannot be reached from the guest as such, nor can one whose
    /// address we take for the host itself. Those are announced under an address that is redirected.
    pub(super) fn complete(mut self, resolvers: &[IpAddr], mapped: Option<A>) -> Self {
        let of_family = || resolvers.iter().filter_map(|&resolver| A::of_family(resolver));
        self.host = self.host.or_else(|| of_family().next());
        if !self.announced.is_empty() {
            return self;
        }
        for resolver in of_family() {
            let hidden = resolver.is_local() || mapped == Some(resolver);
            if hidden {
                self.matched = self.matched.or(mapped);
            }
            let visible = if hidden { self.matched } else { Some(resolver) };
            let new = visible.filter(|visible| !self.announced.contains(visible));
            if self.announced.len() < MAX_RESOLVERS {
                self.announced.extend(new);
            }
        }
        self
    }
}

//! Routes of the main table: dump, add, and copy to another interface with every attribute.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMessageBuffer, RouteProtocol, RouteScope,
    RouteType,
};

use super::{Attribute, Dump, Family, Netlink, attributes, emit, push_attribute, push_whole};

/// Length of `struct rtmsg`.
const HEADER_LEN: usize = 12;
/// Length of `struct rtnexthop`.
const HOP_LEN: usize = 8;
/// `RTA_NH_ID`: a next-hop object, which exists in the original's namespace only.
const RTA_NH_ID: u16 = 30;
/// The libc crate has it for glibc alone.
const RTA_VIA: u16 = 18;
/// `RTNH_F_PERVASIVE | RTNH_F_ONLINK`: the flags of a next hop that are configuration; the others
/// are its state, and the kernel refuses some of those in a request.
const CONFIGURED_FLAGS: u8 = 2 | 4;

/// One way a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the outgoing interface.
    pub index: u32,
    /// The gateway (`RTA_GATEWAY`, or `RTA_VIA`, which may be of the other family); `None` when
    /// the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Weight among the next hops, 1 to 256.
    pub weight: u16,
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// First address of the destination, all zero for a default route.
    pub destination: IpAddr,
    /// Prefix length of the destination.
    pub prefix_len: u8,
    /// Made by the kernel itself, as the route of an address's prefix is (`RTPROT_KERNEL`).
    pub by_kernel: bool,
    /// Where it leads: one, or several of a multipath route. Never empty.
    pub hops: Vec<NextHop>,
    body: Vec<u8>,
}

impl Route {
    fn parse(body: &[u8], family: Family) -> Option<Self> {
        let buffer = RouteMessageBuffer::new_checked(&body).ok()?;
        let header = RouteHeader::parse(&buffer).ok()?;
        let mut table = u32::from(header.table);
        let mut destination = match family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let mut index = None;
        let mut gateway = None;
        let mut hops = Vec::new();
        for attribute in attributes(body.get(HEADER_LEN..)?) {
            match attribute.kind {
                libc::RTA_TABLE => table = attribute.u32()?,
                libc::RTA_DST => destination = address(attribute.value)?,
                libc::RTA_OIF => index = attribute.u32(),
                libc::RTA_GATEWAY | RTA_VIA => gateway = gateway_of(&attribute).or(gateway),
                libc::RTA_MULTIPATH => hops = Hops(attribute.value).map(Hop::parse).collect(),
                _ => {}
            }
        }
        if hops.is_empty() {
            hops.push(NextHop { index: index?, gateway, weight: 1 });
        }
        let wanted = body.first() == Some(&family.number())
            && table == u32::from(RouteHeader::RT_TABLE_MAIN)
            && header.kind == RouteType::Unicast;
        wanted.then(|| Self {
            destination,
            prefix_len: header.destination_prefix_length,
            by_kernel: header.protocol == RouteProtocol::Kernel,
            hops,
            body: body.to_vec(),
        })
    }

    /// A copy of this route that leads through interface `to` instead of `from`, with every
    /// attribute the kernel told except the preferred source and the next-hop object. Of a
    /// multipath route the next hops on `from` remain. `None` if it does not lead through `from`.
    #[must_use]
    pub fn retarget(&self, from: u32, to: u32) -> Option<RouteCopy> {
        let (header, rest) = self.body.split_at_checked(HEADER_LEN)?;
        let mut body = Vec::with_capacity(self.body.len());
        body.extend_from_slice(header.get(..8)?);
        let flags = u32::from_ne_bytes(header.get(8..)?.try_into().ok()?);
        body.extend_from_slice(&(flags & u32::from(CONFIGURED_FLAGS)).to_ne_bytes());
        let mut leads_there = false;
        for attribute in attributes(rest) {
            match attribute.kind {
                libc::RTA_PREFSRC | RTA_NH_ID => {}
                libc::RTA_OIF if attribute.u32() == Some(from) => {
                    leads_there = true;
                    push_attribute(&mut body, libc::RTA_OIF, &to.to_ne_bytes());
                }
                libc::RTA_OIF => return None,
                libc::RTA_MULTIPATH => {
                    let hops = retarget_hops(attribute.value, from, to);
                    leads_there = !hops.is_empty();
                    push_attribute(&mut body, libc::RTA_MULTIPATH, &hops);
                }
                _ => push_whole(&mut body, attribute.whole),
            }
        }
        leads_there.then_some(RouteCopy(body))
    }
}

/// A route ready to be added, made by [`Route::retarget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCopy(Vec<u8>);

/// A route to add: with a gateway, or to what is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRoute {
    /// Index of the outgoing interface.
    pub index: u32,
    /// Destination; its prefix length is 0 for a default route.
    pub destination: (IpAddr, u8),
    /// Gateway, of the destination's family.
    pub gateway: Option<IpAddr>,
}

impl Netlink {
    /// The unicast routes of the main table for one family, in the kernel's order; with
    /// `through`, only those that lead through the interface with that index.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn routes(&mut self, family: Family, through: Option<u32>) -> io::Result<Vec<Route>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family.to_kernel();
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        request.header.kind = RouteType::Unicast;
        request.attributes.extend(through.map(RouteAttribute::Oif));
        let mut found = Vec::new();
        self.dump(libc::RTM_GETROUTE, &emit(&request), &mut |kind, body, dump| {
            if dump == Dump::Restart {
                found.clear();
            } else if kind == libc::RTM_NEWROUTE {
                found.extend(Route::parse(body, family).filter(|route| {
                    through.is_none_or(|index| route.hops.iter().any(|hop| hop.index == index))
                }));
            }
        })?;
        Ok(found)
    }

    /// Whether packets to `address` stay in this namespace, because it is one of its own (`RTN_LOCAL`).
    ///
    /// # Errors
    /// Whatever the kernel answers; without a route that leads there, `false`.
    pub fn is_local(&mut self, address: IpAddr) -> io::Result<bool> {
        let (family, prefix_len) = match address {
            IpAddr::V4(_) => (Family::V4, 32),
            IpAddr::V6(_) => (Family::V6, 128),
        };
        let mut request = RouteMessage::default();
        request.header.address_family = family.to_kernel();
        request.header.destination_prefix_length = prefix_len;
        request.attributes = vec![RouteAttribute::Destination(address.into())];
        let mut local = false;
        let asked =
            self.exchange(libc::RTM_GETROUTE, NLM_F_ACK, &emit(&request), &mut |kind, body| {
                let header = RouteMessageBuffer::new_checked(&body)
                    .and_then(|buffer| RouteHeader::parse(&buffer));
                local |= kind == libc::RTM_NEWROUTE
                    && header.is_ok_and(|header| header.kind == RouteType::Local);
            });
        match asked {
            Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => Ok(false),
            other => other.map(|_| local),
        }
    }

    /// Adds a route to the main table, protocol `boot`.
    ///
    /// # Errors
    /// `EEXIST` if there is one to that destination; `ENETUNREACH` or `EHOSTUNREACH` if the
    /// gateway cannot be reached; whatever else the kernel answers.
    pub fn add_route(&mut self, new: &NewRoute) -> io::Result<()> {
        let (destination, prefix_len) = new.destination;
        let family = match destination {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        let mut request = RouteMessage::default();
        request.header.address_family = family.to_kernel();
        request.header.destination_prefix_length = prefix_len;
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        request.header.protocol = RouteProtocol::Boot;
        request.header.kind = RouteType::Unicast;
        request.header.scope = match (family, new.gateway) {
            (Family::V4, None) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        request.attributes =
            vec![RouteAttribute::Destination(destination.into()), RouteAttribute::Oif(new.index)];
        request
            .attributes
            .extend(new.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        self.change(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &emit(&request))
    }

    /// Adds a copied route, behind those of equal destination and metric.
    ///
    /// # Errors
    /// As [`Netlink::add_route`].
    pub fn copy_route(&mut self, copy: &RouteCopy) -> io::Result<()> {
        self.change(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &copy.0)
    }
}

/// The next hops in a `RTA_MULTIPATH` attribute.
struct Hops<'a>(&'a [u8]);

/// One `struct rtnexthop` with its attributes.
struct Hop<'a> {
    flags: u8,
    hops: u8,
    index: u32,
    attributes: &'a [u8],
}

impl<'a> Iterator for Hops<'a> {
    type Item = Hop<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; HOP_LEN] = self.0.first_chunk()?;
        let [l0, l1, flags, hops, i0, i1, i2, i3] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let attributes = self.0.get(HOP_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Hop { flags, hops, index: u32::from_ne_bytes([i0, i1, i2, i3]), attributes })
    }
}

impl Hop<'_> {
    fn parse(self) -> NextHop {
        let gateway = attributes(self.attributes).find_map(|attribute| gateway_of(&attribute));
        NextHop { index: self.index, gateway, weight: u16::from(self.hops) + 1 }
    }
}

fn retarget_hops(hops: &[u8], from: u32, to: u32) -> Vec<u8> {
    let mut kept = Vec::with_capacity(hops.len());
    for hop in Hops(hops).filter(|hop| hop.index == from) {
        let mut body = Vec::with_capacity(hop.attributes.len());
        for attribute in attributes(hop.attributes) {
            push_whole(&mut body, attribute.whole);
        }
        let length = u16::try_from(HOP_LEN + body.len()).unwrap_or(u16::MAX);
        kept.extend_from_slice(&length.to_ne_bytes());
        kept.extend_from_slice(&[hop.flags & CONFIGURED_FLAGS, hop.hops]);
        kept.extend_from_slice(&to.to_ne_bytes());
        kept.extend_from_slice(&body);
    }
    kept
}

/// The gateway an `RTA_GATEWAY` or `RTA_VIA` attribute names.
fn gateway_of(attribute: &Attribute<'_>) -> Option<IpAddr> {
    match attribute.kind {
        libc::RTA_GATEWAY => address(attribute.value),
        // `struct rtvia`: two bytes of family, which the length tells as well.
        RTA_VIA => address(attribute.value.get(2..)?),
        _ => None,
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

#[cfg(test)]
pub(super) fn tests_only_parse(body: &[u8], family: Family) -> Option<Route> {
    Route::parse(body, family)
}

#[cfg(test)]
pub(super) fn tests_only_copy(body: Vec<u8>) -> RouteCopy {
    RouteCopy(body)
}

//! Interface addresses: dump, add, copy from one interface to another.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressMessageBuffer,
    AddressScope,
};

use super::{Dump, Family, Netlink, attributes, emit, push_attribute, push_whole};

/// Length of `struct ifaddrmsg`.
const HEADER_LEN: usize = 8;
/// `IFA_PROTO`, `IFA_TARGET_NETNSID`: who made the address, and where; neither holds for a copy.
const NOT_COPIED: [u16; 4] = [libc::IFA_LABEL, libc::IFA_CACHEINFO, 10, 11];
const IFA_FLAGS: u16 = 8;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface it belongs to.
    pub index: u32,
    /// The local address (`IFA_LOCAL` where there is one, else `IFA_ADDRESS`).
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// Scope wider than a link: `RT_SCOPE_UNIVERSE` or `RT_SCOPE_SITE`.
    pub global: bool,
    /// `RT_SCOPE_LINK`.
    pub link_scope: bool,
    /// `IFA_F_DEPRECATED`.
    pub deprecated: bool,
    /// `IFA_F_NOPREFIXROUTE`: the kernel made no route for the prefix.
    pub no_prefix_route: bool,
    body: Vec<u8>,
}

impl Address {
    fn parse(body: &[u8]) -> Option<Self> {
        let message =
            AddressMessage::parse(&AddressMessageBuffer::new_checked(&body).ok()?).ok()?;
        let (mut local, mut address) = (None, None);
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        for attribute in &message.attributes {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the others do not matter here")]
            match attribute {
                AddressAttribute::Local(addr) => local = Some(*addr),
                AddressAttribute::Address(addr) => address = Some(*addr),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        let scope = message.header.scope;
        Some(Self {
            index: message.header.index,
            addr: local.or(address)?,
            prefix_len: message.header.prefix_len,
            global: u8::from(scope) < u8::from(AddressScope::Link),
            link_scope: scope == AddressScope::Link,
            deprecated: flags.contains(AddressFlags::Deprecated),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
            body: body.to_vec(),
        })
    }

    /// The request that gives interface `index` the same address: without duplicate address
    /// detection, and without what holds for the original only (label, lifetimes, origin, state).
    fn copy_to(&self, index: u32) -> Vec<u8> {
        let mut flags = AddressFlags::Nodad;
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        let (family, scope) = match *self.body.as_slice() {
            [family, _, _, scope, ..] => (family, scope),
            _ => (0, 0),
        };
        let mut body = Vec::with_capacity(self.body.len() + 8);
        body.extend_from_slice(&[family, self.prefix_len, header_flags(flags).bits(), scope]);
        body.extend_from_slice(&index.to_ne_bytes());
        for attribute in attributes(self.body.get(HEADER_LEN..).unwrap_or_default()) {
            if attribute.kind != IFA_FLAGS && !NOT_COPIED.contains(&attribute.kind) {
                push_whole(&mut body, attribute.whole);
            }
        }
        push_attribute(&mut body, IFA_FLAGS, &flags.bits().to_ne_bytes());
        body
    }
}

/// An address to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// Index of the interface that gets it.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
}

impl Netlink {
    /// All addresses of one family on the interface with that index, in the kernel's order.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn addresses(&mut self, family: Family, index: u32) -> io::Result<Vec<Address>> {
        let mut request = AddressMessage::default();
        request.header.family = family.to_kernel();
        request.header.index = index;
        let mut found = Vec::new();
        self.dump(libc::RTM_GETADDR, &emit(&request), &mut |kind, body, dump| {
            if dump == Dump::Restart {
                found.clear();
            } else if kind == libc::RTM_NEWADDR && body.first() == Some(&family.number()) {
                found.extend(Address::parse(body).filter(|address| address.index == index));
            }
        })?;
        Ok(found)
    }

    /// Adds an address; IPv6 without duplicate address detection (`IFA_F_NODAD`).
    ///
    /// # Errors
    /// `EEXIST` if it is there already; whatever else the kernel answers.
    pub fn add_address(&mut self, new: &NewAddress) -> io::Result<()> {
        let mut request = AddressMessage::default();
        request.header.family = match new.addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
        .to_kernel();
        request.header.prefix_len = new.prefix_len;
        request.header.index = new.index;
        request.header.flags = header_flags(AddressFlags::Nodad);
        request.attributes = vec![
            AddressAttribute::Local(new.addr),
            AddressAttribute::Address(new.addr),
            AddressAttribute::Flags(AddressFlags::Nodad),
        ];
        self.change(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &emit(&request))
    }

    /// Gives interface `index` a copy of `address`, which may be of another namespace.
    ///
    /// # Errors
    /// `EEXIST` if it is there already; whatever else the kernel answers.
    pub fn copy_address(&mut self, address: &Address, index: u32) -> io::Result<()> {
        self.change(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address.copy_to(index))
    }

    /// Marks an address of this namespace as free of duplicate address detection.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn skip_dad(&mut self, address: &Address) -> io::Result<()> {
        self.change(libc::RTM_NEWADDR, NLM_F_REPLACE, &address.copy_to(address.index))
    }
}

/// The low eight flags, which the header has room for.
fn header_flags(flags: AddressFlags) -> AddressHeaderFlags {
    let low = flags.bits() & 0xff;
    AddressHeaderFlags::from_bits_retain(u8::try_from(low).unwrap_or_default())
}

//! Links: finding one, bringing it up, its MTU, MAC address, queue length and link-local address.

use std::io;

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkHeader, LinkMessage, LinkMessageBuffer,
};

use super::{Netlink, attributes, emit};

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const RTM_GETLINK: u16 = libc::RTM_GETLINK;
const RTM_SETLINK: u16 = libc::RTM_SETLINK;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;

/// What we want to know of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, from 1.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_MTU` in bytes.
    pub mtu: u32,
    /// `IFLA_ADDRESS`, where it is a six-byte one.
    pub mac: Option<[u8; 6]>,
    /// `IFLA_TXQLEN` in packets.
    pub tx_queue_len: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// Coming up makes a link-local IPv6 address from the MAC address
    /// (`IN6_ADDR_GEN_MODE_EUI64`). Not so where IPv6 is off.
    pub link_local_from_mac: bool,
}

/// Changes to a link; what is `None` stays as it is. All of it is one message to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Sets or clears `IFF_UP`.
    pub up: Option<bool>,
    /// `IFLA_MTU` in bytes.
    pub mtu: Option<u32>,
    /// `IFLA_ADDRESS`.
    pub mac: Option<[u8; 6]>,
    /// `IFLA_TXQLEN` in packets.
    pub tx_queue_len: Option<u32>,
}

impl Netlink {
    /// The link of that name, `None` if there is none in the namespace.
    ///
    /// # Errors
    /// Whatever the kernel answers except `ENODEV`.
    pub fn link_named(&mut self, name: &str) -> io::Result<Option<Link>> {
        // Names that no link can have are out of the kernel's range instead.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Ok(None);
        }
        self.link(LinkMessage::default(), Some(name))
    }

    /// The link with that index, `None` if there is none in the namespace.
    ///
    /// # Errors
    /// Whatever the kernel answers except `ENODEV`.
    pub fn link_indexed(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        self.link(request, None)
    }

    fn link(&mut self, mut request: LinkMessage, name: Option<&str>) -> io::Result<Option<Link>> {
        if let Some(name) = name {
            request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        }
        // Counters are the dear part of a link's description.
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut found = None;
        let result = self.exchange(RTM_GETLINK, NLM_F_ACK, &emit(&request), &mut |kind, body| {
            if kind == RTM_NEWLINK {
                found = parse(body);
            }
        });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// Applies `change` to the link with that index.
    ///
    /// # Errors
    /// Whatever the kernel answers; nothing tells which part it refused.
    pub fn change_link(&mut self, index: u32, change: &LinkChange) -> io::Result<()> {
        let mut header = LinkHeader { index, ..LinkHeader::default() };
        if let Some(up) = change.up {
            header.change_mask |= LinkFlags::Up;
            header.flags.set(LinkFlags::Up, up);
        }
        let mut request = LinkMessage::default();
        request.header = header;
        request.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        request.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        request.attributes.extend(change.tx_queue_len.map(LinkAttribute::TxQueueLen));
        self.change(RTM_SETLINK, 0, &emit(&request))
    }

    /// Sets whether coming up makes a link-local IPv6 address from the MAC address, or none.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` without IPv6, which an MTU below 1280 is enough for.
    pub fn set_link_local_from_mac(&mut self, index: u32, from_mac: bool) -> io::Result<()> {
        let mode = if from_mac { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None };
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.attributes = vec![LinkAttribute::AfSpecUnspec(vec![inet6])];
        self.change(RTM_SETLINK, 0, &emit(&request))
    }
}

/// Whether `IFLA_AF_SPEC` says that link-local addresses come from the MAC address.
fn eui64(af_spec: &[u8]) -> bool {
    let inet6 = attributes(af_spec).find(|family| family.kind == AF_INET6);
    let mode = inet6.and_then(|inet6| {
        attributes(inet6.value).find(|attribute| attribute.kind == IFLA_INET6_ADDR_GEN_MODE)
    });
    mode.is_some_and(|mode| mode.value == [u8::from(&In6AddrGenMode::Eui64)])
}

fn parse(body: &[u8]) -> Option<Link> {
    let header = LinkMessageBuffer::new_checked(body).ok()?;
    let flags = LinkFlags::from_bits_retain(header.flags());
    let mut link = Link {
        index: header.link_index(),
        name: String::new(),
        mtu: 0,
        mac: None,
        tx_queue_len: 0,
        up: flags.contains(LinkFlags::Up),
        link_local_from_mac: false,
    };
    // Attribute by attribute and not the crate's whole LinkMessage: newer kernels lengthen
    // structures in there that are none of our business.
    for attribute in attributes(header.payload()) {
        match attribute.kind {
            libc::IFLA_IFNAME => {
                let name = attribute.value.strip_suffix(b"\0").unwrap_or(attribute.value);
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_MTU => link.mtu = attribute.u32()?,
            libc::IFLA_TXQLEN => link.tx_queue_len = attribute.u32()?,
            libc::IFLA_AF_SPEC => link.link_local_from_mac = eui64(attribute.value),
            libc::IFLA_ADDRESS => link.mac = attribute.value.try_into().ok(),
            _ => {}
        }
    }
    Some(link)
}

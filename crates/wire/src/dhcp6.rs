//! DHCP for IPv6 (RFC 8415): client and server messages and their options.

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dns_name;
use crate::ethernet::MacAddr;
use crate::writer::Writer;

/// UDP port of servers and relay agents.
pub const SERVER_PORT: u16 = 547;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 546;
/// A lifetime that never ends.
pub const INFINITE: u32 = 0xffff_ffff;
/// The longest identifier of a client or server in bytes, type included (§11.1).
pub const MAX_DUID: usize = 130;
/// Length in bytes of [`LinkLayerTimeDuid`].
pub const DUID_LLT_LEN: usize = 14;

/// Values of [`MessageHeader::kind`].
pub mod message_type {
    /// Client looks for servers.
    pub const SOLICIT: u8 = 1;
    /// Server is there.
    pub const ADVERTISE: u8 = 2;
    /// Client asks for what was advertised.
    pub const REQUEST: u8 = 3;
    /// Client asks whether its addresses suit the link.
    pub const CONFIRM: u8 = 4;
    /// Client extends lifetimes at its server.
    pub const RENEW: u8 = 5;
    /// Client extends lifetimes at any server.
    pub const REBIND: u8 = 6;
    /// Server answers.
    pub const REPLY: u8 = 7;
    /// Client gives addresses back.
    pub const RELEASE: u8 = 8;
    /// Client found addresses in use.
    pub const DECLINE: u8 = 9;
    /// Client wants configuration without addresses.
    pub const INFORMATION_REQUEST: u8 = 11;
}

/// Option codes.
pub mod code {
    /// Client identifier.
    pub const CLIENT_ID: u16 = 1;
    /// Server identifier.
    pub const SERVER_ID: u16 = 2;
    /// Identity association for non-temporary addresses.
    pub const IA_NA: u16 = 3;
    /// Identity association for temporary addresses.
    pub const IA_TA: u16 = 4;
    /// Address of an identity association.
    pub const IA_ADDR: u16 = 5;
    /// Option request.
    pub const ORO: u16 = 6;
    /// Status code.
    pub const STATUS: u16 = 13;
    /// Rapid commit.
    pub const RAPID_COMMIT: u16 = 14;
    /// Resolvers (RFC 3646).
    pub const DNS_SERVERS: u16 = 23;
    /// Domain search list (RFC 3646).
    pub const DOMAIN_LIST: u16 = 24;
    /// Identity association for prefix delegation.
    pub const IA_PD: u16 = 25;
    /// Client's fully qualified domain name (RFC 4704).
    pub const CLIENT_FQDN: u16 = 39;
}

/// Values of the status code option.
pub mod status {
    /// Success.
    pub const SUCCESS: u16 = 0;
    /// No addresses available for the identity association.
    pub const NO_ADDRS_AVAIL: u16 = 2;
    /// The addresses do not suit the link.
    pub const NOT_ON_LINK: u16 = 4;
    /// No prefixes available for the identity association.
    pub const NO_PREFIX_AVAIL: u16 = 6;
}

/// The first four bytes of a message between client and server.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct MessageHeader {
    /// One of [`message_type`].
    pub kind: u8,
    /// Transaction identifier.
    pub xid: [u8; 3],
}

impl MessageHeader {
    /// The header and the options; `None` if too short, or if the options are not whole.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, Options<'_>)> {
        let (header, rest) = Self::ref_from_prefix(message).ok()?;
        Some((header, Options::new(rest)?))
    }

    /// The transaction identifier as a number of 24 bits.
    #[must_use]
    pub const fn xid(&self) -> u32 {
        let [a, b, c] = self.xid;
        u32::from_be_bytes([0, a, b, c])
    }
}

/// An identifier made of a link-layer address and a time (DUID-LLT, §11.2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LinkLayerTimeDuid {
    kind: U16,
    hardware: U16,
    time: U32,
    mac: MacAddr,
}

const _: () = assert!(size_of::<LinkLayerTimeDuid>() == DUID_LLT_LEN);

impl LinkLayerTimeDuid {
    /// For an Ethernet address, generated `time` seconds after 2000-01-01 00:00 UTC (modulo 2^32).
    #[must_use]
    pub const fn new(time: u32, mac: MacAddr) -> Self {
        Self { kind: U16::new(1), hardware: U16::new(1), time: U32::new(time), mac }
    }
}

/// Options whose lengths have been checked: code and value.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Checks that `bytes` is a sequence of whole options.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, _, rest) = split_option(rest)?;
        }
        Some(Self(bytes))
    }

    /// The value of the first option with this code.
    #[must_use]
    pub fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.clone().find(|(c, _)| *c == code).map(|(_, value)| value)
    }

    /// The identity associations for addresses and prefixes, in order. One whose content is malformed
    /// appears without options.
    pub fn associations(&self) -> impl Iterator<Item = Association<'a>> + use<'a> {
        self.clone().filter_map(|(code, value)| Association::parse(code, value))
    }
}

fn split_option(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let &[a, b, c, d, ref rest @ ..] = bytes else { return None };
    let len = usize::from(u16::from_be_bytes([c, d]));
    let (value, rest) = rest.split_at_checked(len)?;
    Some((u16::from_be_bytes([a, b]), value, rest))
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (code, value, rest) = split_option(self.0)?;
        self.0 = rest;
        Some((code, value))
    }
}

/// An identity association of a client.
#[derive(Clone, Debug)]
pub struct Association<'a> {
    /// [`code::IA_NA`], [`code::IA_TA`] or [`code::IA_PD`].
    pub code: u16,
    /// Chosen by the client.
    pub iaid: u32,
    /// What it holds.
    pub options: Options<'a>,
}

impl<'a> Association<'a> {
    fn parse(code: u16, value: &'a [u8]) -> Option<Self> {
        let skip = match code {
            code::IA_NA | code::IA_PD => 12,
            code::IA_TA => 4,
            _ => return None,
        };
        let (iaid, _) = U32::read_from_prefix(value).ok()?;
        let options = Options::new(value.get(skip..)?).unwrap_or(Options(&[]));
        Some(Self { code, iaid: iaid.get(), options })
    }

    /// The addresses the client has, or wants.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        self.options.clone().filter(|(code, _)| *code == code::IA_ADDR).filter_map(|(_, value)| {
            let (octets, _) = <[u8; 16]>::read_from_prefix(value).ok()?;
            Some(Ipv6Addr::from(octets))
        })
    }
}

/// Builds a message, option by option. An option that does not fit is not written at all.
#[derive(Debug)]
pub struct MessageWriter<'a> {
    w: Writer<'a>,
}

impl<'a> MessageWriter<'a> {
    /// Starts at the front of `out`, whose length is the limit. `None` if not even the header fits.
    #[must_use]
    pub fn new(out: &'a mut [u8], kind: u8, xid: [u8; 3]) -> Option<Self> {
        let mut w = Writer::new(out);
        w.put(MessageHeader { kind, xid }.as_bytes())?;
        Some(Self { w })
    }

    /// An option with a known value.
    pub fn option(&mut self, code: u16, value: &[u8]) -> Option<()> {
        self.nested(code, |inner| inner.w.put(value))
    }

    /// An option whose value `f` writes, most likely further options.
    pub fn nested(&mut self, code: u16, f: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.w.len();
        let done = self.write_nested(start, code, f);
        if done.is_none() {
            self.w.truncate(start);
        }
        done
    }

    fn write_nested(
        &mut self,
        start: usize,
        code: u16,
        f: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.w.put_u16(code)?;
        self.w.put_u16(0)?;
        f(self)?;
        let len = u16::try_from(self.w.len() - start - 4).ok()?;
        self.w.patch(start + 2, &len.to_be_bytes())
    }

    /// An identity association. `times` are the T1 and T2 of `IA_NA` and `IA_PD`, in seconds; ignored
    /// for `IA_TA`, which has none. `f` writes its options.
    pub fn association(
        &mut self,
        (code, iaid): (u16, u32),
        times: (u32, u32),
        f: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.nested(code, |inner| {
            inner.w.put_u32(iaid)?;
            if code != code::IA_TA {
                inner.w.put_u32(times.0)?;
                inner.w.put_u32(times.1)?;
            }
            f(inner)
        })
    }

    /// An address with preferred and valid lifetime, both `lifetime` seconds.
    pub fn address(&mut self, addr: Ipv6Addr, lifetime: u32) -> Option<()> {
        self.nested(code::IA_ADDR, |inner| {
            inner.w.put(&addr.octets())?;
            inner.w.put_u32(lifetime)?;
            inner.w.put_u32(lifetime)
        })
    }

    /// A status code with a text for humans.
    pub fn status(&mut self, status: u16, text: &str) -> Option<()> {
        self.nested(code::STATUS, |inner| {
            inner.w.put_u16(status)?;
            inner.w.put(text.as_bytes())
        })
    }

    /// Resolvers; none is no option.
    pub fn dns_servers(&mut self, servers: &[Ipv6Addr]) -> Option<()> {
        if servers.is_empty() {
            return Some(());
        }
        self.nested(code::DNS_SERVERS, |inner| {
            servers.iter().try_for_each(|server| inner.w.put(&server.octets()))
        })
    }

    /// Search list, uncompressed (RFC 8415 §10). Names that cannot be encoded or do not fit are left
    /// out; none remaining is no option.
    pub fn domain_list<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Option<()> {
        self.nested(code::DOMAIN_LIST, |inner| {
            let empty = inner.w.len();
            for name in names {
                // A name that does not fit is skipped, a shorter one after it may fit.
                let _ = dns_name::write(&mut inner.w, name);
            }
            (inner.w.len() > empty).then_some(())
        })
    }

    /// The client's name (RFC 4704 §4) with its flags.
    pub fn client_fqdn(&mut self, flags: u8, name: &str) -> Option<()> {
        self.nested(code::CLIENT_FQDN, |inner| {
            inner.w.put_u8(flags)?;
            dns_name::write(&mut inner.w, name)
        })
    }

    /// The length of the message so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.w.len()
    }

    /// Never: the header is always there.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::{Decodable, Encodable, v6};
    use proptest::prelude::*;

    #[test]
    fn dhcproto_reads_what_is_written() {
        let addr: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
        let mac = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
        let duid = LinkLayerTimeDuid::new(0x0102_0304, mac);
        let mut out = [0xee; 400];
        let mut w = MessageWriter::new(&mut out, message_type::ADVERTISE, [1, 2, 3]).unwrap();
        w.option(code::SERVER_ID, duid.as_bytes()).unwrap();
        w.association((code::IA_NA, 7), (INFINITE, INFINITE), |w| w.address(addr, INFINITE))
            .unwrap();
        w.association((code::IA_TA, 8), (0, 0), |w| w.status(status::NO_ADDRS_AVAIL, "no"))
            .unwrap();
        w.dns_servers(&[addr]).unwrap();
        w.domain_list(["a.example", "", "b.example."].into_iter()).unwrap();
        assert_eq!(w.domain_list(["."].into_iter()), None);
        let len = w.len();
        let message = v6::Message::from_bytes(&out[..len]).unwrap();
        assert_eq!(message.msg_type(), v6::MessageType::Advertise);
        assert_eq!(message.xid(), [1, 2, 3]);
        let options: Vec<_> = message.opts().iter().collect();
        assert_eq!(options.len(), 5);
        let Some(v6::DhcpOption::IANA(ia)) = message.opts().get(v6::OptionCode::IANA) else {
            panic!("no IA_NA")
        };
        assert_eq!((ia.id, ia.t1, ia.t2), (7, INFINITE, INFINITE));
        let Some(v6::DhcpOption::IAAddr(ia_addr)) = ia.opts.get(v6::OptionCode::IAAddr) else {
            panic!("no address")
        };
        assert_eq!((ia_addr.addr, ia_addr.valid_life), (addr, INFINITE));
        // What we wrote reads back, too.
        let (header, options) = MessageHeader::parse(&out[..len]).unwrap();
        assert_eq!((header.kind, header.xid()), (2, 0x01_0203));
        assert_eq!(options.get(code::SERVER_ID), Some(duid.as_bytes()));
        assert_eq!(duid.as_bytes(), [0, 1, 0, 1, 1, 2, 3, 4, 0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
        let associations: Vec<_> = options.associations().collect();
        assert_eq!(associations.len(), 2);
        assert_eq!(associations[0].addresses().collect::<Vec<_>>(), [addr]);
        assert_eq!((associations[1].iaid, associations[1].addresses().count()), (8, 0));
    }

    #[test]
    fn reads_what_dhcproto_writes() {
        let mut message = v6::Message::new(v6::MessageType::Solicit);
        message.opts_mut().insert(v6::DhcpOption::ClientId(vec![0, 1, 2, 3]));
        message.opts_mut().insert(v6::DhcpOption::RapidCommit);
        let bytes = message.to_vec().unwrap();
        let (header, options) = MessageHeader::parse(&bytes).unwrap();
        assert_eq!(header.kind, message_type::SOLICIT);
        assert_eq!(options.get(code::CLIENT_ID), Some(&[0u8, 1, 2, 3][..]));
        assert_eq!(options.get(code::RAPID_COMMIT), Some(&[][..]));
        assert!(MessageHeader::parse(&bytes[..bytes.len() - 1]).is_none());
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let mut out = [0xee; 12];
        let mut w = MessageWriter::new(&mut out, 7, [0; 3]).unwrap();
        assert_eq!(w.option(1, &[1, 2, 3, 4, 5]), None);
        assert_eq!(w.association((3, 1), (0, 0), |_| Some(())), None);
        assert_eq!(w.len(), 4);
        assert_eq!(w.option(1, &[1, 2, 3, 4]), Some(()));
        assert_eq!(w.len(), 12);
        assert!(!w.is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some((_, options)) = MessageHeader::parse(&bytes) {
                for association in options.associations() {
                    let _ = association.addresses().count();
                }
                prop_assert!(options.count() <= bytes.len() / 4);
            }
        }
    }
}

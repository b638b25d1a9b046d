//! DHCP for IPv4 (RFC 2131) and BOOTP (RFC 951): the fixed part and the options (RFC 2132).

use core::net::Ipv4Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::writer::Writer;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Length in bytes of [`DhcpHeader`].
pub const HEADER_LEN: usize = 240;
/// The first four bytes of the options area (RFC 2132 §2).
pub const MAGIC: u32 = 0x6382_5363;
/// [`DhcpHeader::op`]: from a client.
pub const BOOTREQUEST: u8 = 1;
/// [`DhcpHeader::op`]: from a server.
pub const BOOTREPLY: u8 = 2;
/// [`DhcpHeader::flags`]: the client can only receive broadcasts.
pub const BROADCAST_FLAG: u16 = 0x8000;
/// The most bytes of options in a reply, end option not counted: with it and the headers exactly the
/// 576 bytes every client takes (RFC 2131 §2).
pub const MAX_OPTIONS: usize = 307;
/// The fewest bytes the options area has, end option and padding included: with the magic number the 64
/// bytes of BOOTP's vendor area.
pub const MIN_OPTIONS: usize = 60;
/// A lease that never ends.
pub const INFINITE: u32 = 0xffff_ffff;

/// Option codes.
pub mod code {
    /// One byte of padding.
    pub const PAD: u8 = 0;
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// Resolvers.
    pub const DNS: u8 = 6;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// MTU of the interface.
    pub const MTU: u8 = 26;
    /// Requested address.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Lease time in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// Message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Parameter request list.
    pub const PARAMETER_LIST: u8 = 55;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// Rapid commit (RFC 4039).
    pub const RAPID_COMMIT: u8 = 80;
    /// Client's fully qualified domain name (RFC 4702).
    pub const CLIENT_FQDN: u8 = 81;
    /// Domain search list (RFC 3397).
    pub const DOMAIN_SEARCH: u8 = 119;
    /// Classless static routes (RFC 3442).
    pub const CLASSLESS_ROUTES: u8 = 121;
    /// End of the options.
    pub const END: u8 = 255;
}

/// Values of [`code::MESSAGE_TYPE`].
pub mod message_type {
    /// DHCPDISCOVER.
    pub const DISCOVER: u8 = 1;
    /// DHCPOFFER.
    pub const OFFER: u8 = 2;
    /// DHCPREQUEST.
    pub const REQUEST: u8 = 3;
    /// DHCPDECLINE.
    pub const DECLINE: u8 = 4;
    /// DHCPACK.
    pub const ACK: u8 = 5;
    /// DHCPNAK.
    pub const NAK: u8 = 6;
    /// DHCPRELEASE.
    pub const RELEASE: u8 = 7;
    /// DHCPINFORM.
    pub const INFORM: u8 = 8;
}

/// The fixed part of a message, with the magic number of the options.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DhcpHeader {
    /// [`BOOTREQUEST`] or [`BOOTREPLY`].
    pub op: u8,
    /// Hardware type: 1, Ethernet.
    pub htype: u8,
    /// Length of a hardware address.
    pub hlen: u8,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction identifier.
    pub xid: U32,
    /// Seconds since the client began.
    pub secs: U16,
    /// [`BROADCAST_FLAG`].
    pub flags: U16,
    /// The client's address, if it has one it can answer ARP for.
    pub ciaddr: [u8; 4],
    /// "Your" address.
    pub yiaddr: [u8; 4],
    /// Next server of a boot.
    pub siaddr: [u8; 4],
    /// Relay agent.
    pub giaddr: [u8; 4],
    /// The client's hardware address, padded.
    pub chaddr: [u8; 16],
    /// Server host name.
    pub sname: [u8; 64],
    /// Boot file.
    pub file: [u8; 128],
    /// [`MAGIC`].
    pub magic: U32,
}

const _: () = assert!(size_of::<DhcpHeader>() == HEADER_LEN);

impl DhcpHeader {
    /// The fixed part and the options area (to be read with [`Options`]); `None` if too short or without
    /// the magic number.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<(&Self, &[u8])> {
        let (header, options) = Self::ref_from_prefix(message).ok()?;
        (header.magic.get() == MAGIC).then_some((header, options))
    }

    /// A reply to this message: what RFC 2131 table 3 copies is copied, the rest is zero.
    #[must_use]
    pub const fn reply(&self, your_address: Ipv4Addr) -> Self {
        Self {
            op: BOOTREPLY,
            hops: 0,
            secs: U16::ZERO,
            yiaddr: your_address.octets(),
            siaddr: [0; 4],
            sname: [0; 64],
            file: [0; 128],
            magic: U32::new(MAGIC),
            ..*self
        }
    }

    /// Whether the client can only receive broadcasts.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags.get() & BROADCAST_FLAG != 0
    }
}

/// The options of a message: code and value, without padding, up to the end option, the end of the area
/// or the first option that reaches beyond it.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Options of an area as [`DhcpHeader::parse`] returns it.
    #[must_use]
    pub const fn new(area: &'a [u8]) -> Self {
        Self(area)
    }

    /// The value of the last option with this code.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        self.clone().filter(|(c, _)| *c == code).map(|(_, value)| value).last()
    }

    /// The message type; `None` for BOOTP, and for one of a wrong length.
    #[must_use]
    pub fn message_type(&self) -> Option<u8> {
        match self.get(code::MESSAGE_TYPE) {
            Some(&[kind]) => Some(kind),
            _ => None,
        }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.0 {
                [code::PAD, ref rest @ ..] => self.0 = rest,
                [code, len, ref rest @ ..] if code != code::END => {
                    let (value, rest) = rest.split_at_checked(usize::from(len))?;
                    self.0 = rest;
                    return Some((code, value));
                }
                _ => return None,
            }
        }
    }
}

/// Builds a reply: header, options, end and padding.
#[derive(Debug)]
pub struct ReplyWriter<'a> {
    w: Writer<'a>,
}

impl<'a> ReplyWriter<'a> {
    /// The longest message in bytes.
    pub const MAX_LEN: usize = HEADER_LEN + MAX_OPTIONS + 1;

    /// Starts at the front of `out`; `None` if it is shorter than [`ReplyWriter::MAX_LEN`].
    #[must_use]
    pub fn new(out: &'a mut [u8], header: &DhcpHeader) -> Option<Self> {
        let mut w = Writer::new(out.get_mut(..Self::MAX_LEN)?);
        w.put(header.as_bytes())?;
        Some(Self { w })
    }

    /// Appends an option; `None`, with nothing written, if it does not fit (or is longer than 255).
    pub fn option(&mut self, code: u8, value: &[u8]) -> Option<()> {
        let len = u8::try_from(value.len()).ok()?;
        // One byte stays free for the end.
        if self.w.room() < 2 + value.len() + 1 {
            return None;
        }
        self.w.put(&[code, len])?;
        self.w.put(value)
    }

    /// Writes the end and the padding; returns the message's length.
    #[must_use]
    pub fn finish(mut self) -> usize {
        // There is always room: `option` keeps a byte free, and the padding is below the maximum.
        let _ = self.w.put_u8(code::END);
        let _ = self.w.zeros((HEADER_LEN + MIN_OPTIONS).saturating_sub(self.w.len()));
        self.w.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::{Decodable, Encodable, v4};
    use proptest::prelude::*;

    fn request() -> Vec<u8> {
        let mut message = v4::Message::default();
        message
            .set_xid(0x1234_5678)
            .set_flags(v4::Flags::default().set_broadcast())
            .set_chaddr(&[2, 0, 0, 0, 0, 1])
            .set_ciaddr([192, 0, 2, 9]);
        message.opts_mut().insert(v4::DhcpOption::MessageType(v4::MessageType::Discover));
        message.opts_mut().insert(v4::DhcpOption::Hostname("guest".into()));
        message.to_vec().unwrap()
    }

    #[test]
    fn reads_what_dhcproto_writes() {
        let bytes = request();
        let (header, options) = DhcpHeader::parse(&bytes).unwrap();
        let options = Options::new(options);
        assert_eq!((header.op, header.htype, header.hlen), (1, 1, 6));
        assert_eq!(header.xid.get(), 0x1234_5678);
        assert!(header.wants_broadcast());
        assert_eq!(options.message_type(), Some(message_type::DISCOVER));
        assert_eq!(options.get(code::HOST_NAME), Some(&b"guest"[..]));
        assert_eq!(options.get(code::ROUTER), None);
        assert!(DhcpHeader::parse(&bytes[..239]).is_none());
    }

    #[test]
    fn dhcproto_reads_what_is_written() {
        let bytes = request();
        let (header, _) = DhcpHeader::parse(&bytes).unwrap();
        let mut out = [0xee; 600];
        let reply = header.reply(Ipv4Addr::new(192, 0, 2, 1));
        let mut w = ReplyWriter::new(&mut out, &reply).unwrap();
        w.option(code::MESSAGE_TYPE, &[message_type::ACK]).unwrap();
        w.option(code::MTU, &1500u16.to_be_bytes()).unwrap();
        let len = w.finish();
        assert_eq!(len, 300);
        let message = v4::Message::from_bytes(&out[..len]).unwrap();
        assert_eq!(message.opcode(), v4::Opcode::BootReply);
        assert_eq!(message.yiaddr(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(message.xid(), 0x1234_5678);
        assert_eq!(message.chaddr(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Ack));
        assert!(message.opts().contains(v4::OptionCode::InterfaceMtu));
    }

    #[test]
    fn never_beyond_576_bytes() {
        let bytes = request();
        let (header, _) = DhcpHeader::parse(&bytes).unwrap();
        let mut out = [0xee; 600];
        let mut w = ReplyWriter::new(&mut out, header).unwrap();
        assert_eq!(w.option(1, &[7; 255]), Some(()));
        assert_eq!(w.option(2, &[7; 49]), None);
        assert_eq!(w.option(2, &[7; 48]), Some(()));
        assert_eq!(w.option(3, &[]), None);
        let len = w.finish();
        assert_eq!(len + 28, 576);
        assert_eq!((out[len - 1], out[len]), (255, 0xee));
        assert!(ReplyWriter::new(&mut out[..547], header).is_none());
    }

    #[test]
    fn padding_end_truncation_and_the_last_one_wins() {
        let area = [0, 0, 12, 1, b'a', 0, 12, 1, b'b', 53, 1, 1, 255, 12, 1, b'c'];
        let options = Options::new(&area);
        assert_eq!(options.get(12), Some(&b"b"[..]));
        assert_eq!(options.message_type(), Some(1));
        assert_eq!(Options::new(&[53, 1, 1, 12, 9, 1]).count(), 1);
        assert_eq!(Options::new(&[53]).count(), 0);
        assert_eq!(Options::new(&[53, 2, 1, 1]).message_type(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let values: usize = Options::new(&bytes).map(|(_, value)| value.len() + 2).sum();
            prop_assert!(values <= bytes.len());
            let _ = DhcpHeader::parse(&bytes);
        }
    }
}

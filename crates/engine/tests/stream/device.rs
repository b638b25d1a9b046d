//! The hypervisor's end of the stream, as a device of smoltcp: length, frame, length, frame.
//!
//! It believes nothing: every frame has a length that it may have, and every checksum in it is right. A
//! stack that just drops what is wrong would let retransmissions hide that.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol,
    Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

const ETHERNET: usize = 14;
/// The shortest frame without its check sequence.
const SHORTEST: usize = 60;

/// What came out of the stream.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) frames: u64,
    pub(crate) longest: usize,
    pub(crate) advertisements: u64,
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: Option<UnixStream>,
    mtu: usize,
    incoming: Vec<u8>,
    taken: usize,
    outgoing: Vec<u8>,
    /// Bytes per write at most, drawn anew for each; without it, as many as there are.
    pub(crate) pieces: Option<usize>,
    state: u64,
    /// Reads nothing.
    pub(crate) paused: bool,
    /// Bytes that may still be read, if they are counted.
    pub(crate) allowance: Option<usize>,
    pub(crate) seen: Seen,
}

impl Wire {
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            stream: None,
            mtu: mtu.into(),
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            pieces: None,
            state: 1,
            paused: false,
            allowance: None,
            seen: Seen::default(),
        }
    }

    /// The other end of the link is this one now. What was not sent is lost, as is what was not read.
    pub(crate) fn connect(&mut self, stream: UnixStream) {
        stream.set_nonblocking(true).unwrap();
        self.incoming.clear();
        self.taken = 0;
        self.outgoing.clear();
        self.stream = Some(stream);
    }

    /// Sends the beginning of a frame and goes.
    pub(crate) fn leave_with_half_a_frame(&mut self) {
        self.outgoing.extend([0, 0, 5, 220, 1, 2, 3]);
        self.flush();
        self.stream = None;
    }

    fn random(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as usize % below
    }

    /// Sends what there is room for. Whether that was anything.
    pub(crate) fn flush(&mut self) -> bool {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            let rest = self.outgoing.len() - sent;
            let len = match self.pieces {
                Some(most) => rest.min(1 + self.random(most)),
                None => rest,
            };
            let Some(stream) = &mut self.stream else { break };
            match stream.write(&self.outgoing[sent..sent + len]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the worker has gone: {error}"),
            }
        }
        self.outgoing.drain(..sent);
        sent > 0
    }

    /// Reads what there is. Whether that was anything.
    pub(crate) fn fill(&mut self) -> bool {
        let mut buffer = [0; 32 << 10];
        let mut some = false;
        while !self.paused && self.incoming.len() - self.taken < 1 << 20 {
            let allowed = self.allowance.unwrap_or(buffer.len()).min(buffer.len());
            let Some(stream) = self.stream.as_mut().filter(|_| allowed > 0) else { break };
            match stream.read(&mut buffer[..allowed]) {
                Ok(0) => panic!("the worker has closed the stream"),
                Ok(len) => {
                    self.incoming.extend(&buffer[..len]);
                    self.allowance = self.allowance.map(|allowance| allowance - len);
                    some = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("stream: {error}"),
            }
        }
        some
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let bytes = &self.incoming[self.taken..];
        let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        assert!(
            (SHORTEST..=ETHERNET + self.mtu).contains(&len),
            "a frame of {len} bytes behind {}",
            self.seen.frames
        );
        let frame = bytes.get(4..4 + len)?.to_vec();
        self.taken += 4 + len;
        if self.taken > 1 << 20 {
            self.incoming.drain(..self.taken);
            self.taken = 0;
        }
        look(&frame, &mut self.seen);
        Some(frame)
    }
}

/// Panics at a frame that is not as it should be.
fn look(frame: &[u8], seen: &mut Seen) {
    seen.frames += 1;
    seen.longest = seen.longest.max(frame.len());
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    let (protocol, src, dst, payload) = match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            ArpPacket::new_checked(ethernet.payload()).unwrap();
            return;
        }
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            assert!(packet.verify_checksum(), "IPv4 header");
            let (src, dst) = (packet.src_addr(), packet.dst_addr());
            assert!(!packet.more_frags() && packet.frag_offset() == 0, "no fragments here");
            (packet.next_header(), src.into(), dst.into(), packet.payload().to_vec())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            let (src, dst) = (packet.src_addr(), packet.dst_addr());
            (packet.next_header(), src.into(), dst.into(), packet.payload().to_vec())
        }
        other => panic!("ethertype {other}"),
    };
    match (protocol, src, dst) {
        (IpProtocol::Tcp, src, dst) => {
            let segment = TcpPacket::new_checked(&payload).unwrap();
            assert!(segment.verify_checksum(&src, &dst), "TCP {src} {dst}");
        }
        (IpProtocol::Udp, src, dst) => {
            let datagram = UdpPacket::new_checked(&payload).unwrap();
            assert!(datagram.verify_checksum(&src, &dst), "UDP {src} {dst}");
        }
        (IpProtocol::Icmpv6, IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            let message = Icmpv6Packet::new_checked(&payload).unwrap();
            assert!(message.verify_checksum(&src, &dst), "ICMPv6 {src} {dst}");
            let advertisement = message.msg_type() == Icmpv6Message::NeighborAdvert;
            seen.advertisements += u64::from(advertisement);
        }
        (protocol, ..) => panic!("protocol {protocol}"),
    }
}

pub(crate) struct Rx(Vec<u8>);
pub(crate) struct Tx<'a>(&'a mut Vec<u8>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.extend(u32::try_from(len).unwrap().to_be_bytes());
        let start = self.0.len();
        self.0.resize(start + len, 0);
        f(&mut self.0[start..])
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.next_frame()?;
        Some((Rx(frame), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.outgoing.len() < 1 << 20).then_some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET + self.mtu;
        capabilities
    }
}

//! Frames as the models read and write them.

use std::net::{IpAddr, SocketAddr};

use wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use wire::tcp::{TcpFlags, TcpHeader};
use wire::tcp_option::{MAX_LEN, TcpOptions};
use wire::{IntoBytes, U16, U32, checksum, protocol};

use crate::io::Gso;

/// One frame on its way.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Ethernet header and packet.
    pub data: Vec<u8>,
    /// Segment size, if this is a superframe.
    pub gso: Gso,
}

/// A TCP segment in a frame.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    /// Sender of the frame on the link.
    pub src_mac: MacAddr,
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port.
    pub dst: SocketAddr,
    /// The TCP header.
    pub header: &'a TcpHeader,
    /// Its options.
    pub options: TcpOptions,
    /// What follows it.
    pub payload: &'a [u8],
    /// Length of the IP packet in bytes.
    pub packet_len: usize,
    /// Whether the TCP checksum is right.
    pub checksum_ok: bool,
}

impl<'a> TcpView<'a> {
    /// Reads a frame; `None` if there is no TCP segment in it.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        let (src, dst, segment): (IpAddr, IpAddr, _) = match ethernet.ethertype.get() {
            ETHERTYPE_IPV4 => {
                let (ip, _, payload) = Ipv4Header::parse(packet)?;
                if ip.protocol != protocol::TCP || ip.is_fragment() {
                    return None;
                }
                (ip.src_addr().into(), ip.dst_addr().into(), payload)
            }
            ETHERTYPE_IPV6 => {
                let (ip, payload) = Ipv6Header::parse(packet)?;
                if ip.next_header != protocol::TCP {
                    return None;
                }
                (ip.src_addr().into(), ip.dst_addr().into(), payload)
            }
            _ => return None,
        };
        let (header, options, payload) = TcpHeader::parse(segment)?;
        let pseudo = checksum::pseudo_header(src, dst, protocol::TCP, segment.len() as u32);
        Some(Self {
            src_mac: ethernet.src,
            src: SocketAddr::new(src, header.src_port.get()),
            dst: SocketAddr::new(dst, header.dst_port.get()),
            header,
            options: TcpOptions::parse(options),
            payload,
            packet_len: packet.len(),
            checksum_ok: checksum::verify(pseudo, segment),
        })
    }

    /// Whether any of these flags is set.
    pub fn has(&self, flag: TcpFlags) -> bool {
        self.header.flags.intersects(flag)
    }
}

/// A TCP segment to be written.
#[derive(Clone, Copy, Debug)]
pub struct TcpOut {
    /// Sender and receiver on the link.
    pub macs: (MacAddr, MacAddr),
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port, of the same family.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field.
    pub window: u16,
    /// Options.
    pub options: TcpOptions,
}

impl TcpOut {
    /// Writes the frame with a payload of `len` bytes that `fill` provides, checksums complete.
    pub fn build(&self, out: &mut Vec<u8>, len: usize, fill: impl FnOnce(&mut [u8])) {
        let mut options = [0; MAX_LEN];
        let options_len = self.options.emit(&mut options);
        let segment_len = size_of::<TcpHeader>() + options_len + len;
        out.clear();
        let ip = ip_header(out, self.macs, self.src.ip(), self.dst.ip(), segment_len);
        let mut header = TcpHeader {
            src_port: U16::new(self.src.port()),
            dst_port: U16::new(self.dst.port()),
            seq: U32::new(self.seq),
            ack: U32::new(self.ack),
            flags: self.flags,
            window: U16::new(self.window),
            ..TcpHeader::default()
        };
        header.set_options_len(options_len);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&options[..options_len]);
        let payload = out.len();
        out.resize(payload + len, 0);
        fill(&mut out[payload..]);
        let pseudo = checksum::pseudo_header(
            self.src.ip(),
            self.dst.ip(),
            protocol::TCP,
            segment_len as u32,
        );
        let sum = checksum::transport_checksum(pseudo, protocol::TCP, &out[ip..]);
        out[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Writes Ethernet and IP headers; returns where the segment starts.
fn ip_header(
    out: &mut Vec<u8>,
    macs: (MacAddr, MacAddr),
    src: IpAddr,
    dst: IpAddr,
    len: usize,
) -> usize {
    let ethertype = if src.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    out.extend_from_slice(EthernetHeader::new(macs.1, macs.0, ethertype).as_bytes());
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend_from_slice(Ipv4Header::new(protocol::TCP, 64, src, dst, len).as_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend_from_slice(Ipv6Header::new(protocol::TCP, 64, src, dst, len).as_bytes());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    out.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_and_verified_by_smoltcp() {
        for (src, dst) in
            [("192.0.2.2:1000", "192.0.2.1:80"), ("[2001:db8::2]:1000", "[2001:db8::1]:80")]
        {
            let out = TcpOut {
                macs: (MacAddr([2; 6]), MacAddr([4; 6])),
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
                seq: 77,
                ack: 88,
                flags: TcpFlags::ACK | TcpFlags::PSH,
                window: 99,
                options: TcpOptions { timestamps: Some((1, 2)), ..TcpOptions::default() },
            };
            let mut frame = Vec::new();
            out.build(&mut frame, 3, |buf| buf.copy_from_slice(b"abc"));
            let view = TcpView::parse(&frame).unwrap();
            assert_eq!((view.src, view.dst, view.payload), (out.src, out.dst, &b"abc"[..]));
            assert!(view.checksum_ok);
            let ip_len = if out.src.is_ipv4() { 20 } else { 40 };
            let packet = smoltcp::wire::TcpPacket::new_checked(&frame[14 + ip_len..]).unwrap();
            assert!(packet.verify_checksum(&out.src.ip().into(), &out.dst.ip().into()));
            frame[60] ^= 1;
            assert!(!TcpView::parse(&frame).unwrap().checksum_ok);
        }
    }
}

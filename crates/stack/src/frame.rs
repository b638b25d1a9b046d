//! Headers in front of a payload that already stands in its final place.

use std::net::IpAddr;

use wire::IntoBytes;
use wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};

/// Where a frame goes: addresses of one family, and the link-layer addresses around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// IP source.
    pub src: IpAddr,
    /// IP destination.
    pub dst: IpAddr,
    /// Link-layer source.
    pub src_mac: MacAddr,
    /// Link-layer destination.
    pub dst_mac: MacAddr,
}

/// The fields of an IP header that vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpFields {
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv6 flow label (20 bits); unused for IPv4.
    pub flow_label: u32,
}

impl Default for IpFields {
    fn default() -> Self {
        Self { ttl: 255, tos: 0, flow_label: 0 }
    }
}

/// Writes Ethernet and IP headers into `buf` so that they end at `l4_start`, for a transport header and
/// payload of `l4_len` bytes in all. Returns where the frame starts.
///
/// `None` if the headers do not fit in front of `l4_start`, the packet would exceed 65535 bytes, or the
/// addresses are of two families.
pub fn write_ip(
    buf: &mut [u8],
    l4_start: usize,
    l4_len: usize,
    protocol: u8,
    route: &Route,
    fields: &IpFields,
) -> Option<usize> {
    match (route.src, route.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = u16::try_from(l4_len).ok().filter(|len| *len <= u16::MAX - 20)?;
            let mut header = Ipv4Header::new(protocol, fields.ttl, src, dst, len);
            if fields.tos != 0 {
                header.tos = fields.tos;
                header.checksum.set(0);
                let checksum = header.compute_checksum();
                header.checksum.set(checksum);
            }
            let ip_start = l4_start.checked_sub(ipv4::HEADER_LEN)?;
            buf.get_mut(ip_start..l4_start)?.copy_from_slice(header.as_bytes());
            write_ethernet(buf, ip_start, ETHERTYPE_IPV4, route)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let len = u16::try_from(l4_len).ok()?;
            let mut header = Ipv6Header::new(protocol, fields.ttl, src, dst, len);
            header.set_traffic_class(fields.tos);
            header.set_flow_label(fields.flow_label);
            let ip_start = l4_start.checked_sub(ipv6::HEADER_LEN)?;
            buf.get_mut(ip_start..l4_start)?.copy_from_slice(header.as_bytes());
            write_ethernet(buf, ip_start, ETHERTYPE_IPV6, route)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Writes an Ethernet header so that it ends at `l3_start`. Returns where the frame starts.
pub fn write_ethernet(
    buf: &mut [u8],
    l3_start: usize,
    ethertype: u16,
    route: &Route,
) -> Option<usize> {
    let start = l3_start.checked_sub(ethernet::HEADER_LEN)?;
    let header = EthernetHeader::new(route.dst_mac, route.src_mac, ethertype);
    buf.get_mut(start..l3_start)?.copy_from_slice(header.as_bytes());
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(src: &str, dst: &str) -> Route {
        Route {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            src_mac: MacAddr([2; 6]),
            dst_mac: MacAddr([4; 6]),
        }
    }

    #[test]
    fn headers_end_where_the_transport_starts() {
        let mut buf = [0xee; 200];
        let fields = IpFields { ttl: 3, tos: 0x28, flow_label: 0x12345 };
        let start =
            write_ip(&mut buf, 100, 50, 17, &route("192.0.2.1", "192.0.2.2"), &fields).unwrap();
        assert_eq!(start, 100 - 34);
        let (header, options, payload) = Ipv4Header::parse(&buf[start + 14..150]).unwrap();
        assert_eq!((options.len(), payload.len()), (0, 50));
        assert_eq!(
            (header.ttl, header.tos, header.compute_checksum()),
            (3, 0x28, header.checksum.get())
        );

        let start =
            write_ip(&mut buf, 100, 50, 6, &route("2001:db8::1", "2001:db8::2"), &fields).unwrap();
        assert_eq!(start, 100 - 54);
        let (header, payload) = Ipv6Header::parse(&buf[start + 14..150]).unwrap();
        assert_eq!(
            (header.traffic_class(), header.flow_label(), payload.len()),
            (0x28, 0x12345, 50)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut buf = [0; 200];
        let fields = IpFields::default();
        assert_eq!(write_ip(&mut buf, 20, 50, 6, &route("192.0.2.1", "192.0.2.2"), &fields), None);
        assert_eq!(
            write_ip(&mut buf, 100, 65516, 6, &route("192.0.2.1", "192.0.2.2"), &fields),
            None
        );
        assert_eq!(write_ip(&mut buf, 100, 50, 6, &route("192.0.2.1", "::2"), &fields), None);
    }
}

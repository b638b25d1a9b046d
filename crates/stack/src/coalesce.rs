//! TCP segments that continue each other, taken together: what a link without offload brings one by one
//! costs the host one system call.
//!
//! Only what differs in nothing but sequence number, length and checksums is taken together, and only
//! plain data: what is looked at of the first segment then holds for all of them.

use std::io::IoSlice;

use wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use wire::ipv4::{self, Ipv4Header};
use wire::ipv6::{self, Ipv6Header};
use wire::protocol;
use wire::tcp::{TcpFlags, TcpHeader};

/// Segments at most.
const MAX_SEGMENTS: usize = 128;

/// Two segments or more, as if they were one.
#[derive(Debug)]
pub struct Run<'a> {
    first: &'a [u8],
    layout: Layout,
    payloads: [IoSlice<'a>; MAX_SEGMENTS],
    count: usize,
    next: u32,
}

impl<'a> Run<'a> {
    /// The run of two frames, if the second continues the first.
    #[must_use]
    pub fn start(first: &'a [u8], second: &'a [u8]) -> Option<Self> {
        let (layout, payload) = Layout::of(first)?;
        let length = u32::try_from(payload.len()).ok()?;
        let next = layout.tcp(first)?.seq.get().wrapping_add(length);
        let following = layout.payload_of_next(first, second, next)?;
        let mut payloads = [IoSlice::new(&[]); MAX_SEGMENTS];
        let [one, two, ..] = &mut payloads;
        (*one, *two) = (IoSlice::new(payload), IoSlice::new(following));
        let next = next.wrapping_add(u32::try_from(following.len()).ok()?);
        Some(Self { first, layout, payloads, count: 2, next })
    }

    /// Adds a frame, if it continues the last one and there is room.
    pub fn takes(&mut self, frame: &'a [u8]) -> bool {
        let Some(payload) = self.layout.payload_of_next(self.first, frame, self.next) else {
            return false;
        };
        let (Some(place), Ok(length)) =
            (self.payloads.get_mut(self.count), u32::try_from(payload.len()))
        else {
            return false;
        };
        *place = IoSlice::new(payload);
        self.count += 1;
        self.next = self.next.wrapping_add(length);
        true
    }

    /// The first frame, whose headers stand for all of them.
    #[must_use]
    pub fn first(&self) -> &'a [u8] {
        self.first
    }

    /// The payloads of all frames, that of the first included.
    #[must_use]
    pub fn payloads(&self) -> &[IoSlice<'a>] {
        self.payloads.get(..self.count).unwrap_or_default()
    }
}

/// Where things are in a frame with a plain TCP segment.
#[derive(Clone, Copy, Debug)]
struct Layout {
    ipv4: bool,
    /// Where the TCP header and the payload start.
    tcp: usize,
    payload: usize,
}

impl Layout {
    /// Layout and payload of a frame, if there is payload and nothing special about it.
    fn of(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (header, packet) = EthernetHeader::parse(frame)?;
        let (ipv4, ip_len, segment) = match header.ethertype.get() {
            ETHERTYPE_IPV4 => {
                let (header, options, segment) = Ipv4Header::parse(packet)?;
                let plain =
                    options.is_empty() && !header.is_fragment() && header.protocol == protocol::TCP;
                (true, ipv4::HEADER_LEN, plain.then_some(segment)?)
            }
            ETHERTYPE_IPV6 => {
                let (header, segment) = Ipv6Header::parse(packet)?;
                let plain = header.next_header == protocol::TCP;
                (false, ipv6::HEADER_LEN, plain.then_some(segment)?)
            }
            _ => return None,
        };
        let (header, _, payload) = TcpHeader::parse(segment)?;
        if payload.is_empty() || header.flags.without(TcpFlags::PSH) != TcpFlags::ACK {
            return None;
        }
        let tcp = ethernet::HEADER_LEN + ip_len;
        Some((Self { ipv4, tcp, payload: tcp + header.header_len() }, payload))
    }

    fn tcp<'a>(&self, frame: &'a [u8]) -> Option<&'a TcpHeader> {
        Some(TcpHeader::parse(frame.get(self.tcp..)?)?.0)
    }

    /// The payload of `frame`, if it differs from `first` in nothing but what differs between segments
    /// that follow each other, and begins at `next`.
    fn payload_of_next<'a>(&self, first: &[u8], frame: &'a [u8], next: u32) -> Option<&'a [u8]> {
        let same = |from: usize, to: usize| {
            let part = frame.get(from..to);
            part.is_some() && part == first.get(from..to)
        };
        let ip = ethernet::HEADER_LEN;
        let network = if self.ipv4 {
            // All but length, identification and checksum.
            same(0, ip + 2) && same(ip + 6, ip + 10) && same(ip + 12, ip + 20)
        } else {
            // All but the length.
            same(0, ip + 4) && same(ip + 6, ip + 40)
        };
        let tcp = self.tcp;
        // All but sequence number, flags and checksum.
        let transport = same(tcp, tcp + 4)
            && same(tcp + 8, tcp + 13)
            && same(tcp + 14, tcp + 16)
            && same(tcp + 18, self.payload);
        if !network || !transport {
            return None;
        }
        // It may be cut short, and have padding.
        let (_, payload) = Self::of(frame)?;
        (self.tcp(frame)?.seq.get() == next).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::IntoBytes;
    use wire::ethernet::MacAddr;

    use super::*;
    use crate::io::{FrameMeta, Gso};
    use crate::segment;

    /// A TCP segment of a guest: sequence number, flags, payload.
    fn frame(ipv6: bool, seq: u32, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
        let mut tcp = TcpHeader {
            src_port: 1000.into(),
            dst_port: 80.into(),
            seq: seq.into(),
            ack: 77.into(),
            flags,
            window: 500.into(),
            ..TcpHeader::default()
        };
        tcp.set_options_len(12);
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let segment = [tcp.as_bytes(), &options, payload].concat();
        let mac = MacAddr([2; 6]);
        let len = u16::try_from(segment.len()).unwrap();
        let (ethertype, ip) = if ipv6 {
            let header = Ipv6Header::new(6, 64, [1; 16].into(), [2; 16].into(), len);
            (ETHERTYPE_IPV6, header.as_bytes().to_vec())
        } else {
            let header = Ipv4Header::new(6, 64, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), len);
            (ETHERTYPE_IPV4, header.as_bytes().to_vec())
        };
        [EthernetHeader::new(mac, mac, ethertype).as_bytes(), &ip, &segment].concat()
    }

    proptest! {
        #[test]
        fn what_was_cut_is_whole_again(
            ipv6 in any::<bool>(),
            seq in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 2..30_000),
            size in 300u16..9000,
        ) {
            let mut whole = frame(ipv6, seq, TcpFlags::ACK | TcpFlags::PSH, &payload);
            let start = if ipv6 { 54 } else { 34 };
            let meta = FrameMeta { gso: Gso::Tcp(size), csum_start: Some(start), csum_offset: 16 };
            let mut frames = Vec::new();
            segment::segments(&mut whole, &meta, wire::checksum::sum, |head, data| frames.push([head, data].concat()));
            let [first, rest @ ..] = &frames[..] else { panic!("no frames") };
            let [second, rest @ ..] = rest else { return Ok(()) };
            let mut run = Run::start(first, second).unwrap();
            prop_assert!(rest.iter().all(|frame| run.takes(frame)));
            let joined: Vec<u8> = run.payloads().iter().flat_map(|part| part.to_vec()).collect();
            prop_assert_eq!(joined, payload);
            prop_assert_eq!(run.first(), &first[..]);
        }

        #[test]
        fn any_difference_counts(ipv6 in any::<bool>(), at in 0usize..120, bit in 0u8..8) {
            let first = frame(ipv6, 5, TcpFlags::ACK, &[1; 100]);
            let mut second = frame(ipv6, 105, TcpFlags::ACK, &[2; 20]);
            prop_assert!(Run::start(&first, &second).is_some());
            let headers = second.len() - 20;
            if at >= headers {
                return Ok(());
            }
            second[at] ^= 1 << bit;
            let ip = 14;
            let tcp = headers - 32;
            let ignored = if ipv6 { 0..0 } else { ip + 4..ip + 6 };
            let ip_checksum = if ipv6 { 0..0 } else { ip + 10..ip + 12 };
            let length = if ipv6 { ip + 4..ip + 6 } else { ip + 2..ip + 4 };
            let pushed = at == tcp + 13 && 1 << bit == 8;
            let harmless = ignored.contains(&at)
                || ip_checksum.contains(&at)
                || (tcp + 16..tcp + 18).contains(&at)
                || pushed;
            match Run::start(&first, &second) {
                // A shorter length makes a shorter payload.
                Some(run) if length.contains(&at) => prop_assert!(run.payloads()[1].len() < 20),
                Some(_) => prop_assert!(harmless, "byte {} of {}", at, headers),
                None => prop_assert!(!harmless),
            }
        }

        #[test]
        fn rubbish_is_survived(
            a in prop::collection::vec(any::<u8>(), 0..100),
            b in prop::collection::vec(any::<u8>(), 0..100),
            cut in 0usize..120,
        ) {
            let _ = Run::start(&a, &b);
            let whole = frame(false, 1, TcpFlags::ACK, &[0; 40]);
            let next = frame(false, 41, TcpFlags::ACK, &[0; 40]);
            let _ = Run::start(&whole, next.get(..cut).unwrap_or(&next));
            let _ = Run::start(whole.get(..cut).unwrap_or(&whole), &next);
        }
    }

    #[test]
    fn only_plain_data_and_only_so_much() {
        let ack = TcpFlags::ACK;
        let first = frame(false, u32::MAX - 9, ack, &[1; 20]);
        let next = |flags, payload: &[u8]| frame(false, 10, flags, payload);
        assert!(Run::start(&first, &next(ack | TcpFlags::PSH, &[2])).is_some());
        for flags in [ack | TcpFlags::FIN, ack | TcpFlags::URG, ack | TcpFlags::CWR, TcpFlags::RST]
        {
            assert!(Run::start(&first, &next(flags, &[2])).is_none(), "{flags:?}");
        }
        assert!(Run::start(&first, &next(ack, &[])).is_none(), "an ACK alone");
        assert!(Run::start(&first, &frame(false, 11, ack, &[2])).is_none(), "a gap");
        assert!(Run::start(&first, &frame(false, 9, ack, &[2])).is_none(), "an overlap");
        let frames: Vec<_> = (0..200).map(|i| frame(true, i, ack, &[9])).collect();
        let mut run = Run::start(&frames[0], &frames[1]).unwrap();
        let taken = frames[2..].iter().take_while(|frame| run.takes(frame)).count();
        assert_eq!((taken, run.payloads().len()), (MAX_SEGMENTS - 2, MAX_SEGMENTS));
    }
}

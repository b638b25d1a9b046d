//! passt and its hypervisor, frame by frame: who connects, who leaves, who says nothing or nonsense.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use dhcproto::{Decodable, Encodable, v4, v6};
use e2e::hypervisor::{
    Client, GUEST, OURS, Packet, Passt, SOON, arp, descriptors, processor_time, resident,
};
use e2e::{Case, SHORT, matrix, seconds};
use etherparse::{Icmpv6Slice, IpNumber, NetSlice, SlicedPacket};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testkit::{Family, Place, Proc, until};
use wire::arp::REQUEST;
use wire::ethernet::MacAddr;
use wire::ndp::{self, NdpOption, NeighborMessage, RouterAdvertisement};
use wire::{icmp6, stream};

matrix!(users:
    one_client_at_a_time, one_off, hello, answers, bad_lengths, half_a_frame, garbage, clients_come_and_go,
    reconnects_without_descriptors, reconnects_with_data_on_the_way,
);
matrix!(all: inbound, guest_that_does_not_read);

/// The gateway that the guest sees, and its link-local address.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The guest's own.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);

fn v4(family_address: IpAddr) -> Result<Ipv4Addr> {
    let IpAddr::V4(address) = family_address else { bail!("{family_address} is not IPv4") };
    Ok(address)
}

fn v6(family_address: IpAddr) -> Result<Ipv6Addr> {
    let IpAddr::V6(address) = family_address else { bail!("{family_address} is not IPv6") };
    Ok(address)
}

fn one_client_at_a_time(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, "")?;
    let me = std::process::id();
    let mut first = passt.connect()?;
    first.alive()?;
    passt.said(&format!("accepted connection from PID {me}\n"))?;
    for _ in 0..3 {
        let mut second = passt.connect()?;
        second.closed()?;
        first.alive()?;
    }
    passt.said(&format!("discarding connection from PID {me}\n"))?;
    drop(first);
    passt.said("Client connection closed\n")?;
    passt.connect()?.alive()?;
    // It may be served before we have read that it is.
    let count = |proc: &Proc, what| proc.stderr().matches(what).count();
    until("the second one", SOON, || count(&passt.proc, "accepted connection") == 2)?;
    let log = passt.proc.stderr();
    ensure!(log.matches("discarding connection").count() == 3, "{log}");
    ensure!(passt.proc.running()?, "{log}");
    Ok(())
}

fn one_off(case: &Case<'_>) -> Result<()> {
    for option in ["--one-off", "-1"] {
        let passt = Passt::start(case, option)?;
        let mut client = passt.connect()?;
        client.alive()?;
        passt.connect()?.closed()?;
        client.alive()?;
        drop(client);
        let outcome = passt.proc.finish(SHORT)?;
        ensure!(outcome.code() == Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
        let last = outcome.stderr.lines().last();
        ensure!(last == Some("Client connection closed, exiting"), "{outcome:?}");
        ensure!(std::fs::symlink_metadata(&passt.socket).is_ok(), "the socket is gone");
    }
    Ok(())
}

/// An ICMPv6 message of a frame, with its source and destination.
fn icmpv6(frame: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, &[u8])> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { return None };
    let payload = sliced.ip_payload().filter(|p| p.ip_number == IpNumber::IPV6_ICMP)?.payload;
    let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
    let valid = Icmpv6Slice::from_slice(payload)
        .is_ok_and(|message| message.is_checksum_valid(from.octets(), to.octets()));
    valid.then_some((from, to, payload))
}

/// Asks for both addresses, before anything else; without a family, for the other one.
fn hello(case: &Case<'_>) -> Result<()> {
    let (guest, gateway) = (v4(Family::V4.host())?, v4(Family::V4.gateway())?);
    let guest6 = v6(Family::V6.host())?;
    for options in ["", "-4", "-6", "-M 02:11:22:33:44:55"] {
        let ours: MacAddr = match options.strip_prefix("-M ") {
            Some(mac) => mac.parse().ok().context("no address")?,
            None => OURS,
        };
        let passt = Passt::start(case, options)?;
        for round in 0..2 {
            let mut client = passt.connect()?;
            let mut next = || -> Result<Vec<u8>> { client.next(SOON)?.context("closed") };
            if options != "-6" {
                let frame = next()?;
                let mut wanted = [MacAddr::BROADCAST.0, ours.0].concat();
                wanted.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
                wanted.extend(ours.0);
                wanted.extend(gateway.octets());
                wanted.extend([255; 6]);
                wanted.extend(guest.octets());
                wanted.resize(60, 0);
                ensure!(frame == wanted, "{options}: {frame:02x?}, wanted {wanted:02x?}");
            }
            if options != "-4" {
                let frame = next()?;
                let (from, to, message) = icmpv6(&frame).context("not ICMPv6")?;
                ensure!((from, to) == (ROUTER, guest6), "{options}: from {from} to {to}");
                ensure!(frame.starts_with(&MacAddr::BROADCAST.0), "{frame:02x?}");
                let (ns, _) = NeighborMessage::parse(message).context("no solicitation")?;
                ensure!(ns.kind == icmp6::NEIGHBOR_SOLICITATION, "{}", ns.kind);
                ensure!(ns.target_addr() == guest6, "{}", ns.target_addr());
            }
            drop(client);
            until("the end", SOON, || {
                passt.proc.stderr().matches("Client connection closed").count() > round
            })?;
        }
    }
    Ok(())
}

/// Everything that a guest asks for when it boots.
fn answers(case: &Case<'_>) -> Result<()> {
    let passt = Passt::start(case, "-H guest --fqdn guest.rig.example -m 9000")?;
    let mut client = passt.connect()?;
    client.alive()?;
    dhcp(&mut client)?;
    router(&mut client)?;
    dhcpv6(&mut client)?;
    // For addresses of others it answers, for the guest's own it does not.
    client.mac = MacAddr([2, 0, 0, 0, 0, 7]);
    client.alive()
}

fn dhcp(client: &mut Client) -> Result<()> {
    let (host, gateway) = (v4(Family::V4.host())?, v4(Family::V4.gateway())?);
    let any = SocketAddr::from(([0, 0, 0, 0], 68));
    let all = SocketAddr::from(([255, 255, 255, 255], 67));
    for (kind, answer) in [
        (v4::MessageType::Discover, v4::MessageType::Offer),
        (v4::MessageType::Request, v4::MessageType::Ack),
    ] {
        let mut message = v4::Message::default();
        message.set_xid(0x1234_5678).set_chaddr(&GUEST.0);
        let options = message.opts_mut();
        options.insert(v4::DhcpOption::MessageType(kind));
        if kind == v4::MessageType::Request {
            options.insert(v4::DhcpOption::RequestedIpAddress(host));
            options.insert(v4::DhcpOption::ServerIdentifier(gateway));
        }
        client.datagram(any, all, &message.to_vec()?)?;
        let packet = client.find("an answer of DHCP", |frame| {
            Packet::parse(frame).filter(|packet| packet.tcp.is_none() && packet.to.port() == 68)
        })?;
        ensure!(packet.mac == GUEST && packet.from.port() == 67, "{packet:?}");
        let reply = v4::Message::from_bytes(&packet.payload)?;
        ensure!(reply.xid() == 0x1234_5678 && reply.yiaddr() == host, "{reply}");
        let options = reply.opts();
        ensure!(options.msg_type() == Some(answer), "{reply}");
        let get = |code| options.get(code);
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        ensure!(
            get(v4::OptionCode::SubnetMask) == Some(&v4::DhcpOption::SubnetMask(mask)),
            "{reply}"
        );
        ensure!(
            get(v4::OptionCode::Router) == Some(&v4::DhcpOption::Router(vec![gateway])),
            "{reply}"
        );
        let resolvers = vec![v4(Family::V4.dns())?];
        ensure!(
            get(v4::OptionCode::DomainNameServer)
                == Some(&v4::DhcpOption::DomainNameServer(resolvers)),
            "{reply}"
        );
        ensure!(
            get(v4::OptionCode::InterfaceMtu) == Some(&v4::DhcpOption::InterfaceMtu(9000)),
            "{reply}"
        );
        ensure!(
            get(v4::OptionCode::Hostname) == Some(&v4::DhcpOption::Hostname("guest".into())),
            "{reply}"
        );
    }
    Ok(())
}

/// An ICMPv6 message of a guest's link-local address.
fn guest_message(to: Ipv6Addr, kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let link = etherparse::PacketBuilder::ethernet2(GUEST.0, MacAddr::ipv6_multicast(to).0);
    let packet = link.ipv6(LINK_LOCAL.octets(), to.octets(), ndp::HOP_LIMIT);
    packet.icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, body)?;
    Ok(frame)
}

/// The option of neighbour discovery that says where the guest is.
const SOURCE_LINK: [u8; 8] =
    [1, 1, GUEST.0[0], GUEST.0[1], GUEST.0[2], GUEST.0[3], GUEST.0[4], GUEST.0[5]];

/// Asks for routers, which tells passt the guest's link-local address.
fn solicit(client: &mut Client) -> Result<()> {
    let all_routers: Ipv6Addr = "ff02::2".parse()?;
    client.send(&guest_message(all_routers, icmp6::ROUTER_SOLICITATION, &SOURCE_LINK)?)
}

fn router(client: &mut Client) -> Result<()> {
    solicit(client)?;
    let frame = client.find("a router advertisement", |frame| {
        let (.., message) = icmpv6(frame)?;
        (message.first() == Some(&icmp6::ROUTER_ADVERTISEMENT)).then(|| frame.to_vec())
    })?;
    let (from, _, message) = icmpv6(&frame).context("no message")?;
    ensure!(from == ROUTER, "from {from}");
    let (advertisement, options) = RouterAdvertisement::parse(message).context("malformed")?;
    ensure!(advertisement.lifetime.get() > 0, "no router");
    let prefix: Ipv6Addr = "2001:db8:51::".parse()?;
    let (mut prefixes, mut resolvers, mut mtu) = (0, 0, 0);
    for option in options {
        match option {
            NdpOption::Prefix(found) => {
                prefixes += usize::from(Ipv6Addr::from(found.prefix) == prefix);
            }
            NdpOption::Mtu(found) => mtu = found,
            NdpOption::Rdnss { .. } => resolvers += 1,
            NdpOption::SourceLink(_)
            | NdpOption::TargetLink(_)
            | NdpOption::Dnssl { .. }
            | NdpOption::Other(..) => {}
        }
    }
    ensure!((prefixes, resolvers, mtu) == (1, 1, 9000), "{prefixes} {resolvers} {mtu}");
    // And the address of the router on the link.
    let group: Ipv6Addr = "ff02::1:ff00:1".parse()?;
    let body = [&ROUTER.octets()[..], &SOURCE_LINK].concat();
    client.send(&guest_message(group, icmp6::NEIGHBOR_SOLICITATION, &body)?)?;
    let ends = client.find("a neighbour advertisement", |frame| {
        let (from, to, message) = icmpv6(frame)?;
        let (found, _) = NeighborMessage::parse(message)?;
        let wanted = found.kind == icmp6::NEIGHBOR_ADVERTISEMENT && found.target_addr() == ROUTER;
        wanted.then_some((from, to))
    })?;
    ensure!(ends == (ROUTER, LINK_LOCAL), "{ends:?}");
    Ok(())
}

fn dhcpv6(client: &mut Client) -> Result<()> {
    let from = SocketAddr::from((LINK_LOCAL, 546));
    let to = SocketAddr::from(("ff02::1:2".parse::<Ipv6Addr>()?, 547));
    let host = v6(Family::V6.host())?;
    let id = vec![0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let association = |addresses| {
        let ia = v6::IANA { id: 7, t1: 0, t2: 0, opts: addresses };
        v6::DhcpOption::IANA(ia)
    };
    let mut server = None;
    for (kind, answer) in [
        (v6::MessageType::Solicit, v6::MessageType::Advertise),
        (v6::MessageType::Request, v6::MessageType::Reply),
    ] {
        let mut message = v6::Message::new_with_id(kind, [1, 2, 3]);
        let options = message.opts_mut();
        options.insert(v6::DhcpOption::ClientId(id.clone()));
        if let Some(server) = server.take() {
            options.insert(server);
        }
        options.insert(association(v6::DhcpOptions::new()));
        client.datagram(from, to, &message.to_vec()?)?;
        let packet = client.find("an answer of DHCPv6", |frame| {
            Packet::parse(frame).filter(|packet| packet.tcp.is_none() && packet.to.port() == 546)
        })?;
        ensure!(packet.mac == GUEST && packet.to == from, "{packet:?}");
        let reply = v6::Message::from_bytes(&packet.payload)?;
        ensure!(reply.msg_type() == answer && reply.xid() == [1, 2, 3], "{reply}");
        let Some(v6::DhcpOption::IANA(ia)) = reply.opts().get(v6::OptionCode::IANA) else {
            bail!("no association: {reply}");
        };
        let Some(v6::DhcpOption::IAAddr(address)) = ia.opts.get(v6::OptionCode::IAAddr) else {
            bail!("no address: {reply}");
        };
        ensure!(ia.id == 7 && address.addr == host, "{reply}");
        server = Some(reply.opts().get(v6::OptionCode::ServerId).context("no id")?.clone());
    }
    Ok(())
}

const PORT: u16 = 5001;

/// Where the host's loopback and a remote peer come from, as the guest sees them.
fn inbound(case: &Case<'_>) -> Result<()> {
    let passt = Passt::start(case, &format!("-t {PORT} -u {PORT}"))?;
    let guest = case.family.host();
    let (loopback, seen): (IpAddr, IpAddr) = match case.family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), Family::V4.gateway()),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), ROUTER.into()),
    };
    for round in 0..3 {
        let mut client = passt.connect()?;
        // Nothing is known of the guest until it has sent something; then the next client has the same one.
        let mac = if round == 0 { MacAddr::BROADCAST } else { GUEST };
        let me = case.family.peer();
        let probe = format!("probe udp,{guest},{PORT},{me}");
        let mut outside = case.rig.start_peer(&Place::Outside, &probe)?;
        let packet = client.knock(PORT, false)?;
        let caller = case.rig.start_peer(&Place::Outside, &format!("connect {guest} {PORT}"))?;
        let syn = client.knock(PORT, true)?;
        ensure!(syn.mac == mac && syn.to == SocketAddr::new(guest, PORT), "round {round}: {syn:?}");
        drop(caller);
        ensure!(packet.mac == mac, "round {round}: {packet:?}");
        ensure!(packet.from.ip() == me && packet.to == SocketAddr::new(guest, PORT), "{packet:?}");
        client.datagram(packet.to, packet.from, b"a 1 b by-udp")?;
        outside.wait_line("by-udp", SHORT)?;

        // The router has only a link-local address, and talks to the guest's.
        let at = if case.family == Family::V6 { LINK_LOCAL.into() } else { guest };
        if round == 0 && case.family == Family::V6 {
            solicit(&mut client)?;
            client.alive()?;
        }
        let udp = UdpSocket::bind((loopback, 0))?;
        udp.send_to(b"question", (loopback, PORT))?;
        let packet = client.knock(PORT, false)?;
        let port = udp.local_addr()?.port();
        ensure!(packet.mac == GUEST, "round {round}: {packet:?}");
        ensure!(packet.from == SocketAddr::new(seen, port), "round {round}: {packet:?}");
        ensure!(packet.to == SocketAddr::new(at, PORT), "round {round}: {packet:?}");
        ensure!(packet.payload == b"question", "{packet:?}");
        client.datagram(packet.to, packet.from, b"answer")?;
        udp.set_read_timeout(Some(SOON))?;
        let mut room = [0; 64];
        let (len, from) = udp.recv_from(&mut room)?;
        ensure!(&room[..len] == b"answer" && from == SocketAddr::new(loopback, PORT), "{from}");

        let mut host = TcpStream::connect((loopback, PORT))?;
        host.set_read_timeout(Some(SOON))?;
        let (mut connection, syn) = client.accept(PORT)?;
        ensure!(syn.mac == GUEST, "round {round}: {syn:?}");
        ensure!(syn.from == SocketAddr::new(seen, host.local_addr()?.port()), "{syn:?}");
        host.write_all(b"question")?;
        ensure!(client.receive(&mut connection, 8)? == b"question", "round {round}");
        client.segment(&mut connection, b"answer", true)?;
        let mut answer = String::new();
        host.read_to_string(&mut answer)?;
        ensure!(answer == "answer", "{answer}");

        let probe = format!("probe tcp,{guest},{PORT},{me}");
        let mut outside = case.rig.start_peer(&Place::Outside, &probe)?;
        let (mut connection, syn) = client.accept(PORT)?;
        ensure!(syn.from.ip() == me && syn.to == SocketAddr::new(guest, PORT), "{syn:?}");
        client.receive(&mut connection, 2)?;
        client.segment(&mut connection, b"a 1 b by-tcp", true)?;
        outside.wait_line("by-tcp", SHORT)?;
    }
    Ok(())
}

fn bad_lengths(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, "-q")?;
    for length in [0u32, 13, 65_536, u32::MAX] {
        let mut client = passt.connect()?;
        client.alive()?;
        // Behind a good frame, and in front of what looks like one.
        client.ask_for_gateway()?;
        client.send_raw(&length.to_be_bytes())?;
        // Passt may have gone by then.
        let _ = client.ask_for_gateway();
        client.closed()?;
        let wanted =
            format!("Bad frame size from guest, resetting connection: bad frame size {length}\n");
        passt.said(&wanted)?;
        passt.serves()?;
    }
    // Both ends of what is allowed.
    let mut client = passt.connect()?;
    for len in [14, 65_535] {
        client.send(&vec![0x55; len])?;
        client.alive()?;
    }
    Ok(())
}

/// What a client began, the next one does not end.
fn half_a_frame(case: &Case<'_>) -> Result<()> {
    let passt = Passt::start(case, "-q")?;
    let frame = [0xaa; 1000];
    let whole = [&stream::prefix(frame.len()).context("no prefix")?[..], &frame].concat();
    for len in [1, 3, 4, 5, 500, 1003] {
        let mut client = passt.connect()?;
        client.alive()?;
        client.send_raw(&whole[..len])?;
        drop(client);
        passt.connect()?.alive().with_context(|| format!("after {len} bytes"))?;
    }
    // And not the other way round: what one was to read is not the next one's.
    for _ in 0..20 {
        let mut client = passt.connect()?;
        for _ in 0..200 {
            client.ask_for_gateway()?;
        }
        drop(client);
        let mut client = passt.connect()?;
        let first = client.next(SOON)?.context("closed")?;
        let arp = arp(&first).context("not ARP")?;
        ensure!(arp.operation.get() == REQUEST, "{arp:?}");
    }
    ensure!(passt.proc.stderr().is_empty(), "{}", passt.proc.stderr());
    Ok(())
}

/// A small generator of numbers that look random (splitmix64), the same ones each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap_or(0)
    }
}

/// Frames to start from: good ones of every kind.
fn good_frames(client: &Client) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>) -> Result<()>| -> Result<()> {
        let mut frame = Vec::new();
        write(&mut frame)?;
        frames.push(frame);
        Ok(())
    };
    let mut message = v4::Message::default();
    message.set_chaddr(&GUEST.0);
    message.opts_mut().insert(v4::DhcpOption::MessageType(v4::MessageType::Discover));
    let discover = message.to_vec()?;
    for family in [Family::V4, Family::V6] {
        let (guest, peer) = (family.host(), family.peer());
        for payload in [&b""[..], b"some payload", &discover, &[7; 1400]] {
            for port in [53, 67, 547, 5000] {
                add(&|frame| {
                    Ok(client.packet(guest, peer)?.udp(68, port).write(frame, payload)?)
                })?;
            }
            add(&|frame| {
                let packet = client.packet(guest, peer)?.tcp(4000, 5000, 1, 1000);
                Ok(packet.syn().write(frame, payload)?)
            })?;
            add(&|frame| {
                let packet = client.packet(guest, peer)?.tcp(4000, 5000, 2, 1000);
                Ok(packet.ack(9).psh().write(frame, payload)?)
            })?;
        }
    }
    let all: Ipv6Addr = "ff02::2".parse()?;
    for kind in [128, 133, 135, 136, 143] {
        add(&|frame| {
            let packet = client.packet(LINK_LOCAL.into(), all.into())?;
            Ok(packet.icmpv6_raw(kind, 0, [0; 4]).write(frame, &[0; 40])?)
        })?;
    }
    Ok(frames)
}

/// Noise, and good frames with errors in them. Whoever says this is still answered.
fn garbage(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, "-q -t 5001 -u 5001")?;
    let mut client = passt.connect()?;
    client.alive()?;
    let good = good_frames(&client)?;
    let mut numbers = Numbers(1);
    for round in 0..40 {
        for _ in 0..500 {
            let frame = if numbers.next(4) == 0 {
                let most = if numbers.next(50) == 0 { 65_000 } else { 1500 };
                let len = 14 + numbers.next(most);
                (0..len).map(|_| numbers.byte()).collect()
            } else {
                let mut frame = good[numbers.next(good.len())].clone();
                for _ in 0..=numbers.next(4) {
                    let at = numbers.next(frame.len().min(80));
                    frame[at] = numbers.byte();
                }
                let len =
                    if numbers.next(3) == 0 { numbers.next(frame.len()) } else { frame.len() };
                frame.truncate(len.max(14));
                frame
            };
            client.send(&frame)?;
        }
        client.alive().with_context(|| format!("round {round}: {}", passt.proc.stderr()))?;
    }
    drop(client);
    passt.serves()
}

/// A thousand of them, each in its way. Nothing is left of any.
fn clients_come_and_go(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, "-q")?;
    let pid = passt.proc.pid();
    let visit = |index: usize| -> Result<()> {
        let mut client = passt.connect()?;
        match index % 4 {
            // Gone at once, behind a question, in the middle of one, or with an answer.
            0 => Ok(()),
            1 => client.ask_for_gateway(),
            2 => client.send_raw(&[0, 0, 1]),
            _ => client.alive(),
        }
    };
    for index in 0..100 {
        visit(index)?;
    }
    passt.connect()?.alive()?;
    let settled =
        |before: usize| until("descriptors", SOON, || descriptors(pid).is_ok_and(|n| n <= before));
    settled(64)?;
    let gone = passt.connect()?;
    drop(gone);
    let (files, memory) = (descriptors(pid)?, resident(pid)?);
    for index in 0..1000 {
        visit(index)?;
    }
    passt.connect()?.alive()?;
    settled(files)?;
    let grown = resident(pid)?.saturating_sub(memory);
    ensure!(grown < 512, "{grown} KiB more than {memory} KiB");
    passt.serves()
}

/// Processor time per second over a while.
fn load(pid: u32, time: Duration) -> Result<f64> {
    let (before, start) = (processor_time(pid)?, Instant::now());
    thread::sleep(time);
    Ok((processor_time(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Datagrams that are sent per second at most.
const RATE: u64 = 4000;
/// Bytes that are sent by TCP.
const BULK: usize = 16 << 20;

/// Datagrams and a stream arrive for a guest that reads nothing: what cannot be kept is lost, what must not be
/// lost waits where it came from, and all the time there is nothing to do.
fn guest_that_does_not_read(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start(case, &format!("-q -t {PORT} -u {PORT}"))?;
    let pid = passt.proc.pid();
    let loopback: IpAddr = match case.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let mut client = passt.connect()?;
    solicit(&mut client)?;
    client.alive()?;
    let mut host = TcpStream::connect((loopback, PORT))?;
    let (mut connection, _) = client.accept(PORT)?;
    let before = resident(pid)?;

    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let datagrams = thread::spawn({
        let over = Arc::clone(&over);
        let sent = Arc::clone(&sent);
        move || -> Result<()> {
            // Several peers, some known, some new ones.
            let sockets: Vec<UdpSocket> =
                (0..16).map(|_| UdpSocket::bind((loopback, 0))).collect::<Result<_, _>>()?;
            let start = Instant::now();
            let mut socket = sockets.iter().cycle();
            while !over.load(Ordering::Relaxed) {
                let due = u64::try_from(start.elapsed().as_millis())? * RATE / 1000;
                while sent.load(Ordering::Relaxed) < due {
                    if let Some(socket) = socket.next() {
                        // A full queue is what this is about.
                        let _ = socket.send_to(&[b'u'; 1400], (loopback, PORT));
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        }
    });
    let bulk = thread::spawn(move || -> Result<()> {
        for at in 0..BULK / 4096 {
            host.write_all(&[u8::try_from(at % 251)?; 4096])?;
        }
        Ok(())
    });
    let busy = load(pid, seconds())?;
    let after = resident(pid)?;
    over.store(true, Ordering::Relaxed);
    datagrams.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    ensure!(sent.load(Ordering::Relaxed) > RATE, "{} datagrams", sent.load(Ordering::Relaxed));
    ensure!(!bulk.is_finished(), "all was taken, though nobody reads");
    ensure!(after < before + 4096, "{before} KiB before, {after} KiB after");
    ensure!(busy < 0.4, "{busy} seconds of processor time per second");
    let idle = load(pid, Duration::from_secs(1))?;
    ensure!(idle < 0.02, "{idle} seconds of processor time per second, and nothing to do");

    // Now it reads.
    let all = client.receive(&mut connection, BULK)?;
    ensure!(all.len() == BULK, "{} bytes", all.len());
    let right =
        |(at, chunk): (usize, &[u8])| chunk.iter().all(|byte| usize::from(*byte) == at % 251);
    ensure!(all.chunks(4096).enumerate().all(right), "not what was sent");
    bulk.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    client.alive()?;
    drop(client);
    passt.serves()
}

/// What a hypervisor took along when it went is sent again to the next one as soon as that is there.
fn reconnects_with_data_on_the_way(case: &Case<'_>) -> Result<()> {
    const DATA: &[u8] = &[0x5a; 20_000];
    let mut passt = Passt::start(case, &format!("-q -t {PORT}"))?;
    let mut client = passt.connect()?;
    client.alive()?;
    let mut host = TcpStream::connect(("127.0.0.1", PORT))?;
    let (mut connection, _) = client.accept(PORT)?;
    host.write_all(DATA)?;
    // It is on its way, and nobody says that it has come. By then the next timeout is seconds off.
    thread::sleep(Duration::from_secs(3));
    drop(client);
    let mut client = passt.connect()?;
    let start = Instant::now();
    let got = client.receive(&mut connection, DATA.len())?;
    ensure!(got == DATA, "{} bytes, or others", got.len());
    let took = start.elapsed();
    ensure!(took < Duration::from_millis(500), "after {took:?}");
    host.write_all(b"more")?;
    ensure!(client.receive(&mut connection, 4)? == b"more", "not what was sent");
    drop(client);
    passt.serves()
}

/// Flows have taken every descriptor: there is one for a hypervisor all the same.
fn reconnects_without_descriptors(case: &Case<'_>) -> Result<()> {
    let mut passt = Passt::start_limited(case, &format!("-q -t {PORT}"), Some(64))?;
    let pid = passt.proc.pid();
    let mut client = passt.connect()?;
    client.alive()?;
    let mut crowd = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut host = TcpStream::connect(("127.0.0.1", PORT))?;
        host.set_read_timeout(Some(Duration::from_millis(20)))?;
        // Who is not taken is told so at once.
        match host.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => crowd.push(host),
            _ => refused += 1,
        }
    }
    ensure!(refused >= 20 && crowd.len() >= 20, "{} taken, {refused} refused", crowd.len());
    for round in 0..20 {
        drop(client);
        client = passt.connect()?;
        client.alive().with_context(|| format!("round {round}, {:?}", descriptors(pid)))?;
        // Another one is still sent away, not left waiting.
        passt.connect()?.closed().with_context(|| format!("round {round}"))?;
    }
    let load = load(pid, Duration::from_secs(1))?;
    ensure!(load < 0.02, "{load} seconds of processor time per second, and nothing to do");
    // The flows are the same guest's.
    let (mut connection, syn) = client.accept(PORT)?;
    let host = crowd
        .iter_mut()
        .find(|host| host.local_addr().is_ok_and(|address| address.port() == syn.from.port()));
    host.context("a flow of nobody's")?.write_all(b"hello")?;
    ensure!(client.receive(&mut connection, 5)? == b"hello", "not what was sent");
    ensure!(passt.proc.running()?, "{}", passt.proc.stderr());
    Ok(())
}

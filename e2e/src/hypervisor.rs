//! passt, and the other end of its socket: what a hypervisor and its guest do, and what they should not do.

use crate::Case;
use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader,
    TcpOptionElement, TransportSlice,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::{Family, Proc, wait_for};
use wire::arp::{ArpPacket, REPLY, REQUEST};
use wire::ethernet::{ETHERTYPE_ARP, EthernetHeader, MacAddr};
use wire::stream::{self, Next};
use wire::{IntoBytes, checksum};

/// Limit for everything that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);
/// passt's address on the link, unless it is told another one.
pub const OURS: MacAddr = MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]);
/// The guest's address on the link, unless a test wants another one.
pub const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// A passt in the foreground, at a socket in the rig's directory.
#[derive(Debug)]
pub struct Passt {
    /// The program.
    pub proc: Proc,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Passt {
    /// Starts one with further options, split at spaces.
    pub fn start(case: &Case<'_>, options: &str) -> Result<Self> {
        Self::start_limited(case, options, None)
    }

    /// The same, with so many open files at most.
    pub fn start_limited(case: &Case<'_>, options: &str, files: Option<u32>) -> Result<Self> {
        let socket = case.rig.tmp().join("guest.socket");
        let path = socket.display().to_string();
        // One of an earlier passt says nothing about this one.
        let _ = fs::remove_file(&socket);
        let mut passt = case.rig.passt(case.user)?.args(&["-f", "-s", &path]);
        if let Some(files) = files {
            passt = passt.limit_files(files);
        }
        let words: Vec<&str> = options.split_whitespace().collect();
        let mut proc = passt.args(&words).start()?;
        wait_for("passt's socket", SOON, || {
            ensure!(proc.running()?, "passt ended");
            Ok(fs::symlink_metadata(&path).is_ok().then_some(()))
        })
        .with_context(|| format!("{options}: {}", proc.stderr()))?;
        Ok(Self { proc, socket })
    }

    /// Connects as a hypervisor.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket).with_context(|| self.proc.stderr())
    }

    /// Waits for a line on standard error that contains `needle`.
    pub fn said(&self, needle: &str) -> Result<()> {
        let said = || Ok(self.proc.stderr().contains(needle).then_some(()));
        wait_for(&format!("'{needle}'"), SOON, said).with_context(|| self.proc.stderr())
    }

    /// Checks that it still serves.
    pub fn serves(&mut self) -> Result<()> {
        ensure!(self.proc.running()?, "passt ended: {}", self.proc.stderr());
        self.connect()?.alive()
    }
}

/// Lets `fd` be inherited by programs that are started from now on, and returns its number.
pub fn inheritable(fd: &OwnedFd) -> Result<String> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(fd.as_raw_fd().to_string())
}

/// The hypervisor's end of a connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    /// The guest's address on the link.
    pub mac: MacAddr,
}

impl Client {
    /// Connects; somebody may be just about to listen.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = wait_for("a connection", SOON, || match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        Self::over(stream)
    }

    /// A connection that is there already.
    pub fn over(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(SOON))?;
        Ok(Self { stream, received: Vec::new(), mac: GUEST })
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("passt takes nothing")
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let prefix = stream::prefix(frame.len()).context("no frame has that length")?;
        self.send_raw(&[&prefix, frame].concat())
    }

    /// The next frame, or `None` if there will be none.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + limit;
        loop {
            match stream::next(&self.received) {
                Next::Frame(at) => {
                    let frame = self.received.get(at.clone()).unwrap_or_default().to_vec();
                    self.received.drain(..at.end);
                    return Ok(Some(frame));
                }
                Next::BadLength(length) => bail!("a frame of {length} bytes from passt"),
                Next::More(_) => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no frame within {limit:?}");
            self.stream.set_read_timeout(Some(left))?;
            let mut room = vec![0; 256 << 10];
            match self.stream.read(&mut room) {
                Ok(0) => return Ok(None),
                Ok(len) => self.received.extend_from_slice(room.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The first frame of which `pick` makes something; others are dropped.
    pub fn find<T>(&mut self, what: &str, mut pick: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let frame = self.next(left).with_context(|| format!("waiting for {what}"))?;
            let frame = frame.with_context(|| format!("closed instead of {what}"))?;
            if let Some(found) = pick(&frame) {
                return Ok(found);
            }
        }
    }

    /// Waits until passt has closed the connection.
    pub fn closed(&mut self) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.next(left) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) => return Err(error.context("not closed")),
            }
        }
    }

    /// Asks for the gateway's address on the link, and returns the answer.
    pub fn ask_for_gateway(&mut self) -> Result<()> {
        let [IpAddr::V4(gateway), IpAddr::V4(guest)] = [Family::V4.gateway(), Family::V4.host()]
        else {
            bail!("not IPv4");
        };
        let request = ArpPacket::new(REQUEST, self.mac, guest, MacAddr::ZERO, gateway);
        let header = EthernetHeader::new(MacAddr::BROADCAST, self.mac, ETHERTYPE_ARP);
        self.send(&[header.as_bytes(), request.as_bytes()].concat())
    }

    /// Checks that passt answers.
    pub fn alive(&mut self) -> Result<()> {
        self.ask_for_gateway()?;
        let mac = self.mac;
        self.find("an answer to ARP", |frame| {
            let arp = arp(frame).filter(|arp| arp.operation.get() == REPLY)?;
            (arp.target_mac == mac && IpAddr::from(arp.sender_ip) == Family::V4.gateway())
                .then_some(())
        })
    }

    /// A packet from the guest, up to its transport header.
    pub fn packet(&self, from: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<IpHeaders>> {
        let link = PacketBuilder::ethernet2(self.mac.0, OURS.0);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ok(link.ipv4(from.octets(), to.octets(), 64)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ok(link.ipv6(from.octets(), to.octets(), 64)),
            _ => bail!("{from} and {to} are of different families"),
        }
    }

    /// Sends a datagram.
    pub fn datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::new();
        let packet = self.packet(from.ip(), to.ip())?.udp(from.port(), to.port());
        packet.write(&mut frame, payload)?;
        self.send(&frame)
    }

    /// Waits for a SYN or a datagram to `port` and returns it.
    pub fn knock(&mut self, port: u16, tcp: bool) -> Result<Packet> {
        let what = format!("{} to port {port}", if tcp { "a SYN" } else { "a datagram" });
        self.find(&what, |frame| {
            let packet = Packet::parse(frame).filter(|packet| packet.to.port() == port)?;
            match &packet.tcp {
                Some(header) => tcp && header.syn && !header.ack,
                None => !tcp,
            }
            .then_some(packet)
        })
    }

    /// Accepts a connection to `port` of the guest.
    pub fn accept(&mut self, port: u16) -> Result<(Connection, Packet)> {
        let syn = self.knock(port, true)?;
        let header = syn.tcp.clone().context("no SYN")?;
        let mut connection = Connection {
            us: syn.to,
            them: syn.from,
            sent: 1_000_000,
            received: header.sequence_number.wrapping_add(1),
            over: false,
        };
        let options =
            [TcpOptionElement::MaximumSegmentSize(1400), TcpOptionElement::WindowScale(4)];
        let mut frame = Vec::new();
        let packet = self.packet(connection.us.ip(), connection.them.ip())?;
        let (from, to) = (connection.us.port(), connection.them.port());
        let packet = packet.tcp(from, to, connection.sent, u16::MAX).syn().ack(connection.received);
        packet.options(&options)?.write(&mut frame, &[])?;
        self.send(&frame)?;
        connection.sent += 1;
        self.find("the end of the handshake", |frame| {
            let packet = Packet::parse(frame).filter(|packet| connection.owns(packet))?;
            let header = packet.tcp?;
            (header.ack && header.acknowledgment_number == connection.sent).then_some(())
        })?;
        Ok((connection, syn))
    }

    /// Connects from the guest's address `from` to `to`.
    pub fn open(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Connection> {
        let mut connection = Connection { us: from, them: to, sent: 0, received: 0, over: false };
        let mut frame = Vec::new();
        let packet = self.packet(from.ip(), to.ip())?.tcp(from.port(), to.port(), 0, u16::MAX);
        let options = [TcpOptionElement::MaximumSegmentSize(1400)];
        packet.syn().options(&options)?.write(&mut frame, &[])?;
        self.send(&frame)?;
        connection.sent += 1;
        connection.received = self.find("an answer to a SYN", |frame| {
            let packet = Packet::parse(frame).filter(|packet| connection.owns(packet))?;
            let header = packet.tcp.filter(|header| header.syn && header.ack)?;
            Some(header.sequence_number.wrapping_add(1))
        })?;
        self.segment(&mut connection, &[], false)?;
        Ok(connection)
    }

    /// Acknowledges what has come, and sends `payload`, which must fit one segment.
    pub fn segment(
        &mut self,
        connection: &mut Connection,
        payload: &[u8],
        fin: bool,
    ) -> Result<()> {
        let mut frame = Vec::new();
        let packet = self.packet(connection.us.ip(), connection.them.ip())?;
        let (from, to) = (connection.us.port(), connection.them.port());
        let mut packet =
            packet.tcp(from, to, connection.sent, u16::MAX).ack(connection.received).psh();
        if fin {
            packet = packet.fin();
        }
        packet.write(&mut frame, payload)?;
        connection.sent += u32::try_from(payload.len())? + u32::from(fin);
        self.send(&frame)
    }

    /// Receives until there are `len` bytes, or the other end sends no more.
    pub fn receive(&mut self, connection: &mut Connection, len: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < len && !connection.over {
            let packet = self.find("a segment", |frame| {
                Packet::parse(frame).filter(|packet| connection.owns(packet))
            })?;
            let header = packet.tcp.context("no segment")?;
            ensure!(!header.rst, "reset after {} of {len} bytes", all.len());
            let size = u32::try_from(packet.payload.len())?;
            // What is not next is asked for again by the acknowledgment.
            let skip = connection.received.wrapping_sub(header.sequence_number);
            if skip <= size {
                let fresh = packet.payload.get(skip as usize..).unwrap_or_default();
                all.extend_from_slice(fresh);
                connection.received = header.sequence_number.wrapping_add(size);
                if header.fin {
                    connection.received = connection.received.wrapping_add(1);
                    connection.over = true;
                }
            }
            if size > 0 || header.fin {
                self.segment(connection, &[], false)?;
            }
        }
        Ok(all)
    }
}

/// The guest's end of a TCP connection: one that takes what comes in order, and sends nothing again.
#[derive(Debug)]
pub struct Connection {
    us: SocketAddr,
    them: SocketAddr,
    sent: u32,
    received: u32,
    over: bool,
}

impl Connection {
    fn owns(&self, packet: &Packet) -> bool {
        packet.to == self.us && packet.from == self.them && packet.tcp.is_some()
    }
}

/// A frame's ARP packet.
pub fn arp(frame: &[u8]) -> Option<&ArpPacket> {
    let (header, payload) = EthernetHeader::parse(frame)?;
    ArpPacket::parse(payload).filter(|_| header.ethertype.get() == ETHERTYPE_ARP)
}

/// A datagram or segment that came to the guest.
#[derive(Debug, Clone)]
pub struct Packet {
    /// To whom on the link.
    pub mac: MacAddr,
    /// Its source.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// The TCP header, if it is a segment.
    pub tcp: Option<TcpHeader>,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Reads a frame. `None` if it is none of these, or if its checksum is wrong.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (header, _) = EthernetHeader::parse(frame)?;
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let (from, to): (IpAddr, IpAddr) = match sliced.net.as_ref()? {
            NetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Arp(_) => return None,
        };
        let whole = sliced.ip_payload()?;
        let len = u32::try_from(whole.payload.len()).ok()?;
        let pseudo = checksum::pseudo_header(from, to, whole.ip_number.0, len);
        let mut summed = true;
        let (ports, tcp, payload) = match sliced.transport.as_ref()? {
            TransportSlice::Udp(udp) => {
                // Over IPv4 it may be left out.
                summed = !(from.is_ipv4() && udp.checksum() == 0);
                ((udp.source_port(), udp.destination_port()), None, udp.payload())
            }
            TransportSlice::Tcp(tcp) => {
                let ports = (tcp.source_port(), tcp.destination_port());
                (ports, Some(tcp.to_header()), tcp.payload())
            }
            TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) => return None,
            #[allow(unreachable_patterns)]
            _ => return None,
        };
        (!summed || checksum::verify(pseudo, whole.payload)).then(|| Self {
            mac: header.dst,
            from: SocketAddr::new(from, ports.0),
            to: SocketAddr::new(to, ports.1),
            tcp,
            payload: payload.to_vec(),
        })
    }
}

/// A field of `/proc/PID/status`.
pub fn status(pid: u32, field: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {field}"))?.trim().to_owned())
}

/// Resident memory of a process in KiB.
pub fn resident(pid: u32) -> Result<u64> {
    let text = status(pid, "VmRSS")?;
    Ok(text.split(' ').next().context("no number")?.parse()?)
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Processor time of a process so far.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

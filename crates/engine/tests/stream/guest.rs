//! A guest made of smoltcp, behind a worker's stream.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Attachment, ExitReason, Forwarding, HostOptions, Hypervisor, Parts, Worker};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use stack::Settings;
use stack::flow::Secret;
use testkit::Family;

use super::common::{SHORT, config, pattern};
use super::device::Wire;

/// A worker in a thread.
pub(crate) struct Machine {
    worker: JoinHandle<(ExitReason, u64)>,
    /// Its directory in `/proc`.
    proc: String,
}

impl Machine {
    pub(crate) fn start(hypervisor: Hypervisor, mtu: u16) -> Self {
        let parts = Parts {
            guest: Attachment::Stream(hypervisor),
            mtu,
            config: Arc::new(config(mtu)),
            secret: Secret::new([7; 16]),
            settings: Settings::default(),
            host: HostOptions::default(),
            forwarding: Forwarding::default(),
            pcap: None,
            watch: None,
            child: None,
            neighbours: None,
            stats: None,
            later: None,
        };
        let (tell, told) = mpsc::channel();
        let worker = std::thread::spawn(move || {
            tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            let mut end = None;
            let measured = allocation_counter::measure(|| {
                end = Some(Worker::new(parts).unwrap().run());
            });
            (end.unwrap(), measured.count_total)
        });
        let proc = format!("/proc/{}", told.recv().unwrap().display());
        Self { worker, proc }
    }

    /// Processor time that the worker has had.
    pub(crate) fn busy(&self) -> Duration {
        let text = std::fs::read_to_string(format!("{}/schedstat", self.proc)).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    /// How often the worker has gone to sleep.
    pub(crate) fn sleeps(&self) -> u64 {
        let text = std::fs::read_to_string(format!("{}/status", self.proc)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.worker.is_finished()
    }

    /// Why it ended, and how often it took memory.
    pub(crate) fn wait(self) -> (ExitReason, u64) {
        self.worker.join().unwrap()
    }
}

/// The gateway, by which the host's loopback is meant, and a loopback address.
pub(crate) fn loopback(family: Family, port: u16) -> (SocketAddr, SocketAddr) {
    let (gateway, own): (IpAddr, IpAddr) = match family {
        Family::V4 => ([203, 0, 113, 1].into(), [127, 0, 0, 1].into()),
        Family::V6 => ("fe80::1".parse().unwrap(), "::1".parse().unwrap()),
    };
    (SocketAddr::new(gateway, port), SocketAddr::new(own, port))
}

/// A connection of the guest and what is done with it.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    handle: SocketHandle,
    /// Bytes of the pattern to be sent; behind them, the end.
    to_send: usize,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// The peer has sent its end.
    pub(crate) peer_closed: bool,
    closed: bool,
}

pub(crate) struct Guest {
    pub(crate) wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    pub(crate) conns: Vec<Conn>,
    began: Instant,
    port: u16,
}

impl Guest {
    /// A guest without a link.
    pub(crate) fn new(mtu: u16) -> Self {
        let mut wire = Wire::new(mtu);
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 0x77]));
        let mut interface = Interface::new(Config::new(mac), &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addrs| {
            for cidr in ["203.0.113.2/24", "2001:db8:51::2/64", "fe80::77/64"] {
                addrs.push(cidr.parse::<IpCidr>().unwrap()).unwrap();
            }
        });
        let sockets = SocketSet::new(Vec::new());
        Self { wire, interface, sockets, conns: Vec::new(), began: Instant::now(), port: 20_000 }
    }

    /// A worker, and a guest at the other end of a pair of sockets.
    pub(crate) fn with_machine(mtu: u16) -> (Self, Machine) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let machine = Machine::start(Hypervisor::Connected(theirs), mtu);
        let mut guest = Self::new(mtu);
        guest.wire.connect(ours);
        (guest, machine)
    }

    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    /// Connects to a port of the host's loopback, to send so many bytes. Returns its number.
    pub(crate) fn connect(&mut self, to: SocketAddr, to_send: usize) -> usize {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 20]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let port = self.next_port();
        socket.connect(self.interface.context(), to, port).unwrap();
        let handle = self.sockets.add(socket);
        let conn =
            Conn { handle, to_send, sent: 0, received: 0, peer_closed: false, closed: false };
        self.conns.push(conn);
        self.conns.len() - 1
    }

    /// A UDP socket with room for `packets` datagrams.
    pub(crate) fn udp(&mut self, packets: usize) -> SocketHandle {
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; packets];
            udp::PacketBuffer::new(metadata, vec![0; 2 << 20])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(self.next_port()).unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn udp_socket(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends a datagram, once smoltcp knows where to.
    pub(crate) fn send_datagram(&mut self, handle: SocketHandle, to: SocketAddr, data: &[u8]) {
        self.udp_socket(handle).send_slice(data, to).unwrap();
    }

    /// Everything that is to be done now. Whether there was something.
    pub(crate) fn poll(&mut self) -> bool {
        let mut busy = self.wire.flush();
        busy |= self.wire.fill();
        let now =
            SmolInstant::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap());
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        for conn in &mut self.conns {
            busy |= work(conn, self.sockets.get_mut(conn.handle));
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        busy | self.wire.flush()
    }

    /// Works until `done`; `what` is said if that takes longer than `limit`.
    pub(crate) fn run(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let end = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < end, "{what}: {:?}, {:?}", self.conns, self.wire.seen);
            if !self.poll() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Works for some time.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.run("", SHORT * 100, |_| Instant::now() >= end);
    }

    pub(crate) fn state(&self, index: usize) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.conns[index].handle).state()
    }

    /// Whether both ends of a connection have said everything.
    pub(crate) fn is_over(&self, index: usize) -> bool {
        let state = self.state(index);
        self.conns[index].peer_closed && matches!(state, tcp::State::TimeWait | tcp::State::Closed)
    }
}

fn work(conn: &mut Conn, socket: &mut tcp::Socket<'_>) -> bool {
    let before = (conn.sent, conn.received, conn.peer_closed);
    loop {
        let position = conn.received;
        let got = socket.recv(|data| {
            let right = data.iter().zip(position..).all(|(byte, index)| *byte == pattern(index));
            assert!(right, "wrong bytes behind {position}");
            (data.len(), data.len())
        });
        match got {
            Ok(0) | Err(tcp::RecvError::InvalidState) => break,
            Ok(len) => conn.received += len,
            Err(tcp::RecvError::Finished) => {
                conn.peer_closed = true;
                break;
            }
        }
    }
    while conn.sent < conn.to_send {
        let (sent, to_send) = (conn.sent, conn.to_send);
        let put = socket.send(|room| {
            let len = room.len().min(to_send - sent);
            for (byte, index) in room[..len].iter_mut().zip(sent..) {
                *byte = pattern(index);
            }
            (len, len)
        });
        match put {
            Ok(0) | Err(tcp::SendError::InvalidState) => break,
            Ok(len) => conn.sent += len,
        }
    }
    let open = !matches!(socket.state(), tcp::State::Closed | tcp::State::SynSent);
    // Where it only receives, it closes behind its peer.
    let finished = conn.sent == conn.to_send && (conn.to_send > 0 || conn.peer_closed);
    if open && !conn.closed && finished {
        conn.closed = true;
        socket.close();
    }
    before != (conn.sent, conn.received, conn.peer_closed)
}

/// A socket of the host's loopback, with a limit for whatever it waits for.
pub(crate) fn host_udp(family: Family) -> (UdpSocket, SocketAddr) {
    let (gateway, own) = loopback(family, 0);
    let socket = UdpSocket::bind(own).unwrap();
    socket.set_read_timeout(Some(SHORT)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::new(gateway.ip(), port))
}

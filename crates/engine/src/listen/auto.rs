//! Automatic ports: what listens in the guest's namespace is listened for on the host, and the other way.
//!
//! The kernel does not tell of new listening sockets, so it is asked every now and then, by `sock_diag(7)`,
//! or by reading `/proc/net` where that is missing. While nothing changes there is nothing else to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use stack::rule::{Listen, Pif, Protocol, Rule};
use stack::time::Instant;
use sys::diag::{Listening, ProcNet, SocketDiag};
use sys::epoll::Epoll;
use sys::socket::Kind;

use super::Place;
use super::change::Opener;
use super::ports::Ports;
use super::set::Listeners;

/// Time between two looks: who starts to listen is reachable within a second.
const INTERVAL: Duration = Duration::from_millis(700);
/// Time after which ports that could not be had are tried again, if nothing changes meanwhile.
const RETRY: Duration = Duration::from_secs(5);

/// A way to learn what listens in one network namespace.
#[derive(Debug)]
pub enum Source {
    /// `sock_diag(7)`.
    Diag(SocketDiag),
    /// `/proc/net`.
    Proc(ProcNet),
}

impl Source {
    /// For the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has neither.
    pub fn open() -> io::Result<Self> {
        // The kernel may lack it, or the part for one of the protocols (`CONFIG_INET_UDP_DIAG`).
        if let Ok(mut diag) = SocketDiag::open().map(Self::Diag) {
            if diag.works() {
                return Ok(diag);
            }
        }
        ProcNet::open().map(Self::Proc)
    }

    fn works(&mut self) -> bool {
        let all = [(Kind::Tcp, false), (Kind::Tcp, true), (Kind::Udp, false), (Kind::Udp, true)];
        all.into_iter().all(|(kind, ipv6)| self.each(kind, ipv6, &mut |_| {}).is_ok())
    }

    fn each(&mut self, kind: Kind, ipv6: bool, each: &mut dyn FnMut(Listening)) -> io::Result<()> {
        match self {
            Self::Diag(diag) => diag.listeners(kind, ipv6, each),
            Self::Proc(proc) => proc.listeners(kind, ipv6, each),
        }
    }
}

/// From where a listening socket is of use to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By its namespace's loopback interface: what our sockets on the host connect to for the guest.
    Loopback,
    /// By the guest's own address.
    Address,
    /// By either.
    Both,
}

impl Reach {
    fn includes(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            _ if address.is_unspecified() => true,
            Self::Loopback => address.is_loopback(),
            Self::Address => !address.is_loopback(),
            Self::Both => true,
        }
    }
}

/// Ports that something listens on in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Within reach: TCP by IPv4 and by IPv6, UDP by IPv4 and by IPv6.
    reached: [[Ports; 2]; 2],
    /// By TCP and by UDP, whether within reach or not: in the way of our own sockets.
    any: [Ports; 2],
}

fn protocol_index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
    }
}

impl Seen {
    fn clear(&mut self) {
        self.reached.iter_mut().flatten().chain(&mut self.any).for_each(Ports::clear);
    }

    fn note(&mut self, protocol: Protocol, reach: Reach, socket: &Listening) {
        let index = protocol_index(protocol);
        let address = socket.address.to_canonical();
        if let Some(any) = self.any.get_mut(index) {
            any.insert(socket.port);
        }
        if !reach.includes(address) {
            return;
        }
        let Some([v4, v6]) = self.reached.get_mut(index) else { return };
        match address {
            IpAddr::V4(_) => v4.insert(socket.port),
            IpAddr::V6(ip) => {
                v6.insert(socket.port);
                if ip.is_unspecified() && !socket.ipv6_only {
                    v4.insert(socket.port);
                }
            }
        }
    }

    /// Fills it with what listens now.
    fn look(&mut self, source: &mut Source, reach: Reach) -> io::Result<()> {
        self.clear();
        for (protocol, kind) in [(Protocol::Tcp, Kind::Tcp), (Protocol::Udp, Kind::Udp)] {
            for ipv6 in [false, true] {
                source.each(kind, ipv6, &mut |socket| self.note(protocol, reach, &socket))?;
            }
        }
        Ok(())
    }

    /// What is to be forwarded: what others than us listen on. Where TCP is listened on, UDP may be
    /// wanted, too: some programs open the port of their data only when a client has asked for it.
    fn foreign(&self, own: &[Ports; 2]) -> [[Ports; 2]; 2] {
        let [tcp, udp] = &self.reached;
        let [own_tcp, own_udp] = own;
        let [mut tcp, mut udp] = [tcp.clone(), udp.clone()];
        for (tcp, udp) in tcp.iter_mut().zip(&mut udp) {
            tcp.subtract(own_tcp);
            udp.extend(tcp);
            udp.subtract(own_udp);
        }
        [tcp, udp]
    }
}

/// One namespace that is looked at.
#[derive(Debug)]
struct Side {
    source: Source,
    reach: Reach,
    seen: Seen,
}

/// Keeps listening sockets in step with what they are for.
#[derive(Debug)]
pub(crate) struct Auto {
    /// The host, whose ports are for the guest, and the guest's namespace.
    host: Side,
    namespace: Side,
    /// Where the next look goes, to be compared.
    scratch: Seen,
    next: Instant,
    /// Something that was wanted could not be had: when to try again.
    retry: Option<Instant>,
}

impl Auto {
    /// To be asked for the first time at once. `reach` says what counts in the guest's namespace.
    pub(crate) fn new(host: Source, namespace: Source, reach: Reach) -> Self {
        let side = |source, reach| Side { source, reach, seen: Seen::default() };
        Self {
            host: side(host, Reach::Loopback),
            namespace: side(namespace, reach),
            scratch: Seen::default(),
            next: Instant::default(),
            retry: None,
        }
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Forgets what was seen: the rules are others now.
    pub(crate) fn start_over(&mut self) {
        self.next = Instant::default();
        self.retry = Some(Instant::default());
    }

    /// Looks, if it is time, and opens and closes what has to be.
    pub(crate) fn poll(
        &mut self,
        listeners: &mut Listeners,
        epoll: &Epoll,
        open: &mut Opener<'_>,
        now: Instant,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let mut news = self.retry.is_some_and(|retry| retry <= now);
        for side in [&mut self.host, &mut self.namespace] {
            match self.scratch.look(&mut side.source, side.reach) {
                Ok(()) if self.scratch != side.seen => {
                    std::mem::swap(&mut self.scratch, &mut side.seen);
                    news = true;
                }
                Ok(()) => {}
                Err(error) => {
                    log::debug!("listening sockets: {error}");
                    return;
                }
            }
        }
        if news {
            let complete = self.synchronise(listeners, epoll, open);
            self.retry = (!complete).then_some(now + RETRY);
        }
    }

    /// Makes the sockets those that are wanted; `false` if some could not be had.
    fn synchronise(&self, listeners: &mut Listeners, epoll: &Epoll, open: &mut Opener<'_>) -> bool {
        // For both before anything changes: our own sockets are not to be taken for those of others.
        let own = |pif| [Protocol::Tcp, Protocol::Udp].map(|p| listeners.ports(pif, p));
        let inbound = self.namespace.seen.foreign(&own(Pif::Splice));
        let outbound = self.host.seen.foreign(&own(Pif::Host));
        let mut complete = true;
        for (pif, wanted) in [(Pif::Host, inbound), (Pif::Splice, outbound)] {
            let rules: Vec<Arc<Rule>> =
                listeners.rules(pif).shared().iter().filter(|rule| rule.scan).cloned().collect();
            if rules.is_empty() {
                continue;
            }
            let gone: Vec<_> = listeners
                .of(pif)
                .filter(|(_, entry)| {
                    entry.rule().scan && !is_wanted(&wanted, entry.rule(), entry.place())
                })
                .map(|(slot, _)| slot)
                .collect();
            for slot in gone {
                if let Some((pif, place, _)) = listeners.close(slot) {
                    log::debug!("{} {} {place} closed", pif.name(), place.protocol.name());
                }
            }
            for rule in rules {
                complete &= open_missing(listeners, epoll, open, pif, &wanted, &rule);
            }
        }
        complete
    }
}

/// The ports of one protocol that are wanted, by IPv4 and by IPv6.
fn of_protocol(wanted: &[[Ports; 2]; 2], protocol: Protocol) -> Option<&[Ports; 2]> {
    wanted.get(protocol_index(protocol))
}

/// Whether something listens on the target of a socket at `place`.
fn is_wanted(wanted: &[[Ports; 2]; 2], rule: &Rule, place: &Place) -> bool {
    let Some([v4, v6]) = of_protocol(wanted, place.protocol) else { return false };
    let target = rule.target_port(place.port);
    match place.listen {
        Listen::DualStack => v4.contains(target) || v6.contains(target),
        Listen::On(IpAddr::V4(_)) => v4.contains(target),
        Listen::On(IpAddr::V6(_)) => v6.contains(target),
    }
}

/// Opens what is wanted for `rule` and not there; `false` if something could not be had. Each family has
/// a socket of its own: who finds that a name has addresses of both tries the other one if this one
/// refuses, and would not if it accepted on behalf of nobody.
fn open_missing(
    listeners: &mut Listeners,
    epoll: &Epoll,
    open: &mut Opener<'_>,
    pif: Pif,
    wanted: &[[Ports; 2]; 2],
    rule: &Arc<Rule>,
) -> bool {
    let Some([v4, v6]) = of_protocol(wanted, rule.protocol) else { return true };
    let device: Option<Arc<str>> = rule.device.as_deref().map(Into::into);
    let mut missing = Vec::new();
    let families: [(_, IpAddr); 2] =
        [(v4, Ipv4Addr::UNSPECIFIED.into()), (v6, Ipv6Addr::UNSPECIFIED.into())];
    for (ports, any) in families {
        let listen = match rule.listen {
            Listen::DualStack => Listen::On(any),
            Listen::On(on) if on.is_ipv4() == any.is_ipv4() => rule.listen,
            Listen::On(_) => continue,
        };
        let targets = rule.to..=rule.target_port(rule.last);
        for target in ports.iter().filter(|port| targets.contains(port)) {
            let port = rule.first + (target - rule.to);
            let place = Place { protocol: rule.protocol, listen, device: device.clone(), port };
            if !listeners.has(pif, &place) {
                missing.push(place);
            }
        }
    }
    if missing.is_empty() {
        return true;
    }
    let mut complete = true;
    for (place, result) in missing.iter().zip(open(pif, &missing)) {
        let added =
            result.and_then(|listener| listeners.add(epoll, pif, listener, Arc::clone(rule)));
        let (pif, protocol) = (pif.name(), place.protocol.name());
        match added {
            Ok(()) => log::debug!("{pif} {protocol} {place} opened"),
            Err(error) => {
                log::debug!("{pif} {protocol} {place}: {error}");
                complete = false;
            }
        }
    }
    complete
}

//! Forwarding rules: which ports are listened on, where, and what their traffic is for.
//!
//! A [`Table`] belongs to the interface on which flows begin ([`Pif`]). Rules are looked up by the
//! listening socket that took the flow, so those of one table must not overlap; [`Table::add`] sees to
//! that, whoever the rule comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Most rules of a table.
pub const MAX_RULES: usize = 255;
/// Most listening sockets of a table.
pub const MAX_SOCKETS: usize = 5 * 65_536;
/// Longest interface name in bytes (`IFNAMSIZ` without the final zero).
pub const MAX_DEVICE_LEN: usize = 15;

/// Where flows begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pif {
    /// Sockets of the host: inbound.
    Host,
    /// Sockets in the guest's namespace, for its loopback traffic: outbound.
    Splice,
}

impl Pif {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Host, Self::Splice];

    /// How messages and the configuration protocol call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "HOST",
            Self::Splice => "SPLICE",
        }
    }

    /// Its number in the configuration protocol.
    pub const fn number(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::Splice => 3,
        }
    }
}

/// A transport protocol whose ports are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// `TCP` or `UDP`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// The assigned protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => wire::protocol::TCP,
            Self::Udp => wire::protocol::UDP,
        }
    }
}

/// The address a rule listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Any, of both families, by one socket.
    DualStack,
    /// This one; unspecified stands for any of its family.
    On(IpAddr),
}

impl Listen {
    /// Whether a socket here would take a packet for `address`.
    pub fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::DualStack => true,
            Self::On(on) => {
                on == address || (on.is_unspecified() && on.is_ipv4() == address.is_ipv4())
            }
        }
    }

    /// Whether some address is listened on by both.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::DualStack, _) | (_, Self::DualStack) => true,
            (Self::On(a), Self::On(b)) => self.takes(b) || other.takes(a),
        }
    }
}

/// Ports `first..=last` of an address, and where their traffic goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Protocol.
    pub protocol: Protocol,
    /// Address listened on.
    pub listen: Listen,
    /// Interface listened on (`SO_BINDTODEVICE`), if not all of them: 1 to 15 bytes.
    pub device: Option<String>,
    /// First port listened on.
    pub first: u16,
    /// Last port listened on.
    pub last: u16,
    /// The port to which `first` is forwarded; the others follow.
    pub to: u16,
    /// Where traffic goes, if not where it would go by itself.
    pub target: Option<IpAddr>,
    /// Ports that cannot be had are tolerated.
    pub best_effort: bool,
    /// A port is listened on only while something listens on its target.
    pub scan: bool,
}

impl Rule {
    /// Number of ports, at least 1 in a valid rule.
    pub fn ports(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    /// The port to which `port` is forwarded.
    pub fn target_port(&self, port: u16) -> u16 {
        self.to.wrapping_add(port.wrapping_sub(self.first))
    }

    /// Whether both cannot stand in one table: the same protocol, a port in common and an address in
    /// common. Interfaces and targets make no difference.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.first <= other.last
            && other.first <= self.last
            && self.listen.meets(other.listen)
    }
}

/// As the start-up block and the configuration client show it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.protocol.name())?;
        match self.listen {
            Listen::DualStack => f.write_str("*")?,
            Listen::On(address) => write!(f, "{address}")?,
        }
        f.write_str("]")?;
        if let Some(device) = &self.device {
            write!(f, "%{device}")?;
        }
        write!(f, ":{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str("  =>  ")?;
        if let Some(target) = self.target {
            write!(f, "{target}:")?;
        }
        write!(f, "{}", self.to)?;
        if self.last != self.first {
            write!(f, "-{}", self.target_port(self.last))?;
        }
        f.write_str(" ")?;
        if self.best_effort {
            f.write_str(" (best effort)")?;
        }
        if self.scan {
            f.write_str(" (auto-scan)")?;
        }
        Ok(())
    }
}

/// A text that does not show a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Not a forwarding rule")]
pub struct NotARule;

/// Reads what [`fmt::Display`] shows.
impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        read(text).ok_or(NotARule)
    }
}

fn read(text: &str) -> Option<Rule> {
    let (protocol, rest) = text.split_once(" [")?;
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol)?;
    let (listen, rest) = rest.split_once(']')?;
    let listen = match listen {
        "*" => Listen::DualStack,
        address => Listen::On(address.parse().ok()?),
    };
    let (place, rest) = rest.split_once("  =>  ")?;
    let (device, ports) = place.rsplit_once(':')?;
    let device = match device.strip_prefix('%') {
        Some(device) => Some(device.to_owned()),
        None if device.is_empty() => None,
        None => return None,
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let (first, last) = range(ports)?;
    let (to, flags) = rest.split_once(' ')?;
    let (target, to) = match to.rsplit_once(':') {
        Some((target, to)) => (Some(target.parse().ok()?), to),
        None => (None, to),
    };
    let (to, to_last) = range(to)?;
    let (best_effort, flags) = match flags.strip_prefix(" (best effort)") {
        Some(rest) => (true, rest),
        None => (false, flags),
    };
    let scan = match flags {
        "" => false,
        " (auto-scan)" => true,
        _ => return None,
    };
    let rule = Rule { protocol, listen, device, first, last, to, target, best_effort, scan };
    (rule.target_port(last) == to_last).then_some(rule)
}

/// What the rules of a table may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// IPv4 is on.
    pub ipv4: bool,
    /// IPv6 is on.
    pub ipv6: bool,
    /// TCP is on.
    pub tcp: bool,
    /// UDP is on.
    pub udp: bool,
    /// Ports can be followed automatically: there is a namespace to look into.
    pub scan: bool,
    /// Sockets can be bound to an interface.
    pub device: bool,
}

impl Capabilities {
    /// All of it.
    pub const ALL: Self =
        Self { ipv4: true, ipv6: true, tcp: true, udp: true, scan: true, device: true };

    /// Whether a protocol is on.
    pub fn protocol(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }

    /// `*` for the families that are on: any of both, or any of the only one.
    pub fn any(self) -> Listen {
        match (self.ipv4, self.ipv6) {
            (true, false) => Listen::On(Ipv4Addr::UNSPECIFIED.into()),
            (false, true) => Listen::On(Ipv6Addr::UNSPECIFIED.into()),
            (true, true) | (false, false) => Listen::DualStack,
        }
    }
}

/// Why a rule was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The last port is before the first one.
    #[error("Invalid port range {0}-{1}")]
    Range(u16, u16),
    /// Port 0 is no port.
    #[error("Forwarding rule attempts to map from port 0")]
    FromZero,
    /// The target range has port 0 in it or ends beyond 65535.
    #[error("Forwarding rule attempts to map to port 0")]
    ToZero,
    /// An interface name that no interface can have.
    #[error("Invalid interface name '{0}'")]
    Device(String),
    /// Interfaces cannot be named here.
    #[error("Device binding for '%{0}' unsupported (requires kernel 5.7+)")]
    NoDevices(String),
    /// Automatic forwarding needs a namespace to look into.
    #[error("'auto' port forwarding is only allowed for pasta")]
    NoScan,
    /// Both families are asked for and one is off.
    #[error("Dual stack forward, but {0} not enabled")]
    DualStackFamily(&'static str),
    /// A family that is off.
    #[error("{0} forward, but {0} not enabled")]
    Family(&'static str),
    /// A protocol that is off.
    #[error("Can't add {0} forwarding rule, {0} not enabled")]
    Protocol(&'static str),
    /// A group cannot be a target.
    #[error("Forwarding to multicast address {0} not supported")]
    MulticastTarget(IpAddr),
    /// One target address cannot serve both families.
    #[error(
        "Dual stack forward to {} address {} unsupported\n\
         Did you mean {}/... instead?",
        family_name(*.0), .0,
        if .0.is_ipv4() { "0.0.0.0" } else { "[::]" }
    )]
    DualStackTarget(IpAddr),
    /// Nothing is translated between families.
    #[error("Forwarding from {} to {} unsupported", family_name(*.0), family_name(*.1))]
    MixedFamilies(IpAddr, IpAddr),
    /// A port is listened on twice.
    #[error("Forwarding configuration conflict: {} versus {}", .0, .1)]
    Conflict(Box<Rule>, Box<Rule>),
    /// The table is full.
    #[error("Too many rules (maximum {MAX_RULES})")]
    TooManyRules,
    /// The table would need too many sockets.
    #[error("Too many listening sockets (maximum {MAX_SOCKETS})")]
    TooManySockets,
}

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

fn family_name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { IPV4 } else { IPV6 }
}

/// The rules for flows that begin on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rules: Vec<Rule>,
}

impl Table {
    /// All rules, in the order in which they were added.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Removes a rule that is exactly like this one; `false` if there is none.
    pub fn remove(&mut self, rule: &Rule) -> bool {
        let before = self.rules.len();
        self.rules.retain(|other| other != rule);
        self.rules.len() < before
    }

    /// The first rule that cannot stand beside this one.
    pub fn conflict(&self, rule: &Rule) -> Option<&Rule> {
        self.rules.iter().find(|other| other.conflicts(rule))
    }

    /// Adds a rule that makes sense by itself, in view of `caps`, and beside the others.
    ///
    /// # Errors
    /// When it does not. The table is then as it was.
    pub fn add(&mut self, rule: Rule, caps: Capabilities) -> Result<(), RuleError> {
        check(&rule, caps)?;
        if let Some(other) = self.conflict(&rule) {
            return Err(RuleError::Conflict(Box::new(rule), Box::new(other.clone())));
        }
        if self.rules.len() >= MAX_RULES {
            return Err(RuleError::TooManyRules);
        }
        let sockets: usize = self.rules.iter().map(Rule::ports).sum();
        if sockets + rule.ports() > MAX_SOCKETS {
            return Err(RuleError::TooManySockets);
        }
        self.rules.push(rule);
        Ok(())
    }
}

/// Whether a rule makes sense by itself.
fn check(rule: &Rule, caps: Capabilities) -> Result<(), RuleError> {
    if rule.first > rule.last {
        return Err(RuleError::Range(rule.first, rule.last));
    }
    if rule.first == 0 {
        return Err(RuleError::FromZero);
    }
    if rule.to == 0 || rule.to.checked_add(rule.last - rule.first).is_none() {
        return Err(RuleError::ToZero);
    }
    if let Some(device) = &rule.device {
        if !is_device_name(device) {
            return Err(RuleError::Device(device.clone()));
        }
        if !caps.device {
            return Err(RuleError::NoDevices(device.clone()));
        }
    }
    if rule.scan && !caps.scan {
        return Err(RuleError::NoScan);
    }
    match rule.listen {
        Listen::DualStack if !caps.ipv4 => return Err(RuleError::DualStackFamily(IPV4)),
        Listen::DualStack if !caps.ipv6 => return Err(RuleError::DualStackFamily(IPV6)),
        Listen::On(IpAddr::V4(_)) if !caps.ipv4 => return Err(RuleError::Family(IPV4)),
        Listen::On(IpAddr::V6(_)) if !caps.ipv6 => return Err(RuleError::Family(IPV6)),
        Listen::DualStack | Listen::On(_) => {}
    }
    if !caps.protocol(rule.protocol) {
        return Err(RuleError::Protocol(rule.protocol.name()));
    }
    match (rule.target, rule.listen) {
        (Some(target), _) if target.is_multicast() => Err(RuleError::MulticastTarget(target)),
        (Some(target), Listen::DualStack) => Err(RuleError::DualStackTarget(target)),
        (Some(target), Listen::On(on)) if target.is_ipv4() != on.is_ipv4() => {
            Err(RuleError::MixedFamilies(on, target))
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// Whether an interface could be called that (`dev_valid_name` of the kernel).
pub fn is_device_name(name: &str) -> bool {
    (1..=MAX_DEVICE_LEN).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| byte == b'/' || byte == b':' || byte == 0)
        && !name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(listen: Listen, first: u16, last: u16, to: u16) -> Rule {
        Rule {
            protocol: Protocol::Tcp,
            listen,
            device: None,
            first,
            last,
            to,
            target: None,
            best_effort: false,
            scan: false,
        }
    }

    fn on(text: &str) -> Listen {
        Listen::On(text.parse().unwrap())
    }

    fn refusal(rule: Rule, caps: Capabilities) -> String {
        Table::default().add(rule, caps).unwrap_err().to_string()
    }

    #[test]
    fn rules_are_shown() {
        let mut any = rule(Listen::DualStack, 1, 32767, 1);
        (any.device, any.best_effort, any.scan) = (Some("lo".into()), true, true);
        assert_eq!(any.to_string(), "TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)");
        assert_eq!(rule(Listen::DualStack, 0, 0, 0).to_string(), "TCP [*]:0  =>  0 ");
        let mut v6 = rule(on("::1"), 22, 22, 80);
        (v6.protocol, v6.target) = (Protocol::Udp, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(v6.to_string(), "UDP [::1]:22  =>  2001:db8::1:80 ");
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in [
            "TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)",
            "UDP [::1]:22  =>  2001:db8::1:80 ",
            "TCP [192.0.2.1]%eth0.2:80-90  =>  8080-8090  (auto-scan)",
        ] {
            assert_eq!(text.parse::<Rule>().map(|rule| rule.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "TCP", "TCP [*]:80  =>  80", "SCTP [*]:80  =>  80 ", "TCP [*]x:1  =>  1 "]
        {
            assert_eq!(text.parse::<Rule>(), Err(NotARule), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let any = Listen::DualStack;
        let all = Capabilities::ALL;
        assert_eq!(refusal(rule(any, 2, 1, 1), all), "Invalid port range 2-1");
        assert!(refusal(rule(any, 0, 0, 1), all).contains("map from port 0"));
        assert!(refusal(rule(any, 1, 1, 0), all).contains("map to port 0"));
        assert!(refusal(rule(any, 1, 2, 65535), all).contains("map to port 0"));
        let v4_only = Capabilities { ipv6: false, ..all };
        assert_eq!(
            refusal(rule(any, 1, 1, 1), v4_only),
            "Dual stack forward, but IPv6 not enabled"
        );
        assert_eq!(
            refusal(rule(on("::1"), 1, 1, 1), v4_only),
            "IPv6 forward, but IPv6 not enabled"
        );
        let no_tcp = Capabilities { tcp: false, ..all };
        assert_eq!(
            refusal(rule(any, 1, 1, 1), no_tcp),
            "Can't add TCP forwarding rule, TCP not enabled"
        );
        let to = |listen, target: &str| Rule {
            target: Some(target.parse().unwrap()),
            ..rule(listen, 1, 1, 1)
        };
        assert!(refusal(to(any, "192.0.2.7"), all).contains("Did you mean 0.0.0.0/... instead?"));
        assert!(refusal(to(any, "2001:db8::7"), all).contains("Did you mean [::]/... instead?"));
        let mixed = refusal(to(on("0.0.0.0"), "2001:db8::1"), all);
        assert!(mixed.contains("IPv4 to IPv6 unsupported"), "{mixed}");
        assert!(refusal(to(on("0.0.0.0"), "224.0.0.1"), all).contains("multicast"));
        let scan = Rule { scan: true, ..rule(any, 1, 1, 1) };
        let no_scan = Capabilities { scan: false, ..all };
        assert!(
            refusal(scan, no_scan).contains("'auto' port forwarding is only allowed for pasta")
        );
        for name in ["", ".", "..", "a/b", "a b", "sixteen-bytes-xx"] {
            let named = Rule { device: Some(name.into()), ..rule(any, 1, 1, 1) };
            assert!(refusal(named, all).contains("Invalid interface name"), "{name}");
        }
    }

    #[test]
    fn conflicts() {
        let mut table = Table::default();
        let add = |table: &mut Table, listen, first, last| {
            table.add(rule(listen, first, last, first), Capabilities::ALL)
        };
        add(&mut table, on("127.0.0.1"), 80, 90).unwrap();
        add(&mut table, on("127.0.0.2"), 80, 90).unwrap();
        add(&mut table, on("::"), 80, 90).unwrap();
        for (listen, first, last) in [
            (on("127.0.0.1"), 90, 90),
            (on("0.0.0.0"), 70, 80),
            (on("::1"), 85, 86),
            (Listen::DualStack, 1, 65535),
        ] {
            let error = add(&mut table, listen, first, last).unwrap_err().to_string();
            assert!(error.contains("configuration conflict"), "{error}");
        }
        add(&mut table, Listen::DualStack, 91, 91).unwrap();
        assert_eq!(table.rules().len(), 4);
        let udp = Rule { protocol: Protocol::Udp, ..rule(Listen::DualStack, 80, 80, 80) };
        table.add(udp.clone(), Capabilities::ALL).unwrap();
        assert!(table.remove(&udp) && !table.remove(&udp));
    }

    #[test]
    fn tables_have_limits() {
        let mut table = Table::default();
        for port in 1..=255 {
            table.add(rule(Listen::DualStack, port, port, port), Capabilities::ALL).unwrap();
        }
        let more = rule(Listen::DualStack, 256, 256, 256);
        assert_eq!(table.add(more, Capabilities::ALL), Err(RuleError::TooManyRules));
        let mut table = Table::default();
        for host in 1..=5 {
            let listen = Listen::On(Ipv4Addr::new(127, 0, 0, host).into());
            table.add(rule(listen, 1, 65535, 1), Capabilities::ALL).unwrap();
        }
        let more = rule(on("127.0.0.6"), 1, 65535, 1);
        assert_eq!(table.add(more, Capabilities::ALL), Err(RuleError::TooManySockets));
    }
}

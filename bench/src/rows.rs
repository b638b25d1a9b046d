//! What is measured: the rows of the table, each with its target.

use crate::args::Args;
use crate::peer::Peer;
use std::collections::BTreeSet;

/// Which way, seen from the namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Out,
    In,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// Between whom traffic goes, and by which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// From the namespace to the outside, through its interface.
    Out,
    /// From the outside to a forwarded port of the namespace, through its interface.
    In,
    /// From the host's loopback to a forwarded port of the namespace.
    SpliceIn,
    /// From the namespace's loopback to a port of the host's.
    SpliceOut,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "",
            Self::In => " inbound",
            Self::SpliceIn => " splice in",
            Self::SpliceOut => " splice out",
        }
    }
}

/// By what frames get from the namespace to the forwarder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Medium {
    /// A tap interface of the forwarder's: pasta.
    Tap,
    /// A stream socket with a bridge at its other end, in place of a virtual machine: passt.
    Stream,
}

/// What a row measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// TCP bytes for a time.
    Tcp { way: Way, streams: u32 },
    /// Median of a small request there and back, all processes on one CPU.
    RoundTrip { udp: bool },
    /// Connections made, asked, answered and closed, 16 in flight.
    Connections,
    /// Datagrams at a fixed rate; the part that is lost.
    UdpPaced { way: Way },
    /// Datagrams as fast as the sender can, with UDP_SEGMENT or one by one; those delivered.
    UdpFlood { way: Way, gso: bool },
    /// System calls of the forwarder per connection of [`Kind::Connections`].
    ConnectionSyscalls,
    /// System calls of the forwarder per frame on the namespace's link, under bulk TCP.
    FrameSyscalls { way: Way },
    /// CPU time of the forwarder per second while nothing happens.
    IdleCpu { flows: u32, defaults: bool },
    /// Descriptors that each of so many connections costs.
    DescriptorsPerFlow { flows: u32 },
    /// Resident memory after start.
    Resident,
    /// Resident memory each of ten thousand idle connections adds.
    ResidentPerFlow,
    /// Wall-clock time of `pasta --config-net true`.
    StartUp,
}

/// What a row is to reach. Ratios are ours to theirs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub(crate) min_c: Option<f64>,
    pub(crate) max_c: Option<f64>,
    pub(crate) min_veth: Option<f64>,
    pub(crate) max: Option<f64>,
    /// CPU per GiB, datagram or transaction, against C.
    pub(crate) max_cpu_c: Option<f64>,
    /// Whether a stall or a TCP timeout in any run of ours misses the target.
    pub(crate) no_stalls: bool,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) path: Path,
    pub(crate) medium: Medium,
    pub(crate) mtu: u32,
    pub(crate) congestion: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
}

impl Row {
    /// How often it is measured.
    pub(crate) fn runs(&self, args: &Args) -> u32 {
        match self.kind {
            Kind::Tcp { .. }
            | Kind::RoundTrip { .. }
            | Kind::Connections
            | Kind::UdpPaced { .. }
            | Kind::UdpFlood { .. }
            | Kind::StartUp => args.runs,
            Kind::ConnectionSyscalls
            | Kind::FrameSyscalls { .. }
            | Kind::IdleCpu { .. }
            | Kind::DescriptorsPerFlow { .. }
            | Kind::Resident
            | Kind::ResidentPerFlow => args.runs.min(3),
        }
    }

    /// Whether the row means anything for this peer.
    pub(crate) fn has(&self, peer: Peer) -> bool {
        // slirp4netns forwards ports by other means, and C has not as many descriptors.
        let forwards = self.path == Path::Out || peer != Peer::Slirp;
        let flows =
            if let Kind::DescriptorsPerFlow { flows } | Kind::IdleCpu { flows, .. } = self.kind {
                flows
            } else {
                0
            };
        forwards && (flows <= 1000 || peer == Peer::Ours) && self.means_something(peer)
    }

    fn means_something(&self, peer: Peer) -> bool {
        if self.medium == Medium::Stream {
            return matches!(peer, Peer::Ours | Peer::C);
        }
        match self.kind {
            Kind::Tcp { .. }
            | Kind::RoundTrip { .. }
            | Kind::Connections
            | Kind::UdpPaced { .. }
            | Kind::UdpFlood { .. } => true,
            // Here "veth" is `unshare -Urn true`.
            Kind::StartUp => peer != Peer::Slirp,
            Kind::IdleCpu { defaults: true, .. } => matches!(peer, Peer::Ours | Peer::C),
            Kind::ConnectionSyscalls
            | Kind::FrameSyscalls { .. }
            | Kind::IdleCpu { .. }
            | Kind::DescriptorsPerFlow { .. }
            | Kind::Resident
            | Kind::ResidentPerFlow => peer != Peer::Veth,
        }
    }
}

fn tcp(way: Way, mtu: u32, streams: u32, congestion: &'static str) -> Row {
    let mut target = Target { min_veth: Some(0.4), no_stalls: true, ..Target::default() };
    match (way, mtu) {
        (Way::Out, 65_520) => target.max_cpu_c = Some(1.1),
        (Way::Out, 1_500) => (target.min_c, target.max_cpu_c) = (Some(50.0), Some(0.2)),
        (Way::In, 65_520) => (target.min_c, target.max_cpu_c) = (Some(1.2), Some(0.75)),
        (Way::In, 1_500) => (target.min_c, target.max_cpu_c) = (Some(10.0), Some(0.06)),
        _ => {}
    }
    Row {
        name: format!("tcp {} {mtu} {streams}s {congestion}", way.name()),
        kind: Kind::Tcp { way, streams },
        path: Path::Out,
        medium: Medium::Tap,
        mtu,
        congestion,
        unit: "Gbit/s",
        target,
    }
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for way in [Way::Out, Way::In] {
        for congestion in ["cubic", "bbr", "reno"] {
            for mtu in [65_520, 9_000, 1_500] {
                for streams in [1, 4] {
                    rows.push(tcp(way, mtu, streams, congestion));
                }
            }
        }
    }
    let other = |name: &str, kind, unit, target| Row {
        name: name.to_owned(),
        kind,
        path: Path::Out,
        medium: Medium::Tap,
        mtu: 65_520,
        congestion: "cubic",
        unit,
        target,
    };
    let none = Target::default();
    let at_most_c = |ratio| Target { max_c: Some(ratio), ..none };
    let at_least_c = |ratio| Target { min_c: Some(ratio), ..none };
    let at_most = |value| Target { max: Some(value), ..none };
    for way in [Way::Out, Way::In] {
        let name = way.name();
        let row = other(
            &format!("udp {name} gso 1400"),
            Kind::UdpFlood { way, gso: true },
            "kpps",
            at_least_c(4.0),
        );
        rows.push(row);
        let row = other(
            &format!("udp {name} plain 1400"),
            Kind::UdpFlood { way, gso: false },
            "kpps",
            at_least_c(1.3),
        );
        rows.push(row);
        let row =
            other(&format!("udp {name} paced 60k"), Kind::UdpPaced { way }, "% lost", at_most(0.0));
        rows.push(row);
    }
    let idle = |flows, defaults| Kind::IdleCpu { flows, defaults };
    let fewer = Target { max: Some(25.0), ..none };
    rows.extend([
        other("rr tcp one cpu", Kind::RoundTrip { udp: false }, "µs p50", at_most_c(0.85)),
        other("rr udp one cpu", Kind::RoundTrip { udp: true }, "µs p50", at_most_c(0.85)),
        other("crr 16 in flight", Kind::Connections, "conn/s", at_least_c(1.3)),
        other("syscalls per crr", Kind::ConnectionSyscalls, "calls", fewer),
        other("syscalls per frame out", Kind::FrameSyscalls { way: Way::Out }, "calls", none),
        other("syscalls per frame in", Kind::FrameSyscalls { way: Way::In }, "calls", none),
        other("idle cpu defaults 0 flows", idle(0, true), "ms/s", at_most(1.0)),
        other("idle cpu defaults 1000 flows", idle(1000, true), "ms/s", at_most(1.0)),
        other("idle cpu no ports 0 flows", idle(0, false), "ms/s", at_most(1.0)),
        other("idle cpu no ports 1000 flows", idle(1000, false), "ms/s", at_most(1.0)),
        // A hundredth of room: the forwarder may open a descriptor or two of its own meanwhile.
        other("fds per flow", Kind::DescriptorsPerFlow { flows: 1000 }, "fds", at_most(1.01)),
        other("rss idle", Kind::Resident, "KiB", at_most_c(0.5)),
        other("rss per idle flow of 10000", Kind::ResidentPerFlow, "bytes", at_most(1024.0)),
        other("start-up --config-net true", Kind::StartUp, "ms", at_most_c(0.25)),
    ]);
    rows.extend(forwarded(&other));
    rows.extend(streamed(&other));
    rows
}

/// The congestion controls that the rows of this run set in their namespaces.
pub(crate) fn congestions(args: &Args) -> BTreeSet<&'static str> {
    let wanted = all().into_iter().filter(|row| args.wants(&row.name));
    wanted.map(|row| row.congestion).collect()
}

/// The rows about forwarded ports. `other` makes one with the usual surroundings.
fn forwarded(other: &dyn Fn(&str, Kind, &'static str, Target) -> Row) -> Vec<Row> {
    let none = Target::default();
    let mut rows = Vec::new();
    let mut add = |path: Path, name: &str, kind, unit, target| {
        let row = other(&format!("{name}{}", path.name()), kind, unit, target);
        rows.push(Row { path, ..row });
    };
    for path in [Path::SpliceIn, Path::SpliceOut] {
        for streams in [1, 4] {
            let target = Target { min_c: Some(1.0), max_cpu_c: Some(1.0), no_stalls: true, ..none };
            let kind = Kind::Tcp { way: Way::Out, streams };
            add(path, &format!("tcp {streams}s"), kind, "Gbit/s", target);
        }
        for (name, gso) in [("udp gso 1400", true), ("udp plain 1400", false)] {
            let kind = Kind::UdpFlood { way: Way::Out, gso };
            add(path, name, kind, "kpps", Target { min_c: Some(1.0), ..none });
        }
        let at_most = Target { max: Some(0.0), ..none };
        add(path, "udp paced 60k", Kind::UdpPaced { way: Way::Out }, "% lost", at_most);
    }
    for path in [Path::In, Path::SpliceIn, Path::SpliceOut] {
        let target = Target { max_c: Some(0.85), ..none };
        add(path, "rr tcp one cpu", Kind::RoundTrip { udp: false }, "µs p50", target);
        add(path, "rr udp one cpu", Kind::RoundTrip { udp: true }, "µs p50", target);
        let ratio = if path == Path::In { 1.3 } else { 1.5 };
        let target = Target { min_c: Some(ratio), ..none };
        add(path, "crr 16 in flight", Kind::Connections, "conn/s", target);
        let target = Target { max: Some(25.0), ..none };
        add(path, "syscalls per crr", Kind::ConnectionSyscalls, "calls", target);
    }
    // Each with a hundredth of room: the forwarder may open a descriptor or two of its own.
    for (path, flows, most) in [(Path::SpliceIn, 9_000, 2.02), (Path::In, 15_000, 1.01)] {
        let target = Target { max: Some(most), ..none };
        let name = format!("fds per flow of {flows}");
        add(path, &name, Kind::DescriptorsPerFlow { flows }, "fds", target);
        let target = Target { max: Some(1.0), ..none };
        let kind = Kind::IdleCpu { flows, defaults: true };
        add(path, &format!("idle cpu defaults {flows} flows"), kind, "ms/s", target);
    }
    rows
}

/// The rows about passt and its stream socket. `other` makes one with the usual surroundings.
fn streamed(other: &dyn Fn(&str, Kind, &'static str, Target) -> Row) -> Vec<Row> {
    let none = Target { no_stalls: true, ..Target::default() };
    let mut rows = Vec::new();
    let mut add = |name: &str, path: Path, mtu, kind, unit, target| {
        let row = other(&format!("stream {name}"), kind, unit, target);
        rows.push(Row { path, mtu, medium: Medium::Stream, ..row });
    };
    for way in [Way::Out, Way::In] {
        for (mtu, ratio) in [(65_520, 1.0), (9_000, 1.3), (1_500, 1.3)] {
            for streams in [1, 4] {
                let target = Target { min_c: Some(ratio), max_cpu_c: Some(0.9), ..none };
                let name = format!("tcp {} {streams}s {mtu}", way.name());
                let kind = Kind::Tcp { way, streams };
                add(&name, Path::Out, mtu, kind, "Gbit/s", target);
            }
        }
    }
    for path in [Path::Out, Path::In] {
        let way = path.name();
        for (name, udp) in [("rr tcp", false), ("rr udp", true)] {
            let target = Target { max_cpu_c: Some(0.9), ..none };
            let kind = Kind::RoundTrip { udp };
            add(&format!("{name} one cpu{way}"), path, 65_520, kind, "µs p50", target);
        }
        let target = Target { min_c: Some(1.2), ..none };
        add(&format!("crr 16 in flight{way}"), path, 65_520, Kind::Connections, "conn/s", target);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().into_iter().map(|row| row.name).collect();
        let before = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}

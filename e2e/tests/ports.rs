//! Which forwarded ports are reached, from where, and as whom: every form of a specifier, for TCP and UDP,
//! through the guest's interface and from loopback to loopback.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT, matrix};
use std::fs;
use std::net::IpAddr;
use testkit::{Family, Pasta, Place, Proc};

matrix!(all:
    inbound, target_address, target_is_not_the_guest, shared_addresses, without_splicing,
    loopback_to_loopback, splice_only, outbound,
);

/// What becomes of a question, by TCP and by UDP.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// Answered; the server at this address and port sees the client as this one, with its own port.
    Own(IpAddr, IpAddr, u16),
    /// The same, but a connection may have another port.
    Any(IpAddr, IpAddr, u16),
    /// There is no such port.
    Refused,
    /// The port is there, but nothing behind it.
    Nobody,
}
use Want::{Any, Nobody, Own, Refused};

impl Want {
    fn allows(self, protocol: &str, got: &str) -> bool {
        let seen = |from, port, at, to: u16| got == format!("{from} {port} {at} {to}");
        match self {
            Own(from, at, to) => seen(from, "same", at, to),
            Any(from, at, to) => {
                seen(from, "same", at, to) || protocol == "tcp" && seen(from, "other", at, to)
            }
            Refused => got == "refused",
            Nobody if protocol == "tcp" => got == "reset",
            Nobody => got == "silence",
        }
    }
}

/// A question: from an address, which may be the kernel's choice, to an address and port.
type Question = (Option<IpAddr>, IpAddr, u16, Want);

/// Asks from `place` by both protocols, and compares.
fn ask(case: &Case<'_>, place: &Place, questions: &[Question]) -> Result<()> {
    let mut args = String::from("probe");
    for protocol in ["tcp", "udp"] {
        for (from, to, port, _) in questions {
            args += &format!(" {protocol},{to},{port}");
            args += &from.map_or_else(String::new, |from| format!(",{from}"));
        }
    }
    let text = case.rig.peer(place, SHORT, &args)?;
    let mut answers = text.lines();
    let mut wrong = Vec::new();
    for protocol in ["tcp", "udp"] {
        for (from, to, port, want) in questions {
            let got = answers.next().context("an answer is missing")?;
            if !want.allows(protocol, got) {
                let from = from.map_or_else(String::new, |from| format!("{from} "));
                wrong.push(format!("{protocol} {from}{to}/{port}: {got}, wanted {want:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "from {place:?}:\n{}", wrong.join("\n"));
    Ok(())
}

/// Each specifier for TCP and for UDP. `H` stands for the host's address.
fn options(case: &Case<'_>, specs: &[&str]) -> Vec<String> {
    let host = case.family.host().to_string();
    let specs = specs.iter().map(|spec| spec.replace('H', &host));
    specs.flat_map(|spec| ["-t".to_owned(), spec.clone(), "-u".to_owned(), spec]).collect()
}

fn start(case: &Case<'_>, options: &[String]) -> Result<Pasta> {
    // Many ports are asked for that the host has to say about that they are closed.
    fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
    fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0")?;
    case.guest(&options.iter().map(String::as_str).collect::<Vec<_>>())
}

fn ip(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let words: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
    case.rig.run(place, SHORT, &words)
}

fn pick(family: Family, v4: &str, v6: &str) -> Result<IpAddr> {
    Ok(if family == Family::V4 { v4 } else { v6 }.parse()?)
}

/// Loopback, as both sides know it, and the only other address there is of it.
fn loopback(family: Family) -> Result<IpAddr> {
    pick(family, "127.0.0.1", "::1")
}

/// A second address of the host. The guest shares it if it is there when pasta starts.
fn second(case: &Case<'_>) -> Result<IpAddr> {
    let second = pick(case.family, "203.0.113.22", "2001:db8:51::22")?;
    let (length, nodad) = if case.family == Family::V4 { (24, "") } else { (64, "nodad") };
    ip(case, &Place::Host, &format!("addr add {second}/{length} dev eth0 {nodad}"))?;
    Ok(second)
}

/// The link-local address of the guest's interface, and that interface's index.
fn link_local(case: &Case<'_>, guest: &Pasta) -> Result<(IpAddr, u32)> {
    let text = ip(case, &guest.place(), "-6 -o addr show dev eth0 scope link")?;
    let index = text.split(':').next().context("no index")?.trim().parse()?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet6");
    let address = words.nth(1).and_then(|word| word.split('/').next()).context("no address")?;
    Ok((address.parse()?, index))
}

/// What the guest sees instead of an address that is its own as well, and where it is then asked.
fn as_gateway(case: &Case<'_>, guest: &Pasta) -> Result<(IpAddr, IpAddr)> {
    match case.family {
        Family::V4 => Ok((case.family.gateway(), case.family.host())),
        Family::V6 => Ok(("fe80::1".parse()?, link_local(case, guest)?.0)),
    }
}

/// Gives the guest one more address.
fn add_target(case: &Case<'_>, guest: &Pasta, target: IpAddr) -> Result<()> {
    let (length, nodad) = if case.family == Family::V4 { (32, "") } else { (128, "nodad") };
    ip(case, &guest.place(), &format!("addr add {target}/{length} dev eth0 {nodad}")).map(drop)
}

/// The guest's answers from the target address of one rule do not move what the others forward.
fn target_is_not_the_guest(case: &Case<'_>) -> Result<()> {
    let (host, me) = (case.family.host(), case.family.peer());
    let target = pick(case.family, "192.0.2.5", "2001:db8:77::5")?;
    let any = pick(case.family, "0.0.0.0", "::")?;
    let guest = start(case, &options(case, &[&format!("[{any}]/5060:{target}"), "5001"]))?;
    add_target(case, &guest, target)?;
    let _witness = witness(case, &guest, "5001,5060", &[target])?;
    let from = |port, want| (Some(me), host, port, want);
    ask(case, &Place::Outside, &[from(5060, Own(me, target, 5060))])?;
    ask(case, &Place::Outside, &[from(5001, Own(me, host, 5001))])
}

/// Whichever of the addresses that both have the host uses, the guest is not to see its own.
fn shared_addresses(case: &Case<'_>) -> Result<()> {
    let (host, other) = (case.family.host(), second(case)?);
    let guest = start(case, &options(case, &["5001"]))?;
    ensure!(
        ip(case, &guest.place(), "addr show dev eth0")?.contains(&format!("{other}/")),
        "not shared"
    );
    let (gateway, at) = as_gateway(case, &guest)?;
    let _witness = witness(case, &guest, "5001", &[other])?;
    ask(case, &Place::Host, &[(Some(host), other, 5001, Own(gateway, at, 5001))])?;
    ask(case, &Place::Host, &[(Some(other), host, 5001, Own(gateway, at, 5001))])
}

/// A server in the guest on `ports`, on each of its addresses and on `more`, one by one, so that the answer
/// tells where a question arrived.
fn witness(case: &Case<'_>, guest: &Pasta, ports: &str, more: &[IpAddr]) -> Result<Proc> {
    let mut addresses = vec![case.family.host().to_string(), loopback(case.family)?.to_string()];
    addresses.extend(more.iter().map(ToString::to_string));
    if case.family == Family::V6 {
        let (address, index) = link_local(case, guest)?;
        addresses.push(format!("{address}%{index}"));
    }
    case.rig.witness(&guest.place(), ports, &addresses)
}

/// Ports beside those that are forwarded are served, too: they must not be reached.
const INSIDE: &str = "5001,5002,5009,5010,5011,5012,5013,5020,6020,6021,6029,6030,6031,6032,5040,5041,5050,\
                      5051,5052,5060,5061,6060";

fn inbound(case: &Case<'_>) -> Result<()> {
    let lo = loopback(case.family)?;
    let specs = [
        "5001",
        "5010-5012,~5011",
        "5020:6020",
        "5030-5031:6030-6031",
        "[H]/5040",
        &format!("{lo}/5041"),
        "%eth0/5050",
        "%lo/5051",
        "H%eth0/5052",
        // Nobody is there.
        "5070",
    ];
    let guest = start(case, &options(case, &specs))?;
    let _witness = witness(case, &guest, INSIDE, &[])?;
    let (host, other) = (case.family.host(), second(case)?);

    let me = case.family.peer();
    let tap = |port| Own(me, host, port);
    let from = |to, port, want| (Some(me), to, port, want);
    ask(
        case,
        &Place::Outside,
        &[
            from(host, 5001, tap(5001)),
            from(other, 5001, tap(5001)),
            from(host, 5002, Refused),
            from(host, 5009, Refused),
            from(host, 5010, tap(5010)),
            from(host, 5011, Refused),
            from(host, 5012, tap(5012)),
            from(host, 5013, Refused),
            from(host, 5020, tap(6020)),
            from(host, 6020, Refused),
            from(host, 5030, tap(6030)),
            from(host, 5031, tap(6031)),
            from(host, 5032, Refused),
            from(host, 5040, tap(5040)),
            from(other, 5040, Refused),
            from(host, 5041, Refused),
            from(host, 5050, tap(5050)),
            from(other, 5050, tap(5050)),
            from(host, 5051, Refused),
            from(host, 5052, tap(5052)),
            from(other, 5052, Refused),
            from(host, 5070, Nobody),
            // The host's gateway, whose address stands for the host where the guest is the client.
            (Some(case.family.gateway()), host, 5001, Own(case.family.gateway(), host, 5001)),
        ],
    )?;
    let far = case.family.far();
    ask(case, &Place::Far, &[(Some(far), host, 5001, Own(far, host, 5001))])?;

    let splice = |port| Any(host, host, port);
    let mut questions = vec![
        (None, lo, 5001, splice(5001)),
        (None, lo, 5002, Refused),
        (None, lo, 5009, Refused),
        (None, lo, 5010, splice(5010)),
        (None, lo, 5011, Refused),
        (None, lo, 5012, splice(5012)),
        (None, lo, 5013, Refused),
        (None, lo, 5020, splice(6020)),
        (None, lo, 6020, Refused),
        (None, lo, 5030, splice(6030)),
        (None, lo, 5031, splice(6031)),
        (None, lo, 5032, Refused),
        (None, lo, 5040, Refused),
        (None, lo, 5041, splice(5041)),
        (None, lo, 5050, Refused),
        (None, lo, 5051, splice(5051)),
        (None, lo, 5052, Refused),
        (None, lo, 5070, Nobody),
    ];
    if case.family == Family::V4 {
        let same = "127.0.0.9".parse()?;
        questions.extend([
            (None, same, 5001, splice(5001)),
            (Some(same), lo, 5001, splice(5001)),
            (None, same, 5041, Refused),
            (None, same, 5051, splice(5051)),
        ]);
    }
    // The host asks itself by the address it shares with the guest.
    let (gateway, at) = as_gateway(case, &guest)?;
    questions.extend([
        (None, host, 5001, Own(gateway, at, 5001)),
        (None, host, 5020, Own(gateway, at, 6020)),
        (None, host, 5040, Own(gateway, at, 5040)),
        (None, host, 5041, Refused),
        // The kernel knows on which interface the address is, even if nothing passes that.
        (None, host, 5050, Own(gateway, at, 5050)),
        (None, host, 5051, Refused),
        (None, host, 5052, Own(gateway, at, 5052)),
        // By an address that the guest does not have.
        (Some(other), host, 5001, Own(other, host, 5001)),
    ]);
    ask(case, &Place::Host, &questions)
}

/// Rules with a target address, which is one that the guest has besides its own.
fn target_address(case: &Case<'_>) -> Result<()> {
    let (lo, host, me) = (loopback(case.family)?, case.family.host(), case.family.peer());
    let target = pick(case.family, "192.0.2.5", "2001:db8:77::5")?;
    let any = pick(case.family, "0.0.0.0", "::")?;
    let specs = [
        format!("{any}/5060:[{target}]/6060"),
        format!("[{host}]/5061:{target}"),
        format!("[{host}]%eth0/5062-5063:{target}/6062-6063"),
        // The guest does not have that one.
        format!("{any}/5064:{}", pick(case.family, "192.0.2.6", "2001:db8:77::6")?),
        "5001".into(),
    ];
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let guest = start(case, &options(case, &specs))?;
    add_target(case, &guest, target)?;
    let ports = "5001,5060,5061,5062,5063,5064,6060,6062,6063";
    let _witness = witness(case, &guest, ports, &[target])?;

    let from = |port, want| (Some(me), host, port, want);
    ask(case, &Place::Outside, &[from(5001, Own(me, host, 5001))])?;
    ask(
        case,
        &Place::Outside,
        &[
            from(5060, Own(me, target, 6060)),
            from(5061, Own(me, target, 5061)),
            from(5062, Own(me, target, 6062)),
            from(5063, Own(me, target, 6063)),
            from(6060, Refused),
        ],
    )?;
    // Loopback traffic, too, goes through the interface then.
    let gateway = pick(case.family, "203.0.113.1", "fe80::1")?;
    ask(
        case,
        &Place::Host,
        &[
            (None, lo, 5060, Own(gateway, target, 6060)),
            (None, host, 5060, Own(gateway, target, 6060)),
            (None, lo, 5061, Refused),
            (None, host, 5061, Own(gateway, target, 5061)),
            (None, lo, 5062, Refused),
        ],
    )
}

fn without_splicing(case: &Case<'_>) -> Result<()> {
    let (lo, host, me) = (loopback(case.family)?, case.family.host(), case.family.peer());
    let mut options = options(case, &["5001", "5020:6020", "%lo/5051", "5070"]);
    options.push("--no-splice".into());
    let guest = start(case, &options)?;
    let _witness = witness(case, &guest, "5001,6020,5051", &[])?;
    let (gateway, at) = as_gateway(case, &guest)?;
    let mut questions = vec![
        (None, lo, 5001, Own(gateway, at, 5001)),
        (None, lo, 5020, Own(gateway, at, 6020)),
        (None, lo, 5051, Own(gateway, at, 5051)),
        (None, lo, 5070, Nobody),
        (None, host, 5001, Own(gateway, at, 5001)),
    ];
    if case.family == Family::V4 {
        let same = "127.0.0.9".parse()?;
        questions.push((None, same, 5001, Own(gateway, at, 5001)));
        questions.push((Some(same), lo, 5001, Own(gateway, at, 5001)));
    }
    ask(case, &Place::Host, &questions)?;
    ask(case, &Place::Outside, &[(Some(me), host, 5001, Own(me, host, 5001))])
}

/// Services that listen on the namespace's loopback alone are there for those who asked for it.
fn loopback_to_loopback(case: &Case<'_>) -> Result<()> {
    let (lo, host, me) = (loopback(case.family)?, case.family.host(), case.family.peer());
    let mut options = options(case, &["5001", "5020:6020", "5070"]);
    options.push("--host-lo-to-ns-lo".into());
    let guest = start(case, &options)?;
    let same = pick(case.family, "127.0.0.9", "::1")?;
    let more = if case.family == Family::V4 { vec![same] } else { Vec::new() };
    let _witness = witness(case, &guest, "5001,6020", &more)?;
    ask(
        case,
        &Place::Host,
        &[
            (None, lo, 5001, Any(lo, lo, 5001)),
            (None, same, 5001, Any(lo, same, 5001)),
            (None, lo, 5020, Any(lo, lo, 6020)),
            (None, lo, 5070, Nobody),
        ],
    )?;
    ask(case, &Place::Outside, &[(Some(me), host, 5001, Own(me, host, 5001))])
}

/// There is no interface but loopback, and loopback traffic is all there is.
fn splice_only(case: &Case<'_>) -> Result<()> {
    let (lo, host, me) = (loopback(case.family)?, case.family.host(), case.family.peer());
    let mut options = options(case, &["5001", "5020:6020", "%lo/5051"]);
    options.extend(["--splice-only", "-T", "7001", "-U", "7001"].map(str::to_owned));
    let guest = start(case, &options)?;
    let links = ip(case, &guest.place(), "-o link")?;
    ensure!(links.lines().count() == 1 && links.contains(": lo: "), "{links}");
    let _witness = case.rig.witness(&guest.place(), "5001,6020,5051", &[lo.to_string()])?;
    let _outer = case.rig.witness(&Place::Host, "7001", &[lo.to_string()])?;
    ask(
        case,
        &Place::Host,
        &[
            (None, lo, 5001, Any(lo, lo, 5001)),
            (None, lo, 5020, Any(lo, lo, 6020)),
            (None, lo, 5051, Any(lo, lo, 5051)),
            (None, host, 5001, Nobody),
        ],
    )?;
    let from = |port, want| (Some(me), host, port, want);
    ask(case, &Place::Outside, &[from(5001, Nobody), from(5051, Refused)])?;
    ask(case, &guest.place(), &[(None, lo, 7001, Any(lo, lo, 7001)), (None, lo, 7002, Refused)])
}

/// The host's loopback, as seen from the namespace's.
fn outbound(case: &Case<'_>) -> Result<()> {
    let (lo, host) = (loopback(case.family)?, case.family.host());
    let resolver = pick(case.family, "127.0.0.53", "::1")?;
    let specs = ["7001", "7010-7012,~7011", "7020:8020", "7070"];
    let out = specs.iter().flat_map(|spec| ["-T", spec, "-U", spec].map(str::to_owned));
    let mut options = options(case, &["5001:7001"]);
    options.extend(out);
    let guest = start(case, &options)?;
    let outside = [lo.to_string(), host.to_string(), resolver.to_string()];
    let addresses = if lo == resolver { &outside[..2] } else { &outside[..] };
    let ports = "7001,7010,7011,7012,7013,8020";
    let _witness = case.rig.witness(&Place::Host, ports, addresses)?;
    let place = guest.place();
    ask(
        case,
        &place,
        &[
            (None, lo, 7001, Any(lo, lo, 7001)),
            (None, resolver, 7001, Any(lo, resolver, 7001)),
            (None, lo, 7010, Any(lo, lo, 7010)),
            (None, lo, 7011, Refused),
            (None, lo, 7012, Any(lo, lo, 7012)),
            (None, lo, 7013, Refused),
            (None, lo, 7020, Any(lo, lo, 8020)),
            (None, lo, 8020, Refused),
            (None, lo, 7070, Nobody),
            // The namespace's own address is another interface's.
            (None, host, 7001, Refused),
        ],
    )?;
    // By the other interface nothing gets there.
    let me = case.family.peer();
    ask(case, &Place::Outside, &[(Some(me), host, 5001, Nobody)])
}

//! What the tests with virtual machines share: passt and a guest, and what the guest must be able to do.

use crate::{Case, PORT, SHORT, set};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::guest::{Guest, Job};
use testkit::peer::stream;
use testkit::{Family, Place, Proc, wait_for};

/// The ports that passt forwards, and the options for it.
pub const FORWARDED: &[&str] = &["-t", "8000-8001", "-u", "8000-8001"];
/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Limit for a transfer.
const TRANSFER: Duration = Duration::from_secs(200);
/// Bytes of a small transfer.
const SMALL: u64 = 1 << 20;

/// For how long a guest is paused.
pub fn pause() -> Duration {
    Duration::from_secs(set("E2E_PAUSE").unwrap_or(5))
}

/// Size of a bulk transfer: most guests are interpreted.
pub fn bytes() -> u64 {
    set("E2E_BYTES").unwrap_or(32 << 20)
}

/// A passt in the foreground, with a socket.
#[derive(Debug)]
pub struct Passt {
    /// The program.
    pub proc: Proc,
    /// Its socket.
    pub socket: PathBuf,
}

impl Passt {
    /// Starts passt with the forwarded ports and waits until it can be connected to.
    pub fn start(case: &Case<'_>) -> Result<Self> {
        let socket = case.rig.tmp().join("passt.socket");
        let path = socket.display().to_string();
        let passt = case.rig.passt(case.user)?.args(&["-f", "-s", &path]).args(FORWARDED);
        Self::running(passt.start()?, socket)
    }

    /// Waits until a passt can be connected to.
    pub fn running(mut proc: Proc, socket: PathBuf) -> Result<Self> {
        wait_for("passt's socket", SHORT, || {
            ensure!(proc.running()?, "passt has ended: {}", proc.stderr());
            Ok(listens(&socket)?.then_some(()))
        })
        .with_context(|| proc.stderr())?;
        Ok(Self { proc, socket })
    }

    /// The back end of a QEMU that connects to it.
    pub fn netdev(&self) -> String {
        let path = self.socket.display();
        format!("stream,id=net,server=off,addr.type=unix,addr.path={path}")
    }
}

/// Whether something listens on a Unix socket.
fn listens(path: &Path) -> Result<bool> {
    let path = path.display().to_string();
    // Number, references, protocol, flags, type, state, inode, path: the flag is "accepts connections".
    Ok(fs::read_to_string("/proc/net/unix")?.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(3) == Some(&"00010000") && words.get(7) == Some(&path.as_str())
    }))
}

/// One thing that has to work.
pub type Check = (&'static str, fn(&Case<'_>, &mut Guest) -> Result<()>);

/// Runs checks one after the other, under their names.
pub fn check(case: &Case<'_>, guest: &mut Guest, checks: &[Check]) -> Result<()> {
    for (name, body) in checks {
        let begin = Instant::now();
        body(case, guest).with_context(|| format!("check: {name}"))?;
        eprintln!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Whether a guest has a network at all, in both directions. In this order: passt learns from what the guest
/// sends which of its addresses forwarded connections should go to.
pub const SMOKE: &[Check] = &[
    ("DHCP by udhcpc", dhcp),
    ("SLAAC", slaac),
    ("ping the gateway and outside addresses", ping),
    ("TCP out", tcp_out),
    ("forwarded ports, as whom", forwarded),
];

/// The same without DHCP, for a guest that did it while it booted.
pub const AFTER_DHCP: &[Check] = match SMOKE {
    [_, rest @ ..] => rest,
    [] => SMOKE,
};

/// udhcpc gets the host's address, its router and its name servers.
pub fn dhcp(_: &Case<'_>, guest: &mut Guest) -> Result<()> {
    guest.run("ip link set eth0 up")?;
    guest.run("udhcpc -i eth0 -n -q -f -t 8 -T 1 -O mtu -O search -s /sbin/udhcpc-script")?;
    has_ipv4(guest)?;
    let resolv = guest.run("cat /etc/resolv.conf")?;
    ensure!(resolv == "search rig.example\nnameserver 203.0.113.53", "{resolv}");
    Ok(())
}

/// The guest has the host's address and router.
pub fn has_ipv4(guest: &mut Guest) -> Result<()> {
    let addresses = guest.run("ip -4 addr show dev eth0")?;
    ensure!(addresses.contains("inet 203.0.113.2/24 "), "{addresses}");
    let routes = guest.run("ip -4 route")?;
    ensure!(routes.contains("default via 203.0.113.1 dev eth0"), "{routes}");
    Ok(())
}

/// The kernel takes an address and a default route from router advertisements.
pub fn slaac(_: &Case<'_>, guest: &mut Guest) -> Result<()> {
    guest.run("ip link set eth0 up")?;
    let wanted = "inet6 2001:db8:51:0:5054:ff:fe12:3456/64";
    wait_for(wanted, SHORT, || {
        let text = guest.run("ip -6 addr show dev eth0")?;
        ensure!(!text.contains("dadfailed"), "{text}");
        Ok((text.contains(wanted) && !text.contains("tentative")).then_some(()))
    })?;
    let routes = guest.run("ip -6 route")?;
    ensure!(routes.contains("default via fe80::1 dev eth0"), "{routes}");
    Ok(())
}

/// dhclient gets the host's address, and name servers.
pub fn dhcpv6(_: &Case<'_>, guest: &mut Guest) -> Result<()> {
    guest.run(
        "dhclient -6 -1 -v -cf /dev/null -lf /tmp/leases -pf /tmp/dhclient.pid \
         -sf /sbin/dhclient-script eth0",
    )?;
    let addresses = guest.run("ip -6 addr show dev eth0")?;
    ensure!(addresses.contains("inet6 2001:db8:51::2/128"), "{addresses}");
    let resolv = guest.run("cat /tmp/dhcp6")?;
    ensure!(resolv.starts_with("nameserver 2001:db8:51::53\nsearch rig.example"), "{resolv}");
    Ok(())
}

/// The gateway of both families, and addresses that are one and two routers away.
pub fn ping(_: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let mut addresses = vec!["203.0.113.1".to_owned(), "fe80::1%eth0".to_owned()];
    for family in FAMILIES {
        addresses.extend([family.peer(), family.far()].map(|addr| addr.to_string()));
    }
    for addr in addresses {
        let text = guest.run(&format!("ping -c 2 -i 0.2 -W 5 {addr}"))?;
        ensure!(text.contains("2 packets received"), "{text}");
    }
    Ok(())
}

/// A name, by what DHCP and DHCPv6 said.
pub fn names(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let _dns = case.rig.start_dns()?;
    for server in ["", "2001:db8:51::53"] {
        let text = guest.run(&format!("nslookup www.rig.example {server}"))?;
        ensure!(text.contains("198.18.0.1") && text.contains("2001:db8:99::1"), "{text}");
    }
    let text = guest.run("ping -c 1 -W 5 peer")?;
    ensure!(text.contains("203.0.113.10") || text.contains("2001:db8:51::10"), "{text}");
    Ok(())
}

/// The helper's servers at the usual peers.
pub fn servers(case: &Case<'_>) -> Result<[Proc; 2]> {
    let [v4, v6] = FAMILIES.map(|family| case.rig.serve(&Place::Outside, family.peer(), PORT));
    Ok([v4?, v6?])
}

fn transfer(guest: &mut Guest, verb: &str, to: &str, size: u64) -> Result<()> {
    let begin = Instant::now();
    let got = guest.run_within(&format!("peer {verb} {to} {PORT} {size}"), TRANSFER)?;
    ensure!(got == stream::sum(size), "{verb} {to}: {got}");
    if size > SMALL {
        let took = begin.elapsed().as_secs_f64();
        eprintln!("{verb} {to}: {size} bytes in {took:.2} s, sums and all");
    }
    Ok(())
}

/// Connections of the guest to the outside and, by the gateways' addresses, to the host's loopback.
pub fn tcp_out(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let _servers = servers(case)?;
    for family in FAMILIES {
        for verb in ["put", "get"] {
            transfer(guest, verb, &family.peer().to_string(), SMALL)?;
        }
    }
    for (own, gateway) in [("127.0.0.1", "203.0.113.1"), ("::1", "fe80::1%eth0")] {
        let _server = case.rig.serve(&Place::Host, own.parse()?, PORT)?;
        let from = guest.run(&format!("echo who | nc -w 10 {gateway} {PORT}"))?;
        ensure!(from == own, "{gateway}: {from}");
    }
    Ok(())
}

/// Datagrams of the guest, to where [`tcp_out`] connects.
pub fn udp_out(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let _servers = servers(case)?;
    let _own = case.rig.serve(&Place::Host, "127.0.0.1".parse()?, PORT)?;
    for to in ["203.0.113.10", "2001:db8:51::10", "203.0.113.1"] {
        for size in [0, 1000, 20_000] {
            let got = guest.run(&format!("peer udp-echo {to} {PORT} {size}"))?;
            ensure!(got == "ok", "{to}, {size} bytes: {got}");
        }
        let got = guest.run(&format!("peer udp-many {to} {PORT} 30"))?;
        ensure!(got == "30", "{to}: {got} of 30 answered");
    }
    Ok(())
}

/// Who asks from where at which of the host's addresses, and whom the guest sees.
const SEEN: &[(Place, &str, &str, &str)] = &[
    (Place::Host, "127.0.0.1,8000", "203.0.113.1", "0.0.0.0 8000"),
    (Place::Host, "127.0.0.1,8001", "203.0.113.1", "0.0.0.0 8001"),
    (Place::Host, "203.0.113.2,8000", "203.0.113.1", "0.0.0.0 8000"),
    (Place::Host, "::1,8000", "fe80::1", ":: 8000"),
    (Place::Outside, "203.0.113.2,8000,203.0.113.10", "203.0.113.10", "0.0.0.0 8000"),
    (Place::Outside, "2001:db8:51::2,8000,2001:db8:51::10", "2001:db8:51::10", ":: 8000"),
    (Place::Far, "203.0.113.2,8001,198.18.0.1", "198.18.0.1", "0.0.0.0 8001"),
    (Place::Far, "2001:db8:51::2,8001,2001:db8:99::1", "2001:db8:99::1", ":: 8001"),
];

/// Connections and datagrams to forwarded ports, from the host itself and from outside: they arrive with
/// the source that the guest may see. And so do bytes.
pub fn forwarded(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let job = guest.start("peer witness 8000,8001 0.0.0.0 ::")?;
    guest.wait_line(&job, "serving")?;
    for protocol in ["tcp", "udp"] {
        for (place, to, seen, at) in SEEN {
            let args = format!("probe {protocol},{to}");
            let got = case.rig.peer(place, SHORT, &args)?;
            // The source port is that of the client.
            ensure!(got == format!("{seen} same {at}"), "{protocol} from {place:?} to {to}: {got}");
        }
    }
    end(guest, &job)?;
    for (family, any) in FAMILIES.into_iter().zip(["0.0.0.0", "::"]) {
        let job = guest.start(&format!("peer serve {any} 8000"))?;
        guest.wait_line(&job, "serving")?;
        for verb in ["put", "get"] {
            let args = format!("{verb} {} 8000 {SMALL}", family.host());
            let got = case.rig.peer(&Place::Outside, SHORT, &args)?;
            ensure!(got == stream::sum(SMALL), "{verb} {}: {got}", family.host());
        }
        end(guest, &job)?;
    }
    Ok(())
}

/// Ends a server in the guest.
fn end(guest: &mut Guest, job: &Job) -> Result<()> {
    guest.run("killall peer")?;
    let (status, output) = guest.ended(job, SHORT)?;
    ensure!(status != 0, "the server ended by itself: {output}");
    Ok(())
}

/// Large transfers, compared by SHA-256.
pub fn bulk(case: &Case<'_>, guest: &mut Guest) -> Result<()> {
    let _servers = servers(case)?;
    for family in FAMILIES {
        for verb in ["put", "get"] {
            transfer(guest, verb, &family.peer().to_string(), bytes())?;
        }
    }
    Ok(())
}

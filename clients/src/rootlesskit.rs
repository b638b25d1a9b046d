//! RootlessKit, which is below rootless Docker and nerdctl.

use crate::args::Column;
use crate::check::{Skip, Story, required, story};
use crate::inside::{Inside, LIMIT};
use crate::traffic::{PORT, addresses, exchange, gateways, inbound, mtu, outbound, ping, refused};
use anyhow::{Context as _, Result, bail, ensure};
use std::net::{IpAddr, Ipv4Addr};
use testkit::{Family, Place, Proc, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story("plain", plain),
    story("disable-host-loopback", closed),
    story("addresses", custom),
    story("ipv6", ipv6),
    story("detach-netns", detached),
    required("implicit", implicit),
    story("pesto", pesto),
];

/// RootlessKit's state.
const STATE: &str = "/tmp/rk";
/// What it runs: something that waits, with a name of its own.
const COMMAND: &str = "/run/rig/bin/peer hold kit";
const LO4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V4: &[(&str, Family)] = &[("IPv4", Family::V4)];

/// A running RootlessKit, whose command waits.
struct Kit<'i, 'r> {
    inside: &'i Inside<'r>,
    proc: Proc,
    child: u32,
    /// The network namespace, for nsenter.
    net: String,
}

impl<'i, 'r> Kit<'i, 'r> {
    fn start(inside: &'i Inside<'r>, options: &str) -> Result<Self> {
        inside.sh(&format!("rm -rf {STATE}"))?;
        let fixed = format!("--net=pasta --copy-up=/etc --state-dir={STATE}");
        let command = COMMAND;
        let mut proc = inside.start(&format!("rootlesskit {fixed} {options} {command}"))?;
        proc.wait_line("ready", LIMIT)?;
        let child = inside.sh(&format!("cat {STATE}/child_pid"))?.parse()?;
        let net = if options.contains("--detach-netns") {
            format!("--net=/proc/{child}/root{STATE}/netns")
        } else {
            format!("--net=/proc/{child}/ns/net")
        };
        Ok(Self { inside, proc, child, net })
    }

    /// Something in the child's namespaces; its files are those of the command.
    fn argv<'a>(&'a self, mount: &'a str, argv: &[&'a str]) -> Vec<&'a str> {
        [&["nsenter", mount, &self.net, "--"], argv].concat()
    }

    fn run(&self, argv: &[&str]) -> Result<String> {
        let mount = format!("--mount=/proc/{}/ns/mnt", self.child);
        let text = self.inside.rig.run(&Place::Host, LIMIT, &self.argv(&mount, argv))?;
        Ok(text.trim_end().to_owned())
    }

    fn peer(&self, args: &str) -> Result<String> {
        let words: Vec<&str> = args.split(' ').collect();
        self.run(&[&["/run/rig/bin/peer"], &words[..]].concat())
    }

    /// The helper's server in the namespace.
    fn serve(&self, addr: &str, port: u16) -> Result<Proc> {
        let mount = format!("--mount=/proc/{}/ns/mnt", self.child);
        let port = port.to_string();
        let argv = ["/run/rig/bin/peer", "serve", addr, &port];
        let mut server = self.inside.rig.start(&Place::Host, &self.argv(&mount, &argv))?;
        server.wait_line("serving", LIMIT)?;
        Ok(server)
    }

    /// The place, where the child itself is in the namespace.
    fn place(&self) -> Place {
        Place::Of(self.child)
    }

    /// Ends the command; RootlessKit and pasta have to end.
    fn end(mut self) -> Result<()> {
        self.inside.lives("pasta")?;
        self.proc.close_stdin();
        let outcome = self.proc.finish(LIMIT)?;
        ensure!(outcome.status.success(), "{outcome:?}");
        self.inside.until_no("pasta")
    }
}

/// Without further options.
fn plain(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || Kit::start(inside, ""))?;
    inside.step("addresses, routes and MTU", || {
        configured(inside, &kit.place(), "tap0", ["10.0.2.100/24", "10.0.2.2"], 65520)
    });
    basics(inside, &kit)?;
    inside.step("ping, IPv4", || ping(inside, &kit.place(), Family::V4));
    inside.step("the host's loopback by the gateway's address", || {
        let _host = inside.rig.serve(&Place::Host, LO4, PORT + 1)?;
        exchange(inside, [10, 0, 2, 2].into(), PORT + 1, &|args| kit.peer(args))
    });
    inside.step("pasta ends with RootlessKit", || kit.end());
    inside.step("the command's exit status", || {
        let line =
            format!("rootlesskit --net=pasta --copy-up=/etc --state-dir={STATE}2 sh -c 'exit 5'");
        let run = inside.outcome(&line)?;
        ensure!(run.code() == Some(5), "{run:?}");
        inside.until_no("pasta")
    });
    Ok(())
}

/// Outbound traffic and names.
fn basics(inside: &Inside<'_>, kit: &Kit<'_, '_>) -> Result<()> {
    outbound(inside, V4, &|args| kit.peer(args))?;
    inside.step("names", || {
        let text = kit.run(&["busybox", "nslookup", "www.rig.example"])?;
        ensure!(text.contains("198.18.0.1"), "{text}");
        Ok(())
    });
    Ok(())
}

fn configured(
    inside: &Inside<'_>,
    place: &Place,
    link: &str,
    expected: [&str; 2],
    bytes: u64,
) -> Result<()> {
    let all = addresses(inside, place, link)?;
    let routes = gateways(inside, place, Family::V4)?;
    let got = mtu(inside, place, link)?;
    ensure!(all.iter().any(|one| one == expected[0]), "{all:?}");
    ensure!(routes == [expected[1]], "{routes:?}");
    ensure!(got == bytes, "MTU {got}");
    Ok(())
}

/// `--disable-host-loopback`.
fn closed(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || Kit::start(inside, "--disable-host-loopback"))?;
    basics(inside, &kit)?;
    inside.step("the gateway's address is not the host's loopback", || {
        let _host = inside.rig.serve(&Place::Host, LO4, PORT + 1)?;
        let got = kit.peer(&format!("connect 10.0.2.2 {}", PORT + 1));
        // Where it leads instead, nobody is.
        ensure!(!got.as_ref().is_ok_and(|got| got == "connected"), "{got:?}");
        Ok(())
    });
    inside.step("pasta ends with RootlessKit", || kit.end());
    Ok(())
}

/// `--cidr`, `--mtu`, `--ifname`.
fn custom(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || {
        Kit::start(inside, "--mtu=1400 --cidr=10.77.0.0/24 --ifname=tapx")
    })?;
    inside.step("addresses, routes and MTU", || {
        configured(inside, &kit.place(), "tapx", ["10.77.0.100/24", "10.77.0.2"], 1400)
    });
    basics(inside, &kit)?;
    inside.step("pasta ends with RootlessKit", || kit.end());
    Ok(())
}

/// `--ipv6`: what RootlessKit itself configures is IPv4 all the same.
fn ipv6(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || Kit::start(inside, "--ipv6"))?;
    inside.step("addresses, routes and MTU", || {
        configured(inside, &kit.place(), "tap0", ["10.0.2.100/24", "10.0.2.2"], 65520)
    });
    basics(inside, &kit)?;
    inside.step("IPv6 out, with the address set by hand", || {
        let ip = |args: &str| {
            let words: Vec<&str> = args.split(' ').collect();
            inside.rig.run(&kit.place(), LIMIT, &[&["ip"], &words[..]].concat())
        };
        ip("address add 2001:db8:51::2/64 dev tap0 nodad")?;
        ip("route add default via fe80::1 dev tap0")?;
        let _far = inside.rig.serve(&Place::Far, Family::V6.far(), PORT)?;
        exchange(inside, Family::V6.far(), PORT, &|args| kit.peer(args))
    });
    inside.step("pasta ends with RootlessKit", || kit.end());
    Ok(())
}

/// `--detach-netns`: the command stays in the host's network.
fn detached(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || Kit::start(inside, "--detach-netns"))?;
    inside.step("the command has the host's network", || {
        let pid = inside.sh(&format!("pgrep -fx '{COMMAND}'"))?;
        let pid = pid.parse().with_context(|| pid)?;
        let all = addresses(inside, &Place::Of(pid), "eth0")?;
        ensure!(all.iter().any(|one| one == "203.0.113.2/24"), "{all:?}");
        Ok(())
    });
    inside.step("addresses of the detached namespace", || {
        let text = kit.run(&["ip", "-4", "address", "show", "dev", "tap0"])?;
        ensure!(text.contains("10.0.2.100/24"), "{text}");
        Ok(())
    });
    outbound(inside, V4, &|args| kit.peer(args))?;
    inside.step("pasta ends with RootlessKit", || kit.end());
    Ok(())
}

/// The implicit port driver: what listens inside is forwarded.
fn implicit(inside: &Inside<'_>) -> Result<()> {
    let kit = inside.first("a command runs", || {
        Kit::start(inside, "--disable-host-loopback --port-driver=implicit")
    })?;
    basics(inside, &kit)?;
    let server = inside.first("a server inside", || kit.serve("0.0.0.0", 8090))?;
    inside.step("its port appears on the host", || appears(inside, 8090));
    inside.step("TCP and UDP from outside", || {
        inbound(inside, &Place::Outside, Family::V4.host(), 8090)
    });
    inside.step("TCP and UDP over loopback", || inbound(inside, &Place::Host, LO4, 8090));
    inside.step("its port goes with it", || {
        drop(server);
        wait_for("the end of a forwarded port", LIMIT, || {
            let still = refused(inside, &Place::Outside, Family::V4.host(), 8090);
            Ok(still.is_ok().then_some(()))
        })
    });
    inside.step("another server", || {
        let _server = kit.serve("0.0.0.0", 8091)?;
        appears(inside, 8091)?;
        inbound(inside, &Place::Outside, Family::V4.host(), 8091)
    });
    inside.step("pasta ends with RootlessKit", || kit.end());
    inside.step("as dockerd-rootless.sh starts it", || {
        let options = "--mtu=1500 --disable-host-loopback --port-driver=implicit \
            --copy-up=/run --propagation=rslave";
        let kit = Kit::start(inside, options)?;
        configured(inside, &kit.place(), "tap0", ["10.0.2.100/24", "10.0.2.2"], 1500)?;
        kit.end()
    });
    Ok(())
}

/// pasta has found a port within the time that its looking takes, and listens.
fn appears(inside: &Inside<'_>, port: u16) -> Result<()> {
    inside.rig.wait_listen(&Place::Host, port)
}

/// The pesto port driver of RootlessKit 3, whose lines are typed by hand where it is older.
fn pesto(inside: &Inside<'_>) -> Result<()> {
    inside.first("pesto --version", || inside.sh("pesto --version").map(drop))?;
    let mut holder = inside.start("unshare --user --map-root-user --net /run/rig/bin/peer hold")?;
    holder.wait_line("ready", LIMIT)?;
    let (child, place) = (holder.pid(), Place::Of(holder.pid()));
    let socket = "/tmp/rk.sock";
    let pasta = format!(
        "pasta --stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 \
         --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=none \
         --udp-ports=none --conf-path={socket} {child}"
    );
    inside.first("pasta of RootlessKit 3", || inside.sh(&pasta).map(drop))?;
    inside.step("addresses, routes and MTU", || {
        configured(inside, &place, "tap0", ["10.0.2.100/24", "10.0.2.2"], 65520)
    });
    let _server = inside.rig.serve(&place, [0, 0, 0, 0].into(), PORT)?;
    let rules = |verb: &str| {
        for rule in ["--tcp-ports=0.0.0.0/8092:5000", "--udp-ports=0.0.0.0/8092:5000"] {
            inside.sh(&format!("pesto {verb} {rule} {socket}")).context("pesto")?;
        }
        Ok(())
    };
    inside.first("rules are added", || rules("-A"))?;
    inside.step("TCP and UDP from outside", || {
        inbound(inside, &Place::Outside, Family::V4.host(), 8092)
    });
    inside.step("rules are deleted", || {
        rules("-D")?;
        refused(inside, &Place::Outside, Family::V4.host(), 8092)
    });
    inside.step("a port that is in use", || {
        let _other = inside.rig.serve(&Place::Host, Family::V4.host(), 8093)?;
        let run =
            inside.outcome(&format!("pesto -A --tcp-ports=203.0.113.2/8093:5000 {socket}"))?;
        if inside.column == Column::C && run.status.success() {
            bail!(Skip("the packaged pesto does not say so".into()));
        }
        ensure!(run.code() == Some(1) && !run.stderr.is_empty(), "{run:?}");
        Ok(())
    });
    inside.step("pasta ends with the namespace", || {
        inside.lives("pasta")?;
        holder.close_stdin();
        holder.finish(LIMIT)?;
        inside.until_no("pasta")
    });
    Ok(())
}

//! pasta's options, given to Podman.

use super::Container;
use crate::inside::Inside;
use crate::traffic::{PORT, addresses, exchange, gateways, mtu, show};
use anyhow::{Context as _, Result, ensure};
use testkit::{Family, Place};

/// What is looked at in a container with certain options.
type Look = fn(&Inside<'_>, &Container<'_, '_>) -> Result<()>;

/// Step, options after `pasta:`, what has to be so.
const CASES: &[(&str, &str, Look)] = &[
    ("-m", "-m,1280", |inside, container| link_mtu(inside, container, 1280)),
    ("--mtu", "--mtu,1400", |inside, container| link_mtu(inside, container, 1400)),
    ("-a -n -g --dns-forward", "-a,10.0.2.100,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3", addressed),
    ("-4", "-4", |inside, container| {
        let all = addresses(inside, &container.place(), "eth0")?;
        ensure!(all == ["203.0.113.2/24"], "{all:?}");
        Ok(())
    }),
    ("-6", "-6", |inside, container| {
        let all = addresses(inside, &container.place(), "eth0")?;
        ensure!(all == ["2001:db8:51::2/64"], "{all:?}");
        Ok(())
    }),
    ("-I", "-I,other0", |inside, container| {
        addresses(inside, &container.place(), "other0").map(drop)
    }),
    ("--ns-mac-addr", "--ns-mac-addr,9a:dd:31:ea:92:98", |inside, container| {
        hardware_address(inside, container, "eth0", "9a:dd:31:ea:92:98")
    }),
    ("-T -U", "-T,7777,-U,7777", |inside, container| {
        let _host = inside.rig.serve(&Place::Host, [127, 0, 0, 1].into(), 7777)?;
        exchange(inside, [127, 0, 0, 1].into(), 7777, &|args| container.peer(args))
    }),
    ("--map-gw", "--map-gw", |inside, container| {
        let _host = inside.rig.serve(&Place::Host, [127, 0, 0, 1].into(), PORT + 3)?;
        exchange(inside, Family::V4.gateway(), PORT + 3, &|args| container.peer(args))
    }),
    ("--map-guest-addr", "--map-guest-addr,192.0.2.77", |inside, container| {
        let _host = inside.rig.serve(&Place::Host, Family::V4.host(), PORT + 4)?;
        exchange(inside, [192, 0, 2, 77].into(), PORT + 4, &|args| container.peer(args))
    }),
    ("--pcap", "--pcap,/tmp/x.pcap", |inside, container| {
        let _peer = inside.rig.serve(&Place::Outside, Family::V4.peer(), PORT)?;
        exchange(inside, Family::V4.peer(), PORT, &|args| container.peer(args))?;
        let text = inside.sh("od -A n -t x1 -N 4 /tmp/x.pcap; stat --format %s /tmp/x.pcap")?;
        let (magic, size) = text.split_once('\n').context("no size")?;
        ensure!(["d4 c3 b2 a1", "4d 3c b2 a1"].contains(&magic.trim()), "{text}");
        ensure!(size.parse::<u64>()? > 1_000_000, "{text}");
        Ok(())
    }),
    ("--pid", "--pid,/tmp/x.pid", |inside, _| {
        let (said, is) = (inside.sh("cat /tmp/x.pid")?, inside.only("pasta")?);
        ensure!(said == is.to_string(), "the file says {said}, pasta is {is}");
        Ok(())
    }),
];

/// One container for each case.
pub(crate) fn options(inside: &Inside<'_>) -> Result<()> {
    for (name, options, look) in CASES {
        inside.step(name, || {
            let container = Container::idle(inside, "options", &format!("--net=pasta:{options}"))?;
            look(inside, &container)?;
            container.remove()
        });
    }
    inside.step("no --quiet with --debug", || {
        let run = inside.outcome("podman run --rm --net=pasta:--debug rig true")?;
        ensure!(run.status.success(), "{run:?}");
        inside.until_no("pasta")
    });
    inside.step("an option that pasta does not know", || {
        let run = inside.outcome("podman run --rm --net=pasta:--nosuch rig true")?;
        ensure!(!run.status.success(), "{run:?}");
        let text = "unrecognized option '--nosuch'";
        ensure!(run.stderr.contains(text), "{run:?}");
        inside.until_no("pasta")
    });
    Ok(())
}

/// Options in containers.conf, and how the command line overrides them.
pub(crate) fn configured(inside: &Inside<'_>) -> Result<()> {
    let conf = "export CONTAINERS_CONF_OVERRIDE=/tmp/options.conf";
    inside.first("options in containers.conf", || {
        super::image(inside)?;
        let words = "\"-I\", \"conf0\", \"--ns-mac-addr\", \"9a:dd:31:ea:92:01\"";
        let text = format!("[network]\npasta_options = [{words}]\n");
        inside.sh(&format!("echo '{text}' > /tmp/options.conf"))?;
        let run = "podman run --rm rig cat /sys/class/net/conf0/address";
        let got = inside.sh(&format!("{conf}; {run}"))?;
        ensure!(got == "9a:dd:31:ea:92:01", "{got}");
        Ok(())
    })?;
    inside.step("the command line overrides them", || {
        let network = "--net=pasta:-I,line0,--ns-mac-addr,9a:dd:31:ea:92:02";
        let run = format!("podman run --rm {network} rig cat /sys/class/net/line0/address");
        let got = inside.sh(&format!("{conf}; {run}"))?;
        ensure!(got == "9a:dd:31:ea:92:02", "{got}");
        inside.until_no("pasta")
    });
    Ok(())
}

/// `podman info` has what `pasta --version` says.
pub(crate) fn info(inside: &Inside<'_>) -> Result<()> {
    inside.step("the version that Podman shows", || {
        let version = inside.sh("pasta --version")?;
        let shown = inside.sh("podman info --format '{{.Host.Pasta.Version}}'")?;
        let first = version.lines().next().unwrap_or_default();
        ensure!(!first.is_empty() && shown.contains(first), "{shown}, not {version}");
        Ok(())
    });
    Ok(())
}

fn link_mtu(inside: &Inside<'_>, container: &Container<'_, '_>, expected: u64) -> Result<()> {
    let got = mtu(inside, &container.place(), "eth0")?;
    ensure!(got == expected, "MTU {got}");
    Ok(())
}

fn hardware_address(
    inside: &Inside<'_>,
    container: &Container<'_, '_>,
    link: &str,
    expected: &str,
) -> Result<()> {
    let all = show(inside, &container.place(), &["link", "show", "dev", link])?;
    ensure!(all[0]["address"] == expected, "{all}");
    Ok(())
}

/// A network that is not the host's, with its name server.
fn addressed(inside: &Inside<'_>, container: &Container<'_, '_>) -> Result<()> {
    let place = container.place();
    let all = addresses(inside, &place, "eth0")?;
    ensure!(all.iter().any(|one| one == "10.0.2.100/24"), "{all:?}");
    let routes = gateways(inside, &place, Family::V4)?;
    ensure!(routes == ["10.0.2.2"], "{routes:?}");
    let text = container.sh("cat /etc/resolv.conf; nslookup www.rig.example")?;
    ensure!(text.contains("nameserver 10.0.2.3") && text.contains("198.18.0.1"), "{text}");
    let _peer = inside.rig.serve(&Place::Outside, Family::V4.peer(), PORT)?;
    exchange(inside, Family::V4.peer(), PORT, &|args| container.peer(args))
}

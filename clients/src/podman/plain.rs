//! Containers with the network that they get when nobody asks for one.

use super::Container;
use crate::inside::Inside;
use crate::traffic::{FAMILIES, PORT, addresses, exchange, gateways, mtu, outbound, ping, refused};
use anyhow::{Result, ensure};
use testkit::{Family, Place};

/// `podman run` without options for the network.
pub(crate) fn default(inside: &Inside<'_>) -> Result<()> {
    inside.first("a command runs and pasta ends after it", || {
        super::image(inside)?;
        let run = inside.outcome("podman run --rm rig echo hello")?;
        let text = format!("{run:?}");
        ensure!(run.status.success() && run.stdout == "hello\n", "{text}");
        ensure!(!run.stderr.contains("pasta"), "{text}");
        inside.until_no("pasta")
    })?;
    inside.step("the command's exit status", || {
        let run = inside.outcome("podman run --rm rig sh -c 'exit 37'")?;
        ensure!(run.code() == Some(37), "{run:?}");
        Ok(())
    });
    let container = inside.first("a container stays", || {
        let container = Container::idle(inside, "default", "")?;
        ensure!(!container.said.contains("pasta"), "{}", container.said);
        inside.only("pasta")?;
        Ok(container)
    })?;
    let place = container.place();
    inside.step("addresses, routes and MTU", || link(inside, &place));
    inside.step("name server", || {
        let text = container.sh("cat /etc/resolv.conf")?;
        let first = text.lines().find_map(|line| line.strip_prefix("nameserver "));
        ensure!(first == Some("169.254.1.1"), "{text}");
        Ok(())
    });
    inside.step("names", || {
        let text = container.sh("nslookup www.rig.example")?;
        for family in [Family::V4, Family::V6] {
            ensure!(text.contains(&family.far().to_string()), "{text}");
        }
        Ok(())
    });
    outbound(inside, &FAMILIES, &|args| container.peer(args))?;
    for (name, family) in FAMILIES {
        inside.step(&format!("ping, {name}"), || ping(inside, &place, family));
    }
    inside.step("host.containers.internal", || host_by_name(inside, &container));
    inside.step("the gateway is not the host", || {
        let _host = inside.rig.serve(&Place::Host, [0, 0, 0, 0].into(), PORT + 1)?;
        for (_, family) in FAMILIES {
            let got = container.peer(&format!("connect {} {}", family.gateway(), PORT + 1))?;
            ensure!(got == "refused", "{got}");
        }
        Ok(())
    });
    inside.step("the host's loopback is closed", || {
        let _host = inside.rig.serve(&Place::Host, [127, 0, 0, 1].into(), PORT + 2)?;
        refused(inside, &place, [127, 0, 0, 1].into(), PORT + 2)
    });
    inside.step("pasta ends with the container", || container.remove());
    Ok(())
}

/// The same addresses and routes as the host's.
fn link(inside: &Inside<'_>, place: &Place) -> Result<()> {
    let (host, guest) =
        (addresses(inside, &Place::Host, "eth0")?, addresses(inside, place, "eth0")?);
    for address in &host {
        ensure!(guest.contains(address), "host {host:?}, container {guest:?}");
    }
    for (_, family) in FAMILIES {
        let host = gateways(inside, &Place::Host, family)?;
        let guest = gateways(inside, place, family)?;
        ensure!(host == guest, "host {host:?}, container {guest:?}");
    }
    let bytes = mtu(inside, place, "eth0")?;
    ensure!(bytes == 65520, "MTU {bytes}");
    let lo = addresses(inside, place, "lo")?;
    inside.rig.run(place, crate::inside::LIMIT, &["ping", "-c", "1", "127.0.0.1"])?;
    ensure!(lo.is_empty(), "lo has {lo:?}");
    Ok(())
}

/// What Podman calls the host in /etc/hosts is the host.
fn host_by_name(inside: &Inside<'_>, container: &Container<'_, '_>) -> Result<()> {
    let text = container.sh("cat /etc/hosts")?;
    let line = text.lines().find(|line| line.contains("host.containers.internal"));
    let line = line.unwrap_or_default();
    ensure!(line.starts_with("169.254.1.2"), "{text}");
    let _host = inside.rig.serve(&Place::Host, Family::V4.host(), PORT)?;
    exchange(inside, [169, 254, 1, 2].into(), PORT, &|args| container.peer(args))?;
    let got = container.sh("wget -q -O - http://host.containers.internal:5000/1000 | wc -c")?;
    ensure!(got.trim() == "1000", "{got}");
    Ok(())
}

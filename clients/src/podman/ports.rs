//! Published ports.

use super::Container;
use crate::inside::Inside;
use crate::traffic::{FAMILIES, PORT, inbound, refused, tcp, udp};
use anyhow::{Context as _, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use testkit::{Family, Place, until};

/// The helper serves these ports in the container, for both families.
const SERVED: [u16; 4] = [PORT, 7001, 7002, 7003];
const LO4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LO6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A container with servers.
fn serving<'i, 'r>(inside: &'i Inside<'r>, name: &str, options: &str) -> Result<Container<'i, 'r>> {
    let each = SERVED.map(|port| format!("peer serve :: {port} & "));
    let command = format!("sh -c '{}wait'", each.concat());
    let container = Container::start(inside, name, options, &command)?;
    let listening = |port| inside.rig.wait_listen(&container.place(), port);
    SERVED.into_iter().try_for_each(listening)?;
    Ok(container)
}

/// `podman run -p`.
pub(crate) fn published(inside: &Inside<'_>) -> Result<()> {
    let options = "-p 8080:5000 -p 8080:5000/udp -p 127.0.0.1:8081:5000 -p 127.0.0.1:8081:5000/udp \
        -p [::1]:8082:5000 -p [::1]:8082:5000/udp -p 203.0.113.2:8083:5000 \
        -p 203.0.113.2:8083:5000/udp -p 9000-9002:7001-7003 -p 9000-9002:7001-7003/udp -p 7001";
    let container = inside.first("a container with published ports", || {
        let container = serving(inside, "ports", options)?;
        ensure!(!container.said.contains("pasta"), "{}", container.said);
        Ok(container)
    })?;
    for (name, family) in FAMILIES {
        inside.step(&format!("TCP and UDP from outside, {name}"), || {
            inbound(inside, &Place::Outside, family.host(), 8080)
        });
        inside.step(&format!("TCP and UDP over loopback, {name}"), || {
            let lo = if family == Family::V4 { LO4 } else { LO6 };
            inbound(inside, &Place::Host, lo, 8080)
        });
        inside.step(&format!("who comes from outside, {name}"), || who(inside, family));
        inside.step(&format!("ranges, {name}"), || {
            (9000..=9002).try_for_each(|port| inbound(inside, &Place::Outside, family.host(), port))
        });
    }
    inside.step("bound to a loopback address", || {
        inbound(inside, &Place::Host, LO4, 8081)?;
        inbound(inside, &Place::Host, LO6, 8082)?;
        refused(inside, &Place::Host, LO6, 8081)?;
        refused(inside, &Place::Host, LO4, 8082)?;
        refused(inside, &Place::Outside, Family::V4.host(), 8081)?;
        refused(inside, &Place::Outside, Family::V6.host(), 8082)
    });
    inside.step("bound to the host's address", || {
        inbound(inside, &Place::Outside, Family::V4.host(), 8083)?;
        refused(inside, &Place::Host, LO4, 8083)?;
        refused(inside, &Place::Outside, Family::V6.host(), 8083)
    });
    inside.step("a port that Podman chooses", || {
        let text = inside.sh("podman port ports 7001/tcp")?;
        let chosen = text.lines().filter_map(|line| line.rsplit(':').next()?.parse().ok());
        let chosen: u16 = chosen.into_iter().find(|port| *port != 9000).with_context(|| text)?;
        let ask = |args: &str| inside.peer(&Place::Outside, args);
        tcp(inside, Family::V4.host(), chosen, &ask)
    });
    inside.step("ports are free at once when the container ends", || {
        container.remove()?;
        let again = serving(inside, "again", options)?;
        inbound(inside, &Place::Outside, Family::V4.host(), 8080)?;
        again.remove()
    });
    inside.step("a low port", || {
        let run = inside.outcome("podman run --rm -p 80:80 rig true")?;
        ensure!(!run.status.success(), "{run:?}");
        let text = "Listen failed for HOST TCP port */80: Permission denied";
        ensure!(run.stderr.contains(text), "{run:?}");
        inside.until_no("pasta")
    });
    inside.step("a protocol that pasta does not forward", || {
        let run = inside.outcome("podman run --rm -p 8084:80/sctp rig true")?;
        ensure!(run.stderr.contains("can't forward protocol: sctp"), "{run:?}");
        inside.until_no("pasta")
    });
    Ok(())
}

/// A client's address arrives as it is.
fn who(inside: &Inside<'_>, family: Family) -> Result<()> {
    let host = family.host();
    let _direct = inside.rig.serve(&Place::Host, host, PORT)?;
    let seen = inside.peer(&Place::Far, &format!("who {host} {PORT}"))?;
    let got = inside.peer(&Place::Far, &format!("who {host} 8080"))?;
    // The server in the container has one socket for both families.
    ensure!(got.trim_start_matches("::ffff:") == seen, "the container sees {got}, the host {seen}");
    Ok(())
}

/// Ports as pasta's own options: with another port inside, bound to an address or an interface, ranges.
pub(crate) fn specifiers(inside: &Inside<'_>) -> Result<()> {
    let specs = ["8100:5000", "8101-8103:7001-7003", "203.0.113.2/8104:5000", "%eth0/8105:5000"];
    let more = ["203.0.113.2%eth0/8106:5000", "127.0.0.1%lo/8107:5000", "2001:db8:51::2/8108:5000"];
    let all = [&specs[..], &more].concat();
    let options: Vec<String> = all.iter().map(|spec| format!("-t,{spec},-u,{spec}")).collect();
    let network = format!("--net=pasta:{}", options.join(","));
    let container = inside.first("a container", || serving(inside, "specifiers", &network))?;
    let (v4, v6) = (Family::V4.host(), Family::V6.host());
    inside.step("another port", || {
        inbound(inside, &Place::Outside, v4, 8100)?;
        inbound(inside, &Place::Outside, v6, 8100)
    });
    inside.step("a range to a range", || {
        (8101..=8103).try_for_each(|port| inbound(inside, &Place::Outside, v4, port))
    });
    inside.step("an address", || {
        inbound(inside, &Place::Outside, v4, 8104)?;
        refused(inside, &Place::Outside, v6, 8104)?;
        inbound(inside, &Place::Outside, v6, 8108)?;
        refused(inside, &Place::Outside, v4, 8108)
    });
    inside.step("an interface", || {
        inbound(inside, &Place::Outside, v4, 8105)?;
        inbound(inside, &Place::Outside, v6, 8105)?;
        refused(inside, &Place::Host, LO4, 8105)
    });
    inside.step("an address and an interface", || {
        inbound(inside, &Place::Outside, v4, 8106)?;
        inbound(inside, &Place::Host, LO4, 8107)?;
        refused(inside, &Place::Outside, v4, 8107)
    });
    inside.step("pasta ends with the container", || container.remove());
    Ok(())
}

/// A pod has one network, with its ports.
pub(crate) fn pod(inside: &Inside<'_>) -> Result<()> {
    inside.first("a pod with a port", || {
        super::image(inside)?;
        inside.sh("podman pod create --name px -p 8085:5000 -p 8085:5000/udp").map(drop)
    })?;
    let container =
        inside.first("a container in the pod", || serving(inside, "inpod", "--pod px"))?;
    for (name, family) in FAMILIES {
        inside.step(&format!("TCP and UDP from outside, {name}"), || {
            inbound(inside, &Place::Outside, family.host(), 8085)
        });
    }
    inside.step("one pasta for two containers", || {
        let _second = Container::idle(inside, "second", "--pod px")?;
        inside.only("pasta").map(drop)
    });
    inside.step("the pod's network outlives a container", || {
        drop(container);
        inside.only("pasta")?;
        let _new = serving(inside, "inpod", "--pod px")?;
        let ask = |args: &str| inside.peer(&Place::Outside, args);
        udp(Family::V4.host(), 8085, &ask)
    });
    inside.step("pasta ends with the pod", || {
        inside.sh("podman pod rm --force --time 0 px")?;
        inside.until_no("pasta")?;
        until("no listener", crate::inside::LIMIT, || {
            refused(inside, &Place::Outside, Family::V4.host(), 8085).is_ok()
        })
    });
    Ok(())
}

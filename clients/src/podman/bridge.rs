//! User-defined networks: bridges in one namespace of the user's, which pasta connects.

use super::Container;
use crate::args::Column;
use crate::check::Skip;
use crate::inside::{Inside, LIMIT};
use crate::traffic::{FAMILIES, PORT, exchange, inbound, outbound, ping, refused};
use anyhow::{Context as _, Result, ensure};
use testkit::{Family, Place, until};

/// Where Podman has pasta write its number.
const PID_FILE: &str = "/run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid";
/// The configuration socket.
const SOCKET: &str = "/tmp/pasta.sock";

/// A network of two containers.
pub(crate) fn bridge(inside: &Inside<'_>) -> Result<()> {
    inside.first("a network", || {
        super::image(inside)?;
        inside.sh("podman network create --ipv6 nx").map(drop)
    })?;
    let container = inside.first("a container with a published port", || {
        let server = format!("peer serve :: {PORT}");
        Container::start(inside, "bridge", "--network nx -p 8086:5000", &server)
    })?;
    inside.step("the file with pasta's number", || {
        let (said, is) = (inside.sh(&format!("cat {PID_FILE}"))?, inside.only("pasta")?);
        ensure!(said == is.to_string(), "the file says {said}, pasta is {is}");
        Ok(())
    });
    outbound(inside, &FAMILIES, &|args| container.peer(args))?;
    for (name, family) in FAMILIES {
        inside.step(&format!("ping, {name}"), || ping(inside, &container.place(), family));
    }
    inside.step("names", || {
        let text = container.sh("nslookup www.rig.example")?;
        ensure!(text.contains("198.18.0.1"), "{text}");
        Ok(())
    });
    inside.step("a second container finds the first by name", || {
        let second = Container::idle(inside, "second", "--network nx")?;
        let text = second.sh("nslookup bridge.dns.podman")?;
        let addr = address(inside, "bridge", "IPAddress")?;
        ensure!(text.contains(&addr), "{addr} is not in {text}");
        exchange(inside, addr.parse()?, PORT, &|args| second.peer(args))?;
        let got = second.sh("wget -q -O - http://bridge:5000/1000 | wc -c")?;
        ensure!(got.trim() == "1000", "{got}");
        inside.only("pasta").map(drop)
    });
    inside.step("host.containers.internal", || {
        let _host = inside.rig.serve(&Place::Host, Family::V4.host(), PORT)?;
        let got = container.sh("wget -q -O - http://host.containers.internal:5000/1000 | wc -c")?;
        ensure!(got.trim() == "1000", "{got}");
        Ok(())
    });
    inside.step("pasta ends with the last container", || container.remove());
    inside.step("the namespace's file goes, pasta with it", || {
        inside.sh("podman unshare --rootless-netns true")?;
        inside.until_no("pasta")
    });
    Ok(())
}

/// Ports by pesto, as Podman 6 and later have them forwarded. What an older one does not do is done by
/// hand: pasta gets its socket by an option, and pesto the same lines.
pub(crate) fn forwarder(inside: &Inside<'_>) -> Result<()> {
    let container = inside.first("a container", || {
        super::image(inside)?;
        let text = format!("[network]\npasta_options = [\"-c\", \"{SOCKET}\"]\n");
        inside.sh(&format!(
            "echo '{text}' > /home/user/.config/containers/containers.conf.d.pesto"
        ))?;
        let dir = "/home/user/.config/containers";
        inside.sh(&format!("mkdir -p {dir}/containers.conf.d"))?;
        inside
            .sh(&format!("mv {dir}/containers.conf.d.pesto {dir}/containers.conf.d/pesto.conf"))?;
        inside.sh("podman network create --ipv6 np")?;
        let server = format!("peer serve :: {PORT}");
        let container = Container::start(inside, "forwarder", "--network np", &server)?;
        settled(inside, &container)?;
        Ok(container)
    })?;
    let told = tell(inside);
    inside.sh("rm /home/user/.config/containers/containers.conf.d/pesto.conf")?;
    container.remove()?;
    told
}

/// Waits until the kernel has found that nobody else has the addresses: until then they do not answer.
fn settled(inside: &Inside<'_>, container: &Container<'_, '_>) -> Result<()> {
    let tentative = ["ip", "-6", "address", "show", "tentative"];
    until("addresses that may be used", LIMIT, || {
        let there = inside.rig.run(&container.place(), LIMIT, &tentative);
        let around = inside.sh(&format!("podman unshare --rootless-netns {}", tentative.join(" ")));
        [there, around].into_iter().all(|text| text.is_ok_and(|text| text.trim().is_empty()))
    })
}

fn tell(inside: &Inside<'_>) -> Result<()> {
    let v4 = address(inside, "forwarder", "IPAddress")?;
    let v6 = address(inside, "forwarder", "GlobalIPv6Address")?;
    let rules = |protocol: &str| {
        [
            format!("{protocol} 0.0.0.0/8087:{v4}/5000"),
            format!("{protocol} [::]/8087:{v6}/5000"),
            format!("{protocol} 127.0.0.1/8088:{v4}/5000"),
        ]
    };
    let all = [rules("-t"), rules("-u")].concat();
    let pesto = |verb: &str| {
        for rule in &all {
            let run = inside.outcome(&format!("pesto {verb} {rule} {SOCKET}"))?;
            ensure!(run.status.success(), "{verb} {rule}: {run:?}");
        }
        Ok(())
    };
    inside.first("rules are added", || pesto("--add"))?;
    for (name, family) in FAMILIES {
        inside.step(&format!("TCP and UDP from outside, {name}"), || {
            inbound(inside, &Place::Outside, family.host(), 8087)
        });
    }
    inside.step("a rule for a loopback address", || {
        inbound(inside, &Place::Host, [127, 0, 0, 1].into(), 8088)?;
        refused(inside, &Place::Outside, Family::V4.host(), 8088)
    });
    inside.step("a rule that is there already", || {
        pesto("--add").map_err(|error| {
            let known = inside.column == Column::C && format!("{error}").contains("conflict");
            if known { Skip("the packaged pesto refuses it".into()).into() } else { error }
        })
    });
    inside.step("rules are deleted", || {
        pesto("--delete")?;
        FAMILIES
            .into_iter()
            .try_for_each(|(_, family)| refused(inside, &Place::Outside, family.host(), 8087))
    });
    Ok(())
}

/// An address of a container on its network.
fn address(inside: &Inside<'_>, name: &str, field: &str) -> Result<String> {
    let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
    let text = inside.sh(&format!("podman inspect --format '{format}' {name}"))?;
    (!text.is_empty()).then_some(text).with_context(|| format!("{name} has no {field}"))
}

//! Images made of Containerfiles with commands that use the network.

use crate::inside::Inside;
use crate::traffic::PORT;
use anyhow::{Result, ensure};
use testkit::{Family, Place};

/// A Containerfile whose commands talk to the rig's peers.
fn containerfile(more: &str) -> String {
    let v4 = format!("peer get {} {PORT} 100000 > /v4", Family::V4.far());
    let v6 = format!("peer get {} {PORT} 100000 > /v6", Family::V6.far());
    let name = "nslookup www.rig.example > /name";
    format!("FROM rig\nRUN {v4} && {v6}\nRUN {name}\n{more}")
}

/// Runs `script` with a Containerfile as /tmp/build/Containerfile; the image `built` has what came of it.
fn build(inside: &Inside<'_>, script: &str, more: &str) -> Result<()> {
    super::image(inside)?;
    let _v4 = inside.rig.serve(&Place::Far, Family::V4.far(), PORT)?;
    let _v6 = inside.rig.serve(&Place::Far, Family::V6.far(), PORT)?;
    let file = containerfile(more);
    inside.sh(&format!("mkdir -p /tmp/build; echo '{file}' > /tmp/build/Containerfile"))?;
    inside.sh(script)?;
    inside.until_no("pasta")?;
    let text = inside.sh("podman run --rm --network none built cat /v4 /v6 /name")?;
    let sum = inside.peer(&Place::Host, "sum 100000")?;
    let got: Vec<&str> = text.lines().take(2).collect();
    ensure!(got == [&sum, &sum], "{got:?}, not {sum}");
    ensure!(text.contains("198.18.0.1"), "{text}");
    inside.sh("podman rmi --force built").map(drop)
}

/// `podman build`.
pub(crate) fn podman(inside: &Inside<'_>) -> Result<()> {
    inside.step("commands that use the network", || {
        build(inside, "podman build --quiet --no-cache --tag built /tmp/build", "")
    });
    inside.step("a Containerfile that fails", || {
        let file = "FROM rig\nRUN exit 9";
        inside.sh(&format!("echo '{file}' > /tmp/failing"))?;
        let run =
            inside.outcome("podman build --quiet --no-cache --file /tmp/failing /tmp/build")?;
        ensure!(!run.status.success(), "{run:?}");
        inside.until_no("pasta")
    });
    Ok(())
}

/// `buildah bud` and `buildah run`.
pub(crate) fn buildah(inside: &Inside<'_>) -> Result<()> {
    inside
        .step("bud", || build(inside, "buildah bud --quiet --no-cache --tag built /tmp/build", ""));
    inside.step("bud with options for pasta", || {
        let network = "--network=pasta:--mtu,1300";
        let script = format!("buildah bud --quiet --no-cache {network} --tag built /tmp/build");
        build(inside, &script, "RUN test $(cat /sys/class/net/eth0/mtu) = 1300\n")
    });
    inside.step("run", || {
        let _peer = inside.rig.serve(&Place::Outside, Family::V4.peer(), PORT)?;
        let sum = inside.peer(&Place::Host, "sum 100000")?;
        let get = format!("peer get {} {PORT} 100000", Family::V4.peer());
        let script =
            format!("c=$(buildah from rig); buildah run $c {get}; buildah rm $c > /dev/null");
        let got = inside.sh(&script)?;
        ensure!(got == sum, "{got}, not {sum}");
        inside.until_no("pasta")
    });
    Ok(())
}

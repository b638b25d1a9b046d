//! Ports below 1024, for which a privilege is needed that pasta gives up once it listens.

#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use e2e::{Case, SHORT, matrix};
use testkit::Place;

matrix!(all: out_of_the_namespace);
matrix!(root: into_the_namespace);

fn answers(case: &Case<'_>, place: &Place, addr: &str, port: u16) -> Result<()> {
    let args = format!("probe tcp,{addr},{port} udp,{addr},{port}");
    let got = case.rig.peer(place, SHORT, &args)?;
    let fine = got.lines().all(|line| line.split(' ').count() == 4);
    ensure!(fine, "TCP and UDP, {addr} port {port} from {place:?}: {got:?}");
    Ok(())
}

fn into_the_namespace(case: &Case<'_>) -> Result<()> {
    let guest = case.guest(&["-t", "53", "-u", "53", "-T", "none", "-U", "none"])?;
    let _server = case.rig.witness(&guest.place(), "53", &["::".to_owned()])?;
    for (place, addr) in [
        (Place::Outside, "203.0.113.2"),
        (Place::Outside, "2001:db8:51::2"),
        (Place::Host, "127.0.0.1"),
        (Place::Host, "::1"),
    ] {
        answers(case, &place, addr, 53)?;
    }
    Ok(())
}

fn out_of_the_namespace(case: &Case<'_>) -> Result<()> {
    let lo = if case.family == testkit::Family::V4 { "127.0.0.1" } else { "::1" };
    let guest = case.guest(&["-t", "none", "-u", "none", "-T", "53", "-U", "53"])?;
    let _server = case.rig.witness(&Place::Host, "53", &[lo.to_owned()])?;
    answers(case, &guest.place(), lo, 53)
}

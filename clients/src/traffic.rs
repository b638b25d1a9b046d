//! Traffic into and out of a client's guest, compared by content.

use crate::inside::{Inside, LIMIT};
use anyhow::{Context as _, Result, ensure};
use std::net::IpAddr;
use testkit::{Family, Place};

/// The port of the rig's own servers.
pub(crate) const PORT: u16 = 5000;
/// Bytes of a transfer.
const BYTES: u32 = 1_000_000;
/// Both families, by name.
pub(crate) const FAMILIES: [(&str, Family); 2] = [("IPv4", Family::V4), ("IPv6", Family::V6)];

/// Steps for TCP and UDP from a guest to the rig's peers. `guest` runs the helper in the guest.
pub(crate) fn outbound(
    inside: &Inside<'_>,
    families: &[(&str, Family)],
    guest: &dyn Fn(&str) -> Result<String>,
) -> Result<()> {
    for (name, family) in families {
        let _far = inside.rig.serve(&Place::Far, family.far(), PORT)?;
        inside.step(&format!("TCP and UDP out, {name}"), || {
            exchange(inside, family.far(), PORT, guest)
        });
    }
    Ok(())
}

/// Data to and from a server at `addr`, by a client that `ask` runs.
pub(crate) fn exchange(
    inside: &Inside<'_>,
    addr: IpAddr,
    port: u16,
    ask: &dyn Fn(&str) -> Result<String>,
) -> Result<()> {
    tcp(inside, addr, port, ask)?;
    udp(addr, port, ask)
}

/// Data over TCP to and from a server at `addr`.
pub(crate) fn tcp(
    inside: &Inside<'_>,
    addr: IpAddr,
    port: u16,
    ask: &dyn Fn(&str) -> Result<String>,
) -> Result<()> {
    let sum = inside.peer(&Place::Host, &format!("sum {BYTES}"))?;
    for verb in ["get", "put"] {
        let got = ask(&format!("{verb} {addr} {port} {BYTES}"))?;
        ensure!(got.trim() == sum, "TCP {verb} {addr} {port}: '{got}', not '{sum}'");
    }
    Ok(())
}

/// Datagrams to and from a server at `addr`.
pub(crate) fn udp(addr: IpAddr, port: u16, ask: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let got = ask(&format!("udp-echo {addr} {port} 1200"))?;
    ensure!(got.trim() == "ok", "UDP {addr} {port}: '{got}'");
    Ok(())
}

/// What a client at `place` has of a server at `addr`: both protocols.
pub(crate) fn inbound(inside: &Inside<'_>, place: &Place, addr: IpAddr, port: u16) -> Result<()> {
    exchange(inside, addr, port, &|args| inside.peer(place, args))
}

/// Nobody answers at `addr` from `place`.
pub(crate) fn refused(inside: &Inside<'_>, place: &Place, addr: IpAddr, port: u16) -> Result<()> {
    let got = inside.peer(place, &format!("connect {addr} {port}"))?;
    ensure!(got == "refused", "{addr} {port}: {got}");
    Ok(())
}

/// Somebody far away answers a ping.
pub(crate) fn ping(inside: &Inside<'_>, place: &Place, family: Family) -> Result<()> {
    let addr = family.far().to_string();
    inside.rig.run(place, LIMIT, &["ping", "-c", "1", "-W", "5", &addr]).map(drop)
}

/// An address of a link, with the length of its prefix, and the rest of what iproute2 knows of it.
pub(crate) fn addresses(inside: &Inside<'_>, place: &Place, link: &str) -> Result<Vec<String>> {
    let link = show(inside, place, &["address", "show", "dev", link])?;
    let all =
        link.pointer("/0/addr_info").and_then(|all| all.as_array()).context("no addresses")?;
    let global = all.iter().filter(|one| one["scope"] == "global");
    Ok(global.map(|one| format!("{}/{}", text(&one["local"]), one["prefixlen"])).collect())
}

/// Something that iproute2 says in JSON.
pub(crate) fn show(inside: &Inside<'_>, place: &Place, args: &[&str]) -> Result<serde_json::Value> {
    let text = inside.rig.run(place, LIMIT, &[&["ip", "-j"], args].concat())?;
    Ok(serde_json::from_str(&text)?)
}

/// The gateways of the default routes of a family.
pub(crate) fn gateways(inside: &Inside<'_>, place: &Place, family: Family) -> Result<Vec<String>> {
    let routes = show(inside, place, &[family.flag(), "route", "show", "default"])?;
    let routes = routes.as_array().context("no routes")?;
    Ok(routes.iter().map(|route| text(&route["gateway"])).collect())
}

/// The MTU of a link.
pub(crate) fn mtu(inside: &Inside<'_>, place: &Place, link: &str) -> Result<u64> {
    let link = show(inside, place, &["link", "show", "dev", link])?;
    link.pointer("/0/mtu").and_then(serde_json::Value::as_u64).context("no MTU")
}

/// A JSON string as it is, anything else as JSON.
fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

//! Which ports are forwarded, and how.

use std::path::{Path, PathBuf};

use stack::rule::{Capabilities, Pif, Protocol, Table};

use crate::parse::{Lookup, Refusal};
use crate::said::{Families, Mode, Said};
use crate::spec::{Ephemeral, Expansion, SYSCTL};

/// Forwarded ports, complete with all defaults.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Rules for what comes to the host.
    pub inbound: Table,
    /// What they may ask for.
    pub inbound_caps: Capabilities,
    /// Rules for the namespace's loopback traffic.
    pub outbound: Table,
    /// What they may ask for.
    pub outbound_caps: Capabilities,
    /// Addresses to listen on need not exist.
    pub freebind: bool,
    /// Loopback traffic of the host goes directly from socket to socket.
    pub splice: bool,
    /// Nothing else is forwarded.
    pub splice_only: bool,
    /// It keeps its loopback address.
    pub host_lo_to_ns_lo: bool,
    /// Where to listen for changes of the rules.
    pub configuration: Option<PathBuf>,
}

impl Forwarding {
    /// What was said, completed.
    ///
    /// # Errors
    /// For rules that make no sense.
    pub fn new(mode: Mode, said: &Said, lookup: &dyn Lookup) -> Result<Self, Refusal> {
        let text = lookup.read_text(Path::new(SYSCTL));
        let ephemeral = Ephemeral::parse(text).unwrap_or_else(|warning| {
            log::warn!("{warning}");
            Ephemeral::default()
        });
        let caps = Capabilities {
            ipv4: said.families != Families::Ipv6,
            ipv6: said.families != Families::Ipv4,
            tcp: !said.no_tcp,
            udp: !said.no_udp,
            scan: mode == Mode::Pasta,
            device: lookup.can_bind_device(),
        };
        let mut tables = [Table::default(), Table::default()];
        let mut add = |pif, protocol, option: &str, text: &str| {
            let [inbound, outbound] = &mut tables;
            let table = match pif {
                Pif::Host => inbound,
                Pif::Splice => outbound,
            };
            let expansion = Expansion { option, text, protocol, pif, caps, ephemeral: &ephemeral };
            expansion.add_to(table).map_err(Refusal::line)
        };
        for forward in &said.forwards {
            add(forward.pif, forward.protocol, &forward.option, &forward.value)?;
        }
        let defaults =
            Pif::ALL.iter().flat_map(|pif| Protocol::ALL.map(|protocol| (*pif, protocol)));
        for (pif, protocol) in defaults.filter(|_| mode == Mode::Pasta) {
            let mut given = said.forwards.iter();
            let given = given.any(|given| (given.pif, given.protocol) == (pif, protocol));
            if !given && caps.protocol(protocol) {
                add(pif, protocol, "default", "auto")?;
            }
        }
        let [inbound, outbound] = tables;
        Ok(Self {
            inbound,
            inbound_caps: caps,
            outbound,
            outbound_caps: caps,
            freebind: said.freebind,
            splice: mode == Mode::Pasta && !said.no_splice,
            splice_only: said.splice_only,
            host_lo_to_ns_lo: said.host_lo_to_ns_lo || said.splice_only,
            configuration: said.conf_path.clone(),
        })
    }
}

#[cfg(test)]
mod tests;

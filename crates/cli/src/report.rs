//! What is told at the start, and the table of event counters.

pub mod stats;

use std::fmt::{Display, Write as _};

use stack::config::{Config, Ipv4Config, Ipv6Config};
use stack::rule::Table;

use crate::config::{Forwarding, Network};
use crate::said::Mode;

/// The start-up block: what the guest's network looks like, line by line, each ended by a newline.
#[must_use]
pub fn block(mode: Mode, network: &Network, forwarding: &Forwarding) -> String {
    let mut block = Block::default();
    if let Some(path) = &forwarding.configuration {
        block.line(format_args!("Configuration socket: {}", path.display()));
    }
    if !forwarding.splice_only {
        block.network(mode, network);
    }
    block.line("Inbound forwarding rules (HOST):");
    block.rules(&forwarding.inbound);
    if mode == Mode::Pasta {
        block.line("Outbound forwarding rules (SPLICE):");
        block.rules(&forwarding.outbound);
    }
    block.0
}

#[derive(Default)]
struct Block(String);

impl Block {
    fn network(&mut self, mode: Mode, network: &Network) {
        let config = &network.stack;
        self.families("Template interface", &network.template4, &network.template6);
        self.families("Outbound interface", &network.outbound_if4, &network.outbound_if6);
        if let Some(addr) = config.v4.as_ref().and_then(|v4| v4.addr_out) {
            self.line(format_args!("Outbound IPv4 address: {addr}"));
        }
        if let Some(addr) = config.v6.as_ref().and_then(|v6| v6.addr_out) {
            self.line(format_args!("Outbound IPv6 address: {addr}"));
        }
        if mode == Mode::Pasta {
            self.line(format_args!("Namespace interface: {}", network.ns_interface));
        }
        self.line("MAC:");
        self.item("host", config.our_mac);
        if let Some(v4) = &config.v4 {
            self.ipv4(config, v4);
        }
        if let Some(v6) = &config.v6 {
            self.ipv6(config, v6);
        }
    }

    fn rules(&mut self, table: &Table) {
        for rule in table.rules() {
            self.line(format_args!("    {rule}"));
        }
    }

    fn line(&mut self, line: impl Display) {
        // A String takes whatever is written to it.
        let _ = writeln!(self.0, "{line}");
    }

    fn item(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("    {name}: {value}"));
    }

    fn list<T: Display>(&mut self, header: &str, items: &[T]) {
        if !items.is_empty() {
            self.line(format_args!("{header}:"));
            for item in items {
                self.line(format_args!("    {item}"));
            }
        }
    }

    fn families(&mut self, header: &str, v4: &Option<String>, v6: &Option<String>) {
        let v4 = v4.iter().map(|name| format!("{name} (IPv4)"));
        let v6 = v6.iter().map(|name| format!("{name} (IPv6)"));
        let both: Vec<String> = v4.chain(v6).collect();
        if !both.is_empty() {
            self.line(format_args!("{header}: {}", both.join(", ")));
        }
    }

    fn ipv4(&mut self, config: &Config, v4: &Ipv4Config) {
        if let Some(addr) = v4.map_host_loopback {
            self.item("NAT to host 127.0.0.1", addr);
        }
        if config.services.dhcp {
            self.line("DHCP:");
            self.item("assign", v4.addr);
            self.item("mask", mask(v4.prefix_len));
            if let Some(gateway) = v4.gateway {
                self.item("router", gateway);
            }
        }
        self.list("DNS", &v4.dns);
        self.list("DNS search list", &config.search);
    }

    fn ipv6(&mut self, config: &Config, v6: &Ipv6Config) {
        if let Some(addr) = v6.map_host_loopback {
            self.item("NAT to host ::1", addr);
        }
        let header = match (config.services.ndp, config.services.dhcpv6) {
            (true, true) => Some("NDP/DHCPv6:"),
            (true, false) => Some("NDP:"),
            (false, true) => Some("DHCPv6:"),
            (false, false) => None,
        };
        if let Some(header) = header {
            self.line(header);
            if let Some(addr) = v6.addr {
                self.item("assign", addr);
            }
            if let Some(gateway) = v6.gateway {
                self.item("router", gateway);
            }
            self.item("our link-local", v6.our_link_local);
        }
        self.list("DNS", &v6.dns);
        self.list("DNS search list", &config.search);
    }
}

/// A prefix length in dotted notation.
fn mask(prefix_len: u8) -> std::net::Ipv4Addr {
    let bits = u32::MAX.checked_shl(u32::from(32 - prefix_len.min(32))).unwrap_or(0);
    std::net::Ipv4Addr::from(bits)
}

#[cfg(test)]
mod tests;

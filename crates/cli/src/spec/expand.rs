//! From a specifier to rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stack::rule::{Capabilities, Listen, Pif, Protocol, Rule, RuleError, Table};

use super::{Chunk, Ephemeral, Listening, PortRange, Spec};

/// What a specifier is expanded for.
#[derive(Clone, Copy, Debug)]
pub struct Expansion<'a> {
    /// The option, as messages call it.
    pub option: &'a str,
    /// Its value.
    pub text: &'a str,
    /// Whose ports.
    pub protocol: Protocol,
    /// Where flows begin.
    pub pif: Pif,
    /// What rules may ask for.
    pub caps: Capabilities,
    /// What "all" leaves out.
    pub ephemeral: &'a Ephemeral,
}

impl Expansion<'_> {
    /// The rules that the specifier stands for; none for `none`.
    ///
    /// # Errors
    /// Lines for the user, the cause first.
    pub fn rules(&self) -> Result<Vec<Rule>, String> {
        let spec: Spec = self.text.parse().map_err(|error| format!("{error}"))?;
        let Spec::Ports { listen, chunks } = &spec else { return Ok(Vec::new()) };
        if chunks.contains(&Chunk::Auto) && !self.caps.scan {
            return Err(RuleError::NoScan.to_string());
        }
        let mut rules = Vec::new();
        for (listen, device) in self.places(listen.as_ref())? {
            rules.extend(self.at(listen, device, chunks));
        }
        Ok(rules)
    }

    /// Adds the rules to a table.
    ///
    /// # Errors
    /// Lines for the user, the cause first. The rules before the one that cannot be added are there.
    pub fn add_to(&self, table: &mut Table) -> Result<(), String> {
        self.check_none(table)?;
        self.rules()?.into_iter().try_for_each(|rule| self.add_rule(table, rule))
    }

    /// Whether `none` can be said of a table.
    ///
    /// # Errors
    /// A line for the user, if there are rules already.
    pub fn check_none(&self, table: &Table) -> Result<(), String> {
        let exists = table.rules().iter().any(|rule| rule.protocol == self.protocol);
        if self.text == "none" && exists {
            return Err(format!("{} none conflicts with previous options", self.option));
        }
        Ok(())
    }

    /// Adds one of the rules to a table.
    ///
    /// # Errors
    /// As [`Expansion::add_to`].
    pub fn add_rule(&self, table: &mut Table, rule: Rule) -> Result<(), String> {
        let shown = rule.to_string();
        let added = table.add(rule, self.caps);
        added.map_err(|error| format!("{error}\nUnable to add rule {}", shown.trim_end()))
    }

    /// Addresses and interfaces to listen on.
    fn places(&self, listen: Option<&Listening>) -> Result<Vec<(Listen, Option<String>)>, String> {
        let (option, text) = (self.option, self.text);
        match (self.pif, listen) {
            (Pif::Splice, Some(_)) => {
                Err(format!("Listening address not allowed for {option} {text}"))
            }
            // Only what is sent to the namespace's own loopback is for the host's.
            (Pif::Splice, None) if self.caps.device => {
                Ok(vec![(self.caps.any(), Some("lo".to_owned()))])
            }
            (Pif::Splice, None) => {
                log::warn!(
                    "SO_BINDTODEVICE unavailable, forwarding only 127.0.0.1 and ::1 for \
                     '{option} {text}'"
                );
                let v4 = self.caps.ipv4.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let v6 = self.caps.ipv6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
                Ok(v4.into_iter().chain(v6).map(|address| (Listen::On(address), None)).collect())
            }
            (Pif::Host, None) => Ok(vec![(self.caps.any(), None)]),
            (Pif::Host, Some(Listening { address, device })) => {
                if let Some(device) = device.as_ref().filter(|_| !self.caps.device) {
                    return Err(RuleError::NoDevices(device.clone()).to_string());
                }
                let listen = address.map_or_else(|| self.caps.any(), Listen::On);
                Ok(vec![(listen, device.clone())])
            }
        }
    }

    /// The rules for one address: those of ports that were named, then one for each run of the others.
    fn at(&self, listen: Listen, device: Option<String>, chunks: &[Chunk]) -> Vec<Rule> {
        let scan = chunks.contains(&Chunk::Auto);
        let excluded: Vec<PortRange> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Exclude(range) => Some(*range),
                Chunk::All { .. } | Chunk::Auto | Chunk::Ports { .. } => None,
            })
            .collect();
        let rule = |range: PortRange, to: u16, target: Option<IpAddr>, best_effort: bool| Rule {
            protocol: self.protocol,
            listen,
            device: device.clone(),
            first: range.first,
            last: range.last,
            to,
            target,
            best_effort,
            scan,
        };
        let mut rules = Vec::new();
        let mut named = Vec::new();
        let mut all = None;
        for chunk in chunks {
            match chunk {
                Chunk::Ports { from, target, to } => {
                    named.push(*from);
                    let to = to.unwrap_or(*from).first;
                    for run in without(*from, &excluded) {
                        let to = to.saturating_add(run.first - from.first);
                        rules.push(rule(run, to, *target, false));
                    }
                }
                Chunk::All { target } => all = Some(*target),
                Chunk::Auto | Chunk::Exclude(_) => {}
            }
        }
        if all.is_some() || named.is_empty() {
            let (first, last) = (*self.ephemeral.0.start(), *self.ephemeral.0.end());
            let mut left_out = excluded;
            left_out.extend(named);
            left_out.push(PortRange { first, last });
            for run in without(PortRange { first: 1, last: u16::MAX }, &left_out) {
                rules.push(rule(run, run.first, all.flatten(), true));
            }
        }
        rules
    }
}

/// What is left of a range: maximal runs of ports.
fn without(range: PortRange, excluded: &[PortRange]) -> Vec<PortRange> {
    let mut excluded = excluded.to_vec();
    excluded.sort_unstable_by_key(|range| range.first);
    let mut runs = Vec::new();
    let mut next = u32::from(range.first);
    let mut push = |first: u32, end: u32| {
        let run = u16::try_from(first).ok().zip(u16::try_from(end.saturating_sub(1)).ok());
        if let (Some((first, last)), true) = (run, first < end) {
            runs.push(PortRange { first, last });
        }
    };
    let end = u32::from(range.last) + 1;
    for hole in excluded {
        push(next, u32::from(hole.first).min(end));
        next = next.max(u32::from(hole.last) + 1);
    }
    push(next, end);
    runs
}

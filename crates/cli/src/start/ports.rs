//! Forwarded ports: their sockets are made while there is privilege for it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use anyhow::Result;
use engine::{Forwarding, Listener, Namespace, Opening, Served, Source, open_table};
use stack::forward::Splicing;
use stack::rule::{Pif, Table};

use super::drop::Sandbox;
use super::{fail, socket};
use crate::config;

/// What is made on the host, before namespaces are entered.
pub(super) struct Outside {
    listeners: Vec<Listener>,
    source: Option<Source>,
    configuration: Option<UnixListener>,
}

/// What is made in the guest's namespace.
#[derive(Default)]
pub(super) struct Inside {
    listeners: Vec<Listener>,
    source: Option<Source>,
}

/// Listens on the host. `scope_id` is the interface of link-local addresses.
pub(super) fn outside(ports: &config::Forwarding, scope_id: u32) -> Result<Outside> {
    let opening = Opening { freebind: ports.freebind, scope_id };
    Ok(Outside {
        listeners: open_table(Pif::Host, &ports.inbound, opening)?,
        source: source(ports)?,
        configuration: ports.configuration.as_deref().map(socket::listen).transpose()?,
    })
}

/// A way to learn what listens where the calling thread is, if some rule may ever ask.
fn source(ports: &config::Forwarding) -> Result<Option<Source>> {
    let wanted =
        follows(&ports.inbound) || follows(&ports.outbound) || ports.configuration.is_some();
    wanted.then(|| fail("Couldn't look for listening sockets", Source::open())).transpose()
}

/// Whether some rule follows what others listen on.
fn follows(table: &Table) -> bool {
    table.rules().iter().any(|rule| rule.scan)
}

/// Listens in the guest's namespace, in which the calling thread is. `scope_id` is the guest's interface.
pub(super) fn inside(ports: &config::Forwarding, scope_id: u32) -> Result<Inside> {
    let opening = Opening { freebind: ports.freebind, scope_id };
    Ok(Inside {
        listeners: open_table(Pif::Splice, &ports.outbound, opening)?,
        source: source(ports)?,
    })
}

/// Puts it all together. From here on a thread lives in the guest's `namespace`, which keeps none of our
/// privileges but the one to listen on low ports there.
pub(super) fn together(
    ports: &config::Forwarding,
    (outside, inside): (Outside, Inside),
    (outside_scope, inside_scope): (u32, u32),
    namespace: Option<OwnedFd>,
    sandbox: &Sandbox,
) -> Result<Forwarding> {
    let served = |pif, table: &Table, caps, opened, scope_id| Served {
        pif,
        table: table.clone(),
        caps,
        opened,
        opening: Opening { freebind: ports.freebind, scope_id },
    };
    let low_ports = follows(&ports.outbound) || ports.configuration.is_some();
    let rules = !ports.inbound.is_empty() || !ports.outbound.is_empty();
    let has_namespace = namespace.is_some();
    let namespace = match namespace.filter(|_| rules || ports.configuration.is_some()) {
        Some(namespace) => {
            let started = Namespace::start(namespace, sandbox.in_namespace(low_ports));
            Some(fail("Couldn't switch to pasta namespaces", started)?)
        }
        None => None,
    };
    let mut tables = vec![served(
        Pif::Host,
        &ports.inbound,
        ports.inbound_caps,
        outside.listeners,
        outside_scope,
    )];
    if has_namespace {
        let caps = ports.outbound_caps;
        tables.push(served(Pif::Splice, &ports.outbound, caps, inside.listeners, inside_scope));
    }
    Ok(Forwarding {
        tables,
        splicing: Splicing {
            on: ports.splice,
            only: ports.splice_only,
            to_loopback: ports.host_lo_to_ns_lo,
            scope_id: inside_scope,
        },
        namespace,
        sources: outside.source.zip(inside.source),
        configuration: outside.configuration,
    })
}

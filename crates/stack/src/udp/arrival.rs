//! Datagrams of peers that the host received on a listening socket.

use std::io;
use std::net::IpAddr;

use wire::ethernet::MacAddr;

use super::Flows;
use super::to_guest::{Path, put};
use crate::cx::Cx;
use crate::flow::{FlowId, FlowKey};
use crate::io::{DatagramBurst, Guest, Host, UdpSocket};

impl<S: UdpSocket> Flows<S> {
    /// Passes on datagrams of a peer that are not on the socket of their flow: it is made now, by `make`,
    /// or was made while they were on their way.
    pub(crate) fn arrived<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
        (burst, payload): (&DatagramBurst, &[u8]),
        make: impl FnOnce(&mut H, FlowId) -> io::Result<S>,
    ) {
        let id = self.flows.find(&key).or_else(|| self.insert(cx, key, make));
        let Some(flow) = id.and_then(|id| self.flows.get_mut(id)) else { return };
        flow.last = cx.now;
        flow.from_host = flow.from_host.saturating_add(1);
        let path = Path::new(cx, key);
        put(cx, &path, (burst, payload), &mut self.scratch);
    }

    /// Passes on datagrams sent to a group, the guest's end of `key`.
    pub(crate) fn deliver_to_group<G: Guest, H: Host<Udp = S>>(
        &mut self,
        cx: &mut Cx<'_, G, H>,
        key: FlowKey,
        (burst, payload): (&DatagramBurst, &[u8]),
    ) {
        let mut path = Path::new(cx, key);
        path.route.dst_mac = match key.guest().ip() {
            IpAddr::V4(group) if group.is_multicast() => MacAddr::ipv4_multicast(group),
            IpAddr::V6(group) if group.is_multicast() => MacAddr::ipv6_multicast(group),
            IpAddr::V4(_) | IpAddr::V6(_) => MacAddr::BROADCAST,
        };
        put(cx, &path, (burst, payload), &mut self.scratch);
    }
}

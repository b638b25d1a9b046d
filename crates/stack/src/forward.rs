//! Where a flow goes that begins on a listening socket.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::addr::{self, Link};
use crate::config::Config;

/// What loopback traffic may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splicing {
    /// Connect sockets of the host's loopback directly with sockets in the guest's namespace.
    pub on: bool,
    /// Nothing else is forwarded: there is no link to the guest.
    pub only: bool,
    /// What was sent to a loopback address of the host goes to the same address of the namespace, not to
    /// the guest's own address.
    pub to_loopback: bool,
    /// Interface index of the guest's link in the namespace: scope of link-local addresses there.
    pub scope_id: u32,
}

/// The way of a flow from the host to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Over the guest's link, between these ends as the guest sees them.
    Link {
        /// The guest's end.
        guest: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
    /// By a socket in the guest's namespace, connected to this address.
    Splice(SocketAddr),
}

/// A flow as the listening socket sees it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address it was sent to, if anything depends on that.
    pub destination: Option<IpAddr>,
    /// The target address of its rule.
    pub target: Option<IpAddr>,
    /// The port that its rule maps the destination port to.
    pub port: u16,
}

/// Decides about a flow that arrived at the host. `None` refuses it: the source is nobody's address, or
/// the guest has none of this family yet.
pub fn inbound(
    config: &Config,
    link: &Link,
    splicing: Splicing,
    arrival: &Arrival,
) -> Option<Inbound> {
    let Arrival { source, destination, target, port } = *arrival;
    if !addr::is_unicast(source.ip()) || source.port() == 0 {
        return None;
    }
    if splicing.on && target.is_none() && source.ip().is_loopback() {
        let same = destination.filter(|to| splicing.to_loopback && to.is_loopback());
        let to = same.or_else(|| link.inbound_destination(source.ip()))?;
        return Some(Inbound::Splice(scoped(to, port, splicing.scope_id)));
    }
    if splicing.only {
        return None;
    }
    let seen = addr::inbound_source(config, link, source.ip())?;
    let group = destination.filter(IpAddr::is_multicast);
    let guest = target.or(group).or_else(|| link.inbound_destination(seen))?;
    Some(Inbound::Link {
        guest: SocketAddr::new(guest, port),
        peer: SocketAddr::new(seen, source.port()),
    })
}

/// Where a flow goes that arrived at a listening socket in the guest's namespace: to the target address of
/// its rule or, without one, to the same loopback address of the host. `None` refuses it: only loopback
/// traffic leaves in this way.
pub fn outbound(arrival: &Arrival) -> Option<SocketAddr> {
    let Arrival { source, destination, target, port } = *arrival;
    let destination = destination.filter(IpAddr::is_loopback)?;
    let local = source.ip().is_loopback() && source.port() != 0;
    local.then(|| SocketAddr::new(target.unwrap_or(destination), port))
}

fn scoped(ip: IpAddr, port: u16, scope_id: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, scope_id).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    const ON: Splicing = Splicing { on: true, only: false, to_loopback: false, scope_id: 9 };

    fn arrival(source: &str, destination: &str, target: Option<&str>) -> Arrival {
        Arrival {
            source: source.parse().unwrap(),
            destination: Some(destination.parse().unwrap()),
            target: target.map(|target| target.parse().unwrap()),
            port: 80,
        }
    }

    fn way(splicing: Splicing, arrival: Arrival) -> String {
        let config = config();
        let mut link = Link::new(&config, None, None);
        link.observe_v6(config.v6.as_ref().unwrap(), "fe80::2".parse().unwrap());
        match inbound(&config, &link, splicing, &arrival) {
            None => "refused".into(),
            Some(Inbound::Splice(to)) => format!("splice {to}"),
            Some(Inbound::Link { guest, peer }) => format!("{peer} -> {guest}"),
        }
    }

    #[test]
    fn loopback_is_spliced_to_the_guests_address() {
        let v4 = arrival("127.0.0.7:4000", "127.0.0.1", None);
        assert_eq!(way(ON, v4), "splice 192.0.2.1:80");
        let v6 = arrival("[::1]:4000", "::1", None);
        assert_eq!(way(ON, v6), "splice [2001:db8:1::1]:80");
        let same = Splicing { to_loopback: true, ..ON };
        let other = arrival("127.0.0.1:4000", "127.0.0.9", None);
        assert_eq!(way(same, other), "splice 127.0.0.9:80", "that very address");
        let outside = arrival("127.0.0.1:4000", "203.0.113.2", None);
        assert_eq!(way(same, outside), "splice 192.0.2.1:80");
    }

    #[test]
    fn the_rest_goes_over_the_link() {
        let far = arrival("198.51.100.7:4000", "203.0.113.2", None);
        assert_eq!(way(ON, far), "198.51.100.7:4000 -> 192.0.2.1:80", "its own source");
        let loopback = arrival("127.0.0.1:4000", "127.0.0.1", None);
        assert_eq!(way(Splicing::default(), loopback), "192.0.2.2:4000 -> 192.0.2.1:80");
        let named = arrival("127.0.0.1:4000", "127.0.0.1", Some("192.0.2.50"));
        assert_eq!(way(ON, named), "192.0.2.2:4000 -> 192.0.2.50:80", "a target takes the link");
        let group = arrival("198.51.100.7:5353", "224.0.0.251", None);
        assert_eq!(way(ON, group), "198.51.100.7:5353 -> 224.0.0.251:80");
        let link_local = arrival("[fe80::77%3]:4000", "fe80::1", None);
        assert_eq!(way(ON, link_local), "[fe80::77]:4000 -> [fe80::2]:80");
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        for source in ["0.0.0.0:1", "224.0.0.1:1", "198.51.100.7:0", "[ff02::1]:1"] {
            assert_eq!(way(ON, arrival(source, "203.0.113.2", None)), "refused", "{source}");
        }
        let only = Splicing { only: true, ..ON };
        assert_eq!(way(only, arrival("198.51.100.7:9", "203.0.113.2", None)), "refused");
    }

    #[test]
    fn outbound_keeps_the_loopback_address() {
        let to = |source, destination, target| outbound(&arrival(source, destination, target));
        let same = |source, destination| to(source, destination, None);
        assert_eq!(same("127.0.0.1:9", "127.0.0.53").unwrap().to_string(), "127.0.0.53:80");
        assert_eq!(same("[::1]:9", "::1").unwrap().to_string(), "[::1]:80");
        assert_eq!(same("192.0.2.1:9", "127.0.0.1"), None);
        assert_eq!(same("127.0.0.1:9", "192.0.2.1"), None);
        let named = to("127.0.0.1:9", "127.0.0.1", Some("192.0.2.7"));
        assert_eq!(named.unwrap().to_string(), "192.0.2.7:80");
    }
}

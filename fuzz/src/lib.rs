//! What the targets share: a network to impersonate.

use stack::addr::Link;
use stack::config::{Config, Ipv4Config, Ipv6Config, Services};
use wire::ethernet::MacAddr;

/// Every service on, every option set, so that answers are as long as they get.
pub fn config() -> Config {
    Config {
        our_mac: MacAddr([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]),
        mtu: Some(65520),
        v4: Some(Ipv4Config {
            addr: [192, 0, 2, 1].into(),
            prefix_len: 24,
            addr_fixed: false,
            gateway: Some([198, 51, 100, 1].into()),
            local_mode: false,
            map_host_loopback: None,
            map_guest_addr: None,
            dns: vec![[192, 0, 2, 53].into(); 3],
            dns_match: None,
            dns_host: None,
            addr_out: None,
        }),
        v6: Some(Ipv6Config {
            addr: Some(0x2001_0db8_0001_0000_0000_0000_0000_0001_u128.into()),
            addr_fixed: false,
            gateway: Some(0xfe80_0000_0000_0000_0000_0000_0000_0001_u128.into()),
            our_link_local: 0xfe80_0000_0000_0000_0000_0000_0000_0001_u128.into(),
            local_mode: false,
            map_host_loopback: None,
            map_guest_addr: None,
            dns: vec![0x2001_0db8_0001_0000_0000_0000_0000_0053_u128.into(); 3],
            dns_match: None,
            dns_host: None,
            addr_out: None,
            scope_id: 0,
        }),
        shared: Vec::new(),
        search: ["example.org", "lab.example.org", "a-longer-name.elsewhere.example"]
            .map(String::from)
            .to_vec(),
        hostname: Some("guest".into()),
        fqdn: Some("guest.example.org".into()),
        duid_time: 0x0102_0304,
        services: Services {
            tcp: true,
            udp: true,
            icmp: true,
            dhcp: true,
            dhcpv6: true,
            ndp: true,
            ra: true,
            announce_dns: true,
            announce_search: true,
        },
    }
}

/// A link on which nothing was seen.
pub fn link(config: &Config) -> Link {
    Link::new(config, None, None)
}

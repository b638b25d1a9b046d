use super::*;
use crate::config::tests::{forwarding_of, network_with};

fn block_of(line: &str) -> String {
    let network = network_with(line, &["192.0.2.53", "127.0.0.53", "2001:db8::53"]);
    block(Mode::Pasta, &network, &forwarding_of(line))
}

#[test]
fn both_families() {
    assert_eq!(
        block_of("--netns x -c /run/x -t 22 -u none -T 80 -U none"),
        "\
Configuration socket: /run/x
Template interface: eth0 (IPv4), eth0 (IPv6)
Namespace interface: eth0
MAC:
    host: 9a:55:9a:55:9a:55
    NAT to host 127.0.0.1: 203.0.113.1
DHCP:
    assign: 203.0.113.2
    mask: 255.255.255.0
    router: 203.0.113.1
DNS:
    192.0.2.53
    203.0.113.1
DNS search list:
    example.test
    sub.example.test
    NAT to host ::1: fe80::1
NDP/DHCPv6:
    assign: 2001:db8:51::2
    router: fe80::1
    our link-local: fe80::1
DNS:
    2001:db8::53
DNS search list:
    example.test
    sub.example.test
Inbound forwarding rules (HOST):
    TCP [*]:22  =>  22\x20
Outbound forwarding rules (SPLICE):
    TCP [*]%lo:80  =>  80\x20
"
    );
}

#[test]
fn little_of_it() {
    assert_eq!(
        block_of(
            "--netns x -4 -I tap0 --no-map-gw --no-dhcp -D none -S none -o 203.0.113.7 \
             --outbound-if4 eth1 -M 02:00:00:00:00:01 -t none -u none -T none -U none"
        ),
        "\
Template interface: eth0 (IPv4)
Outbound interface: eth1 (IPv4)
Outbound IPv4 address: 203.0.113.7
Namespace interface: tap0
MAC:
    host: 02:00:00:00:00:01
Inbound forwarding rules (HOST):
Outbound forwarding rules (SPLICE):
"
    );
}

#[test]
fn headers_of_ipv6() {
    for (line, header) in
        [("--no-dhcpv6", "\nNDP:\n"), ("--no-ndp", "\nDHCPv6:\n"), ("-6", "\nNDP/DHCPv6:\n")]
    {
        let text = block_of(&format!("--netns x {line}"));
        assert!(text.contains(header), "{text}");
    }
    let text = block_of("--netns x --no-ndp --no-dhcpv6");
    assert!(!text.contains("our link-local"), "{text}");
}

#[test]
fn masks() {
    for (len, text) in
        [(0, "0.0.0.0"), (8, "255.0.0.0"), (26, "255.255.255.192"), (32, "255.255.255.255")]
    {
        assert_eq!(mask(len).to_string(), text);
    }
}

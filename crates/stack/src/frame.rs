//! Headers in front of a payload that already stands in its final place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use zerocopy::IntoBytes;

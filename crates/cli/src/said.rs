//! What was typed: one field per thing that can be said, nothing resolved, nothing derived.
//! [`crate::config`] turns it into what it means.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use stack::rule::{Pif, Protocol};
use wire::ethernet::MacAddr;

/// The personality, chosen by the name under which the program was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Connects virtual machines.
    Passt,
    /// Connects network namespaces.
    Pasta,
}

impl Mode {
    /// The personality for `argv0`: that of the first of `pasta` and `passt` that its base name
    /// contains, in this order.
    #[must_use]
    pub fn from_argv0(argv0: &str) -> Option<Self> {
        let base = argv0.rsplit('/').next().unwrap_or(argv0);
        if base.contains("pasta") {
            Some(Self::Pasta)
        } else if base.contains("passt") {
            Some(Self::Passt)
        } else {
            None
        }
    }

    /// Name of the personality in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passt => "passt",
            Self::Pasta => "pasta",
        }
    }
}

/// Address families asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// Both.
    #[default]
    Both,
    /// IPv4 only (`-4`).
    Ipv4,
    /// IPv6 only (`-6`).
    Ipv6,
}

/// User and group to change to (`--runas`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Numeric user ID.
    pub uid: u32,
    /// Numeric group ID.
    pub gid: u32,
}

/// An address per family that stands for something of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// IPv4 address, if given.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address, if given.
    pub v6: Option<Ipv6Addr>,
}

/// Everything said about name resolution, except the search list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `-D none` was the last word: resolv.conf is not used.
    pub off: bool,
    /// IPv4 resolvers (`-D`), at most three.
    pub resolvers4: Vec<Ipv4Addr>,
    /// IPv6 resolvers (`-D`), at most three.
    pub resolvers6: Vec<Ipv6Addr>,
    /// `--dns-forward`, IPv4.
    pub forward4: Option<Ipv4Addr>,
    /// `--dns-forward`, IPv6.
    pub forward6: Option<Ipv6Addr>,
    /// `--dns-host`, IPv4.
    pub host4: Option<Ipv4Addr>,
    /// `--dns-host`, IPv6.
    pub host6: Option<Ipv6Addr>,
}

/// A port specifier, not looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where flows begin.
    pub pif: Pif,
    /// Whose ports.
    pub protocol: Protocol,
    /// The option as it was meant: `-t`, `--tcp-ports`.
    pub option: String,
    /// Its value.
    pub value: String,
}

/// The command line, option by option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Warnings about options that were accepted, in order.
    pub warnings: Vec<String>,
    /// `--vhost-user`.
    pub vhost_user: bool,
    /// `-d`, not undone.
    pub debug: bool,
    /// `--trace`, not undone.
    pub trace: bool,
    /// `-q`, not undone.
    pub quiet: bool,
    /// `-f`.
    pub foreground: bool,
    /// `--stats`: seconds between rows, 0 = off.
    pub stats: Option<u64>,
    /// `-l`.
    pub log_file: Option<PathBuf>,
    /// `--log-size`: bytes.
    pub log_size: Option<u64>,
    /// `--ready-fd`.
    pub ready_fd: Option<i32>,
    /// `--runas`.
    pub runas: Option<User>,
    /// `--chroot-fallback`.
    pub chroot_fallback: bool,
    /// `-p`.
    pub pcap: Option<PathBuf>,
    /// `-P`.
    pub pid_file: Option<PathBuf>,
    /// `-4`, `-6`.
    pub families: Families,
    /// `-m`: bytes, 0 = announce none.
    pub mtu: Option<u16>,
    /// `-a`, IPv4: address and prefix length, if it was given with the address.
    pub address4: Option<(Ipv4Addr, Option<u8>)>,
    /// `-a`, IPv6; the prefix length is always 64.
    pub address6: Option<Ipv6Addr>,
    /// The last `-a` came with a prefix length.
    pub last_address_had_length: bool,
    /// `-n`, in bits.
    pub netmask: Option<u8>,
    /// `-M`.
    pub our_mac: Option<MacAddr>,
    /// `-g`, IPv4.
    pub gateway4: Option<Ipv4Addr>,
    /// `-g`, IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// `-i`, known to exist when it was parsed.
    pub interface: Option<String>,
    /// `-o`, IPv4.
    pub outbound4: Option<Ipv4Addr>,
    /// `-o`, IPv6.
    pub outbound6: Option<Ipv6Addr>,
    /// `--outbound-if4`.
    pub outbound_if4: Option<String>,
    /// `--outbound-if6`.
    pub outbound_if6: Option<String>,
    /// `--map-host-loopback`.
    pub map_host_loopback: Mapping,
    /// `--no-map-gw`, also by `--map-host-loopback none`.
    pub no_map_gw: bool,
    /// `--map-guest-addr`.
    pub map_guest_addr: Mapping,
    /// `-D`, `--dns-forward`, `--dns-host`.
    pub dns: Dns,
    /// `-S`, at most six.
    pub search: Vec<String>,
    /// `-S none` was the last word.
    pub search_off: bool,
    /// `--dhcp-dns` or `--no-dhcp-dns`.
    pub announce_dns: Option<bool>,
    /// `--dhcp-search` or `--no-dhcp-search`.
    pub announce_search: Option<bool>,
    /// `-H`.
    pub hostname: Option<String>,
    /// `--fqdn`.
    pub fqdn: Option<String>,
    /// `--no-tcp`.
    pub no_tcp: bool,
    /// `--no-udp`.
    pub no_udp: bool,
    /// `--no-icmp`.
    pub no_icmp: bool,
    /// `--no-dhcp`.
    pub no_dhcp: bool,
    /// `--no-dhcpv6`.
    pub no_dhcpv6: bool,
    /// `--no-ndp`.
    pub no_ndp: bool,
    /// `--no-ra`.
    pub no_ra: bool,
    /// `-s`, unless undone by a later `-F`.
    pub socket: Option<PathBuf>,
    /// `-F`, unless undone by a later `-s`.
    pub fd: Option<i32>,
    /// `-1`.
    pub one_off: bool,
    /// `-I`.
    pub ns_interface: Option<String>,
    /// `--ns-mac-addr`.
    pub ns_mac: Option<MacAddr>,
    /// `--netns`, as typed.
    pub netns: Option<PathBuf>,
    /// `--userns`.
    pub userns: Option<PathBuf>,
    /// `--netns-only`.
    pub netns_only: bool,
    /// `--no-pidns`.
    pub no_pidns: bool,
    /// `--no-netns-quit`.
    pub no_netns_quit: bool,
    /// `--config-net`.
    pub config_net: bool,
    /// `--no-copy-routes`.
    pub no_copy_routes: bool,
    /// `--no-copy-addrs`.
    pub no_copy_addrs: bool,
    /// `-t`, `-u`, `-T`, `-U`, in order.
    pub forwards: Vec<Forward>,
    /// `--freebind`.
    pub freebind: bool,
    /// `--host-lo-to-ns-lo`.
    pub host_lo_to_ns_lo: bool,
    /// `--no-splice`.
    pub no_splice: bool,
    /// `--splice-only`.
    pub splice_only: bool,
    /// `-c`.
    pub conf_path: Option<PathBuf>,
    /// A single numeric argument: the process whose namespaces are meant.
    pub pid: Option<i32>,
    /// Other arguments: the command to run, with its own arguments.
    pub command: Vec<OsString>,
}

impl Said {
    /// Notes a warning, shown once messages have somewhere to go.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

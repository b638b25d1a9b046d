//! What the command line means.
//!
//! [`Run`] follows from what was said alone: which namespaces, in the foreground or not, which files.
//! [`Network`] needs what was found on the host as well ([`Host`]): it is the network the guest will
//! see, complete with all defaults and with what one choice implies for another.

mod dns;
mod forwarding;
mod network;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use wire::ethernet::MacAddr;

pub use self::forwarding::Forwarding;
pub use self::network::{Copying, Network, Note};
use crate::said::{Mode, Said, User};

/// Bytes that a log file never has, unless somebody wants something else.
const LOG_SIZE: u64 = 1 << 20;

/// A network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index, from 1.
    pub index: u32,
    /// Name.
    pub name: String,
}

/// What was found out about the host's network. A family that is switched off is `None`, and so is one
/// without any interface to look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The IPv4 template.
    pub v4: Option<HostIpv4>,
    /// The IPv6 template.
    pub v6: Option<HostIpv6>,
    /// `nameserver` lines of resolv.conf in order, both families, without zones.
    pub resolvers: Vec<IpAddr>,
    /// The first `search` line of resolv.conf.
    pub search: Vec<String>,
}

/// The interface that is the template for IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIpv4 {
    /// The interface.
    pub interface: Interface,
    /// Its most specific address, with the prefix length.
    pub address: Option<(Ipv4Addr, u8)>,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
}

/// The interface that is the template for IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIpv6 {
    /// The interface.
    pub interface: Interface,
    /// Its global address with the longest prefix.
    pub address: Option<Ipv6Addr>,
    /// Its link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// Next hop of the default route.
    pub gateway: Option<Ipv6Addr>,
}

/// Where the guest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In a machine whose hypervisor connects to a stream socket at this path, or at the first of the
    /// usual ones that is free.
    Socket(Option<PathBuf>),
    /// In a machine whose hypervisor is at the other end of an inherited descriptor.
    Descriptor(i32),
    /// In a new network namespace, in which a command runs; the default shell if there are no words.
    Command(Vec<OsString>),
    /// In the network namespace of a process.
    Process(i32),
    /// In the one behind a path.
    Path(PathBuf),
}

impl Target {
    /// Path of a network namespace that exists already.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Socket(_) | Self::Descriptor(_) | Self::Command(_) => None,
            Self::Process(pid) => Some(format!("/proc/{pid}/ns/net").into()),
            Self::Path(path) => Some(path.clone()),
        }
    }
}

/// The user namespace to be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// The one we were started in.
    Own,
    /// A new one.
    New,
    /// The one behind a path.
    Path(PathBuf),
}

/// How to run, as far as the network does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where the guest is.
    pub target: Target,
    /// End when the hypervisor disconnects.
    pub one_off: bool,
    /// The user namespace.
    pub user_namespace: UserNamespace,
    /// A command gets a PID namespace of its own.
    pub pid_namespace: bool,
    /// End when the namespace at the target's path is gone.
    pub quit_with_namespace: bool,
    /// User to change to, if one was named.
    pub run_as: Option<User>,
    /// `chroot(2)` will do where `pivot_root(2)` cannot be had.
    pub chroot_fallback: bool,
    /// Host name in the namespace of a command, if one was given.
    pub hostname: Option<String>,
    /// MAC address to give the interface in the namespace.
    pub ns_mac: Option<MacAddr>,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Where to write the process ID.
    pub pid_file: Option<PathBuf>,
    /// Where to record the guest's traffic.
    pub pcap: Option<PathBuf>,
    /// Seconds between rows of event counters, from 1.
    pub stats: Option<u64>,
    /// Messages worth a line.
    pub level: log::LevelFilter,
    /// Where to write them.
    pub log_file: Option<PathBuf>,
    /// Bytes that file never has.
    pub log_size: u64,
    /// Inherited descriptor of who wants to know when everything is ready.
    pub ready_fd: Option<i32>,
}

impl Run {
    /// What was said, completed.
    #[must_use]
    pub fn new(mode: Mode, said: &Said) -> Self {
        let target = match (mode, &said.netns, said.pid) {
            (Mode::Passt, ..) => match said.fd {
                Some(fd) => Target::Descriptor(fd),
                None => Target::Socket(said.socket.clone()),
            },
            (Mode::Pasta, Some(path), _) => Target::Path(namespace_path(path)),
            (Mode::Pasta, None, Some(pid)) => Target::Process(pid),
            (Mode::Pasta, None, None) => Target::Command(said.command.clone()),
        };
        let user_namespace = match (&target, &said.userns) {
            _ if said.netns_only => UserNamespace::Own,
            (_, Some(path)) => UserNamespace::Path(path.clone()),
            (Target::Process(pid), None) => {
                UserNamespace::Path(format!("/proc/{pid}/ns/user").into())
            }
            (Target::Path(_), None) => UserNamespace::Own,
            (Target::Command(_) | Target::Socket(_) | Target::Descriptor(_), None) => {
                UserNamespace::New
            }
        };
        let spawns = matches!(target, Target::Command(_));
        let wanted = crate::log::level(said);
        // The terminal belongs to the command, unless somebody wants to debug.
        let quiet = spawns && wanted == log::LevelFilter::Info;
        let level = if quiet { log::LevelFilter::Warn } else { wanted };
        Self {
            target,
            user_namespace,
            pid_namespace: !said.no_pidns,
            one_off: said.one_off || said.fd.is_some(),
            quit_with_namespace: !spawns && !said.no_netns_quit,
            run_as: said.runas,
            chroot_fallback: said.chroot_fallback,
            hostname: said.hostname.clone(),
            ns_mac: said.ns_mac,
            foreground: said.foreground || spawns,
            pid_file: said.pid_file.clone(),
            pcap: said.pcap.clone(),
            stats: said.stats.filter(|&delay| delay > 0),
            level,
            log_file: said.log_file.clone(),
            log_size: said.log_size.unwrap_or(LOG_SIZE),
            ready_fd: said.ready_fd,
        }
    }
}

/// A name without a slash is one that ip-netns(8) knows.
fn namespace_path(typed: &Path) -> PathBuf {
    if typed.as_os_str().as_encoded_bytes().contains(&b'/') {
        typed.to_owned()
    } else {
        Path::new("/run/netns").join(typed)
    }
}

#[cfg(test)]
pub(crate) mod tests;

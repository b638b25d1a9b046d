//! What the user is allowed to do here.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sys::privileges::Identity;
use sys::probe::{self, Failure};

use super::{Finding, number};
use crate::said::Mode;
use crate::start::{instead_of_root, reason};

/// With fewer descriptors than this, it starts, and that is about all.
const FEW_FILES: usize = 64;
/// With fewer than this, there cannot be many connections: each takes one, or two and pipes if it is spliced.
const SOME_FILES: usize = 4096;
/// The last of the ports that are privileged unless `ip_unprivileged_port_start` says otherwise.
const LAST_LOW_PORT: u16 = 1023;

/// Whom the program would go on as, if not as who it is; [`user`] tells what is wrong if that is unknown.
fn successor() -> Option<Identity> {
    instead_of_root().ok().flatten()
}

pub(super) fn user(mode: Mode) -> Finding {
    let current = Identity::current();
    match instead_of_root() {
        Ok(Some(nobody)) => Finding::ok(format!(
            "root, goes on as user {} and group {} unless --runas says otherwise",
            nobody.uid, nobody.gid
        )),
        Ok(None) if current.uid == 0 => Finding::ok("root of a user namespace, stays so"),
        Ok(None) => Finding::ok(format!("user {}, group {}", current.uid, current.gid)),
        Err(error) => Finding::fail(
            format!("/proc/self/uid_map: {}", reason(&error)),
            format!("mount procfs on /proc: {} reads and writes there", mode.name()),
        ),
    }
}

pub(super) fn user_namespaces(_: Mode) -> Finding {
    match probe::can_make_user_namespace(successor()) {
        Ok(()) => Finding::ok("made one, and mapped the user in it"),
        Err(failure) => namespace_failure(&failure),
    }
}

pub(super) fn network_namespaces(_: Mode) -> Finding {
    match probe::can_make_network_namespace(successor()) {
        Ok(()) => Finding::ok("made one"),
        Err(failure) => namespace_failure(&failure),
    }
}

/// What is behind a namespace that could not be made.
pub(super) fn namespace_failure(failure: &Failure) -> Finding {
    let text = told(failure);
    if failure.step == probe::ASSUME {
        return Finding::fail(
            text,
            "give root CAP_SETUID and CAP_SETGID, so that it can become another user, or start as that user",
        );
    }
    let zero = |path: &str| number(path) == Some(0);
    let sysctls = [
        ("/proc/sys/user/max_user_namespaces", "sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/user/max_net_namespaces", "sysctl -w user.max_net_namespaces=15000"),
        ("/proc/sys/user/max_mnt_namespaces", "sysctl -w user.max_mnt_namespaces=15000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
    ];
    if let Some((path, remedy)) = sysctls.iter().find(|(path, _)| zero(path)) {
        return Finding::fail(format!("{text} ({path} is 0)"), *remedy);
    }
    let restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if number(restricted) == Some(1) {
        return Finding::fail(
            format!("{text} ({restricted} is 1)"),
            "install the AppArmor profiles that come with this program, or sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    let kind = failure.error.kind();
    let remedy = if matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported) {
        "a kernel with CONFIG_USER_NS, CONFIG_NET_NS"
    } else if kind == ErrorKind::StorageFull {
        "raise the sysctls user.max_*_namespaces"
    } else {
        "allow it to the user: a chroot, a container's filter of system calls, or a security module is in the way"
    };
    Finding::fail(text, remedy)
}

fn told(failure: &Failure) -> String {
    format!("{}: {}", failure.step, reason(&failure.error))
}

pub(super) fn empty_root(_: Mode) -> Finding {
    let Err(failure) = probe::can_have_empty_root(successor()) else {
        return Finding::ok("left the file system for an empty root directory");
    };
    if failure.step == probe::FIXED_ROOT {
        return Finding::fail(
            told(&failure),
            "--chroot-fallback, or a root directory that is an ordinary mount: neither the initial ramfs nor a chroot",
        );
    }
    namespace_failure(&failure)
}

pub(super) fn ping(_: Mode) -> Finding {
    const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";
    let families: [(&str, IpAddr); 2] =
        [("IPv4", Ipv4Addr::LOCALHOST.into()), ("IPv6", Ipv6Addr::LOCALHOST.into())];
    let refused: Vec<(&str, Failure)> = families
        .into_iter()
        .filter_map(|(name, ip)| Some((name, probe::ping(ip, successor()).err()?)))
        .filter(|(_, failure)| failure.error.raw_os_error() != Some(NO_SUCH_FAMILY))
        .collect();
    let Some((name, failure)) = refused.first() else {
        return Finding::ok("opened ping sockets");
    };
    if failure.step == probe::ASSUME {
        return namespace_failure(failure);
    }
    let range = std::fs::read_to_string(RANGE).unwrap_or_default();
    let range: Vec<&str> = range.split_whitespace().collect();
    Finding::warn(
        format!(
            "no echo requests: {} for {name}: {} (ping_group_range is {})",
            failure.step,
            reason(&failure.error),
            range.join(" ")
        ),
        "sysctl -w net.ipv4.ping_group_range='0 2147483647'",
    )
}

/// `EAFNOSUPPORT`.
const NO_SUCH_FAMILY: i32 = 97;

pub(super) fn low_ports(mode: Mode) -> Finding {
    let Err(error) = probe::low_port(LAST_LOW_PORT) else {
        return match probe::low_port(1) {
            Ok(()) => Finding::ok("may be listened on"),
            Err(_) => Finding::warn(
                format!("only those from {} on may be listened on", first_port()),
                port_remedy(mode),
            ),
        };
    };
    let text = format!(
        "ports below {} may not be listened on (port {LAST_LOW_PORT}: {})",
        first_port(),
        reason(&error)
    );
    Finding::warn(text, port_remedy(mode))
}

fn first_port() -> u64 {
    let first = number("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    first.unwrap_or_else(|| u64::from(LAST_LOW_PORT) + 1)
}

fn port_remedy(mode: Mode) -> String {
    format!(
        "if they are to be forwarded: sysctl -w net.ipv4.ip_unprivileged_port_start=0, or setcap \
         cap_net_bind_service=ep on the program {}",
        mode.name()
    )
}

pub(super) fn open_files(_: Mode) -> Finding {
    // The soft limit does not count: it is raised at the start.
    let most = sys::fd::hard_limit();
    let remedy = "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= of a systemd unit)";
    match most {
        0..FEW_FILES => Finding::fail(
            format!("at most {most}, which leaves hardly any for connections"),
            remedy,
        ),
        FEW_FILES..SOME_FILES => Finding::warn(
            format!("at most {most}: each connection takes one, spliced ones two to six"),
            remedy,
        ),
        _ => Finding::ok(format!("at most {most}")),
    }
}

//! What the kernel can do.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sys::netlink::Netlink;
use sys::probe;
use sys::socket::{self, Peek};
use sys::tun::Offload;

use super::Finding;
use super::rights::namespace_failure;
use crate::said::Mode;
use crate::start::reason;

const TUN: &str = "/dev/net/tun";

pub(super) fn tun_device(_: Mode) -> Finding {
    if let Err(error) = File::options().read(true).write(true).open(TUN) {
        let text = format!("{TUN}: {}", reason(&error));
        let remedy = if error.kind() == io::ErrorKind::NotFound {
            format!("modprobe tun; in a container: hand the device to it (--device {TUN})")
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            format!("chmod 0666 {TUN}")
        } else {
            "modprobe tun, on a kernel with CONFIG_TUN".to_owned()
        };
        return Finding::fail(text, remedy);
    }
    match probe::tap() {
        Ok(Offload::Udp) => Finding::ok("made an interface, with offload for TCP and UDP"),
        Ok(Offload::Tcp) => {
            Finding::warn("made an interface, without offload for UDP", "Linux 6.2 or later")
        }
        Ok(Offload::Checksum | Offload::None) => Finding::warn(
            "made an interface, without offload: large transfers take more processor time",
            "a kernel whose tun driver has TUNSETOFFLOAD with TUN_F_TSO4 and TUN_F_TSO6",
        ),
        Err(failure) if failure.step == probe::TAP => Finding::fail(
            format!("{TUN}: {}: {}", failure.step, reason(&failure.error)),
            "allow TUNSETIFF: a security module or the container's rules for devices are in the way",
        ),
        Err(failure) => namespace_failure(&failure),
    }
}

pub(super) fn netlink(_: Mode) -> Finding {
    match Netlink::open().and_then(|mut netlink| netlink.link_named("lo")) {
        Ok(_) => Finding::ok("the host's interfaces can be read"),
        Err(error) => Finding::fail(
            format!("the host's interfaces cannot be read: {}", reason(&error)),
            "allow netlink sockets (AF_NETLINK, NETLINK_ROUTE) to the user",
        ),
    }
}

pub(super) fn ipv6(_: Mode) -> Finding {
    match probe::ipv6() {
        Ok(()) => Finding::ok("available"),
        Err(error) => Finding::warn(
            format!("not available: {}", reason(&error)),
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, on a kernel with CONFIG_IPV6 (and without \
             ipv6.disable=1)",
        ),
    }
}

pub(super) fn peek_offset(_: Mode) -> Finding {
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let lacking = |ip: &IpAddr| matches!(Peek::probe(*ip), Ok(Peek::Skip));
    if all.iter().any(lacking) {
        return Finding::warn(
            "TCP has no SO_PEEK_OFF: large windows towards the guest take more processor time",
            "Linux 6.9 or later",
        );
    }
    Finding::ok("TCP has SO_PEEK_OFF")
}

pub(super) fn bind_to_device(_: Mode) -> Finding {
    if socket::can_bind_device() {
        return Finding::ok("sockets may be bound to interfaces");
    }
    Finding::warn(
        "sockets may not be bound to interfaces: -t and -u with %INTERFACE, --outbound-if4 and \
         --outbound-if6 have no effect",
        "Linux 5.7 or later, or CAP_NET_RAW",
    )
}

pub(super) fn udp_batches(_: Mode) -> Finding {
    match socket::can_batch_datagrams() {
        Ok(()) => Finding::ok("UDP has UDP_GRO and UDP_SEGMENT"),
        Err(error) => Finding::warn(
            format!("no UDP_GRO and UDP_SEGMENT ({}): datagrams move one by one", reason(&error)),
            "Linux 5.0 or later",
        ),
    }
}

pub(super) fn tcp_repair(_: Mode) -> Finding {
    if socket::can_repair().is_ok() {
        return Finding::ok("TCP_REPAIR may be set");
    }
    match probe::has_repair_mode() {
        Ok(()) => {
            Finding::ok("the kernel has TCP_REPAIR; passt-repair, with CAP_NET_ADMIN, sets it")
        }
        Err(failure) => Finding::warn(
            format!("connections cannot be migrated: {}: {}", failure.step, reason(&failure.error)),
            "user namespaces to find out with; then a kernel with TCP_REPAIR",
        ),
    }
}

pub(super) fn seccomp(_: Mode) -> Finding {
    match probe::seccomp() {
        Ok(()) => Finding::ok("system calls can be filtered"),
        Err(error) => Finding::fail(
            format!("system calls cannot be filtered: {}", reason(&error)),
            "a kernel with CONFIG_SECCOMP_FILTER, and leave to use it",
        ),
    }
}

pub(super) fn landlock(_: Mode) -> Finding {
    match probe::landlock() {
        Ok(version) => Finding::ok(format!("version {version} of its interface")),
        Err(error) => Finding::warn(
            format!("not available: {}: one layer of the sandbox less", reason(&error)),
            "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock among the names of its parameter lsm=",
        ),
    }
}

pub(super) fn close_range(_: Mode) -> Finding {
    match probe::close_range() {
        Ok(()) => Finding::ok("inherited descriptors can be closed"),
        Err(error) => Finding::warn(
            format!("inherited descriptors stay open: close_range: {}", reason(&error)),
            "Linux 5.9 or later",
        ),
    }
}

pub(super) fn pidfd(_: Mode) -> Finding {
    match probe::pidfd() {
        Ok(()) => Finding::ok("processes have descriptors"),
        Err(error) => Finding::fail(
            format!("processes have no descriptors: pidfd_open: {}", reason(&error)),
            "Linux 5.4 or later",
        ),
    }
}

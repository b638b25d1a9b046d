//! Questions to the kernel whose answers are only had by trying: namespaces in a copy of the process, and features
//! by using them. Nothing that is tried here outlives its function.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::netns::{map_root_to, new_network};
use crate::privileges::Identity;
use crate::process::{clone, run};
use crate::sandbox::{self, RootError};
use crate::socket;
use crate::tun::{Offload, Tap};

/// What could not be done, and why.
#[derive(Debug)]
pub struct Failure {
    /// The step, for a message.
    pub step: &'static str,
    /// What the kernel said.
    pub error: io::Error,
}

/// Marks the end of a step with its name.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, error: error.into() })
    }
}

/// Steps by their numbers, which is how they travel.
const STEPS: [&str; 11] =
    [START, ASSUME, USER, MAPS, NETWORK, TAP, MOUNTS, ROOT, FIXED_ROOT, PING, REPAIR];
const START: &str = "starting a process";
/// The step of becoming whom to go on as.
pub const ASSUME: &str = "becoming another user";
const USER: &str = "making a user namespace";
const MAPS: &str = "mapping users in it";
const NETWORK: &str = "making a network namespace";
/// The step of making a tap interface.
pub const TAP: &str = "making an interface in it";
const MOUNTS: &str = "making mount, IPC and UTS namespaces";
const ROOT: &str = "emptying the root directory";
/// The step of exchanging the root directory, where it cannot be exchanged but might be changed.
pub const FIXED_ROOT: &str = "exchanging the root directory";
const PING: &str = "opening a ping socket";
const REPAIR: &str = "setting repair mode";

/// Runs `job` in a copy of this process, which ends with it, and returns the small number it returned.
fn apart(job: impl FnOnce() -> Result<u8, Failure>) -> Result<u8, Failure> {
    let (mut here, mut there) = UnixStream::pair().step(START)?;
    let child = match clone(0).step(START)? {
        None => {
            drop(here);
            run(|| {
                let (step, number) = match job() {
                    Ok(answer) => (u8::MAX, answer.into()),
                    Err(Failure { step, error }) => {
                        let at = STEPS.iter().position(|other| *other == step);
                        let at = at.and_then(|at| u8::try_from(at).ok()).unwrap_or_default();
                        (at, error.raw_os_error().unwrap_or(libc::EIO))
                    }
                };
                let [a, b, c, d] = number.to_ne_bytes();
                u8::from(there.write_all(&[step, a, b, c, d]).is_err())
            })
        }
        Some((pid, pidfd)) => crate::process::Child::new(pid, pidfd),
    };
    drop(there);
    let mut answer = [0; 5];
    let read = here.read_exact(&mut answer);
    child.wait().step(START)?;
    // Without an answer it was ended from outside: by a filter of whoever started us, most likely.
    read.map_err(|_| io::Error::from_raw_os_error(libc::EPERM)).step(START)?;
    let [step, number @ ..] = answer;
    let number = i32::from_ne_bytes(number);
    match STEPS.get(usize::from(step)) {
        None => Ok(u8::try_from(number).unwrap_or_default()),
        Some(step) => Err(Failure { step, error: io::Error::from_raw_os_error(number) }),
    }
}

/// A user namespace of our own, in which we are root, for the rest of the process.
fn user_namespace(identity: Option<Identity>) -> Result<(), Failure> {
    identity.map_or(Ok(()), Identity::assume).step(ASSUME)?;
    let outside = Identity::current();
    // Whoever has changed users does not own its own files in /proc.
    let dumpable = rustix::process::DumpableBehavior::Dumpable;
    rustix::process::set_dumpable_behavior(dumpable).step(USER)?;
    // SAFETY: unshare_unsafe is about descriptor tables; CLONE_NEWUSER does not touch those.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }.step(USER)?;
    map_root_to(outside).step(MAPS)
}

/// Tries to make a user namespace and to map ids in it, as `identity` if that is not who we are.
///
/// # Errors
/// The step that failed.
pub fn can_make_user_namespace(identity: Option<Identity>) -> Result<(), Failure> {
    apart(|| user_namespace(identity).map(|()| 0)).map(drop)
}

/// Tries to make a network namespace that belongs to a new user namespace.
///
/// # Errors
/// The step that failed.
pub fn can_make_network_namespace(identity: Option<Identity>) -> Result<(), Failure> {
    apart(|| {
        user_namespace(identity)?;
        new_network().step(NETWORK).map(|()| 0)
    })
    .map(drop)
}

/// Tries to make a tap interface in a new namespace, and returns what the kernel would do for us there.
///
/// # Errors
/// The step that failed.
pub fn tap() -> Result<Offload, Failure> {
    const LEVELS: [Offload; 4] = [Offload::None, Offload::Checksum, Offload::Tcp, Offload::Udp];
    let level = apart(|| {
        user_namespace(None)?;
        new_network().step(NETWORK)?;
        let tap = Tap::open(OsStr::new("tap%d"), Offload::Udp).step(TAP)?;
        let level = LEVELS.iter().position(|level| *level == tap.offload());
        Ok(level.and_then(|level| u8::try_from(level).ok()).unwrap_or_default())
    })?;
    Ok(LEVELS.get(usize::from(level)).copied().unwrap_or(Offload::None))
}

/// Tries to leave the file system: an empty tmpfs as root directory, and nothing below it.
///
/// # Errors
/// The step that failed.
pub fn can_have_empty_root(identity: Option<Identity>) -> Result<(), Failure> {
    apart(|| {
        user_namespace(identity)?;
        sandbox::enter_new_namespaces().step(MOUNTS)?;
        sandbox::empty_root(|| false).map_err(
            |RootError { error, could_be_changed, .. }| Failure {
                step: if could_be_changed { FIXED_ROOT } else { ROOT },
                error,
            },
        )?;
        Ok(0)
    })
    .map(drop)
}

/// Opens a ping socket as `identity`, which has no supplementary groups then.
///
/// # Errors
/// `EACCES` if the groups are not in `ping_group_range`; those of `socket(2)`.
pub fn ping(ip: IpAddr, identity: Option<Identity>) -> Result<(), Failure> {
    apart(|| {
        identity.map_or(Ok(()), Identity::assume).step(ASSUME)?;
        socket::open_ping(ip).step(PING).map(|()| 0)
    })
    .map(drop)
}

/// Tries repair mode of a TCP socket in a network namespace of our own, over which we have every capability.
///
/// # Errors
/// The step that failed.
pub fn has_repair_mode() -> Result<(), Failure> {
    apart(|| {
        user_namespace(None)?;
        new_network().step(NETWORK)?;
        socket::can_repair().step(REPAIR).map(|()| 0)
    })
    .map(drop)
}

/// The version of Landlock's interface.
///
/// # Errors
/// `ENOSYS` if the kernel does not have it, `EOPNOTSUPP` if it is disabled.
pub fn landlock() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: no attributes are passed: a null pointer and a length of zero, as asking for the version wants.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Whether filters of system calls may end the process.
///
/// # Errors
/// `ENOSYS`, `EINVAL`, `EOPNOTSUPP` if the kernel cannot.
pub fn seccomp() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    let pointer = &raw const action;
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads one u32.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, pointer) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether ranges of descriptors can be closed: tries it with one that is empty.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_range() -> io::Result<()> {
    // SAFETY: no pointers, and no descriptor has the largest number.
    match unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether processes have descriptors.
///
/// # Errors
/// `ENOSYS` before Linux 5.3.
pub fn pidfd() -> io::Result<()> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty()).map(drop)?)
}

/// Whether the user may listen on `port`: binds a socket to it on the loopback address.
///
/// # Errors
/// `EACCES` if not. That somebody has the port already is no error.
pub fn low_port(port: u16) -> io::Result<()> {
    match std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => Err(error),
        _ => Ok(()),
    }
}

/// Whether IPv6 addresses can be used: binds a socket to the loopback one.
///
/// # Errors
/// `EAFNOSUPPORT` without IPv6, `EADDRNOTAVAIL` where it is switched off.
pub fn ipv6() -> io::Result<()> {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_number() {
        for step in STEPS {
            assert_eq!(STEPS.iter().filter(|other| **other == step).count(), 1, "{step}");
        }
    }

    #[test]
    fn this_kernel_has_what_tests_need() {
        seccomp().unwrap();
        close_range().unwrap();
        pidfd().unwrap();
    }
}

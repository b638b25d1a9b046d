//! Calls that more than one kind of thread makes.

use super::{Argument, Call, call};

/// Memory that can be read and written, and never run.
const NOT_EXECUTABLE: Argument =
    Argument::has(2, !((libc::PROT_READ | libc::PROT_WRITE) as u32), libc::PROT_NONE as u32);

/// Memory of our own, with nothing of a file in it.
const ANONYMOUS: Argument = Argument::has(
    3,
    (libc::MAP_TYPE | libc::MAP_ANONYMOUS) as u32,
    (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32,
);

const FUTEX_WAIT: u32 = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as u32;
const FUTEX_WAIT_BITSET: u32 = (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG) as u32;

// Memory: a flow, a line of the log and new rules take some, and give it back.

pub(super) const BRK: Call = call!(SYS_brk, "the allocator: small pieces");
pub(super) const MADVISE: Call =
    call!(SYS_madvise, "the allocator: pages that are free for now (musl, arenas of glibc)");
pub(super) const MMAP: Call =
    call!(SYS_mmap, "the allocator: large pieces", NOT_EXECUTABLE, ANONYMOUS);
pub(super) const MPROTECT: Call = call!(
    SYS_mprotect,
    "the allocator: an arena grows (glibc), a page of its own data (musl)",
    NOT_EXECUTABLE
);
pub(super) const MREMAP: Call = call!(
    SYS_mremap,
    "the allocator: a large piece grows",
    Argument::is(3, libc::MREMAP_MAYMOVE as u32)
);
pub(super) const MUNMAP: Call = call!(SYS_munmap, "the allocator: a large piece given back");

// Threads that wait for each other, and locks of the allocator between them.

pub(super) const FUTEX: Call = call!(
    SYS_futex,
    "pasta: waiting for the thread in the namespace, and that for requests",
    Argument::has(1, !1, FUTEX_WAIT); // or FUTEX_WAKE
    Argument::is(1, FUTEX_WAIT_BITSET)
);
pub(super) const SCHED_YIELD: Call =
    call!(SYS_sched_yield, "pasta: a request or an answer that is being written");

// Sockets.

/// `AF_INET` or `AF_INET6`.
const INTERNET: Argument = Argument::has(0, !8, libc::AF_INET as u32);
const STREAM: Argument = Argument::has(1, 0xf, libc::SOCK_STREAM as u32);
const DATAGRAM: Argument = Argument::has(1, 0xf, libc::SOCK_DGRAM as u32);
const TCP: Argument = Argument::is(2, libc::IPPROTO_TCP as u32);
const UDP: Argument = Argument::is(2, libc::IPPROTO_UDP as u32);

pub(super) const SOCKET: Call = call!(
    SYS_socket,
    "connections, datagrams and echo requests of the guest; forwarded ports",
    INTERNET, STREAM, TCP;
    INTERNET, DATAGRAM, UDP;
    Argument::is(0, libc::AF_INET as u32), DATAGRAM, Argument::is(2, libc::IPPROTO_ICMP as u32);
    Argument::is(0, libc::AF_INET6 as u32), DATAGRAM, Argument::is(2, libc::IPPROTO_ICMPV6 as u32)
);
pub(super) const SOCKET_TCP_UDP: Call = call!(
    SYS_socket,
    "sockets of the namespace for forwarded ports",
    INTERNET, STREAM, TCP;
    INTERNET, DATAGRAM, UDP
);
pub(super) const BIND: Call = call!(SYS_bind, "addresses of flows; forwarded ports");
pub(super) const LISTEN: Call = call!(SYS_listen, "forwarded ports that change");
pub(super) const GETSOCKNAME: Call = call!(SYS_getsockname, "where a flow arrived, or leaves from");
pub(super) const GETSOCKOPT: Call =
    call!(SYS_getsockopt, "room and errors of sockets, who is at the other end");
pub(super) const SETSOCKOPT: Call = call!(SYS_setsockopt, "options of sockets, peek offsets");

// Descriptors.

pub(super) const CLOSE: Call = call!(SYS_close, "whatever is over");
pub(super) const WRITE: Call = call!(SYS_write, "lines on standard error; tap, files");
/// The standard library of debug builds asks before it closes a descriptor.
pub(super) const FCNTL: Call = call!(
    SYS_fcntl,
    "answering a datagram from a listening socket; --log-file: rotation",
    Argument::is(1, libc::F_DUPFD_CLOEXEC as u32);
    SET_CLOEXEC, Argument::is(2, libc::FD_CLOEXEC as u32);
    Argument::is(1, libc::F_GETFL as u32);
    Argument::is(1, libc::F_SETFL as u32);
    Argument::is(1, CHECK)
);
/// As [`FCNTL`], and the sizes of pipes.
pub(super) const FCNTL_PIPES: Call = call!(
    SYS_fcntl,
    "answering a datagram from a listening socket; --log-file: rotation; pasta: the size of a pipe",
    Argument::is(1, libc::F_DUPFD_CLOEXEC as u32);
    SET_CLOEXEC, Argument::is(2, libc::FD_CLOEXEC as u32);
    Argument::is(1, libc::F_GETFL as u32);
    Argument::is(1, libc::F_SETFL as u32);
    Argument::is(1, libc::F_SETPIPE_SZ as u32);
    Argument::is(1, libc::F_GETPIPE_SZ as u32);
    Argument::is(1, CHECK)
);
/// What the log needs of it.
pub(super) const FCNTL_LOG: Call = call!(
    SYS_fcntl,
    "--log-file: rotation",
    Argument::is(1, libc::F_GETFL as u32);
    Argument::is(1, libc::F_SETFL as u32);
    Argument::is(1, CHECK)
);
/// musl asks for it once more where it has duplicated a descriptor.
const SET_CLOEXEC: Argument = Argument::is(1, libc::F_SETFD as u32);
#[cfg(debug_assertions)]
pub(super) const FCNTL_CHECK: Call =
    call!(SYS_fcntl, super::OF_DEBUG_BUILDS, Argument::is(1, CHECK));
const CHECK: u32 = (if cfg!(debug_assertions) { libc::F_GETFD } else { libc::F_GETFL }) as u32;

// Others.

pub(super) const CLOCK_GETTIME: Call =
    call!(SYS_clock_gettime, "the time, where the kernel's vDSO does not have it");
pub(super) const PPOLL: Call =
    call!(SYS_ppoll, "whether the other end of a connection sends no more");
pub(super) const EXIT_GROUP: Call = call!(SYS_exit_group, "ending");

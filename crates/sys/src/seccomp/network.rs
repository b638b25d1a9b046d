//! What passt and pasta call while they move packets, one table per kind of thread, in the order of names.
//!
//! Calls without conditions on their arguments are the ones that packets take: the kernel remembers that
//! those always pass, and does not run the filter.

use super::kept::*;
use super::{Argument, Call, call};

/// passt: its only thread, which moves the traffic of a virtual machine.
pub const PASST: &[Call] = &[
    ACCEPT4,
    BIND,
    BRK,
    CLOCK_GETTIME,
    CLOSE,
    CONNECT,
    EPOLL_CTL,
    EPOLL_WAIT,
    EXIT_GROUP,
    FALLOCATE,
    FCNTL,
    FSYNC,
    FTRUNCATE,
    GETSOCKNAME,
    GETSOCKOPT,
    LISTEN,
    LSEEK,
    MADVISE,
    MMAP,
    MPROTECT,
    MREMAP,
    MUNMAP,
    PPOLL,
    READ,
    RECVFROM,
    RECVMSG,
    SENDMSG,
    SENDTO,
    SETSOCKOPT,
    SHUTDOWN,
    SOCKET,
    WRITE,
    WRITEV,
];

/// pasta: the thread that moves the traffic of a namespace.
pub const PASTA: &[Call] = &[
    ACCEPT4,
    BIND,
    BRK,
    CLOCK_GETTIME,
    CLOSE,
    CONNECT,
    EPOLL_CTL,
    EPOLL_WAIT,
    EXIT_GROUP,
    FALLOCATE,
    FCNTL_PIPES,
    FSYNC,
    FTRUNCATE,
    FUTEX,
    GETSOCKNAME,
    GETSOCKOPT,
    IOCTL_TUN,
    LISTEN,
    LSEEK,
    MADVISE,
    MMAP,
    MPROTECT,
    MREMAP,
    MUNMAP,
    OPENAT,
    PIPE2,
    PPOLL,
    READ,
    RECVFROM,
    RECVMSG,
    SCHED_YIELD,
    SENDMSG,
    SENDTO,
    SETSOCKOPT,
    SHUTDOWN,
    SOCKET,
    SPLICE,
    WAITID,
    WRITE,
    WRITEV,
];

/// pasta: the thread that lives in the namespace and makes sockets there. It sees no traffic, but may have
/// something to say.
pub const PASTA_NAMESPACE: &[Call] = &[
    BIND,
    BRK,
    CLOCK_GETTIME,
    CLOSE,
    FALLOCATE,
    FCNTL_LOG,
    FTRUNCATE,
    FUTEX,
    GETSOCKNAME,
    GETSOCKOPT,
    LISTEN,
    LSEEK,
    MADVISE,
    MMAP,
    MPROTECT,
    MREMAP,
    MUNMAP,
    READ,
    SCHED_YIELD,
    SENDTO,
    SETSOCKOPT,
    SOCKET_TCP_UDP,
    WRITE,
];

/// passt in addition, where that has to wait until whoever started it has seen what it looks for.
pub const FORBID_DUMPING: Call = call!(
    SYS_prctl,
    "--fd: forbidding core dumps, later",
    Argument::is(0, libc::PR_SET_DUMPABLE as u32),
    Argument::is(1, 0)
);

const ACCEPT4: Call = call!(
    SYS_accept4,
    "forwarded connections, the configuration socket; passt: a hypervisor that connects"
);
const CONNECT: Call = call!(SYS_connect, "flows of the guest; flows forwarded to a socket");
const EPOLL_CTL: Call = call!(SYS_epoll_ctl, "new descriptors");
/// `epoll_wait(2)` is older, and not everywhere.
const EPOLL_WAIT: Call = call!(SYS_epoll_pwait, "waiting");
const FALLOCATE: Call = call!(SYS_fallocate, "--log-file: rotation");
const FSYNC: Call = call!(SYS_fsync, "--pcap, --log-file: at the end");
const FTRUNCATE: Call = call!(SYS_ftruncate, "--log-file: rotation");
const LSEEK: Call = call!(
    SYS_lseek,
    "--log-file: rotation; pasta: what listens, by /proc/net where there is no sock_diag"
);
#[allow(
    clippy::cast_possible_truncation,
    reason = "requests of ioctl have 32 bits, in types of all kinds"
)]
const IOCTL_TUN: Call = call!(
    SYS_ioctl,
    "pasta: leaving the interface to a namespace that outlives its command",
    Argument::is(1, libc::TUNSETPERSIST as u32)
);
/// It opens nothing: without `O_PATH`, beside which the kernel forgets other flags, an open directory would be a
/// way out of the empty root.
const OPENAT: Call = call!(
    SYS_openat,
    "pasta: whether the path of its namespace is still there",
    Argument::has(2, libc::O_PATH as u32, libc::O_PATH as u32)
);
const PIPE2: Call = call!(SYS_pipe2, "pasta: spliced connections");
const READ: Call = call!(
    SYS_read,
    "signals; --log-file: rotation; pasta: the tap, the watch of a namespace, what listens, by /proc/net"
);
const RECVFROM: Call = call!(
    SYS_recvfrom,
    "bytes of sockets that come without addresses; answers of the kernel (netlink)"
);
const RECVMSG: Call = call!(SYS_recvmsg, "peeking; datagrams and errors; clients");
const SENDMSG: Call = call!(SYS_sendmsg, "bytes and datagrams; passt: frames");
const SENDTO: Call = call!(
    SYS_sendto,
    "questions to the kernel (netlink); lines of the system's log, the service manager"
);
const SHUTDOWN: Call = call!(SYS_shutdown, "the end of one direction of a connection");
const SPLICE: Call = call!(SYS_splice, "pasta: spliced connections");
const WAITID: Call = call!(SYS_waitid, "pasta: how its command ended");
const WRITEV: Call = call!(SYS_writev, "--pcap, --log-file; pasta: the tap");

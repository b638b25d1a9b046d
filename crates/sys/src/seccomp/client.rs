//! What pesto calls, from its start.
//!
//! Nothing that gets memory is among it: what it takes comes before the filter.

use super::kept::{CLOCK_GETTIME, EXIT_GROUP};
use super::{Argument, Call, call};

/// pesto: its only thread.
pub const PESTO: &[Call] = &[
    CLOCK_GETTIME,
    call!(SYS_close, "a connection, once it has served its purpose"),
    call!(SYS_connect, "the configuration socket"),
    EXIT_GROUP,
    #[cfg(debug_assertions)]
    super::kept::FCNTL_CHECK,
    call!(SYS_ppoll, "waiting for the server, and between attempts to connect"),
    call!(SYS_read, "the server's rules"),
    call!(SYS_shutdown, "the end of new rules"),
    call!(
        SYS_socket,
        "the configuration socket",
        Argument::is(0, libc::AF_UNIX as u32),
        Argument::has(1, 0xf, libc::SOCK_STREAM as u32),
        Argument::is(2, 0)
    ),
    call!(SYS_write, "new rules, and what is printed"),
];

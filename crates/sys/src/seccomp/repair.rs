//! What passt-repair calls, once it has looked for its socket and before.
//!
//! Nothing that gets memory is among it: what takes memory comes before the filters.

use super::{Argument, Call, call};

/// From the start until there is a connection: what it takes to find the socket, and to go on to
/// [`SERVING`]. Includes everything in there.
pub const SEARCHING: &[Call] = &[
    call!(SYS_newfstatat, "whether a path is a directory or a socket"),
    call!(SYS_inotify_init1, "watching the directory"),
    call!(SYS_inotify_add_watch, "watching the directory"),
    call!(SYS_read, "waiting for events of the directory"),
    call!(SYS_openat, "looking into the directory", DIRECTORY),
    call!(SYS_getdents64, "looking into the directory"),
    call!(SYS_ppoll, "pausing before the next attempt to connect"),
    call!(SYS_socket, "connecting", Argument::is(0, libc::AF_UNIX as u32)),
    call!(SYS_connect, "connecting"),
    call!(SYS_capset, "giving up what only the search needed"),
    call!(
        SYS_prctl,
        "applying the next filter, which insists on it",
        Argument::is(0, libc::PR_SET_NO_NEW_PRIVS as u32)
    ),
    call!(SYS_seccomp, "applying the next filter", Argument::is(0, libc::SECCOMP_SET_MODE_FILTER)),
    RECEIVE,
    SET,
    CLOSE,
    WRITE,
    EXIT,
    #[cfg(debug_assertions)]
    CHECK,
];

/// With a connection: while messages of somebody else are obeyed.
pub const SERVING: &[Call] = &[
    RECEIVE,
    SET,
    CLOSE,
    WRITE,
    EXIT,
    #[cfg(debug_assertions)]
    CHECK,
];

const RECEIVE: Call = call!(SYS_recvmsg, "receiving commands and sockets");
const SET: Call = call!(
    SYS_setsockopt,
    "setting the repair mode",
    Argument::is(1, libc::IPPROTO_TCP as u32),
    Argument::is(2, libc::TCP_REPAIR as u32)
);
const CLOSE: Call = call!(SYS_close, "closing sockets, and the directory after looking into it");
const WRITE: Call = call!(SYS_write, "answering, and the line on standard error");
const EXIT: Call = call!(SYS_exit_group, "ending");
#[cfg(debug_assertions)]
const CHECK: Call = call!(SYS_fcntl, super::OF_DEBUG_BUILDS, Argument::is(1, libc::F_GETFD as u32));

/// Flags of `openat(2)` that open a directory for reading, and can neither make nor open anything else.
const DIRECTORY: Argument = Argument {
    index: 2,
    mask: (libc::O_DIRECTORY | libc::O_ACCMODE | libc::O_CREAT | libc::O_TMPFILE | libc::O_TRUNC)
        as u32,
    value: libc::O_DIRECTORY as u32,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::Filter;

    #[test]
    fn serving_is_part_of_searching_and_both_are_small() {
        let names = |table: &[Call]| table.iter().map(|call| call.name).collect::<Vec<_>>();
        let searching = names(SEARCHING);
        assert!(names(SERVING).iter().all(|name| searching.contains(name)));
        let checks = usize::from(cfg!(debug_assertions));
        assert_eq!((searching.len(), SERVING.len()), (17 + checks, 5 + checks));
        let mut once = searching.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), searching.len());
        assert!(searching.contains(&"SYS_exit_group") && !searching.contains(&"SYS_mmap"));
    }

    #[test]
    fn tables_become_filters() {
        for table in [SEARCHING, SERVING] {
            Filter::new(table).unwrap();
            assert!(table.iter().all(|call| !call.why.is_empty()));
        }
    }
}

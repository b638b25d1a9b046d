//! Seccomp filters: the system calls that a program can still make, as data.
//!
//! A table names each call, who makes it, and what its arguments have to be where that matters. Everything else
//! ends the process (`SIGSYS`). A filter is made from a table before it is needed, as making it takes memory, and
//! applied later, possibly under an earlier filter: each one only takes away.
//!
//! Filters need an architecture that the library behind this knows. On others there are none, see [`AVAILABLE`].

use std::fmt;

mod client;
pub mod inspect;
mod kept;
mod network;
pub mod repair;

pub use client::PESTO;
pub use network::{FORBID_DUMPING, PASST, PASTA, PASTA_NAMESPACE};

#[cfg(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
mod filter;
#[cfg(not(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
#[path = "seccomp/nothing.rs"]
mod filter;

pub(crate) use filter::call;
pub use filter::{AVAILABLE, Call, Filter};

/// Why a call is in the tables of debug builds, and of those alone.
pub const OF_DEBUG_BUILDS: &str =
    "the standard library of debug builds, before it closes a descriptor";

/// What an argument of a call has to be: these of its low 32 bits, the width of the ints and flags in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Which one, from zero.
    pub index: u8,
    /// The bits that count.
    pub mask: u32,
    /// Their value.
    pub value: u32,
}

impl Argument {
    /// Any argument whose bits `mask` are those of `value`.
    #[must_use]
    pub const fn has(index: u8, mask: u32, value: u32) -> Self {
        Self { index, mask, value }
    }

    /// An argument that is the number `value`.
    #[must_use]
    pub const fn is(index: u8, value: u32) -> Self {
        Self { index, mask: u32::MAX, value }
    }
}

impl fmt::Display for Filter {
    /// As a layer of a sandbox, for people: `seccomp (33 calls)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if AVAILABLE {
            write!(f, "seccomp ({} calls)", self.calls())
        } else {
            f.write_str("system calls are not filtered on this architecture")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread, its table, and how many calls the C implementation's filter has for it.
    const TABLES: [(&str, &[Call], usize); 4] = [
        ("passt", PASST, 34),
        ("pasta", PASTA, 43),
        ("pasta in the namespace", PASTA_NAMESPACE, 43),
        ("pesto", PESTO, 9),
    ];

    #[test]
    fn tables_are_sorted_reasoned_and_small() {
        for (thread, table, limit) in TABLES {
            let names: Vec<_> = table.iter().map(|call| call.name).collect();
            // Each once, in the order of names.
            assert!(names.is_sorted_by(|a, b| a < b), "{thread}: {names:?}");
            assert!(table.iter().all(|call| !call.why.is_empty()));
            // The standard library of debug builds looks at descriptors before it closes them.
            let checks = usize::from(cfg!(debug_assertions));
            // passt may still have to forbid one thing.
            let later = usize::from(thread == "passt");
            assert!(names.len() + later <= limit + checks, "{thread}: {}", names.len());
            Filter::new(table).unwrap();
        }
        let namespace = PASTA_NAMESPACE.len();
        assert!(namespace + 10 < PASTA.len(), "a thread without traffic has {namespace}");
    }

    #[test]
    fn nobody_makes_programs_or_leaves() {
        let never = [
            "clone",
            "clone3",
            "execve",
            "execveat",
            "fork",
            "ioperm",
            "kill",
            "mount",
            "open",
            "openat2",
            "pidfd_getfd",
            "process_vm_writev",
            "prctl",
            "ptrace",
            "seccomp",
            "setns",
            "tgkill",
            "unshare",
            "userfaultfd",
            "io_uring_setup",
            "bpf",
            "keyctl",
        ];
        for (thread, table, _) in TABLES {
            for name in never {
                let name = format!("SYS_{name}");
                assert!(table.iter().all(|call| call.name != name), "{thread}: {name}");
            }
            // What takes descriptors, memory and requests is not for everything there is.
            for name in [
                "SYS_fcntl",
                "SYS_ioctl",
                "SYS_futex",
                "SYS_mmap",
                "SYS_mprotect",
                "SYS_openat",
                "SYS_socket",
            ] {
                let call = table.iter().find(|call| call.name == name);
                assert!(call.is_none_or(|call| !call.arguments.is_empty()), "{thread}: {name}");
            }
        }
    }

    /// In a copy of this process, which does not survive it.
    #[test]
    fn other_calls_end_the_process() {
        use std::os::unix::process::ExitStatusExt as _;

        use crate::socket::{Kind, Unbound};

        /// What the copy does with its filter.
        const ATTEMPT: &str = "SYS_SECCOMP_ATTEMPT";
        type Attempt = (&'static str, fn() -> bool);
        let attempts: [Attempt; 4] = [
            ("allowed", || {
                let socket = Unbound::new(Kind::Udp, false);
                socket.is_ok() && vec![1_u8; 1 << 22].iter().all(|byte| *byte == 1)
            }),
            ("another family", || std::os::unix::net::UnixDatagram::unbound().is_ok()),
            ("a file", || std::fs::File::open("/dev/null").is_ok()),
            ("a thread", || std::thread::spawn(|| ()).join().is_ok()),
        ];
        if let Ok(wanted) = std::env::var(ATTEMPT) {
            let (_, attempt) = attempts.iter().find(|(name, _)| *name == wanted).unwrap();
            Filter::new(PASST).unwrap().apply().unwrap();
            crate::process::exit_now(if attempt() { 42 } else { 43 });
        }
        for (name, _) in attempts {
            let test = "seccomp::tests::other_calls_end_the_process";
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env(ATTEMPT, name)
                .output()
                .unwrap();
            if name == "allowed" {
                assert_eq!(output.status.code(), Some(42), "{name}");
            } else if AVAILABLE {
                assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}: {output:?}");
            }
        }
    }

    #[test]
    fn layers_are_shown() {
        let text = Filter::new(PASST.iter().chain([&FORBID_DUMPING])).unwrap().to_string();
        assert_eq!(text, format!("seccomp ({} calls)", PASST.len() + 1));
    }
}

//! Safe names for system calls.

pub mod clock;
pub mod cpu;
pub mod daemon;
pub mod datagrams;
pub mod diag;
pub mod epoll;
mod error;
pub mod fd;
pub mod file;
pub mod landlock;
pub mod netlink;
pub mod netns;
pub mod pipe;
pub mod privileges;
pub mod probe;
pub mod process;
pub mod rights;
pub mod sandbox;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod tun;
pub mod unix;
pub mod watch;

pub use error::{Reason, reason};

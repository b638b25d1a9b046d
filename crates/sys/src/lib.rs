//! Safe names for system calls.

pub mod clock;
pub mod daemon;
pub mod diag;
pub mod epoll;
mod error;
pub mod fd;
pub mod netlink;
pub mod netns;
pub mod pipe;
pub mod privileges;
pub mod process;
pub mod signal;
pub mod socket;
pub mod tun;
pub mod unix;

pub use error::reason;

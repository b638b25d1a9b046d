//! Safe names for system calls.

pub mod clock;
pub mod daemon;
pub mod epoll;
pub mod fd;
pub mod netlink;
pub mod netns;
pub mod privileges;
pub mod process;
pub mod signal;
pub mod socket;
pub mod tun;

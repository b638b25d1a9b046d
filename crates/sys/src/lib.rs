//! Safe names for system calls.

pub mod netlink;
pub mod daemon;
pub mod fd;
pub mod netns;
pub mod privileges;
pub mod process;
pub mod clock;
pub mod epoll;
pub mod signal;
pub mod socket;
pub mod tun;

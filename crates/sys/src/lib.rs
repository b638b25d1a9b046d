//! Safe names for system calls.

pub mod daemon;
pub mod fd;
pub mod netlink;
pub mod netns;
pub mod privileges;
pub mod process;

//! Moves bytes between the kernel and the guest as the stack says.
//!
//! A [`Worker`] owns one epoll instance, the guest's link, the host's sockets (by way of the flows that
//! use them) and a [`stack::Stack`]. Its loop reads the clock once per wake-up, hands every event to the
//! stack, and sleeps until the stack's next deadline. There is no other thread on a packet's way, no
//! lock, and no allocation per packet.
#![forbid(unsafe_code)]

mod counters;
pub mod guest;
pub mod host;
mod neighbours;
mod worker;

pub use counters::{EVENT_KINDS, Report, StatsReport};
pub use guest::TapLink;
pub use host::{HostOptions, KernelHost};
pub use neighbours::Neighbours;
pub use worker::{ExitReason, Parts, Worker};

//! Moves bytes between the kernel and the guest as the stack says.
//!
//! A [`Worker`] owns one epoll instance, the guest's link, the host's sockets (by way of the flows that
//! use them) and a [`stack::Stack`]. Its loop reads the clock once per wake-up, hands every event to the
//! stack, and sleeps until the stack's next deadline. There is no other thread on a packet's way, no
//! lock, and no allocation per packet.
#![forbid(unsafe_code)]

mod configuration;
mod counters;
mod forward;
pub mod guest;
pub mod host;
mod later;
mod listen;
mod namespace;
mod neighbours;
mod splice;
mod token;
mod worker;

pub use counters::{EVENT_KINDS, Report, StatsReport};
pub use forward::{Forwarding, Served};
pub use guest::{Attachment, GuestLink, Hypervisor, TapLink};
pub use host::{HostOptions, KernelHost};
pub use later::Later;
pub use listen::{ListenError, Listener, Opening, Place, Source, open_table};
pub use namespace::Namespace;
pub use neighbours::Neighbours;
pub use worker::{ExitReason, Parts, Worker};

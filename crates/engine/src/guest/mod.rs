//! Links to the guest.

mod link;
mod pcap;
pub mod stream;
mod trace;
mod tun;

pub use link::{Attachment, GuestLink};
pub use pcap::Capture;
pub use stream::{Hypervisor, StreamLink};
pub use tun::{FrameIn, TapLink};

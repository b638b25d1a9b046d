//! Links to the guest.

mod link;
mod pcap;
mod tun;

pub use link::GuestLink;
pub use pcap::Capture;
pub use tun::{FrameIn, TapLink};

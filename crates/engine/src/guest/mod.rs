//! Links to the guest.

mod pcap;
mod tun;

pub use pcap::Capture;
pub use tun::{FrameIn, TapLink};

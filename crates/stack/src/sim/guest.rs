//! What is asked of a guest.

use std::net::SocketAddr;

use super::app::{App, AppPlan};
use super::packet::Frame;
use crate::time::Instant;

/// Frames that a guest sends, and buffers for them.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Frames to be sent, in this order.
    pub frames: Vec<Frame>,
    /// Empty buffers.
    pub spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// An empty buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }
}

/// One connection of a guest.
#[derive(Clone, Copy, Debug)]
pub struct GuestFlow {
    /// Number of the flow: which bytes it carries.
    pub n: u64,
    /// The guest's end.
    pub local: SocketAddr,
    /// The other end, as the guest sees it.
    pub peer: SocketAddr,
    /// What the guest's program does.
    pub app: AppPlan,
    /// The guest connects; otherwise it waits for a connection.
    pub active: bool,
}

/// A TCP/IP stack that plays the guest.
pub trait GuestStack: std::fmt::Debug {
    /// Opens a connection, or waits for one.
    fn open(&mut self, flow: GuestFlow, now: Instant);

    /// Takes a frame from the link.
    fn receive(&mut self, frame: &Frame, now: Instant, out: &mut Outbox);

    /// Carries out what is due; when to be called again.
    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant>;

    /// The program of flow `n`, if that was opened.
    fn app(&self, n: u64) -> Option<&App>;

    /// The first thing found wrong.
    fn wrong(&self) -> Option<&str>;

    /// Segments that arrived and found no room.
    fn dropped(&self) -> u64;

    /// Retransmission timeouts.
    fn timeouts(&self) -> u64;
}

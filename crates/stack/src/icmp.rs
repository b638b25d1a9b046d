//! ICMP: echo requests through ping sockets, and errors both ways.

mod error;
mod ping;
mod unreachable;

pub use error::{IcmpError, send_error};
pub(crate) use ping::Pings;
pub(crate) use unreachable::udp_flow;

#[cfg(test)]
mod tests;

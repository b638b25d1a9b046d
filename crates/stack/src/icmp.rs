//! ICMP: echo requests through ping sockets, and errors towards the guest.

mod error;
mod ping;

pub use error::{IcmpError, send_error};
pub(crate) use ping::Pings;

#[cfg(test)]
mod tests;

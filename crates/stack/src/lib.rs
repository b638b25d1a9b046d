//! Decisions: who the guest sees as what, and what becomes of each packet and each byte.
//!
//! The stack does no I/O and reads no clock: it calls down through the traits of [`io`], and time is
//! an argument. [`Stack`] is the whole of it; its methods are the events of a network: a frame from the
//! guest, readiness of a host socket, a deadline.
#![forbid(unsafe_code)]

pub mod config;
pub mod cx;
pub mod flow;
pub mod frame;
pub mod io;
pub mod stats;
pub mod time;

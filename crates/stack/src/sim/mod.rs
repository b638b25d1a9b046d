//! The simulation: everything around the stack, in memory and under a virtual clock.
//!
//! A [`World`] holds a guest ([`smol`], a TCP somebody else wrote; [`linux`], one that does what matters of
//! Linux's), a [`link`] that loses, reorders, duplicates and delays, the [`crate::Stack`], and a
//! [`host`] whose [`socket`]s behave as Linux's do, with programs behind them. [`scenario`] makes such a
//! world from a seed, lets it run, and says what went wrong; [`watch`] looks at every frame for it.
//!
//! A model may be told to misbehave ([`fault`]): the suite has to notice.
#![expect(
    clippy::cast_possible_truncation,
    reason = "models: sizes stay far below 4 GiB, and sequence numbers wrap on purpose"
)]

pub mod app;
pub mod capture;
pub mod cut;
pub mod fault;
mod good_frames;
pub mod guest;
pub mod host;
pub mod link;
pub mod linux;
pub mod packet;
pub mod pattern;
pub mod pipe;
pub mod ranges;
pub mod rng;
pub mod scenario;
pub mod schedule;
pub mod seeds;
pub mod smol;
pub mod socket;
pub mod steady;
pub mod storm;
pub mod watch;
pub mod world;

pub use scenario::Scenario;
pub use storm::frame_entry;
pub use world::World;

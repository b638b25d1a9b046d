//! Private network namespaces, processes and peers for tests.
//!
//! A test that needs a network calls [`in_rig`]. The calling process starts itself again, for
//! that one test, as the *host* of a [`Rig`]: a mount, PID and network namespace of its own. The
//! test's body runs there, starts programs as [`Proc`]s, and everything it started or configured
//! dies with the namespaces, however the test ends. No packet can leave.
//!
//! The network of a rig:
//!
//! ```text
//!  host                       outside (forwards)                  far
//!  eth0 203.0.113.2/24 ────── 203.0.113.1 (gateway), .10, .53     198.18.0.1
//!       2001:db8:51::2/64     2001:db8:51::1, ::10, ::53, fe80::1  2001:db8:99::1
//! ```
//!
//! pasta maps the gateway's address to the host by default, hence the second address, `.10`, as
//! the usual peer, and `.53` for the name server.
//!
//! [`guest`] adds virtual machines. [`peer`] is the helper program: echo, sink and source servers and the clients that go with
//! them, for every place that a test wants to talk from or to.

#![forbid(unsafe_code)]

mod apt;
pub mod debian;
pub mod debootstrap;
pub mod guest;
mod pasta;
pub mod peer;
mod proc;
mod rig;
mod wait;

pub use pasta::{Holder, Pasta, PastaBuilder, STATIC_BIN};
pub use proc::{Outcome, Proc};
pub use rig::{Family, Place, Rig, RigError, User, enclosed, in_rig, skip};
pub use wait::{until, wait_for};

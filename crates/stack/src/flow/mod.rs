//! Flows: who talks to whom, found by tuple or by number, and when to look at them next.

mod hash;
mod slab;
mod table;
mod timer;

pub use hash::{FlowKey, Secret};
pub use slab::{Slab, Slot};
pub use table::{FlowId, FlowKind, FlowTable};
pub use timer::{Timer, TimerWheel};

//! Flows: who talks to whom, found by tuple or by number, and when to look at them next.

mod hash;
mod table;
mod timer;

pub use hash::{FlowKey, Secret};
pub use table::{FlowId, FlowKind, FlowTable};
pub use timer::{Timer, TimerWheel};

//! Seccomp filters: the system calls that a program can still make, as data.
//!
//! A table names each call, who makes it, and what its arguments have to be where that matters. Everything else
//! ends the process (`SIGSYS`). A filter is made from a table before it is needed, as making it takes memory, and
//! applied later, possibly under an earlier filter: each one only takes away.
//!
//! Filters need an architecture that the library behind this knows. On others there are none, see [`AVAILABLE`].

use std::fmt;

mod client;
mod kept;
mod network;
pub mod repair;

pub use client::PESTO;
pub use network::{PASST, PASTA, PASTA_NAMESPACE};

#[cfg(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
mod filter;
#[cfg(not(all(
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
#[path = "seccomp/nothing.rs"]
mod filter;

pub(crate) use filter::call;
pub use filter::{AVAILABLE, Call, Filter};

/// What an argument of a call has to be: these of its low 32 bits, the width of the ints and flags in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Which one, from zero.
    pub index: u8,
    /// The bits that count.
    pub mask: u32,
    /// Their value.
    pub value: u32,
}

impl Argument {
    /// Any argument whose bits `mask` are those of `value`.
    #[must_use]
    pub const fn has(index: u8, mask: u32, value: u32) -> Self {
        Self { index, mask, value }
    }

    /// An argument that is the number `value`.
    #[must_use]
    pub const fn is(index: u8, value: u32) -> Self {
        Self { index, mask: u32::MAX, value }
    }
}

/// A table as a layer of a sandbox, for people: `seccomp (33 calls)`.
#[derive(Clone, Copy, Debug)]
pub struct Layer(pub &'static [Call]);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if AVAILABLE {
            write!(f, "seccomp ({} calls)", self.0.len())
        } else {
            f.write_str("system calls are not filtered on this architecture")
        }
    }
}

//! Seccomp filters: the system calls that a program can still make, as data.
//!
//! A table names each call, who makes it, and what its arguments have to be where that matters. Everything else
//! ends the process (`SIGSYS`). A filter is made from a table before it is needed, as making it takes memory, and
//! applied later, possibly under an earlier filter: each one only takes away.
//!
//! Filters need an architecture that the library behind this knows. On others there are none, see [`AVAILABLE`].

pub mod repair;

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
    /// An argument that is the number `value`.
    #[must_use]
    pub const fn is(index: u8, value: u32) -> Self {
        Self { index, mask: u32::MAX, value }
    }
}

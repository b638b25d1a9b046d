//! Filters where there are none: nothing is kept from being called.

use std::io;

use super::Argument;

/// Whether filters filter on this architecture.
pub const AVAILABLE: bool = false;

/// A system call that stays possible.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The name of its number in the libc crate, which begins with SYS_.
    pub name: &'static str,
    /// Who makes it, and what for.
    pub why: &'static str,
    /// What its arguments have to be: all of one of these lists. Without a list, anything.
    pub arguments: &'static [&'static [Argument]],
}

/// A line of a table. The number is left out: the libc crate need not have it here.
macro_rules! call {
    ($number:ident, $why:expr $(, $first:expr $(, $argument:expr)* $(; $or:expr $(, $and:expr)*)*)?) => {
        $crate::seccomp::Call {
            name: stringify!($number),
            why: $why,
            arguments: &[$(&[$first $(, $argument)*] $(, &[$or $(, $and)*])*)?],
        }
    };
}
pub(crate) use call;

/// Nothing.
#[derive(Clone, Debug)]
pub struct Filter(());

impl Filter {
    /// Makes nothing.
    ///
    /// # Errors
    /// None.
    pub fn new<'t>(_table: impl IntoIterator<Item = &'t Call>) -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Unknown.
    pub(super) fn calls(&self) -> usize {
        0
    }

    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub fn apply(&self) -> io::Result<()> {
        Ok(())
    }
}

//! Filters where there are some.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Argument;

/// Whether filters filter on this architecture.
pub const AVAILABLE: bool = true;

/// A system call that stays possible.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The name of its number in the libc crate, which begins with SYS_.
    pub name: &'static str,
    /// Its number.
    pub number: i64,
    /// Who makes it, and what for.
    pub why: &'static str,
    /// What its arguments have to be: all of one of these lists. Without a list, anything.
    pub arguments: &'static [&'static [Argument]],
}

/// A line of a table: number in the libc crate, who makes the call, and what its arguments have to be, with
/// semicolons between alternatives.
macro_rules! call {
    ($number:ident, $why:expr $(, $first:expr $(, $argument:expr)* $(; $or:expr $(, $and:expr)*)*)?) => {
        $crate::seccomp::Call {
            name: stringify!($number),
            number: libc::$number,
            why: $why,
            arguments: &[$(&[$first $(, $argument)*] $(, &[$or $(, $and)*])*)?],
        }
    };
}
pub(crate) use call;

/// A filter that can be applied.
#[derive(Clone, Debug)]
pub struct Filter {
    program: BpfProgram,
    calls: usize,
}

impl Filter {
    /// Makes one from a table.
    ///
    /// # Errors
    /// If the kernel has no filters that end a process, or the table is too long.
    pub fn new<'t>(table: impl IntoIterator<Item = &'t Call>) -> io::Result<Self> {
        // Errors have a backtrace where RUST_BACKTRACE asks for it, and the first one makes calls (`futex`) that
        // those after it do not.
        drop(Backtrace::capture());
        let action = libc::SECCOMP_RET_KILL_PROCESS;
        // SAFETY: the kernel reads an action of 32 bits, which outlives the call, and changes nothing.
        let known = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
        };
        if known == -1 {
            return Err(io::Error::last_os_error());
        }
        Self::compile(table).map_err(io::Error::other)
    }

    fn compile<'t>(table: impl IntoIterator<Item = &'t Call>) -> Result<Self, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in table {
            // No rule at all lets every call of this number pass.
            let of_this_number = rules.entry(call.number).or_default();
            for alternative in call.arguments {
                let conditions = alternative.iter().map(condition).collect::<Result<_, _>>()?;
                of_this_number.push(SeccompRule::new(conditions)?);
            }
        }
        let architecture = std::env::consts::ARCH.try_into()?;
        let (others, these) = (SeccompAction::KillProcess, SeccompAction::Allow);
        let calls = rules.len();
        let program = SeccompFilter::new(rules, others, these, architecture)?.try_into()?;
        Ok(Self { program, calls })
    }

    /// How many calls pass it.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Applies it to the calling thread, which can never gain privileges by `execve(2)` from then on. Allocates
    /// nothing. The calls that do it are `prctl` and `seccomp`.
    ///
    /// # Errors
    /// Those of `seccomp(2)`.
    pub fn apply(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.program).map_err(|error| match error {
            Error::Prctl(error) | Error::Seccomp(error) => error,
            other @ (Error::Backend(_) | Error::EmptyFilter | Error::ThreadSync(_)) => {
                io::Error::other(other)
            }
        })
    }
}

fn condition(argument: &Argument) -> Result<SeccompCondition, BackendError> {
    let Argument { index, mask, value } = *argument;
    let operator = SeccompCmpOp::MaskedEq(mask.into());
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
}

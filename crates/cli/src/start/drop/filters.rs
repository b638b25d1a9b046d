//! The system calls that are left, for each thread its own.

use std::io;

use sys::seccomp::{self, Filter};

use crate::said::Mode;

/// The filters of all threads, made where a failure is still told to whoever started us.
#[derive(Debug)]
pub(super) struct Filters {
    /// That of the thread that moves packets.
    pub(super) worker: Filter,
    /// That of the thread that lives in the guest's namespace.
    pub(super) namespace: Filter,
}

impl Filters {
    /// Makes them. `looked_at` is whether something has to be forbidden later.
    ///
    /// # Errors
    /// If the kernel has no such filters.
    pub(super) fn new(mode: Mode, looked_at: bool) -> io::Result<Self> {
        let worker = match mode {
            Mode::Passt => seccomp::PASST,
            Mode::Pasta => seccomp::PASTA,
        };
        let later = looked_at.then_some(&seccomp::FORBID_DUMPING);
        Ok(Self {
            worker: Filter::new(worker.iter().chain(later))?,
            namespace: Filter::new(seccomp::PASTA_NAMESPACE)?,
        })
    }
}

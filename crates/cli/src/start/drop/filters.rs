//! The system calls that are left, for each thread its own.

use std::io;

use sys::seccomp::{self, Call, Filter, Layer};

use crate::said::Mode;

/// The filters of all threads, made where a failure is still told to whoever started us.
#[derive(Debug)]
pub(super) struct Filters {
    mode: Mode,
    /// That of the thread that moves packets.
    pub(super) worker: Filter,
    /// That of the thread that lives in the guest's namespace.
    pub(super) namespace: Filter,
}

/// What the thread that moves packets calls.
fn worker(mode: Mode) -> &'static [Call] {
    match mode {
        Mode::Passt => seccomp::PASST,
        Mode::Pasta => seccomp::PASTA,
    }
}

impl Filters {
    /// Makes them.
    ///
    /// # Errors
    /// If the kernel has no such filters.
    pub(super) fn new(mode: Mode) -> io::Result<Self> {
        Ok(Self {
            mode,
            worker: Filter::new(worker(mode))?,
            namespace: Filter::new(seccomp::PASTA_NAMESPACE)?,
        })
    }

    /// What the thread that moves packets is left with, for people.
    pub(super) fn layer(&self) -> Layer {
        Layer(worker(self.mode))
    }
}

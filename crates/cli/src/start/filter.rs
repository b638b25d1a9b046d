//! The last stage on the way down: the system calls that are left, for each thread its own.

use std::io;

use sys::seccomp::{self, Call, Filter, Layer};

use crate::said::Mode;

/// The filters of all threads, made where a failure is still told to whoever started us.
#[derive(Debug)]
pub(super) struct Filters {
    mode: Mode,
    worker: Filter,
    namespace: Filter,
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

    /// The one for the thread that lives in the guest's namespace.
    pub(super) fn for_namespace(&self) -> Filter {
        self.namespace.clone()
    }

    /// Puts the one for the thread that moves packets into effect. Everything it needs has been made.
    ///
    /// # Errors
    /// Those of `seccomp(2)`.
    pub(super) fn apply(&self) -> io::Result<()> {
        self.worker.apply()
    }

    /// What it is, for people.
    pub(super) fn layer(&self) -> Layer {
        Layer(worker(self.mode))
    }
}

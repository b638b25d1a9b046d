//! What the program gives up, and when. The order is data: each stage may need what a later one takes
//! away.

use std::io;

use sys::privileges::{self, Kept};
use sys::seccomp::{self, Filter};

use super::failure::{Failure, tell};

/// One step on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No capability may come back by executing a program. Needs one itself.
    Bounding,
    /// No core dumps and no debuggers.
    Dumping,
    /// No program we might execute gives back anything.
    NewPrivileges,
    /// No capability but that for repair mode, and, as root, those that lead to sockets of others: they may
    /// belong to another user.
    Capabilities,
    /// No system call but those for finding the socket, and those further down.
    Searching,
    /// No capability but that for repair mode.
    OnlyRepair,
    /// No system call but those that commands need.
    Serving,
}

/// Before anything is looked at, the arguments included.
pub(super) const AT_THE_START: [Stage; 5] =
    [Stage::Bounding, Stage::Dumping, Stage::NewPrivileges, Stage::Capabilities, Stage::Searching];

/// With a connection, before the first message.
pub(super) const WHEN_CONNECTED: [Stage; 2] = [Stage::OnlyRepair, Stage::Serving];

impl Stage {
    /// What failed, for the message.
    pub(super) fn failure(self) -> &'static str {
        match self {
            Self::Bounding => "Couldn't empty bounding set",
            Self::Dumping => "Couldn't forbid core dumps",
            Self::NewPrivileges => "Couldn't forbid new privileges",
            Self::Capabilities | Self::OnlyRepair => "Couldn't drop capabilities",
            Self::Searching | Self::Serving => "Couldn't filter system calls",
        }
    }
}

/// Everything that the stages need, made while memory can be had.
#[derive(Debug)]
pub(super) struct Sandbox {
    searching: Kept,
    serving: Kept,
    search: Filter,
    serve: Filter,
}

impl Sandbox {
    pub(super) fn new() -> io::Result<Self> {
        let serving = Kept::for_repair()?;
        Ok(Self {
            searching: serving.with_files()?,
            serving,
            search: Filter::new(seccomp::repair::SEARCHING)?,
            serve: Filter::new(seccomp::repair::SERVING)?,
        })
    }

    /// Goes through the stages at the start.
    pub(super) fn enter(&self) -> Result<(), Failure<'static>> {
        if !seccomp::AVAILABLE {
            tell("System calls are not filtered on this architecture");
        }
        self.through(&AT_THE_START)
    }

    /// Goes through the stages with a connection.
    pub(super) fn narrow(&self) -> Result<(), Failure<'static>> {
        self.through(&WHEN_CONNECTED)
    }

    fn through(&self, stages: &[Stage]) -> Result<(), Failure<'static>> {
        stages.iter().try_for_each(|stage| {
            self.take(*stage).map_err(|error| Failure::Sandbox(*stage, error))
        })
    }

    fn take(&self, stage: Stage) -> io::Result<()> {
        match stage {
            Stage::Bounding => privileges::empty_bounding_set().map(drop),
            Stage::Dumping => privileges::forbid_dumping(),
            Stage::NewPrivileges => privileges::forbid_new_privileges(),
            Stage::Capabilities => self.searching.keep(),
            Stage::Searching => self.search.apply(),
            Stage::OnlyRepair => self.serving.keep_further(),
            Stage::Serving => self.serve.apply(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_what_it_needs() {
        let stages = [&AT_THE_START[..], &WHEN_CONNECTED[..]].concat();
        let place = |stage| stages.iter().position(|other| *other == stage).unwrap();
        // Changing the bounding set takes a capability; a filter without one, no_new_privs.
        assert!(place(Stage::Bounding) < place(Stage::Capabilities));
        assert!(place(Stage::NewPrivileges) < place(Stage::Searching));
        // The first filter forbids all of these, the second one everything.
        for stage in [Stage::Bounding, Stage::Dumping, Stage::NewPrivileges, Stage::Capabilities] {
            assert!(place(stage) < place(Stage::Searching));
        }
        assert!(place(Stage::Searching) < place(Stage::OnlyRepair));
        assert_eq!(stages.last(), Some(&Stage::Serving));
    }
}

//! Giving up what is not needed to move packets. The order is data: each stage may need what a
//! later one takes away.

mod filters;
mod layers;

use std::io;
use std::time::Duration;

use engine::Later;
use sys::privileges::{self, Identity};
use sys::sandbox::{self, Root, RootError};

use sys::seccomp::Filter;

use self::filters::Filters;
pub use self::layers::Layers;
use crate::said::Mode;

/// When a stage is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once everything is opened, by the process that was started.
    BeforeFork,
    /// By the process that stays, while it has one thread: all others will share what becomes of it.
    Alone,
    /// By each thread for itself.
    EachThread,
    /// By each thread for itself, when it has made everything it needs.
    Last,
}

/// One step on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Change to the user and group we run as. Needs capabilities to set ids and groups.
    Identity,
    /// A user namespace of our own, in which that user is all there is: nothing of the host's belongs to it.
    /// It comes with all capabilities over itself, and with full bounding sets.
    UserNamespace,
    /// In the background, a PID namespace of our own: other processes are out of reach. It begins with the fork.
    PidNamespace,
    /// Mount, IPC and UTS namespaces of our own.
    Namespaces,
    /// A root directory with nothing in it.
    EmptyRoot,
    /// No capability may come back by executing a program. Needs one itself.
    Bounding,
    /// No core files and no debuggers: our memory has the guest's traffic in it. Changing ids may
    /// reset this, so it comes after.
    Dumping,
    /// No program we might execute gives back anything.
    NewPrivileges,
    /// No capabilities in our user namespace, nor a way to get them.
    Capabilities,
    /// No file can be opened, not even through an open directory, if the kernel has Landlock.
    Landlock,
    /// No system calls but those that moving packets takes.
    SystemCalls,
}

/// All stages of pasta, from first to last. It uses privileges over the guest's namespaces up to the moment when the
/// thread that lives there has entered, and changes the user only then.
pub const PASTA: &[(When, Stage)] = &[
    (When::BeforeFork, Stage::PidNamespace),
    (When::Alone, Stage::Namespaces),
    (When::Alone, Stage::EmptyRoot),
    (When::EachThread, Stage::Bounding),
    (When::EachThread, Stage::Identity),
    (When::EachThread, Stage::Dumping),
    (When::EachThread, Stage::NewPrivileges),
    (When::EachThread, Stage::Capabilities),
    (When::EachThread, Stage::Landlock),
    (When::Last, Stage::SystemCalls),
];

/// All stages of passt, which needs no privilege over anybody's namespaces.
pub const PASST: &[(When, Stage)] = &[
    (When::BeforeFork, Stage::Identity),
    (When::BeforeFork, Stage::UserNamespace),
    (When::BeforeFork, Stage::PidNamespace),
    (When::Alone, Stage::Namespaces),
    (When::Alone, Stage::EmptyRoot),
    (When::EachThread, Stage::Bounding),
    (When::EachThread, Stage::Dumping),
    (When::EachThread, Stage::NewPrivileges),
    (When::EachThread, Stage::Capabilities),
    (When::EachThread, Stage::Landlock),
    (When::Last, Stage::SystemCalls),
];

impl Stage {
    /// What failed, for the message.
    #[must_use]
    fn failure(self) -> &'static str {
        match self {
            Self::Identity => "Couldn't change user",
            Self::UserNamespace => "Couldn't create user namespace",
            Self::PidNamespace => "Couldn't create PID namespace",
            Self::Namespaces => "Couldn't create mount, IPC and UTS namespaces",
            Self::EmptyRoot => "Couldn't empty root directory",
            Self::Bounding => "Couldn't empty bounding set",
            Self::Dumping => "Couldn't forbid core dumps",
            Self::NewPrivileges => "Couldn't forbid new privileges",
            Self::Capabilities => "Couldn't drop capabilities",
            Self::Landlock => "Couldn't restrict access to files",
            Self::SystemCalls => "Couldn't filter system calls",
        }
    }

    /// Whether a failure is that of what others know as the sandbox.
    fn is_of_sandbox(self) -> bool {
        matches!(self, Self::PidNamespace | Self::Namespaces | Self::EmptyRoot)
    }
}

/// Why a stage could not be taken.
#[derive(Debug)]
pub struct Failure {
    stage: Stage,
    what: &'static str,
    error: io::Error,
    remedy: Option<&'static str>,
}

impl std::fmt::Display for Failure {
    /// The cause, then what others look for, then perhaps what to do.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, sys::reason(&self.error))?;
        if self.stage.is_of_sandbox() {
            f.write_str("\nFailed to sandbox process, exiting")?;
        }
        self.remedy.map_or(Ok(()), |remedy| write!(f, "\n{remedy}"))
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn new(stage: Stage, error: io::Error) -> Self {
        Self { stage, what: stage.failure(), error, remedy: None }
    }

    fn of_root(RootError { what, error, could_be_changed }: RootError) -> Self {
        let remedy = could_be_changed.then_some(
            "Where the root directory cannot be exchanged, as in an initramfs or a chroot, \
             --chroot-fallback allows less",
        );
        Self { stage: Stage::EmptyRoot, what, error, remedy }
    }
}

/// How this process goes down.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which stages there are.
    pub mode: Mode,
    /// Whom to change to, if anybody.
    pub identity: Option<Identity>,
    /// We have left our user namespace for the guest's.
    pub moved: bool,
    /// There will be a fork.
    pub background: bool,
    /// `chroot(2)` will do where `pivot_root(2)` cannot be had.
    pub chroot_fallback: bool,
    /// Whoever started us may look for our user namespace for a while.
    pub looked_at: bool,
}

/// The way down.
#[derive(Debug)]
pub struct Sandbox {
    plan: Plan,
    filters: Filters,
    layers: Layers,
}

/// Gives up what no start needs. Before anything is looked at, the arguments included.
///
/// # Errors
/// Those of the system calls.
pub fn at_the_start() -> io::Result<()> {
    privileges::keep_what_a_start_needs()
}

impl Sandbox {
    /// Nothing is given up yet, but prepared.
    ///
    /// # Errors
    /// If something cannot be had that takes no privilege.
    pub fn new(plan: Plan) -> Result<Self, Failure> {
        let filters = Filters::new(plan.mode, plan.looked_at)
            .map_err(|error| Failure::new(Stage::SystemCalls, error))?;
        let mut layers = Layers::default();
        if plan.moved {
            layers.other("user namespace of the guest");
        }
        Ok(Self { plan, filters, layers })
    }

    /// Takes all stages whose time has come.
    ///
    /// # Errors
    /// The first one that could not be taken.
    pub fn take(&mut self, when: When) -> Result<(), Failure> {
        let Self { plan, filters, layers } = self;
        plan.stages(when).try_for_each(|stage| plan.take(stage, &filters.worker, layers))?;
        if when == When::EachThread {
            // Those that tell about it have lost standard error when it comes.
            layers.other(filters.worker.to_string());
        }
        Ok(())
    }

    /// What is left of [`Stage::Dumping`] for a second later, if anything; it is `prctl(2)`.
    ///
    /// A monitor that starts us for a connection of its own (muvm, with its strict policy) looks for
    /// `/proc/PID/ns/user` every now and then, and takes it for a failure if that is not another one within
    /// a second, or if it may not be read: which is so once we cannot be dumped.
    #[must_use]
    pub fn later(&self) -> Option<Later> {
        let job = Box::new(forbid_dumping);
        self.plan.looked_at.then(|| Later { after: LOOKED_AT, job })
    }

    /// What protects the rest from this process, once all stages are taken.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Takes the steps for a thread that stays in the guest's namespace: all that each thread takes, except that
    /// it may keep the capability to listen on low ports there.
    pub fn in_namespace(&self, low_ports: bool) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let (plan, filter) = (self.plan, self.filters.namespace.clone());
        move || {
            if low_ports && plan.identity.is_some() {
                privileges::survive_change_of_user()?;
            }
            let mut stages = plan.stages(When::EachThread).chain(plan.stages(When::Last));
            stages.try_for_each(|stage| {
                if low_ports && stage == Stage::Capabilities {
                    return privileges::keep_low_ports();
                }
                plan.take(stage, &filter, &mut Layers::default()).map_err(|failure| failure.error)
            })
        }
    }
}

impl Plan {
    fn stages(self, when: When) -> impl Iterator<Item = Stage> {
        let stages = match self.mode {
            Mode::Passt => PASST,
            Mode::Pasta => PASTA,
        };
        stages.iter().filter(move |(then, _)| *then == when).map(|(_, stage)| *stage)
    }

    /// Takes one step, and notes what came of it. `filter` is the calling thread's.
    fn take(self, stage: Stage, filter: &Filter, layers: &mut Layers) -> Result<(), Failure> {
        let failed = |error| Failure::new(stage, error);
        match stage {
            Stage::Identity => {
                // Groups go in any case. (Who we are need not have a number where we are.)
                self.identity
                    .map_or_else(privileges::drop_groups, Identity::assume)
                    .map_err(failed)?;
            }
            Stage::UserNamespace => {
                privileges::enter_new_user_namespace().map_err(failed)?;
                layers.namespaces(&["user"]);
            }
            Stage::PidNamespace if self.background => {
                sandbox::next_child_in_new_pid_namespace().map_err(failed)?;
                layers.namespaces(&["PID"]);
            }
            Stage::PidNamespace => {}
            Stage::Namespaces => {
                sandbox::enter_new_namespaces().map_err(failed)?;
                layers.namespaces(&["mount", "IPC", "UTS"]);
            }
            Stage::EmptyRoot => {
                let root = sandbox::empty_root(|| self.fall_back()).map_err(Failure::of_root)?;
                layers.other(match root {
                    Root::Pivoted => "empty root",
                    Root::Changed => "empty root by chroot",
                });
            }
            Stage::Bounding => {
                if !privileges::empty_bounding_set().map_err(failed)? {
                    layers.other("bounding set as it was");
                }
            }
            Stage::Dumping => {
                privileges::forbid_core_files().map_err(failed)?;
                if !self.looked_at {
                    privileges::forbid_dumping().map_err(failed)?;
                }
            }
            Stage::NewPrivileges => {
                privileges::forbid_new_privileges().map_err(failed)?;
                layers.other("no new privileges");
            }
            Stage::Capabilities => {
                privileges::drop_capabilities().map_err(failed)?;
                layers.other("no capabilities");
            }
            Stage::Landlock => match sys::landlock::forbid_files().map_err(failed)? {
                Some(version) => layers.other(format!("Landlock ABI {version}")),
                None => layers.other("no Landlock"),
            },
            Stage::SystemCalls => filter.apply().map_err(failed)?,
        }
        Ok(())
    }

    fn fall_back(self) -> bool {
        if self.chroot_fallback {
            log::info!("Failed to pivot_root(), fallback to chroot()...");
        }
        self.chroot_fallback
    }
}

/// For how long whoever starts us may look for our user namespace.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// The end of the time in which we may be looked at.
fn forbid_dumping() {
    if let Err(error) = privileges::forbid_dumping() {
        log::error!("{}: {}", Stage::Dumping.failure(), sys::reason(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_what_it_needs() {
        for stages in [PASTA, PASST] {
            let find = |stage| stages.iter().position(|(_, other)| *other == stage);
            let place = |stage| find(stage).unwrap();
            assert!(stages.is_sorted_by_key(|(when, _)| *when as u8));
            assert!(place(Stage::PidNamespace) < place(Stage::Namespaces));
            assert!(place(Stage::Namespaces) < place(Stage::EmptyRoot));
            assert!(place(Stage::EmptyRoot) < place(Stage::Capabilities));
            assert!(place(Stage::Bounding) < place(Stage::Capabilities));
            assert!(place(Stage::Identity) < place(Stage::Dumping));
            assert!(place(Stage::NewPrivileges) < place(Stage::Capabilities));
            // It forbids to mount anything.
            assert!(place(Stage::EmptyRoot) < place(Stage::Landlock));
            assert!(place(Stage::NewPrivileges) < place(Stage::Landlock));
            // Everything else is a call that is not left.
            assert_eq!(stages.last(), Some(&(When::Last, Stage::SystemCalls)));
            assert!(place(Stage::NewPrivileges) < place(Stage::SystemCalls));
            match find(Stage::UserNamespace) {
                Some(own) => {
                    // Where we have all capabilities, whoever we are. Its maps are written by a process
                    // that can be dumped.
                    assert!(place(Stage::Identity) < own && own < place(Stage::PidNamespace));
                    // It comes with a full one.
                    assert!(own < place(Stage::Bounding) && own < place(Stage::Dumping));
                }
                None => {
                    // A change of user takes along the capabilities that all others need.
                    assert!(place(Stage::Bounding) < place(Stage::Identity));
                    assert!(place(Stage::EmptyRoot) < place(Stage::Identity));
                }
            }
        }
    }
}

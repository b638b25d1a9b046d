//! Giving up what is not needed to move packets. The order is data: each stage may need what a
//! later one takes away.

use std::io;
use std::thread;
use std::time::Duration;

use sys::privileges::{self, Identity};
use sys::seccomp::Filter;

/// One step on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No capability may come back by executing a program. Needs one itself.
    Bounding,
    /// Change to the user and group we run as. Needs capabilities to set ids and groups.
    Identity,
    /// A user namespace of our own, in which that user is all there is: nothing of the host's belongs to it.
    UserNamespace,
    /// No core dumps and no debuggers: our memory has the guest's traffic in it. Changing ids may
    /// reset this, so it comes after.
    Dumping,
    /// No program we might execute gives back anything.
    NewPrivileges,
    /// No capabilities in our user namespace, nor a way to get them.
    Capabilities,
}

/// All stages of pasta, from first to last.
pub const PASTA: [Stage; 5] =
    [Stage::Bounding, Stage::Identity, Stage::Dumping, Stage::NewPrivileges, Stage::Capabilities];

/// All stages of passt, which needs no privilege over anybody's namespaces.
pub const PASST: [Stage; 6] = [
    Stage::Bounding,
    Stage::Identity,
    Stage::UserNamespace,
    Stage::Dumping,
    Stage::NewPrivileges,
    Stage::Capabilities,
];

impl Stage {
    /// Takes the step. `identity` is whom to change to, if anybody.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn take(self, identity: Option<Identity>) -> io::Result<()> {
        match self {
            Self::Bounding => privileges::empty_bounding_set(),
            Self::Identity => identity.map_or(Ok(()), Identity::assume),
            Self::UserNamespace => privileges::enter_new_user_namespace(),
            Self::Dumping => privileges::forbid_dumping(),
            Self::NewPrivileges => privileges::forbid_new_privileges(),
            Self::Capabilities => privileges::drop_capabilities(),
        }
    }

    /// What failed, for the message.
    #[must_use]
    pub fn failure(self) -> &'static str {
        match self {
            Self::Bounding => "Couldn't empty bounding set",
            Self::Identity => "Couldn't change user",
            Self::UserNamespace => "Couldn't create user namespace",
            Self::Dumping => "Couldn't forbid core dumps",
            Self::NewPrivileges => "Couldn't forbid new privileges",
            Self::Capabilities => "Couldn't drop capabilities",
        }
    }
}

/// For how long whoever starts us may look for our user namespace.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// As [`Stage::Dumping`], a second later. A monitor that starts us for a connection of its own (muvm, with its
/// strict policy) looks for `/proc/PID/ns/user` every now and then, and takes it for a failure if that is
/// not another one within a second, or if it may not be read: which is so once we cannot be dumped.
///
/// To be called when nothing is left that needs a process of one thread.
///
/// # Errors
/// Those of making a thread.
pub fn forbid_dumping_later() -> io::Result<()> {
    let thread = thread::Builder::new().name("forbid-dumping".to_owned());
    let later = || {
        thread::sleep(LOOKED_AT);
        if let Err(error) = Stage::Dumping.take(None) {
            log::error!("{}: {}", Stage::Dumping.failure(), sys::reason(&error));
        }
    };
    thread.spawn(later).map(drop)
}

/// Takes the steps for a thread that stays in the guest's namespace: all of them, except that it may keep
/// the capability to listen on low ports there. Last, it is left with the system calls that pass `filter`.
///
/// # Errors
/// Those of the system calls.
pub fn in_namespace(
    identity: Option<Identity>,
    low_ports: bool,
    filter: &Filter,
) -> io::Result<()> {
    if low_ports && identity.is_some() {
        privileges::survive_change_of_user()?;
    }
    PASTA.iter().try_for_each(|stage| match stage {
        Stage::Capabilities if low_ports => privileges::keep_low_ports(),
        Stage::Bounding
        | Stage::Identity
        | Stage::UserNamespace
        | Stage::Dumping
        | Stage::NewPrivileges
        | Stage::Capabilities => stage.take(identity),
    })?;
    filter.apply()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_what_it_needs() {
        for stages in [&PASTA[..], &PASST[..]] {
            let place = |stage| stages.iter().position(|other| *other == stage).unwrap();
            assert!(place(Stage::Bounding) < place(Stage::Identity));
            assert!(place(Stage::Identity) < place(Stage::Capabilities));
            assert!(place(Stage::Identity) < place(Stage::Dumping));
            assert!(place(Stage::NewPrivileges) < place(Stage::Capabilities));
            if stages.contains(&Stage::UserNamespace) {
                // It comes with all capabilities over itself, and its maps are written by a process
                // that can be dumped.
                assert!(place(Stage::Identity) < place(Stage::UserNamespace));
                assert!(place(Stage::UserNamespace) < place(Stage::Dumping));
                assert!(place(Stage::UserNamespace) < place(Stage::Capabilities));
            }
        }
    }
}

//! The namespaces we connect: those named on the command line, or new ones with a command in them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sys::netns::{self, QuitWatch};
use sys::privileges::Identity;
use sys::process::{self, Child, Gate, Inherited, NewNamespaces, Program};

use crate::config::{Run, Target, UserNamespace};
use crate::start::{failure, reason};

/// What the command line names, opened. The paths may lead through descriptors we inherited, so
/// this comes before anything closes those.
#[derive(Debug)]
pub struct Named {
    user: Option<(PathBuf, OwnedFd)>,
    network: Option<(PathBuf, OwnedFd)>,
}

impl Named {
    /// Opens the user namespace and the network namespace, as far as they exist already.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(run: &Run) -> Result<Self> {
        let user = match &run.user_namespace {
            UserNamespace::Path(path) => Some(open(path.clone(), "user")?),
            UserNamespace::Own | UserNamespace::New => None,
        };
        let network = match run.target.path() {
            Some(path) => Some(open(path, "network")?),
            None => None,
        };
        Ok(Self { user, network })
    }

    /// The descriptors that are ours.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let both = [&self.user, &self.network];
        both.into_iter().flatten().map(|(_, file)| file.as_fd()).collect()
    }

    /// Starts to watch for the end of the network namespace, if that has a path and nobody minds.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn watch(&self, run: &Run) -> Result<Option<QuitWatch>> {
        let watched = self.network.as_ref().filter(|_| run.quit_with_namespace);
        match watched.filter(|(path, _)| !held_by_us(path)) {
            Some((path, _)) => match QuitWatch::new(path) {
                Ok(watch) => Ok(Some(watch)),
                Err(error) => Err(anyhow::anyhow!(
                    "netns dir open: {}\nTo go on when the namespace is gone, use --no-netns-quit",
                    reason(&error)
                )),
            },
            None => Ok(None),
        }
    }
}

fn open(path: PathBuf, kind: &str) -> Result<(PathBuf, OwnedFd)> {
    match netns::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => {
            let what = format!("Couldn't open {kind} namespace {}", path.display());
            Err(failure(&what, &error))
        }
    }
}

/// A path through our own process: nothing that happens to others makes it go away.
fn held_by_us(path: &Path) -> bool {
    ["/proc/self", "/proc/thread-self", "/dev/fd", "/dev/stdin"]
        .iter()
        .any(|ours| path.starts_with(ours))
}

/// The network namespace to work in, and the command that lives in it, if we started one.
#[derive(Debug)]
pub struct Entered {
    /// The network namespace.
    pub network: OwnedFd,
    /// The command, which waits to be released.
    pub command: Option<Child>,
    /// We have left our user namespace for theirs.
    pub moved: bool,
}

/// Joins the user namespace, or makes new namespaces with a command in them.
///
/// With `stay_outside` we have the privilege over all of them where we are, and an identity to
/// change to that need not exist inside.
///
/// # Errors
/// When a namespace cannot be made or joined.
pub fn enter(
    named: Named,
    run: &Run,
    inherited: &Inherited,
    stay_outside: bool,
) -> Result<Entered> {
    let Named { user, network } = named;
    let mut moved = false;
    let user = match user {
        Some((path, file)) => {
            let what = || format!("Couldn't enter user namespace {}", path.display());
            let ours = is_ours(&file).map_err(|error| failure(&what(), &error))?;
            if !ours && !stay_outside {
                netns::join_user(file.as_fd()).map_err(|error| failure(&what(), &error))?;
                moved = true;
            }
            (!ours && stay_outside).then_some(file)
        }
        None => None,
    };
    match (&run.target, network) {
        (Target::Command(words), _) => {
            let entered = spawn(words, run, inherited, user, stay_outside)?;
            Ok(Entered { moved: moved || entered.moved, ..entered })
        }
        (_, Some((_, network))) => Ok(Entered { network, command: None, moved }),
        (_, None) => Err(anyhow::anyhow!("No network namespace given")),
    }
}

/// Whether a user namespace is the one we are in, which cannot be joined again.
fn is_ours(file: &OwnedFd) -> io::Result<bool> {
    let theirs = fs::File::from(file.try_clone()?).metadata()?;
    let ours = fs::metadata("/proc/self/ns/user")?;
    Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
}

/// Starts the command, in new namespaces. `user` is one of those for it alone.
fn spawn(
    words: &[OsString],
    run: &Run,
    inherited: &Inherited,
    user: Option<OwnedFd>,
    stay_outside: bool,
) -> Result<Entered> {
    let program = program(words)?;
    let new_user = run.user_namespace == UserNamespace::New;
    let namespaces = NewNamespaces { user: new_user, pid: run.pid_namespace };
    let caller = Identity::current();
    let live = |gate| live_in(&program, run, namespaces, caller, inherited, gate);
    let command = match &user {
        Some(user) => process::spawn_in(user.as_fd(), namespaces, live),
        None => process::spawn(namespaces, live),
    }
    .map_err(|error| failure("Failed to clone process with detached namespaces", &error))?;
    let file = |kind: &str| netns::open(Path::new(&format!("/proc/{}/ns/{kind}", command.pid())));
    let joined = |error: io::Error| failure("Failed to join network namespace", &error);
    let network = file("net").map_err(joined)?;
    let moved = new_user && !stay_outside;
    if moved {
        let user = file("user").map_err(joined)?;
        netns::join_user(user.as_fd())
            .map_err(|error| failure("Failed to join user namespace", &error))?;
    }
    Ok(Entered { network, command: Some(command), moved })
}

/// The command with its arguments; without, the user's shell as a login shell.
fn program(words: &[OsString]) -> Result<Program> {
    let program = match words.first() {
        Some(file) => Program::new(file, words),
        None => {
            let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| OsString::from("/bin/sh"));
            let mut zeroth = OsString::from("-");
            zeroth.push(&shell);
            Program::new(&shell, &[zeroth])
        }
    };
    program.map_err(|error| failure("Failed to start command or shell", &error))
}

/// The life of the process in the new namespaces up to the command: furnish them, wait until the
/// network is ready, become the command. Returns the exit status if that is not to be.
fn live_in(
    program: &Program,
    run: &Run,
    namespaces: NewNamespaces,
    caller: Identity,
    inherited: &Inherited,
    gate: Gate,
) -> u8 {
    let warn = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            log::warn!("{what}: {}", reason(&error));
        }
    };
    // Until the command runs we are of no use without our parent.
    warn("Couldn't set parent death signal", process::die_with_parent(true));
    if namespaces.user {
        warn("Couldn't configure user mappings", netns::map_root_to(caller));
    }
    if namespaces.pid {
        let mounted = netns::keep_mounts_private().and_then(|()| netns::mount_proc());
        warn("Couldn't mount /proc", mounted);
    }
    warn("Couldn't set ping_group_range", netns::allow_ping_to_group_0());
    warn("Couldn't set hostname", netns::set_host_name(&host_name(run.hostname.as_deref())));
    if !gate.wait() {
        return 1;
    }
    let ready = process::die_with_parent(false).and_then(|()| inherited.give_back());
    let Err(error) = ready.and_then(|()| program.exec());
    log::error!("Failed to start command or shell: {}", reason(&error));
    1
}

/// The name given, or one that tells the namespace from the host.
fn host_name(given: Option<&str>) -> Vec<u8> {
    match given {
        Some(name) => name.as_bytes().to_vec(),
        None => [b"pasta-".as_slice(), &netns::host_name()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_only_we_hold() {
        for ours in ["/proc/self/fd/0", "/proc/self/ns/net", "/dev/fd/7"] {
            assert!(held_by_us(Path::new(ours)), "{ours}");
        }
        for other in ["/run/netns/x", "/proc/12/ns/net", "/proc/selfish/ns", "proc/self/x"] {
            assert!(!held_by_us(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn names_of_new_machines() {
        assert_eq!(host_name(Some("guest")), b"guest");
        assert!(host_name(None).starts_with(b"pasta-"));
    }

    #[test]
    fn our_own_user_namespace_is_known() {
        let file = netns::open(Path::new("/proc/self/ns/user")).unwrap();
        assert!(is_ours(&file).unwrap());
        let file = netns::open(Path::new("/proc/self/ns/net")).unwrap();
        assert!(!is_ours(&file).unwrap());
    }
}

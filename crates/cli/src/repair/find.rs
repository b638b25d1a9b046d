//! From the path to a connection.

use std::ffi::CStr;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sys::clock;
use sys::unix::{self, Kind};
use sys::watch::{self, News, Watch};

use super::failure::{Failure, Place, tell};
use super::path::SocketPath;

/// How the name of a socket ends.
const SUFFIX: &CStr = c".repair";
/// The first pause after a refused connection. They double up to the longest one.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A connection to the socket at `path`, or to one in the directory at `path` as soon as there is one.
pub(super) fn server(path: &CStr) -> Result<OwnedFd, Failure<'_>> {
    match Kind::of(path).map_err(|error| Failure::Stat(Place::Given(path), error))? {
        Kind::Directory => in_directory(path),
        Kind::Socket if path.count_bytes() > unix::LONGEST => Err(Failure::TooLong(path)),
        Kind::Socket => {
            unix::connect(path, None).map_err(|error| Failure::Connect(Place::Given(path), error))
        }
        Kind::Other => Err(Failure::NotSocket(path)),
    }
}

/// What a look into the directory gave.
enum Seen {
    Nothing,
    /// A socket on which nobody listens, not yet or not any more; or one that we may not connect to, which may
    /// change, too, as it has its permissions after its name.
    Refused(Option<Failure<'static>>),
    Server(OwnedFd),
}

/// Waits for a server. First the watch, then the look: what appears in between is seen by both.
///
/// The kernel does not tell when somebody begins to listen on a socket that is there. While there is one that
/// refuses, we look again after pauses, and new names have the time until then. The same goes for permissions, but
/// if nobody changes them soon, the user should know.
fn in_directory(directory: &CStr) -> Result<OwnedFd, Failure<'_>> {
    if SocketPath::within(directory, SUFFIX).is_none() {
        return Err(Failure::TooLong(directory));
    }
    let watch = Watch::new(directory).map_err(|error| Failure::Watch(directory, error))?;
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        match look(directory)? {
            Seen::Server(server) => return Ok(server),
            Seen::Refused(why) => {
                if let (Some(failure), false, LONGEST_PAUSE) = (why, told, pause) {
                    tell(failure);
                    told = true;
                }
                clock::pause(pause);
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            Seen::Nothing => {
                pause = PAUSE;
                match watch.wait(is_wanted).map_err(|error| Failure::Watch(directory, error))? {
                    News::Appeared => {}
                    News::Gone => return Err(Failure::Gone(directory)),
                }
            }
        }
    }
}

fn is_wanted(name: &CStr) -> bool {
    name.to_bytes().ends_with(SUFFIX.to_bytes())
}

/// Tries every socket in the directory.
fn look(directory: &CStr) -> Result<Seen, Failure<'_>> {
    let mut otherwise = Seen::Nothing;
    let found = watch::names(directory, |name| {
        if !is_wanted(name) {
            return ControlFlow::Continue(());
        }
        match attempt(directory, name) {
            Ok(Seen::Nothing) => ControlFlow::Continue(()),
            Ok(Seen::Refused(why)) => {
                if why.is_some() || matches!(otherwise, Seen::Nothing) {
                    otherwise = Seen::Refused(why);
                }
                ControlFlow::Continue(())
            }
            Ok(Seen::Server(server)) => ControlFlow::Break(Ok(server)),
            Err(failure) => ControlFlow::Break(Err(failure)),
        }
    });
    match found.map_err(|error| Failure::List(directory, error))? {
        Some(Ok(server)) => Ok(Seen::Server(server)),
        Some(Err(failure)) => Err(failure),
        None => Ok(otherwise),
    }
}

/// Tries one name.
fn attempt<'a>(directory: &'a CStr, name: &CStr) -> Result<Seen, Failure<'a>> {
    let path = SocketPath::within(directory, name).ok_or(Failure::TooLong(directory))?;
    let is_gone = |kind| kind == ErrorKind::NotFound;
    match Kind::of(path.as_c_str()) {
        Ok(Kind::Socket) => {}
        // Whatever has such a name, it is not what we wait for.
        Ok(Kind::Directory | Kind::Other) => return Ok(Seen::Nothing),
        Err(error) if is_gone(error.kind()) => return Ok(Seen::Nothing),
        Err(error) => return Err(Failure::Stat(Place::Found(path), error)),
    }
    match unix::connect(path.as_c_str(), None) {
        Ok(server) => Ok(Seen::Server(server)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Seen::Refused(None)),
        Err(error) if is_gone(error.kind()) => Ok(Seen::Nothing),
        Err(error) => {
            let denied = error.kind() == ErrorKind::PermissionDenied;
            let failure = Failure::Connect(Place::Found(path), error);
            if denied { Ok(Seen::Refused(Some(failure))) } else { Err(failure) }
        }
    }
}

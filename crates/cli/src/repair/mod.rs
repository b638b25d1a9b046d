//! `passt-repair`, which sets the repair mode of TCP sockets for a passt that may not.
//!
//! It runs with a privilege and obeys somebody who has none, so it is small, and its sandbox is up before it looks
//! at anything. From then on nothing is allocated: no call that gets memory is allowed. It ends without
//! going back to the runtime, whose clean-up makes other calls.

mod failure;
mod find;
mod man;
mod message;
mod path;
mod sandbox;
mod serve;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt as _;

use sys::process::exit_now;

use self::failure::{Failure, tell};
pub use self::man::man;
use self::sandbox::Sandbox;

/// Runs the program. The status is 0 when the server is done with us, 1 if something went wrong, 2 for arguments
/// that make no sense, with a line on standard error.
pub fn main() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        tell(format_args!("{panic}"));
        exit_now(1)
    }));
    let path = only_argument(std::env::args_os());
    // Neither of these is ever dropped: giving back memory is a call of its own.
    let sandbox = Sandbox::new();
    let result = match &sandbox {
        Ok(sandbox) => run(sandbox, path.as_deref()),
        Err(error) => {
            tell(format_args!("Couldn't prepare the sandbox: {}", sys::Reason(error)));
            exit_now(1)
        }
    };
    exit_now(match result {
        Ok(()) => 0,
        Err(failure) => {
            tell(&failure);
            failure.status()
        }
    })
}

/// The argument, if there is just one. This only copies it.
fn only_argument(args: impl Iterator<Item = std::ffi::OsString>) -> Option<CString> {
    let mut args = args.skip(1);
    let only = args.next()?;
    let only = CString::new(only.into_vec()).ok()?;
    args.next().is_none().then_some(only)
}

fn run<'a>(sandbox: &Sandbox, path: Option<&'a CStr>) -> Result<(), Failure<'a>> {
    sandbox.enter()?;
    let server = find::server(path.ok_or(Failure::Usage)?)?;
    sandbox.narrow()?;
    serve::all(&server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_argument() {
        let only = |args: &[&str]| only_argument(args.iter().map(std::ffi::OsString::from));
        assert_eq!(only(&["passt-repair", "--help"]).as_deref(), Some(c"--help"));
        assert_eq!(only(&["passt-repair", ""]).as_deref(), Some(c""));
        for args in [&[][..], &["passt-repair"], &["passt-repair", "a", "b"]] {
            assert_eq!(only(args), None);
        }
    }
}

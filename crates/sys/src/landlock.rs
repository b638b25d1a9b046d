//! Landlock: no way to any file, whoever we are.

use std::io;

use landlock::{ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetError, Scope};

/// The newest interface of which we know what it can forbid. Older kernels forbid less.
const NEWEST: ABI = ABI::V10;

/// Forbids the calling thread, as far as the kernel can, to open, make or execute any file, to connect to abstract
/// UNIX domain sockets of others and to send them signals. What is open stays open; a path can still be looked
/// at (`O_PATH`), and IP is not touched. Sets no_new_privs, which this takes.
///
/// Returns the version of the kernel's Landlock, `None` if it has none.
///
/// # Errors
/// Those of `landlock_create_ruleset(2)` and `landlock_restrict_self(2)`, where there is a Landlock.
pub fn forbid_files() -> io::Result<Option<i32>> {
    match restrict().map_err(io::Error::other)? {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Ok(Some(kernel_abi.unwrap_or(effective_abi as i32)))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Ok(None),
    }
}

fn restrict() -> Result<LandlockStatus, RulesetError> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(restricted.landlock)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Read as _};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn files_are_out_of_reach_and_open_ones_stay() {
        let name = SocketAddr::from_abstract_name(format!("landlock-{}", std::process::id()));
        let name = name.unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        let tried = std::thread::spawn(move || {
            let mut open = File::open("/proc/self/stat").unwrap();
            let version = forbid_files().unwrap()?;
            let denied = |error: io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(denied(File::open("/proc/self/stat").unwrap_err()));
            assert!(denied(fs::read_dir("/").unwrap_err()));
            assert!(denied(fs::write(std::env::temp_dir().join("landlock"), "").unwrap_err()));
            if version >= 6 {
                assert!(denied(UnixStream::connect_addr(&name).unwrap_err()));
            }
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            assert!(!text.is_empty());
            Some(version)
        });
        match tried.join().unwrap() {
            // Another thread is not concerned.
            Some(_) => drop(File::open("/proc/self/stat").unwrap()),
            None => eprintln!("skipped: this kernel has no Landlock"),
        }
    }
}

//! Who we are to be.

use std::{fs, io};

use anyhow::Result;
use sys::privileges::{self, Identity};

use super::fail;
use crate::config::Run;
use crate::parse;
use crate::said::User;

/// Whom to change to, if we are not to stay who we are. Root of the machine is never to stay.
pub(super) fn to_assume(run: &Run) -> Result<Option<Identity>> {
    let current = Identity::current();
    let wanted = match run.run_as {
        Some(user) => identity(user),
        None => match fail("Couldn't read /proc/self/uid_map", instead_of_root())? {
            Some(nobody) => {
                log::info!("Started as root, will change to nobody.");
                nobody
            }
            None => current,
        },
    };
    Ok((wanted != current).then_some(wanted))
}

/// Who root of the machine becomes unless an option says otherwise: nobody. `None` for everybody else.
pub(crate) fn instead_of_root() -> io::Result<Option<Identity>> {
    if Identity::current().uid != 0 || !privileges::in_initial_user_namespace()? {
        return Ok(None);
    }
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    Ok(Some(identity(parse::nobody(&String::from_utf8_lossy(&passwd)))))
}

fn identity(User { uid, gid }: User) -> Identity {
    Identity { uid, gid }
}

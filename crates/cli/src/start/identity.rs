//! Who we are to be.

use std::fs;

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
        None if current.uid == 0 => {
            let initial = privileges::in_initial_user_namespace();
            if fail("Couldn't read /proc/self/uid_map", initial)? {
                log::info!("Started as root, will change to nobody.");
                let passwd = fs::read("/etc/passwd").unwrap_or_default();
                identity(parse::nobody(&String::from_utf8_lossy(&passwd)))
            } else {
                current
            }
        }
        None => current,
    };
    Ok((wanted != current).then_some(wanted))
}

fn identity(User { uid, gid }: User) -> Identity {
    Identity { uid, gid }
}

//! The unprivileged user of this machine, from `/etc/passwd` directly: a static binary has no NSS.

use std::fs;

use super::Identity;

/// The overflow ids of the kernel, which `nobody` is unless `/etc/passwd` says otherwise.
const OVERFLOW: Identity = Identity { uid: 65534, gid: 65534 };

/// The user `nobody` of this machine, never root.
#[must_use]
pub fn nobody() -> Identity {
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    user_in(&String::from_utf8_lossy(&passwd), "nobody")
        .filter(|identity| identity.uid != 0)
        .unwrap_or(OVERFLOW)
}

/// `name:password:uid:gid:…`
fn user_in(passwd: &str, name: &str) -> Option<Identity> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some(Identity { uid: ids.next()?.parse().ok()?, gid: ids.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\nbad:x:y\n";
        assert_eq!(user_in(passwd, "nobody"), Some(Identity { uid: 65534, gid: 65533 }));
        assert_eq!(user_in(passwd, "bad"), None);
        assert_eq!(user_in(passwd, "nobod"), None);
        assert_ne!(nobody().uid, 0);
    }
}

//! Users by number or by name, from `/etc/passwd` and `/etc/group`.
//!
//! Not through the name service switch: that would load libraries into a process which is about to
//! give up its privileges, and a static build has none.

use super::number::c_notation;
use crate::said::User;

/// Resolves `UID`, `UID:GID`, `LOGIN` or `LOGIN:GROUP`; numbers are in C notation. `passwd` and
/// `group` are the contents of the files of that name. A login that is user 0 counts as unknown.
pub(super) fn resolve(text: &str, passwd: &str, group: &str) -> Option<User> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_gid) = match number(user) {
        Some(uid) => (uid, uid),
        None => login(user, passwd).filter(|&(uid, _)| uid != 0)?,
    };
    let gid = match wanted_group {
        None => own_gid,
        Some(name) => number(name).or_else(|| gid_of(name, group))?,
    };
    Some(User { uid, gid })
}

fn number(text: &str) -> Option<u32> {
    // All ones means "leave it as it is" to the system calls that change users.
    c_notation(text).and_then(|n| u32::try_from(n).ok()).filter(|&n| n != u32::MAX)
}

/// The unprivileged user of this machine: what `/etc/passwd` calls nobody, unless that is root or nothing; else
/// the ids that the kernel shows for those it cannot.
pub(crate) fn nobody(passwd: &str) -> User {
    const OVERFLOW: u32 = 65534;
    resolve("nobody", passwd, "").unwrap_or(User { uid: OVERFLOW, gid: OVERFLOW })
}

/// User and primary group of a login (passwd(5)).
fn login(name: &str, passwd: &str) -> Option<(u32, u32)> {
    let line = entry(name, passwd)?;
    let mut ids = line.split(':').skip(2);
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}

/// Number of a group (group(5)).
fn gid_of(name: &str, group: &str) -> Option<u32> {
    entry(name, group)?.split(':').nth(2)?.parse().ok()
}

fn entry<'a>(name: &str, file: &'a str) -> Option<&'a str> {
    file.lines().find(|line| line.split(':').next() == Some(name) && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          toor:x:0:0::/:/bin/sh\n\
                          nobody:x:65534:65533::/:/bin/false\n\
                          broken:x\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\n";

    #[test]
    fn numbers_and_names() {
        let user = |uid, gid| Some(User { uid, gid });
        for (text, wanted) in [
            ("1000", user(1000, 1000)),
            ("0", user(0, 0)),
            ("0x10:8", user(16, 8)),
            ("1000:users", user(1000, 100)),
            ("nobody", user(65534, 65533)),
            ("nobody:users", user(65534, 100)),
            ("nobody:0", user(65534, 0)),
            ("root", None),
            ("toor:users", None),
            ("broken", None),
            ("nosuch", None),
            ("nobody:nosuch", None),
            ("4294967295", None),
            ("", None),
            (":", None),
            ("-1", None),
        ] {
            assert_eq!(resolve(text, PASSWD, GROUP), wanted, "{text:?}");
        }
    }

    #[test]
    fn nobody_is_never_root() {
        assert_eq!(nobody(PASSWD), User { uid: 65534, gid: 65533 });
        for none in ["", "nobod:x:1:1:", "nobody:x:0:0:", "nobody:x", "nobody:x:y:z:"] {
            assert_eq!(nobody(none), User { uid: 65534, gid: 65534 }, "{none}");
        }
    }
}

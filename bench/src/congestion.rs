//! The congestion controls that namespaces may use: one list for the whole machine.

use crate::command;
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

/// What namespaces other than the first may use.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
/// What the kernel has.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// Tells the process inside the rig why something could not be allowed.
pub(crate) const WHY_NOT: &str = "BENCH_WHY_NOT_ALLOWED";

/// Takes what a run added to the list away again, unless other runs go on meanwhile, which need it. Then, and
/// if the run is killed, it stays.
#[derive(Debug)]
pub(crate) struct Allowed {
    added: Vec<String>,
    /// Every run has a shared lock on the list; who can have it alone is the last.
    lock: Option<Flock<File>>,
}

/// Adds what is `needed` to the list, and keeps what is there. Also says what could not be added, and why.
pub(crate) fn allow(needed: &BTreeSet<&str>) -> (Allowed, String) {
    let mut allowed = Allowed { added: Vec::new(), lock: None };
    let mut failed = Vec::new();
    let locked = File::open(ALLOWED).and_then(|file| {
        Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| io::Error::from(errno))
    });
    match locked {
        Ok(lock) => allowed.lock = Some(lock),
        Err(e) => failed.push(format!("{ALLOWED}: {e}")),
    }
    for &name in needed {
        if names(ALLOWED).iter().any(|there| there == name) {
            continue;
        }
        if !names(AVAILABLE).iter().any(|there| there == name) {
            // If there is no such module, writing the name fails, too.
            let _ = command::sh(&format!("modprobe --quiet tcp_{name}"));
        }
        let mut list = names(ALLOWED);
        list.push(name.to_owned());
        match fs::write(ALLOWED, list.join(" ")) {
            Ok(()) => allowed.added.push(name.to_owned()),
            Err(e) => failed.push(format!("cannot add {name} to {ALLOWED}: {e}")),
        }
    }
    for why in &failed {
        eprintln!("bench: {why}");
    }
    (allowed, failed.join("; "))
}

/// Why rows with the congestion control `name` are left out, when `error` came of setting it.
pub(crate) fn reason(name: &str, error: &anyhow::Error) -> String {
    let why = std::env::var(WHY_NOT).unwrap_or_default();
    if why.contains(name) { why } else { format!("congestion control {name}: {error:#}") }
}

fn names(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

impl Drop for Allowed {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take().filter(|_| !self.added.is_empty()) else { return };
        let Ok(file) = lock.unlock() else { return };
        let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return };
        let mut list = names(ALLOWED);
        list.retain(|name| !self.added.contains(name));
        let _ = fs::write(ALLOWED, list.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_already_is_left_alone_and_what_does_not_exist_is_named() {
        let before = names(ALLOWED);
        let (allowed, why) = allow(&BTreeSet::from(["no-such-control"]));
        assert!(allowed.added.is_empty(), "{allowed:?}");
        assert!(why.contains("no-such-control"), "{why}");
        assert!(reason("other", &anyhow::anyhow!("EPERM")).contains("EPERM"));
        drop(allowed);
        // Others may add something meanwhile, but nobody takes away what was there.
        if let Some(first) = before.first() {
            assert!(names(ALLOWED).contains(first), "{before:?}");
            let (again, why) = allow(&BTreeSet::from([first.as_str()]));
            assert!(again.added.is_empty() && why.is_empty(), "{again:?} {why}");
        }
    }
}

//! `--doctor`: whether this machine has what passt and pasta need.
//!
//! Every check does what the program would do, where that can be done without leaving a trace, and says in one
//! line what came of it; what is not as it could be comes with a remedy. Versions are not guessed from.

mod guarded;
mod kernel;
mod rights;

use std::fmt::{self, Write as _};

use crate::said::Mode;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    /// As it should be.
    Ok,
    /// Something will not work, or not as well.
    Warn,
    /// The program will not start, or not do what it is for.
    Fail,
}

impl Grade {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    grade: Grade,
    /// What is so.
    text: String,
    /// What to do about it; empty if all is well.
    remedy: String,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, text: text.into(), remedy: String::new() }
    }

    fn warn(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, text: text.into(), remedy: remedy.into() }
    }

    fn fail(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, text: text.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {}", self.grade.name(), self.text)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; remedy: {}", self.remedy) }
    }
}

/// One thing to look at.
struct Check {
    name: &'static str,
    /// In which personalities it matters.
    modes: &'static [Mode],
    look: fn(Mode) -> Finding,
}

const BOTH: &[Mode] = &[Mode::Passt, Mode::Pasta];
const PASST: &[Mode] = &[Mode::Passt];
const PASTA: &[Mode] = &[Mode::Pasta];

/// What is looked at, in this order.
const CHECKS: &[Check] = &[
    Check { name: "user", modes: BOTH, look: rights::user },
    Check { name: "user-namespaces", modes: BOTH, look: rights::user_namespaces },
    Check { name: "network-namespaces", modes: PASTA, look: rights::network_namespaces },
    Check { name: "empty-root", modes: BOTH, look: rights::empty_root },
    Check { name: "tun-device", modes: PASTA, look: kernel::tun_device },
    Check { name: "ping", modes: BOTH, look: rights::ping },
    Check { name: "low-ports", modes: BOTH, look: rights::low_ports },
    Check { name: "open-files", modes: BOTH, look: rights::open_files },
    Check { name: "apparmor", modes: BOTH, look: guarded::apparmor },
    Check { name: "selinux", modes: BOTH, look: guarded::selinux },
    Check { name: "netlink", modes: BOTH, look: kernel::netlink },
    Check { name: "ipv6", modes: BOTH, look: kernel::ipv6 },
    Check { name: "peek-offset", modes: BOTH, look: kernel::peek_offset },
    Check { name: "bind-to-device", modes: BOTH, look: kernel::bind_to_device },
    Check { name: "udp-batches", modes: BOTH, look: kernel::udp_batches },
    Check { name: "tcp-repair", modes: PASST, look: kernel::tcp_repair },
    Check { name: "seccomp", modes: BOTH, look: kernel::seccomp },
    Check { name: "landlock", modes: BOTH, look: kernel::landlock },
    Check { name: "close-range", modes: BOTH, look: kernel::close_range },
    Check { name: "pidfd", modes: BOTH, look: kernel::pidfd },
];

/// What to print, and the exit status.
#[must_use]
pub fn examine(mode: Mode) -> (String, u8) {
    report(CHECKS.iter().filter(|check| check.modes.contains(&mode)).map(|check| {
        let finding = (check.look)(mode);
        (check.name, finding)
    }))
}

fn report(findings: impl Iterator<Item = (&'static str, Finding)>) -> (String, u8) {
    let mut text = String::new();
    let mut status = 0;
    for (name, finding) in findings {
        // The pieces go to a String, which takes them all.
        let _ = writeln!(text, "{name:<20}{finding}");
        if finding.grade == Grade::Fail {
            status = 1;
        }
    }
    (text, status)
}

/// A number in procfs; what cannot be read, or is none, counts as absent.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_finding_and_failure_counts() {
        let good = ("good", Finding::ok("as it should be"));
        let worse = ("worse", Finding::warn("not so good", "do this"));
        let bad = ("bad", Finding::fail("not good", "do that"));
        let (text, status) = report([good.clone(), worse.clone()].into_iter());
        assert_eq!(
            text,
            "good                ok    as it should be\n\
             worse               warn  not so good; remedy: do this\n"
        );
        assert_eq!(status, 0);
        let (text, status) = report([good, bad, worse].into_iter());
        assert!(text.contains("\nbad                 fail  not good; remedy: do that\n"), "{text}");
        assert_eq!(status, 1);
    }

    #[test]
    fn names_are_unique_and_fit_their_column() {
        for check in CHECKS {
            assert_eq!(CHECKS.iter().filter(|other| other.name == check.name).count(), 1);
            assert!(check.name.len() < 20);
        }
    }
}

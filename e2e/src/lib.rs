//! What the end-to-end tests in `tests/` share: the matrix of users and families.
//!
//! Each test of a matrix runs as root and as an ordinary user, for IPv4 and for IPv6, in a rig of
//! its own (see `testkit`). `E2E_BYTES` sets the size of the bulk transfers (default 64 MiB,
//! 32 MiB with virtual machines), `E2E_SECONDS` for how long something goes on where that matters
//! (default 8), `E2E_PAUSE` for how many seconds virtual machines are paused (default 5).

#![forbid(unsafe_code)]

pub mod clients;
pub mod command_lines;
pub mod filters;
pub mod hypervisor;
pub mod repair;
pub mod rules;
pub mod vm;

use anyhow::Result;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use testkit::{Family, Pasta, PastaBuilder, Place, Proc, Rig, User, in_rig};

/// The port on which the tests' server listens.
pub const PORT: u16 = 5000;
/// Limit for a short command.
pub const SHORT: Duration = Duration::from_secs(30);
/// Limit for a transfer.
pub const LONG: Duration = Duration::from_secs(240);
/// Limit for a whole test.
const TEST: Duration = Duration::from_secs(300);

/// One cell of the matrix, in its rig.
#[derive(Debug)]
pub struct Case<'r> {
    /// The rig.
    pub rig: &'r Rig,
    /// Who runs pasta.
    pub user: User,
    /// The address family in question.
    pub family: Family,
}

impl<'r> Case<'r> {
    /// A pasta of this case's user.
    pub fn pasta(&self) -> Result<PastaBuilder<'r>> {
        self.rig.pasta(self.user)
    }

    /// A configured namespace, with further options for pasta.
    pub fn guest(&self, options: &[&str]) -> Result<Pasta> {
        self.pasta()?.args(&["--config-net"]).args(options).start_hold()
    }

    /// The helper's server at the usual peer.
    pub fn server(&self) -> Result<Proc> {
        self.rig.serve(&Place::Outside, self.family.peer(), PORT)
    }

    /// Runs a client of the helper at `place` against `addr`: `verb ADDR PORT args`.
    pub fn ask(&self, place: &Place, verb: &str, addr: IpAddr, args: &str) -> Result<String> {
        self.rig.peer(place, LONG, &format!("{verb} {addr} {PORT} {args}"))
    }

    /// Asks witnesses from `place`, each question being `PROTOCOL,ADDR,PORT`: the ports at which they were
    /// reached, or why they were not.
    pub fn probe(&self, place: &Place, questions: &[String]) -> Result<Vec<String>> {
        let answers = self.rig.peer(place, SHORT, &format!("probe {}", questions.join(" ")))?;
        let last = |line: &str| line.split(' ').next_back().unwrap_or_default().to_owned();
        Ok(answers.lines().map(last).collect())
    }
}

/// Runs one test of a matrix; see [`matrix`].
pub fn case(
    name: &str,
    helper: &str,
    user: User,
    family: Family,
    body: fn(&Case<'_>) -> Result<()>,
) {
    in_rig(name, Path::new(helper), TEST + vm::pause(), |rig| body(&Case { rig, user, family }));
}

/// Size of a bulk transfer in bytes.
pub fn bulk_bytes() -> u64 {
    set("E2E_BYTES").unwrap_or(64 << 20)
}

/// A number in the environment.
fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How long something goes on where that matters.
pub fn seconds() -> Duration {
    Duration::from_secs(set("E2E_SECONDS").unwrap_or(8))
}

/// Declares tests from functions of one [`Case`]: `matrix!(all: ping, dns)` for users × families,
/// `matrix!(v4: …)` for both users with IPv4, `matrix!(users: …)` for both users where the family
/// does not matter, `matrix!(once: …)` for an ordinary user alone, `matrix!(root: …)` for root.
#[macro_export]
macro_rules! matrix {
    (all: $($name:ident),* $(,)?) => {
        mod root {
            mod v4 { $($crate::cell!($name, "root::v4::", Root, V4);)* }
            mod v6 { $($crate::cell!($name, "root::v6::", Root, V6);)* }
        }
        mod ordinary {
            mod v4 { $($crate::cell!($name, "ordinary::v4::", Ordinary, V4);)* }
            mod v6 { $($crate::cell!($name, "ordinary::v6::", Ordinary, V6);)* }
        }
    };
    (v4: $($name:ident),* $(,)?) => {
        mod v4 {
            mod root { $($crate::cell!($name, "v4::root::", Root, V4);)* }
            mod ordinary { $($crate::cell!($name, "v4::ordinary::", Ordinary, V4);)* }
        }
    };
    (users: $($name:ident),* $(,)?) => {
        mod by {
            mod root { $($crate::cell!($name, "by::root::", Root, V4);)* }
            mod ordinary { $($crate::cell!($name, "by::ordinary::", Ordinary, V4);)* }
        }
    };
    (once: $($name:ident),* $(,)?) => {
        mod once {
            mod ordinary { $($crate::cell!($name, "once::ordinary::", Ordinary, V4);)* }
        }
    };
    (root: $($name:ident),* $(,)?) => {
        mod only {
            mod root { $($crate::cell!($name, "only::root::", Root, V4);)* }
        }
    };
}

/// One test of a [`matrix`].
#[macro_export]
macro_rules! cell {
    ($name:ident, $path:literal, $user:ident, $family:ident) => {
        #[test]
        fn $name() {
            $crate::case(
                concat!($path, stringify!($name)),
                env!("CARGO_BIN_EXE_e2e-peer"),
                $crate::testkit::User::$user,
                $crate::testkit::Family::$family,
                super::super::$name,
            );
        }
    };
}

pub use testkit;

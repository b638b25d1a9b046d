//! What programs that start passt and pasta rely on.

#![forbid(unsafe_code)]

mod general;
mod kubevirt;
mod libvirt;
mod measured;
mod muvm;
mod nix;
mod podman;
mod qemu;
mod rootlesskit;

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Family, Outcome, Place, User};

/// Declares tests in a module of their own, as the user who runs the client: functions of a `Case`.
macro_rules! contract {
    ($module:ident, $user:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[test]
            fn $name() {
                let name = concat!(module_path!(), "::", stringify!($name));
                crate::run(name, testkit::User::$user, super::$name);
            })*
        }
    };
}
/// Declares tests of what is not there yet: each is counted as skipped.
macro_rules! later {
    ($what:literal: $($name:ident),* $(,)?) => {
        mod later {
            $(#[test]
            fn $name() {
                let name = concat!(module_path!(), "::", stringify!($name));
                testkit::skip(crate::test(name), concat!($what, " is not there until its issue"));
            })*
        }
    };
}
pub(crate) use {contract, later};

/// A test's name in this program.
fn test(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, test)| test)
}

fn run(path: &str, user: User, body: fn(&Case<'_>) -> Result<()>) {
    let helper = env!("CARGO_BIN_EXE_e2e-peer");
    e2e::case(test(path), helper, user, Family::V4, body);
}

/// Words of a line.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs pasta with a line's words.
fn pasta(case: &Case<'_>, line: &str) -> Result<Outcome> {
    case.pasta()?.args(&words(line)).run(SHORT)
}

/// Runs passt with a line's words.
fn passt(case: &Case<'_>, line: &str) -> Result<Outcome> {
    case.rig.passt(case.user)?.args(&words(line)).run(SHORT)
}

/// Status 0 and not a word.
fn silent(outcome: &Outcome) -> Result<()> {
    let quiet = outcome.stdout.is_empty() && outcome.stderr.is_empty();
    ensure!(outcome.code() == Some(0) && quiet, "{outcome:?}");
    Ok(())
}

/// Status 1 and just these lines.
fn refused(outcome: &Outcome, lines: &str) -> Result<()> {
    let said = outcome.stderr.trim_end() == lines && outcome.stdout.is_empty();
    ensure!(outcome.code() == Some(1) && said, "{outcome:?}, wanted {lines}");
    Ok(())
}

/// What ip(8) says at a place.
fn ip(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<String> = std::iter::once("ip".to_owned()).chain(words(line)).collect();
    case.rig.run(place, SHORT, &argv)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Asks at `place` and checks by which ports the questions are answered, or why not.
fn answers(case: &Case<'_>, place: &Place, expected: &[(&str, &str)]) -> Result<()> {
    let questions: Vec<String> = expected.iter().map(|(asked, _)| (*asked).to_owned()).collect();
    let got = case.probe(place, &questions)?;
    let wanted: Vec<&str> = expected.iter().map(|(_, wanted)| *wanted).collect();
    ensure!(got == wanted, "{questions:?}: {got:?}, wanted {wanted:?}");
    Ok(())
}

//! A kernel that is older, or a container that allows less: some system calls fail.

use anyhow::{Context, Result, bail};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes a command to which the kernel refuses `call`: `pivot_root` with EINVAL, as in an initramfs, others
/// with ENOSYS, as before there was such a call. It cannot gain privileges by executing programs.
pub(super) fn become_refused(call: &str, command: &[&str]) -> Result<Infallible> {
    let (number, error) = match call {
        "pivot_root" => (libc::SYS_pivot_root, libc::EINVAL),
        "close_range" => (libc::SYS_close_range, libc::ENOSYS),
        "landlock" => (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
        _ => bail!("no such call: {call}"),
    };
    let action = SeccompAction::Errno(u32::try_from(error)?);
    let rules = BTreeMap::from([(number, Vec::new())]);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    let (name, args) = command.split_first().context("no command given")?;
    seccompiler::apply_filter(&program)?;
    Err(Command::new(name).args(args).exec().into())
}

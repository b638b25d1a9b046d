//! A kernel that is older, or a container that allows less: some system calls fail.

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes a command to which the kernel refuses `call`: `pivot_root` with EINVAL, as in an initramfs;
/// `sock_diag`, which is a kind of socket, with EPROTONOSUPPORT, as where the kernel was built without; others with
/// ENOSYS, as before there was such a call. It cannot gain privileges by executing programs.
pub(super) fn become_refused(call: &str, command: &[&str]) -> Result<Infallible> {
    let is = |argument, value: i32| {
        let value = u64::try_from(value)?;
        let length = SeccompCmpArgLen::Dword;
        anyhow::Ok(SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?)
    };
    let (number, error, conditions) = match call {
        "pivot_root" => (libc::SYS_pivot_root, libc::EINVAL, vec![]),
        "close_range" => (libc::SYS_close_range, libc::ENOSYS, vec![]),
        "landlock" => (libc::SYS_landlock_create_ruleset, libc::ENOSYS, vec![]),
        "sock_diag" => {
            let kind = vec![is(0, libc::AF_NETLINK)?, is(2, libc::NETLINK_SOCK_DIAG)?];
            (libc::SYS_socket, libc::EPROTONOSUPPORT, kind)
        }
        _ => bail!("no such call: {call}"),
    };
    let action = SeccompAction::Errno(u32::try_from(error)?);
    // Without conditions, whatever the arguments are.
    let rules = if conditions.is_empty() { vec![] } else { vec![SeccompRule::new(conditions)?] };
    let rules = BTreeMap::from([(number, rules)]);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    let (name, args) = command.split_first().context("no command given")?;
    seccompiler::apply_filter(&program)?;
    Err(Command::new(name).args(args).exec().into())
}

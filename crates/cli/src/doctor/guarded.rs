//! Security modules that may have a say in what we do.

use std::fs;

use super::{Finding, number};
use crate::said::Mode;

/// What a security module calls us: from its own file, or from the one that the first module answers.
fn label(module: &str) -> Option<String> {
    let own = fs::read_to_string(format!("/proc/self/attr/{module}/current"));
    let text = own.or_else(|_| fs::read_to_string("/proc/self/attr/current")).ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned())
}

pub(super) fn apparmor(mode: Mode) -> Finding {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.trim() == "Y") {
        return Finding::ok("not active");
    }
    let label = label("apparmor").unwrap_or_else(|| "unknown".to_owned());
    let restricted = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    apparmor_finding(mode, &label, restricted)
}

fn apparmor_finding(mode: Mode, label: &str, restricted: bool) -> Finding {
    let confined = label != "unconfined";
    match (restricted, confined) {
        (false, false) => Finding::ok("active, without a profile for this program"),
        (_, true) => Finding::ok(format!("active, this program runs under {label}")),
        (true, false) => Finding::warn(
            "active, restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1), and has \
             no profile for this program",
            format!(
                "install the profile that comes with it, and this program as /usr/bin/{}",
                mode.name()
            ),
        ),
    }
}

pub(super) fn selinux(mode: Mode) -> Finding {
    let Some(enforcing) = number("/sys/fs/selinux/enforce") else {
        return Finding::ok("not active");
    };
    let label = label("selinux").unwrap_or_else(|| "unknown".to_owned());
    selinux_finding(mode, &label, enforcing == 1)
}

fn selinux_finding(mode: Mode, label: &str, enforcing: bool) -> Finding {
    let domain = label.split(':').nth(2).unwrap_or(label);
    let ours = domain.strip_suffix("_t") == Some(mode.name());
    match enforcing {
        false => Finding::ok(format!("permissive, this program runs as {domain}")),
        true if ours || domain.starts_with("unconfined") => {
            Finding::ok(format!("enforcing, this program runs as {domain}"))
        }
        true => Finding::warn(
            format!("enforcing, this program runs as {domain}, which may not be made for it"),
            format!(
                "install the policy module {0} that comes with it, and restorecon /usr/bin/{0}",
                mode.name()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn apparmor_is_in_the_way_only_where_it_restricts_us() {
        let grade = |label, restricted| apparmor_finding(Mode::Pasta, label, restricted).grade;
        assert_eq!(grade("unconfined", false), Grade::Ok);
        assert_eq!(grade("unconfined", true), Grade::Warn);
        assert_eq!(grade("pasta (enforce)", true), Grade::Ok);
    }

    #[test]
    fn selinux_is_in_the_way_only_in_a_strange_domain() {
        let grade = |label, enforcing| selinux_finding(Mode::Pasta, label, enforcing).grade;
        assert_eq!(grade("system_u:system_r:pasta_t:s0", true), Grade::Ok);
        assert_eq!(grade("u:r:unconfined_t:s0-s0:c0.c1023", true), Grade::Ok);
        assert_eq!(grade("u:r:container_t:s0", true), Grade::Warn);
        assert_eq!(grade("u:r:container_t:s0", false), Grade::Ok);
    }
}

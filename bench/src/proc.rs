//! What /proc says about processes and network namespaces.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// A process and all its descendants.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name may hold blanks and parentheses; state and parent follow its last one.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if let Some(parent) = after.split_ascii_whitespace().nth(1).and_then(|p| p.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| pid));
        at += 1;
    }
    found
}

/// Time all threads of a process and its descendants have run.
pub(crate) fn cpu(pid: u32) -> Duration {
    let mut ns = 0;
    for pid in family(pid) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            ns += text.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0u64);
        }
    }
    Duration::from_nanos(ns)
}

/// Open descriptors of a process and its descendants.
pub(crate) fn descriptors(pid: u32) -> usize {
    family(pid)
        .iter()
        .map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
        .sum()
}

/// Resident memory of a process and its descendants, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let rss = |pid: &u32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    family(pid).iter().filter_map(rss).sum()
}

/// The counters of a network namespace that tell about trouble.
pub(crate) const TROUBLE: [&str; 7] = [
    "TCPTimeouts",
    "TCPFastRetrans",
    "TCPLostRetransmit",
    "TCPLossProbes",
    "TCPBacklogDrop",
    "TCPRcvQDrop",
    "RetransSegs",
];

/// [`TROUBLE`] in the network namespace of a process.
pub(crate) fn trouble(pid: u32) -> Result<BTreeMap<&'static str, u64>> {
    let mut found = BTreeMap::new();
    for file in ["netstat", "snmp"] {
        let path = format!("/proc/{pid}/net/{file}");
        let text = fs::read_to_string(&path).with_context(|| path)?;
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            for (name, value) in
                names.split_ascii_whitespace().zip(values.split_ascii_whitespace()).skip(1)
            {
                if let Some(&name) = TROUBLE.iter().find(|&&wanted| wanted == name) {
                    found.insert(name, value.parse().unwrap_or(0));
                }
            }
        }
    }
    Ok(found)
}

/// Frames received and sent by the interfaces (without lo) of a process's network namespace.
pub(crate) fn frames(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut sum = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let fields: Vec<u64> =
            rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        sum.0 += fields.get(1).copied().unwrap_or(0);
        sum.1 += fields.get(9).copied().unwrap_or(0);
    }
    sum
}

/// Frames for which there was no room in the queues of the interfaces of a process's network namespace.
pub(crate) fn dropped(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let interfaces = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let sent = interfaces.filter_map(|(_, rest)| rest.split_ascii_whitespace().nth(11));
    sent.filter_map(|dropped| dropped.parse::<u64>().ok()).sum()
}

/// Whether a process's network namespace has an IPv4 default route.
pub(crate) fn has_default_route(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap_or_default();
    text.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(1) == Some("00000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_its_own_family_and_uses_something() {
        let me = std::process::id();
        std::thread::sleep(Duration::from_millis(1));
        assert!(family(me).contains(&me));
        assert!(resident_kib(me) > 0);
        assert!(descriptors(me) > 2);
        assert!(cpu(me) > Duration::ZERO);
        assert_eq!(trouble(me).unwrap().len(), TROUBLE.len());
    }
}

//! What commands make of the tables of a server, and whether the server did it.

use anyhow::{Context as _, Result, anyhow, bail};
use control::PifTable;
use stack::rule::{Pif, Rule, Table};

use super::request::Command;
use crate::spec::{Ephemeral, Expansion};

/// What rules on the command line do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Take the place of all rules of their table.
    Replace,
    /// Are added.
    Add,
    /// Are deleted.
    Delete,
}

/// The tables as they shall be: `commands` applied to those of the server, in their order. `ephemeral` is
/// this host's ports of that kind, or what is to be said about them.
///
/// # Errors
/// The first command that cannot be obeyed; nothing may be sent then.
pub(super) fn apply(
    commands: &[Command],
    received: &[PifTable],
    ephemeral: Result<Ephemeral, String>,
) -> Result<Vec<PifTable>> {
    let mut tables = received.to_vec();
    let mut mode = Mode::Replace;
    let ephemeral = ephemeral.unwrap_or_else(|warning| {
        log::warn!("{warning}");
        Ephemeral::default()
    });
    // Tables whose former rules were cleared.
    let mut cleared: Vec<Pif> = Vec::new();
    for command in commands {
        match command {
            Command::Add => mode = Mode::Add,
            Command::Delete => mode = Mode::Delete,
            Command::Clear(name) => {
                let entry = tables
                    .iter_mut()
                    .find(|entry| entry.pif.name() == name)
                    .with_context(|| format!("Unsupported pif name {name}"))?;
                entry.table.clear();
                cleared.push(entry.pif);
            }
            Command::Rules { option, spec, protocol, pif } => {
                let entry =
                    tables.iter_mut().find(|entry| entry.pif == *pif).with_context(|| {
                        format!("Server has no {} table: {option} {spec}", pif.name())
                    })?;
                if mode == Mode::Replace && !cleared.contains(pif) {
                    entry.table.clear();
                    cleared.push(*pif);
                }
                let (pif, caps) = (entry.pif, entry.caps);
                let (option, text, ephemeral) = (option.as_str(), spec.as_str(), &ephemeral);
                let expansion =
                    Expansion { option, text, protocol: *protocol, pif, caps, ephemeral };
                rules(mode, entry, &expansion)?;
            }
        }
    }
    Ok(tables)
}

/// Obeys one specifier.
fn rules(mode: Mode, entry: &mut PifTable, expansion: &Expansion<'_>) -> Result<()> {
    let table = &mut entry.table;
    expansion.check_none(table).map_err(|line| anyhow!(line))?;
    for rule in expansion.rules().map_err(|line| anyhow!(line))? {
        match mode {
            Mode::Delete => delete(table, &rule)?,
            // Who adds a rule again, after an interruption perhaps, has what he wants.
            Mode::Add if table.rules().contains(&rule) => {}
            Mode::Add | Mode::Replace => {
                expansion.add_rule(table, rule).map_err(|line| anyhow!(line))?;
            }
        }
    }
    Ok(())
}

fn delete(table: &mut Table, rule: &Rule) -> Result<()> {
    if table.remove(rule) {
        return Ok(());
    }
    match table.conflict(rule) {
        Some(other) => bail!(
            "Specifier {rule} conflicts with rule {other}, but doesn't match it, can't delete\n\
             Unable to delete rule {rule}"
        ),
        None => bail!(
            "Couldn't find forwarding rule to delete: {rule}\n\
             Unable to delete rule {rule}"
        ),
    }
}

/// What a server with the tables `now` did not do of a change from `before` to `wanted`, a line each.
pub(super) fn undone(before: &[PifTable], wanted: &[PifTable], now: &[PifTable]) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in wanted {
        let name = entry.pif.name();
        let (before, now) = (rules_of(before, entry.pif), rules_of(now, entry.pif));
        let wanted = entry.table.rules();
        let missing = wanted.iter().filter(|rule| !now.contains(rule));
        lines.extend(missing.map(|rule| format!("Rule not in effect in {name}: {rule}")));
        let stayed = before.iter().filter(|rule| !wanted.contains(rule) && now.contains(rule));
        lines.extend(stayed.map(|rule| format!("Rule still in effect in {name}: {rule}")));
    }
    lines
}

fn rules_of(tables: &[PifTable], pif: Pif) -> &[Rule] {
    tables.iter().find(|entry| entry.pif == pif).map_or(&[], |entry| entry.table.rules())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use stack::rule::Capabilities;

    use super::super::request::{self, Request};
    use super::*;

    /// The commands of a command line.
    fn commands(line: &str) -> Vec<Command> {
        let words = line.split_whitespace().chain(["sock"]).map(OsString::from);
        match request::read("pesto", words) {
            Ok(Request::Run(asked)) => asked.commands,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn empty(caps: Capabilities) -> Vec<PifTable> {
        Pif::ALL.map(|pif| PifTable { pif, caps, table: Table::default() }).to_vec()
    }

    /// Tables with the rules of a command line.
    fn tables(line: &str) -> Vec<PifTable> {
        apply(&commands(line), &empty(Capabilities::ALL), Ephemeral::read()).unwrap()
    }

    /// What a command line makes of a server that was set up by another one.
    fn after(before: &str, line: &str) -> Vec<PifTable> {
        apply(&commands(line), &tables(before), Ephemeral::read()).unwrap()
    }

    fn refused(before: &str, line: &str) -> String {
        apply(&commands(line), &tables(before), Ephemeral::read()).unwrap_err().to_string()
    }

    const BEFORE: &str = "-t 8000 -u 53 -T 22 -U 123";

    #[test]
    fn replacing_is_the_default_and_takes_whole_tables() {
        // Of the table of -t, UDP rules go as well; the other one stays.
        assert_eq!(after(BEFORE, "-t 80"), tables("-t 80 -T 22 -U 123"));
        assert_eq!(after(BEFORE, "-U 1"), tables("-t 8000 -u 53 -U 1"));
        // Only the first option clears.
        assert_eq!(
            after(BEFORE, "-t 80 -u 1 -t 81 -T 1 -U 2"),
            tables("-t 80 -u 1 -t 81 -T 1 -U 2")
        );
        assert_eq!(after(BEFORE, "-t none"), tables("-T 22 -U 123"));
        assert_eq!(after(BEFORE, "-t none -u none -t 1"), tables("-t 1 -T 22 -U 123"));
        assert!(refused(BEFORE, "-t 80 -t 80").contains("configuration conflict"));
        assert_eq!(refused(BEFORE, "-t 80 -t none"), "-t none conflicts with previous options");
        assert_eq!(after(BEFORE, "-u 80 -t none"), tables("-u 80 -T 22 -U 123"));
    }

    #[test]
    fn adding() {
        assert_eq!(after(BEFORE, "-A -t 80"), tables("-t 8000 -u 53 -t 80 -T 22 -U 123"));
        // What is there already is there; in the same place.
        assert_eq!(after(BEFORE, "-A -t 8000 -U 123"), tables(BEFORE));
        assert_eq!(after("", "-A -t 80 -t 80"), tables("-t 80"));
        for overlap in ["-t 7999-8000", "-t 8000:80", "-t 127.0.0.1/8000"] {
            let line = refused(BEFORE, &format!("-A {overlap}"));
            assert!(line.starts_with("Forwarding configuration conflict: TCP ["), "{line}");
            assert!(line.contains("\nUnable to add rule TCP ["), "{line}");
        }
        // Different addresses do not overlap.
        assert_eq!(
            after("-t 127.0.0.1/80", "-A -t 127.0.0.2/80 -t ::1/80"),
            tables("-t 127.0.0.1/80 -t 127.0.0.2/80 -t ::1/80")
        );
        assert_eq!(refused(BEFORE, "-A -t none"), "-t none conflicts with previous options");
    }

    #[test]
    fn deleting() {
        assert_eq!(after(BEFORE, "-D -t 8000"), tables("-u 53 -T 22 -U 123"));
        assert_eq!(after(BEFORE, "-D -t 8000 -u 53 -T 22 -U 123"), empty(Capabilities::ALL));
        assert_eq!(refused(BEFORE, "-D -t none"), "-t none conflicts with previous options");
        assert_eq!(
            refused(BEFORE, "-D -t 81"),
            "Couldn't find forwarding rule to delete: TCP [*]:81  =>  81 \n\
             Unable to delete rule TCP [*]:81  =>  81 "
        );
        assert_eq!(
            refused(BEFORE, "-D -t 8000-8001"),
            "Specifier TCP [*]:8000-8001  =>  8000-8001  conflicts with rule \
             TCP [*]:8000  =>  8000 , but doesn't match it, can't delete\n\
             Unable to delete rule TCP [*]:8000-8001  =>  8000-8001 "
        );
        assert!(refused(BEFORE, "-D -t 8000:80").contains("doesn't match it"));
        assert!(refused(BEFORE, "-D -t 8000 -t 8000").contains("Couldn't find"));
    }

    #[test]
    fn clearing() {
        assert_eq!(after(BEFORE, "-C HOST"), tables("-T 22 -U 123"));
        assert_eq!(after(BEFORE, "-C HOST -C SPLICE"), empty(Capabilities::ALL));
        // It counts as the clearing that replacing does, and happens where it stands.
        assert_eq!(after(BEFORE, "-t 1 -C HOST -t 2"), tables("-t 2 -T 22 -U 123"));
        assert_eq!(after(BEFORE, "-A -t 1 -C HOST"), tables("-T 22 -U 123"));
        for name in ["X", "host", "", "TAP"] {
            let command = Command::Clear(name.to_owned());
            let error = apply(&[command], &tables(BEFORE), Ephemeral::read()).unwrap_err();
            assert_eq!(error.to_string(), format!("Unsupported pif name {name}"));
        }
    }

    #[test]
    fn the_order_counts() {
        assert_eq!(
            after(BEFORE, "-D -t 8000 -A -t 8000-8001"),
            tables("-u 53 -t 8000-8001 -T 22 -U 123")
        );
        assert!(refused(BEFORE, "-A -t 8000-8001 -D -t 8000").contains("conflict"));
        // Replacing does not come back, but what it cleared stays cleared.
        assert_eq!(after(BEFORE, "-t 1 -A -t 2 -D -t 1"), tables("-t 2 -T 22 -U 123"));
    }

    #[test]
    fn servers_have_limits() {
        let caps = Capabilities { ipv6: false, udp: false, ..Capabilities::ALL };
        let refused =
            |line| apply(&commands(line), &empty(caps), Ephemeral::read()).unwrap_err().to_string();
        assert_eq!(
            refused("-A -t ::1/80"),
            "IPv6 forward, but IPv6 not enabled\nUnable to add rule TCP [::1]:80  =>  80"
        );
        assert!(refused("-u 53").starts_with("Can't add UDP forwarding rule, UDP not enabled\n"));
        assert!(refused("-t 0").contains("map from port 0"));
        // Any address is any of the family that is there.
        let tables = apply(&commands("-t 80"), &empty(caps), Ephemeral::read()).unwrap();
        assert_eq!(tables[0].table.rules()[0].to_string(), "TCP [0.0.0.0]:80  =>  80 ");
        // A server for a virtual machine has no namespace.
        let passt = &empty(Capabilities::ALL)[..1];
        let error = apply(&commands("-A -T 80"), passt, Ephemeral::read()).unwrap_err();
        assert_eq!(error.to_string(), "Server has no SPLICE table: -T 80");
        let error = apply(&commands("-C SPLICE"), passt, Ephemeral::read()).unwrap_err();
        assert_eq!(error.to_string(), "Unsupported pif name SPLICE");
    }

    #[test]
    fn what_a_server_did_not_do() {
        let (before, wanted) = (tables("-t 1 -t 2"), tables("-t 2 -t 3 -T 4"));
        assert_eq!(undone(&before, &wanted, &wanted), Vec::<String>::new());
        assert_eq!(
            undone(&before, &wanted, &before),
            [
                "Rule not in effect in HOST: TCP [*]:3  =>  3 ",
                "Rule still in effect in HOST: TCP [*]:1  =>  1 ",
                "Rule not in effect in SPLICE: TCP [*]%lo:4  =>  4 ",
            ]
        );
        // What another client has added meanwhile is none of our business.
        let more = tables("-t 2 -t 3 -t 9 -T 4");
        assert_eq!(undone(&before, &wanted, &more), Vec::<String>::new());
        assert_eq!(undone(&before, &wanted, &[]).len(), 3);
    }
}

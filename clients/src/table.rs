//! The table: a line for each step, a column for each set of programs, and the sums.

use crate::args::Column;
use crate::check::{Step, Verdict};
use std::fmt;

/// What came of everything.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    /// Column, client, step.
    cells: Vec<(Column, &'static str, Step)>,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), cells: Vec::new() }
    }

    /// Adds what came of a client's stories, of which the `required` ones have to have been told.
    pub(crate) fn add(
        &mut self,
        column: Column,
        client: &'static str,
        mut steps: Vec<Step>,
        required: &[String],
    ) {
        for story in required {
            let begin = format!("{story}: ");
            let mut told = false;
            for step in steps.iter_mut().filter(|step| step.name.starts_with(&begin)) {
                told = true;
                if step.verdict == Verdict::Skipped {
                    step.verdict = Verdict::Failed;
                    step.reason = format!("may not be skipped: {}", step.reason);
                }
            }
            if !told {
                let error = Err(anyhow::anyhow!("it did not come to that"));
                steps.push(Step::new(format!("{begin}story"), &error));
            }
        }
        self.cells.extend(steps.into_iter().map(|step| (column, client, step)));
    }

    /// Whether a step failed with the programs of `column`.
    pub(crate) fn failed(&self, column: Column) -> bool {
        self.cells.iter().any(|(of, _, step)| *of == column && step.verdict == Verdict::Failed)
    }

    fn cell(&self, column: Column, name: &str) -> Option<&Step> {
        let mut all = self.cells.iter();
        all.find(|(of, _, step)| *of == column && step.name == name).map(|(_, _, step)| step)
    }

    /// Everything's name once, in order.
    fn unique<'a>(
        &'a self,
        of: impl Fn(&'a (Column, &'static str, Step)) -> &'a str,
    ) -> Vec<&'a str> {
        let mut names = Vec::new();
        for name in self.cells.iter().map(of) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.unique(|(_, _, step)| &step.name);
        let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
        let head = self.columns.iter().map(|column| format!("  {:7}", column.name()));
        writeln!(f, "{:width$}{}", "check", head.collect::<String>())?;
        for name in &names {
            write!(f, "{name:width$}")?;
            for column in &self.columns {
                // Not reached: something before it failed.
                let verdict = self.cell(*column, name).map_or("-", |step| step.verdict.name());
                write!(f, "  {verdict:7}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (column, _, step) in &self.cells {
            if step.verdict != Verdict::Passed {
                let (verdict, who) = (step.verdict.name(), column.name());
                writeln!(f, "{verdict}, {who}: {}: {}", step.name, step.reason)?;
            }
        }
        for client in self.unique(|(_, client, _)| client).into_iter().map(Some).chain([None]) {
            for column in &self.columns {
                let count = |verdict| {
                    let mine = |(of, who, step): &&(Column, &str, Step)| {
                        of == column && client.is_none_or(|c| c == *who) && step.verdict == verdict
                    };
                    self.cells.iter().filter(mine).count()
                };
                let [passed, failed, skipped] =
                    [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(count);
                let (what, who) = (client.unwrap_or("all"), column.name());
                writeln!(f, "{what}, {who}: {passed} passed, {failed} failed, {skipped} skipped")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Skip;
    use anyhow::anyhow;

    fn table(steps: Vec<Step>) -> Table {
        let mut table = Table::new(&[Column::Ours, Column::C]);
        table.add(Column::Ours, "x", steps, &["x/a".into()]);
        table
    }

    #[test]
    fn what_is_required_may_not_be_skipped() {
        let skip = || Err(Skip("no reason".into()).into());
        let table = table(vec![
            Step::new("x/a: one".into(), &skip()),
            Step::new("x/b: two".into(), &skip()),
        ]);
        assert!(table.failed(Column::Ours));
        let text = table.to_string();
        assert!(text.contains("x/a: one  failed   -"), "{text}");
        assert!(text.contains("may not be skipped: no reason"), "{text}");
        assert!(
            text.ends_with(
                "all, ours: 0 passed, 1 failed, 1 skipped\nall, C: 0 passed, 0 failed, 0 skipped\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_required_has_to_be_told() {
        assert!(table(vec![Step::new("x/b: two".into(), &Ok(()))]).failed(Column::Ours));
        assert!(!table(vec![Step::new("x/a: two".into(), &Ok(()))]).failed(Column::Ours));
    }

    #[test]
    fn failures_are_those_of_the_column() {
        let table = table(vec![
            Step::new("x/a: one".into(), &Ok(())),
            Step::new("x/a: two".into(), &Err(anyhow!("no"))),
        ]);
        assert!(table.failed(Column::Ours));
        assert!(!table.failed(Column::C));
    }
}

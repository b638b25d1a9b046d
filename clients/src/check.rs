//! What is checked of a client, and what came of it.

use anyhow::{Context as _, Result};
use std::fmt;
use testkit::RigError;

use crate::inside::Inside;

/// One program, with everything that is checked of it in one rig.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) stories: &'static [Story],
}

/// A story of several steps, each of which is a line of the table.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// Whether a step that is skipped counts as failed.
    pub(crate) required: bool,
    pub(crate) run: fn(&Inside<'_>) -> Result<()>,
}

/// A story that has to be told everywhere.
pub(crate) const fn required(name: &'static str, run: fn(&Inside<'_>) -> Result<()>) -> Story {
    Story { name, required: true, run }
}

/// A story that may have to be skipped.
pub(crate) const fn story(name: &'static str, run: fn(&Inside<'_>) -> Result<()>) -> Story {
    Story { name, required: false, run }
}

/// Why something is not checked.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the table, of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// `CLIENT/STORY: STEP`.
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
}

/// Begins a line of the inner process that is a [`Step`].
const MARK: &str = "STEP\t";

impl Step {
    pub(crate) fn new(name: String, result: &Result<()>) -> Self {
        let (verdict, reason) = match result {
            Ok(()) => (Verdict::Passed, String::new()),
            Err(error) if error.is::<Skip>() || error.is::<RigError>() => {
                (Verdict::Skipped, format!("{error:#}"))
            }
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        Self { name, verdict, reason }
    }

    /// The step as a line, for the process that collects them.
    pub(crate) fn line(&self) -> String {
        let reason = self.reason.replace(['\n', '\t'], " ");
        format!("{MARK}{}\t{}\t{reason}", self.name, self.verdict.name())
    }

    /// Reads what [`Step::line`] made; `None` for every other line.
    pub(crate) fn parse(line: &str) -> Option<Result<Self>> {
        let rest = line.strip_prefix(MARK)?;
        let parse = || {
            let mut fields = rest.split('\t');
            let mut field = || fields.next().map(str::to_owned).context("too few fields");
            let (name, verdict, reason) = (field()?, field()?, field()?);
            let verdict = [Verdict::Passed, Verdict::Failed, Verdict::Skipped]
                .into_iter()
                .find(|known| known.name() == verdict)
                .with_context(|| verdict)?;
            Ok(Self { name, verdict, reason })
        };
        Some(parse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_step_survives_its_way_as_a_line() {
        let step = Step::new("a/b: c".into(), &Err(anyhow!("one\ntwo").context("zero")));
        let read = Step::parse(&step.line()).expect("a step").expect("readable");
        assert_eq!(read.name, "a/b: c");
        assert_eq!((read.verdict, read.reason.as_str()), (Verdict::Failed, "zero: one two"));
    }

    #[test]
    fn what_cannot_be_checked_is_skipped() {
        let step = Step::new("x".into(), &Err(Skip("too old".into()).into()));
        assert_eq!((step.verdict, step.reason.as_str()), (Verdict::Skipped, "too old"));
    }

    #[test]
    fn other_lines_are_no_steps() {
        assert!(Step::parse("hello").is_none());
        assert!(Step::parse("STEP\tx\tperhaps\t").is_some_and(|step| step.is_err()));
    }
}

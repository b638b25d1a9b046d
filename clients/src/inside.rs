//! The tree inside a rig, and what an ordinary user does in it.

use crate::args::Column;
use crate::check::{Step, Verdict};
use anyhow::{Context as _, Result, ensure};
use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::{Outcome, Place, Proc, Rig, User, until};

/// Limit for a command, unless its caller knows better.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How soon after its namespace or client pasta and passt have to be gone.
const GONE: Duration = Duration::from_secs(5);
/// What the user's programs find in their environment.
const ENVIRONMENT: [&str; 8] = [
    "env",
    "-i",
    "--chdir=/home/user",
    "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME=/home/user",
    "USER=user",
    "XDG_RUNTIME_DIR=/run/user/1000",
    "LC_ALL=C",
];

/// A Debian tree as the root of a mount namespace on a rig's host.
pub(crate) struct Inside<'r> {
    pub(crate) rig: &'r Rig,
    /// Whose programs the clients start.
    pub(crate) column: Column,
    /// Keeps the mount namespace.
    holder: Proc,
    story: RefCell<String>,
    steps: Cell<usize>,
}

impl<'r> Inside<'r> {
    /// Enters the tree, with the programs in `ours` in place of the packaged ones.
    pub(crate) fn enter(
        rig: &'r Rig,
        column: Column,
        tree: &Path,
        ours: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
        command.args([include_str!("enter.sh"), "enter.sh"]).arg(tree);
        command.arg(ours.unwrap_or_else(|| Path::new("")));
        let mut holder = Proc::start(command)?;
        holder.wait_line("ready", LIMIT).context("entering the tree")?;
        let story = RefCell::new("?".to_owned());
        Ok(Self { rig, column, holder, story, steps: Cell::new(0) })
    }

    /// The beginning of a command line for root that goes on as the user in the tree.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let mount = format!("--mount=/proc/{}/ns/mnt", self.holder.pid());
        let words = ["nsenter", &mount, "--", "setpriv", "--reuid=user", "--regid=user"];
        let more = ["--init-groups", "--inh-caps=-all", "--"];
        words.into_iter().chain(more).chain(ENVIRONMENT).map(str::to_owned).collect()
    }

    /// A shell script of the user's.
    fn script(&self, script: &str) -> Command {
        let mut argv = self.prefix();
        argv.extend(["sh", "-euc", script].map(str::to_owned));
        self.rig.command(&Place::Host, User::Root, &argv)
    }

    /// Runs a shell script as the user, and returns what it printed; it must end with 0.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let text = self.outcome(script)?.ok(script)?;
        Ok(text.trim_end().to_owned())
    }

    /// Runs a shell script as the user, and returns how it ended.
    pub(crate) fn outcome(&self, script: &str) -> Result<Outcome> {
        Proc::run(self.script(script), LIMIT)
    }

    /// Starts a shell script as the user.
    pub(crate) fn start(&self, script: &str) -> Result<Proc> {
        Proc::start(self.script(&format!("exec {script}")))
    }

    /// Runs the helper at `place`, see `testkit::peer`.
    pub(crate) fn peer(&self, place: &Place, args: &str) -> Result<String> {
        self.rig.peer(place, LIMIT, args)
    }

    /// Runs and records a step of the story; whether it passed.
    pub(crate) fn step(&self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        let result = step();
        self.record(name, &result) == Verdict::Passed
    }

    /// Runs and records a step without which the story cannot go on.
    pub(crate) fn first<T>(&self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let (result, value) = match step() {
            Ok(value) => (Ok(()), Some(value)),
            Err(error) => (Err(error), None),
        };
        self.record(name, &result);
        value.ok_or_else(|| Stop.into())
    }

    /// Tells a story.
    pub(crate) fn tell(&self, name: String, story: fn(&Self) -> Result<()>) {
        *self.story.borrow_mut() = name;
        self.steps.set(0);
        let result = story(self);
        match &result {
            Err(error) if error.is::<Stop>() => {}
            Ok(()) if self.steps.get() > 0 => {}
            Ok(()) => drop(self.record("story", &Err(anyhow::anyhow!("nothing was checked")))),
            Err(_) => drop(self.record("story", &result)),
        }
    }

    fn record(&self, name: &str, result: &Result<()>) -> Verdict {
        self.steps.set(self.steps.get() + 1);
        let step = Step::new(format!("{}: {name}", self.story.borrow()), result);
        say(&step.line());
        step.verdict
    }

    /// A process whose name begins with `program` lives: what has ended too early ends no worse at the end.
    pub(crate) fn lives(&self, program: &str) -> Result<()> {
        ensure!(!processes(program).is_empty(), "{program} has ended before it should");
        Ok(())
    }

    /// Waits until no process of the rig has a name that begins with `program`.
    pub(crate) fn until_no(&self, program: &str) -> Result<()> {
        until(&format!("the end of {program}"), GONE, || processes(program).is_empty())
    }

    /// The only process whose name begins with `program`.
    pub(crate) fn only(&self, program: &str) -> Result<u32> {
        let found = processes(program);
        ensure!(found.len() == 1, "{} processes called {program}", found.len());
        found.first().copied().context("none")
    }
}

/// A step that the rest depends on has not passed, and is recorded.
#[derive(Debug)]
struct Stop;

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the story cannot go on")
    }
}

impl std::error::Error for Stop {}

/// Living processes of this PID namespace whose names begin with `program`.
fn processes(program: &str) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let alive = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((before, after)) = stat.rsplit_once(") ") else { return false };
        let name = before.split_once('(').map_or("", |(_, name)| name);
        name.starts_with(program) && !after.starts_with(['Z', 'X'])
    };
    numbers.filter(alive).collect()
}

/// Writes a line to standard output at once. Whoever reads it may be gone: then nobody cares.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

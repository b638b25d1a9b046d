//! The process that was started: prepares, runs every client in its rig, and prints the table.

use crate::args::{Args, Column};
use crate::check::{Client, Step};
use crate::{CLIENTS, programs, table, tree};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::{Proc, enclosed, wait_for};

/// Limit for one client with one column's programs.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "making network namespaces needs root");
    let root = tree::provide(&args.tree)?;
    let versions = tree::versions(&root)?;
    let wanted: Vec<&Client> =
        CLIENTS.iter().filter(|client| names(client).any(|name| args.wants(&name))).collect();
    ensure!(!wanted.is_empty(), "nothing has such a name");
    let mut table = table::Table::new(&args.columns);
    for client in wanted {
        for &column in &args.columns {
            let begin = Instant::now();
            let steps = tell(args, column, client);
            eprintln!("{}, {}: {:.0?}", client.name, column.name(), begin.elapsed());
            let required = client.stories.iter().filter(|story| story.required);
            let required = required.map(|story| format!("{}/{}", client.name, story.name));
            let required = required.filter(|name| args.wants(name)).collect::<Vec<_>>();
            table.add(column, client.name, steps, &required);
        }
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{versions}\n\n{table}")?;
    Ok(if table.failed(Column::Ours) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Names of a client's stories.
fn names(client: &Client) -> impl Iterator<Item = String> {
    client.stories.iter().map(|story| format!("{}/{}", client.name, story.name))
}

/// Runs a client's stories in a rig; what keeps them from being told is a failed step, too.
fn tell(args: &Args, column: Column, client: &Client) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(error) = collect(args, column, client, &mut steps) {
        let step = Step::new(format!("{}: all of it", client.name), &Err(error));
        eprintln!("{:7} {}: {}: {}", step.verdict.name(), column.name(), step.name, step.reason);
        steps.push(step);
    }
    steps
}

fn collect(args: &Args, column: Column, client: &Client, steps: &mut Vec<Step>) -> Result<()> {
    let mut command = enclosed(&programs()?.join("e2e-peer"), &std::env::current_exe()?);
    command.args(["--inside", column.name(), client.name]).env("CLIENTS_TREE", &args.tree);
    if let Some(guest) = &args.guest {
        command.env(testkit::guest::IMAGE, guest);
    }
    for only in &args.only {
        command.args(["--only", only]);
    }
    let mut proc = Proc::start(command)?;
    proc.close_stdin();
    let what = format!("{} with {}", client.name, column.name());
    let mut seen = 0;
    wait_for(&what, LIMIT, || {
        let over = !proc.running()?;
        let text = proc.stdout();
        for line in text.lines().skip(seen) {
            seen += 1;
            let Some(step) = Step::parse(line) else { continue };
            let step = step?;
            let who = column.name();
            eprintln!("{:7} {who}: {} {}", step.verdict.name(), step.name, step.reason);
            steps.push(step);
        }
        Ok(over.then_some(()))
    })?;
    let outcome = proc.finish(Duration::from_secs(10)).context(what)?;
    if !outcome.status.success() {
        return Err(anyhow!("{}: {}", outcome.status, outcome.stderr.trim()));
    }
    Ok(())
}

//! `cargo xtask test` and `cargo xtask e2e`.

use crate::{check, tools};
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A whole GiB for each bulk transfer, a minute for what has to be endured, and guests that are paused for
/// longer than a connection's usual timers.
const FULL: &[(&str, &str)] =
    &[("E2E_BYTES", "1073741824"), ("E2E_SECONDS", "60"), ("E2E_PAUSE", "150")];
/// How long each fuzz target runs is this, shared among them all.
const FUZZ: Duration = Duration::from_secs(60);

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Counts a step that is no test of its own kind.
    fn step(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("FAILED {what}: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Prints the counts as the last line, and fails if something failed.
    fn finish(self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{self}")?;
        out.flush()?;
        if self.failed > 0 {
            std::process::exit(1);
        }
        Ok(())
    }
}

/// Runs every test there is, after the checks, and fuzzes for a minute. `args` go to the runner.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    tools::provide()?;
    let mut counts = Counts::default();
    counts.step("cargo xtask check", check::run());
    let args: Vec<OsString> = args.collect();
    counts.add(tests(&["--workspace"], &args)?);
    if args.is_empty() {
        fuzz(&mut counts);
    }
    counts.finish()
}

/// Runs the end-to-end tests; `--full` with transfers of a GiB, and for minutes.
pub(crate) fn e2e(args: impl Iterator<Item = OsString>) -> Result<()> {
    tools::provide()?;
    let mut args: Vec<OsString> = args.collect();
    let before = args.len();
    args.retain(|arg| arg != "--full");
    if args.len() < before {
        return tests_with(&["--package", "e2e"], &args, FULL)?.finish();
    }
    tests(&["--package", "e2e"], &args)?.finish()
}

fn tests(packages: &[&str], args: &[OsString]) -> Result<Counts> {
    tests_with(packages, args, &[])
}

/// Builds pasta as released and runs the tests of `packages` against it.
fn tests_with(packages: &[&str], args: &[OsString], env: &[(&str, &str)]) -> Result<Counts> {
    let pasta = match std::env::var_os("PASTA_BIN") {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    let skipped = std::env::temp_dir().join(format!("skipped-tests-{}", std::process::id()));
    // A leftover of an earlier process with this number.
    let _ = std::fs::remove_file(&skipped);
    let nextest = quiet(&["nextest", "--version"]);
    let mut command = cargo();
    command.args(if nextest { &["nextest", "run"][..] } else { &["test"] });
    command.args(packages).arg("--no-fail-fast").args(args);
    command.env("PASTA_BIN", pasta).env("TESTKIT_SKIPPED", &skipped);
    command.envs(env.iter().copied());
    if let Some(tree) = tools::provide_debian() {
        command.env(testkit::debian::SID, tree);
    }
    if let Some(directory) = tools::provide_static() {
        command.env(testkit::STATIC_BIN, directory);
    }
    if let Some(image) = tools::provide_guest() {
        command.env(testkit::guest::IMAGE, image);
    }
    let mut counts = run_counted(command)?;
    if nextest && packages == ["--workspace"] && args.is_empty() {
        let mut command = cargo();
        command.args(["test", "--doc", "--workspace"]);
        counts.add(run_counted(command)?);
    }
    // To the runner a test that found out that it cannot run here is one that passed.
    let reasons = std::fs::read_to_string(&skipped).unwrap_or_default();
    let _ = std::fs::remove_file(&skipped);
    for reason in reasons.lines() {
        eprintln!("SKIPPED {reason}");
        counts.passed = counts.passed.saturating_sub(1);
        counts.skipped += 1;
    }
    Ok(counts)
}

/// Builds pasta and what belongs to it as released and returns where it is.
fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "cli", "--bins"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.split("\"executable\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    paths
        .map(PathBuf::from)
        .find(|path| path.file_name() == Some(OsStr::new("pasta")))
        .context("cargo did not say where pasta is")
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn quiet(args: &[&str]) -> bool {
    let mut command = cargo();
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a test runner, shows what it says, and counts what it counts.
fn run_counted(mut command: Command) -> Result<Counts> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || err.map_or_else(Counts::default, count));
    let mut counts = out.map_or_else(Counts::default, count);
    counts.add(reader.join().unwrap_or_default());
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        // It did not come to running: a crate that does not compile, most likely.
        eprintln!("FAILED: {status}");
        counts.failed = 1;
    }
    Ok(counts)
}

/// Shows a runner's output and adds up its summaries.
fn count(output: impl std::io::Read) -> Counts {
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        counts.add(summary(&line).unwrap_or_default());
    }
    counts
}

/// Reads a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …` of libtest, or
/// `Summary [ 1.2s] 4 tests run: 3 passed (1 slow), 1 failed, 0 skipped` of nextest.
fn summary(line: &str) -> Option<Counts> {
    // Indented, it is what nextest shows of a test that failed, and is counted there.
    let rest = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line.trim().strip_prefix("Summary [")?.split_once(" run: ")?.1,
    };
    let mut counts = Counts::default();
    for part in rest.split([';', ',']) {
        let mut words = part.split_whitespace();
        let (Some(Ok(n)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
            continue;
        };
        match what {
            "passed" => counts.passed = n,
            "failed" | "timed" | "exec" => counts.failed += n,
            "ignored" | "skipped" => counts.skipped += n,
            _ => {}
        }
    }
    Some(counts)
}

/// Runs every fuzz target for its share of a minute.
fn fuzz(counts: &mut Counts) {
    let directory = check::root().join("fuzz");
    let targets = match targets(&directory) {
        Ok(targets) => targets,
        Err(error) => return counts.step("fuzz", Err(error)),
    };
    if !tools::is_installed("g++") {
        eprintln!("SKIPPED fuzz: g++ is not installed");
        counts.skipped += targets.len() as u64;
        return;
    }
    let share = FUZZ.as_secs() / (targets.len() as u64).max(1);
    for target in targets {
        let mut command = Command::new(directory.join("run"));
        command.arg(&target).arg(format!("-max_total_time={}", share.max(1)));
        command.arg("-verbosity=0").arg("-print_final_stats=1").stdout(std::io::stderr());
        let result = command.status().context("cannot run fuzz/run").and_then(|status| {
            ensure!(status.success(), "{status}");
            Ok(())
        });
        counts.step(&format!("fuzz/run {target}"), result);
    }
}

/// Names of the fuzz targets.
fn targets(directory: &std::path::Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.join("fuzz_targets")).context("fuzz_targets")? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("rs")) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    if names.is_empty() {
        bail!("no fuzz targets");
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts { passed, failed, skipped })
    }

    #[test]
    fn reads_the_summary_of_libtest() {
        let line = "test result: FAILED. 110 passed; 6 failed; 2 ignored; 0 measured; \
            7 filtered out; finished in 33.05s";
        assert_eq!(summary(line), counts(110, 6, 2));
    }

    #[test]
    fn reads_the_summary_of_nextest() {
        let line = "     Summary [   1.234s] 9 tests run: 5 passed (1 slow, 1 leaky), 2 failed, \
            1 exec failed, 1 timed out, 3 skipped";
        assert_eq!(summary(line), counts(5, 4, 3));
        let line = "     Summary [   0.034s] 3/9 tests run: 3 passed, 0 skipped";
        assert_eq!(summary(line), counts(3, 0, 0));
    }

    #[test]
    fn reads_nothing_from_other_lines() {
        assert_eq!(summary("running 3 tests"), None);
        assert_eq!(summary("3 passed, 2 failed"), None);
        assert_eq!(summary("    test result: FAILED. 0 passed; 1 failed; 0 ignored"), None);
    }
}

//! Starting pasta, and passt, in a rig, in the ways that tests want it.

use crate::debian::{SID, as_user};
use crate::proc::{Outcome, Proc};
use crate::rig::{Place, Rig, RigError, User};
use crate::wait::wait_for;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Limit for pasta's start.
const START: Duration = Duration::from_secs(20);

static HOLDS: AtomicU32 = AtomicU32::new(0);

/// The program under test: `PASTA_BIN`, or `release/pasta` in the directory of this build.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PASTA_BIN") {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.exists(), "PASTA_BIN: {} does not exist", path.display());
        return Ok(path);
    }
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).unwrap_or_else(|| Path::new("target"));
    let path = target.join("release/pasta");
    if !path.exists() {
        let text =
            format!("no {}: cargo build --release --bin pasta, or PASTA_BIN", path.display());
        bail!(RigError(text));
    }
    Ok(path)
}

/// The passt under test: `PASST_BIN`, or what is beside pasta.
fn passt_binary() -> Result<PathBuf> {
    let Some(path) = std::env::var_os("PASST_BIN") else { return beside("passt") };
    let path = PathBuf::from(path);
    anyhow::ensure!(path.exists(), "PASST_BIN: {} does not exist", path.display());
    Ok(path)
}

/// A program that is built together with pasta; ends the test as skipped if it is not there.
fn beside(name: &str) -> Result<PathBuf> {
    let path = binary()?.with_file_name(name);
    if !path.exists() {
        bail!(RigError(format!("no {}: cargo build --release --bins", path.display())));
    }
    Ok(path)
}

/// Whether a program is a wrapper around another implementation.
fn is_script(path: &Path) -> Result<bool> {
    Ok(std::fs::read(path)?.starts_with(b"#!"))
}

/// The variable in the environment that names the directory with static programs.
pub const STATIC_BIN: &str = "STATIC_BIN";

impl Rig {
    /// The directory with static programs; ends the test as skipped if there is none.
    pub fn static_programs(&self) -> Result<PathBuf> {
        match std::env::var_os(STATIC_BIN) {
            Some(directory) => Ok(directory.into()),
            None => bail!(RigError(format!("no static programs: {STATIC_BIN} is not set"))),
        }
    }

    /// A pasta to be started by `user`.
    pub fn pasta(&self, user: User) -> Result<PastaBuilder<'_>> {
        self.program(binary, "pasta", user)
    }

    /// A passt to be started by `user`.
    pub fn passt(&self, user: User) -> Result<PastaBuilder<'_>> {
        self.program(passt_binary, "passt", user)
    }

    fn program(
        &self,
        find: impl FnOnce() -> Result<PathBuf>,
        name: &str,
        user: User,
    ) -> Result<PastaBuilder<'_>> {
        // Once it has been copied, the test may hide where it came from.
        let path = match self.installed(name) {
            Some(path) => path,
            None => {
                let path = find()?;
                if is_script(&path)? {
                    return Ok(PastaBuilder::wrapped(self, &self.in_tree(&path)?, user));
                }
                self.install(&path, name)?
            }
        };
        Ok(PastaBuilder { rig: self, user, argv: vec![path.display().to_string()] })
    }

    /// Where passt is, for a program that starts it.
    pub fn passt_path(&self) -> Result<PathBuf> {
        if let Some(path) = self.installed("passt") {
            return Ok(path);
        }
        let path = passt_binary()?;
        if is_script(&path)? { self.in_tree(&path) } else { self.install(&path, "passt") }
    }

    /// Where a wrapper is in the rig: of the packages' tree, every user sees all there.
    fn in_tree(&self, path: &Path) -> Result<PathBuf> {
        let tree = std::env::var_os(SID).map(PathBuf::from);
        match path.file_name() {
            Some(name) if tree.as_deref() == path.parent() => Ok(self.debian()?.join(name)),
            _ => Ok(path.to_owned()),
        }
    }

    /// The program `pesto` beside pasta, where every user may execute it.
    pub fn pesto(&self) -> Result<PathBuf> {
        self.beside_pasta("pesto", "pesto")
    }

    /// The program `qrap` beside pasta, where every user may execute it.
    pub fn qrap(&self) -> Result<PathBuf> {
        self.beside_pasta("qrap", "qrap")
    }

    /// The program `passt-repair` beside pasta, for root as it is, for the ordinary user with its one
    /// capability.
    pub fn passt_repair(&self, user: User) -> Result<PathBuf> {
        if user == User::Root {
            return self.beside_pasta("passt-repair", "passt-repair");
        }
        self.needs(&["setcap"])?;
        let path = self.beside_pasta("passt-repair", "passt-repair-with-capability")?;
        let argv = ["setcap", "cap_net_admin=ep", &path.display().to_string()];
        self.run(&Place::Host, START, &argv)?;
        Ok(path)
    }

    fn beside_pasta(&self, program: &str, name: &str) -> Result<PathBuf> {
        match self.installed(name) {
            Some(path) => Ok(path),
            None => self.install(&beside(program)?, name),
        }
    }

    /// A process that holds a new user and network namespace of `user`'s, in which nothing is
    /// configured.
    pub fn hold(&self, user: User) -> Result<Holder> {
        self.hold_with(user, &[])
    }

    /// Like [`Rig::hold`], with further arguments for unshare(1).
    pub fn hold_with(&self, user: User, options: &[&str]) -> Result<Holder> {
        let mut argv = vec!["unshare", "--user", "--map-root-user", "--net"];
        argv.extend(options);
        let helper = self.helper().display().to_string();
        argv.extend(["--", &helper, "hold"]);
        let mut proc = Proc::start(self.command(&Place::Host, user, &argv))?;
        proc.wait_line("ready", START)?;
        Ok(Holder { proc })
    }
}

/// A process whose namespaces are there to be attached to. They end with it.
#[derive(Debug)]
pub struct Holder {
    proc: Proc,
}

impl Holder {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.proc.pid()
    }

    /// Its network namespace, as a place to run programs as root.
    pub fn place(&self) -> Place {
        Place::Of(self.pid())
    }
}

/// A command line of pasta or passt in the making.
#[derive(Debug, Clone)]
pub struct PastaBuilder<'r> {
    rig: &'r Rig,
    user: User,
    argv: Vec<String>,
}

impl<'r> PastaBuilder<'r> {
    /// A wrapper around another implementation knows the way to it only where it is, and changes the
    /// user itself.
    pub(crate) fn wrapped(rig: &'r Rig, path: &Path, user: User) -> Self {
        Self { rig, user: User::Root, argv: as_user(path, user) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.argv.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Limits pasta's open files to `files`, hard and soft.
    #[must_use]
    pub fn limit_files(mut self, files: u32) -> Self {
        let limit = format!("--nofile={files}");
        self.argv.splice(0..0, ["prlimit".to_owned(), limit, "--".to_owned()]);
        self
    }

    /// Lets the kernel refuse `call`, see the helper's `refuse`.
    #[must_use]
    pub fn refuse(mut self, call: &str) -> Self {
        let helper = self.rig.helper().display().to_string();
        self.argv.splice(0..0, [helper, "refuse".to_owned(), call.to_owned()]);
        self
    }

    /// The command as it stands.
    pub fn command(&self) -> Command {
        self.rig.command(&Place::Host, self.user, &self.argv)
    }

    /// Runs the command to its end.
    pub fn run(&self, limit: Duration) -> Result<Outcome> {
        Proc::run(self.command(), limit)
    }

    /// Starts the command and leaves it running.
    pub fn start(&self) -> Result<Proc> {
        Proc::start(self.command())
    }

    /// Starts `pasta … -- helper hold` and waits until that runs: then the namespace is ready.
    pub fn start_hold(&self) -> Result<Pasta> {
        let mark = HOLDS.fetch_add(1, Ordering::Relaxed).to_string();
        let helper = self.rig.helper().display().to_string();
        let with = self.clone().args(&["--", helper.as_str(), "hold", mark.as_str()]);
        let mut proc = with.start()?;
        proc.wait_line("ready", START)?;
        let wanted = format!("{helper}\0hold\0{mark}\0");
        let guest = wait_for("the process in pasta's namespace", START, || find(&wanted))?;
        Ok(Pasta { proc, guest })
    }
}

/// The process with exactly this command line.
fn find(cmdline: &str) -> Result<Option<u32>> {
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let path = entry?.path();
        let pid = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        let same = std::fs::read(path.join("cmdline")).is_ok_and(|c| c == cmdline.as_bytes());
        if let (Some(pid), true) = (pid, same) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// A running pasta with a process in its namespace.
#[derive(Debug)]
pub struct Pasta {
    proc: Proc,
    guest: u32,
}

impl Pasta {
    /// The program itself.
    pub fn proc(&mut self) -> &mut Proc {
        &mut self.proc
    }

    /// The process id of the command in the namespace.
    pub fn guest(&self) -> u32 {
        self.guest
    }

    /// The namespace, as a place to run programs as root.
    pub fn place(&self) -> Place {
        Place::Of(self.guest)
    }

    /// Ends the command in the namespace and returns how pasta ended.
    pub fn finish(mut self) -> Result<Outcome> {
        self.proc.close_stdin();
        self.proc.finish(START)
    }
}

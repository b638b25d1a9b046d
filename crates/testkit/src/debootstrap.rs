//! Whole Debian sid trees: made by debootstrap, kept between runs, entered by `pivot_root(2)`.

use crate::proc::Proc;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MAKE: &str = include_str!("debootstrap.sh");
const ENTER: &str = include_str!("enter.sh");
/// It takes a few minutes where the mirror is near.
const LIMIT: Duration = Duration::from_secs(1800);

/// What a tree is made of.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// What is installed beside the minimum.
    pub packages: &'a [&'a str],
    /// Shell commands that are run in it afterwards.
    pub commands: &'a str,
}

/// A tree that is there.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes the tree in `dir` unless it is there.
    ///
    /// # Errors
    /// Without root, debootstrap (which is installed on Debian) and a Debian mirror.
    pub fn provide(dir: &Path, recipe: Recipe<'_>) -> Result<Self> {
        let (root, made_of) = (dir.join("root"), dir.join("recipe"));
        let text = format!("{MAKE}\n{}\n{}\n", recipe.packages.join("\n"), recipe.commands);
        if root.exists() && fs::read_to_string(&made_of).is_ok_and(|old| old == text) {
            return Ok(Self { root: root.canonicalize()? });
        }
        install_debootstrap()?;
        eprintln!("making a Debian sid tree in {}, which takes a few minutes", dir.display());
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let _ = fs::remove_file(&made_of);
        // Mounts and processes of an attempt that is broken off go with these namespaces.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]);
        command.args(["--kill-child", "--mount-proc", "--propagation", "private", "--"]);
        command.args(["sh", "-c", MAKE, "debootstrap.sh"]).arg(&dir).arg(recipe.commands);
        command.args(recipe.packages);
        Proc::run(command, LIMIT)?.ok("making the tree")?;
        fs::write(dir.join("recipe"), text)?;
        Ok(Self { root: dir.join("root") })
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A shell script to be run as root in the tree, where `with` is the directory `/with`. What it writes is
    /// forgotten, and every process of it ends with it.
    #[must_use]
    pub fn script(&self, with: &Path, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--ipc", "--fork", "--kill-child"]);
        command.args(["--propagation", "private", "--", "sh", "-c", ENTER, "enter.sh"]);
        command.arg(&self.root).arg(with).arg(script);
        command
    }
}

fn install_debootstrap() -> Result<()> {
    if Path::new("/usr/sbin/debootstrap").exists() {
        return Ok(());
    }
    ensure!(Path::new("/usr/bin/apt-get").exists(), "no debootstrap, and no apt-get to get it");
    for line in ["update", "install --yes --no-install-recommends debootstrap"] {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(line.split(' ')).env("DEBIAN_FRONTEND", "noninteractive");
        // Lists that could not be updated may still be good enough.
        let done = Proc::run(command, LIMIT)?;
        ensure!(line == "update" || done.status.success(), "no debootstrap: {}", done.stderr);
    }
    Ok(())
}

//! Debian packages without installing them: an apt that touches nothing of this machine's.

use crate::proc::Proc;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);
/// How long unpacking a package may take.
const UNPACK: Duration = Duration::from_secs(60);
/// Where Debian is to be had.
const MIRROR: &str = "http://deb.debian.org";

/// An apt with lists, a cache and a configuration of its own, in which nothing is installed.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    conf: PathBuf,
}

impl Apt {
    /// An apt in `dir` that knows the packages of the archives: each a directory below the mirror and
    /// a suite. Fetches its lists.
    pub(crate) fn new(dir: &Path, archives: &[(&str, &str)]) -> Result<Self> {
        ensure!(Path::new("/usr/bin/apt-get").exists(), "no apt-get on this machine");
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        let mut sources = String::new();
        for (archive, suite) in archives {
            let key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
            sources += &format!("deb [{key}] {MIRROR}/{archive} {suite} main\n");
        }
        fs::write(dir.join("sources.list"), sources)?;
        let conf = dir.join("apt.conf");
        let at = dir.display();
        fs::write(
            &conf,
            format!(
                "Dir::Etc::SourceList \"{at}/sources.list\";\n\
                 Dir::Etc::SourceParts \"/dev/null\";\n\
                 Dir::State \"{at}\";\n\
                 Dir::State::Lists \"{at}/lists\";\n\
                 Dir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 Acquire::Check-Valid-Until \"false\";\n\
                 Acquire::Languages \"none\";\n\
                 APT::Sandbox::User \"root\";\n"
            ),
        )?;
        let apt = Self { dir: dir.to_owned(), conf };
        apt.run("apt-get", &["update"])?;
        Ok(apt)
    }

    /// Names of the files that [`Apt::download`] would fetch; they have the packages' versions in them.
    pub(crate) fn files(&self, packages: &[&str]) -> Result<Vec<String>> {
        let text = self.run("apt-get", &[&["download", "--print-uris"], packages].concat())?;
        let mut names: Vec<String> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect();
        names.sort();
        ensure!(names.len() == packages.len(), "apt knows {} of {packages:?}", names.len());
        Ok(names)
    }

    /// Fetches packages into `to`, which is emptied before, and says where they are.
    pub(crate) fn download(&self, to: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to)?;
        let mut command = self.command("apt-get", &[&["download"], packages].concat());
        command.current_dir(to);
        Proc::run(command, DOWNLOAD)?.ok("apt-get")?;
        let found = debs(to)?;
        if found.len() < packages.len() {
            bail!("apt-get downloaded {} of {} packages", found.len(), packages.len());
        }
        Ok(found)
    }

    /// Fetches a package with all that it depends on, and says where that is.
    pub(crate) fn download_all(&self, package: &str) -> Result<Vec<PathBuf>> {
        let to = self.dir.join("cache/archives");
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(to.join("partial"))?;
        let options = ["--yes", "--no-install-recommends", "--download-only", "install", package];
        self.run("apt-get", &options)?;
        debs(&to)
    }

    /// Forgets what [`Apt::download_all`] fetched.
    pub(crate) fn clean(&self) -> Result<()> {
        self.run("apt-get", &["clean"]).map(drop)
    }

    /// The first package that `package` depends on.
    pub(crate) fn first_dependency(&self, package: &str) -> Result<String> {
        let text = self.run("apt-cache", &["depends", "--important", package])?;
        let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(found.with_context(|| format!("{package} depends on nothing"))?.to_owned())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("APT_CONFIG", &self.conf).current_dir(&self.dir);
        command.env("LC_ALL", "C");
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        Proc::run(self.command(program, args), DOWNLOAD)?.ok(program)
    }
}

fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Unpacks packages into `to`, which appears only when it is complete.
pub(crate) fn unpack(debs: &[PathBuf], to: &Path) -> Result<()> {
    let unpacking = to.with_extension("partial");
    for old in [&unpacking, to] {
        let _ = fs::remove_dir_all(old);
    }
    fs::create_dir_all(&unpacking)?;
    for deb in debs {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(deb).arg(&unpacking);
        Proc::run(command, UNPACK)?.ok("dpkg-deb")?;
    }
    // Only programs, libraries and copyright files are wanted.
    let _ = fs::remove_dir_all(unpacking.join("usr/share/man"));
    Ok(fs::rename(&unpacking, to)?)
}

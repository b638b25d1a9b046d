//! Which file goes where.

use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::ensure;

use super::build::PROGRAMS;
use crate::check::root;

/// Names under which passt is there too. By hard links: AppArmor goes by paths, and does not follow them.
const NAMES: [(&str, &str); 1] = [("pasta", "passt")];
/// Names that others know, from a time when there were several builds.
const LINKS: [(&str, &str); 2] = [("passt.avx2", "passt"), ("pasta.avx2", "pasta")];
/// Programs that have completions.
const COMPLETED: [&str; 5] = ["passt", "pasta", "passt-repair", "pesto", "qrap"];
/// AppArmor's files below `/etc/apparmor.d`.
pub(crate) const APPARMOR: [&str; 6] = [
    "abstractions/passt",
    "abstractions/pasta",
    "usr.bin.passt",
    "usr.bin.pasta",
    "usr.bin.passt-repair",
    "usr.bin.pesto",
];

/// What a file is made of.
pub(crate) enum Contents {
    /// Another file.
    Copy(PathBuf),
    /// This text.
    Text(String),
    /// This text, compressed.
    Packed(String),
    /// A further name of a file in this layout.
    HardLink(String),
    /// A link to this.
    Symlink(String),
}

/// A file, where it goes, and whether it may be executed.
pub(crate) struct Entry {
    pub(crate) to: String,
    pub(crate) contents: Contents,
    pub(crate) program: bool,
}

impl Entry {
    pub(crate) fn text(to: impl Into<String>, text: impl Into<String>) -> Self {
        Self { to: to.into(), contents: Contents::Text(text.into()), program: false }
    }

    pub(crate) fn packed(to: impl Into<String>, text: impl Into<String>) -> Self {
        Self { to: to.into(), contents: Contents::Packed(text.into()), program: false }
    }

    pub(crate) fn copy(to: impl Into<String>, from: &str) -> Self {
        Self { to: to.into(), contents: Contents::Copy(root().join(from)), program: false }
    }

    fn link(to: String, from: impl Into<String>) -> Self {
        Self { to, contents: Contents::Symlink(from.into()), program: false }
    }
}

/// Directories that differ between a package and a tarball.
pub(crate) struct Places {
    pub(crate) bin: &'static str,
    pub(crate) share: &'static str,
    pub(crate) zsh: &'static str,
    /// Whether manual pages are compressed.
    pub(crate) packed: bool,
}

/// The programs out of the directory `built`, their manual pages and completions.
pub(crate) fn programs(built: &Path, places: &Places) -> Result<Vec<Entry>> {
    let Places { bin, share, zsh, packed } = places;
    let mut entries = Vec::new();
    for program in PROGRAMS {
        let contents = Contents::Copy(built.join(program));
        entries.push(Entry { to: format!("{bin}/{program}"), contents, program: true });
    }
    for (name, program) in NAMES {
        let contents = Contents::HardLink(format!("{bin}/{program}"));
        entries.push(Entry { to: format!("{bin}/{name}"), contents, program: true });
    }
    for (name, program) in LINKS {
        entries.push(Entry::link(format!("{bin}/{name}"), program));
    }
    let suffix = if *packed { ".1.gz" } else { ".1" };
    for page in ["passt", "pasta", "passt-repair", "pesto", "qrap"] {
        let text = read(&format!("man/{page}.1"))?;
        let to = format!("{share}/man/man1/{page}{suffix}");
        entries.push(if *packed { Entry::packed(to, text) } else { Entry::text(to, text) });
    }
    for (name, page) in LINKS {
        let to = format!("{share}/man/man1/{name}{suffix}");
        entries.push(Entry::link(to, format!("{page}{suffix}")));
    }
    for program in COMPLETED {
        for (to, from) in [
            (format!("bash-completion/completions/{program}"), format!("{program}.bash")),
            (format!("zsh/{zsh}/_{program}"), format!("_{program}")),
            (format!("fish/vendor_completions.d/{program}.fish"), format!("{program}.fish")),
        ] {
            entries.push(Entry::copy(format!("{share}/{to}"), &format!("completions/{from}")));
        }
    }
    Ok(entries)
}

/// Everything in a directory of `packaging/`, below `to`.
pub(crate) fn packaging(to: &str, directory: &str) -> Result<Vec<Entry>> {
    let from = root().join("packaging").join(directory);
    let mut entries = Vec::new();
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let to = format!("{to}/{name}");
            entries.push(Entry { to, contents: Contents::Copy(path), program: false });
        }
    }
    entries.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(entries)
}

/// A text of the repository.
pub(crate) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// Writes all of it below `directory`, as it was at `epoch`.
pub(crate) fn write(entries: &[Entry], directory: &Path, epoch: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    for Entry { to, contents, program } in entries {
        let path = directory.join(to);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        match contents {
            Contents::Copy(from) => {
                fs::copy(from, &path).with_context(|| from.display().to_string())?;
            }
            Contents::Text(text) => fs::write(&path, text)?,
            Contents::Packed(text) => fs::write(&path, gzip(text.as_bytes())?)?,
            Contents::HardLink(from) => fs::hard_link(directory.join(from), &path)?,
            Contents::Symlink(from) => {
                symlink(from, &path)?;
                continue;
            }
        }
        let mode = if *program { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        File::options().append(true).open(&path)?.set_modified(time)?;
    }
    settle(directory, time)
}

/// Gives directories their modes and time, from the deepest up.
fn settle(directory: &Path, time: SystemTime) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            settle(&entry.path(), time)?;
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    Ok(File::open(directory)?.set_modified(time)?)
}

/// Compresses as packages do, without a name and a time.
pub(crate) fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new("gzip");
    command.args(["-9", "-n", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run gzip")?;
    let mut input = child.stdin.take().context("gzip")?;
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    writer.join().map_err(|_| anyhow::anyhow!("gzip"))??;
    Ok(output.stdout)
}

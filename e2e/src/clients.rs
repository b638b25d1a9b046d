//! The circumstances in which real clients start passt and pasta: whose process, in which namespaces, with
//! which descriptors.

use crate::{Case, SHORT};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::{Outcome, PastaBuilder, Place, Proc, Rig, User};

/// The user who runs rootless clients.
pub const UID: u32 = 1000;
/// Their runtime directory.
pub const RUNTIME: &str = "/run/user/1000";
/// Limit for the end of a pasta whose namespace has gone: a second, and some more on a busy machine.
pub const END: Duration = Duration::from_secs(2);
/// Standard input from nowhere, both outputs into one pipe.
pub const ONE_PIPE: &str = "</dev/null 2>&1";

/// A `/tmp` and a runtime directory like the user's, of the rig's own. Programs are copied out of the way first.
pub fn user_directories(case: &Case<'_>) -> Result<()> {
    case.rig.pasta(User::Ordinary)?;
    case.rig.passt_path()?;
    let argv = ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"];
    case.rig.run(&Place::Host, SHORT, &argv)?;
    directory(Path::new(RUNTIME))
}

/// Makes a directory of the user's with all above it that is missing.
pub fn directory(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| above.starts_with(RUNTIME)) {
        directory(above)?;
    }
    fs::create_dir_all(path)?;
    Ok(chown(path, Some(UID), Some(UID))?)
}

/// The words with which a program is started, up to its arguments: the last of them is the program, or a
/// wrapper around it.
fn start_of(builder: &PastaBuilder<'_>) -> Vec<String> {
    let command = builder.command();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The ordinary user's command for passt or pasta: `words`, of which the first is the name of either, started
/// in `directory` by a shell that makes `redirections`.
pub fn command(
    case: &Case<'_>,
    words: &[String],
    directory: &str,
    redirections: &str,
) -> Result<Command> {
    let (name, arguments) = words.split_first().context("no words")?;
    let builder = match name.as_str() {
        "pasta" => case.rig.pasta(User::Ordinary)?,
        _ => case.rig.passt(User::Ordinary)?,
    };
    let script = format!("exec \"$@\" {redirections}");
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    argv.extend(start_of(&builder));
    argv.extend_from_slice(arguments);
    let mut command = case.rig.command(&Place::Host, User::Root, &argv);
    command.current_dir(directory);
    Ok(command)
}

/// A rootless container engine: root of a user namespace that belongs to the ordinary user, with further
/// users in it, in a mount namespace of its own and in the host's network.
#[derive(Debug)]
pub struct Engine<'r> {
    rig: &'r Rig,
    holder: Proc,
    pasta: Vec<String>,
}

impl<'r> Engine<'r> {
    /// Makes the namespaces.
    pub fn new(case: &Case<'r>) -> Result<Self> {
        let words = start_of(&case.rig.pasta(User::Ordinary)?);
        let program = words.last().context("no program")?.clone();
        let helper = case.rig.helper().display().to_string();
        let hold = ["unshare", "--user", "--mount", "--", &helper, "hold"];
        let (mut holder, pasta) = if program.ends_with("/pasta") {
            let command = case.rig.command(&Place::Host, User::Ordinary, &hold);
            (Proc::start(command)?, vec![program])
        } else {
            // The packages' tree is entered before, the wrapper then has nothing more to do.
            let tree = case.rig.debian()?.join("sid-run").display().to_string();
            let argv = [&["env", "PASTA_UID=1000", &tree], &hold[..]].concat();
            let command = case.rig.command(&Place::Host, User::Root, &argv);
            (Proc::start(command)?, vec!["env".into(), "SID_ENTERED=1".into(), program])
        };
        holder.wait_line("ready", SHORT)?;
        for map in ["uid_map", "gid_map"] {
            let map = format!("/proc/{}/{map}", holder.pid());
            fs::write(map, format!("0 {UID} 1\n1 100000 65536\n"))?;
        }
        Ok(Self { rig: case.rig, holder, pasta })
    }

    /// The process whose namespaces these are.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// A command of the engine's, as root of its namespace.
    pub fn command(&self, argv: &[&str]) -> Command {
        let target = self.pid().to_string();
        let enter = ["nsenter", "--target", &target, "--user", "--mount", "--"];
        self.rig.command(&Place::Host, User::Root, &[&enter, argv].concat())
    }

    /// Runs a command of the engine's, which must end with 0.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        Proc::run(self.command(argv), SHORT)?.ok(&argv.join(" "))
    }

    /// A container: a process in a network namespace of its own.
    pub fn container(&self) -> Result<Proc> {
        let helper = self.rig.helper().display().to_string();
        let mut proc = Proc::start(self.command(&["unshare", "--net", "--", &helper, "hold"]))?;
        proc.wait_line("ready", SHORT)?;
        Ok(proc)
    }

    /// Binds a container's network namespace to a path that only the engine sees.
    pub fn bind(&self, container: &Proc, path: &str) -> Result<()> {
        let above = Path::new(path).parent().context("no directory")?;
        self.run(&["mkdir", "-p", &above.display().to_string()])?;
        self.run(&["touch", path])?;
        let namespace = format!("/proc/{}/ns/net", container.pid());
        self.run(&["mount", "--bind", &namespace, path]).map(drop)
    }

    /// Undoes [`Engine::bind`], as engines do it.
    pub fn unbind(&self, path: &str) -> Result<()> {
        // Lazily, as a process may still have it open.
        self.run(&["umount", "--lazy", path])?;
        self.run(&["rm", path]).map(drop)
    }

    /// Runs pasta with `arguments` in the user's home directory, with one pipe for both outputs, up to the end
    /// of that pipe. What came out of it is in `stdout`.
    pub fn pasta(&self, arguments: &[String]) -> Result<Outcome> {
        let script = format!("cd {RUNTIME} && exec \"$@\" {ONE_PIPE}");
        let mut argv = vec!["sh", "-c", &script, "sh"];
        argv.extend(self.pasta.iter().chain(arguments).map(String::as_str));
        Proc::run(self.command(&argv), SHORT)
    }
}

/// The process whose program's path ends in `name` and that was started with `word` as an argument.
pub fn started_with(name: &str, word: &str) -> Result<u32> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let program = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        if program.ends_with(name) && words.any(|one| one == word.as_bytes()) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no {name} with {word}")
}

/// The process id in a file, which is complete.
pub fn pid_in(path: &Path) -> Result<u32> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let number = text.strip_suffix('\n').with_context(|| format!("'{text}' in the PID file"))?;
    Ok(number.parse()?)
}

/// A published port or range: `[ADDR/]FIRST-LAST:FIRST-LAST`, of which the pairs that belong together.
pub fn published(specifier: &str) -> Result<(String, Vec<(u16, u16)>)> {
    let (address, ports) = specifier.split_once('/').unwrap_or(("127.0.0.1", specifier));
    let (from, to) = ports.split_once(':').unwrap_or((ports, ports));
    let range = |text: &str| -> Result<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok((first.parse()?, last.parse()?))
    };
    let (from, to) = (range(from)?, range(to)?);
    ensure!(from.1 - from.0 == to.1 - to.0, "{specifier}");
    let pairs = (from.0..=from.1).zip(to.0..=to.1).collect();
    Ok((address.to_owned(), pairs))
}

//! What to execute: one of the two forms of the command line.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;

use sys::fd;
use sys::process::find_program;
use thiserror::Error;

use super::line;

/// Descriptors below are the standard ones.
const FIRST: RawFd = 3;

/// A command that is ready to be executed, but for its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The number at which it expects the connection.
    pub(super) descriptor: RawFd,
    /// The program.
    pub(super) path: PathBuf,
    /// Its arguments, the zeroth included.
    pub(super) argv: Vec<OsString>,
}

/// Why no command can be made of the arguments.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A number that no descriptor for QEMU can have.
    #[error("FDNUM {number} is not between {FIRST} and {last}")]
    Descriptor {
        /// As it was given.
        number: String,
        /// The highest one there can be.
        last: usize,
    },
    /// A number, and a command that is not there.
    #[error("QEMU_CMD {0} is not a program, nor is there one of that name in PATH")]
    Command(String),
    /// No place for the network device.
    #[error(transparent)]
    Line(#[from] line::NoAddress),
    /// Nothing to run.
    #[error("No QEMU found, neither in PATH as {0} nor at {LIBEXEC}")]
    NoQemu(String),
}

impl Refusal {
    /// Whether other arguments would help.
    pub(super) fn is_of_usage(&self) -> bool {
        !matches!(self, Self::NoQemu(_))
    }
}

/// Where some distributions have the one QEMU they support, outside of PATH.
const LIBEXEC: &str = "/usr/libexec/qemu-kvm";

impl Command {
    /// The command that these arguments, without the zeroth, are about.
    pub(super) fn new(args: Vec<OsString>) -> Result<Self, Refusal> {
        Self::with(args, fd::limit(), find_program)
    }

    /// As [`Command::new`], where there may be `limit` descriptors and `find` knows the programs.
    fn with(
        mut args: Vec<OsString>,
        limit: usize,
        find: impl Fn(&OsStr) -> Option<PathBuf>,
    ) -> Result<Self, Refusal> {
        if let Some((number, name)) = chosen(&args) {
            let last = limit.saturating_sub(1);
            let valid =
                |fd: &RawFd| *fd >= FIRST && usize::try_from(*fd).is_ok_and(|fd| fd <= last);
            let Some(descriptor) = number.parse().ok().filter(valid) else {
                return Err(Refusal::Descriptor { number: number.to_owned(), last });
            };
            let path = find(name);
            let path = path.ok_or_else(|| Refusal::Command(name.to_string_lossy().into_owned()))?;
            args.remove(0);
            return Ok(Self { descriptor, path, argv: args });
        }
        let mut argv = line::edit(args)?;
        let names = ["kvm", "qemu-kvm", &format!("qemu-system-{}", target())].map(OsString::from);
        let libexec = OsString::from(LIBEXEC);
        let found = names.iter().chain([&libexec]).find_map(|name| Some((name, find(name)?)));
        let Some((name, path)) = found else {
            let names = names.map(|name| name.to_string_lossy().into_owned());
            return Err(Refusal::NoQemu(names.join(", ")));
        };
        argv.insert(0, name.clone());
        Ok(Self { descriptor: line::DESCRIPTOR, path, argv })
    }
}

/// Number and command, if the first two arguments are meant as such. QEMU itself takes one argument that
/// is not an option, an image, so that nothing it would accept is mistaken for them.
fn chosen(args: &[OsString]) -> Option<(&str, &OsStr)> {
    let [number, name, ..] = args else { return None };
    let number = number.to_str()?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !name.as_encoded_bytes().starts_with(b"-")).then_some((number, name))
}

/// What QEMU calls this machine.
fn target() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i386",
        "powerpc" => "ppc",
        "powerpc64" => "ppc64",
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    /// The command of a line on a machine with these programs, of which only those in /bin are in PATH.
    fn command(line: &str, programs: &[&str]) -> Result<(RawFd, String, String), Refusal> {
        let find = |name: &OsStr| {
            let path = Path::new("/bin").join(name);
            programs.iter().map(PathBuf::from).find(|program| *program == path)
        };
        let Command { descriptor, path, argv } = Command::with(words(line), 1024, find)?;
        let argv: Vec<&str> = argv.iter().filter_map(|arg| arg.to_str()).collect();
        Ok((descriptor, path.display().to_string(), argv.join(" ")))
    }

    #[test]
    fn a_number_and_a_program() {
        for (line, descriptor, path, argv) in [
            ("3 qemu", 3, "/bin/qemu", "qemu"),
            ("5 qemu -net socket,fd=5 -m 1", 5, "/bin/qemu", "qemu -net socket,fd=5 -m 1"),
            ("0017 /opt/qemu -5", 17, "/opt/qemu", "/opt/qemu -5"),
            ("1023 qemu 5 qemu", 1023, "/bin/qemu", "qemu 5 qemu"),
        ] {
            let found = command(line, &["/bin/qemu", "/bin/kvm", "/opt/qemu"]);
            assert_eq!(found, Ok((descriptor, path.into(), argv.into())), "{line}");
        }
    }

    #[test]
    fn a_number_or_a_program_that_is_none() {
        let programs = ["/bin/qemu", "/bin/kvm"];
        for number in ["0", "2", "1024", "99999999999"] {
            let refusal = Refusal::Descriptor { number: number.into(), last: 1023 };
            assert_eq!(command(&format!("{number} qemu"), &programs), Err(refusal));
        }
        assert_eq!(command("5 qume -m 1", &programs), Err(Refusal::Command("qume".into())));
        // All of this is QEMU's.
        for line in ["5", "5 -m 1", "5x qemu", "-5 qemu", "+5 qemu", "qemu 5"] {
            let argv = format!("kvm {line} -netdev socket,fd=5,id=hostnet0");
            assert_eq!(command(line, &programs), Ok((5, "/bin/kvm".into(), argv)), "{line}");
        }
    }

    #[test]
    fn the_first_qemu_there_is() {
        let system = format!("qemu-system-{}", target());
        let names = ["kvm", "qemu-kvm", &system, LIBEXEC];
        let all = names.map(|name| Path::new("/bin").join(name).display().to_string());
        for first in 0..names.len() {
            let there: Vec<&str> = all[first..].iter().rev().map(String::as_str).collect();
            let argv = format!("{} -m 1 -netdev socket,fd=5,id=hostnet0", names[first]);
            assert_eq!(command("-m 1", &there), Ok((5, all[first].clone(), argv)));
        }
        let refusal = command("-m 1", &["/bin/qemu-system-vax", "/usr/libexec/kvm"]).unwrap_err();
        let wanted = format!("No QEMU found, neither in PATH as kvm, qemu-kvm, {system} nor at ");
        assert_eq!(refusal.to_string(), wanted + LIBEXEC);
    }
}

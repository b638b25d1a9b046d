//! The rig: one private host with an outside and a far network, for one test.

use crate::proc::{Outcome, Proc};
use crate::wait::{until, wait_for};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where programs are that every user may execute.
const PROGRAMS: &str = "/run/rig/bin";
/// Names the test that a process was started to run inside its rig.
const INSIDE: &str = "TESTKIT_RIG";
/// A file to which the reasons of skipped tests are appended, one line each.
const SKIPPED: &str = "TESTKIT_SKIPPED";
/// What `rig.sh` ends with when the machine cannot do it.
const CANNOT: i32 = 77;
/// Exit status of the inner process that stands for a skipped test.
const SKIP_STATUS: i32 = 78;
/// An ordinary user: no name, no capabilities, no supplementary groups.
const ORDINARY: &str = "1000";
/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Limit for the rig's own short commands.
const SHORT: Duration = Duration::from_secs(20);

/// Why a rig could not be had.
#[derive(Debug)]
pub struct RigError(pub(crate) String);

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RigError {}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        let text = if self == Self::V4 { v4 } else { v6 };
        text.parse().unwrap_or_else(|_| IpAddr::from([0, 0, 0, 0]))
    }

    /// The host's own address, which pasta's guest shares.
    pub fn host(self) -> IpAddr {
        self.pick("203.0.113.2", "2001:db8:51::2")
    }

    /// The first router. Its IPv4 address means the host itself in a default pasta guest.
    pub fn gateway(self) -> IpAddr {
        self.pick("203.0.113.1", "2001:db8:51::1")
    }

    /// A peer on the host's link that is not the gateway.
    pub fn peer(self) -> IpAddr {
        self.pick("203.0.113.10", "2001:db8:51::10")
    }

    /// The name server.
    pub fn dns(self) -> IpAddr {
        self.pick("203.0.113.53", "2001:db8:51::53")
    }

    /// A peer behind the router.
    pub fn far(self) -> IpAddr {
        self.pick("198.18.0.1", "2001:db8:99::1")
    }

    /// An address that the router says is unreachable.
    pub fn unreachable(self) -> IpAddr {
        self.pick("198.18.66.1", "2001:db8:66::1")
    }

    /// An address that the router forbids.
    pub fn prohibited(self) -> IpAddr {
        self.pick("198.18.67.1", "2001:db8:67::1")
    }

    /// `-4` or `-6`, as most tools spell it.
    pub fn flag(self) -> &'static str {
        if self == Self::V4 { "-4" } else { "-6" }
    }
}

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root, with every capability.
    Root,
    /// User 1000, who has none.
    Ordinary,
}

/// Where a program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The rig's host.
    Host,
    /// Behind the host's link.
    Outside,
    /// Behind the outside.
    Far,
    /// The network namespace of a process.
    Of(u32),
}

/// The private host of one test. Exists only in a process that [`in_rig`] or [`enclosed`] started.
#[derive(Debug)]
pub struct Rig {
    helper: PathBuf,
}

/// Runs `body` in a rig, or prints why it cannot.
///
/// `name` is the test's full name in its test binary; `helper` the program built from
/// [`crate::peer::main`]. A test that cannot run here prints `SKIPPED`, its name and the reason;
/// the same line goes to the file named in `TESTKIT_SKIPPED`, so that whoever counts can tell it
/// from a test that passed.
///
/// # Panics
/// If `body` fails or takes longer than `limit`.
pub fn in_rig(name: &str, helper: &Path, limit: Duration, body: impl FnOnce(&Rig) -> Result<()>) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == *name) {
        let rig = match Rig::make(helper) {
            Ok(rig) => rig,
            Err(error) => leave_or_panic(name, &error),
        };
        if let Err(error) = body(&rig) {
            leave_or_panic(name, &error);
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip(name, "making network namespaces needs root");
    }
    match outer(name, helper, limit) {
        Ok(outcome) if outcome.code() == Some(SKIP_STATUS) => {
            // The runner leaves its last line on standard output without an end.
            let mut lines = outcome.stdout.lines().chain(outcome.stderr.lines());
            let reason = lines.find_map(|line| line.strip_prefix("CANNOT: "));
            skip(name, reason.unwrap_or("no reason given"));
        }
        Ok(outcome) => {
            // Marked, so that nobody counts the inner runner's summary as another test.
            for line in outcome.stdout.lines().chain(outcome.stderr.lines()) {
                eprintln!("| {line}");
            }
            assert!(outcome.status.success(), "{name} failed in its rig: {}", outcome.status);
        }
        Err(error) => panic!("{name}: {error:#}"),
    }
}

/// Ends the inner process of a test that cannot run, and panics for every other error.
fn leave_or_panic(name: &str, error: &anyhow::Error) -> ! {
    if let Some(RigError(reason)) = error.downcast_ref() {
        eprintln!("CANNOT: {reason}");
        std::process::exit(SKIP_STATUS);
    }
    panic!("{name}: {error:#}");
}

/// Reports a test as skipped: on standard error and in the file named by `TESTKIT_SKIPPED`.
pub fn skip(name: &str, reason: &str) {
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os(SKIPPED) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{name}: {reason}"));
    }
}

/// Starts this very program again, for one test, as the first child of fresh namespaces.
fn outer(name: &str, helper: &Path, limit: Duration) -> Result<Outcome> {
    let mut command = enclosed(helper, &std::env::current_exe()?);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, name).env_remove("RUST_BACKTRACE");
    Proc::run(command, limit)
}

/// A command that runs `program` as the first child of fresh mount, PID and network namespaces, where
/// it can make a rig with [`Rig::make`]. They end with the program, and the program with the caller.
pub fn enclosed(helper: &Path, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "--"]).arg(helper).args(["init", "--"]);
    command.arg(program);
    command
}

impl Rig {
    /// Makes the rig's network around the calling process, which [`enclosed`] has started.
    ///
    /// # Errors
    /// A [`RigError`] if this machine cannot do it.
    pub fn make(helper: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("rig.sh")]);
        let outcome = Proc::run(command, SHORT)?;
        if outcome.code() == Some(CANNOT) {
            let reason = outcome.stdout.lines().find_map(|line| line.strip_prefix("SKIP: "));
            bail!(RigError(reason.unwrap_or("the rig cannot be made").to_owned()));
        }
        outcome.ok("rig.sh")?;
        let rig = Self { helper: PathBuf::from("/run/rig/bin/peer") };
        std::fs::copy(helper, &rig.helper).context("copying the helper")?;
        Ok(rig)
    }

    /// A directory of this rig's own in which every user may make files.
    pub fn tmp(&self) -> &'static Path {
        Path::new("/run/rig/tmp")
    }

    /// Copies a program to a place where the ordinary user may execute it.
    pub fn install(&self, program: &Path, name: &str) -> Result<PathBuf> {
        let to = Path::new(PROGRAMS).join(name);
        if !to.exists() {
            std::fs::copy(program, &to).with_context(|| format!("{}", program.display()))?;
        }
        Ok(to)
    }

    /// Where [`install`](Self::install) has put what is called `name`, if it has.
    pub fn installed(&self, name: &str) -> Option<PathBuf> {
        Some(Path::new(PROGRAMS).join(name)).filter(|path| path.exists())
    }

    /// Ends the test as skipped unless all of `tools` are in the `PATH`.
    pub fn needs(&self, tools: &[&str]) -> Result<()> {
        for tool in tools {
            if !PATH.split(':').any(|dir| Path::new(dir).join(tool).exists()) {
                bail!(RigError(format!("the program {tool} is not installed")));
            }
        }
        Ok(())
    }

    /// A command that will run at `place` as `user`.
    pub fn command<S: AsRef<OsStr>>(&self, place: &Place, user: User, argv: &[S]) -> Command {
        let mut words: Vec<&OsStr> = Vec::new();
        let net = match place {
            Place::Host => None,
            Place::Outside => Some("--net=/run/netns/outside".to_owned()),
            Place::Far => Some("--net=/run/netns/far".to_owned()),
            Place::Of(pid) => Some(format!("--net=/proc/{pid}/ns/net")),
        };
        if let Some(net) = &net {
            words.extend(["nsenter", net, "--"].map(OsStr::new));
        }
        if user == User::Ordinary {
            words.extend(["setpriv", "--reuid", ORDINARY, "--regid", ORDINARY].map(OsStr::new));
            words.extend(["--clear-groups", "--inh-caps=-all", "--"].map(OsStr::new));
        }
        words.extend(argv.iter().map(AsRef::as_ref));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_else(|| OsStr::new("false")));
        command.args(words).current_dir(self.tmp());
        command
            // What the ordinary user may not look into would change execvp's error.
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("SHELL", "/bin/sh")
            .env_remove(INSIDE)
            .env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs a command at `place` as root and returns what it printed; it must end with 0.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        place: &Place,
        limit: Duration,
        argv: &[S],
    ) -> Result<String> {
        let what = argv.iter().map(|s| s.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        self.outcome(place, User::Root, limit, argv)?.ok(&what)
    }

    /// Runs a command at `place` and returns how it ended, whatever the status.
    pub fn outcome<S: AsRef<OsStr>>(
        &self,
        place: &Place,
        user: User,
        limit: Duration,
        argv: &[S],
    ) -> Result<Outcome> {
        Proc::run(self.command(place, user, argv), limit)
    }

    /// Starts a command at `place` as root.
    pub fn start<S: AsRef<OsStr>>(&self, place: &Place, argv: &[S]) -> Result<Proc> {
        Proc::start(self.command(place, User::Root, argv))
    }

    /// The helper's path inside the rig, see [`crate::peer`].
    pub fn helper(&self) -> &Path {
        &self.helper
    }

    /// Runs the helper at `place` with `args` (split at spaces); it must end with 0.
    pub fn peer(&self, place: &Place, limit: Duration, args: &str) -> Result<String> {
        let argv = self.peer_argv(args);
        Ok(self.run(place, limit, &argv)?.trim_end().to_owned())
    }

    /// Starts the helper at `place` with `args` (split at spaces).
    pub fn start_peer(&self, place: &Place, args: &str) -> Result<Proc> {
        self.start(place, &self.peer_argv(args))
    }

    /// Starts the helper's server on `addr` and `port` at `place`, ready for TCP and UDP.
    pub fn serve(&self, place: &Place, addr: IpAddr, port: u16) -> Result<Proc> {
        let mut server = self.start_peer(place, &format!("serve {addr} {port}"))?;
        server.wait_line("serving", SHORT)?;
        Ok(server)
    }

    /// Starts the helper's witness on `ports` (divided by commas) of each of `addresses` at `place`.
    pub fn witness(&self, place: &Place, ports: &str, addresses: &[String]) -> Result<Proc> {
        let args = format!("witness {ports} {}", addresses.join(" "));
        let mut server = self.start_peer(place, &args)?;
        server.wait_line("serving", SHORT)?;
        Ok(server)
    }

    fn peer_argv(&self, args: &str) -> Vec<String> {
        let mut argv = vec![self.helper.display().to_string()];
        argv.extend(args.split_whitespace().map(str::to_owned));
        argv
    }

    /// Waits until something listens on TCP `port` at `place`.
    pub fn wait_listen(&self, place: &Place, port: u16) -> Result<()> {
        wait_for(&format!("a listener on port {port}"), SHORT, || {
            let argv = ["ss", "-Hltn", &format!("sport = :{port}")];
            let text = self.run(place, SHORT, &argv)?;
            Ok((!text.trim().is_empty()).then_some(()))
        })
    }

    /// Starts the name server of the outside. It knows `www.rig.example` in both families, and
    /// `big.rig.example`, whose text record does not fit a small datagram.
    pub fn start_dns(&self) -> Result<Proc> {
        self.needs(&["dnsmasq"])?;
        let big = format!("--txt-record=big.rig.example{}", ",0123456789abcdef".repeat(250));
        let mut argv = vec!["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv"];
        argv.extend(["--no-hosts", "--user=root", "--pid-file=", "--log-facility=-"]);
        argv.extend(["--bind-interfaces", "--listen-address=203.0.113.53,2001:db8:51::53"]);
        argv.extend(["--host-record=www.rig.example,198.18.0.1,2001:db8:99::1", &big]);
        argv.extend(["--host-record=peer.rig.example,203.0.113.10,2001:db8:51::10"]);
        let dns = self.start(&Place::Outside, &argv)?;
        self.wait_listen(&Place::Outside, 53)?;
        Ok(dns)
    }

    /// Waits until the process `pid` has ended (it may be left as a zombie).
    pub fn wait_gone(&self, pid: u32, limit: Duration) -> Result<()> {
        until(&format!("the end of process {pid}"), limit, || !alive(pid))
    }
}

/// Whether a process runs: it exists and is not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    })
}

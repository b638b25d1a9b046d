//! Who is measured, and how each is started.

use crate::args::Args;
use crate::command::{self, Running, words};
use crate::proc;
use crate::rig::{Guest, PORT};
use crate::rows;
use crate::setup::{WHY_NO_C, which};
use anyhow::{Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testkit::debian;

/// Goes on as an ordinary user; the guest's namespaces are that user's too.
pub(crate) const AS_USER: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all";
/// How long a forwarder may take until the namespace has a default route.
const START: Duration = Duration::from_secs(5);

/// A way from the namespace to the outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Peer {
    /// Our pasta.
    Ours,
    /// The packaged C pasta.
    C,
    /// slirp4netns.
    Slirp,
    /// No forwarder: the plain link, as the limit.
    Veth,
}

impl Peer {
    /// All of them, in the table's order.
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::C, Self::Slirp, Self::Veth];

    /// The name used in table and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "pasta",
            Self::C => "c",
            Self::Slirp => "slirp4netns",
            Self::Veth => "veth",
        }
    }

    /// The peer of that name.
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|peer| peer.name() == name) {
            Some(peer) => Ok(peer),
            None => bail!("unknown peer '{name}'"),
        }
    }
}

/// The peers of this run.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) present: Vec<Peer>,
    /// Name and version, or why it is missing: one line each, for the table's head.
    pub(crate) notes: Vec<String>,
    /// Our pasta; our passt is beside it.
    pub(crate) pasta: PathBuf,
    /// The Debian sid tree.
    pub(crate) sid: PathBuf,
    /// The load generator.
    pub(crate) load: PathBuf,
    /// What joins a namespace to passt.
    pub(crate) bridge: PathBuf,
}

/// How a forwarder is to be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// MTU of the tap.
    pub(crate) mtu: u32,
    /// Whether port forwarding, but for the port of `path`, stays as the peer has it by default; `none`
    /// otherwise.
    pub(crate) defaults: bool,
    /// The way of the traffic.
    pub(crate) path: rows::Path,
}

impl Peers {
    /// Looks which of the wanted peers there are.
    pub(crate) fn find(args: &Args) -> Result<Self> {
        let mut peers = Self {
            present: Vec::new(),
            notes: Vec::new(),
            pasta: args.pasta.clone(),
            sid: args.sid.clone(),
            load: args.load.clone(),
            bridge: args.bridge.clone(),
        };
        for &peer in &args.peers {
            match peers.version(peer) {
                Ok(version) => {
                    peers.present.push(peer);
                    peers.notes.push(format!("{}: {version}", peer.name()));
                }
                Err(e) => peers.notes.push(format!("{}: MISSING: {e:#}", peer.name())),
            }
        }
        for note in &peers.notes {
            eprintln!("bench: {note}");
        }
        ensure!(!peers.present.is_empty(), "no peer to measure");
        Ok(peers)
    }

    fn version(&self, peer: Peer) -> Result<String> {
        let first = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
        match peer {
            Peer::Ours => {
                ensure!(self.pasta.exists(), "{} is not built", self.pasta.display());
                let mut command = Command::new(&self.pasta);
                command.arg("--version");
                Ok(first(command::output(command, START)?))
            }
            Peer::C => {
                let why = std::env::var(WHY_NO_C).unwrap_or_default();
                ensure!(why.is_empty(), "{why}");
                debian::version(&self.sid)
            }
            Peer::Slirp => {
                ensure!(which("slirp4netns").is_some(), "not installed");
                Ok(first(command::sh("slirp4netns --version")?))
            }
            Peer::Veth => Ok(String::from("no forwarder, the link itself")),
        }
    }

    /// `program` as this peer would run it: as the ordinary user, C under its own library.
    pub(crate) fn runner(&self, peer: Peer) -> Command {
        if peer == Peer::C { Command::new(self.sid.join("sid-run")) } else { words(AS_USER) }
    }

    /// The pasta of this peer.
    pub(crate) fn program(&self, peer: Peer) -> Option<PathBuf> {
        match peer {
            Peer::Ours => Some(self.pasta.clone()),
            Peer::C => Some(self.sid.join("root/usr/bin/pasta")),
            Peer::Slirp | Peer::Veth => None,
        }
    }

    /// Starts the passt of this peer with a socket at `socket`, and waits until that is there.
    pub(crate) fn start_passt(
        &self,
        peer: Peer,
        setting: Setting,
        socket: &Path,
    ) -> Result<Running> {
        let Some(pasta) = self.program(peer) else { bail!("{} has no passt", peer.name()) };
        let passt = pasta.with_file_name("passt");
        ensure!(passt.exists(), "there is no {}", passt.display());
        let mut command = self.runner(peer);
        command.arg(passt).args(["-f", "-q", "-m", &setting.mtu.to_string(), "-s"]).arg(socket);
        let inbound = setting.path == rows::Path::In;
        let ports = if inbound { PORT.to_string() } else { String::from("none") };
        command.args(["-t", &ports, "-u", &ports]);
        // A file, as nobody would empty a pipe.
        let said = socket.with_extension("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
        let mut running = Running(command.spawn()?);
        let start = Instant::now();
        while !socket.exists() {
            if !running.alive() {
                let said = fs::read_to_string(&said)?;
                bail!("{}: passt ended while it started: {}", peer.name(), said.trim());
            }
            ensure!(start.elapsed() < START, "{}: passt made no socket", peer.name());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }

    /// Starts a forwarder for `guest` and waits until the guest is configured.
    pub(crate) fn start(&self, peer: Peer, guest: &Guest, setting: Setting) -> Result<Running> {
        let mut command = self.runner(peer);
        let mtu = setting.mtu.to_string();
        let pid = guest.pid().to_string();
        if let Some(program) = self.program(peer) {
            command.arg(program).args(["-f", "-q", "--config-net", "-m", &mtu]);
            let (inbound, outbound) = match setting.path {
                rows::Path::Out => (false, false),
                rows::Path::In | rows::Path::SpliceIn => (true, false),
                rows::Path::SpliceOut => (false, true),
            };
            let port = PORT.to_string();
            for (options, used) in [(["-t", "-u"], inbound), (["-T", "-U"], outbound)] {
                for option in options {
                    match (used, setting.defaults) {
                        (true, _) => drop(command.args([option, &port])),
                        (false, false) => drop(command.args([option, "none"])),
                        (false, true) => {}
                    }
                }
            }
            command.arg(&pid);
        } else {
            ensure!(peer == Peer::Slirp, "{} has no forwarder", peer.name());
            command.args(["slirp4netns", "--configure", "--disable-host-loopback", "--mtu", &mtu]);
            command.arg(format!("--userns-path=/proc/{pid}/ns/user")).args([&pid, "tap0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn()?);
        let start = Instant::now();
        while !proc::has_default_route(guest.pid()) {
            ensure!(running.alive(), "{} ended while it started", peer.name());
            ensure!(start.elapsed() < START, "{} did not configure the namespace", peer.name());
            thread::sleep(Duration::from_millis(5));
        }
        // Let start-up work end, so that it is not counted as forwarding.
        thread::sleep(Duration::from_millis(150));
        ensure!(running.alive(), "{} ended after it started", peer.name());
        Ok(running)
    }
}

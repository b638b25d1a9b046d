//! The start, from the command line to the loop.
//!
//! [`run`] tells it from top to bottom: look at the host, open what needs privilege, give up
//! privileges, go to the background, run. Each stage leaves behind what later ones can no longer
//! get.

mod capabilities;
pub mod drop;
mod entry;
mod guest;
mod identity;
mod ports;
mod service;
mod settings;
mod socket;

use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use engine::{EVENT_KINDS, ExitReason, HostOptions, Neighbours, Parts, StatsReport, Worker};
use stack::flow::Secret;
use sys::daemon::{self, Background, Forked, Parent, PidFile};
use sys::privileges;
use sys::process::{Child, Inherited};
use sys::socket::Device;

use crate::config::{Forwarding, Network, Run, Target};
use crate::discover::{self, Discovery, Template};
use crate::said::{Mode, Said};
use crate::{log as sink, report};

use self::drop::{Plan, Sandbox, When};
pub(crate) use self::entry::complain;
pub use self::entry::main;
use self::guest::{Guest, Handed};
use self::service::Service;

/// Connects a network namespace or a virtual machine, and returns the exit status once that is over.
///
/// # Errors
/// When the start fails; afterwards, when moving packets does.
pub fn run(mode: Mode, said: &Said, forwarding: &Forwarding) -> Result<u8> {
    // What was handed to us by descriptor is opened before we close what else we inherited.
    let run = Run::new(mode, said);
    fail("Couldn't open standard descriptors", sys::fd::ensure_standard())?;
    let mut service = Service::adopt(&run)?;
    let handed = Handed::open(&run)?;
    service.connect(&run);
    close_inherited(&handed, &service);
    let inherited = fail("Couldn't set limits and signals", Inherited::take_over())?;
    open_log(mode, &run)?;

    // The host's network, and the one the guest will see.
    let identity = identity::to_assume(&run)?;
    let discovery =
        if forwarding.splice_only { Discovery::default() } else { discover::discover(said)? };
    let mut network = Network::new(mode, said, &discovery.host, duid_time());
    network.stack.shared = shared(&network, &discovery);
    if !forwarding.splice_only {
        tell_choices(&discovery, &network);
    }

    // Everything that takes privileges we have now.
    let pid_file = run.pid_file.as_deref().map(open_pid_file).transpose()?;
    let pcap = run.pcap.as_deref().and_then(open_pcap);
    let outside_scope = network.stack.v6.as_ref().map_or(0, |v6| v6.scope_id);
    let outside = ports::outside(forwarding, outside_scope)?;
    let stay_outside = identity.is_some() && privileges::is_administrator();
    let how = (&run, &inherited, stay_outside);
    let mut guest = Guest::set_up(handed, how, (&network, &discovery), forwarding)?;
    let neighbours = follow_neighbours(&network, &discovery);
    let random = random()?;
    without_impossible(&mut network, &guest);
    for line in report::block(mode, &network, forwarding).lines() {
        log::info!("{line}");
    }
    for line in guest.hint.iter().flat_map(|hint| hint.lines()) {
        log::info!("{line}");
    }

    let settings = settings::read(random.seed);
    let sandbox = Sandbox::new(Plan {
        mode,
        identity,
        moved: guest.moved,
        background: !run.foreground,
        chroot_fallback: run.chroot_fallback,
        looked_at: run.foreground && matches!(run.target, Target::Descriptor(_)),
    });
    let mut sandbox = sandbox?;
    sandbox.take(When::BeforeFork)?;
    let (background, pid_file) = if run.foreground {
        (None, pid_file)
    } else {
        match fail("Couldn't fork", daemon::fork())? {
            Forked::Parent(parent) => return Ok(leave_to(parent, pid_file, service)),
            Forked::Child(background) => {
                drop(pid_file);
                service.leave_readiness();
                sink::set_pid(background.pid());
                (Some(background), None)
            }
        }
    };

    // No path leads anywhere from here on.
    sandbox.take(When::Alone)?;

    // After the last fork: it takes no threads along. Nothing further down needs a privilege.
    let scopes = (outside_scope, guest.index);
    let listening = (outside, guest.inside);
    let ports = ports::together(forwarding, listening, scopes, guest.namespace, &sandbox)?;
    sandbox.take(When::EachThread)?;
    log::debug!("Sandbox: {}", sandbox.layers());

    // What watches signals and descriptors watches those of its process.
    let release = guest.command.as_mut().and_then(Child::take_release);
    let host = host_options(&network);
    let (guest_mac, link_local_seen) = (guest.mac, guest.link_local);
    let worker = Worker::new(Parts {
        mtu: network.stack.mtu.or(guest.mtu).unwrap_or(u16::MAX),
        guest: guest.attachment,
        config: Arc::new(network.stack),
        secret: Secret::new(random.key),
        settings: stack::Settings { guest_mac, link_local_seen, ..settings },
        host,
        forwarding: ports,
        pcap,
        watch: guest.watch,
        child: guest.command,
        neighbours,
        stats: run.stats.map(statistics),
        later: sandbox.later(),
    });
    let worker = fail("Couldn't set up event loop", worker)?;
    write_pid(pid_file, std::process::id());
    let detached = background.map(Background::detach).transpose();
    let detached = fail("Couldn't leave terminal", detached)?;
    // The last thing, as what it takes to leave the terminal is not left afterwards.
    sandbox.take(When::Last)?;
    if let Some(detached) = detached {
        fail("Couldn't leave terminal", detached.release_parent())?;
        sink::leave_stderr();
    } else {
        service.tell_ready(None);
    }
    if let Some(release) = release {
        // The terminal is the command's now. One that is gone already is seen by the worker.
        let _ = release.release();
        sink::release_stderr();
    }
    let end = worker.run();
    service.tell_stopping();
    if let (ExitReason::Child(_), Some(tap)) = (&end, guest.last_tap) {
        // Nobody is left there, and the kernel takes it all away in its own time.
        let _ = tap.leave_to_namespace();
    }
    status(end)
}

/// Descriptors that nobody meant for us stay with us if the kernel cannot close them.
fn close_inherited(handed: &Handed, service: &Service) {
    let ours = [handed.descriptors(), service.descriptors()].concat();
    if let Err(error) = sys::fd::close_inherited(&ours) {
        log::warn!("Couldn't close inherited descriptors: {}", reason(&error));
    }
}

/// From here on messages go where they belong.
fn open_log(mode: Mode, run: &Run) -> Result<()> {
    sink::start(run.level);
    match &run.log_file {
        Some(path) => {
            let what = || format!("Couldn't open log file {}", path.display());
            fail(&what(), sink::to_file(mode, path, run.log_size))
        }
        None => {
            sink::to_system(mode);
            Ok(())
        }
    }
}

/// What was found, and what was made of it.
fn tell_choices(discovery: &Discovery, network: &Network) {
    for notice in &discovery.notices {
        log::info!("{notice}");
    }
    for note in &network.notes {
        log::log!(note.level, "{}", note.text);
    }
}

fn open_pid_file(path: &Path) -> Result<PidFile> {
    fail(&format!("Couldn't open PID file {}", path.display()), PidFile::create(path))
}

/// A capture is a help, and the lack of it no reason to fail.
fn open_pcap(path: &Path) -> Option<File> {
    let mut options = File::options();
    match options.write(true).create(true).truncate(true).mode(0o600).open(path) {
        Ok(file) => {
            log::info!("Saving packet capture to {}", path.display());
            Some(file)
        }
        Err(error) => {
            log::error!("Couldn't open {}: {}", path.display(), reason(&error));
            None
        }
    }
}

/// Addresses that will be copied to the namespace.
fn shared(network: &Network, discovery: &Discovery) -> Vec<IpAddr> {
    let copied =
        [(network.copy4.addresses, &discovery.ipv4), (network.copy6.addresses, &discovery.ipv6)];
    let templates =
        copied.into_iter().filter_map(|(copied, template)| template.as_ref().filter(|_| copied));
    let main: [Option<IpAddr>; 2] = [
        network.stack.v4.as_ref().map(|v4| v4.addr.into()),
        network.stack.v6.as_ref().and_then(|v6| v6.addr).map(IpAddr::V6),
    ];
    templates
        .flat_map(|template| &template.addresses)
        .map(|address| address.addr)
        .filter(|addr| !main.contains(&Some(*addr)))
        .collect()
}

/// A family that the guest's namespace turned out not to have is not offered.
fn without_impossible(network: &mut Network, guest: &Guest) {
    if !guest.ipv4 {
        network.stack.v4 = None;
    }
    if !guest.ipv6 {
        network.stack.v6 = None;
    }
}

/// Without the host's neighbours the guest sees our MAC address instead of theirs.
fn follow_neighbours(network: &Network, discovery: &Discovery) -> Option<Neighbours> {
    let used = |template: &Option<Template>, name: &Option<String>| {
        template.as_ref().filter(|_| name.is_some()).map(|template| template.index)
    };
    let index4 = used(&discovery.ipv4, &network.template4);
    let index6 = used(&discovery.ipv6, &network.template6);
    index4.or(index6)?;
    Neighbours::open(index4, index6)
        .map_err(|error| log::warn!("Couldn't follow neighbours: {}", reason(&error)))
        .ok()
}

/// The table of `--stats`, on standard error.
fn statistics(seconds: u64) -> StatsReport {
    let mut table = report::stats::Table::new(&EVENT_KINDS);
    let report = Box::new(move |counts: &[u64]| {
        let _ = io::stderr().write_all(table.row(counts).as_bytes());
    });
    StatsReport { interval: Duration::from_secs(seconds), report }
}

fn host_options(network: &Network) -> HostOptions {
    let scope = network.stack.v6.as_ref().map_or(0, |v6| v6.scope_id);
    HostOptions {
        device_v4: network.outbound_if4.as_deref().and_then(Device::new),
        device_v6: network.outbound_if6.as_deref().and_then(Device::new),
        scope_id: scope,
        ..HostOptions::default()
    }
}

/// Random numbers for a start.
struct Random {
    key: [u8; 16],
    seed: u64,
}

fn random() -> Result<Random> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| anyhow!("Couldn't get random numbers: {error}"))?;
    let seed = getrandom::u64().map_err(|error| anyhow!("Couldn't get random numbers: {error}"))?;
    Ok(Random { key, seed })
}

/// Seconds since 2000, modulo 2^32, as DHCPv6 identifies servers (RFC 8415 §11.2).
fn duid_time() -> u32 {
    const YEAR_2000: u64 = 946_684_800;
    let now = sys::clock::realtime().as_secs().saturating_sub(YEAR_2000);
    u32::try_from(now & u64::from(u32::MAX)).unwrap_or_default()
}

/// The end of the process that was started: its child is ready, or failed and has said why.
fn leave_to(parent: Parent, pid_file: Option<PidFile>, mut service: Service) -> u8 {
    let pid = parent.pid();
    match parent.wait() {
        Ok(()) => {
            write_pid(pid_file, pid);
            service.tell_ready(Some(pid));
            0
        }
        Err(status) => status,
    }
}

fn write_pid(file: Option<PidFile>, pid: u32) {
    if let Some(Err(error)) = file.map(|file| file.write(pid)) {
        log::error!("Couldn't write PID file: {}", reason(&error));
    }
}

/// The exit status for the end of a run.
fn status(reason: ExitReason) -> Result<u8> {
    match reason {
        ExitReason::Signal(_) | ExitReason::NamespaceGone | ExitReason::HypervisorGone => Ok(0),
        ExitReason::Child(status) => Ok(status),
        // The worker has said so.
        ExitReason::TapGone => Ok(1),
        ExitReason::Failed(error) => Err(failure("Couldn't wait for events", &error)),
    }
}

/// An error with what failed in front, in one line.
pub(crate) fn failure(what: &str, error: &io::Error) -> anyhow::Error {
    anyhow!("{what}: {}", reason(error))
}

/// As [`failure`], for a result.
fn fail<T>(what: &str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| failure(what, &error))
}

pub(crate) use self::identity::instead_of_root;
pub(crate) use sys::reason;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_others_look_for() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(failure("X", &missing).to_string(), "X: No such file or directory");
    }

    #[test]
    fn an_end_has_a_status() {
        assert_eq!(status(ExitReason::Child(37)).unwrap(), 37);
        assert_eq!(status(ExitReason::NamespaceGone).unwrap(), 0);
        assert_eq!(status(ExitReason::TapGone).unwrap(), 1);
        assert!(status(ExitReason::Failed(io::Error::other("x"))).is_err());
    }
}

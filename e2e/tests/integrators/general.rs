//! When things happen and how they end, which all of them rely on.

use crate::{contract, pasta, signal, silent, words};
use anyhow::{Context, Result, ensure};
use e2e::clients::{END, pid_in};
use e2e::hypervisor::{Client, status};
use e2e::{Case, SHORT};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use testkit::{Proc, until};

contract!(ordinary, Ordinary:
    no_process_is_left_behind,
    the_command_goes_on_when_its_pasta_is_ended,
    sigpipe_is_ignored,
    a_log_that_nobody_reads_any_more_ends_nothing,
    other_signals_have_their_usual_effect,
    noise_about_a_faster_twin_is_not_made,
);

fn processes() -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if !stat.is_empty() {
            all.insert(pid);
        }
    }
    Ok(all)
}

const PID: &str = "/run/rig/tmp/pasta.pid";

/// Neither helpers nor zombies.
fn no_process_is_left_behind(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    let before = processes()?;
    let left = |what: &str| {
        until("nothing left", END, || processes().is_ok_and(|now| now == before))
            .with_context(|| format!("{what}: {before:?} before, {:?} now", processes()))
    };
    for ending in [Signal::TERM, Signal::QUIT, Signal::KILL] {
        silent(&pasta(case, &format!("-q --config-net -P {PID} {}", holder.pid()))?)?;
        signal(pid_in(Path::new(PID))?, ending)?;
        left(&format!("{ending:?}"))?;
    }
    let outcome = pasta(case, "--config-net true")?;
    silent(&outcome)?;
    left("a command")?;
    let outcome = pasta(case, "-t 8080 -t 8080 true")?;
    ensure!(outcome.code() == Some(1), "{outcome:?}");
    left("a mistake")?;
    let socket = case.rig.tmp().join("guest.socket");
    let line = format!("-q -1 -s {}", socket.display());
    silent(&case.rig.passt(case.user)?.args(&words(&line)).run(SHORT)?)?;
    drop(Client::connect(&socket)?);
    left("passt")
}

fn the_command_goes_on_when_its_pasta_is_ended(case: &Case<'_>) -> Result<()> {
    let script = "trap 'echo ended; exit 0' TERM; echo started; \
                  while [ ! -e /run/rig/tmp/end ]; do sleep 0.05; done; touch /run/rig/tmp/went-on";
    let argv = ["--config-net", "--", "sh", "-c", script];
    let mut proc = case.pasta()?.args(&argv).start()?;
    proc.wait_line("started", SHORT)?;
    proc.signal(Signal::TERM)?;
    until("pasta's end", SHORT, || matches!(proc.running(), Ok(false)))?;
    fs::write("/run/rig/tmp/end", "")?;
    until("the command's end", SHORT, || Path::new("/run/rig/tmp/went-on").exists())?;
    let outcome = proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0) && outcome.stdout == "started\n", "{outcome:?}");
    Ok(())
}

const SIGPIPE: u64 = 1 << 12;

fn sigpipe_is_ignored(case: &Case<'_>) -> Result<()> {
    let holder = case.rig.hold(case.user)?;
    silent(&pasta(case, &format!("-q --config-net -P {PID} {}", holder.pid()))?)?;
    let pid = pid_in(Path::new(PID))?;
    let ignored = u64::from_str_radix(&status(pid, "SigIgn")?, 16)?;
    ensure!(ignored & SIGPIPE != 0, "{ignored:x}");
    signal(pid, Signal::PIPE)?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    ensure!(fs::exists(format!("/proc/{pid}/exe"))?, "it ended");
    signal(pid, Signal::TERM)?;
    case.rig.wait_gone(pid, END)
}

/// In the foreground, with a reader of standard error that has gone.
fn a_log_that_nobody_reads_any_more_ends_nothing(case: &Case<'_>) -> Result<()> {
    let socket = case.rig.tmp().join("guest.socket");
    let line = format!("-f -d -s {}", socket.display());
    let mut command = case.rig.passt(case.user)?.args(&words(&line)).command();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    drop(child.stderr.take());
    let served = (|| {
        until("the socket", SHORT, || socket.exists())?;
        for _ in 0..3 {
            Client::connect(&socket)?.alive()?;
        }
        Ok(())
    })();
    let ended = child.try_wait();
    child.kill()?;
    child.wait()?;
    ensure!(ended?.is_none(), "it ended");
    served
}

/// A terminal that goes away or an impatient user ends what is in the foreground.
fn other_signals_have_their_usual_effect(case: &Case<'_>) -> Result<()> {
    for (ending, number) in [(Signal::HUP, 1), (Signal::INT, 2), (Signal::USR2, 12)] {
        let holder = case.rig.hold(case.user)?;
        let line = format!("-f -q --config-net -P {PID} {}", holder.pid());
        let _ = fs::remove_file(PID);
        let child = case.pasta()?.args(&words(&line)).start()?;
        until("the PID file", SHORT, || pid_in(Path::new(PID)).is_ok())?;
        child.signal(ending)?;
        let outcome = child.finish(END)?;
        use std::os::unix::process::ExitStatusExt as _;
        ensure!(outcome.status.signal() == Some(number), "{ending:?}: {outcome:?}");
    }
    Ok(())
}

/// The program runs from anywhere, alone, on whatever processor this is.
fn noise_about_a_faster_twin_is_not_made(case: &Case<'_>) -> Result<()> {
    for line in ["pasta -q --config-net true", "pasta -f --config-net true"] {
        let outcome = pasta(case, &line["pasta ".len()..])?;
        silent(&outcome).context(line)?;
    }
    let argv = ["passt", "--print-capabilities"].map(str::to_owned);
    let command = e2e::clients::command(case, &argv, "/", "")?;
    let outcome = Proc::run(command, SHORT)?;
    ensure!(outcome.code() == Some(0) && !outcome.stderr.contains("AVX2"), "{outcome:?}");
    Ok(())
}

//! Forwarded ports when descriptors run out, and with many flows.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{Case, LONG, PORT, SHORT, matrix};
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testkit::{Family, Pasta, Place, Proc, until};

matrix!(users: splices_run_out, connections_run_out, datagrams_run_out);
matrix!(once: many_idle_splices);

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Descriptors that pasta may have.
const FILES: u32 = 300;

/// A guest whose port is forwarded, and its server.
fn guest(case: &Case<'_>, files: u32) -> Result<(Pasta, Proc)> {
    let port = PORT.to_string();
    let ports = ["-t", &port, "-u", &port, "-T", "none", "-U", "none"];
    let pasta = case.pasta()?.limit_files(files).args(&["--config-net"]).args(&ports);
    let guest = pasta.start_hold()?;
    let server = case.rig.serve(&guest.place(), IpAddr::from([0, 0, 0, 0]), PORT)?;
    Ok((guest, server))
}

fn descriptors(guest: &mut Pasta) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", guest.proc().pid()))?.count())
}

/// Seconds of processor time per second, of all threads.
fn load(guest: &mut Pasta) -> Result<f64> {
    let mut used = || -> Result<u64> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", guest.proc().pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().context("no time")?.parse::<u64>()?;
        }
        Ok(nanos)
    };
    let (before, start) = (used()?, Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let nanos = Duration::from_nanos(used()? - before);
    Ok(nanos.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// The number behind a word of a line.
fn count(line: &str, word: &str) -> Result<usize> {
    let mut words = line.split_whitespace().skip_while(|found| *found != word);
    Ok(words.nth(1).with_context(|| format!("no {word} in '{line}'"))?.parse()?)
}

/// More connections than there are descriptors for: the others are refused at once, those that are there
/// live on, nothing spins, and when some end there is room again.
fn run_out(case: &Case<'_>, place: &Place, addr: IpAddr, least: usize) -> Result<()> {
    let (mut guest, _server) = guest(case, FILES)?;
    let mut crowd = case.rig.start_peer(place, &format!("crowd {addr} {PORT} 400"))?;
    let line = crowd.wait_line("open", LONG)?;
    let open = count(&line, "open")?;
    ensure!(open >= least && count(&line, "hanging")? == 0, "{line}");
    ensure!(count(&line, "refused")? == 400 - open, "{line}");
    let load = load(&mut guest)?;
    ensure!(load < 0.02, "{load} seconds of processor time per second, and nothing to do");
    crowd.say("")?;
    let line = crowd.wait_line("alive", SHORT)?;
    ensure!(count(&line, "alive")? == open, "{line} of {open}");
    drop(crowd);
    until("descriptors", SHORT, || descriptors(&mut guest).is_ok_and(|now| now < 100))?;
    let answer = case.ask(place, "put", addr, "100000")?;
    ensure!(answer.starts_with("100000 "), "{answer}");
    guest.finish()?;
    Ok(())
}

fn splices_run_out(case: &Case<'_>) -> Result<()> {
    run_out(case, &Place::Host, LOOPBACK, 100)
}

fn connections_run_out(case: &Case<'_>) -> Result<()> {
    run_out(case, &Place::Outside, Family::V4.host(), 250)
}

/// Every datagram from a new port would take a descriptor or two.
fn datagrams_run_out(case: &Case<'_>) -> Result<()> {
    case.rig.needs(&["python3"])?;
    let (mut guest, _server) = guest(case, FILES)?;
    let script = "import socket,sys,time
to=(sys.argv[1],int(sys.argv[2]))
socks=[socket.socket(socket.AF_INET,socket.SOCK_DGRAM) for _ in range(400)]
for s in socks: s.settimeout(0.2)
def ask(s):
    s.sendto(b'E?',to)
    try: return s.recv(100)!=b''
    except OSError: return False
print('open',sum(ask(s) for s in socks[:250]),flush=True)
for s in socks[250:]: s.sendto(b'E?',to)
print('alive',sum(ask(s) for s in socks[:20]),flush=True)
sys.stdin.readline()";
    let (addr, port) = (LOOPBACK.to_string(), PORT.to_string());
    let mut crowd = case.rig.start(&Place::Host, &["python3", "-c", script, &addr, &port])?;
    let line = crowd.wait_line("open", LONG)?;
    ensure!(count(&line, "open")? >= 100, "{line}");
    let line = crowd.wait_line("alive", LONG)?;
    ensure!(count(&line, "alive")? == 20, "{line}");
    let load = load(&mut guest)?;
    ensure!(load < 0.02, "{load} seconds of processor time per second, and nothing to do");
    guest.finish()?;
    Ok(())
}

/// Two descriptors each, and no memory to speak of.
fn many_idle_splices(case: &Case<'_>) -> Result<()> {
    let (mut guest, _server) = guest(case, 20_000)?;
    let before = descriptors(&mut guest)?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut idle = case.rig.start_peer(&Place::Host, &format!("idle {LOOPBACK} {PORT} 450"))?;
        idle.wait_line("open", LONG)?;
        clients.push(idle);
    }
    let after = descriptors(&mut guest)?;
    // Sockets of the namespace are made ahead, up to a few dozen.
    ensure!(after - before < 2 * 900 + 64, "{before} descriptors before, {after} now");
    for idle in &mut clients {
        idle.say("")?;
        idle.wait_line("alive 450", SHORT)?;
    }
    let load = load(&mut guest)?;
    ensure!(load < 0.02, "{load} seconds of processor time per second, and nothing to do");
    guest.finish()?;
    Ok(())
}

//! Rules that change while traffic flows, and clients of the configuration socket that misbehave.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::rules::{Served, Session, our_client, tcp_rule, their_client};
use e2e::{Case, SHORT, matrix, seconds};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{Place, Proc};

matrix!(users: changes_under_load);
matrix!(once: changes_by_our_client, changes_by_their_client, silent_client, half_a_message, garbage, byte_by_byte);

const LO: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Changes of rules, at least; and for how long, at least.
const CHANGES: u32 = 1000;
const CHANGING: Duration = Duration::from_secs(3);
/// Ports of every other rule: more than are opened at a time.
const MANY: u16 = 100;
/// Connections in all.
const CONNECTIONS: usize = 50;
/// Longest time that an answer may take, on a machine that has more to do.
const STALL: Duration = Duration::from_secs(1);
/// When a client has to make room for others, and some time to get that done.
const PATIENCE: Duration = Duration::from_millis(6500);

/// A pasta and an echo server in its namespace.
fn start<'c>(case: &'c Case<'c>) -> Result<(Served<'c>, Proc)> {
    let served = Served::start(case, "-t 8000,8001 -u none -T none -U none")?;
    let server = case.rig.serve(&served.guest.place(), "0.0.0.0".parse()?, 8000)?;
    Ok((served, server))
}

/// A connection to the echo server: by the interface or spliced.
fn open(addr: IpAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((addr, 8000))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.write_all(b"echo\n")?;
    round(&mut stream)?;
    Ok(stream)
}

/// A request and its response; how long that took.
fn round(stream: &mut TcpStream) -> Result<Duration> {
    let start = Instant::now();
    stream.write_all(b"request!")?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"request!", "{answer:?}");
    Ok(start.elapsed())
}

/// What came of a loop of requests.
#[derive(Debug, Default)]
struct Pace {
    rounds: u32,
    longest: Duration,
}

/// Asks again and again until `over`, with a pause in between.
fn ask(stream: &mut TcpStream, over: &AtomicBool, pause: Duration) -> Result<Pace> {
    let mut pace = Pace::default();
    while !over.load(Ordering::Relaxed) {
        let took = round(stream).with_context(|| format!("after {} rounds", pace.rounds))?;
        pace.longest = pace.longest.max(took);
        pace.rounds += 1;
        std::thread::sleep(pause);
    }
    Ok(pace)
}

/// Connects again and again, which is to be served each time.
fn connect(addr: IpAddr, over: &AtomicBool) -> Result<Pace> {
    let mut pace = Pace::default();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        open(addr).with_context(|| format!("{addr} after {} connections", pace.rounds))?;
        pace.longest = pace.longest.max(start.elapsed());
        pace.rounds += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(pace)
}

/// Adds and deletes rules, in turns.
fn change(served: &Served<'_>) -> Result<()> {
    let (start, mut i) = (Instant::now(), 0_u32);
    while i < CHANGES || i % 2 == 1 || start.elapsed() < CHANGING {
        let mut session = served.connect()?;
        let rules = session.table(1)?;
        if i % 2 == 0 {
            ensure!(rules.len() == 2, "{} rules before change {i}", rules.len());
            let first = 9000 + u16::try_from(i % 1000)?;
            let mut rule = tcp_rule(first, 8000);
            if i % 4 == 0 {
                rule[50..52].copy_from_slice(&(first + MANY - 1).to_be_bytes());
            }
            rules.push(rule);
            // Where it stands does not matter.
            let len = rules.len();
            rules.rotate_right(usize::try_from(i / 2)? % len);
        } else {
            ensure!(rules.len() == 3, "{} rules before change {i}", rules.len());
            rules.retain(|rule| rule[48..50] < 9000_u16.to_be_bytes()[..]);
        }
        session.commit().with_context(|| format!("change {i}"))?;
        i += 1;
    }
    Ok(())
}

fn changes_under_load(case: &Case<'_>) -> Result<()> {
    under_load(case, change)
}

fn changes_by_our_client(case: &Case<'_>) -> Result<()> {
    let client = our_client(case)?;
    under_load(case, |served| change_by(served, &client))
}

fn changes_by_their_client(case: &Case<'_>) -> Result<()> {
    let client = their_client(case)?;
    under_load(case, |served| change_by(served, &client))
}

/// Adds and deletes a rule, in turns, for some time; all of the changes if there is a minute.
fn change_by(served: &Served<'_>, client: &[String]) -> Result<()> {
    let all = seconds() >= Duration::from_secs(60);
    let (start, mut i) = (Instant::now(), 0_u32);
    while i % 2 == 1 || if all { i < CHANGES } else { start.elapsed() < CHANGING } {
        let verb = if i % 2 == 0 { "-A" } else { "-D" };
        let outcome = served.run(client, &format!("{verb} -t {}", 9000 + i / 2))?;
        ensure!(outcome.code() == Some(0), "change {i}: {outcome:?}");
        i += 1;
    }
    Ok(())
}

/// Connections go on and new ones are served while `change` does its work, which it undoes.
fn under_load(case: &Case<'_>, change: impl Fn(&Served<'_>) -> Result<()>) -> Result<()> {
    let (served, _server) = start(case)?;
    let host = case.family.host();
    let before = served.sockets(&Place::Host)?;
    let mut streams = Vec::new();
    for addr in [host, LO].repeat(CONNECTIONS / 2) {
        streams.push(open(addr)?);
    }
    let over = AtomicBool::new(false);
    let (mut paces, mut new) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let over = &over;
        let pause = Duration::from_millis(20);
        let asking: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(move || ask(stream, over, pause)))
            .collect();
        let connecting = [host, LO].map(|addr| scope.spawn(move || connect(addr, over)));
        let changed = change(&served);
        over.store(true, Ordering::Relaxed);
        for thread in asking {
            paces.push(thread.join().ok().context("a thread panicked")??);
        }
        for thread in connecting {
            new.push(thread.join().ok().context("a thread panicked")??);
        }
        changed
    })?;
    let slow = paces.iter().filter(|pace| pace.longest > STALL || pace.rounds < 50).count();
    ensure!(slow == 0, "{slow} connections stalled: {paces:?}");
    let text = format!("new connections: {new:?}");
    ensure!(new.iter().all(|pace| pace.longest < STALL * 2 && pace.rounds > 10), "{text}");
    served.listens(&["tcp *:8000", "tcp *:8001"])?;
    let after = served.sockets(&Place::Host)?;
    ensure!(before == after, "{before:?} before, {after:?} after");
    Ok(())
}

/// Forwarding goes on while `hold` has the configuration socket, at the same pace, and others get their turn.
fn holding(case: &Case<'_>, hold: impl Fn(&Served<'_>) -> Result<UnixStream>) -> Result<()> {
    let (served, _server) = start(case)?;
    let mut streams = [open(case.family.host())?, open(LO)?];
    let mut measure = |time: Duration, each: &dyn Fn() -> Result<()>| -> Result<Vec<Pace>> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let over = &over;
            let asking: Vec<_> = streams
                .iter_mut()
                .map(|stream| scope.spawn(move || ask(stream, over, Duration::from_millis(1))))
                .collect();
            let start = Instant::now();
            let outcome = each();
            std::thread::sleep(time.saturating_sub(start.elapsed()));
            over.store(true, Ordering::Relaxed);
            let mut paces = Vec::new();
            for thread in asking {
                paces.push(thread.join().ok().context("a thread panicked")??);
            }
            outcome.map(|()| paces)
        })
    };
    let short = Duration::from_secs(1);
    let before = measure(short, &|| Ok(()))?;
    // Nobody else wants the socket: for as long as it likes.
    let held = hold(&served)?;
    let during = measure(seconds(), &|| Ok(()))?;
    drop(held);
    // Others do.
    let held = hold(&served)?;
    let start = Instant::now();
    let contended = measure(short, &|| served.change("-A -t 8005"))?;
    let took = start.elapsed();
    drop(held);
    served.listens(&["tcp *:8000", "tcp *:8001", "tcp *:8005"])?;
    ensure!(took < PATIENCE, "the next client had to wait for {took:?}");
    for (what, paces, time) in
        [("alone", &during, seconds()), ("with another", &contended, took.max(short))]
    {
        for (pace, before) in paces.iter().zip(&before) {
            let rate = f64::from(pace.rounds) / time.as_secs_f64();
            let text = format!("{what}: {rate} rounds a second, {before:?} before, {pace:?}");
            // Half of it may be due to others on this machine.
            ensure!(rate > f64::from(before.rounds) / 2.0 && pace.longest < STALL, "{text}");
        }
    }
    Ok(())
}

/// A connection that has been shown the rules, and from which these bytes have come.
fn sent(served: &Served<'_>, bytes: &[u8]) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(&served.socket)?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.read_exact(&mut [0; 20])?;
    stream.write_all(bytes)?;
    Ok(stream)
}

fn silent_client(case: &Case<'_>) -> Result<()> {
    holding(case, |served| sent(served, b""))
}

fn half_a_message(case: &Case<'_>) -> Result<()> {
    holding(case, |served| {
        let mut session = Session::open(&served.socket)?;
        session.table(1)?.push(tcp_rule(8003, 8000));
        let message = session.message();
        let half = message.get(..message.len() / 2).unwrap_or_default();
        drop(session);
        sent(served, half)
    })
}

fn garbage(case: &Case<'_>) -> Result<()> {
    let (served, _server) = start(case)?;
    let mut stream = sent(&served, &[0xa5; 300])?;
    // There is nothing to wait for; what was sent and not read makes it a reset.
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => bail!("garbage: {error}"),
    }
    drop((served, _server));
    holding(case, |served| sent(served, &[0xa5; 300]))
}

/// A client that always does a little is no better than one that does nothing.
fn byte_by_byte(case: &Case<'_>) -> Result<()> {
    let (served, _server) = start(case)?;
    let mut session = Session::open(&served.socket)?;
    session.table(1)?.extend((0..50).map(|i| tcp_rule(9000 + i, 8000)));
    let message = session.message();
    let over = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for byte in &message {
                if over.load(Ordering::Relaxed) || session.send(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let changed = served.change("-A -t 8005");
        over.store(true, Ordering::Relaxed);
        changed
    })?;
    ensure!(start.elapsed() < PATIENCE, "the next client had to wait for {:?}", start.elapsed());
    served.listens(&["tcp *:8000", "tcp *:8001", "tcp *:8005"])
}

//! The far end: answers whatever the clients ask for.

use crate::meter::Meter;
use crate::request::{LEN, Mode, Request};
use crate::{Options, tcp, udp};
use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Threads that accept and read requests; as many as a CRR measurement keeps in flight.
const ACCEPTORS: usize = 16;

struct Shared {
    meter: Meter,
    /// Datagrams that senders started by requests have sent.
    sent: Arc<AtomicU64>,
    held: Mutex<Vec<TcpStream>>,
}

/// Listens on TCP and UDP, prints `ready`, then a report for each `report` line that arrives,
/// until standard input ends.
pub(crate) fn run(o: &Options) -> Result<()> {
    let listener = TcpListener::bind(o.to).with_context(|| format!("cannot listen on {}", o.to))?;
    // The standard library's backlog of 128 is too short for ten thousand connections at once.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    if let Some(name) = &o.congestion {
        setsockopt(&listener, sockopt::TcpCongestion, &name.into())?;
    }
    let datagrams = UdpSocket::bind(o.to)?;
    udp::prepare(&datagrams)?;
    let shared = Arc::new(Shared {
        meter: Meter::new(),
        sent: Arc::default(),
        held: Mutex::new(Vec::new()),
    });

    for _ in 0..ACCEPTORS {
        let (listener, shared) = (listener.try_clone()?, shared.clone());
        thread::spawn(move || {
            loop {
                if let Ok((stream, _)) = listener.accept() {
                    // A client that went away in the middle is the measurement's business.
                    let _ = serve(stream, &shared);
                }
            }
        });
    }
    let counted = shared.clone();
    thread::spawn(move || udp::serve(&datagrams, &counted.meter, &counted.sent));

    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        if line? == "report" {
            let held = shared.held.lock().map_or(0, |held| held.len());
            let sent = shared.sent.load(Ordering::Relaxed);
            writeln!(out, "{} held={held} sent={sent}", shared.meter.report(o.window))?;
        }
    }
    Ok(())
}

fn serve(mut stream: TcpStream, shared: &Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = [0; LEN];
    stream.read_exact(&mut head)?;
    let request = Request::decode(&head)?;
    stream.set_read_timeout(None)?;
    match request.mode {
        Mode::Once => stream.write_all(&head)?,
        Mode::Hold => {
            stream.write_all(&head)?;
            if let Ok(mut held) = shared.held.lock() {
                held.push(stream);
            }
        }
        Mode::Sink => {
            let shared = shared.clone();
            thread::spawn(move || tcp::sink(&mut stream, &shared.meter));
        }
        Mode::Source => {
            thread::spawn(move || tcp::source(&mut stream, request.window));
        }
        Mode::Echo => {
            thread::spawn(move || tcp::echo(&mut stream));
        }
        Mode::Data => {}
    }
    Ok(())
}

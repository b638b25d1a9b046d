//! TCP measurements: throughput, request-response, connect-request-response, idle connections.

use crate::meter::Meter;
use crate::request::{CHUNK, LEN, Mode, Request};
use crate::{Direction, Options};
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, ErrorKind, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A blocked call looks at the clock at least this often.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a connection may take to be made or answered.
const PATIENCE: Duration = Duration::from_secs(5);

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn connect(to: &SocketAddr, congestion: Option<&str>) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(to, PATIENCE).with_context(|| format!("to {to}"))?;
    stream.set_nodelay(true)?;
    if let Some(name) = congestion {
        setsockopt(&stream, sockopt::TcpCongestion, &name.into())?;
    }
    Ok(stream)
}

/// Receives until the other end closes.
pub(crate) fn sink(stream: &mut TcpStream, meter: &Meter) -> io::Result<()> {
    meter.start();
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => meter.add(n),
        }
    }
}

/// Sends for `window`.
pub(crate) fn source(stream: &mut TcpStream, window: Duration) -> io::Result<()> {
    stream.set_write_timeout(Some(GLANCE))?;
    let buffer = vec![0x5a; CHUNK];
    let start = Instant::now();
    while start.elapsed() < window {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(e) if is_timeout(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sends every [`LEN`] bytes back.
pub(crate) fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; LEN];
    loop {
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
    }
}

/// Several streams for a time. Inbound, the result is printed here; outbound, by the server.
pub(crate) fn throughput(o: &Options) -> Result<()> {
    // The sender goes on a little longer than the receiver looks.
    let sending = o.window + Duration::from_millis(200);
    let mode = if o.direction == Direction::Out { Mode::Sink } else { Mode::Source };
    let head = Request::new(mode, sending).encode();
    let mut streams = Vec::new();
    for _ in 0..o.streams {
        streams.push(connect(&o.to, o.congestion.as_deref())?);
    }
    let meter = Arc::new(Meter::new());
    let (window, direction) = (o.window, o.direction);
    let threads: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let meter = meter.clone();
            thread::spawn(move || -> io::Result<()> {
                stream.write_all(&head)?;
                match direction {
                    Direction::Out => source(&mut stream, sending),
                    Direction::In => receive(&mut stream, &meter, window),
                }
            })
        })
        .collect();
    let mut broken = 0;
    for thread in threads {
        if !matches!(thread.join(), Ok(Ok(()))) {
            broken += 1;
        }
    }
    writeln!(io::stdout(), "{} broken={broken}", meter.report(o.window))?;
    Ok(())
}

/// Receives until `window` is over, also when nothing comes any more.
fn receive(stream: &mut TcpStream, meter: &Meter, window: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(GLANCE))?;
    let start = meter.start();
    let mut buffer = vec![0; CHUNK];
    while start.elapsed() < window {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => meter.add(n),
            Err(e) if is_timeout(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Prints median and 99th percentile of `took`.
pub(crate) fn print_latencies(mut took: Vec<Duration>, lost: u32) -> Result<()> {
    ensure!(!took.is_empty(), "not one answer");
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    writeln!(
        io::stdout(),
        "ops={} p50_ns={} p99_ns={} lost={lost}",
        took.len(),
        at(50).as_nanos(),
        at(99).as_nanos()
    )?;
    Ok(())
}

/// One small request at a time over one connection.
pub(crate) fn request_response(o: &Options) -> Result<()> {
    let mut stream = connect(&o.to, o.congestion.as_deref())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = Request::new(Mode::Echo, o.window).encode();
    stream.write_all(&buffer)?;
    let mut took = Vec::new();
    let start = Instant::now();
    while start.elapsed() < o.window {
        let asked = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        took.push(asked.elapsed());
    }
    print_latencies(took, 0)
}

/// Connections made, asked, answered and closed, `flight` at a time; the server closes first.
pub(crate) fn connect_request_response(o: &Options) -> Result<()> {
    let left = Arc::new(AtomicU32::new(o.count.unwrap_or(u32::MAX)));
    let done = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let window = if o.count.is_some() { Duration::from_secs(60) } else { o.window };
    let start = Instant::now();
    let threads: Vec<_> = (0..o.flight)
        .map(|_| {
            let (left, done, failed, to) = (left.clone(), done.clone(), failed.clone(), o.to);
            thread::spawn(move || {
                let take = |n: u32| n.checked_sub(1);
                while start.elapsed() < window
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
                {
                    let counter = if once(&to).is_ok() { &done } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    writeln!(
        io::stdout(),
        "ops={} failed={} secs={}",
        done.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        start.elapsed().as_secs_f64()
    )?;
    Ok(())
}

fn once(to: &SocketAddr) -> Result<()> {
    let mut stream = connect(to, None)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&Request::new(Mode::Once, Duration::ZERO).encode())?;
    let mut answer = [0; LEN];
    stream.read_exact(&mut answer)?;
    ensure!(stream.read(&mut answer)? == 0, "bytes after the answer");
    Ok(())
}

/// Opens connections, has each answered once, and holds them until standard input ends.
pub(crate) fn idle(o: &Options) -> Result<()> {
    let count = o.count.unwrap_or(1000);
    let head = Request::new(Mode::Hold, Duration::ZERO).encode();
    let mut held = Vec::new();
    let mut why = String::from("-");
    for _ in 0..count {
        let made = connect(&o.to, None).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&head)?;
            stream.read_exact(&mut [0; LEN])?;
            Ok(stream)
        });
        match made {
            Ok(stream) => held.push(stream),
            Err(e) => {
                why = format!("{e:#}").replace(' ', "_");
                break;
            }
        }
    }
    writeln!(io::stdout(), "held={} why={why}", held.len())?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

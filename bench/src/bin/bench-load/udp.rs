//! UDP measurements: paced and unpaced streams of datagrams, request-response.

use crate::meter::Meter;
use crate::request::{LEN, Mode, Request};
use crate::tcp::print_latencies;
use crate::{Direction, Options};
use anyhow::Result;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Receive buffer of both ends: what is lost shall be lost on the way.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Payload of a UDP_SEGMENT call: whole datagrams, a little below the 64 KiB of an IP packet.
const SUPERFRAME: usize = 64_000;
/// How long a paced sender sleeps between its looks at the clock.
const NAP: Duration = Duration::from_micros(150);

/// Large receive buffer, and datagrams handed up in bundles where the kernel has them so.
pub(crate) fn prepare(socket: &UdpSocket) -> Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    setsockopt(socket, sockopt::UdpGroSegment, &true)?;
    Ok(())
}

/// The server's side: counts, echoes, or starts a sender, as the first byte of each asks.
pub(crate) fn serve(socket: &UdpSocket, meter: &Meter, sent: &Arc<AtomicU64>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
        let Some(datagram) = buffer.get(..len) else { continue };
        match Request::decode(datagram) {
            Ok(Request { mode: Mode::Data, .. }) => meter.add(len),
            Ok(Request { mode: Mode::Echo, .. }) => drop(socket.send_to(datagram, peer)),
            Ok(request @ Request { mode: Mode::Source, .. }) => {
                if let Ok(socket) = socket.try_clone() {
                    let sent = sent.clone();
                    thread::spawn(move || send(&socket, peer, &request, &sent));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Sends datagrams as `request` describes them, and counts them.
fn send(socket: &UdpSocket, to: SocketAddr, request: &Request, count: &AtomicU64) -> Result<()> {
    let size = usize::from(request.size).max(LEN);
    let data = Request { mode: Mode::Data, ..*request }.encode();
    let mut one = vec![0; size];
    if let Some(start) = one.get_mut(..LEN) {
        start.copy_from_slice(&data);
    }
    let bundle = if request.gso { SUPERFRAME / size } else { 1 };
    if request.gso {
        setsockopt(socket, sockopt::UdpGsoSegment, &i32::from(request.size))?;
    }
    let payload = one.repeat(bundle);
    let (start, mut sent) = (Instant::now(), 0u64);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= request.window {
            return Ok(());
        }
        if request.rate != 0 && sent as f64 >= f64::from(request.rate) * elapsed.as_secs_f64() {
            thread::sleep(NAP);
            continue;
        }
        match socket.send_to(&payload, to) {
            Ok(_) => {
                sent += bundle as u64;
                count.store(sent, Ordering::Relaxed);
            }
            // The queue of the local device is full; a refusal tells of a datagram before.
            Err(e) if e.raw_os_error() == Some(nix::Error::ENOBUFS as i32) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn local(to: &SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    prepare(&socket)?;
    Ok(socket)
}

/// A stream of datagrams. Outbound prints how many were sent; inbound what arrived.
pub(crate) fn stream(o: &Options) -> Result<()> {
    let socket = local(&o.to)?;
    let mut request =
        Request { mode: Mode::Source, window: o.window, rate: o.rate, size: o.size, gso: o.gso };
    if o.direction == Direction::Out {
        let sent = AtomicU64::new(0);
        send(&socket, o.to, &request, &sent)?;
        // Let what is on the way arrive.
        thread::sleep(Duration::from_millis(300));
        writeln!(io::stdout(), "sent={}", sent.into_inner())?;
        return Ok(());
    }
    // The server sends a little longer, so that the window is full.
    request.window += Duration::from_millis(200);
    socket.connect(o.to)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.send(&request.encode())?;
    let meter = Meter::new();
    let start = meter.start();
    let mut buffer = vec![0; 1 << 16];
    while start.elapsed() < request.window + Duration::from_millis(300) {
        if let Ok(len) = socket.recv(&mut buffer) {
            meter.add(len);
        }
    }
    writeln!(io::stdout(), "{}", meter.report(o.window))?;
    Ok(())
}

/// One datagram there and back at a time.
pub(crate) fn request_response(o: &Options) -> Result<()> {
    let socket = local(&o.to)?;
    socket.connect(o.to)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let data = Request::new(Mode::Echo, o.window).encode();
    let mut buffer = [0; LEN];
    let (mut took, mut lost) = (Vec::new(), 0);
    let start = Instant::now();
    while start.elapsed() < o.window {
        let asked = Instant::now();
        socket.send(&data)?;
        match socket.recv(&mut buffer) {
            Ok(_) => took.push(asked.elapsed()),
            Err(_) => lost += 1,
        }
    }
    print_latencies(took, lost)
}

//! UDP: an echo and counting server, paced senders, and what errors look like.
//!
//! A datagram's first byte says what the server does with it: `E` is returned, as is an empty one; `C` is counted
//! under the sequence number that follows (eight bytes, big-endian); `Q` is answered with
//! the counts of all and of different sequence numbers since the last `Q`; `W` with the sender's
//! address and port; `L` later, three times, and the server says what came of it; `P` asks for a paced
//! stream back: `P COUNT SIZE RATE`.

use super::tcp::describe;
use super::{number, say};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const LARGEST: usize = 65536;
/// Receive buffer asked for: a test of what is lost on the way must not lose at the end.
const QUEUE: usize = 8 << 20;
/// Silence after which nothing more is expected.
const SILENCE: Duration = Duration::from_millis(1500);

pub(super) fn listen(addr: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(addr).with_context(|| addr.to_string())?;
    enlarge(&socket);
    Ok(socket)
}

fn enlarge(socket: &UdpSocket) {
    // The limit for everybody is net.core.rmem_max; root may go beyond.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, QUEUE).is_err() {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, QUEUE);
    }
}

/// Serves for ever.
pub(super) fn serve(socket: &UdpSocket) -> Result<()> {
    let mut room = vec![0; LARGEST];
    let (mut all, mut seen) = (0_u64, HashSet::new());
    loop {
        let (n, from) = match socket.recv_from(&mut room) {
            Ok(got) => got,
            // An ICMP error for an earlier answer.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                say("late: refused")?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let datagram = &room[..n];
        match datagram.first() {
            Some(b'E') | None => {
                let _ = socket.send_to(datagram, from);
            }
            Some(b'C') => {
                all += 1;
                seen.insert(sequence(datagram));
            }
            Some(b'Q') => {
                let _ = socket.send_to(format!("{all} {}", seen.len()).as_bytes(), from);
                all = 0;
                seen.clear();
            }
            Some(b'W') => {
                let _ = socket.send_to(format!("{} {}", from.ip(), from.port()).as_bytes(), from);
            }
            Some(b'L') => {
                let socket = socket.try_clone()?;
                std::thread::spawn(move || late(&socket, from));
            }
            Some(b'P') => {
                let text = String::from_utf8_lossy(datagram).into_owned();
                let socket = socket.try_clone()?;
                std::thread::spawn(move || {
                    let words: Vec<&str> = text.split_whitespace().collect();
                    paced(&words, 1, |bytes| socket.send_to(bytes, from).map(drop))
                });
            }
            _ => {}
        }
    }
}

/// Answers when the sender is gone, and says what the network says to that.
fn late(socket: &UdpSocket, to: SocketAddr) -> Result<()> {
    // Connected, so that errors for this destination are this socket's; the server has a pause.
    socket.connect(to)?;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        if let Err(error) = socket.send(b"late") {
            return say(&format!("late: {}", describe(&error)));
        }
    }
    say("late: silence")
}

fn sequence(datagram: &[u8]) -> u64 {
    let eight = datagram.get(1..9).and_then(|eight| eight.try_into().ok());
    eight.map_or(u64::MAX, u64::from_be_bytes)
}

/// Sends `COUNT SIZE RATE` (per second) numbered datagrams, evenly spaced.
fn paced(
    args: &[&str],
    at: usize,
    mut send: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<()> {
    let (count, rate): (u32, u32) = (number(args, at)?, number(args, at + 2)?);
    let mut datagram = vec![b'C'; number::<usize>(args, at + 1)?.max(9)];
    let gap = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    for i in 0..count {
        datagram[1..9].copy_from_slice(&u64::from(i).to_be_bytes());
        send(&datagram)?;
        due += gap;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // After a pause forced by the scheduler go on at the asked rate, without a burst.
        due = due.max(Instant::now().checked_sub(gap * 2).unwrap_or(due));
    }
    Ok(())
}

/// The clients; `args` follow address and port.
///
/// `udp-who PORT` sends from PORT and prints what the server saw · `udp-pair ADDR` asks two servers from one
/// socket · `udp-late` asks for late
/// answers and leaves · `udp-many COUNT` sends from as many sockets, prints how many got their
/// own back · `udp-echo SIZE` prints `ok` when a datagram came back the same · `udp-out COUNT SIZE RATE` and
/// `udp-in COUNT SIZE RATE` print how many arrived, and how many different ones · `udp-error`
/// sends until an error comes back and names it.
pub(super) fn client(verb: &str, addr: SocketAddr, args: &[&str]) -> Result<()> {
    let any = if addr.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let port = if verb == "udp-who" { number(args, 0)? } else { 0 };
    let socket = UdpSocket::bind(SocketAddr::new(any.ip(), port))?;
    enlarge(&socket);
    socket.connect(addr)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let mut room = vec![0; LARGEST];
    match verb {
        "udp-echo" => {
            let sent = vec![b'E'; number::<usize>(args, 0)?];
            socket.send(&sent)?;
            let n = socket.recv(&mut room).context("no echo")?;
            ensure!(room.get(..n) == Some(&sent[..]), "sent {}, got {n} bytes", sent.len());
            say("ok")
        }
        "udp-who" => say(&ask(&socket, b"W")?),
        "udp-pair" => {
            let second = SocketAddr::new(args.first().context("no address")?.parse()?, addr.port());
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(SILENCE))?;
            let mut answered = HashSet::new();
            for to in [addr, second] {
                socket.send_to(b"E", to)?;
            }
            while answered.len() < 2 {
                let Ok((_, from)) = socket.recv_from(&mut room) else { break };
                answered.insert(from);
            }
            say(&answered.len().to_string())
        }
        "udp-late" => {
            socket.send(b"L")?;
            say("sent")
        }
        "udp-many" => {
            let mut sockets = Vec::new();
            for i in 0..number::<u32>(args, 0)? {
                let socket = UdpSocket::bind(any)?;
                socket.connect(addr)?;
                socket.set_read_timeout(Some(SILENCE))?;
                let text = format!("E{i}");
                socket.send(text.as_bytes())?;
                sockets.push((socket, text));
            }
            let answered = sockets.iter().filter(|(socket, text)| {
                let mut room = [0; 64];
                socket.recv(&mut room).is_ok_and(|n| room.get(..n) == Some(text.as_bytes()))
            });
            say(&answered.count().to_string())
        }
        "udp-out" => {
            ask(&socket, b"Q")?;
            paced(args, 0, |bytes| socket.send(bytes).map(drop))?;
            // What is still on its way arrives before the question does, or is out of order.
            std::thread::sleep(Duration::from_millis(200));
            say(&ask(&socket, b"Q")?)
        }
        "udp-in" => {
            socket.send(format!("P {}", args.join(" ")).as_bytes())?;
            let (mut all, mut seen) = (0_u64, HashSet::new());
            let count: u64 = number(args, 0)?;
            while all < count {
                let Ok(n) = socket.recv(&mut room) else { break };
                ensure!(n == number::<usize>(args, 1)?, "a datagram of {n} bytes");
                all += 1;
                seen.insert(sequence(&room[..n]));
            }
            say(&format!("{all} {}", seen.len()))
        }
        "udp-error" => {
            for _ in 0..5 {
                let result = socket.send(b"?").and_then(|_| socket.recv(&mut room));
                match result {
                    Ok(n) => return say(&format!("{n} bytes")),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return say(&describe(&error)),
                }
            }
            say("silence")
        }
        _ => bail!("what is '{verb}'?"),
    }
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Result<String> {
    let mut room = [0; 256];
    for _ in 0..3 {
        socket.send(question)?;
        if let Ok(n) = socket.recv(&mut room) {
            return Ok(String::from_utf8_lossy(&room[..n]).into_owned());
        }
    }
    bail!("the server did not answer")
}

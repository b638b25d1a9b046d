//! Who reaches which port, and as whom: a server on many ports that tells each client what it sees of it,
//! and a client that asks at many places at once.
//!
//! The answer is one line, `SOURCE SOURCE-PORT DESTINATION PORT`, the latter two as the server is bound.

use super::tcp::{self, describe};
use super::{number, say};
use anyhow::{Context, Result, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, socket_with};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Longest time that a step of a TCP connection may take.
const STEP: Duration = Duration::from_secs(5);
/// Time after which a datagram is sent again, and how often it is sent.
const AGAIN: Duration = Duration::from_millis(300);
const TRIES: usize = 4;

/// Serves `PORT,PORT… ADDR…`, by TCP and UDP, says `serving`, and each visit on standard output.
pub(super) fn serve(args: &[&str]) -> Result<()> {
    let [ports, addresses @ ..] = args else { bail!("no ports given") };
    let mut threads = Vec::new();
    for address in addresses {
        for port in ports.split(',') {
            let at = socket_addr(address, port)?;
            let (listener, socket) =
                (tcp::listen(at)?, UdpSocket::bind(at).with_context(|| at.to_string())?);
            threads.push(std::thread::spawn(move || streams(&listener, at)));
            threads.push(std::thread::spawn(move || datagrams(&socket, at)));
        }
    }
    say("serving")?;
    for thread in threads {
        thread.join().ok().context("a server panicked")??;
    }
    Ok(())
}

fn streams(listener: &TcpListener, at: SocketAddr) -> Result<()> {
    loop {
        let (mut stream, from) = listener.accept()?;
        let line = sight(from, at);
        say(&format!("tcp {line}"))?;
        stream.set_read_timeout(Some(STEP))?;
        if matches!(stream.read(&mut [0; 16]), Ok(n) if n > 0) {
            let _ = stream.write_all(line.as_bytes());
        }
    }
}

fn datagrams(socket: &UdpSocket, at: SocketAddr) -> Result<()> {
    loop {
        // An ICMP error for an earlier answer is of no interest.
        let Ok((_, from)) = socket.recv_from(&mut [0; 16]) else { continue };
        let line = sight(from, at);
        say(&format!("udp {line}"))?;
        let _ = socket.send_to(line.as_bytes(), from);
    }
}

fn sight(from: SocketAddr, at: SocketAddr) -> String {
    format!("{} {} {} {}", from.ip(), from.port(), at.ip(), at.port())
}

fn socket_addr(address: &str, port: &str) -> Result<SocketAddr> {
    let text = if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    };
    text.parse().ok().with_context(|| format!("'{text}' is no address"))
}

/// Asks at each of `PROTOCOL,ADDR,PORT[,SOURCE]…` and prints one line for each, in that order.
///
/// It is the server's answer with `SOURCE-PORT` replaced by `same` or `other`, and otherwise `refused`;
/// `reset` and `closed` if that came after the connection was there; `silence`; or another error.
/// Answers to datagrams count only if they come from where the question went.
pub(super) fn probe(args: &[&str]) -> Result<()> {
    let asked: Vec<_> = args
        .iter()
        .map(|text| {
            let text = (*text).to_owned();
            std::thread::spawn(move || ask(&text))
        })
        .collect();
    for thread in asked {
        say(&thread.join().ok().context("a client panicked")??)?;
    }
    Ok(())
}

fn ask(text: &str) -> Result<String> {
    let words: Vec<&str> = text.split(',').collect();
    let (Some(protocol), Some(address)) = (words.first(), words.get(1)) else {
        bail!("what is '{text}'?");
    };
    let to = socket_addr(address, &number::<u16>(&words, 2)?.to_string())?;
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let source = socket_addr(words.get(3).unwrap_or(&any), "0")?;
    let outcome = if *protocol == "tcp" { stream(source, to) } else { datagram(source, to) };
    Ok(outcome.unwrap_or_else(|error| describe(&error)))
}

fn stream(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    for timeout in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, timeout, Some(STEP))?;
    }
    bind(&socket, &source)?;
    match connect(&socket, &to) {
        // What a connect that takes too long ends with.
        Err(rustix::io::Errno::INPROGRESS) => return Ok("timed out".into()),
        outcome => outcome?,
    }
    let mut stream = TcpStream::from(socket);
    let local = stream.local_addr()?.port();
    let mut answer = String::new();
    match stream.write_all(b"?\n").and_then(|()| stream.read_to_string(&mut answer)) {
        Ok(0) => Ok("closed".into()),
        Ok(_) => Ok(shown(&answer, local)),
        // Too late for the write to succeed.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok("reset".into()),
        Err(error) => Err(error),
    }
}

fn datagram(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(source)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(AGAIN))?;
    let local = socket.local_addr()?.port();
    let mut room = [0; 256];
    for _ in 0..TRIES {
        socket.send(b"?")?;
        match socket.recv(&mut room) {
            Ok(n) => {
                let answer = String::from_utf8_lossy(room.get(..n).unwrap_or_default());
                return Ok(shown(&answer, local));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok("silence".into())
}

fn shown(answer: &str, local: u16) -> String {
    let mut words: Vec<&str> = answer.split_whitespace().collect();
    if let Some(port) = words.get_mut(1) {
        *port = if *port == local.to_string() { "same" } else { "other" };
    }
    words.join(" ")
}

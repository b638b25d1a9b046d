//! TCP: a server that does what a connection's first line says, and the clients for it.
//!
//! | first line | the server then |
//! |---|---|
//! | `echo` | returns every byte; at the end of input ends its own side |
//! | `put` | reads to the end, answers `COUNT SHA256` |
//! | `put-get N` | reads to the end, then sends the stream's first N bytes |
//! | `get N` | sends the stream's first N bytes, ends its side, waits for the other's end |
//! | `get-put N` | the same, and says on its standard output what came after its own end |
//! | `reset N` | sends N bytes, then resets the connection |
//! | `who` | answers the client's address |
//! | `GET /N HTTP/1.1` | sends N bytes as an HTTP answer |

use super::stream::{Sum, read_from, sum, write_to};
use super::{number, say};
use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen as set_listening, socket_with};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Longest time that a client's connect may take.
const CONNECT: Duration = Duration::from_secs(30);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket with a long queue, on an address that may have just been used.
pub(super) fn listen(addr: SocketAddr) -> Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &addr).with_context(|| addr.to_string())?;
    set_listening(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Serves for ever, a thread for each connection.
pub(super) fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, from) = listener.accept()?;
        std::thread::spawn(move || {
            if let Err(error) = session(&stream) {
                let _ = say(&format!("{from}: {}", failure(&error)));
            }
        });
    }
}

fn session(mut stream: &TcpStream) -> Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["echo"] => {
            io::copy(&mut input, &mut stream)?;
            stream.shutdown(Shutdown::Write)?;
        }
        ["put"] => {
            let (sum, end) = read_from(&mut input);
            say(&format!("put {sum}"))?;
            end?;
            writeln!(stream, "{sum}")?;
        }
        ["put-get", size] => {
            let (sum, end) = read_from(&mut input);
            say(&format!("put-get {sum}"))?;
            end?;
            write_to(&mut stream, size.parse()?)?;
        }
        ["get" | "get-put", size] => {
            write_to(&mut stream, size.parse()?)?;
            stream.shutdown(Shutdown::Write)?;
            let (sum, end) = read_from(&mut input);
            say(&format!("{} {sum}", words[0]))?;
            end?;
        }
        ["reset", size] => {
            write_to(&mut stream, size.parse()?)?;
            // The other side says when it has read them: a reset may overtake what is queued.
            input.read_line(&mut String::new())?;
            set_socket_linger(stream, Some(Duration::ZERO))?;
        }
        ["who"] => writeln!(stream, "{}", stream.peer_addr()?.ip())?,
        ["GET", path, ..] => {
            let size: u64 = path.trim_start_matches('/').parse()?;
            let mut header = String::new();
            while input.read_line(&mut header)? > 2 {
                header.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            write!(stream, "{head} {size}\r\n\r\n")?;
            write_to(&mut stream, size)?;
        }
        _ => bail!("what is '{}'?", line.trim_end()),
    }
    Ok(())
}

fn failure(error: &anyhow::Error) -> String {
    error.downcast_ref().map_or_else(|| format!("{error:#}"), describe)
}

/// A short name for the way in which a connection failed.
pub fn describe(error: &io::Error) -> String {
    const NAMES: [(ErrorKind, &str); 6] = [
        (ErrorKind::ConnectionRefused, "refused"),
        (ErrorKind::ConnectionReset, "reset"),
        (ErrorKind::HostUnreachable, "host unreachable"),
        (ErrorKind::NetworkUnreachable, "network unreachable"),
        (ErrorKind::TimedOut, "timed out"),
        (ErrorKind::WouldBlock, "timed out"),
    ];
    let named = NAMES.iter().find(|(kind, _)| *kind == error.kind());
    named.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

fn open(addr: SocketAddr, request: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT)?;
    writeln!(stream, "{request}")?;
    Ok(stream)
}

/// The clients; `args` follow address and port.
///
/// `connect` · `who` prints the address that the server sees ·
/// `put N` prints the server's count and sum · `get N` prints its own ·
/// `get-later N` says `asked` and reads after a line of input ·
/// `put-get N M` ends its side first, prints its own sum of what came after ·
/// `get-put N M` is ended by the server first, prints its own sum, then sends M bytes ·
/// `read N` has the server reset after N bytes and says how that looked ·
/// `abort N` sends N bytes, resets, and says `aborted` ·
/// `idle COUNT` keeps COUNT connections open, says `open`, and after each line of input tries them
/// all and says `alive COUNT` ·
/// `crowd COUNT` is the same for connections of which some are refused: says `open N refused N hanging N`,
/// and then `alive N` of those that were open ·
/// `many COUNT BYTES` echoes over COUNT connections that are all open at the same time.
pub(super) fn client(verb: &str, addr: SocketAddr, args: &[&str]) -> Result<()> {
    match verb {
        "connect" => match TcpStream::connect_timeout(&addr, CONNECT) {
            Ok(_) => say("connected"),
            Err(error) => say(&describe(&error)),
        },
        "put" => {
            let mut stream = open(addr, "put")?;
            write_to(&mut stream, number(args, 0)?)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            say(answer.trim_end())
        }
        "get" => {
            let size: u64 = number(args, 0)?;
            say(&receive(&mut open(addr, &format!("get {size}"))?)?.to_string())
        }
        "get-later" => {
            let mut stream = open(addr, &format!("get {}", number::<u64>(args, 0)?))?;
            say("asked")?;
            io::stdin().read_line(&mut String::new())?;
            say(&receive(&mut stream)?.to_string())
        }
        "who" => {
            let mut answer = String::new();
            open(addr, "who")?.read_to_string(&mut answer)?;
            say(answer.trim_end())
        }
        "put-get" => {
            let mut stream = open(addr, &format!("put-get {}", number::<u64>(args, 1)?))?;
            write_to(&mut stream, number(args, 0)?)?;
            stream.shutdown(Shutdown::Write)?;
            say(&receive(&mut stream)?.to_string())
        }
        "get-put" => {
            let mut stream = open(addr, &format!("get-put {}", number::<u64>(args, 0)?))?;
            say(&receive(&mut stream)?.to_string())?;
            write_to(&mut stream, number(args, 1)?)?;
            Ok(())
        }
        "read" => {
            let size: u64 = number(args, 0)?;
            let mut stream = open(addr, &format!("reset {size}"))?;
            let mut got = Sum::new();
            let mut chunk = vec![0; 65536];
            while got.count < size {
                let n = stream.read(&mut chunk)?;
                ensure!(n > 0, "end of input after {} bytes", got.count);
                got.add(&chunk[..n]);
            }
            writeln!(stream, "all read")?;
            let end = match stream.read(&mut chunk) {
                Ok(n) => format!("{n} bytes"),
                Err(error) => describe(&error),
            };
            say(&format!("{got} {end}"))
        }
        "abort" => {
            let mut stream = open(addr, "put")?;
            write_to(&mut stream, number(args, 0)?)?;
            set_socket_linger(&stream, Some(Duration::ZERO))?;
            drop(stream);
            say("aborted")
        }
        "idle" => idle(addr, number(args, 0)?),
        "crowd" => crowd(addr, number(args, 0)?),
        "many" => many(addr, number(args, 0)?, number(args, 1)?),
        _ => bail!("what is '{verb}'?"),
    }
}

fn receive(stream: &mut TcpStream) -> Result<Sum> {
    let (sum, end) = read_from(stream);
    end.with_context(|| format!("after {} bytes", sum.count))?;
    Ok(sum)
}

fn idle(addr: SocketAddr, count: usize) -> Result<()> {
    let mut streams = Vec::new();
    for i in 0..count {
        let mut stream = open(addr, "echo").with_context(|| format!("connection {i}"))?;
        stream.set_read_timeout(Some(CONNECT))?;
        // Not only accepted by the kernel: served.
        probe(&mut stream)?;
        streams.push(stream);
    }
    say("open")?;
    for line in io::stdin().lines() {
        line?;
        for stream in &mut streams {
            probe(stream)?;
        }
        say(&format!("alive {count}"))?;
    }
    Ok(())
}

/// How long a connection may take that is served or refused at once.
const AT_ONCE: Duration = Duration::from_secs(3);

fn crowd(addr: SocketAddr, count: usize) -> Result<()> {
    let (mut streams, mut refused, mut hanging) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let served = open(addr, "echo").and_then(|mut stream| {
            stream.set_read_timeout(Some(AT_ONCE))?;
            probe(&mut stream)?;
            Ok(stream)
        });
        match served {
            Ok(stream) => streams.push(stream),
            Err(error) if failure(&error) == "timed out" => hanging += 1,
            Err(_) => refused += 1,
        }
    }
    say(&format!("open {} refused {refused} hanging {hanging}", streams.len()))?;
    for line in io::stdin().lines() {
        line?;
        let alive = streams.iter_mut().filter_map(|stream| probe(stream).ok()).count();
        say(&format!("alive {alive}"))?;
    }
    Ok(())
}

fn probe(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?")?;
    Ok(stream.read_exact(&mut [0])?)
}

fn many(addr: SocketAddr, count: usize, size: u64) -> Result<()> {
    let all_open = Arc::new(Barrier::new(count));
    let expected = sum(size);
    let mut threads = Vec::new();
    for _ in 0..count {
        let all_open = Arc::clone(&all_open);
        threads.push(std::thread::spawn(move || -> Result<String> {
            let opened = open(addr, "echo");
            all_open.wait();
            let mut stream = opened?;
            let mut writer = stream.try_clone()?;
            let sender = std::thread::spawn(move || {
                write_to(&mut writer, size)?;
                writer.shutdown(Shutdown::Write)
            });
            let got = receive(&mut stream)?;
            sender.join().ok().context("the sender panicked")??;
            Ok(got.to_string())
        }));
    }
    let mut failures = Vec::new();
    for thread in threads {
        match thread.join().ok().context("a connection's thread panicked")? {
            Ok(got) if got == expected => {}
            Ok(got) => failures.push(format!("got {got}, not {expected}")),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{} of {count} failed: {}", failures.len(), failures.join("; "));
    say(&format!("ok {count}"))
}

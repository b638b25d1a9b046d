//! A network card without a machine: joins a tap interface to passt's socket.
//!
//! The interface is made in the network namespace this program is started in, and has what the card of
//! a virtual machine on a stream socket has: no offloads. On the socket, each frame follows its length.
//! As the kernel of such a machine would (GRO), it makes one of TCP segments that arrive together.
//! Nothing is lost here: while passt takes nothing, the frames wait in the queue of the interface,
//! which is long enough for the windows of several connections.
#![forbid(unsafe_code)]

mod frames;
mod merge;

use anyhow::{Context as _, Result, bail, ensure};
use frames::{Incoming, Outgoing};
use lexopt::prelude::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSliceMut, Read as _, Write as _};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use sys::netlink::{LinkChange, Netlink, NewAddress, NewRoute};
use sys::tun::{Offload, Tap};
use testkit::wait_for;
use wire::vnet_hdr::HEADER_LEN;

const USAGE: &str = "\
Usage: bench-bridge --socket PATH [OPTIONS]      (as root, in the namespace of the guest)

  --interface NAME    name of the tap interface (default eth0)
  --mtu N             its MTU (default 65520)
  --queue N           frames that may wait in it (default 30000)
  --address ADDR/LEN  an address of it; may be repeated
  --gateway ADDR      a default route through it; may be repeated

Prints 'ready' once frames can pass, and ends when the other end of the socket closes it.
";

/// How long somebody may take to listen at the socket.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Options {
    socket: PathBuf,
    interface: OsString,
    mtu: u32,
    queue: u32,
    addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
}

fn parse() -> Result<Options> {
    let mut o = Options {
        socket: PathBuf::new(),
        interface: "eth0".into(),
        mtu: 65_520,
        queue: 30_000,
        addresses: Vec::new(),
        gateways: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("socket") => o.socket = parser.value()?.into(),
            Long("interface") => o.interface = parser.value()?,
            Long("mtu") => o.mtu = parser.value()?.parse()?,
            Long("queue") => o.queue = parser.value()?.parse()?,
            Long("address") => {
                let value = parser.value()?.string()?;
                let (addr, len) = value.split_once('/').context("--address wants ADDR/LEN")?;
                o.addresses.push((addr.parse()?, len.parse()?));
            }
            Long("gateway") => o.gateways.push(parser.value()?.parse()?),
            Short(_) | Long(_) | Value(_) => return Err(arg.unexpected().into()),
        }
    }
    ensure!(!o.socket.as_os_str().is_empty(), "--socket is missing");
    Ok(o)
}

fn main() -> Result<()> {
    let o = parse().context(USAGE)?;
    let stream = connect(&o).with_context(|| o.socket.display().to_string())?;
    stream.set_nonblocking(true)?;
    let tap = Tap::open(&o.interface, Offload::Checksum).context("cannot make the interface")?;
    ensure!(tap.offload() == Offload::Checksum, "the kernel knows no virtio header");
    tap.refuse_offload().context("cannot switch off offloads")?;
    configure(&tap, &o).context("cannot configure the interface")?;
    writeln!(io::stdout(), "ready")?;
    forward(&tap, &stream)
}

/// Connects as soon as somebody listens.
fn connect(o: &Options) -> Result<UnixStream> {
    wait_for("who listens", PATIENCE, || match UnixStream::connect(&o.socket) {
        Ok(stream) => Ok(Some(stream)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    })
}

/// Brings the interface up, with addresses and routes.
fn configure(tap: &Tap, o: &Options) -> Result<()> {
    let mut netlink = Netlink::open()?;
    let name = tap.name().to_string_lossy();
    let index = netlink.link_named(&name)?.context("it is gone")?.index;
    let change =
        LinkChange { up: Some(true), mtu: Some(o.mtu), mac: None, tx_queue_len: Some(o.queue) };
    netlink.change_link(index, &change).context("MTU, length of the queue")?;
    for &(addr, prefix_len) in &o.addresses {
        let new = NewAddress { index, addr, prefix_len };
        netlink.add_address(&new).with_context(|| addr.to_string())?;
    }
    for &gateway in &o.gateways {
        let any: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let new = NewRoute { index, destination: (any, 0), gateway: Some(gateway) };
        netlink.add_route(&new).with_context(|| format!("route through {gateway}"))?;
    }
    Ok(())
}

/// Moves frames both ways until the stream ends.
fn forward(tap: &Tap, stream: &UnixStream) -> Result<()> {
    let (mut incoming, mut outgoing) = (Incoming::new(), Outgoing::new());
    loop {
        // While the stream takes nothing, nothing more is taken from the interface.
        let blocked = !outgoing.waiting().is_empty();
        let (from_tap, to_stream) = if blocked {
            (PollFlags::empty(), PollFlags::POLLOUT)
        } else {
            (PollFlags::POLLIN, PollFlags::empty())
        };
        let mut fds = [
            PollFd::new(tap.as_fd(), from_tap),
            PollFd::new(stream.as_fd(), PollFlags::POLLIN | to_stream),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let [tap_is, stream_is] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        ensure!(!tap_is.contains(PollFlags::POLLERR), "the interface is gone");
        if stream_is.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
            && receive(stream, &mut incoming, tap)? == Next::End
        {
            return Ok(());
        }
        if !blocked || stream_is.contains(PollFlags::POLLOUT) {
            // What the guest's kernel had to say to the frames above is among them.
            collect(tap, &mut outgoing)?;
            if send(stream, &mut outgoing)? == Next::End {
                return Ok(());
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    GoOn,
    End,
}

/// Hands the interface what one call brings from the stream.
fn receive(mut stream: &UnixStream, incoming: &mut Incoming, tap: &Tap) -> Result<Next> {
    match stream.read(incoming.room()) {
        Ok(0) if incoming.left() == 0 => return Ok(Next::End),
        Ok(0) => bail!("the stream ends in the middle of a frame"),
        Ok(len) => incoming.put(len),
        Err(e) if is_later(&e) => {}
        // passt ended while there was something it had not read.
        Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(Next::End),
        Err(e) => return Err(e).context("receiving from the stream"),
    }
    let mut at = 0;
    let frames = iter::from_fn(|| match incoming.frame(at) {
        Ok(Some((frame, next))) => {
            at = next;
            Some(Ok(frame))
        }
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    });
    merge::merged(frames, |pieces| {
        tap.write_vectored(pieces).map(drop).context("handing a frame to the interface")
    })?;
    incoming.taken(at);
    Ok(Next::GoOn)
}

/// Takes frames from the interface, as many as there are and as fit.
fn collect(tap: &Tap, outgoing: &mut Outgoing) -> Result<()> {
    // Nothing is left to us: there is nothing to know from the virtio header.
    let mut header = [0; HEADER_LEN];
    while let Some(room) = outgoing.room() {
        match tap.read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(room)]) {
            Ok(len) => outgoing.put(len.saturating_sub(HEADER_LEN)),
            Err(e) if is_later(&e) => break,
            Err(e) => return Err(e).context("taking a frame from the interface"),
        }
    }
    Ok(())
}

/// Sends as much as the stream takes.
fn send(mut stream: &UnixStream, outgoing: &mut Outgoing) -> Result<Next> {
    while !outgoing.waiting().is_empty() {
        match stream.write(outgoing.waiting()) {
            Ok(len) => outgoing.sent(len),
            Err(e) if is_later(&e) => break,
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(Next::End),
            Err(e) => return Err(e).context("sending to the stream"),
        }
    }
    Ok(Next::GoOn)
}

fn is_later(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

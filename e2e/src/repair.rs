//! A server for `passt-repair`: what passt says to it, and what it should not say.

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr,
    UnixCredentials, bind, getsockopt, listen, recv, sendmsg, socket, sockopt,
};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, IoSlice, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Proc, wait_for};

/// Limit for everything that should happen soon.
const SOON: Duration = Duration::from_secs(20);

/// `TCP_REPAIR_ON`.
pub const ON: i8 = 1;
/// `TCP_REPAIR_OFF`.
pub const OFF: i8 = 0;
/// `TCP_REPAIR_OFF_NO_WP`.
pub const OFF_WITHOUT_PROBE: i8 = -1;

/// A socket in the file system, on which somebody will listen or does. The file stays, as passt's does.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    socket: UnixListener,
}

impl Server {
    /// Binds, and does not listen yet: connections are refused.
    pub fn bind(path: &Path) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)
            .with_context(|| path.display().to_string())?;
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
        Ok(Self { path: path.to_owned(), socket: socket.into() })
    }

    /// Listens, with as short a queue as passt's.
    pub fn listen(&self) -> Result<()> {
        Ok(listen(&self.socket, Backlog::new(0)?)?)
    }

    /// Binds and listens.
    pub fn start(path: &Path) -> Result<Self> {
        let server = Self::bind(path)?;
        server.listen()?;
        Ok(server)
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a client.
    pub fn accept(&self) -> Result<Client> {
        let stream = wait_for("a client", SOON, || match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Client(stream))
    }
}

/// A connection to `passt-repair`.
#[derive(Debug)]
pub struct Client(UnixStream);

impl Client {
    /// Sends bytes, with anything beside them.
    pub fn send(&self, bytes: &[u8], beside: &[ControlMessage<'_>]) -> Result<()> {
        let iov = [IoSlice::new(bytes)];
        let sent =
            sendmsg::<UnixAddr>(self.0.as_raw_fd(), &iov, beside, MsgFlags::MSG_NOSIGNAL, None)?;
        ensure!(sent == bytes.len(), "sent {sent} of {} bytes", bytes.len());
        Ok(())
    }

    /// Sends a command with sockets.
    pub fn command(&self, command: i8, sockets: &[impl AsFd]) -> Result<()> {
        let fds: Vec<RawFd> = sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).collect();
        self.send(&command.to_ne_bytes(), &[ControlMessage::ScmRights(&fds)])
    }

    /// Sends a command with our credentials beside it.
    pub fn command_with_credentials(&self, command: i8) -> Result<()> {
        let credentials = UnixCredentials::new();
        self.send(&command.to_ne_bytes(), &[ControlMessage::ScmCredentials(&credentials)])
    }

    /// Waits for an answer; `None` if there is none, because the client closed the connection.
    pub fn answer(&self) -> Result<Option<i8>> {
        let mut bytes = [0; 16];
        match self.read(&mut bytes)? {
            0 => Ok(None),
            1 => Ok(Some(i8::from_ne_bytes([bytes[0]]))),
            len => bail!("an answer of {len} bytes"),
        }
    }

    /// The same, if further answers may have come already.
    pub fn first_answer(&self) -> Result<Option<i8>> {
        let mut bytes = [0; 1];
        let len = self.read(&mut bytes)?;
        Ok((len > 0).then_some(i8::from_ne_bytes(bytes)))
    }

    /// Waits until there is an answer, and leaves it unread.
    pub fn wait_for_answer(&self) -> Result<()> {
        let what = MsgFlags::MSG_PEEK;
        let len = recv(self.0.as_raw_fd(), &mut [0; 1], what)?;
        ensure!(len == 1, "the connection is closed");
        Ok(())
    }

    fn read(&self, bytes: &mut [u8]) -> Result<usize> {
        match (&self.0).read(bytes) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(0),
            result => result.context("no answer"),
        }
    }

    /// Sends a command with sockets, checks the answer, and that this is the repair mode of them all now.
    pub fn obeyed(&self, command: i8, sockets: &[impl AsFd]) -> Result<()> {
        self.command(command, sockets)?;
        let answer = self.answer()?;
        ensure!(answer == Some(command), "{answer:?} to {command}");
        let wanted = u32::from(command == ON);
        for (index, socket) in sockets.iter().enumerate() {
            let mode = repair_mode(socket)?;
            ensure!(mode == wanted, "{mode} after {command}, socket {index} of {}", sockets.len());
        }
        Ok(())
    }
}

/// What the kernel says of a socket's repair mode: 1 or 0.
pub fn repair_mode(socket: &impl AsFd) -> Result<u32> {
    Ok(getsockopt(socket, sockopt::TcpRepair)?)
}

/// TCP sockets that are not connected.
pub fn tcp_sockets(count: usize) -> Result<Vec<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    (0..count).map(|_| Ok(socket(AddressFamily::Inet, SockType::Stream, flags, None)?)).collect()
}

/// TCP sockets in the network namespace of a process.
pub fn tcp_sockets_of(pid: u32, count: usize) -> Result<Vec<OwnedFd>> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // On a thread of its own, as it does not come back.
    let thread = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        tcp_sockets(count)
    });
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Established connections over loopback, both ends of each.
pub fn connections(count: usize) -> Result<Vec<TcpStream>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut ends = Vec::new();
    for _ in 0..count {
        ends.push(TcpStream::connect(listener.local_addr()?)?);
        ends.push(listener.accept()?.0);
    }
    Ok(ends)
}

/// How many window probes this network namespace sent because repair mode ended (`TCPWinProbe`).
pub fn window_probes() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(name, _)| *name == "TCPWinProbe").context("TCPWinProbe")?;
    Ok(value.parse()?)
}

/// A field of `/proc/PID/status`.
pub fn status(proc: &Proc, field: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", proc.pid()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {field}"))?.trim().to_owned())
}

/// The descriptors that a process has open, inherited ones among them, in order.
pub fn descriptors(proc: &Proc) -> Result<Vec<usize>> {
    let entries = fs::read_dir(format!("/proc/{}/fd", proc.pid()))?;
    let numbers = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?));
    let mut numbers: Vec<usize> = numbers.collect::<Result<_>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Seconds of processor time that a process takes in a second.
pub fn load(proc: &Proc) -> Result<f64> {
    let used = || -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", proc.pid()))?;
        Ok(text.split(' ').next().context("no time")?.parse()?)
    };
    let (before, start) = (used()?, std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let nanos = Duration::from_nanos(used()? - before);
    Ok(nanos.as_secs_f64() / start.elapsed().as_secs_f64())
}

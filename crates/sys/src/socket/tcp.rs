//! TCP sockets whose receive queue is read without emptying it.

use std::cell::UnsafeCell;
use std::io::{self, IoSlice};
use std::mem::offset_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    SocketError, Ties, bind, bound_address, check_len, connect, errqueue, family, get, linger_zero,
    open, pending_error, receive_errors, recv, send_message, set_int,
};

/// How bytes in the middle of a receive queue are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// `SO_PEEK_OFF`: the kernel skips what comes before (TCP: Linux 6.9).
    Offset,
    /// What comes before is copied to a buffer that nobody reads.
    Skip,
}

impl Peek {
    /// What this kernel can do for sockets of the family of `ip`.
    ///
    /// # Errors
    /// Those of opening a socket.
    pub fn probe(ip: IpAddr) -> io::Result<Self> {
        let socket = open(family(ip), libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        Ok(match set_int(&socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0) {
            Ok(()) => Self::Offset,
            Err(_) => Self::Skip,
        })
    }
}

/// Length of the buffer that skipped bytes are copied to.
const SINK_LEN: usize = 1 << 20;
/// How often one peek can refer to it: 16 MiB, more than any window we offer.
const SINK_REPEAT: usize = 16;

struct Sink(UnsafeCell<[u8; SINK_LEN]>);

// SAFETY: nothing ever reads the buffer and no reference to it is made: the kernel writes there, from
// any number of threads, through the pointer that `get` hands out.
unsafe impl Sync for Sink {}

static SINK: Sink = Sink(UnsafeCell::new([0; SINK_LEN]));

/// Fields of `TCP_INFO`. What the kernel is too old for is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// `tcpi_bytes_acked`.
    pub bytes_acked: Option<u64>,
    /// `tcpi_delivery_rate`, bytes per second.
    pub delivery_rate: Option<u64>,
    /// `tcpi_rtt`.
    pub rtt: Duration,
    /// `tcpi_min_rtt`, if one was measured.
    pub min_rtt: Option<Duration>,
}

/// `struct tcp_info` of the kernel as far as it is used here; every C library knows another part of it.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawInfo {
    flags: [u8; 8],
    rto: u32,
    ato: u32,
    snd_mss: u32,
    not_used_1: [u32; 12],
    rtt: u32,
    not_used_2: [u32; 8],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    not_used_3: [u32; 3],
    min_rtt: u32,
    not_used_4: [u32; 2],
    delivery_rate: u64,
    not_used_5: [u64; 3],
    not_used_6: [u32; 2],
    not_used_7: [u64; 2],
    not_used_8: [u32; 3],
    snd_wnd: u32,
}

const INFO_LEN: usize = size_of::<RawInfo>();
const _: () = {
    assert!(INFO_LEN == 232);
    assert!(offset_of!(RawInfo, snd_mss) == 16);
    assert!(offset_of!(RawInfo, rtt) == 68);
    assert!(offset_of!(RawInfo, bytes_acked) == 120);
    assert!(offset_of!(RawInfo, min_rtt) == 148);
    assert!(offset_of!(RawInfo, delivery_rate) == 160);
    assert!(offset_of!(RawInfo, snd_wnd) == 228);
};

/// The 32-bit field at `offset`, if the kernel filled that far.
fn word(info: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(offset..)?.first_chunk()?))
}

fn long(info: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*info.get(offset..)?.first_chunk()?))
}

impl TcpInfo {
    fn parse(info: &[u8]) -> Self {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        Self {
            bytes_acked: long(info, offset_of!(RawInfo, bytes_acked)),
            delivery_rate: long(info, offset_of!(RawInfo, delivery_rate)),
            rtt: micros(word(info, offset_of!(RawInfo, rtt)).unwrap_or(0)),
            // The filter starts at the largest number.
            min_rtt: word(info, offset_of!(RawInfo, min_rtt))
                .filter(|rtt| *rtt != u32::MAX)
                .map(micros),
        }
    }
}

/// A TCP socket that was told to connect.
#[derive(Debug)]
pub struct TcpSocket {
    socket: OwnedFd,
    peek: Peek,
    /// The kernel's `sk_peek_off`, `None` while it has none: then a peek starts at the front.
    peek_offset: Option<u32>,
    /// What is left to be set up, for which family, if this connection turns out to be more than a
    /// request and a response.
    unsettled: Option<Unsettled>,
}

/// Options of a young connection that are put off: many connections end before they matter.
///
/// `IP_RECVERR` is on for the attempt to connect. On a connection that stands, an ICMP error would show in
/// the next call although it ends nothing, so it is switched off again. `TCP_NODELAY` makes no
/// difference to the first send: nothing small is under way yet.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    ip: IpAddr,
    sends: u8,
    peeks: u8,
}

impl TcpSocket {
    /// Starts to connect to `to`, from `from` if given. How it went shows as readiness to write, and in
    /// [`TcpSocket::take_error`].
    ///
    /// # Errors
    /// `EMFILE` and the like from `socket(2)`; `EADDRNOTAVAIL` from `bind(2)`; `ENETUNREACH` and other
    /// errors that are known at once from `connect(2)`.
    pub fn connect(
        to: SocketAddr,
        from: Option<IpAddr>,
        ties: &Ties<'_>,
        peek: Peek,
    ) -> io::Result<Self> {
        let to = ties.scoped(to);
        let socket = open(family(to.ip()), libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        // Urgent data would leave a hole in the count of bytes.
        set_int(&socket, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
        receive_errors(&socket, to.ip(), true)?;
        ties.bind_device(&socket, to.ip());
        if let Some(from) = from {
            bind(&socket, ties.scoped((from, 0).into()))?;
        }
        connect(&socket, to)?;
        let unsettled = Some(Unsettled { ip: to.ip(), sends: 0, peeks: 0 });
        Ok(Self { socket, peek, peek_offset: None, unsettled })
    }

    /// A socket that is connected already.
    #[must_use]
    pub fn connected(socket: OwnedFd, peek: Peek) -> Self {
        Self { socket, peek, peek_offset: None, unsettled: None }
    }

    /// Counts a send or a peek, and sets up what is left if this is more than the first few.
    fn settle(&mut self, sends: u8, peeks: u8) {
        let Some(young) = &mut self.unsettled else { return };
        young.sends += sends;
        young.peeks += peeks;
        if young.sends > 1 || young.peeks > 2 {
            let ip = young.ip;
            self.unsettled = None;
            let settled = receive_errors(&self.socket, ip, false)
                .and_then(|()| set_int(&self.socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1));
            if let Err(error) = settled {
                log::debug!("TCP socket: {error}");
            }
        }
    }

    /// Copies bytes of the receive queue from `offset` on into `buf`, and leaves them there.
    ///
    /// `Ok(0)`, for a `buf` that is not empty: the end of the stream stands at `offset`.
    ///
    /// # Errors
    /// Would-block if there is nothing at `offset` yet; `ECONNRESET` and the like; `InvalidInput` if
    /// `offset` is beyond what [`Peek::Skip`] can skip.
    pub fn peek(&mut self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        self.settle(0, 1);
        match (self.peek_offset, self.peek) {
            (None, _) if offset == 0 => recv(&self.socket, buf, libc::MSG_PEEK),
            (_, Peek::Skip) => self.peek_behind(offset, buf),
            (current, Peek::Offset) => {
                if current != Some(offset) {
                    let value = i32::try_from(offset)
                        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                    set_int(&self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, value)?;
                    self.peek_offset = Some(offset);
                }
                let len = recv(&self.socket, buf, libc::MSG_PEEK)?;
                // The kernel moves on by what it copied.
                let moved = u32::try_from(len).ok().and_then(|len| offset.checked_add(len));
                self.peek_offset = moved;
                Ok(len)
            }
        }
    }

    fn peek_behind(&self, offset: u32, buf: &mut [u8]) -> io::Result<usize> {
        let skip = offset as usize;
        if skip > SINK_LEN * SINK_REPEAT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut slices = [empty; SINK_REPEAT + 1];
        let mut left = skip;
        let mut count = 0usize;
        for slice in &mut slices {
            count += 1;
            if left == 0 {
                *slice = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
                break;
            }
            let len = left.min(SINK_LEN);
            *slice = libc::iovec { iov_base: SINK.0.get().cast(), iov_len: len };
            left -= len;
        }
        // SAFETY: all zeroes is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_mut_ptr();
        message.msg_iovlen = count as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the slices point into the sink, which may be written to at any time, and to `buf`.
        let seen =
            check_len(unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) })?;
        match seen.checked_sub(skip) {
            Some(len) if len > 0 || buf.is_empty() => Ok(len),
            // The queue ends at `offset` or before: did the stream, too?
            Some(_) | None if seen == skip && self.is_at_end() => Ok(0),
            Some(_) | None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether nothing will follow what the receive queue holds. While an error is pending, its event is
    /// what counts.
    fn is_at_end(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let [fd] = fds;
        let events = fd.revents();
        polled.is_ok() && events.contains(PollFlags::RDHUP) && !events.contains(PollFlags::ERR)
    }

    /// Removes up to `n` bytes from the front of the receive queue.
    ///
    /// # Errors
    /// Would-block if it is empty.
    pub fn discard(&mut self, n: u32) -> io::Result<u32> {
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        // SAFETY: for TCP, MSG_TRUNC makes the kernel drop bytes instead of writing them anywhere.
        let removed = check_len(unsafe {
            libc::recv(self.socket.as_raw_fd(), std::ptr::null_mut(), n as usize, flags)
        })?;
        let removed = u32::try_from(removed).unwrap_or(n);
        // What is removed at the front lowers the kernel's offset, down to zero.
        self.peek_offset = self.peek_offset.map(|offset| offset.saturating_sub(removed));
        Ok(removed)
    }

    /// Queues bytes for the other end; returns how many were taken.
    ///
    /// # Errors
    /// Would-block if none was taken; `EPIPE`, `ECONNRESET`.
    pub fn send(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.settle(1, 0);
        // The kernel takes no more slices at a time (UIO_MAXIOV).
        let bufs = bufs.get(..1024).unwrap_or(bufs);
        send_message(self.socket.as_raw_fd(), bufs, &[])
    }

    /// `shutdown(SHUT_WR)`: FIN behind everything queued.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write)?)
    }

    /// `SO_LINGER` with zero seconds: closing resets the connection.
    pub fn reset_on_close(&mut self) {
        linger_zero(&self.socket);
    }

    /// `TCP_INFO`.
    pub fn info(&self) -> TcpInfo {
        let mut value = [0; INFO_LEN];
        let filled = get(&self.socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut value);
        TcpInfo::parse(filled.unwrap_or_default())
    }

    /// `SO_MEMINFO`: `sk_sndbuf` and `sk_wmem_queued`, in bytes of kernel accounting.
    pub fn send_memory(&self) -> (u32, u32) {
        let mut value = [0; 9 * 4];
        let filled = get(&self.socket, libc::SOL_SOCKET, SO_MEMINFO, &mut value);
        let filled = filled.unwrap_or_default();
        let field = |index: usize| word(filled, index * 4).unwrap_or(0);
        (field(SK_MEMINFO_SNDBUF), field(SK_MEMINFO_WMEM_QUEUED))
    }

    /// `SO_KEEPALIVE`.
    pub fn set_keepalive(&self) {
        if let Err(error) = set_int(&self.socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1) {
            log::debug!("SO_KEEPALIVE: {error}");
        }
    }

    /// Takes the next error: from the error queue, else `SO_ERROR`.
    pub fn take_error(&mut self) -> Option<SocketError> {
        match errqueue::next(&self.socket, &mut []) {
            Some((error, _)) => Some(error),
            None => pending_error(&self.socket),
        }
    }

    /// Address and port of our side.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        bound_address(self.socket.as_fd())
    }
}

const SO_MEMINFO: libc::c_int = 55;
const SK_MEMINFO_SNDBUF: usize = 3;
const SK_MEMINFO_WMEM_QUEUED: usize = 5;

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

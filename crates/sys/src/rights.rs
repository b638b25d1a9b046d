//! Descriptors that arrive together with bytes on a UNIX domain socket (`SCM_RIGHTS`, `unix(7)`).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// The kernel sends no more descriptors than this with one message (`SCM_MAX_FD`).
pub const MOST: usize = 253;

/// What one `recvmsg(2)` brought. Descriptors that nobody takes out are closed.
#[derive(Debug)]
pub struct Received {
    /// How many bytes were received; none at the end of the connection.
    pub len: usize,
    /// The descriptors, close-on-exec.
    pub descriptors: Descriptors,
    /// Part of the ancillary data is lost: for want of room, or of descriptors that we may have.
    pub truncated: bool,
    /// There was ancillary data other than descriptors.
    pub others: bool,
}

/// Up to [`MOST`] descriptors, kept without an allocation.
#[derive(Debug)]
pub struct Descriptors {
    all: [Option<OwnedFd>; MOST],
    len: usize,
}

impl Descriptors {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl IntoIterator for Descriptors {
    type Item = OwnedFd;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<OwnedFd>, MOST>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter().flatten()
    }
}

/// Receives what comes next, at most as much as `bytes` has room for. On a stream, bytes that were sent
/// with descriptors are the last ones of what is received.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    // Room for credentials, so that they are found instead of being cut off.
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        let mut into = [IoSliceMut::new(bytes)];
        recvmsg(&socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Descriptors { all: [const { None }; MOST], len: 0 };
    let mut others = false;
    for ancillary in control.drain() {
        match ancillary {
            RecvAncillaryMessage::ScmRights(fds) => {
                for fd in fds {
                    let place =
                        descriptors.all.get_mut(descriptors.len).ok_or(Errno::TOOMANYREFS)?;
                    *place = Some(fd);
                    descriptors.len += 1;
                }
            }
            RecvAncillaryMessage::ScmCredentials(_) | _ => others = true,
        }
    }
    let truncated = message.flags.contains(ReturnFlags::CTRUNC);
    Ok(Received { len: message.bytes, descriptors, truncated, others })
}

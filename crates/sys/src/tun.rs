//! Tap interfaces (`/dev/net/tun`), with what they can take off our hands.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// How much of the work on packets is left to the kernel, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// No header in front of frames (`IFF_VNET_HDR` absent): checksums and segmentation are ours.
    None,
    /// A virtio header, checksums left open both ways (`TUN_F_CSUM`).
    Checksum,
    /// TCP segmentation too (`TUN_F_TSO4`, `TUN_F_TSO6`).
    Tcp,
    /// UDP segmentation too (`TUN_F_USO4`, `TUN_F_USO6`; Linux 6.2).
    Udp,
}

impl Offload {
    const DESCENDING: [Self; 4] = [Self::Udp, Self::Tcp, Self::Checksum, Self::None];

    fn features(self) -> libc::c_uint {
        const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        match self {
            Self::None => 0,
            Self::Checksum => libc::TUN_F_CSUM,
            Self::Tcp => TCP,
            Self::Udp => TCP | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        }
    }
}

/// Length of the virtio header in front of every frame, in bytes.
pub const VNET_HDR_LEN: usize = 10;

/// The file side of a tap interface. Frames are read and written one by one.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    name: [u8; libc::IFNAMSIZ],
    offload: Offload,
}

impl Tap {
    /// Creates the tap interface `name` in the network namespace of the calling thread, or attaches to
    /// the one that exists there, with as much offload as the kernel has, but at most `limit`.
    ///
    /// A name with `%d` in it gets the first free number. An interface made here goes with its
    /// descriptor, one that was there stays.
    ///
    /// # Errors
    /// Those of opening `/dev/net/tun` and of `TUNSETIFF`: `EPERM`, `EBUSY` if somebody else has
    /// it, `EINVAL` for a name that is too long or an interface of another kind.
    pub fn open(name: &OsStr, limit: Offload) -> io::Result<Self> {
        Self::open_at(Path::new("/dev/net/tun"), name, limit)
    }

    /// As [`Tap::open`], by another device node.
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn open_at(node: &Path, name: &OsStr, limit: Offload) -> io::Result<Self> {
        let mut request = [0u8; libc::IFNAMSIZ];
        // One byte stays for the terminating null.
        match request.get_mut(..name.len()) {
            Some(room) if name.len() < libc::IFNAMSIZ => room.copy_from_slice(name.as_bytes()),
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::open(node, flags, Mode::empty());
        if limit > Offload::None {
            let file = open()?;
            match set_interface(file.as_fd(), &request, libc::IFF_VNET_HDR) {
                Ok(name) => match offload_up_to(file.as_fd(), limit) {
                    Some(offload) => return Ok(Self { file, name, offload }),
                    // Attaching again, below, needs the interface to be free.
                    None => drop(file),
                },
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        let file = open()?;
        let name = set_interface(file.as_fd(), &request, 0)?;
        Ok(Self { file, name, offload: Offload::None })
    }

    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        OsStr::from_bytes(self.name.get(..end).unwrap_or_default())
    }

    /// What the kernel does for us.
    #[must_use]
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Another descriptor for the same interface.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: self.name, offload: self.offload })
    }

    /// From now on, the kernel hands over complete frames only (`TUNSETOFFLOAD`). The virtio header stays where
    /// it is, and so does what may be written.
    ///
    /// # Errors
    /// `EINVAL` if the interface has no virtio header.
    pub fn refuse_offload(&self) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        match unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(0u8))
        } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Lets the interface live on without descriptors, until its network namespace goes
    /// (`TUNSETPERSIST`). Removing it with the last descriptor takes tens of milliseconds, removing a
    /// namespace is nobody's wait.
    ///
    /// # Errors
    /// `EBADFD` if the interface is gone.
    pub fn leave_to_namespace(self) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes its argument by value.
        match unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::TUNSETPERSIST as _, libc::c_ulong::from(1u8))
        } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Reads one frame, with its virtio header if there is [`Offload`]. What does not fit is cut off.
    ///
    /// # Errors
    /// Would-block if there is none; `EBADFD` if the interface was removed.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.file, buf)?)
    }

    /// As [`Tap::read`], into several pieces.
    ///
    /// # Errors
    /// As [`Tap::read`].
    pub fn read_vectored(&self, pieces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(rustix::io::readv(&self.file, pieces)?)
    }

    /// Writes one frame, with its virtio header if there is [`Offload`].
    ///
    /// # Errors
    /// `EIO` while the interface is down; `ENOBUFS`, `EAGAIN`; `EINVAL` for a header that makes
    /// no sense; `EBADFD` if the interface was removed.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.file, frame)?)
    }

    /// As [`Tap::write`], of a frame in several pieces.
    ///
    /// # Errors
    /// As [`Tap::write`].
    pub fn write_vectored(&self, frame: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.file, frame)?)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The largest offload up to `limit` that the kernel accepts, `None` if it wants no header at all.
fn offload_up_to(file: BorrowedFd<'_>, limit: Offload) -> Option<Offload> {
    let length = libc::c_int::try_from(VNET_HDR_LEN).ok()?;
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const length) } == -1
    {
        return None;
    }
    let wanted = Offload::DESCENDING.into_iter().filter(|level| *level <= limit);
    wanted.filter(|level| *level > Offload::None).find(|level| {
        let features = libc::c_ulong::from(level.features());
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, features) };
        result == 0
    })
}

/// `TUNSETIFF`; an interface that was made with several queues can be attached to only as such.
fn set_interface(
    file: BorrowedFd<'_>,
    name: &[u8; libc::IFNAMSIZ],
    vnet_hdr: libc::c_int,
) -> io::Result<[u8; libc::IFNAMSIZ]> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | vnet_hdr;
    match tun_set_iff(file, name, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tun_set_iff(file, name, flags | libc::IFF_MULTI_QUEUE).map_err(|_| error)
        }
        result => result,
    }
}

fn tun_set_iff(
    file: BorrowedFd<'_>,
    name: &[u8; libc::IFNAMSIZ],
    flags: libc::c_int,
) -> io::Result<[u8; libc::IFNAMSIZ]> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(flags).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut given = [0; libc::IFNAMSIZ];
    for (to, from) in given.iter_mut().zip(request.ifr_name) {
        [*to] = from.to_ne_bytes();
    }
    Ok(given)
}

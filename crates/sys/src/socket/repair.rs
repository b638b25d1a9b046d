//! Repair mode of TCP sockets (`TCP_REPAIR`), in which their state can be read and set.

use std::io;
use std::os::fd::OwnedFd;

use super::set_int;

/// What becomes of the repair mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// On: nothing is sent, whatever is done to the socket (`TCP_REPAIR_ON`).
    On,
    /// Off, and the peer is asked for its window (`TCP_REPAIR_OFF`).
    Off,
    /// Off, and nothing is sent (`TCP_REPAIR_OFF_NO_WP`; Linux 4.19).
    OffWithoutProbe,
}

impl Repair {
    /// The kernel's number for it, from `linux/tcp.h`.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::On => 1,
            Self::Off => 0,
            Self::OffWithoutProbe => -1,
        }
    }

    /// What a number of the kernel's means.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::On, Self::Off, Self::OffWithoutProbe].into_iter().find(|it| it.number() == number)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` over the socket's network namespace and for listening sockets;
    /// whatever the kernel says of descriptors that are no TCP sockets.
    pub fn set(self, socket: &OwnedFd) -> io::Result<()> {
        set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, self.number())
    }
}

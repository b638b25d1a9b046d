//! What the host knows about its neighbours' link-layer addresses.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sys::netlink::{Family, Neighbour, NeighbourMonitor, Netlink};

/// Follows the host's neighbour tables, on the template interfaces only.
#[derive(Debug)]
pub struct Neighbours {
    monitor: NeighbourMonitor,
    netlink: Netlink,
    index_v4: Option<u32>,
    index_v6: Option<u32>,
}

const ENOBUFS: i32 = 105;

impl Neighbours {
    /// Starts to follow the neighbours on the interfaces with these indices, in the network namespace of
    /// the calling thread.
    ///
    /// # Errors
    /// Those of opening netlink sockets.
    pub fn open(index_v4: Option<u32>, index_v6: Option<u32>) -> io::Result<Self> {
        let (monitor, netlink) = (NeighbourMonitor::open()?, Netlink::open()?);
        Ok(Self { monitor, netlink, index_v4, index_v6 })
    }

    /// Visits everything that is known now.
    pub(crate) fn dump(&mut self, visit: &mut dyn FnMut(Neighbour)) {
        for (family, index) in [(Family::V4, self.index_v4), (Family::V6, self.index_v6)] {
            let Some(index) = index else { continue };
            match self.netlink.neighbours(family, index) {
                Ok(all) => all.into_iter().for_each(&mut *visit),
                Err(error) => log::warn!("Neighbours of interface {index}: {error}"),
            }
        }
    }

    /// Visits what has changed since.
    pub(crate) fn read(&mut self, visit: &mut dyn FnMut(Neighbour)) {
        let (v4, v6) = (self.index_v4, self.index_v6);
        let result = self.monitor.read(&mut |news| {
            let index = if news.addr.is_ipv4() { v4 } else { v6 };
            if index == Some(news.index) {
                visit(news);
            }
        });
        match result {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => self.dump(visit),
            Err(error) => log::warn!("Neighbour monitor: {error}"),
        }
    }
}

impl AsFd for Neighbours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

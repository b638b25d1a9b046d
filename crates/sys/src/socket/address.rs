//! `sockaddr_in`, `sockaddr_in6` and the standard library's addresses.

#![expect(clippy::cast_possible_truncation, reason = "lengths and families are small constants")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address as the kernel reads and writes it.
pub(super) struct RawAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

const V4_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
const V6_LEN: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
const STORAGE_LEN: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

impl RawAddress {
    /// Room for any address.
    pub(super) fn empty() -> Self {
        // SAFETY: all zeroes is a valid sockaddr_storage (AF_UNSPEC).
        Self { storage: unsafe { std::mem::zeroed() }, length: STORAGE_LEN }
    }

    pub(super) fn new(address: SocketAddr) -> Self {
        let mut raw = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let value = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_storage is larger than, and aligned for, every address structure.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in>().write(value) };
                raw.length = V4_LEN;
            }
            SocketAddr::V6(v6) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in6>().write(value) };
                raw.length = V6_LEN;
            }
        }
        raw
    }

    /// The address in the first bytes of `bytes`, which need not be aligned.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
        let mut raw = Self::empty();
        let length = bytes.len().min(STORAGE_LEN as usize);
        // SAFETY: `length` bytes are there to read and to be written; any bytes make a valid storage.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (&raw mut raw.storage).cast::<u8>(),
                length,
            );
        }
        let needed = match libc::c_int::from(raw.storage.ss_family) {
            libc::AF_INET => V4_LEN,
            libc::AF_INET6 => V6_LEN,
            _ => return None,
        };
        if length < needed as usize { None } else { raw.read() }
    }

    pub(super) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn pointer_mut(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    pub(super) fn length(&self) -> libc::socklen_t {
        self.length
    }

    /// The address if it is of a family we know.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: sockaddr_storage is larger than, and aligned for, every address structure,
                // whose every bit pattern is valid.
                let v4 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:443", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(address).read(), Some(address));
        }
        assert_eq!(RawAddress::empty().read(), None);
        assert_eq!(RawAddress::from_bytes(&[libc::AF_INET as u8, 0, 0]), None);
    }
}

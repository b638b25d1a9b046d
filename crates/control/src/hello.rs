//! The greeting of the server: who it is, and what its tables look like.

use zerocopy::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of [`Hello`] in bytes.
pub const LEN: usize = 20;
/// The version spoken here.
pub const VERSION: u32 = 2;
/// Length of the name of an interface on which flows begin, in bytes.
pub const PIF_NAME_LEN: usize = 128;
/// Length of the name of a network interface, in bytes (`IFNAMSIZ`).
pub const DEVICE_NAME_LEN: usize = 16;

const MAGIC: [u8; 8] = *b"basil:s\0";

/// The first bytes of a connection, from the server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Hello {
    /// What tells this socket from others.
    pub magic: [u8; 8],
    /// Version of the protocol; 0 for what is not meant to last.
    pub version: U32,
    /// [`PIF_NAME_LEN`] of the server.
    pub pif_name_len: U32,
    /// [`DEVICE_NAME_LEN`] of the server.
    pub device_name_len: U32,
}

const _: () = assert!(size_of::<Hello>() == LEN);

/// Why a server cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else listens on that socket.
    #[error("Not a configuration socket of passt or pasta")]
    Magic,
    /// Version 0.
    #[error("Unsupported experimental server protocol")]
    Experimental,
    /// A version whose rules are different.
    #[error("Unsupported old server protocol version {0}: its rules have no target address")]
    Old(u32),
    /// A version of the future.
    #[error("Unknown server protocol version {0}")]
    Unknown(u32),
    /// Names of another length.
    #[error(
        "Server has names of {0} and {1} bytes instead of {PIF_NAME_LEN} and {DEVICE_NAME_LEN}"
    )]
    Sizes(u32, u32),
}

impl Hello {
    /// The greeting of a server of this version.
    pub const CURRENT: Self = Self {
        magic: MAGIC,
        version: U32::new(VERSION),
        pif_name_len: U32::new(128),
        device_name_len: U32::new(16),
    };

    /// Whether what follows can be understood.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(&self) -> Result<(), HelloError> {
        if self.magic != MAGIC {
            return Err(HelloError::Magic);
        }
        match self.version.get() {
            0 => return Err(HelloError::Experimental),
            old @ ..VERSION => return Err(HelloError::Old(old)),
            VERSION => {}
            unknown => return Err(HelloError::Unknown(unknown)),
        }
        if self.pif_name_len != Self::CURRENT.pif_name_len
            || self.device_name_len != Self::CURRENT.device_name_len
        {
            return Err(HelloError::Sizes(self.pif_name_len.get(), self.device_name_len.get()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let wanted =
            [0x62, 0x61, 0x73, 0x69, 0x6c, 0x3a, 0x73, 0, 0, 0, 0, 2, 0, 0, 0, 0x80, 0, 0, 0, 0x10];
        assert_eq!(Hello::CURRENT.as_bytes(), wanted);
        assert_eq!(Hello::read_from_bytes(&wanted).unwrap().check(), Ok(()));
        assert_eq!(Hello::CURRENT.pif_name_len.get(), u32::try_from(PIF_NAME_LEN).unwrap());
        assert_eq!(Hello::CURRENT.device_name_len.get(), u32::try_from(DEVICE_NAME_LEN).unwrap());
    }

    #[test]
    fn what_is_not_understood() {
        let said = |hello: Hello| hello.check().unwrap_err().to_string();
        let version = |version| Hello { version: U32::new(version), ..Hello::CURRENT };
        assert_eq!(said(version(0)), "Unsupported experimental server protocol");
        assert!(said(version(1)).starts_with("Unsupported old server protocol version 1:"));
        assert_eq!(said(version(3)), "Unknown server protocol version 3");
        assert_eq!(
            said(Hello { magic: *b"basil:c\0", ..Hello::CURRENT }),
            "Not a configuration socket of passt or pasta"
        );
        assert_eq!(
            said(Hello { device_name_len: U32::new(20), ..Hello::CURRENT }),
            "Server has names of 128 and 20 bytes instead of 128 and 16"
        );
        assert!(Hello { pif_name_len: U32::new(64), ..Hello::CURRENT }.check().is_err());
    }
}

//! Messages of the server: one byte, with sockets beside it.

use std::fmt;

use sys::rights::{MOST, Received};
use sys::socket::Repair;

/// Bytes to make room for: one more than a message has, to see that there is no other.
pub(super) const ROOM: usize = 2;

/// What a message is, besides its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// How many sockets came with it.
    pub(super) sockets: usize,
    /// Other ancillary data came with it.
    pub(super) others: bool,
    /// Ancillary data is missing.
    pub(super) truncated: bool,
}

impl From<&Received> for Outline {
    fn from(received: &Received) -> Self {
        let Received { descriptors, others, truncated, .. } = received;
        Self { sockets: descriptors.len(), others: *others, truncated: *truncated }
    }
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It has not just one byte.
    Length,
    Unknown(i8),
    NoSockets,
    Others,
    Truncated,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("more than one byte"),
            Self::Unknown(command) => write!(f, "unknown command {command}"),
            Self::NoSockets => f.write_str("no sockets with the command"),
            Self::Others => f.write_str("ancillary data other than sockets"),
            Self::Truncated => {
                write!(f, "sockets are missing (more than {MOST}, or than we may have open)")
            }
        }
    }
}

/// The command in a message that is just as it should be.
pub(super) fn decode(bytes: &[u8], outline: Outline) -> Result<Repair, Malformed> {
    let &[byte] = bytes else { return Err(Malformed::Length) };
    let command = byte as i8;
    let mode = Repair::from_number(command.into()).ok_or(Malformed::Unknown(command))?;
    match outline {
        Outline { truncated: true, .. } => Err(Malformed::Truncated),
        Outline { others: true, .. } => Err(Malformed::Others),
        Outline { sockets: 0, .. } => Err(Malformed::NoSockets),
        Outline { .. } => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    const FINE: Outline = Outline { sockets: 3, others: false, truncated: false };

    #[test]
    fn commands() {
        assert_eq!(decode(&[1], FINE), Ok(Repair::On));
        assert_eq!(decode(&[0], FINE), Ok(Repair::Off));
        assert_eq!(decode(&[0xff], FINE), Ok(Repair::OffWithoutProbe));
    }

    #[test]
    fn every_fault_has_its_name() {
        assert_eq!(decode(&[1, 1], FINE), Err(Malformed::Length));
        assert_eq!(decode(&[2], FINE), Err(Malformed::Unknown(2)));
        assert_eq!(decode(&[0xfe], FINE), Err(Malformed::Unknown(-2)));
        assert_eq!(decode(&[1], Outline { sockets: 0, ..FINE }), Err(Malformed::NoSockets));
        assert_eq!(decode(&[1], Outline { others: true, ..FINE }), Err(Malformed::Others));
        assert_eq!(decode(&[1], Outline { truncated: true, ..FINE }), Err(Malformed::Truncated));
    }

    proptest! {
        /// Whatever is sent: what is obeyed is one of the three commands, alone, with sockets and nothing else.
        #[test]
        fn nothing_else_is_obeyed(
            bytes in prop::collection::vec(any::<u8>(), 0..=ROOM),
            sockets in 0..=MOST,
            others: bool,
            truncated: bool,
        ) {
            let decoded = decode(&bytes, Outline { sockets, others, truncated });
            let fine = matches!(bytes[..], [0 | 1 | 0xff]) && sockets > 0 && !others && !truncated;
            prop_assert_eq!(decoded.is_ok(), fine);
            if let Ok(mode) = decoded {
                prop_assert_eq!(mode.number(), i32::from(bytes[0] as i8));
            }
        }

        /// The same over a socket, where bytes of several writes may come as one.
        #[test]
        fn bytes_without_sockets_are_never_obeyed(bytes in prop::collection::vec(any::<u8>(), 1..5)) {
            let (mut server, client) = UnixStream::pair().unwrap();
            server.write_all(&bytes).unwrap();
            let mut room = [0; ROOM];
            let received = sys::rights::receive(&client, &mut room).unwrap();
            prop_assert_eq!(received.len, bytes.len().min(ROOM));
            let outline = Outline::from(&received);
            prop_assert_eq!(outline, Outline::default());
            prop_assert!(decode(&room[..received.len], outline).is_err());
        }
    }
}

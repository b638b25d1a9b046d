//! What an epoll event is about, as a number.

use stack::flow::{FlowId, Slot};

/// One of the two sockets of a spliced flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that belongs to who began.
    Near,
    /// The one that was opened for it.
    Far,
}

impl Side {
    /// As an index into a pair.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far => 1,
        }
    }
}

/// Whose descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The guest's tap interface.
    Tap,
    /// The socket of the guest's hypervisor.
    Stream,
    /// A hypervisor wants to connect.
    StreamListener,
    /// Signals.
    Signals,
    /// The end of the namespace's file.
    Watch,
    /// The end of the command.
    Child,
    /// News about the host's neighbours.
    Neighbours,
    /// A client of the configuration socket wants to connect.
    Configuration,
    /// A connected client of the configuration socket.
    Client(Slot),
    /// The socket of a flow of the stack.
    Flow(FlowId),
    /// A listening socket of TCP.
    TcpListener(Slot),
    /// A listening socket of UDP.
    UdpListener(Slot),
    /// A socket of a spliced TCP connection.
    Spliced(Slot, Side),
    /// A socket of a spliced UDP flow.
    Relay(Slot, Side),
}

// Numbers of a flow's socket have 1, 2 or 3 above the slot's bits.
const TCP_LISTENER: u64 = 4;
const UDP_LISTENER: u64 = 6;
const CLIENT: u64 = 5;
const SPLICED_NEAR: u64 = 8;
const SPLICED_FAR: u64 = 9;
const RELAY_NEAR: u64 = 10;
const RELAY_FAR: u64 = 11;

impl Token {
    /// The number that stands for this.
    pub(crate) fn to_cookie(self) -> u64 {
        let (kind, slot) = match self {
            Self::Tap => return 1,
            Self::Signals => return 2,
            Self::Watch => return 3,
            Self::Child => return 4,
            Self::Neighbours => return 5,
            Self::Configuration => return 6,
            Self::Stream => return 7,
            Self::StreamListener => return 8,
            Self::Flow(id) => return id.to_cookie(),
            Self::Client(slot) => (CLIENT, slot),
            Self::TcpListener(slot) => (TCP_LISTENER, slot),
            Self::UdpListener(slot) => (UDP_LISTENER, slot),
            Self::Spliced(slot, Side::Near) => (SPLICED_NEAR, slot),
            Self::Spliced(slot, Side::Far) => (SPLICED_FAR, slot),
            Self::Relay(slot, Side::Near) => (RELAY_NEAR, slot),
            Self::Relay(slot, Side::Far) => (RELAY_FAR, slot),
        };
        kind << Slot::BITS | slot.to_bits()
    }

    /// What the number stands for.
    pub(crate) fn from_cookie(cookie: u64) -> Option<Self> {
        if let Some(id) = FlowId::from_cookie(cookie) {
            return Some(Self::Flow(id));
        }
        let slot = Slot::from_bits(cookie);
        Some(match (cookie >> Slot::BITS, cookie) {
            (0, 1) => Self::Tap,
            (0, 2) => Self::Signals,
            (0, 3) => Self::Watch,
            (0, 4) => Self::Child,
            (0, 5) => Self::Neighbours,
            (0, 6) => Self::Configuration,
            (0, 7) => Self::Stream,
            (0, 8) => Self::StreamListener,
            (CLIENT, _) => Self::Client(slot),
            (TCP_LISTENER, _) => Self::TcpListener(slot),
            (UDP_LISTENER, _) => Self::UdpListener(slot),
            (SPLICED_NEAR, _) => Self::Spliced(slot, Side::Near),
            (SPLICED_FAR, _) => Self::Spliced(slot, Side::Far),
            (RELAY_NEAR, _) => Self::Relay(slot, Side::Near),
            (RELAY_FAR, _) => Self::Relay(slot, Side::Far),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_what_they_stand_for() {
        let slot = Slot::from_bits(0x0abc_def0_1234_5678);
        let flow = FlowId::from_cookie(3 << 60 | 77).unwrap();
        for token in [
            Token::Tap,
            Token::Stream,
            Token::StreamListener,
            Token::Signals,
            Token::Watch,
            Token::Child,
            Token::Neighbours,
            Token::Configuration,
            Token::Client(slot),
            Token::Flow(flow),
            Token::TcpListener(slot),
            Token::UdpListener(slot),
            Token::Spliced(slot, Side::Near),
            Token::Spliced(slot, Side::Far),
            Token::Relay(slot, Side::Near),
            Token::Relay(slot, Side::Far),
        ] {
            assert_eq!(Token::from_cookie(token.to_cookie()), Some(token));
        }
        assert_eq!(Token::from_cookie(0), None);
        assert_eq!(Token::from_cookie(15 << 60), None);
    }
}

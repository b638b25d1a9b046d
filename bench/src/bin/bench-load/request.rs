//! What a client asks of the server: the first bytes of a connection, or one datagram.

use anyhow::{Result, bail};
use std::time::Duration;

/// Length of a request, and of the answer in request-response measurements.
pub(crate) const LEN: usize = 32;

/// Bytes handed to the kernel in one call by the bulk senders, and room of the receivers.
pub(crate) const CHUNK: usize = 256 * 1024;

/// What the server is to do with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Receive and count.
    Sink = b'O',
    /// Send for as long as asked.
    Source = b'I',
    /// Answer every [`LEN`] bytes with as many.
    Echo = b'R',
    /// Answer once, then close.
    Once = b'C',
    /// Keep the connection.
    Hold = b'H',
    /// A datagram that is only counted.
    Data = b'D',
}

/// The fields of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    /// How long the server sends.
    pub(crate) window: Duration,
    /// Datagrams per second; 0: as fast as it goes.
    pub(crate) rate: u32,
    /// Bytes in a datagram.
    pub(crate) size: u16,
    /// Whether the server's sender uses UDP_SEGMENT.
    pub(crate) gso: bool,
}

impl Request {
    pub(crate) fn new(mode: Mode, window: Duration) -> Self {
        Self { mode, window, rate: 0, size: 0, gso: false }
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = self.mode as u8;
        out[1] = u8::from(self.gso);
        out[2..4].copy_from_slice(&self.size.to_le_bytes());
        out[4..8].copy_from_slice(&self.rate.to_le_bytes());
        let ms = u32::try_from(self.window.as_millis()).unwrap_or(u32::MAX);
        out[8..12].copy_from_slice(&ms.to_le_bytes());
        out
    }

    pub(crate) fn decode(from: &[u8]) -> Result<Self> {
        let &[mode, gso, s0, s1, r0, r1, r2, r3, m0, m1, m2, m3, ..] = from else {
            bail!("a request of {} bytes", from.len());
        };
        let mode = match mode {
            b'O' => Mode::Sink,
            b'I' => Mode::Source,
            b'R' => Mode::Echo,
            b'C' => Mode::Once,
            b'H' => Mode::Hold,
            b'D' => Mode::Data,
            other => bail!("unknown request {other:#x}"),
        };
        Ok(Self {
            mode,
            gso: gso != 0,
            size: u16::from_le_bytes([s0, s1]),
            rate: u32::from_le_bytes([r0, r1, r2, r3]),
            window: Duration::from_millis(u32::from_le_bytes([m0, m1, m2, m3]).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire() {
        for mode in [Mode::Sink, Mode::Source, Mode::Echo, Mode::Once, Mode::Hold, Mode::Data] {
            let window = Duration::from_millis(2500);
            let sent = Request { mode, window, rate: 60_000, size: 1400, gso: true };
            assert_eq!(Request::decode(&sent.encode()).unwrap(), sent);
        }
        assert!(Request::decode(&[0; LEN]).is_err());
        assert!(Request::decode(b"R").is_err());
    }
}

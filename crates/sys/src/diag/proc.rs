//! `/proc/net/{tcp,tcp6,udp,udp6}`.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CLOSE, LISTEN, Listening};
use crate::socket::Kind;

/// Bytes that are read at once: the kernel hands out no more of such a file.
const PIECE: usize = 4096;

/// The files about sockets of one network namespace. Reading them takes time for every socket there is.
#[derive(Debug)]
pub struct ProcNet {
    /// TCP by IPv4 and IPv6, UDP by IPv4 and IPv6. Those of IPv6 may be missing.
    files: [Option<File>; 4],
    buffer: Vec<u8>,
}

impl ProcNet {
    /// For the network namespace of the calling thread. Any thread may ask afterwards.
    ///
    /// # Errors
    /// Those of opening the files of IPv4.
    pub fn open() -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/thread-self/net/{name}"));
        let files = [Some(open("tcp")?), open("tcp6").ok(), Some(open("udp")?), open("udp6").ok()];
        Ok(Self { files, buffer: Vec::new() })
    }

    /// Tells `each` about every socket of this kind and family that listens.
    ///
    /// # Errors
    /// Those of reading.
    pub fn listeners(
        &mut self,
        kind: Kind,
        ipv6: bool,
        each: &mut dyn FnMut(Listening),
    ) -> io::Result<()> {
        let (first, state) = match kind {
            Kind::Tcp => (0, LISTEN),
            Kind::Udp => (2, CLOSE),
        };
        let Some(Some(file)) = self.files.get_mut(first + usize::from(ipv6)) else {
            return Ok(());
        };
        self.buffer.clear();
        file.rewind()?;
        // The file's `read_to_end` asks for its size first, by a call that the filter of this thread lacks.
        let mut piece = [0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => self.buffer.extend_from_slice(piece.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(&self.buffer);
        text.lines().skip(1).filter_map(|line| listening(line, state)).for_each(each);
        Ok(())
    }
}

/// Reads a line: `sl local_address rem_address st …`, with addresses as words in host order.
fn listening(line: &str, wanted: u8) -> Option<Listening> {
    let mut fields = line.split_ascii_whitespace();
    let (_, local, _, state) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if u8::from_str_radix(state, 16).ok()? != wanted {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listening { address: ip(address)?, port, ipv6_only: false })
}

fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
        four.copy_from_slice(&word(index)?);
    }
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line =
            "  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7";
        if cfg!(target_endian = "little") {
            let found = listening(line, LISTEN).unwrap();
            assert_eq!((found.address.to_string().as_str(), found.port), ("127.0.0.1", 8080));
            let v6 = "0: 00000000000000000000000001000000:0050 0:0 0A";
            assert_eq!(listening(v6, LISTEN).unwrap().address.to_string(), "::1");
        }
        assert_eq!(listening(line, CLOSE), None);
        for line in ["", "1:", "1: 01:zz x 0A", "1: 0100007F:1F90 x", "1: é100007:1F90 x 0A"] {
            assert_eq!(listening(line, LISTEN), None, "{line}");
        }
    }
}

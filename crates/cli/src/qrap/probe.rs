//! Finding a passt that is free: one that answers.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use wire::arp::{self, ArpPacket};
use wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, EthernetHeader, MacAddr};
use wire::ipv6::Ipv6Header;
use wire::{IntoBytes as _, ndp, protocol};

/// Number of the last socket that is tried; the first one has 1.
pub(super) const LAST: u32 = 64;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);
/// How often a server may hang up at once: it has another guest, which may be ending.
const RETRIES: u32 = 50;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Connects to the first passt in `directory` that answers, and says so.
pub(super) fn find(directory: &Path) -> Option<UnixStream> {
    (1..=LAST).find_map(|number| {
        let path = directory.join(format!("passt_{number}.socket"));
        match probe(&path) {
            Ok(stream) => {
                log::info!("Connected to {}", path.display());
                Some(stream)
            }
            // Nobody has made it.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                log::info!("Probe of {} failed: {}", path.display(), cause(&error));
                None
            }
        }
    })
}

fn cause(error: &io::Error) -> String {
    if is_hang_up(error) {
        "it closes the connection, as if it had a guest already".to_owned()
    } else if error.kind() == ErrorKind::WouldBlock {
        format!("no answer within {} ms", ANSWER.as_millis())
    } else {
        sys::reason(error)
    }
}

/// A connection to `path` on which the first answer waits to be read, without timeouts.
fn probe(path: &Path) -> io::Result<UnixStream> {
    let mut retries = 0;
    loop {
        match ask(path) {
            Err(error) if is_hang_up(&error) && retries < RETRIES => {
                retries += 1;
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Whether the server closed the connection: with data of ours unread, before that came, or without any
/// difference to it.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

fn ask(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::from(sys::unix::connect(path, Some(ANSWER))?);
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(&question())?;
    if !sys::unix::has_byte(&stream)? {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

/// Two frames that every passt answers one of, whatever its addresses, each behind its length.
///
/// The guest is not known yet: they come from addresses that cannot be its own, so that passt learns
/// nothing from them.
fn question() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (ethertype, packet) in [(ETHERTYPE_ARP, arp_request()), (ETHERTYPE_IPV6, solicitation())] {
        let header = EthernetHeader::new(MacAddr::BROADCAST, MacAddr::BROADCAST, ethertype);
        let frame = [header.as_bytes(), &packet].concat();
        let len = u32::try_from(frame.len()).unwrap_or_default();
        bytes.extend(len.to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

fn arp_request() -> Vec<u8> {
    let (mac, ip) = (MacAddr::BROADCAST, Ipv4Addr::UNSPECIFIED);
    ArpPacket::new(arp::REQUEST, mac, ip, mac, ip).as_bytes().to_vec()
}

fn solicitation() -> Vec<u8> {
    let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let mut message = [0; 24];
    // Without options the message has just this length.
    let written = ndp::write_neighbor_solicitation(&mut message, dst, None, src, dst);
    debug_assert_eq!(written, Some(message.len()));
    let header = Ipv6Header::new(protocol::ICMPV6, ndp::HOP_LIMIT, src, dst, 24);
    [header.as_bytes(), &message].concat()
}

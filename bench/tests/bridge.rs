//! The bridge between a tap interface and a socket, with this test in the place of passt.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::{Proc, skip, wait_for};

const LIMIT: Duration = Duration::from_secs(10);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u32 = 1500;
const QUEUE: u32 = 2000;
/// Where the number of a datagram is in its frame: behind the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 14 + 20 + 8;

/// A bridge in a network namespace of this thread's own, connected to us.
struct Rig {
    _scratch: Scratch,
    bridge: Proc,
    stream: UnixStream,
    /// A socket of the guest's, connected to the peer that we play.
    guest: UdpSocket,
}

impl Rig {
    /// Nothing, if the test named `name` cannot run here.
    fn build(name: &str) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            skip(name, "making network namespaces needs root");
            return Ok(None);
        }
        if !Path::new("/dev/net/tun").exists() {
            skip(name, "there is no /dev/net/tun");
            return Ok(None);
        }
        sys::netns::new_network()?;
        let scratch = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let scratch = Scratch(scratch);
        std::fs::create_dir_all(&scratch.0)?;
        let socket = scratch.0.join("socket");
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench-bridge"));
        command.args(["--interface", "t0", "--mtu", &MTU.to_string()]);
        command.args(["--queue", &QUEUE.to_string(), "--socket"]).arg(&socket);
        command.args(["--address", &format!("{GUEST}/24"), "--gateway", &PEER.to_string()]);
        let mut bridge = Proc::start(command)?;
        let stream = wait_for("the bridge", LIMIT, || Ok(listener.accept().ok()))?.0;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        bridge.wait_line("ready", LIMIT)?;
        let guest = UdpSocket::bind((GUEST, 0))?;
        guest.connect((PEER, 7))?;
        guest.set_read_timeout(Some(LIMIT))?;
        Ok(Some(Self { _scratch: scratch, bridge, stream, guest }))
    }

    /// The next frame of the guest's with a datagram in it, after answers to all questions before it.
    fn datagram(&mut self) -> Result<Vec<u8>> {
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head)?;
            let mut frame = vec![0; usize::try_from(u32::from_be_bytes(head))?];
            self.stream.read_exact(&mut frame)?;
            match frame.get(12..14) {
                // IPv4 with UDP.
                Some([8, 0]) if frame.get(23) == Some(&17) => return Ok(frame),
                // An ARP request.
                Some([8, 6]) => self.stream.write_all(&framed(&arp_reply(&frame)))?,
                // What else a kernel says when an interface comes up.
                _ => {}
            }
        }
    }

    /// Does something to the stream that ends the bridge, and looks how it ends.
    fn end(
        mut self,
        last: impl FnOnce(&mut UnixStream) -> io::Result<()>,
        code: i32,
        message: &str,
    ) -> Result<()> {
        last(&mut self.stream)?;
        let outcome = self.bridge.finish(LIMIT)?;
        ensure!(outcome.code() == Some(code) && outcome.stderr.contains(message), "{outcome:?}");
        Ok(())
    }

    fn receive(&self) -> Result<u32> {
        let mut number = [0; 4];
        let len = self.guest.recv(&mut number).context("no datagram")?;
        ensure!(len == 4, "a datagram of {len} bytes");
        Ok(u32::from_be_bytes(number))
    }
}

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).unwrap_or_default();
    [&len.to_be_bytes(), frame].concat()
}

fn arp_reply(request: &[u8]) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[..6].copy_from_slice(&request[6..12]);
    reply[6..12].copy_from_slice(&PEER_MAC);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&PEER_MAC);
    reply[28..32].copy_from_slice(&request[38..42]);
    reply[32..42].copy_from_slice(&request[22..32]);
    reply
}

/// What answers the datagram in `frame`, with another number.
fn answer(frame: &[u8], number: u32) -> Vec<u8> {
    let mut answer = frame.to_vec();
    // Changed places leave the checksum of the header as it is; UDP may go without.
    for (a, b, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        answer[a..a + len].copy_from_slice(&frame[b..b + len]);
        answer[b..b + len].copy_from_slice(&frame[a..a + len]);
    }
    answer[40..42].fill(0);
    answer[PAYLOAD..PAYLOAD + 4].copy_from_slice(&number.to_be_bytes());
    answer
}

#[test]
fn frames_get_through_wherever_the_stream_is_split() -> Result<()> {
    let Some(mut rig) = Rig::build("frames_get_through_wherever_the_stream_is_split")? else {
        return Ok(());
    };
    let link = sys::netlink::Netlink::open()?.link_named("t0")?.context("no interface")?;
    assert_eq!((link.mtu, link.tx_queue_len, link.up), (MTU, QUEUE, true));
    rig.guest.send(&[0; 4])?;
    let template = rig.datagram()?;
    assert_eq!(template.len(), PAYLOAD + 4);
    let len = framed(&template).len();
    let (mut rest, mut next) = (Vec::new(), 0);
    for (at, number) in (0..=len).zip(0u32..) {
        let message = framed(&answer(&template, number));
        // The rest of the frame before and the beginning of this one, in one call: when the one before has
        // arrived, the bridge has read that beginning.
        rig.stream.write_all(&[&rest, &message[..at]].concat())?;
        rest = message[at..].to_vec();
        let whole = if at == len { number + 1 } else { number };
        while next < whole {
            assert_eq!(rig.receive()?, next, "split at {at}");
            next += 1;
        }
    }
    assert_eq!(usize::try_from(next)?, len + 1);
    rig.end(|stream| stream.shutdown(Shutdown::Both), 0, "")
}

#[test]
fn what_the_socket_does_not_take_waits() -> Result<()> {
    let Some(mut rig) = Rig::build("what_the_socket_does_not_take_waits")? else {
        return Ok(());
    };
    rig.guest.send(&[0; 4])?;
    rig.datagram()?;
    // More than the socket and the bridge hold: the others wait in the queue of the interface.
    let count = 1500;
    let mut payload = [0; 1400];
    for number in 0u32..count {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        rig.guest.send(&payload)?;
    }
    for number in 0u32..count {
        let frame = rig.datagram()?;
        assert_eq!(frame.len(), PAYLOAD + payload.len());
        assert_eq!(frame[PAYLOAD..PAYLOAD + 4], number.to_be_bytes());
    }
    Ok(())
}

#[test]
fn impossible_lengths_end_the_bridge() -> Result<()> {
    for (number, len) in [0u32, 13, 65_536, u32::MAX].into_iter().enumerate() {
        let name = format!("impossible_lengths_end_the_bridge-{number}");
        let Some(rig) = Rig::build(&name)? else { return Ok(()) };
        rig.end(|stream| stream.write_all(&len.to_be_bytes()), 1, &format!("of {len} bytes"))?;
    }
    Ok(())
}

#[test]
fn the_end_of_the_stream_is_an_error_only_within_a_frame() -> Result<()> {
    for (sent, code, message) in [(&[][..], 0, ""), (&[0, 0, 0, 60, 1][..], 1, "in the middle")] {
        let name = format!("the_end_of_the_stream_is_an_error_only_within_a_frame-{code}");
        let Some(rig) = Rig::build(&name)? else { return Ok(()) };
        let last = |stream: &mut UnixStream| {
            stream.write_all(sent)?;
            stream.shutdown(Shutdown::Write)
        };
        rig.end(last, code, message)?;
    }
    Ok(())
}

//! Tap interfaces in a rig, against this machine's kernel.

use std::ffi::OsStr;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use sys::tun::{Offload, Tap, VNET_HDR_LEN};
use testkit::{Place, Rig, in_rig};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/init.sh");
const SHORT: Duration = Duration::from_secs(5);

fn rig(name: &str, body: impl FnOnce(&Rig) -> Result<()>) {
    in_rig(name, Path::new(INIT), Duration::from_secs(60), body);
}

fn ip(rig: &Rig, arguments: &str) -> Result<String> {
    let argv: Vec<_> = std::iter::once("ip").chain(arguments.split(' ')).collect();
    rig.run(&Place::Host, SHORT, &argv)
}

fn open(name: &str, limit: Offload) -> std::io::Result<Tap> {
    Tap::open(OsStr::new(name), limit)
}

/// The next frame for which `wanted` holds, without its virtio header.
fn read(tap: &Tap, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let header = if tap.offload() == Offload::None { 0 } else { VNET_HDR_LEN };
    let mut buf = vec![0; 70_000];
    let start = Instant::now();
    while start.elapsed() < SHORT {
        match tap.read(&mut buf) {
            Ok(len) if wanted(&buf[header..len]) => return buf[header..len].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no such frame");
}

#[test]
fn every_level_of_offload() {
    rig("every_level_of_offload", |rig| {
        for limit in [Offload::Udp, Offload::Tcp, Offload::Checksum, Offload::None] {
            let tap = open("tap7", limit)?;
            assert_eq!((tap.name(), tap.offload()), (OsStr::new("tap7"), limit));
            let down = tap.write(&[0; 70]).unwrap_err();
            assert_eq!(down.raw_os_error(), Some(5), "EIO while the interface is down");
            ip(rig, "link set tap7 up")?;
            ip(rig, "addr add 192.0.2.1/24 dev tap7")?;
            ip(rig, "neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev tap7")?;
            std::net::UdpSocket::bind("192.0.2.1:0")?.send_to(&[0x77; 99], "192.0.2.9:9")?;
            let frame = read(&tap, |frame| frame.ends_with(&[0x77; 99]));
            assert_eq!(frame.len(), 14 + 20 + 8 + 99);
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
            // An ARP request of ours is answered.
            let mut request = vec![0xff; 6];
            request.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            request.extend([2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
            let header = vec![0; if limit == Offload::None { 0 } else { VNET_HDR_LEN }];
            tap.write_vectored(&[IoSlice::new(&header), IoSlice::new(&request)])?;
            let reply = read(&tap, |frame| frame[12..14] == [8, 6] && frame[21] == 2);
            assert_eq!(reply[..6], [2, 0, 0, 0, 0, 9]);
        }
        assert!(ip(rig, "link show tap7").is_err(), "it went with its descriptor");
        Ok(())
    });
}

#[test]
fn interfaces_that_exist() {
    rig("interfaces_that_exist", |rig| {
        for (name, how) in [
            ("plain", "mode tap"),
            ("header", "mode tap vnet_hdr"),
            ("queues", "mode tap multi_queue"),
        ] {
            ip(rig, &format!("tuntap add dev {name} {how}"))?;
            for limit in [Offload::Udp, Offload::None] {
                let tap = open(name, limit)?;
                assert_eq!((tap.name(), tap.offload()), (OsStr::new(name), limit));
                if how == "mode tap" {
                    let error = open(name, limit).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
                }
            }
            ip(rig, &format!("link show {name}"))?;
        }
        // Something else of that name.
        ip(rig, "tuntap add dev other mode tun")?;
        assert_eq!(open("other", Offload::Udp).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(open("eth0", Offload::Udp).is_err());
        assert_eq!(
            open("sixteen-bytes-xx", Offload::Udp).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let first = open("free%d", Offload::Udp)?;
        let second = open("free%d", Offload::Udp)?;
        assert_eq!((first.name(), second.name()), (OsStr::new("free0"), OsStr::new("free1")));
        // Removed behind our back.
        ip(rig, "link del free0")?;
        assert_eq!(first.read(&mut [0; 100]).unwrap_err().raw_os_error(), Some(77), "EBADFD");
        assert_eq!(first.write(&[0; 100]).unwrap_err().raw_os_error(), Some(77), "EBADFD");
        Ok(())
    });
}

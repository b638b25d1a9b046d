//! A worker and the kernel at every level of offload.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::{FAMILIES, SHORT, Terms, World, datagrams, ip, rig, transfer};
use engine::{ExitReason, HostOptions};
use sys::socket::Peek;
use sys::tun::Offload;

/// Both ways over both families, in TCP and UDP.
fn everything_passes(terms: Terms, port: u16, bytes: usize) {
    let mtu = usize::from(terms.mtu);
    let world = World::new(terms);
    for (family, port) in FAMILIES.into_iter().zip([port, port + 10]) {
        transfer(&world, family, port, bytes);
        let (ours, theirs) = datagrams(&world, family, port + 5);
        let mut buf = vec![0; 65_536];
        // Datagrams that fit, and some that do not: both namespaces fragment what they send.
        for len in [0, 1, 100, 1232, mtu - 48, 20_000] {
            for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
                let data = vec![len.to_le_bytes()[0]; len];
                from.send(&data).unwrap();
                assert_eq!(to.recv(&mut buf).unwrap(), len);
                assert_eq!(buf[..len], data);
            }
        }
    }
    assert!(matches!(world.end().0, ExitReason::TapGone));
}

#[test]
fn all_offload() {
    rig("all_offload", |_| {
        everything_passes(Terms::default(), 5000, 20 << 20);
        everything_passes(Terms { mtu: 1500, ..Terms::default() }, 5100, 20 << 20);
        Ok(())
    });
}

#[test]
fn no_udp_segmentation() {
    rig("no_udp_segmentation", |_| {
        let terms = Terms { offload: Offload::Tcp, mtu: 1500, ..Terms::default() };
        everything_passes(terms, 5200, 20 << 20);
        Ok(())
    });
}

#[test]
fn checksums_only() {
    rig("checksums_only", |_| {
        let terms = Terms { offload: Offload::Checksum, mtu: 1500, ..Terms::default() };
        everything_passes(terms, 5300, 5 << 20);
        Ok(())
    });
}

#[test]
fn no_offload_at_all() {
    rig("no_offload_at_all", |_| {
        for (mtu, port) in [(1500, 5400), (1280, 5500), (65_520, 5600)] {
            let terms = Terms { offload: Offload::None, mtu, ..Terms::default() };
            everything_passes(terms, port, 5 << 20);
        }
        Ok(())
    });
}

#[test]
fn without_peek_offsets() {
    rig("without_peek_offsets", |_| {
        let host = HostOptions { peek: Some(Peek::Skip), ..HostOptions::default() };
        everything_passes(Terms { host, ..Terms::default() }, 5700, 20 << 20);
        Ok(())
    });
}

#[test]
fn an_interface_that_is_down_loses_frames_only() {
    rig("an_interface_that_is_down_loses_frames_only", |_| {
        let world = World::new(Terms::default());
        let (ours, theirs) = datagrams(&world, FAMILIES[0], 5800);
        world.guest(|| ip("link set tap0 down"));
        for _ in 0..10 {
            theirs.send(b"lost").unwrap();
        }
        std::thread::sleep(SHORT / 100);
        assert!(world.is_alive());
        world.guest(|| ip("link set tap0 up"));
        world.guest(|| ip("route add default via 203.0.113.1"));
        theirs.send(b"found").unwrap();
        let mut buf = [0; 10];
        let len = ours.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"found");
        assert!(matches!(world.end().0, ExitReason::TapGone));
        Ok(())
    });
}

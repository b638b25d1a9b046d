//! What a worker needs while it runs: no memory per packet, and descriptors only as long as there are
//! some.

mod common;

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{FAMILIES, SHORT, Terms, World, connect, datagrams, inside, rig, transfer};

/// How often a worker takes memory while `job` runs in its world, start and end included.
fn allocations(job: impl FnOnce(&World)) -> u64 {
    let world = World::new(Terms::default());
    job(&world);
    world.end().1
}

#[test]
fn bytes_take_no_memory() {
    rig("bytes_take_no_memory", |_| {
        for (family, port) in FAMILIES.into_iter().zip([5000, 5100]) {
            let some = allocations(|world| transfer(world, family, port, 4 << 20));
            let more = allocations(|world| transfer(world, family, port + 10, 200 << 20));
            eprintln!("memory taken {some} times for 8 MiB, {more} times for 400 MiB");
            // Spills take buffers when the host falls behind, and keep them. There are some 12 000
            // superframes, and as many ACKs.
            assert!(more <= some + 200, "{some} {more}");
        }
        Ok(())
    });
}

#[test]
fn datagrams_take_no_memory() {
    rig("datagrams_take_no_memory", |_| {
        let exchange = |world: &World, port, count| {
            let (ours, theirs) = datagrams(world, FAMILIES[0], port);
            let mut buf = [0; 1500];
            for _ in 0..count {
                ours.send(&[1; 1400]).unwrap();
                theirs.recv(&mut buf).unwrap();
                theirs.send(&[2; 1400]).unwrap();
                ours.recv(&mut buf).unwrap();
            }
        };
        let some = allocations(|world| exchange(world, 5000, 100));
        let more = allocations(|world| exchange(world, 5001, 20_000));
        eprintln!("memory taken {some} times for 200 datagrams, {more} times for 40 000");
        assert!(more <= some + 5, "{some} {more}");
        Ok(())
    });
}

#[test]
fn without_descriptors_old_flows_live() {
    rig("without_descriptors_old_flows_live", |_| {
        let world = World::new(Terms::default());
        let family = FAMILIES[0];
        let (mut ours, mut theirs) = connect(&world, family, 5000);
        let to = SocketAddr::new(family.peer(), 5001);
        let listener = inside("outside", || TcpListener::bind(to).unwrap());
        // The worker is a thread of this process: together they take all descriptors.
        let attempt = world.guest(|| {
            let mut hoard = Vec::new();
            // One descriptor is left for the guest's own socket.
            while let Ok(file) = File::open("/dev/null") {
                hoard.push(file);
            }
            hoard.pop();
            let refused = TcpStream::connect_timeout(&to, SHORT / 5);
            drop(hoard);
            refused.map(drop)
        });
        assert!(attempt.is_err(), "no descriptor, no connection");
        assert!(world.is_alive());
        ours.write_all(b"still here")?;
        let mut buf = [0; 10];
        std::io::Read::read_exact(&mut theirs, &mut buf)?;
        assert_eq!(&buf, b"still here");
        // And there is room again.
        world.guest(|| TcpStream::connect_timeout(&to, SHORT).unwrap());
        listener.accept()?;
        world.end();
        Ok(())
    });
}

#[test]
fn one_descriptor_per_flow() {
    rig("one_descriptor_per_flow", |_| {
        let world = World::new(Terms::default());
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let to = SocketAddr::new(FAMILIES[0].peer(), 5000);
        let listener = inside("outside", || TcpListener::bind(to).unwrap());
        let before = descriptors();
        let accepting = listener.try_clone()?;
        let accepted = std::thread::spawn(move || {
            (0..300).map(|_| accepting.accept().unwrap().0).collect::<Vec<_>>()
        });
        let connected = world.guest(|| {
            (0..300).map(|_| TcpStream::connect_timeout(&to, SHORT).unwrap()).collect::<Vec<_>>()
        });
        let accepted = accepted.join().unwrap();
        for (index, stream) in connected.iter().enumerate() {
            let mut stream = stream;
            stream.write_all(&index.to_le_bytes())?;
        }
        let mut seen: Vec<_> = accepted
            .iter()
            .map(|mut stream| {
                let mut buf = [0; 8];
                std::io::Read::read_exact(&mut stream, &mut buf).unwrap();
                usize::from_le_bytes(buf)
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
        // The guest's, the peer's and ours. A thread of the test may hold one or two for a moment longer.
        let more = descriptors() - before;
        assert!((3 * 300..3 * 300 + 5).contains(&more), "{more} descriptors for 300 flows");
        world.end();
        Ok(())
    });
}

//! Command lines before and after, and servers that answer or do not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::*;

mod lines {
    use super::*;

    fn edit(words: &[&str]) -> Result<Vec<String>, line::NoAddress> {
        let args = words.iter().map(OsString::from).collect();
        let text = |arg: OsString| arg.into_string().unwrap();
        Ok(line::edit(args)?.into_iter().map(text).collect())
    }

    /// Edits a line without spaces in its arguments.
    fn edited(line: &str) -> String {
        edit(&line.split_whitespace().collect::<Vec<_>>()).unwrap().join(" ")
    }

    const NETDEV: &str = "-netdev socket,fd=5,id=hostnet0";
    const NETDEV_JSON: &str = r#"-netdev {"fd":"5","id":"hostnet0","type":"socket"}"#;
    const PCIE: &str = "-device virtio-net-pci,bus=pci.3,addr=0x0,netdev=hostnet0,x-txburst=4096";

    #[test]
    fn networks_are_dropped() {
        for (line, kept) in [
            ("", ""),
            ("-m 1024 disk.qcow2", "-m 1024 disk.qcow2 "),
            ("-net none -m 1", "-m 1 "),
            ("-m 1 -net nic,model=virtio -net user -smp 2", "-m 1 -smp 2 "),
            ("-netdev user,id=n -S --netdev tap,id=m --net nic", "-S "),
            // At the end, without a value.
            ("-S -net", "-S "),
            ("-S -netdev", "-S "),
            // Not these.
            ("-nic user -network x -netdevs y net", "-nic user -network x -netdevs y net "),
        ] {
            assert_eq!(edited(line), format!("{kept}{NETDEV}"), "{line}");
        }
    }

    #[test]
    fn devices_are_replaced() {
        for (line, kept) in [
            ("-device e1000", ""),
            ("-device virtio-net-pci,netdev=n,bus=pci.3 -netdev user,id=n", ""),
            ("-S --device rtl8139,addr=0x3 -device e1000e,id=x -s", "-S -s "),
            ("-device virtio-net-ccw,netdev=n -device usb-net,netdev=m", ""),
            ("-device virtio-rng-pci,bus=pci.4 -s", "-device virtio-rng-pci,bus=pci.4 -s "),
            ("-net none --device nec-usb-xhci", "--device nec-usb-xhci "),
            ("-device", "-device "),
        ] {
            assert_eq!(edited(line), format!("{kept}{PCIE} {NETDEV}"), "{line}");
        }
    }

    #[test]
    fn the_machine_decides() {
        let [pc, s390] = [
            "-device virtio-net-pci,bus=pci.0,addr=0x2,netdev=hostnet0,x-txburst=4096",
            "-device virtio-net-ccw,devno=fe.0.1,netdev=hostnet0,x-txburst=4096",
        ];
        for (machine, nic) in [
            ("-machine pc-q35-6.2,accel=kvm", PCIE),
            ("-machine virt", PCIE),
            ("-m 1", PCIE),
            ("-machine pc-i440fx-6.2", pc),
            ("--machine accel=kvm,type=pc-1.0", pc),
            ("-M pc", pc),
            ("-machine s390-ccw-virtio-rhel8.6.0,usb=off", s390),
            // The last one that names a machine counts.
            ("-machine q35 -machine pc-1.0 -machine usb=off", pc),
        ] {
            let line = format!("{machine} -device x");
            assert_eq!(edited(&line), format!("{line} {nic} {NETDEV}"), "{line}");
        }
    }

    #[test]
    fn addresses_in_use_are_avoided() {
        // The place of a NIC that is dropped is free.
        let line = "-device x,bus=pci.3,addr=0x0 -device x,bus=pci.5,addr=0x0";
        let nic = PCIE.replace("pci.3", "pci.4");
        let before = format!("-device e1000e,bus=pci.4,addr=0x0 {line}");
        assert_eq!(edited(&before), format!("{line} {nic} {NETDEV}"));
        // Wherever the machine is named, before or after them.
        let line = "-device x,bus=pci.0,addr=0x2 -device x,bus=pci.0,addr=0x3.0x1 -machine pc-1.0";
        let nic = "-device virtio-net-pci,bus=pci.0,addr=0x4,netdev=hostnet0,x-txburst=4096";
        assert_eq!(edited(line), format!("{line} {nic} {NETDEV}"));
    }

    #[test]
    fn no_address_is_left() {
        for (machine, range, device) in [
            ("q35", 3..31, "x,addr=0x0,bus=pci."),
            ("pc-1.0", 2..31, "x,bus=pci.0,addr=0x"),
            ("s390-ccw-virtio", 1..16, "x,devno=fe.0.000"),
        ] {
            let decimal = machine == "q35";
            let number = |n| if decimal { format!("{n}") } else { format!("{n:x}") };
            let values: Vec<_> = range.map(|n| format!("{device}{}", number(n))).collect();
            let mut words = vec!["-machine", machine];
            words.extend(values.iter().flat_map(|value| ["-device", value]));
            assert_eq!(edit(&words), Err(line::NoAddress), "{machine}");
            words.truncate(words.len() - 2);
            assert!(edit(&words).is_ok(), "{machine}");
        }
    }

    #[test]
    fn json_goes_with_json() {
        let nic = |value: &str| {
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            assert_eq!(value["netdev"], "hostnet0");
            format!("{} {}", value["driver"], value["bus"]).replace('"', "")
        };
        let disk = r#"{"driver":"virtio-blk-pci","bus":"pci.3","addr":"0x0"}"#;
        let card = r#"{"driver":"virtio-net-pci","netdev":"n","bus":"pci.4","addr":"0x0"}"#;
        let user = r#"{"type":"user","id":"n"}"#;
        for (words, netdev) in [
            // QEMU from 6.2, and from 7.2 on.
            (["-device", disk, "-device", card, "-netdev", "user,id=n"], NETDEV),
            (["-netdev", user, "-device", disk, "-device", card], NETDEV_JSON),
        ] {
            let line = edit(&words).unwrap();
            assert_eq!(line[..3], ["-device", disk, "-device"]);
            assert_eq!(nic(&line[3]), "virtio-net-pci pci.4");
            assert_eq!(line[4..].join(" "), netdev);
        }
        // Only the NIC that is dropped was in JSON, or only some devices.
        for words in [["-device", card, "-S", "-s"], ["-device", disk, "-device", "x"]] {
            let line = edit(&words).unwrap();
            let [.., last, _, netdev] = line.as_slice() else { panic!("{line:?}") };
            assert!(nic(last).starts_with("virtio-net-pci pci."));
            assert_eq!(format!("-netdev {netdev}"), NETDEV);
        }
        let plain = edit(&["-netdev", user, "-device", "x"]).unwrap().join(" ");
        assert_eq!(plain, format!("-device x {PCIE} {NETDEV_JSON}"));
    }

    #[test]
    fn bytes_that_are_no_text_are_left_alone() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = |text: &str| OsString::from_vec([text.as_bytes(), b"\xff"].concat());
        let args = vec![odd("-net"), "-device".into(), odd("x,path="), odd("e1000,")];
        let edited = line::edit(args.clone()).unwrap();
        assert_eq!(edited[..4], args);
        assert_eq!(edited.len(), 8);
    }

    /// An option that has to do with networks, its value, and others.
    fn word() -> impl Strategy<Value = (bool, Vec<String>)> {
        let network = prop_oneof![
            ("--?net(dev)?", "[a-z{][a-z=,:\"]{0,12}").prop_map(|(name, value)| vec![name, value]),
            ("--?device", "(e1000e?|rtl8139|virtio-net-(pci|ccw))(,[a-z]{1,5}=[a-z0-9]{1,5}){0,3}")
                .prop_map(|(name, value)| vec![name, value]),
        ];
        let device = ("-device", "[a-d]{1,8}(,[a-m]{1,5}=[a-z0-9.]{1,5}){0,3}");
        let other = prop_oneof![
            ".{0,12}"
                .prop_filter("an option that counts", |word| ![
                    "net", "netdev", "device", "machine", "M"
                ]
                .contains(&word.trim_start_matches('-')))
                .prop_map(|word| vec![word]),
            device.prop_map(|(name, value)| vec![name, value]),
            ("-machine", "(pc|q35|pc-q35-6.2|pc-1.0|s390-ccw|x=y)(,usb=off)?")
                .prop_map(|(name, value)| vec![name, value]),
        ];
        prop_oneof![network.prop_map(|words| (true, words)), other.prop_map(|words| (false, words)),]
    }

    proptest! {
        #[test]
        fn everything_else_survives_in_order(words in prop::collection::vec(word(), 0..12)) {
            let all: Vec<&str> =
                words.iter().flat_map(|(_, words)| words.iter().map(String::as_str)).collect();
            let others: Vec<&str> = words.iter()
                .filter(|(network, _)| !network)
                .flat_map(|(_, words)| words.iter().map(String::as_str))
                .collect();
            let edited = edit(&all).unwrap();
            let (kept, added) = edited.split_at(others.len());
            prop_assert_eq!(kept, others.as_slice());
            let devices = all.iter().any(|word| word.trim_start_matches('-') == "device");
            let (netdev, nic) = added.split_last_chunk::<2>().map(|(nic, netdev)| (netdev, nic)).unwrap();
            prop_assert_eq!(netdev[0].as_str(), "-netdev");
            prop_assert_eq!(nic.len(), if devices { 2 } else { 0 });
            // Once more changes nothing but the place of what was added.
            let again: Vec<&str> = edited.iter().map(String::as_str).collect();
            prop_assert_eq!(edit(&again).unwrap(), edited);
        }

        #[test]
        fn nothing_panics(words in prop::collection::vec("(--?(net|netdev|device|machine|M))|.{0,30}", 0..12)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let edited = edit(&words);
            prop_assert!(edited.is_ok_and(|edited| edited.iter().any(|word| word == "-netdev")));
        }
    }
}

mod servers {
    use super::*;
    use wire::arp::ArpPacket;
    use wire::checksum;
    use wire::ethernet::EthernetHeader;
    use wire::ipv6::Ipv6Header;
    use wire::ndp::NeighborMessage;

    /// A directory for sockets that is gone at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("qrap-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn listen(&self, number: u32) -> UnixListener {
            UnixListener::bind(self.0.join(format!("passt_{number}.socket"))).unwrap()
        }

        /// Serves one client after the other with a function each.
        fn serve(&self, number: u32, turns: Vec<fn(UnixStream) -> Option<UnixStream>>) -> Server {
            let listener = self.listen(number);
            thread::spawn(move || {
                turns.into_iter().filter_map(|turn| turn(listener.accept().unwrap().0)).collect()
            })
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    type Server = JoinHandle<Vec<UnixStream>>;

    fn frame(stream: &mut UnixStream) -> Vec<u8> {
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(len).try_into().unwrap()];
        stream.read_exact(&mut frame).unwrap();
        frame
    }

    fn answer(mut stream: UnixStream) -> Option<UnixStream> {
        let _ = (frame(&mut stream), frame(&mut stream));
        stream.write_all(b"answer").unwrap();
        Some(stream)
    }

    /// Closes with everything unread, which resets the connection.
    fn reset(stream: UnixStream) -> Option<UnixStream> {
        let _ = sys::unix::has_byte(&stream);
        None
    }

    fn hang_up(stream: UnixStream) -> Option<UnixStream> {
        drop(stream);
        None
    }

    /// Reads everything and closes: the end of the stream is the answer.
    fn end(mut stream: UnixStream) -> Option<UnixStream> {
        let _ = (frame(&mut stream), frame(&mut stream));
        None
    }

    #[test]
    fn the_question_is_two_frames() {
        let directory = Directory::new();
        let server = directory.serve(
            1,
            vec![|mut stream| {
                let (one, two) = (frame(&mut stream), frame(&mut stream));
                stream.write_all(&one).unwrap();
                stream.write_all(&two).unwrap();
                Some(stream)
            }],
        );
        let mut found = probe::find(&directory.0).unwrap();
        let mut ours = server.join().unwrap().remove(0);
        // Nothing was consumed, nothing more was sent, and nothing runs out of time any more.
        assert_eq!(found.read_timeout().unwrap(), None);
        assert_eq!(found.write_timeout().unwrap(), None);
        found.write_all(b"guest").unwrap();
        let mut guest = [0; 5];
        ours.read_exact(&mut guest).unwrap();
        assert_eq!(&guest, b"guest");
        drop(ours);
        let mut answer = Vec::new();
        found.read_to_end(&mut answer).unwrap();

        let (ethernet, payload) = EthernetHeader::parse(&answer).unwrap();
        assert!(ethernet.src.is_broadcast() && ethernet.dst.is_broadcast());
        let request = ArpPacket::parse(payload).unwrap();
        assert_eq!(request.operation.get(), wire::arp::REQUEST);
        assert!(request.sender_addr().is_unspecified() && request.target_addr().is_unspecified());
        assert!(request.sender_mac.is_broadcast() && request.target_mac.is_broadcast());
        let (_, payload) = EthernetHeader::parse(&answer[42..]).unwrap();
        let (ip, message) = Ipv6Header::parse(payload).unwrap();
        let (src, dst) = (ip.src_addr(), ip.dst_addr());
        assert!(src.is_loopback() && dst.is_unspecified());
        let (solicitation, options) = NeighborMessage::parse(message).unwrap();
        assert_eq!(solicitation.kind, wire::icmp6::NEIGHBOR_SOLICITATION);
        assert!(options.count() == 0 && solicitation.target_addr().is_unspecified());
        let pseudo = checksum::pseudo_header_v6(src, dst, wire::protocol::ICMPV6, 24);
        assert!(checksum::verify(pseudo, message));
        assert_eq!(answer.len(), 42 + 14 + 40 + 24);
    }

    #[test]
    fn the_first_answer_wins() {
        let directory = Directory::new();
        // Nobody is at 1; nobody listens at 2; 3 is no socket; 4 is silent.
        drop(directory.listen(2));
        fs::write(directory.0.join("passt_3.socket"), "").unwrap();
        let _silent = directory.listen(4);
        let server = directory.serve(64, vec![answer]);
        let mut found = probe::find(&directory.0).unwrap();
        drop(server.join().unwrap());
        let mut text = String::new();
        found.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[test]
    fn who_hangs_up_is_asked_again() {
        let directory = Directory::new();
        let server = directory.serve(7, vec![reset, hang_up, end, reset, answer]);
        assert!(probe::find(&directory.0).is_some());
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn who_keeps_hanging_up_is_given_up() {
        let directory = Directory::new();
        let hang_ups = vec![reset as fn(UnixStream) -> Option<UnixStream>; 51];
        let busy = directory.serve(1, hang_ups);
        let free = directory.serve(2, vec![answer]);
        assert!(probe::find(&directory.0).is_some());
        // All turns were taken, none more: the socket of the first one is closed by now.
        assert_eq!(busy.join().unwrap().len(), 0);
        assert_eq!(free.join().unwrap().len(), 1);
    }

    #[test]
    fn nobody_is_there() {
        let directory = Directory::new();
        let _beyond = directory.listen(65);
        assert!(probe::find(&directory.0).is_none());
    }
}

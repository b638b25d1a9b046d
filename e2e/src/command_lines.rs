//! Command lines with which real clients start passt and pasta, as seen in November 2026, word for word.
//!
//! In capitals stands what is another one each time: a `UUID`, a `PID`, `XXXXXX` of mkstemp(3), and the
//! directory `LOGDIR` of the log files.

/// A command line, and where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Short name, which is that of its test.
    pub name: &'static str,
    /// The client and its version.
    pub client: &'static str,
    /// What was asked of the client.
    pub call: &'static str,
    /// How it starts passt or pasta.
    pub line: &'static str,
}

impl Line {
    /// The line's words, of which the first is the program, with `replacements` of what is in capitals.
    pub fn words(&self, replacements: &[(&str, &str)]) -> Vec<String> {
        let replace = |word: &str| {
            let with = |word: String, (from, to): &(&str, &str)| word.replace(from, to);
            replacements.iter().fold(word.to_owned(), with)
        };
        self.line.split(' ').map(replace).collect()
    }

    /// The value of an option in the line, as `--option VALUE` or `--option=VALUE`.
    pub fn value(&self, option: &str) -> Option<&'static str> {
        self.values(option).last()
    }

    /// All values of an option, which may be there more than once.
    pub fn values<'l>(&self, option: &'l str) -> impl Iterator<Item = &'static str> + use<'l> {
        let mut words = self.line.split(' ').peekable();
        std::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                if word == option {
                    return words.next();
                }
                if let Some(value) = word.strip_prefix(option).and_then(|v| v.strip_prefix('=')) {
                    return Some(value);
                }
            }
        })
    }

    /// Whether a word is in the line.
    pub fn has(&self, word: &str) -> bool {
        self.line.split(' ').any(|one| one == word)
    }
}

const PODMAN: &str = "Podman 5.8.6";
const BUILDAH: &str = "Buildah 1.43.2";
const ROOTLESSKIT: &str = "RootlessKit 2.0.2";
const QEMU: &str = "QEMU 11.1.3";
const LIBVIRT: &str = "libvirt 12.8.0";

/// All of them.
#[rustfmt::skip]
pub const LINES: &[Line] = &[
    Line {
        name: "podman_default",
        client: PODMAN,
        call: "podman run --rm IMAGE true",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID --map-guest-addr \
               169.254.1.2",
    },
    Line {
        name: "podman_published_ports",
        client: PODMAN,
        call: "podman run --rm -p 8080:80 -p 127.0.0.1:5353:53/udp -p 9000-9002:9000-9002 IMAGE \
               true",
        line: "pasta --config-net -u 127.0.0.1/5353-5353:53-53 -t 8080-8080:80-80 -t \
               9000-9002:9000-9002 --dns-forward 169.254.1.1 -T none -U none --no-map-gw --quiet \
               --netns /run/user/1000/netns/netns-UUID --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_published_on_ipv6_loopback",
        client: PODMAN,
        call: "podman run --rm -p [::1]:8081:80 IMAGE true",
        line: "pasta --config-net -t ::1/8081-8081:80-80 --dns-forward 169.254.1.1 -u none -T none \
               -U none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_published_on_some_port",
        client: PODMAN,
        call: "podman run --rm -p 8082 IMAGE true",
        line: "pasta --config-net -t 43731-43731:8082-8082 --dns-forward 169.254.1.1 -u none -T \
               none -U none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_port_of_the_host",
        client: PODMAN,
        call: "podman run --rm --net=pasta:-T,7777,--mtu,1400 IMAGE true",
        line: "pasta --config-net -T 7777 --mtu 1400 --dns-forward 169.254.1.1 -t none -u none -U \
               none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID --map-guest-addr \
               169.254.1.2",
    },
    Line {
        name: "podman_addresses",
        client: PODMAN,
        call: "podman run --rm --net=pasta:-a,10.0.2.0,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3 \
               IMAGE true",
        line: "pasta --config-net -a 10.0.2.0 -n 24 -g 10.0.2.2 --dns-forward 10.0.2.3 -t none -u \
               none -T none -U none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_mapped_gateway",
        client: PODMAN,
        call: "podman run --rm --net=pasta:--map-gw IMAGE true",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --quiet --netns /run/user/1000/netns/netns-UUID --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_name_server",
        client: PODMAN,
        call: "podman run --rm --dns 1.1.1.1 --net=pasta IMAGE true",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID --map-guest-addr \
               169.254.1.2",
    },
    Line {
        name: "podman_bridge",
        client: PODMAN,
        call: "podman run --rm --network bridge -p 8083:80 IMAGE true",
        line: "pasta --config-net --pid \
               /run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid \
               --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
               --netns /run/user/1000/containers/networks/rootless-netns/rootless-netns \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_network",
        client: PODMAN,
        call: "podman run --rm --network nx IMAGE true",
        line: "pasta --config-net --pid \
               /run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid \
               --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
               --netns /run/user/1000/containers/networks/rootless-netns/rootless-netns \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_capture",
        client: PODMAN,
        call: "podman run --rm --net=pasta:--pcap,/tmp/x.pcap IMAGE true",
        line: "pasta --config-net --pcap /tmp/x.pcap --dns-forward 169.254.1.1 -t none -u none -T \
               none -U none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_unshare",
        client: PODMAN,
        call: "podman unshare --rootless-netns true",
        line: "pasta --config-net --pid \
               /run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid \
               --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet \
               --netns /run/user/1000/containers/networks/rootless-netns/rootless-netns \
               --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "podman_pod",
        client: PODMAN,
        call: "podman run --rm --pod px IMAGE true",
        line: "pasta --config-net -t 8085-8085:80-80 --dns-forward 169.254.1.1 -u none -T none -U \
               none --no-map-gw --quiet --netns /run/user/1000/netns/netns-UUID --map-guest-addr \
               169.254.1.2",
    },
    Line {
        name: "podman_build",
        client: PODMAN,
        call: "podman build -q -f /tmp/Cf /tmp",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --no-map-gw --quiet --netns /proc/PID/ns/net --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "buildah_bud",
        client: BUILDAH,
        call: "buildah bud -q -f /tmp/Cf /tmp",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --no-map-gw --quiet --netns /proc/PID/ns/net --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "buildah_bud_with_an_mtu",
        client: BUILDAH,
        call: "buildah bud -q --network=pasta:--mtu,1300 -f /tmp/Cf /tmp",
        line: "pasta --config-net --mtu 1300 --dns-forward 169.254.1.1 -t none -u none -T none -U \
               none --no-map-gw --quiet --netns /proc/PID/ns/net --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "buildah_run",
        client: BUILDAH,
        call: "buildah run testimage-working-container true",
        line: "pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
               --no-map-gw --quiet --netns /proc/PID/ns/net --map-guest-addr 169.254.1.2",
    },
    Line {
        name: "rootlesskit_default",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --copy-up=/etc --state-dir=/tmp/rk1 sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --ipv4-only --tcp-ports=none --udp-ports=none PID",
    },
    Line {
        name: "rootlesskit_without_host_loopback",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --disable-host-loopback --copy-up=/etc --state-dir=/tmp/rk2 \
               sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --no-map-gw --ipv4-only --tcp-ports=none --udp-ports=none PID",
    },
    Line {
        name: "rootlesskit_addresses",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --mtu=1400 --cidr=10.77.0.0/24 --ifname=tapx --copy-up=/etc \
               --state-dir=/tmp/rk3 sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tapx --mtu=1400 --no-dhcp --no-ra \
               --address=10.77.0.100 --netmask=24 --gateway=10.77.0.2 --dns-forward=10.77.0.3 \
               --ipv4-only --tcp-ports=none --udp-ports=none PID",
    },
    Line {
        name: "rootlesskit_ipv6",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --ipv6 --copy-up=/etc --state-dir=/tmp/rk4 sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --tcp-ports=none --udp-ports=none PID",
    },
    Line {
        name: "rootlesskit_as_docker",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --mtu=1500 --disable-host-loopback --port-driver=implicit \
               --copy-up=/run --propagation=rslave --copy-up=/etc --state-dir=/tmp/rk5 sh -c sleep \
               1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=1500 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto PID",
    },
    Line {
        name: "rootlesskit_implicit_ports",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --port-driver=implicit --copy-up=/etc --state-dir=/tmp/rk6 \
               sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --ipv4-only --tcp-ports=auto --udp-ports=auto PID",
    },
    Line {
        name: "rootlesskit_detached_namespace",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --detach-netns --copy-up=/etc --state-dir=/tmp/rk7 sh -c \
               sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --ipv4-only --tcp-ports=none --udp-ports=none --userns=/proc/PID/ns/user \
               --netns=/proc/PID/root/tmp/rk7/netns",
    },
    Line {
        name: "rootlesskit_debug",
        client: ROOTLESSKIT,
        call: "rootlesskit --net=pasta --pasta-binary=/usr/bin/pasta --debug --copy-up=/etc \
               --state-dir=/tmp/rk8 sh -c sleep 1.5",
        line: "pasta --foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra \
               --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 \
               --ipv4-only --tcp-ports=none --udp-ports=none PID",
    },
    Line {
        name: "qemu_default",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev passt,id=n",
        line: "passt --quiet --pid /tmp/passt-XXXXXX.pid --fd 3",
    },
    Line {
        name: "qemu_not_quiet",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev passt,id=n,quiet=off",
        line: "passt --pid /tmp/passt-XXXXXX.pid --fd 3",
    },
    Line {
        name: "qemu_addresses",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev \
               passt,id=n,mtu=1400,address=10.0.0.5,netmask=24,mac=52:55:00:00:00:01,gateway=10.0.0.1,dns=10.0.0.1,fqdn=a.example.test",
        line: "passt --quiet --mtu 1400 --address 10.0.0.5 --netmask 24 --mac-addr \
               52:55:00:00:00:01 --gateway 10.0.0.1 --dns 10.0.0.1 --fqdn a.example.test --pid \
               /tmp/passt-XXXXXX.pid --fd 3",
    },
    Line {
        name: "qemu_ports_and_switches",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev \
               passt,id=n,tcp-ports=10001,,10003,udp-ports=10001,tcp=on,udp=off,icmp=off,dhcp=off,ndp=off,ra=off,dhcpv6=off,freebind=on,ipv6=off",
        line: "passt --quiet --no-udp --no-icmp --no-dhcp --no-ndp --no-dhcpv6 --no-ra --freebind \
               --ipv4-only --tcp-ports 10001,10003 --udp-ports 10001 --pid /tmp/passt-XXXXXX.pid \
               --fd 3",
    },
    Line {
        name: "qemu_vhost_user",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev passt,id=n,vhost-user=on",
        line: "passt --vhost-user --quiet --pid /tmp/passt-XXXXXX.pid --fd 3",
    },
    Line {
        name: "qemu_interfaces_and_names",
        client: QEMU,
        call: "qemu-system-x86_64 -netdev \
               passt,id=n,interface=eth0,outbound-if4=eth0,outbound-if6=eth0,dhcp-dns=off,dhcp-search=off,map-host-loopback=10.0.0.9,map-guest-addr=10.0.0.8,dns-forward=10.0.0.53,dns-host=203.0.113.1,search=example.test,param=--trace",
        line: "passt --quiet --interface eth0 --outbound-if4 eth0 --outbound-if6 eth0 \
               --no-dhcp-dns --no-dhcp-search --map-host-loopback 10.0.0.9 --map-guest-addr \
               10.0.0.8 --dns-forward 10.0.0.53 --dns-host 203.0.113.1 --search example.test \
               --trace --pid /tmp/passt-XXXXXX.pid --fd 3",
    },
    Line {
        name: "libvirt_default",
        client: LIBVIRT,
        call: "domain lv-user",
        line: "passt --one-off --socket \
               /run/user/1000/libvirt/qemu/run/passt/1-lv-user-net0.socket --pid \
               /run/user/1000/libvirt/qemu/run/passt/1-lv-user-net0-passt.pid --log-file \
               LOGDIR/lv-user.passt.log --tcp-ports 10001,10003 --udp-ports 10001,10003",
    },
    Line {
        name: "libvirt_again",
        client: LIBVIRT,
        call: "domain lv-user, after its passt was killed",
        line: "passt --one-off --socket \
               /run/user/1000/libvirt/qemu/run/passt/1-lv-user-net0.socket --pid \
               /run/user/1000/libvirt/qemu/run/passt/1-lv-user-net0-passt.pid --log-file \
               LOGDIR/lv-user.passt.log --tcp-ports 10001,10003 --udp-ports 10001,10003",
    },
    Line {
        name: "libvirt_vhost_user",
        client: LIBVIRT,
        call: "domain lv-vhostuser",
        line: "passt --vhost-user --one-off --socket \
               /run/user/1000/libvirt/qemu/run/passt/2-lv-vhostuser-net0.socket --pid \
               /run/user/1000/libvirt/qemu/run/passt/2-lv-vhostuser-net0-passt.pid --log-file \
               LOGDIR/lv-vhostuser.passt.log --tcp-ports 10001,10003 --udp-ports 10001,10003",
    },
    Line {
        name: "libvirt_everything",
        client: LIBVIRT,
        call: "domain lv-full",
        line: "passt --one-off --socket \
               /run/user/1000/libvirt/qemu/run/passt/3-lv-full-net0.socket --pid \
               /run/user/1000/libvirt/qemu/run/passt/3-lv-full-net0-passt.pid --interface eth0 \
               --log-file LOGDIR/lv-full.passt.log --hostname vmhost1 --fqdn vmhost1.example.test \
               --address 172.17.2.4 --netmask 24 --address 2001:db8:ac10:fd01::20 --tcp-ports \
               2022:22 --tcp-ports 203.0.113.2/4000-4009:5000-5009,~4005 --udp-ports \
               127.0.0.1%lo/3000",
    },
];

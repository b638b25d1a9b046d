//! QEMU's `-netdev passt`, which starts passt itself.

use crate::args::Column;
use crate::check::{Skip, Story, required, story};
use crate::inside::{Inside, LIMIT};
use anyhow::{Result, ensure};
use e2e::{Case, vm};
use testkit::guest::{Guest, Machine};
use testkit::{Family, Place, User, wait_for};

pub(crate) const STORIES: &[Story] = &[
    required("netdev", netdev),
    story("options", options),
    story("restart", restart),
    story("vhost-user", vhost_user),
];

/// A machine whose QEMU is the tree's, started by the user. QEMU 11.1 with a control socket oversleeps now and
/// then.
fn machine<'r>(inside: &Inside<'r>) -> Result<Machine<'r>> {
    let mut command = inside.prefix();
    command.push("qemu-system-x86_64".into());
    Ok(inside.rig.machine(User::Ordinary)?.uncontrolled().qemu(&command, User::Root))
}

/// Ends QEMU; passt has to end with it.
fn end(inside: &Inside<'_>, guest: Guest) -> Result<()> {
    inside.lives("passt")?;
    guest.quit()?;
    inside.until_no("passt")
}

/// Steps of the end-to-end tests with virtual machines.
pub(crate) fn smoke(inside: &Inside<'_>, guest: &mut Guest, checks: &[vm::Check]) {
    let case = Case { rig: inside.rig, user: User::Ordinary, family: Family::V4 };
    for (name, check) in checks {
        inside.step(name, || check(&case, guest));
    }
}

/// With forwarded ports.
fn netdev(inside: &Inside<'_>) -> Result<()> {
    let mut guest = inside.first("a guest boots", || {
        let ports = "tcp-ports=8000-8001,udp-ports=8000-8001";
        machine(inside)?.netdev(&format!("passt,id=net,{ports}")).boot()
    })?;
    smoke(inside, &mut guest, vm::SMOKE);
    inside.step("passt ends with QEMU", || end(inside, guest));
    Ok(())
}

/// What most of QEMU's properties become.
fn options(inside: &Inside<'_>) -> Result<()> {
    let mut guest = inside.first("addresses and names: a guest boots", || {
        let address = "mtu=1400,address=10.0.0.5,netmask=24,mac=52:55:00:00:00:01";
        let names = "gateway=10.0.0.1,dns=10.0.0.1,fqdn=a.example.test,search=example.test";
        machine(inside)?.netdev(&format!("passt,id=net,quiet=off,{address},{names}")).boot()
    })?;
    inside.step("what DHCP says", || {
        guest.run("ip link set eth0 up")?;
        guest.run("udhcpc -i eth0 -n -q -f -t 8 -T 1 -O mtu -O search -s /sbin/udhcpc-script")?;
        let text = guest.run("ip addr show dev eth0; ip route; cat /etc/resolv.conf")?;
        for part in ["10.0.0.5/24", "mtu 1400", "default via 10.0.0.1", "nameserver 10.0.0.1"] {
            ensure!(text.contains(part), "no {part} in {text}");
        }
        ensure!(text.contains("search example.test"), "{text}");
        guest.run(&format!("ping -c 1 -W 5 {}", Family::V4.far())).map(drop)
    });
    inside.step("passt ends with QEMU", || end(inside, guest));

    let mut guest = inside.first("switches: a guest boots", || {
        let ports = "tcp-ports=10001,,10003";
        let off = "udp=off,icmp=off,dhcp=off,ndp=off,ra=off,dhcpv6=off,ipv6=off";
        machine(inside)?.netdev(&format!("passt,id=net,{ports},tcp=on,{off},freebind=on")).boot()
    })?;
    inside.step("no DHCP", || {
        guest.run("ip link set eth0 up")?;
        let (status, text) =
            guest.outcome("udhcpc -i eth0 -n -q -f -t 2 -T 1 -s /bin/true", LIMIT)?;
        ensure!(status != 0, "{text}");
        Ok(())
    });
    inside.step("a list of ports", || {
        guest.run("ip addr add 203.0.113.2/24 dev eth0; ip route add default via 203.0.113.1")?;
        let job = guest.start("peer serve 0.0.0.0 10003")?;
        guest.wait_line(&job, "serving")?;
        let sum = inside.peer(&Place::Host, "sum 1000")?;
        let got = inside.peer(&Place::Outside, "get 203.0.113.2 10003 1000")?;
        ensure!(got == sum, "{got}");
        Ok(())
    });
    inside.step("passt ends with QEMU", || end(inside, guest));

    let mut guest = inside.first("interfaces and mappings: a guest boots", || {
        let interfaces = "interface=eth0,outbound-if4=eth0,outbound-if6=eth0";
        let dhcp = "dhcp-dns=off,dhcp-search=off,dns-host=203.0.113.53,search=example.test";
        let map = "map-host-loopback=10.0.0.9,map-guest-addr=10.0.0.8,dns-forward=10.0.0.53";
        let param = "param=--trace";
        machine(inside)?.netdev(&format!("passt,id=net,{interfaces},{dhcp},{map},{param}")).boot()
    })?;
    inside.step("the host by its mapped addresses", || {
        guest.run("ip link set eth0 up")?;
        guest.run("udhcpc -i eth0 -n -q -f -t 8 -T 1 -O search -s /sbin/udhcpc-script")?;
        let _loopback = inside.rig.serve(&Place::Host, [127, 0, 0, 1].into(), 7001)?;
        let _host = inside.rig.serve(&Place::Host, Family::V4.host(), 7002)?;
        for (addr, port) in [("10.0.0.9", 7001), ("10.0.0.8", 7002)] {
            let got = guest.run(&format!("peer connect {addr} {port}")).map_err(|error| {
                let c = inside.column == Column::C;
                if c {
                    Skip("the packaged passt connects only at times".into()).into()
                } else {
                    error
                }
            })?;
            ensure!(got == "connected", "{addr}: {got}");
        }
        Ok(())
    });
    inside.step("names", || {
        let text = guest.run("nslookup www.rig.example 10.0.0.53")?;
        ensure!(text.contains("198.18.0.1"), "{text}");
        Ok(())
    });
    inside.step("passt ends with QEMU", || end(inside, guest));
    Ok(())
}

/// QEMU starts passt again if it goes.
fn restart(inside: &Inside<'_>) -> Result<()> {
    let mut guest = inside.first("a guest boots", || {
        let ports = "tcp-ports=8000-8001,udp-ports=8000-8001";
        machine(inside)?.netdev(&format!("passt,id=net,{ports}")).boot()
    })?;
    smoke(inside, &mut guest, &vm::SMOKE[..2]);
    inside.first("passt is killed, and QEMU starts it again", || {
        let old = inside.only("passt")?;
        inside.rig.run(&Place::Host, LIMIT, &["kill", "-9", &old.to_string()])?;
        wait_for("a new passt", LIMIT, || Ok(inside.only("passt").ok().filter(|new| *new != old)))
    })?;
    smoke(inside, &mut guest, &vm::SMOKE[2..]);
    inside.step("passt ends with QEMU", || end(inside, guest));
    Ok(())
}

/// Not yet.
fn vhost_user(inside: &Inside<'_>) -> Result<()> {
    inside.step("a guest boots", || Err(Skip("until its issue".into()).into()));
    Ok(())
}

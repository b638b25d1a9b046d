//! libvirt's session, whose domains have passt as their network's back end.

use crate::check::{Skip, Story, required, story};
use crate::inside::{Inside, LIMIT};
use crate::qemu::smoke;
use anyhow::{Context as _, Result, ensure};
use e2e::vm;
use std::fs;
use testkit::guest::{Guest, MAC};
use testkit::{Place, Proc, wait_for};

pub(crate) const STORIES: &[Story] =
    &[required("user", user), story("full", full), story("vhost-user", vhost_user)];

/// Where files are that both the rig and the tree see.
const SHARED: &str = "/run/rig/tmp";
/// The domain's description; what is in braces differs.
const DOMAIN: &str = include_str!("libvirt.xml");

/// A libvirt daemon of the user's.
fn daemon(inside: &Inside<'_>) -> Result<Proc> {
    let conf =
        "mkdir -p ~/.config/libvirt; echo 'stdio_handler = \"file\"' > ~/.config/libvirt/qemu.conf";
    inside.sh(conf)?;
    let mut daemon = inside.start("/usr/sbin/libvirtd")?;
    wait_for("libvirt", LIMIT, || {
        ensure!(daemon.running()?, "libvirtd has ended: {}", daemon.stderr());
        Ok(virsh(inside, "version").ok())
    })?;
    Ok(daemon)
}

fn virsh(inside: &Inside<'_>, command: &str) -> Result<String> {
    inside.sh(&format!("virsh --quiet --connect qemu:///session {command}"))
}

/// Starts a domain with this network interface, and waits until its guest takes commands.
fn boot(inside: &Inside<'_>, name: &str, interface: &str) -> Result<Guest> {
    let image = inside.rig.guest_image()?;
    let [console, agent] = ["console", "agent"].map(|what| format!("{SHARED}/{name}.{what}"));
    // QEMU connects to the other end of the guest's command line, so that nothing said is lost.
    let listen = format!("UNIX-LISTEN:{agent},mode=666");
    let line = inside.rig.start(&Place::Host, &["socat", "STDIO", &listen])?;
    wait_for("socat", LIMIT, || Ok(fs::exists(&agent)?.then_some(())))?;
    let kind = if image == "kvm" { "kvm" } else { "qemu" };
    let fields = [
        ("{name}", name),
        ("{type}", kind),
        ("{console}", &console),
        ("{agent}", &agent),
        ("{interface}", interface),
    ];
    let text = fields.iter().fold(DOMAIN.to_owned(), |text, (key, value)| text.replace(key, value));
    let file = format!("{SHARED}/{name}.xml");
    fs::write(&file, text)?;
    virsh(inside, &format!("create {file}"))?;
    let mut guest = Guest::attached(line, console.into());
    guest.wait_ready()?;
    Ok(guest)
}

/// The domain of libvirt's documentation: ports, and a log.
fn user(inside: &Inside<'_>) -> Result<()> {
    let daemon = inside.first("a session", || daemon(inside))?;
    let log = "/tmp/lv-user.passt.log";
    let ports = "<range start='8000' end='8001'/>";
    let interface = format!(
        "<interface type='user'><mac address='{MAC}'/><backend type='passt' logFile='{log}'/>\
         <model type='virtio'/><portForward proto='tcp'>{ports}</portForward>\
         <portForward proto='udp'>{ports}</portForward></interface>"
    );
    let mut guest = inside
        .first("a domain starts and its guest boots", || boot(inside, "lv-user", &interface))?;
    smoke(inside, &mut guest, vm::SMOKE);
    inside.step("the log", || inside.sh(&format!("test -s {log}")).map(drop));
    let killed = inside.first("passt is killed, and libvirt starts it again", || {
        let old = inside.only("passt")?;
        inside.rig.run(&Place::Host, LIMIT, &["kill", "-9", &old.to_string()])?;
        wait_for("a new passt", LIMIT, || Ok(inside.only("passt").ok().filter(|new| *new != old)))
    });
    if killed.is_ok() {
        inside.step("inbound works again", || {
            let job = guest.start("peer serve 0.0.0.0 8000")?;
            guest.wait_line(&job, "serving")?;
            let sum = inside.peer(&Place::Host, "sum 1000")?;
            wait_for("a connection from outside", LIMIT, || {
                let got = inside.peer(&Place::Outside, "get 203.0.113.2 8000 1000");
                Ok(got.ok().filter(|got| *got == sum).map(drop))
            })?;
            guest.run("killall peer").map(drop)
        });
        smoke(inside, &mut guest, &vm::SMOKE[2..]);
    }
    inside.step("passt ends with the domain", || {
        inside.lives("passt")?;
        virsh(inside, "destroy lv-user")?;
        inside.until_no("passt")?;
        inside.until_no("qemu-system")
    });
    drop(daemon);
    Ok(())
}

/// Everything that libvirt can say of a passt.
fn full(inside: &Inside<'_>) -> Result<()> {
    let daemon = inside.first("a session", || daemon(inside))?;
    let interface = format!(
        "<interface type='user'><mac address='{MAC}'/>\
         <backend type='passt' hostname='vmhost1' fqdn='vmhost1.example.test'/>\
         <source dev='eth0'/><model type='virtio'/>\
         <ip address='172.17.2.4' family='ipv4' prefix='24'/>\
         <ip address='2001:db8:ac10:fd01::20' family='ipv6'/>\
         <portForward proto='tcp'><range start='2022' to='22'/></portForward>\
         <portForward proto='tcp' address='203.0.113.2'><range start='4000' end='4009' to='5000'/>\
         <range start='4005' exclude='yes'/></portForward>\
         <portForward proto='udp' address='127.0.0.1' dev='lo'><range start='3000'/></portForward>\
         </interface>"
    );
    let mut guest = inside
        .first("a domain starts and its guest boots", || boot(inside, "lv-full", &interface))?;
    inside.step("what DHCP says", || {
        guest.run("ip link set eth0 up")?;
        guest.run("udhcpc -i eth0 -n -q -f -t 8 -T 1 -s /sbin/udhcpc-script")?;
        let text = guest.run("ip addr show dev eth0")?;
        ensure!(text.contains("172.17.2.4/24"), "{text}");
        // The router is the host's, outside the network that libvirt was told, which udhcpc leaves to its
        // script and the script to us.
        guest.run("ip route replace default via 203.0.113.1 dev eth0 onlink").map(drop)
    });
    inside.step("a port to another", || from_outside(inside, &mut guest, 2022, 22));
    inside.step("a range to another", || from_outside(inside, &mut guest, 4004, 5004));
    inside.step("a port that is left out", || {
        let got = inside.peer(&Place::Outside, "connect 203.0.113.2 4005")?;
        ensure!(got == "refused", "{got}");
        Ok(())
    });
    inside.step("UDP over loopback", || {
        let job = guest.start("peer serve 0.0.0.0 3000")?;
        guest.wait_line(&job, "serving")?;
        let got = inside.peer(&Place::Host, "udp-echo 127.0.0.1 3000 1000");
        guest.run("killall peer")?;
        let got = got?;
        ensure!(got == "ok", "{got}");
        Ok(())
    });
    inside.step("passt ends when the guest is switched off", || {
        inside.lives("passt")?;
        let _ = guest.outcome("poweroff -f", LIMIT);
        inside.until_no("qemu-system")?;
        inside.until_no("passt")
    });
    drop(daemon);
    Ok(())
}

/// A client outside reaches a server in the guest.
fn from_outside(inside: &Inside<'_>, guest: &mut Guest, port: u16, to: u16) -> Result<()> {
    let job = guest.start(&format!("peer serve 0.0.0.0 {to}"))?;
    guest.wait_line(&job, "serving")?;
    let got = inside.peer(&Place::Outside, &format!("get 203.0.113.2 {port} 1000"));
    guest.run("killall peer")?;
    let sum = inside.peer(&Place::Host, "sum 1000")?;
    let got = got.with_context(|| format!("port {port}"))?;
    ensure!(got == sum, "{got}");
    Ok(())
}

/// Not yet.
fn vhost_user(inside: &Inside<'_>) -> Result<()> {
    inside.step("a domain starts", || Err(Skip("until its issue".into()).into()));
    Ok(())
}

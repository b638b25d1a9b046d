//! Podman and Buildah. Their command lines are in `command_lines.rs`, their use of pesto in `pesto.rs`.

use crate::{answers, contract, ip, signal, silent, words};
use anyhow::{Context, Result, ensure};
use e2e::Case;
use e2e::clients::{END, Engine, pid_in, started_with, user_directories};
use rustix::process::Signal;
use std::path::Path;
use testkit::{Outcome, Place, Proc};

contract!(ordinary, Ordinary:
    options_may_repeat_and_differ_from_the_defaults_behind_them,
    an_unknown_option_is_named_in_the_words_that_are_looked_for,
    a_failure_has_status_1_and_says_why,
    port_80_is_refused_in_the_words_of_the_documentation,
    a_quiet_start_is_silent_whatever_the_host_is_like,
    without_ipv6_on_the_host_there_is_only_a_link_local_address,
    ends_with_the_namespace_file_wherever_that_is,
    a_successor_takes_the_pid_file_over,
    options_reach_the_namespace,
    ports_with_ranges_offsets_addresses_and_interfaces,
);

/// A container whose namespace is bound at a path, and what pasta says when it is started for it.
struct Container<'r> {
    engine: Engine<'r>,
    process: Proc,
    netns: String,
}

impl<'r> Container<'r> {
    fn new(case: &Case<'r>, netns: &str) -> Result<Self> {
        let engine = Engine::new(case)?;
        let process = engine.container()?;
        engine.bind(&process, netns)?;
        Ok(Self { engine, process, netns: netns.to_owned() })
    }

    fn start(&self, options: &str) -> Result<Outcome> {
        let line = format!("--config-net {options} --quiet --netns {}", self.netns);
        self.engine.pasta(&words(&line))
    }

    fn place(&self) -> Place {
        Place::Of(self.process.pid())
    }

    fn pasta(&self) -> Result<u32> {
        started_with("/pasta", &self.netns)
    }
}

const NETNS: &str = "/run/user/1000/netns/netns-7";
const NONE: &str = "-t none -u none -T none -U none";

/// With the user's own options in front.
fn container<'r>(case: &Case<'r>) -> Result<Container<'r>> {
    user_directories(case)?;
    Container::new(case, NETNS)
}

fn options_may_repeat_and_differ_from_the_defaults_behind_them(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    let options = "--mtu 1300 --mtu=1400 --dns-forward 192.0.2.53 -I one --ns-ifname=two \
                   -t none -t 8080-8080:80-80 --dns-forward 169.254.1.1 -u none -T none -U none --no-map-gw";
    silent(&container.start(options)?)?;
    let _server = case.rig.witness(&container.place(), "80", &["::".to_owned()])?;
    answers(case, &Place::Host, &[("tcp,127.0.0.1,8080", "80")])?;
    let link = ip(case, &container.place(), "-o link show two")?;
    ensure!(link.contains(" mtu 1400 "), "{link}");
    Ok(())
}

/// Podman starts again without its last two arguments if it finds this.
fn an_unknown_option_is_named_in_the_words_that_are_looked_for(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    for option in ["--map-guest-addresses 169.254.1.2", "--map-guest-addr-of=169.254.1.2"] {
        let outcome = container.start(&format!("{NONE} {option}"))?;
        ensure!(outcome.code() == Some(1), "{outcome:?}");
        ensure!(outcome.stdout.contains("unrecognized option '--map-guest-addr"), "{outcome:?}");
    }
    silent(&container.start(NONE)?)
}

fn a_failure_has_status_1_and_says_why(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    let _taken = case.rig.witness(&Place::Host, "8090", &["0.0.0.0".to_owned()])?;
    let taken = "Listen failed for HOST TCP port */8090: Address already in use\n\
                 Couldn't listen on requested ports\n";
    for (options, wanted) in [
        ("-t 8090-8090:80-80", taken),
        ("-t 70000-70000:80-80", "Invalid port specifier '70000-70000:80-80'\n"),
        ("--mtu 65536", "MTU 65536 too large (max 65521)\n"),
    ] {
        let outcome = container.start(options)?;
        ensure!(outcome.code() == Some(1) && outcome.stdout == wanted, "{options}: {outcome:?}");
        ensure!(container.pasta().is_err(), "{options}: it runs all the same");
    }
    let line = words("--config-net --quiet --netns /run/user/1000/netns/gone");
    let outcome = container.engine.pasta(&line)?;
    let wanted = "Couldn't open network namespace /run/user/1000/netns/gone: \
                  No such file or directory\n";
    ensure!(outcome.code() == Some(1) && outcome.stdout == wanted, "{outcome:?}");
    // The namespace is none the worse for that.
    silent(&container.start(NONE)?)
}

fn port_80_is_refused_in_the_words_of_the_documentation(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    let outcome = container.start("-t 80-80:80-80 -u none -T none -U none")?;
    let wanted = "Listen failed for HOST TCP port */80: Permission denied\n\
                  Couldn't listen on requested ports\n";
    ensure!(outcome.code() == Some(1) && outcome.stdout == wanted, "{outcome:?}");
    Ok(())
}

/// Podman tells its user whatever pasta says.
fn a_quiet_start_is_silent_whatever_the_host_is_like(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    // One after the other, each beside what the ones before have left.
    for change in [
        "route add default via 203.0.113.3 metric 7",
        "-6 route add default via fe80::3 dev eth0 metric 7",
        "addr add 192.0.2.99/28 dev eth0",
        "route add 192.0.2.128/25 via 192.0.2.97",
        "link add net9 type veth peer name net9b",
        "-6 route flush default",
        "-6 addr flush dev eth0 scope global",
        "route flush default",
    ] {
        ip(case, &Place::Host, change)?;
        let container = Container::new(case, NETNS)?;
        let options = format!("--dns-forward 169.254.1.1 {NONE} --no-map-gw");
        silent(&container.start(&options)?).context(change)?;
    }
    std::fs::write("/run/rig/resolv.conf", "nameserver 203.0.113.53\n")?;
    silent(&Container::new(case, NETNS)?.start(NONE)?)
}

/// From which Podman knows that there is no IPv6.
fn without_ipv6_on_the_host_there_is_only_a_link_local_address(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    ip(case, &Place::Host, "-6 addr flush dev eth0")?;
    silent(&container.start(NONE)?)?;
    let place = container.place();
    let v6 = ip(case, &place, "-6 -o addr show scope global")?;
    ensure!(v6.is_empty(), "{v6}");
    let v4 = ip(case, &place, "-4 -o addr show scope global")?;
    ensure!(v4.contains(" 203.0.113.2/24 "), "{v4}");
    Ok(())
}

fn ends_with_the_namespace_file_wherever_that_is(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    for directory in ["/run/user/1000/netns", "/tmp", "/tmp/buildah12", "/run/rig/tmp"] {
        let container = Container::new(case, &format!("{directory}/netns-7"))?;
        silent(&container.start(NONE)?)?;
        let pasta = container.pasta()?;
        // What happens there to others is none of its business.
        for other in ["netns-70", "netns-", "else"] {
            let other = format!("{directory}/{other}");
            container.engine.run(&["touch", &other])?;
            container.engine.run(&["mv", &other, &format!("{other}-moved")])?;
            container.engine.run(&["rm", &format!("{other}-moved")])?;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        ensure!(Path::new(&format!("/proc/{pasta}/exe")).exists(), "{directory}: it ended early");
        container.engine.unbind(&container.netns)?;
        case.rig.wait_gone(pasta, END).context(directory)?;
    }
    Ok(())
}

/// Whoever is said to be there by the file and is not has a successor, with the same file.
fn a_successor_takes_the_pid_file_over(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    let file = Path::new("/run/user/1000/rootless-netns-conn.pid");
    let options = format!("--pid {} {NONE}", file.display());
    let mut pids = Vec::new();
    for how in [Signal::TERM, Signal::KILL, Signal::TERM] {
        silent(&container.start(&options)?)?;
        let pid = pid_in(file)?;
        ensure!(pid == container.pasta()? && !pids.contains(&pid), "{pid}, {pids:?} before");
        pids.push(pid);
        signal(pid, how)?;
        // Not even a zombie is left.
        testkit::until("no such process", END, || signal(pid, Signal::WINCH).is_err())?;
    }
    Ok(())
}

fn options_reach_the_namespace(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    for (options, command, wanted, unwanted) in [
        ("", "-o link show eth0", " mtu 65520 ", "DOWN"),
        ("", "-o link show lo", "LOWER_UP", "DOWN"),
        ("", "-o addr show eth0 scope global", " 203.0.113.2/24 ", "tentative"),
        ("", "-6 route show default", "default via fe80::1 dev eth0", "203"),
        ("-m 1280", "-o link show eth0", " mtu 1280 ", "DOWN"),
        ("-4", "-o addr show scope global", " 203.0.113.2/24 ", "2001:"),
        ("-6", "-o addr show scope global", " 2001:db8:51::2/64 ", "203.0.113"),
        ("-a 192.0.2.7 -n 28", "-4 -o addr show eth0", " 192.0.2.7/28 ", "203.0.113"),
        ("-g 203.0.113.9", "-4 route show default", "via 203.0.113.9 ", "203.0.113.1 "),
        ("-I net5", "-o addr show net5", " 203.0.113.2/24 ", "eth0"),
        ("--ns-mac-addr 9a:de:31:5a:48:c8", "link show eth0", "9a:de:31:5a:48:c8", "DOWN"),
        // The command line comes behind what the configuration says.
        ("-m 1500 -m 1280", "-o link show eth0", " mtu 1280 ", "1500"),
    ] {
        let container = Container::new(case, NETNS)?;
        silent(&container.start(&format!("{options} {NONE}"))?).context(options)?;
        let said = ip(case, &container.place(), command)?;
        ensure!(said.contains(wanted) && !said.contains(unwanted), "{options}: {said}");
    }
    Ok(())
}

fn ports_with_ranges_offsets_addresses_and_interfaces(case: &Case<'_>) -> Result<()> {
    let container = container(case)?;
    let mut options = String::new();
    for option in ["-t", "-u"] {
        for specifier in [
            "9000-9001:9000-9001",
            "9010-9011:9110-9111",
            "203.0.113.2/9020-9020:9120-9120",
            "203.0.113.2%eth0/9030-9030:9130-9130",
            "127.0.0.1%lo/9040-9040:9140-9140",
            "2001:db8:51::2/9050-9050:9150-9150",
        ] {
            options += &format!("{option} {specifier} ");
        }
    }
    silent(&container.start(&format!("{options} -T none -U none --no-map-gw"))?)?;
    let ports = "9000,9001,9110,9111,9120,9130,9140,9150";
    let _server = case.rig.witness(&container.place(), ports, &["::".to_owned()])?;
    for protocol in ["tcp", "udp"] {
        let check = |place: &Place, expected: &[(&str, &str)]| {
            let asked: Vec<(String, &str)> = expected
                .iter()
                .map(|(asked, wanted)| (format!("{protocol},{asked}"), *wanted))
                .collect();
            let asked: Vec<(&str, &str)> =
                asked.iter().map(|(asked, wanted)| (asked.as_str(), *wanted)).collect();
            answers(case, place, &asked)
        };
        let outside = [
            ("203.0.113.2,9000", "9000"),
            ("203.0.113.2,9001", "9001"),
            ("203.0.113.2,9010", "9110"),
            ("203.0.113.2,9011", "9111"),
            ("203.0.113.2,9020", "9120"),
            ("203.0.113.2,9030", "9130"),
            ("203.0.113.2,9040", "refused"),
            ("2001:db8:51::2,9000", "9000"),
            ("2001:db8:51::2,9050", "9150"),
        ];
        check(&Place::Outside, &outside)?;
        let host = [
            ("127.0.0.1,9000", "9000"),
            ("127.0.0.1,9011", "9111"),
            ("127.0.0.1,9020", "refused"),
            ("127.0.0.1,9040", "9140"),
            ("::1,9001", "9001"),
            ("::1,9050", "refused"),
        ];
        check(&Place::Host, &host)?;
    }
    Ok(())
}

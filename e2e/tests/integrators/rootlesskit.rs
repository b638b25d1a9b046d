//! RootlessKit, and Docker and nerdctl on top of it. The command lines of the version that configures the
//! namespace itself are in `command_lines.rs`; its port driver is in `pesto.rs`.

use crate::{answers, contract, ip, words};
use anyhow::{Context, Result, ensure};
use e2e::clients::{Engine, ONE_PIPE, command, started_with, user_directories};
use e2e::{Case, SHORT};
use std::time::Duration;
use testkit::{Place, Proc, until};

contract!(ordinary, Ordinary:
    the_parent_returns_when_the_namespace_is_configured,
    automatic_ports_work_with_ipv4_alone,
    listeners_on_the_namespaces_loopback_are_reached_if_that_is_asked_for,
    without_a_mapped_gateway_the_hosts_loopback_is_closed,
);

const LINE: &str = "pasta --stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 \
                    --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3";

/// A child in namespaces of its own, and pasta started for it with `options`.
struct Child<'r> {
    case: &'r Case<'r>,
    process: Proc,
    _kit: Engine<'r>,
}

impl<'r> Child<'r> {
    fn start(case: &'r Case<'r>, options: &str, detached: bool) -> Result<Self> {
        user_directories(case)?;
        let kit = Engine::new(case)?;
        let process = kit.container()?;
        let target = if detached {
            kit.bind(&process, "/tmp/rk/netns")?;
            format!("--userns=/proc/{0}/ns/user --netns=/proc/{0}/root/tmp/rk/netns", kit.pid())
        } else {
            process.pid().to_string()
        };
        let line = words(&format!("{LINE} {options} {target}"));
        let outcome = Proc::run(command(case, &line, "/tmp", ONE_PIPE)?, SHORT)?;
        ensure!(outcome.code() == Some(0), "{outcome:?}");
        // It is what the option has come to.
        ensure!(outcome.stdout.contains("--stderr will be dropped soon"), "{outcome:?}");
        Ok(Self { case, process, _kit: kit })
    }

    fn place(&self) -> Place {
        Place::Of(self.process.pid())
    }

    fn answers(&self, place: &Place, expected: &[(&str, &str)]) -> Result<()> {
        answers(self.case, place, expected)
    }
}

fn the_parent_returns_when_the_namespace_is_configured(case: &Case<'_>) -> Result<()> {
    let ports = "--ipv4-only --tcp-ports=none --udp-ports=none";
    for (detached, options) in [(false, ports.to_owned()), (true, format!("--no-map-gw {ports}"))] {
        let child = Child::start(case, &options, detached)?;
        let addresses = ip(case, &child.place(), "-o addr show tap0")?;
        // RootlessKit takes these for granted.
        ensure!(addresses.contains(" 10.0.2.100/24 "), "{addresses}");
        let route = ip(case, &child.place(), "route show default")?;
        ensure!(route.contains("via 10.0.2.2 dev tap0"), "{route}");
        let link = ip(case, &child.place(), "-o link show tap0")?;
        ensure!(link.contains(" mtu 65520 ") && link.contains("LOWER_UP"), "{link}");
        let _dns = case.rig.start_dns()?;
        let argv = ["dig", "@10.0.2.3", "+short", "www.rig.example", "A"];
        let answer = case.rig.run(&child.place(), SHORT, &argv)?;
        ensure!(answer.trim() == case.family.far().to_string(), "{answer}");
        let pid = child.process.pid();
        let last = if detached {
            format!("--netns=/proc/{}/root/tmp/rk/netns", child._kit.pid())
        } else {
            pid.to_string()
        };
        started_with("/pasta", &last).context("it went to the background")?;
        if detached {
            child._kit.unbind("/tmp/rk/netns")?;
        }
    }
    Ok(())
}

/// Asks until the answer is there: automatic ports take their time.
fn appears(child: &Child<'_>, question: &str) -> Result<()> {
    let questions = [question.to_owned()];
    until(question, Duration::from_secs(5), || {
        child.case.probe(&Place::Host, &questions).is_ok_and(|answer| answer == ["8080"])
    })
}

fn automatic_ports_work_with_ipv4_alone(case: &Case<'_>) -> Result<()> {
    let options = "--no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto";
    let child = Child::start(case, options, false)?;
    let _server = case.rig.witness(&child.place(), "8080", &["0.0.0.0".to_owned()])?;
    appears(&child, "tcp,127.0.0.1,8080")?;
    appears(&child, "udp,127.0.0.1,8080")?;
    child.answers(&Place::Outside, &[("tcp,203.0.113.2,8080", "8080")])?;
    child.answers(&Place::Outside, &[("tcp,2001:db8:51::2,8080", "refused")])
}

fn listeners_on_the_namespaces_loopback_are_reached_if_that_is_asked_for(
    case: &Case<'_>,
) -> Result<()> {
    let options = "--no-map-gw --ipv4-only --tcp-ports=8080 --udp-ports=8080";
    for (option, answer) in [("", "refused"), ("--host-lo-to-ns-lo", "8080")] {
        let child = Child::start(case, &format!("{options} {option}"), false)?;
        let _server = case.rig.witness(&child.place(), "8080", &["127.0.0.1".to_owned()])?;
        let outcome = case.probe(&Place::Host, &["tcp,127.0.0.1,8080".to_owned()])?;
        let reached = outcome == ["8080"];
        ensure!(reached == (answer == "8080"), "{option}: {outcome:?}");
        drop(child);
        until("the ports", SHORT, || std::net::TcpListener::bind("127.0.0.1:8080").is_ok())?;
    }
    Ok(())
}

fn without_a_mapped_gateway_the_hosts_loopback_is_closed(case: &Case<'_>) -> Result<()> {
    let _server = case.rig.witness(&Place::Host, "7002", &["127.0.0.1".to_owned()])?;
    let questions = ["tcp,10.0.2.2,7002", "udp,10.0.2.2,7002", "tcp,127.0.0.1,7002"];
    let questions = questions.map(str::to_owned);
    for (options, open) in [
        ("", [true, true, false]),
        ("--no-map-gw", [false; 3]),
        ("--no-map-gw --tcp-ns=none --udp-ns=none", [false; 3]),
        ("--no-map-gw --tcp-ns=7002", [false, false, true]),
    ] {
        let options = format!("{options} --ipv4-only --tcp-ports=none --udp-ports=none");
        let child = Child::start(case, &options, false)?;
        let closed = options.contains("ns=none") || options.contains("--tcp-ns=7002");
        // By default the ports of the host's loopback are there, too, sooner or later.
        let count = if closed { 3 } else { 2 };
        let got = case.probe(&child.place(), &questions)?;
        let got: Vec<bool> = got.iter().take(count).map(|answer| answer == "7002").collect();
        ensure!(got == open[..count], "{options}: {got:?}, wanted {open:?}");
    }
    Ok(())
}

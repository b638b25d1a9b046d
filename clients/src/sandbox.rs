//! Builders of packages in sandboxes, such as Nix and Lix: the namespace comes as standard input.

use crate::args::Column;
use crate::check::{Skip, Story, story};
use crate::inside::{Inside, LIMIT};
use crate::traffic::{FAMILIES, addresses, outbound, ping};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use testkit::{Place, Proc, until};

pub(crate) const STORIES: &[Story] =
    &[story("stdin", by_stdin), story("userns", by_descriptors), story("command", command)];

/// What all of them agree on.
const CLOSED: &str = "--map-host-loopback none --map-guest-addr none -T none -U none -t none -u none \
    --no-map-gw --foreground --quiet --no-netns-quit";

/// A namespace of the user's, in which nothing is configured.
fn namespace(inside: &Inside<'_>) -> Result<Proc> {
    let mut holder = inside.start("unshare --user --map-root-user --net /run/rig/bin/peer hold")?;
    holder.wait_line("ready", LIMIT)?;
    Ok(holder)
}

/// The line of Lix; `rest` is what is said of the namespaces, which `redirect` opens.
fn tell(inside: &Inside<'_>, rest: &str, redirect: &dyn Fn(u32) -> String) -> Result<()> {
    let holder = namespace(inside)?;
    let place = Place::Of(holder.pid());
    let addresses_given = "--gateway 203.0.113.1 --address 203.0.113.2 --netmask 255.255.255.0 \
        --dns-forward 192.0.2.53 --gateway fe80::1 --address 2001:db8:51::2 --dns-forward 2001:db8::53";
    let line = format!(
        "pasta --quiet --foreground --config-net {addresses_given} --ns-ifname eth0 {rest} {}",
        redirect(holder.pid())
    );
    let mut pasta = inside.first("pasta starts", || {
        let mut pasta = inside.start(&line)?;
        until("an address", LIMIT, || {
            let ended = !pasta.running().unwrap_or(false);
            ended || addresses(inside, &place, "eth0").is_ok_and(|all| all.len() == 2)
        })?;
        ensure!(pasta.running()?, "{}", pasta.stderr());
        ensure!(pasta.stderr().is_empty(), "{}", pasta.stderr());
        Ok(pasta)
    })?;
    inside.step("addresses", || {
        let all = addresses(inside, &place, "eth0")?;
        ensure!(all == ["203.0.113.2/24", "2001:db8:51::2/64"], "{all:?}");
        Ok(())
    });
    outbound(inside, &FAMILIES, &|args| inside.peer(&place, args))?;
    for (name, family) in FAMILIES {
        inside.step(&format!("ping, {name}"), || ping(inside, &place, family));
    }
    inside.step("names, by both servers", || {
        for server in ["192.0.2.53", "2001:db8::53"] {
            let argv = ["busybox", "nslookup", "www.rig.example", server];
            let text = inside.rig.run(&place, LIMIT, &argv)?;
            ensure!(text.contains("198.18.0.1"), "{server}: {text}");
        }
        Ok(())
    });
    inside.step("the end of the namespace's last process does not end it", || {
        drop(holder);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        ensure!(pasta.running()?, "{}", pasta.stderr());
        Ok(())
    });
    inside.step("SIGTERM ends it, with 0", || {
        pasta.signal(Signal::TERM)?;
        let outcome = pasta.finish(LIMIT)?;
        ensure!(outcome.code() == Some(0), "{outcome:?}");
        Ok(())
    });
    Ok(())
}

/// The network namespace as standard input.
fn by_stdin(inside: &Inside<'_>) -> Result<()> {
    tell(inside, "--no-netns-quit --netns /proc/self/fd/0", &|pid| {
        format!("--userns /proc/{pid}/ns/user < /proc/{pid}/ns/net")
    })
}

/// Both namespaces by descriptors, and everything closed.
fn by_descriptors(inside: &Inside<'_>) -> Result<()> {
    if inside.column == Column::C {
        let why = "the packaged pasta closes the descriptor before it opens its path";
        inside.step("pasta starts", || Err(Skip(why.into()).into()));
        return Ok(());
    }
    let rest = format!("{CLOSED} --netns /proc/self/fd/0 --userns /proc/self/fd/9");
    tell(inside, &rest, &|pid| format!("< /proc/{pid}/ns/net 9< /proc/{pid}/ns/user"))
}

/// `pasta … -- COMMAND`.
fn command(inside: &Inside<'_>) -> Result<()> {
    inside.step("a command, closed to the host", || {
        let closed = CLOSED.replace("--no-netns-quit", "").replace("--foreground", "");
        let text =
            inside.sh(&format!("pasta --config-net {closed} -- ip -4 -o address show eth0"))?;
        ensure!(text.contains("203.0.113.2/24"), "{text}");
        inside.until_no("pasta")
    });
    inside.step("its exit status", || {
        let run = inside.outcome("pasta --config-net -- sh -c 'exit 37'")?;
        ensure!(run.code() == Some(37), "{run:?}");
        inside.until_no("pasta")
    });
    Ok(())
}

//! muvm and others that hand over a connected socket. That its user namespace differs within a second is in
//! `passt_start.rs` (`as_muvm_does`), the framing in `passt.rs`.

use crate::{contract, words};
use anyhow::{Result, ensure};
use e2e::clients::{command, user_directories};
use e2e::hypervisor::{Client, inheritable};
use e2e::{Case, SHORT};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use testkit::Proc;

contract!(ordinary, Ordinary: a_quiet_one_has_nothing_to_say_about_name_servers);

fn a_quiet_one_has_nothing_to_say_about_name_servers(case: &Case<'_>) -> Result<()> {
    user_directories(case)?;
    for resolvers in ["nameserver 203.0.113.53\n", "nameserver 2001:db8:51::53\n"] {
        std::fs::write("/run/rig/resolv.conf", resolvers)?;
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let number = inheritable(&theirs)?;
        let line =
            format!("passt -q -f --fd {number} -t 8080-8081:80-81 -u 127.0.0.1/53535-53535:53-53");
        let proc = Proc::start(command(case, &words(&line), "/tmp", "")?)?;
        drop(theirs);
        let mut client = Client::over(ours)?;
        client.alive()?;
        let _stream = TcpStream::connect("127.0.0.1:8081")?;
        client.knock(81, true)?;
        drop(client);
        let outcome = proc.finish(SHORT)?;
        ensure!(outcome.code() == Some(0), "{outcome:?}");
        ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:?}");
    }
    Ok(())
}

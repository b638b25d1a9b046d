//! KubeVirt: passt through libvirt, and its use of passt-repair, which is in `repair.rs` (`kubevirt`).

use crate::{contract, later, passt};
use anyhow::{Result, ensure};
use e2e::Case;
use e2e::clients::pid_in;
use e2e::hypervisor::Client;
use rustix::process::Signal;
use std::net::TcpStream;

contract!(ordinary, Ordinary: ports_of_service_meshes_stay_closed);
later!("migration":
    connections_survive,
    connections_to_a_node_without_support_are_reset,
);

/// Istio's and Linkerd's: left out of a range, alone or as ranges.
fn ports_of_service_meshes_stay_closed(case: &Case<'_>) -> Result<()> {
    let (socket, pid) = (case.rig.tmp().join("guest.socket"), case.rig.tmp().join("guest.pid"));
    let specifier = "15000-15025,~15001,~15004,~15006,~15008-15009,~15020-15021";
    let line = format!("-q -s {} -P {} --tcp-ports {specifier}", socket.display(), pid.display());
    let outcome = passt(case, &line)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let mut client = Client::connect(&socket)?;
    client.alive()?;
    for port in 15_000..=15_026 {
        let closed = matches!(port, 15_001 | 15_004 | 15_006 | 15_008 | 15_009 | 15_020 | 15_021);
        let stream = TcpStream::connect(("127.0.0.1", port));
        ensure!(stream.is_err() == (closed || port == 15_026), "{port}: {stream:?}");
        if !closed && port != 15_026 {
            client.knock(port, true)?;
        }
    }
    crate::signal(pid_in(&pid)?, Signal::TERM)
}

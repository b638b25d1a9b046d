//! `cargo xtask clients`: the programs that start passt and pasta, with ours and with the packaged C ones.
//!
//! The clients live in a Debian sid tree ([`tree`]). Each of them gets a rig of its own: the process that
//! was started runs itself again inside, where it enters the tree ([`inside`]) and tells the client's
//! stories ([`check`]) as an ordinary user. Whatever happens, nothing outlives the run.
#![forbid(unsafe_code)]

mod args;
mod check;
mod inside;
mod libvirt;
mod outer;
mod podman;
mod qemu;
mod rootlesskit;
mod sandbox;
mod table;
mod traffic;
mod tree;

use anyhow::{Context as _, Result};
use args::{Args, Column};
use check::Client;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use testkit::Rig;

/// Everybody, in the order of the table.
const CLIENTS: &[Client] = &[
    Client { name: "podman", stories: podman::STORIES },
    Client { name: "rootlesskit", stories: rootlesskit::STORIES },
    Client { name: "libvirt", stories: libvirt::STORIES },
    Client { name: "qemu", stories: qemu::STORIES },
    Client { name: "sandbox", stories: sandbox::STORIES },
];

fn main() -> Result<ExitCode> {
    let args = args::parse()?;
    if args.help {
        write!(std::io::stdout(), "{}", args::USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.inside {
        Some((column, ref client)) => inner(&args, column, client),
        None => outer::run(&args),
    }
}

/// Tells the stories of one client, in a rig that is made around this process.
fn inner(args: &Args, column: Column, client: &str) -> Result<ExitCode> {
    let client = CLIENTS.iter().find(|known| known.name == client).context("an unknown client")?;
    let programs = programs()?;
    let rig = Rig::make(&programs.join("e2e-peer"))?;
    let ours = (column == Column::Ours).then_some(programs.as_path());
    let _dns = rig.start_dns()?;
    let inside = inside::Inside::enter(&rig, column, &args.tree.join("root"), ours)?;
    for story in client.stories {
        let name = format!("{}/{}", client.name, story.name);
        if args.wants(&name) {
            inside.tell(name, story.run);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where our programs are: beside this one.
fn programs() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    this.parent().map(Path::to_owned).context("a program without a directory")
}

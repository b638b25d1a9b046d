//! The command line.

use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask clients [OPTIONS]

Runs Podman, Buildah, RootlessKit, libvirt and QEMU in a Debian sid tree with our passt and pasta and with
the packaged C ones. The tree is made where CLIENTS_TREE says (default: target/clients) and stays there.
Ends with 1 if something failed with ours.

  --only NAME   only stories whose names contain NAME, such as podman/ports; may be repeated
  --ours        not the packaged C ones
  --guest DIR   the virtual machines' guest (default: GUEST_IMAGE)
  --help        this text
";

/// Whose programs the clients start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Ours,
    C,
}

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::C => "C",
        }
    }
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) help: bool,
    pub(crate) only: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// The directory with the tree.
    pub(crate) tree: PathBuf,
    /// The directory with the guest's image.
    pub(crate) guest: Option<PathBuf>,
    /// Of the process in a rig: its column and client.
    pub(crate) inside: Option<(Column, String)>,
}

impl Args {
    /// Whether a story is to be told.
    pub(crate) fn wants(&self, story: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| story.contains(part))
    }
}

pub(crate) fn parse() -> Result<Args> {
    let tree = match std::env::var_os("CLIENTS_TREE") {
        Some(path) => path.into(),
        None => std::env::current_exe()?.ancestors().nth(2).context("no target")?.join("clients"),
    };
    let columns = vec![Column::Ours, Column::C];
    let guest = std::env::var_os(testkit::guest::IMAGE).map(PathBuf::from);
    let mut args = Args { help: false, only: Vec::new(), columns, tree, guest, inside: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") => args.help = true,
            Long("only") => args.only.push(parser.value()?.string()?),
            Long("guest") => args.guest = Some(parser.value()?.into()),
            Long("ours") => args.columns = vec![Column::Ours],
            // For the process in a rig, which another one of this program starts.
            Long("inside") => {
                let column = parser.value()?.string()?;
                let column = [Column::Ours, Column::C].into_iter().find(|c| c.name() == column);
                let client = parser.value()?.string()?;
                args.inside = Some((column.context("an unknown column")?, client));
            }
            Short(_) | Long(_) | Value(_) => bail!("{}\n\n{USAGE}", arg.unexpected()),
        }
    }
    Ok(args)
}

//! Rootless Podman.

mod bridge;
mod build;
mod options;
mod plain;
mod ports;

use crate::check::{Story, required, story};
use crate::inside::Inside;
use anyhow::{Context as _, Result};
use testkit::Place;

pub(crate) const STORIES: &[Story] = &[
    required("default", plain::default),
    required("ports", ports::published),
    story("specifiers", ports::specifiers),
    story("pod", ports::pod),
    story("options", options::options),
    story("configured", options::configured),
    story("info", options::info),
    story("bridge", bridge::bridge),
    story("forwarder", bridge::forwarder),
    required("build", build::podman),
    story("buildah", build::buildah),
];

/// Makes the image `rig`, unless this user has it.
pub(crate) fn image(inside: &Inside<'_>) -> Result<()> {
    if inside.outcome("podman image exists rig")?.status.success() {
        return Ok(());
    }
    inside.sh(include_str!("image.sh")).context("the image").map(drop)
}

/// A running container, removed at the end.
pub(crate) struct Container<'i, 'r> {
    inside: &'i Inside<'r>,
    name: String,
    pid: u32,
    /// What podman has said at the start, on standard error.
    pub(crate) said: String,
}

impl<'i, 'r> Container<'i, 'r> {
    /// Starts `command` in a container called `name`; `options` are podman's.
    pub(crate) fn start(
        inside: &'i Inside<'r>,
        name: &str,
        options: &str,
        command: &str,
    ) -> Result<Self> {
        image(inside)?;
        let script = format!("podman run --detach --name {name} {options} rig {command}");
        let started = inside.outcome(&script)?;
        let said = started.stderr.clone();
        started.ok(&script)?;
        let pid = inside.sh(&format!("podman inspect --format '{{{{.State.Pid}}}}' {name}"))?;
        let pid = pid.parse().with_context(|| pid)?;
        Ok(Self { inside, name: name.to_owned(), pid, said })
    }

    /// One whose command only waits.
    pub(crate) fn idle(inside: &'i Inside<'r>, name: &str, options: &str) -> Result<Self> {
        Self::start(inside, name, options, "sleep 3600")
    }

    /// Runs a shell script in the container.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        self.inside.sh(&format!("podman exec {} sh -euc '{script}'", self.name))
    }

    /// Runs the helper in the container.
    pub(crate) fn peer(&self, args: &str) -> Result<String> {
        self.inside.sh(&format!("podman exec {} peer {args}", self.name))
    }

    /// The network namespace.
    pub(crate) fn place(&self) -> Place {
        Place::Of(self.pid)
    }

    /// Ends and removes the container; pasta has to end by itself.
    pub(crate) fn remove(self) -> Result<()> {
        let name = &self.name;
        self.inside.lives("pasta")?;
        self.inside.sh(&format!("podman rm --force --time 0 {name}"))?;
        self.inside.until_no("pasta")
    }
}

impl Drop for Container<'_, '_> {
    fn drop(&mut self) {
        let _ = self.inside.outcome(&format!("podman rm --force --time 0 --ignore {}", self.name));
    }
}

//! What programs that start passt and pasta rely on, a test for each behaviour.
//!
//! The tables say where: names with a file are in that file of this directory or of `e2e/tests`; `line` stands for
//! the tests of `command_lines.rs`, in which everything happens as the client does it.
//!
//! # Podman and Buildah
//!
//! | behaviour | tests |
//! |---|---|
//! | options repeat, in both spellings, the user's before the defaults, `-t none` beside `-t` | `podman::options_may_repeat_and_differ_from_the_defaults_behind_them`, `line::podman_*` |
//! | the parent ends with 0 when all is ready, and both outputs are let go | `line::podman_*`, `line::buildah_*` (one pipe, read to its end) |
//! | with `--quiet`, nothing is said | `line::*`, `podman::a_quiet_start_is_silent_whatever_the_host_is_like` |
//! | a failure has status 1 and says why | `podman::a_failure_has_status_1_and_says_why` |
//! | the wording that makes Podman leave out `--map-guest-addr` | `podman::an_unknown_option_is_named_in_the_words_that_are_looked_for` |
//! | the addresses are there at once, none is tentative; no IPv6 leaves a link-local one alone | `line::podman_*`, `podman::without_ipv6_on_the_host_there_is_only_a_link_local_address` |
//! | it ends with the file of the namespace, in any directory, and not because of other files there | `podman::ends_with_the_namespace_file_wherever_that_is`, `line::podman_*`, `forms.rs: ends_with_the_path` |
//! | the PID file is complete in time, its process ends by SIGTERM, a successor takes the file | `line::podman_bridge`, `podman::a_successor_takes_the_pid_file_over`, `forms.rs: pid_file` |
//! | `--version`, its first line | `measured::version_of_every_program` |
//! | pesto's rules as Podman words them; an active rule is no error; a failure is | `pesto.rs: podman, commands, refusals` |
//! | addresses, routes, MTU, names, families as asked for | `podman::options_reach_the_namespace`, `config_net.rs` |
//! | ports of every kind, transfers compared by content | `podman::ports_with_ranges_offsets_addresses_and_interfaces`, `ports.rs`, `splice.rs`, `traffic.rs` |
//! | the name server at 169.254.1.1 | `line::podman_*`, `traffic.rs: dns_forward` |
//! | the words about port 80 | `podman::port_80_is_refused_in_the_words_of_the_documentation` |
//! | root of a user namespace, all capabilities there | `line::podman_*`, `reach.rs: inside_a_user_namespace` |
//!
//! # RootlessKit, Docker, nerdctl
//!
//! | behaviour | tests |
//! |---|---|
//! | options with `=`, `--stderr`, a netmask in bits, a PID or two paths, the parent's return | `rootlesskit::the_parent_returns_when_the_namespace_is_configured`, `line::rootlesskit_*` |
//! | addresses as given, not read back | the same |
//! | `auto` with `--ipv4-only` | `rootlesskit::automatic_ports_work_with_ipv4_alone`, `line::rootlesskit_implicit_ports` |
//! | `--host-lo-to-ns-lo` | `rootlesskit::listeners_on_the_namespaces_loopback_are_reached_if_that_is_asked_for` |
//! | `--no-map-gw` closes the host's loopback; `-T`, `-U` | `rootlesskit::without_a_mapped_gateway_the_hosts_loopback_is_closed` |
//! | pesto as a port driver, its `--version` | `pesto.rs: rootlesskit`, `measured::version_of_every_program` |
//! | a persistent device that is configured already is used as it is, and stays | `line::rootlesskit_*`, `forms.rs: persistent_tap` |
//! | a namespace behind another process's root | `line::rootlesskit_detached_namespace`, `reach.rs: path_through_proc_root` |
//! | ended by SIGKILL | `line::rootlesskit_*` |
//!
//! # libvirt
//!
//! | behaviour | tests |
//! |---|---|
//! | older versions: no PID file | `libvirt::an_older_version_without_a_pid_file` |
//! | newer versions: all options, no capabilities, background, socket and PID file in time | `line::libvirt_*` |
//! | ports with addresses, devices, exceptions | `libvirt::specifiers_with_addresses_and_devices`, `port_errors.rs: sockets, sockets_of_all` |
//! | a failed start has a status and a reason | `libvirt::a_failed_start_has_a_status_and_a_reason`, `passt_start.rs: mistakes, taken_paths` |
//! | the same line again on a stale socket; ports at once | `line::libvirt_again`, `passt_start.rs: stale_sockets, successors` |
//! | files stay | `line::libvirt_*`, `passt_start.rs: in_the_background` |
//! | reconnection over vhost-user, the repair socket | `libvirt::later` |
//!
//! # QEMU
//!
//! | behaviour | tests |
//! |---|---|
//! | descriptor 3, every option, a search list in one word | `qemu::every_option_of_the_backend_is_accepted`, `line::qemu_*`, `guest.rs: netdev_passt` |
//! | a PID file that is there already; empty after a failure | `line::qemu_*`, `line::qemu_ports_and_switches`, `passt_start.rs: as_qemu_does` |
//! | the same line again, ports at once | `line::qemu_*`, `passt_start.rs: as_qemu_does, successors` |
//! | features of vhost-user | `qemu::later` |
//!
//! # muvm, libkrun
//!
//! | behaviour | tests |
//! |---|---|
//! | another user namespace within a second, in the same process | `passt_start.rs: as_muvm_does` |
//! | no noise about name servers | `muvm::a_quiet_one_has_nothing_to_say_about_name_servers` |
//! | frames behind a length of four bytes | `passt.rs: hello, bad_lengths, half_a_frame` |
//!
//! # KubeVirt
//!
//! | behaviour | tests |
//! |---|---|
//! | passt-repair for a socket, and for a directory in which one appears | `repair.rs: kubevirt, directory_with_a_server_that_comes_later` |
//! | ports that are left out | `kubevirt::ports_of_service_meshes_stay_closed` |
//! | connections survive | `kubevirt::later`, `repair_migration.rs` for passt-repair's part |
//!
//! # Lix, Nix, sandboxes, services
//!
//! | behaviour | tests |
//! |---|---|
//! | namespaces as descriptors, one of them 0; options once per family | `nix::the_network_namespace_is_standard_input`, `forms.rs: by_standard_input, command_line_of_lix` |
//! | the set of options that shuts everything | `nix::nothing_leads_in_or_to_the_host_with_the_usual_set_of_options` |
//! | `netns dir open: Permission denied`, `--no-netns-quit` | `nix::a_directory_that_cannot_be_watched_is_named_in_the_words_that_are_looked_for` |
//! | the first line as root | `nix::as_root_it_says_first_whom_it_becomes` |
//! | words of the help | `nix::the_help_has_the_words_that_are_looked_for`, `errors.rs: help` |
//! | `--runas` | `nix::runs_as_root_if_told`, `nix::runs_as_another_if_told`, `reach.rs: runas` |
//! | `--log-file=/dev/null` | `nix::nothing_is_logged_to_nowhere` |
//! | `Type=forking`, `-P` and kill, `-- COMMAND` | `nix::a_forking_service_has_its_pid_file`, `nix::ended_by_its_pid_file`, `nix::a_command_behind_two_dashes` |
//!
//! # Timing and endings
//!
//! | behaviour | tests |
//! |---|---|
//! | everything is ready before the parent ends | `port_errors.rs: ready_when_the_parent_returns`, `passt_start.rs: in_the_background` |
//! | ports are free for a successor | `port_errors.rs: successor_*`, `passt_start.rs: successors` |
//! | SIGTERM gives 0 | `forms.rs: sigterm_ends_with_0`, `passt_start.rs: signals` |
//! | no process is left, the command goes on | `general::no_process_is_left_behind`, `general::the_command_goes_on_when_its_pasta_is_ended` |
//! | SIGPIPE | `general::sigpipe_is_ignored`, `general::a_log_that_nobody_reads_any_more_ends_nothing` |
//! | no noise about another build | `general::noise_about_a_faster_twin_is_not_made` |
//!
//! # The command line
//!
//! All in `measured`: versions, help, unknown options (of pesto, too), missing namespaces, low ports, values that
//! are accepted and refused, families, conflicts of ports, options of the other program, statuses of commands,
//! signals to the first process, `-q -d`, captures. One route for the prefix on the link:
//! `config_net.rs: routes_like_the_host`.

#![forbid(unsafe_code)]

mod general;
mod kubevirt;
mod libvirt;
mod measured;
mod muvm;
mod nix;
mod podman;
mod qemu;
mod rootlesskit;

use anyhow::{Context, Result, ensure};
use e2e::{Case, SHORT};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Family, Outcome, Place, User};

/// Declares tests in a module of their own, as the user who runs the client: functions of a `Case`.
macro_rules! contract {
    ($module:ident, $user:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[test]
            fn $name() {
                let name = concat!(module_path!(), "::", stringify!($name));
                crate::run(name, testkit::User::$user, super::$name);
            })*
        }
    };
}
/// Declares tests of what is not there yet: each is counted as skipped.
macro_rules! later {
    ($what:literal: $($name:ident),* $(,)?) => {
        mod later {
            $(#[test]
            fn $name() {
                let name = concat!(module_path!(), "::", stringify!($name));
                testkit::skip(crate::test(name), concat!($what, " is not there until its issue"));
            })*
        }
    };
}
pub(crate) use {contract, later};

/// A test's name in this program.
fn test(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, test)| test)
}

fn run(path: &str, user: User, body: fn(&Case<'_>) -> Result<()>) {
    let helper = env!("CARGO_BIN_EXE_e2e-peer");
    e2e::case(test(path), helper, user, Family::V4, body);
}

/// Words of a line.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs pasta with a line's words.
fn pasta(case: &Case<'_>, line: &str) -> Result<Outcome> {
    case.pasta()?.args(&words(line)).run(SHORT)
}

/// Runs passt with a line's words.
fn passt(case: &Case<'_>, line: &str) -> Result<Outcome> {
    case.rig.passt(case.user)?.args(&words(line)).run(SHORT)
}

/// Status 0 and not a word.
fn silent(outcome: &Outcome) -> Result<()> {
    let quiet = outcome.stdout.is_empty() && outcome.stderr.is_empty();
    ensure!(outcome.code() == Some(0) && quiet, "{outcome:?}");
    Ok(())
}

/// Status 1 and just these lines.
fn refused(outcome: &Outcome, lines: &str) -> Result<()> {
    let said = outcome.stderr.trim_end() == lines && outcome.stdout.is_empty();
    ensure!(outcome.code() == Some(1) && said, "{outcome:?}, wanted {lines}");
    Ok(())
}

/// What ip(8) says at a place.
fn ip(case: &Case<'_>, place: &Place, line: &str) -> Result<String> {
    let argv: Vec<String> = std::iter::once("ip".to_owned()).chain(words(line)).collect();
    case.rig.run(place, SHORT, &argv)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Asks at `place` and checks by which ports the questions are answered, or why not.
fn answers(case: &Case<'_>, place: &Place, expected: &[(&str, &str)]) -> Result<()> {
    let questions: Vec<String> = expected.iter().map(|(asked, _)| (*asked).to_owned()).collect();
    let got = case.probe(place, &questions)?;
    let wanted: Vec<&str> = expected.iter().map(|(_, wanted)| *wanted).collect();
    ensure!(got == wanted, "{questions:?}: {got:?}, wanted {wanted:?}");
    Ok(())
}

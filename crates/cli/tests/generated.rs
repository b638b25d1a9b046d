//! The manual page and the completions in the repository are those of the table of flags, and the
//! programs that read them accept them.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_tree_is_up_to_date() {
    for (path, wanted) in cli::generated_files() {
        let file = root().join(path);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == wanted,
            "{path} is out of date: run `cargo xtask man` and `cargo xtask completions`"
        );
    }
}

/// Runs a shell over `script`; `None` with a reason if it is not installed.
fn shell(name: &str, args: &[&str], script: &str) -> Option<(bool, String)> {
    let child = Command::new(name)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: {name} is not installed");
        return None;
    };
    // The shell may have ended already; its output tells.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// What bash offers for the last one of `words`, by a script for the first one.
fn offered(script: &str, words: &[&str]) -> Option<Vec<String>> {
    let script = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_{}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words[0],
    );
    shell("bash", &["--norc"], &script).map(|(ok, text)| {
        assert!(ok, "{text}");
        text.lines().map(str::to_owned).collect()
    })
}

#[test]
fn bash_completes() {
    let complete = |words: &[&str]| offered(&cli::completion::pasta().bash(), words);
    let Some(names) = complete(&["pasta", "--map-"]) else { return };
    assert_eq!(names, ["--map-host-loopback", "--map-guest-addr"]);
    assert_eq!(complete(&["pasta", "-q", "--config-net", "--mt"]).unwrap(), ["--mtu"]);
    assert_eq!(complete(&["pasta", "-f", "-t", ""]).unwrap(), ["none", "all", "auto"]);
    assert_eq!(complete(&["pasta", "--tcp-ports", "=", "no"]).unwrap(), ["none"]);
    assert_eq!(complete(&["pasta", "--netns", "/proc/self/ns/n"]).unwrap(), ["/proc/self/ns/net"]);
    assert_eq!(complete(&["pasta", "-i", "l"]).unwrap(), ["lo"]);
    assert!(complete(&["pasta", "-m", "1500", "bas"]).unwrap().contains(&"bash".to_owned()));
    // No value is offered that is refused.
    let passt = offered(&cli::completion::passt().bash(), &["passt", "-t", ""]);
    assert_eq!(passt.unwrap(), ["none", "all"]);
    // Options behind the command are those of the command.
    assert_eq!(complete(&["pasta", "true", "--mt"]).unwrap(), [""]);
}

#[test]
fn bash_completes_for_pesto() {
    let complete = |words: &[&str]| offered(&cli::completion::pesto().bash(), words);
    let Some(names) = complete(&["pesto", "--de"]) else { return };
    assert_eq!(names, ["--debug", "--delete"]);
    assert_eq!(complete(&["pesto", "-C", "S"]).unwrap(), ["SPLICE"]);
    assert_eq!(complete(&["pesto", "--clear", "=", "H"]).unwrap(), ["HOST"]);
    assert_eq!(complete(&["pesto", "-A", "/proc/self/ns/n"]).unwrap(), ["/proc/self/ns/net"]);
    // Options may follow the path.
    assert_eq!(complete(&["pesto", "sock", "--tcp-p"]).unwrap(), ["--tcp-ports"]);
}

#[test]
fn bash_completes_where_there_are_no_options() {
    let script = cli::completion::passt_repair().bash();
    let Some(names) = offered(&script, &["passt-repair", "/proc/self/ns/n"]) else { return };
    assert_eq!(names, ["/proc/self/ns/net"]);
    // What completes commands is part of a package that may be absent.
    let script = format!(
        "_command_offset() {{ COMPREPLY=(\"at $1\"); }}\n{}",
        cli::completion::qrap().bash()
    );
    assert_eq!(offered(&script, &["qrap", "5", "qemu"]).unwrap(), ["at 2"]);
    assert_eq!(
        offered(&script, &["qrap", "-drive", "/proc/self/ns/n"]).unwrap(),
        ["/proc/self/ns/net"]
    );
}

#[test]
fn zsh_and_fish_can_read_them() {
    let (pasta, pesto) = (cli::completion::pasta(), cli::completion::pesto());
    let (repair, qrap) = (cli::completion::passt_repair(), cli::completion::qrap());
    for (name, args, script) in [
        ("zsh", &["-n", "/dev/stdin"][..], pasta.zsh()),
        ("zsh", &["-n", "/dev/stdin"], pesto.zsh()),
        ("zsh", &["-n", "/dev/stdin"], repair.zsh()),
        ("zsh", &["-n", "/dev/stdin"], qrap.zsh()),
        ("fish", &["--no-execute", "/dev/stdin"], repair.fish()),
        ("fish", &["--no-execute", "/dev/stdin"], qrap.fish()),
        ("fish", &["--no-execute", "/dev/stdin"], pasta.fish()),
        ("fish", &["--no-execute", "/dev/stdin"], pesto.fish()),
    ] {
        if let Some((ok, text)) = shell(name, args, &script) {
            assert!(ok, "{name}: {text}");
        }
    }
}

#[test]
fn groff_has_no_complaint() {
    for page in [
        cli::man::passt(),
        cli::man::pasta(),
        cli::pesto::man(),
        cli::qrap::man(),
        cli::repair::man(),
    ] {
        if let Some((ok, text)) = shell("groff", &["-man", "-Tascii", "-ww", "-z"], &page) {
            assert!(ok && text.is_empty(), "{text}");
        }
    }
}

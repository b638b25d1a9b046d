//! Whether the newest tools can read our policies: the quick part of `cargo xtask dist --check`.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of a directory below `packaging/`, with an extension if one is asked for.
fn policies(directory: &str, extension: Option<&str>) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(directory);
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| {
        path.is_file() && (extension.is_none() || path.extension() == extension.map(OsStr::new))
    };
    let mut found: Vec<PathBuf> = all.filter(wanted).collect();
    found.sort();
    found
}

/// A tool out of Debian sid, and the directory of its tree; `None` where there is none.
fn tool(test: &str, name: &str) -> Option<(Command, PathBuf)> {
    let sid = std::env::var_os(testkit::debian::SID).map(PathBuf::from);
    let tool = sid.and_then(|sid| testkit::debian::policy_tool(&sid, name));
    if tool.is_none() {
        testkit::skip(test, &format!("no {name} of Debian sid"));
    }
    tool
}

fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn apparmor_profiles() {
    let profiles = policies("apparmor", None);
    assert_eq!(profiles.len(), 4, "{profiles:?}");
    for profile in profiles {
        let Some((mut parser, tree)) = tool("apparmor_profiles", "apparmor_parser") else { return };
        parser.args(["--skip-kernel-load", "--skip-cache", "--base"]);
        parser.arg(tree.join("etc/apparmor.d")).arg("--Include");
        parser.arg(profile.parent().unwrap()).arg(&profile);
        succeeds(parser);
    }
}

#[test]
fn selinux_modules() {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let modules = policies("selinux", Some("te"));
    assert_eq!(modules.len(), 4, "{modules:?}");
    for module in modules {
        let Some((mut compiler, _)) = tool("selinux_modules", "checkmodule") else { return };
        let Some((mut packer, _)) = tool("selinux_modules", "semodule_package") else { return };
        let name = to.join(module.file_stem().unwrap());
        let (compiled, packed) = (name.with_extension("mod"), name.with_extension("pp"));
        compiler.args(["-M", "-m", "-o"]).arg(&compiled).arg(&module);
        succeeds(compiler);
        packer.arg("-o").arg(&packed).arg("-m").arg(&compiled);
        packer.arg("-f").arg(module.with_extension("fc"));
        succeeds(packer);
        assert!(fs::metadata(&packed).unwrap().len() > 0);
    }
}

//! Rules of the house that the compiler does not enforce.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines without its tests.
const LONGEST: usize = 600;
/// The crate in which `unsafe` may occur.
const UNSAFE_ZONE: &str = "sys";
/// Which crate may use which: what is not named here may not be used.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("stack", &["wire"]),
    ("control", &["wire", "stack"]),
    ("sys", &["wire"]),
    ("engine", &["wire", "stack", "control", "sys"]),
    ("cli", &["wire", "stack", "control", "sys", "engine"]),
    ("testkit", &[]),
];

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Checks everything; the error names every offence.
pub(crate) fn run() -> Result<()> {
    let mut offences = Vec::new();
    for member in members()? {
        for file in sources(&member)? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            let length = length(&text);
            let is_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
            if length > LONGEST && !is_tests {
                offences.push(format!("{name}: {length} lines, at most {LONGEST} are allowed"));
            }
            if !member.ends_with(UNSAFE_ZONE) {
                let lines = text.lines().enumerate().filter(|(_, line)| uses_unsafe(line));
                offences.extend(lines.map(|(i, _)| format!("{name}:{}: unsafe", i + 1)));
            }
        }
        offences.extend(arrows(&member)?);
    }
    ensure!(offences.is_empty(), "{}", offences.join("\n"));
    eprintln!("files are short enough, unsafe is at home, arrows point the right way");
    Ok(())
}

/// Directories of the workspace's crates.
fn members() -> Result<Vec<PathBuf>> {
    let mut members: Vec<PathBuf> =
        ["e2e", "bench", "clients", "xtask"].map(|name| root().join(name)).into();
    for entry in fs::read_dir(root().join("crates"))? {
        members.push(entry?.path());
    }
    members.sort();
    Ok(members)
}

/// Rust files below a directory.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lines before the module of tests at the foot.
fn length(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let foot = lines.windows(2).position(|two| {
        two[0].trim() == "#[cfg(test)]"
            && two[1].trim_start().starts_with("mod ")
            && two[1].trim_end().ends_with('{')
    });
    foot.unwrap_or(lines.len())
}

/// Whether a line begins something unsafe: the word as code, not in text or a comment.
fn uses_unsafe(line: &str) -> bool {
    const WHAT: [&str; 5] = ["{", "fn ", "impl", "trait ", "extern "];
    let code = line.split("//").next().unwrap_or_default();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("unsafe") {
        rest = after;
        let whole_word = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
        let what = after.trim_start();
        let attribute = after.starts_with('(');
        if whole_word && (attribute || WHAT.iter().any(|begin| what.starts_with(begin))) {
            return true;
        }
    }
    false
}

/// Offences of a crate's manifest against [`ARROWS`].
fn arrows(member: &Path) -> Result<Vec<String>> {
    let name = member.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        return Ok(Vec::new());
    };
    let text = fs::read_to_string(member.join("Cargo.toml"))?;
    let used = dependencies(&text);
    let ours = used.into_iter().filter(|used| ARROWS.iter().any(|(crate_, _)| crate_ == used));
    let wrong = ours.filter(|used| !allowed.contains(&used.as_str()));
    Ok(wrong.map(|used| format!("{name} must not depend on {used}")).collect())
}

/// Names in the tables of shipped dependencies of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(table) = line.trim().strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies") && !table.ends_with("dev-dependencies");
            if let Some((_, name)) = table.split_once("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_foot_do_not_count() {
        assert_eq!(length("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(length("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
        assert_eq!(length("#[cfg(test)]\nuse x;\nb\n"), 3);
    }

    #[test]
    fn the_word_counts_only_as_code() {
        let word = "unsafe";
        assert!(uses_unsafe(&format!("    let x = {word} {{ y() }};")));
        assert!(uses_unsafe(&format!("{word} impl Send for X {{}}")));
        assert!(uses_unsafe(&format!("#[{word}(no_mangle)]")));
        assert!(!uses_unsafe("#![forbid(unsafe_code)]"));
        assert!(!uses_unsafe("// unsafe is elsewhere"));
        assert!(!uses_unsafe("say(\"unsafe\")"));
    }

    #[test]
    fn dependencies_are_those_that_ship() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nwire.workspace = true\n\
            sys = { path = \"y\" }\n[dev-dependencies]\ntestkit.workspace = true\n\
            [dependencies.stack]\npath = \"z\"\n";
        assert_eq!(dependencies(manifest), ["wire", "sys", "stack"]);
    }
}

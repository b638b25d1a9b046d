//! Whose work is in our programs, and under which terms.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::output;
use crate::check::root;

/// What the programs of a target have in them that is not ours, with the licences word for word.
pub(crate) fn third_party(target: &str) -> Result<String> {
    let mut text = "\
The programs contain the work of others, besides their own:

  the standard library of Rust      MIT OR Apache-2.0
                                    Copyright the Rust Project contributors
"
    .to_owned();
    if target.ends_with("-musl") {
        text += "  musl, the C library               MIT\n                                    \
                 Copyright 2005-2020 Rich Felker, and others\n";
    } else {
        text += "  start-up code of the GNU C library and of GCC, under the exceptions for programs made with them\n";
    }
    text += "\nand these libraries, with their licences below:\n\n";
    let crates = crates(target)?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, package) in &crates {
        let licence = package["license"].as_str().with_context(|| format!("{name}: no licence"))?;
        text += &format!("  {name:<33} {}\n", licence.replace('/', " OR "));
        let manifest = package["manifest_path"].as_str().context("no manifest")?;
        let mut found = files(Path::new(manifest).parent().context("no directory")?)?;
        if found.is_empty() {
            found.push(expat(package).with_context(|| format!("{name}: no text of its licence"))?);
        }
        for licence in found {
            texts.entry(licence).or_default().push(name.clone());
        }
    }
    for (licence, names) in texts {
        text += &format!("\n{}\n{}:\n\n{}\n", "-".repeat(78), names.join(", "), licence.trim_end());
    }
    Ok(text)
}

/// The MIT licence of somebody who has not put its text beside the work, with the names of the manifest.
fn expat(package: &Value) -> Result<String> {
    let licences = package["license"].as_str().unwrap_or_default();
    let choice = licences.split(" OR ").any(|licence| licence == "MIT");
    ensure!(choice, "{licences} is not the one that is known");
    let authors = package["authors"].as_array().context("no authors")?;
    let authors: Vec<&str> = authors.iter().filter_map(Value::as_str).collect();
    ensure!(!authors.is_empty(), "no authors");
    let ours = fs::read_to_string(root().join("LICENSE-MIT"))?;
    let terms = ours.find("Permission is hereby granted").and_then(|at| ours.get(at..));
    let terms = terms.context("LICENSE-MIT is another one")?;
    Ok(format!("MIT License\n\nCopyright (c) {}\n\n{terms}", authors.join(", ")))
}

/// Crates that are linked, by name and version, with what cargo knows of them.
fn crates(target: &str) -> Result<BTreeMap<String, Value>> {
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--locked", "--package", "cli", "--edges", "normal,no-proc-macro"]);
    tree.args(["--target", target, "--prefix", "none", "--format", "{p}"]).current_dir(root());
    let text = output(tree)?;
    // `name v1.2.3`, and for ours the path behind it.
    let linked: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.contains('('))
        .map(|line| line.replacen(" v", " ", 1).trim().to_owned())
        .collect();
    ensure!(!linked.is_empty(), "cargo tree names no library");
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--locked", "--format-version", "1"]).current_dir(root());
    let metadata: Value = serde_json::from_str(&output(metadata)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut crates = BTreeMap::new();
    for package in packages {
        let (name, version) = (package["name"].as_str(), package["version"].as_str());
        let name = format!("{} {}", name.unwrap_or_default(), version.unwrap_or_default());
        if linked.contains(&name) {
            crates.insert(name, package.clone());
        }
    }
    ensure!(crates.len() == linked.len(), "cargo metadata lacks some of {linked:?}");
    Ok(crates)
}

/// Texts of licences in a directory.
fn files(directory: &Path) -> Result<Vec<String>> {
    const BEGINNINGS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.path().is_file() && BEGINNINGS.iter().any(|begin| name.starts_with(begin)) {
            let text = fs::read_to_string(entry.path())?;
            found.push(text.replace("\r\n", "\n"));
        }
    }
    found.sort();
    Ok(found)
}

//! Files made from the table of flags: the manual page and the completions.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes the generated files of one directory of the repository.
pub(crate) fn write(directory: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, contents) in cli::generated_files() {
        if Path::new(path).starts_with(directory) {
            let file = root.join(path);
            std::fs::create_dir_all(root.join(directory))?;
            std::fs::write(&file, contents).with_context(|| format!("writing {path}"))?;
        }
    }
    Ok(())
}

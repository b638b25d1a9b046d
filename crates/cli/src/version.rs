//! `--version`.

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The text of `--version`. Callers store and show its first line: the program and the version.
#[must_use]
pub fn text(program: &str) -> String {
    format!(
        "{program} {VERSION}\n\
         Copyright 2026 the authors of this Rust implementation of passt and pasta\n\
         Licence: MIT OR Apache-2.0\n\
         \x20 <https://spdx.org/licenses/MIT.html> <https://spdx.org/licenses/Apache-2.0.html>\n\
         This is free software: you may use, change and redistribute it.\n\
         It comes without any warranty, as far as the law permits.\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line() {
        assert!(text("pasta").starts_with(&format!("pasta {VERSION}\n")));
        assert!(text("passt").starts_with(&format!("passt {VERSION}\n")));
    }
}

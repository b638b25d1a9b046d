//! Command line: the table of flags, what was typed, what it means, and the start of it all.
#![forbid(unsafe_code)]

pub mod completion;
pub mod flags;
pub mod help;
pub mod log;
pub mod man;
pub mod parse;
pub mod said;
pub mod version;

/// Files in the repository that are made from the table of flags: path from its root, and contents.
/// `cargo xtask man` and `cargo xtask completions` write them; a test compares them.
#[must_use]
pub fn generated_files() -> [(&'static str, String); 4] {
    [
        ("man/pasta.1", man::pasta()),
        ("completions/pasta.bash", completion::bash()),
        ("completions/_pasta", completion::zsh()),
        ("completions/pasta.fish", completion::fish()),
    ]
}

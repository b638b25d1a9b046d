//! Command line: the table of flags, what was typed, what it means, and the start of it all.
#![forbid(unsafe_code)]

pub mod completion;
pub mod config;
pub mod configure_ns;
pub mod discover;
pub mod flags;
pub mod help;
pub mod log;
pub mod man;
pub mod namespace;
pub mod parse;
pub mod report;
pub mod resolv;
pub mod said;
pub mod start;
pub mod version;

pub use self::start::main;

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

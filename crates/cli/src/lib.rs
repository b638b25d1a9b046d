//! Command lines: the tables of flags, what was typed, what it means, and the start of it all.
#![forbid(unsafe_code)]

pub mod completion;
pub mod config;
pub mod configure_ns;
pub mod discover;
pub mod doctor;
pub mod flags;
pub mod help;
pub mod log;
pub mod man;
pub mod namespace;
pub mod parse;
pub mod pesto;
pub mod qrap;
pub mod repair;
pub mod report;
pub mod resolv;
pub mod said;
pub mod spec;
pub mod start;
pub mod version;

pub use self::start::main;

/// Files in the repository that are made from the tables of flags: path from its root, and contents.
/// `cargo xtask man` and `cargo xtask completions` write them; a test compares them.
#[must_use]
pub fn generated_files() -> [(&'static str, String); 20] {
    let (passt, pasta) = (completion::passt(), completion::pasta());
    let pesto = completion::pesto();
    let (repair, qrap) = (completion::passt_repair(), completion::qrap());
    [
        ("man/passt.1", man::passt()),
        ("man/pasta.1", man::pasta()),
        ("man/pesto.1", pesto::man()),
        ("man/passt-repair.1", repair::man()),
        ("man/qrap.1", qrap::man()),
        ("completions/passt.bash", passt.bash()),
        ("completions/_passt", passt.zsh()),
        ("completions/passt.fish", passt.fish()),
        ("completions/pasta.bash", pasta.bash()),
        ("completions/_pasta", pasta.zsh()),
        ("completions/pasta.fish", pasta.fish()),
        ("completions/pesto.bash", pesto.bash()),
        ("completions/_pesto", pesto.zsh()),
        ("completions/pesto.fish", pesto.fish()),
        ("completions/passt-repair.bash", repair.bash()),
        ("completions/_passt-repair", repair.zsh()),
        ("completions/passt-repair.fish", repair.fish()),
        ("completions/qrap.bash", qrap.bash()),
        ("completions/_qrap", qrap.zsh()),
        ("completions/qrap.fish", qrap.fish()),
    ]
}

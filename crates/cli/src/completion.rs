//! Completions for shells, from the table of flags.

use std::fmt::Write as _;

use crate::flags::{self, Complete, Flag};
use crate::pesto;
use crate::said::Mode;

/// What a shell runs to list the host's network interfaces, one per line.
const INTERFACES: &str = "ls /sys/class/net";

/// What a program's other arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arguments {
    /// A command with its own arguments; the first of them ends the options.
    Command,
    /// A number, and a command with its arguments.
    Numbered,
    /// A file, between options.
    File,
    /// There are none.
    None,
}

/// What can be typed behind a program's name.
#[derive(Clone, Debug)]
pub struct Completion<A: 'static> {
    program: &'static str,
    /// The flags worth offering.
    flags: Vec<&'static Flag<A>>,
    arguments: Arguments,
    /// A word that is refused as a value here.
    refused: Option<&'static str>,
}

/// That of pasta.
#[must_use]
pub fn pasta() -> Completion<flags::Action> {
    let offered = |flag: &&Flag| flag.available() && flag.modes.include(Mode::Pasta);
    let flags = flags::all().filter(offered).collect();
    Completion { program: "pasta", flags, arguments: Arguments::Command, refused: None }
}

/// That of passt.
#[must_use]
pub fn passt() -> Completion<flags::Action> {
    let offered = |flag: &&Flag| flag.available() && flag.modes.include(Mode::Passt);
    let flags = flags::all().filter(offered).collect();
    Completion { program: "passt", flags, arguments: Arguments::None, refused: Some("auto") }
}

/// That of pesto.
#[must_use]
pub fn pesto() -> Completion<pesto::Action> {
    let flags = pesto::FLAGS.iter().collect();
    Completion { program: "pesto", flags, arguments: Arguments::File, refused: None }
}

/// That of passt-repair, which has no options.
#[must_use]
pub fn passt_repair() -> Completion<flags::Action> {
    Completion {
        program: "passt-repair",
        flags: Vec::new(),
        arguments: Arguments::File,
        refused: None,
    }
}

/// That of qrap, which has no options of its own: what follows its name is a command line of QEMU.
#[must_use]
pub fn qrap() -> Completion<flags::Action> {
    Completion { program: "qrap", flags: Vec::new(), arguments: Arguments::Numbered, refused: None }
}

/// Names of a flag with their dashes.
fn dashed<A>(flag: &Flag<A>) -> Vec<String> {
    let short = flag.short.map(|short| format!("-{short}"));
    short.into_iter().chain(flag.names().map(|name| format!("--{name}"))).collect()
}

impl<A> Completion<A> {
    /// The words to offer as a value.
    fn words(&self, words: &[&'static str]) -> String {
        let words = words.iter().copied().filter(|word| self.refused != Some(word));
        words.collect::<Vec<_>>().join(" ")
    }

    /// For bash. Behind the first argument that is no option, the command completes as it would alone,
    /// if the bash-completion package is there.
    #[must_use]
    pub fn bash(&self) -> String {
        let mut values = String::new();
        let mut all = Vec::new();
        let mut with_value = Vec::new();
        for flag in &self.flags {
            let names = dashed(flag);
            all.extend(names.clone());
            if !flag.takes_value() {
                continue;
            }
            let action = match flag.complete {
                Complete::Nothing => ":".to_owned(),
                Complete::File => "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")".to_owned(),
                Complete::Interface => {
                    format!("mapfile -t COMPREPLY < <(compgen -W \"$({INTERFACES})\" -- \"$cur\")")
                }
                Complete::Words(words) => {
                    let words = self.words(words);
                    format!("mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$cur\")")
                }
            };
            // The pieces go to a String, which takes them all.
            let _ = writeln!(values, "        {}) {action}; return ;;", names.join("|"));
            with_value.extend(names);
        }
        let (skip, compgen) = match self.arguments {
            Arguments::Command => (bash_command(&with_value.join("|")), "-c"),
            Arguments::Numbered => (BASH_NUMBERED.to_owned(), "-f"),
            Arguments::File => (String::new(), "-f"),
            Arguments::None => (String::new(), "-W ''"),
        };
        format!(
            r#"# Generated from the table of flags.
_{program}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} i=1
    COMPREPLY=()
    # bash takes the equals sign of --option=value as a word of its own.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 2 ]] && prev=${{COMP_WORDS[COMP_CWORD-2]}}
{skip}    case $prev in
{values}    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{all}' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen {compgen} -- "$cur")
    fi
}}
complete -o filenames -F _{program} {program}
"#,
            program = self.program,
            all = all.join(" "),
        )
    }

    /// For zsh.
    #[must_use]
    pub fn zsh(&self) -> String {
        let mut script = format!(
            "#compdef {}\n# Generated from the table of flags.\n_arguments -s -S \\\n",
            self.program
        );
        for flag in &self.flags {
            let names = dashed(flag);
            let help = zsh_text(flag.help);
            let value = match (flag.metavar, flag.complete) {
                (None, _) => String::new(),
                (Some(name), Complete::Nothing) => format!(":{}: ", zsh_text(name)),
                (Some(name), Complete::File) => format!(":{}:_files", zsh_text(name)),
                (Some(name), Complete::Interface) => format!(":{}:_net_interfaces", zsh_text(name)),
                (Some(name), Complete::Words(words)) => {
                    format!(":{}:({})", zsh_text(name), self.words(words))
                }
            };
            for name in names {
                // "+": attached or separate; "=": with an equals sign or separate.
                let joint = match (flag.takes_value(), name.starts_with("--")) {
                    (false, _) => "",
                    (true, false) => "+",
                    (true, true) => "=",
                };
                let _ = writeln!(script, "    '*{name}{joint}[{help}]{value}' \\");
            }
        }
        script.push_str(match self.arguments {
            Arguments::Command => {
                "    '(-)1:command: _command_names -e' \\\n    '*::arguments: _normal'\n"
            }
            Arguments::Numbered => {
                "    '1:number: ' \\\n    '2:command: _command_names -e' \\\n    '*::arguments: _normal'\n"
            }
            Arguments::File => "    '1:socket:_files'\n",
            Arguments::None => "",
        });
        if script.ends_with(" \\\n") {
            script.truncate(script.len() - 3);
            script.push('\n');
        }
        script
    }

    /// For fish.
    #[must_use]
    pub fn fish(&self) -> String {
        let program = self.program;
        let mut script = "# Generated from the table of flags.\n".to_owned();
        for flag in &self.flags {
            let _ = write!(script, "complete -c {program}");
            if let Some(short) = flag.short {
                let _ = write!(script, " -s {short}");
            }
            for name in flag.names() {
                let _ = write!(script, " -l {name}");
            }
            match (flag.takes_value(), flag.complete) {
                (false, _) => {}
                (true, Complete::Nothing) => script.push_str(" -x"),
                (true, Complete::File) => script.push_str(" -r -F"),
                (true, Complete::Interface) => {
                    let _ = write!(script, " -x -a '({INTERFACES})'");
                }
                (true, Complete::Words(words)) => {
                    let _ = write!(script, " -x -a '{}'", self.words(words));
                }
            }
            let help = flag.help.replace('\n', " ").replace('\\', "\\\\").replace('\'', "\\'");
            let _ = writeln!(script, " -d '{help}'");
        }
        let command = match self.arguments {
            Arguments::Command => "__fish_complete_subcommand",
            Arguments::Numbered => "__fish_complete_subcommand --fcs-skip=2",
            // Files are offered by default.
            Arguments::File | Arguments::None => return script,
        };
        let _ = writeln!(script, "complete -c {program} -x -a '({command})'");
        script
    }
}

/// For bash: completes the command behind a number.
const BASH_NUMBERED: &str = r#"    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} =~ ^[0-9]+$ ]]; then
        declare -F _command_offset >/dev/null && _command_offset 2
        return
    fi
"#;

/// For bash: completes the command behind the options, of which those in `with_value` take one.
fn bash_command(with_value: &str) -> String {
    format!(
        r#"    while ((i < COMP_CWORD)); do
        case ${{COMP_WORDS[i]}} in
        --) ((i++)); break ;;
        {with_value})
            [[ ${{COMP_WORDS[i+1]}} == = ]] && ((i++))
            ((i += 2)) ;;
        -*) ((i++)) ;;
        *) break ;;
        esac
    done
    if ((i < COMP_CWORD)); then
        declare -F _command_offset >/dev/null && _command_offset "$i"
        return
    fi
"#
    )
}

/// For text within single quotes, between brackets or colons.
fn zsh_text(text: &str) -> String {
    let text = text.replace('\n', " ");
    let text = text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    text.replace('\'', "'\\''")
}

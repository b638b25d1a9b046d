//! Our option reader against glibc's `getopt_long`: random command lines out of the vocabulary of a
//! flag table, the same options and values, the same rest, the same first line of complaint.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cli::flags::{self, Flags};
use cli::parse::Options;
use cli::pesto;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const ARGV0: &str = "/usr/bin/pasta";

/// What a reader made of a command line: one line per option, then the complaint or the rest.
type Reading = Vec<Vec<u8>>;

#[test]
fn same_as_getopt_long() {
    compare("pasta", &flags::PASST, "+", |args| Options::new(ARGV0, args));
}

#[test]
fn same_as_getopt_long_with_permutation() {
    compare("pesto", &pesto::FLAGS, "", |args| Options::permuting(&pesto::FLAGS, ARGV0, args));
}

/// Compares readers of `flags`; `prefix` is the beginning of the oracle's string of short options.
fn compare<A>(
    name: &str,
    flags: &'static Flags<A>,
    prefix: &str,
    options: impl Fn(Vec<OsString>) -> Options<'static, A>,
) {
    let Some(oracle) = Oracle::build(name, flags, prefix) else {
        eprintln!("SKIPPED: no C compiler (cc), so there is no getopt_long to compare with");
        return;
    };
    let oracle = RefCell::new(oracle);
    let mut runner = TestRunner::new(Config { cases: 20_000, ..Config::default() });
    let lines = proptest::collection::vec(word(flags), 0..7);
    runner
        .run(&lines, |args| {
            let theirs = oracle.borrow_mut().read(&args);
            prop_assert_eq!(
                shown(&ours(flags, options(args.clone()))),
                shown(&theirs),
                "{:?}",
                args
            );
            Ok(())
        })
        .unwrap();
}

fn shown(reading: &Reading) -> Vec<String> {
    reading.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn ours<A>(flags: &Flags<A>, mut options: Options<'_, A>) -> Reading {
    let mut reading = Reading::new();
    loop {
        match options.next_option() {
            Ok(Some(found)) => {
                let index = flags.iter().position(|flag| std::ptr::eq(flag, found.flag)).unwrap();
                let mut line = format!("{index}").into_bytes();
                if let Some(value) = found.value {
                    line.extend_from_slice(b"=");
                    line.extend_from_slice(value.as_bytes());
                }
                reading.push(line);
            }
            Ok(None) => {
                reading.extend(options.rest().iter().map(|arg| arg.as_bytes().to_vec()));
                return reading;
            }
            Err(refusal) => {
                reading.push(refusal.line.into_bytes());
                return reading;
            }
        }
    }
}

/// A C program around getopt_long with our table, fed with one command line after the other.
struct Oracle {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    directory: PathBuf,
}

impl Oracle {
    fn build<A>(name: &str, flags: &Flags<A>, prefix: &str) -> Option<Self> {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("getopt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let source = directory.join("oracle.c");
        std::fs::write(&source, program(flags, prefix)).unwrap();
        let binary = directory.join("oracle");
        let compiled = Command::new("cc").arg("-o").arg(&binary).arg(&source).status().ok()?;
        assert!(compiled.success(), "cc failed");
        let mut child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env_remove("POSIXLY_CORRECT")
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, output, directory })
    }

    /// A command line is a count and so many strings ended by zero bytes; so is the answer.
    fn read(&mut self, args: &[OsString]) -> Reading {
        let mut line = format!("{}\0", args.len()).into_bytes();
        for arg in args {
            line.extend_from_slice(arg.as_bytes());
            line.push(0);
        }
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(&line).unwrap();
        input.flush().unwrap();
        let count: usize = String::from_utf8(self.field()).unwrap().parse().unwrap();
        (0..count).map(|_| self.field()).collect()
    }

    fn field(&mut self) -> Vec<u8> {
        let mut field = Vec::new();
        self.output.read_until(0, &mut field).unwrap();
        assert_eq!(field.pop(), Some(0), "the oracle ended");
        field
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.output.read_to_end(&mut Vec::new());
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program<A>(flags: &Flags<A>, prefix: &str) -> String {
    let mut long = String::new();
    let mut short = String::from(prefix);
    let mut shorts = String::new();
    // Exact ones are not there for getopt, which knows no such thing: beginnings mean what they mean without.
    for (index, flag) in flags.iter().enumerate().filter(|(_, flag)| !flag.exact) {
        let argument = i32::from(flag.takes_value());
        for name in flag.names() {
            writeln!(long, "    {{ \"{name}\", {argument}, NULL, {} }},", index + 1000).unwrap();
        }
        if let Some(name) = flag.short {
            short.push(name);
            if flag.takes_value() {
                short.push(':');
            }
            writeln!(shorts, "    case '{name}': return {index};").unwrap();
        }
    }
    format!(
        r#"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {{
{long}    {{ NULL, 0, NULL, 0 }}
}};

static int index_of(int c)
{{
    if (c >= 1000)
        return c - 1000;
    switch (c) {{
{shorts}    }}
    return -1;
}}

static char word[65536], out[65536];

static char *next(void)
{{
    size_t n = 0;
    int c;
    while ((c = getchar()) > 0)
        word[n++] = c;
    if (c == EOF)
        exit(0);
    word[n] = 0;
    return word;
}}

int main(void)
{{
    FILE *complaints = tmpfile();
    dup2(fileno(complaints), 2);
    for (;;) {{
        int argc = 1 + atoi(next()), count = 0, c;
        char *argv[64] = {{ "{ARGV0}" }}, *end = out;
        for (int i = 1; i < argc; i++)
            argv[i] = strdup(next());
        argv[argc] = NULL;
        optind = 0;
        while ((c = getopt_long(argc, argv, "{short}", options, NULL)) != -1) {{
            count++;
            if (c == '?') {{
                char line[4096];
                ssize_t n = pread(2, line, sizeof(line), 0);
                end = mempcpy(end, line, strcspn(line, "\n") < n ? strcspn(line, "\n") : n);
                *end++ = 0;
                ftruncate(2, 0);
                lseek(2, 0, SEEK_SET);
                optind = argc;
                break;
            }}
            end += sprintf(end, optarg ? "%d=%s" : "%d", index_of(c), optarg);
            *end++ = 0;
        }}
        for (; optind < argc; optind++, count++)
            end = stpcpy(end, argv[optind]) + 1;
        printf("%d", count);
        putchar(0);
        fwrite(out, 1, end - out, stdout);
        fflush(stdout);
        for (int i = 1; i < argc; i++)
            free(argv[i]);
    }}
}}
"#
    )
    .replace("#include <getopt.h>", "#define _GNU_SOURCE\n#include <getopt.h>")
}

/// Options in all their forms, whole and cut short, clusters, values, and nearly-options.
fn word<A>(flags: &Flags<A>) -> impl Strategy<Value = OsString> + use<A> {
    let table: Vec<Vec<&str>> =
        flags.iter().filter(|flag| !flag.exact).map(|flag| flag.names().collect()).collect();
    let name = proptest::sample::select(table).prop_flat_map(proptest::sample::select);
    let cut = (name, 0_usize..24).prop_map(|(name, len)| {
        // Half of the lengths leave the name whole.
        name.get(..len.max(1)).filter(|_| len < 12).unwrap_or(name).to_owned()
    });
    let value = prop_oneof![
        Just(String::new()),
        Just("none".to_owned()),
        Just("--".to_owned()),
        Just("-".to_owned()),
        "[a-z0-9=./-]{1,6}",
    ];
    let letters = "[a-zA-Z0-9=:;?+-]{1,4}";
    prop_oneof![
        4 => cut.clone().prop_map(|name| format!("--{name}")),
        3 => (cut, value.clone()).prop_map(|(name, value)| format!("--{name}={value}")),
        4 => letters.prop_map(|letters| format!("-{letters}")),
        3 => "-[46dfqehs1AD]{1,3}[mtTuaPC]?[a-z0-9=]{0,3}",
        3 => value,
        1 => Just("--=".to_owned()),
    ]
    .prop_map(OsString::from)
}

#[test]
fn the_command_is_left_alone() {
    let args = ["-f", "sh", "--mtu", "x", "--", "-q"].map(OsString::from);
    let mut options = Options::new(ARGV0, args);
    assert_eq!(options.next_option().unwrap().unwrap().flag.long, "foreground");
    assert!(options.next_option().unwrap().is_none());
    assert_eq!(options.rest(), ["sh", "--mtu", "x", "--", "-q"].map(OsStr::new));
}

//! The client against a server that follows a script.

use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::{encode_configuration, encode_update};
use stack::rule::{Capabilities, Pif, Table};

use super::*;

/// Long enough for a busy machine.
const PATIENT: Limits =
    Limits { exchange: Duration::from_secs(60), refused: Duration::from_secs(60) };
/// For servers that do not answer.
const SHORT: Limits =
    Limits { exchange: Duration::from_millis(200), refused: Duration::from_millis(100) };

/// What the server does with one client.
enum Turn {
    /// Has these tables, and takes what comes.
    Has(Vec<PifTable>),
    /// Has these tables, and refuses new ones when it has seen a byte of them.
    Refuses(Vec<PifTable>),
    /// Says this and closes.
    Says(Vec<u8>),
    /// Says this a byte at a time and then nothing, but listens until the client gives up.
    Stalls(Vec<u8>),
    /// Takes new tables, but does not close the connection.
    Hangs(Vec<PifTable>),
}

impl Turn {
    /// Returns what the client sent.
    fn take(self, mut stream: UnixStream) -> Vec<u8> {
        let mut received = Vec::new();
        match self {
            Self::Has(tables) => {
                stream.write_all(&encode_configuration(&tables)).unwrap();
                stream.read_to_end(&mut received).unwrap();
            }
            Self::Refuses(tables) => {
                stream.write_all(&encode_configuration(&tables)).unwrap();
                received.resize(1, 0);
                stream.read_exact(&mut received).unwrap();
            }
            // The client may have gone before.
            Self::Says(bytes) => drop(stream.write_all(&bytes)),
            Self::Stalls(bytes) => {
                for byte in bytes {
                    if stream.write_all(&[byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                let _ = stream.read_to_end(&mut received);
            }
            Self::Hangs(tables) => {
                stream.write_all(&encode_configuration(&tables)).unwrap();
                stream.read_to_end(&mut received).unwrap();
                // Writing fails when the client has closed its end for good.
                while stream.write_all(&[0]).is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        received
    }
}

/// A directory for a socket, and perhaps a server.
struct Server {
    path: PathBuf,
    thread: Option<JoinHandle<Vec<Vec<u8>>>>,
}

impl Server {
    /// A path without a server.
    fn none() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pesto-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self { path: directory.join("sock"), thread: None }
    }

    /// One that serves as many clients as there are turns.
    fn start(turns: Vec<Turn>) -> Self {
        let mut server = Self::none();
        let listener = UnixListener::bind(&server.path).unwrap();
        server.thread = Some(thread::spawn(move || {
            turns.into_iter().map(|turn| turn.take(listener.accept().unwrap().0)).collect()
        }));
        server
    }

    /// Runs the client with the words of `line` in front of the path.
    fn run(&self, line: &str, limits: Limits) -> (Result<()>, String) {
        let words = line.split_whitespace().map(OsString::from);
        let args = words.chain([self.path.clone().into_os_string()]);
        let Ok(Request::Run(asked)) = request::read("pesto", args) else { panic!("{line}") };
        let mut out = Vec::new();
        let result = run(&asked, limits, Ephemeral::read(), &mut out);
        let out = String::from_utf8(out).unwrap();
        (result, out.replace(self.path.to_str().unwrap(), "PATH"))
    }

    /// The complaint of the client about a server.
    fn complaint(&self, line: &str, limits: Limits) -> String {
        let (result, out) = self.run(line, limits);
        assert_eq!(out, "", "{line}");
        let error = format!("{:#}", result.unwrap_err());
        error.replace(self.path.to_str().unwrap(), "PATH")
    }

    /// What the clients sent, one after the other, when all turns are over.
    fn received(mut self) -> Vec<Vec<u8>> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

/// The tables of a pasta with the rules of a command line.
fn tables(line: &str) -> Vec<PifTable> {
    let empty =
        Pif::ALL.map(|pif| PifTable { pif, caps: Capabilities::ALL, table: Table::default() });
    let words = line.split_whitespace().chain(["sock"]).map(OsString::from);
    let Ok(Request::Run(asked)) = request::read("pesto", words) else { panic!("{line}") };
    change::apply(&asked.commands, &empty, Ephemeral::read()).unwrap()
}

const RULES: &str = "-t 127.0.0.1/8000-8001:80-81 -u 53 -T 22";

#[test]
fn shows_the_configuration() {
    let server = Server::start(vec![Turn::Has(tables(RULES)), Turn::Has(tables("")[..1].to_vec())]);
    let (result, out) = server.run("", PATIENT);
    result.unwrap();
    assert_eq!(
        out,
        "passt/pasta configuration (PATH)\n\
         \x20 HOST\n\
         \x20   TCP [127.0.0.1]:8000-8001  =>  80-81 \n\
         \x20   UDP [*]:53  =>  53 \n\
         \x20 SPLICE\n\
         \x20   TCP [*]%lo:22  =>  22 \n"
    );
    let (result, out) = server.run("-s -A", PATIENT);
    result.unwrap();
    assert_eq!(out, "passt/pasta configuration (PATH)\n  HOST\n");
    assert_eq!(server.received(), [Vec::<u8>::new(), Vec::new()]);
}

#[test]
fn changes_and_looks_again() {
    let after = tables("-t 80 -T 22");
    let server = Server::start(vec![Turn::Has(tables(RULES)), Turn::Has(after.clone())]);
    let (result, out) = server.run("-s -t 80", PATIENT);
    result.unwrap();
    assert_eq!(
        out,
        "Previous configuration (PATH)\n\
         \x20 HOST\n\
         \x20   TCP [127.0.0.1]:8000-8001  =>  80-81 \n\
         \x20   UDP [*]:53  =>  53 \n\
         \x20 SPLICE\n\
         \x20   TCP [*]%lo:22  =>  22 \n\
         Updated configuration (PATH)\n\
         \x20 HOST\n\
         \x20   TCP [*]:80  =>  80 \n\
         \x20 SPLICE\n\
         \x20   TCP [*]%lo:22  =>  22 \n"
    );
    assert_eq!(server.received(), [encode_update(&after), vec![]]);
}

#[test]
fn without_show_nothing_is_printed() {
    let after = tables(&format!("{RULES} -U 1"));
    let server = Server::start(vec![Turn::Has(tables(RULES)), Turn::Has(after.clone())]);
    let (result, out) = server.run("--add -U 1", PATIENT);
    result.unwrap();
    assert_eq!(out, "");
    assert_eq!(server.received(), [encode_update(&after), vec![]]);
}

#[test]
fn nothing_is_sent_when_nothing_changes() {
    for line in
        ["-A -u 53", "-A -t 127.0.0.1/8000-8001:80-81 -T 22", "-C SPLICE -T 22", "-A -t 1 -D -t 1"]
    {
        let server = Server::start(vec![Turn::Has(tables(RULES))]);
        let (result, out) = server.run(line, PATIENT);
        result.unwrap();
        assert_eq!(out, "");
        assert_eq!(server.received(), [Vec::<u8>::new()], "{line}");
    }
    let server = Server::start(vec![Turn::Has(tables("-T 1"))]);
    let (result, out) = server.run("-s -A -T 1", PATIENT);
    result.unwrap();
    assert_eq!(out.matches("TCP [*]%lo:1  =>  1 \n").count(), 2, "{out}");
}

#[test]
fn nothing_is_sent_when_something_is_wrong() {
    for (line, wanted) in [
        ("-A -t 1 -t 127.0.0.1/8001:81", "Forwarding configuration conflict: "),
        ("-A -t 1 -D -u 54", "Couldn't find forwarding rule to delete: UDP [*]:54  =>  54"),
        ("-A -t 1 -C TAP", "Unsupported pif name TAP"),
        ("-t 1 -t x", "Invalid port specifier 'x'"),
    ] {
        let server = Server::start(vec![Turn::Has(tables(RULES))]);
        let line = server.complaint(line, PATIENT);
        assert!(line.starts_with(wanted), "{line}");
        assert_eq!(server.received(), [Vec::<u8>::new()], "{line}");
    }
}

#[test]
fn a_server_that_goes_back_to_its_old_rules() {
    let server = Server::start(vec![Turn::Has(tables(RULES)), Turn::Has(tables(RULES))]);
    let (result, out) = server.run("-D -u 53 -A -t 80 -s", PATIENT);
    assert_eq!(
        result.unwrap_err().to_string(),
        "Server didn't make every change\n\
         Rule not in effect in HOST: TCP [*]:80  =>  80 \n\
         Rule still in effect in HOST: UDP [*]:53  =>  53 "
    );
    // What is shown is what is there.
    assert_eq!(out.matches("UDP [*]:53  =>  53").count(), 2, "{out}");
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_server_that_refuses() {
    let server = Server::start(vec![Turn::Refuses(tables(RULES))]);
    let wanted = "Server refused the new rules\nIts own messages say why";
    assert_eq!(server.complaint("-t 80", PATIENT), wanted);
    assert_eq!(server.received(), [[1]]);
}

#[test]
fn servers_of_another_kind() {
    let mut hello = encode_configuration(&[]);
    let with_version = |version| {
        hello[11] = version;
        Turn::Says(hello.clone())
    };
    let mut with_version = with_version;
    let rule_of_a_later_version = {
        let mut bytes = encode_configuration(&tables("-t 1"));
        bytes[20 + 1 + 136 + 55] |= 0x80;
        Turn::Says(bytes)
    };
    for (turn, wanted) in [
        (with_version(0), "Unsupported experimental server protocol"),
        (
            with_version(1),
            "Unsupported old server protocol version 1: its rules have no target address",
        ),
        (with_version(3), "Unknown server protocol version 3"),
        (
            Turn::Says(b"SSH-2.0-OpenSSH_10.0\r\n".to_vec()),
            "Not a configuration socket of passt or pasta",
        ),
        (rule_of_a_later_version, "Invalid configuration from PATH: Unknown flags 0x80 of a rule"),
    ] {
        let server = Server::start(vec![turn]);
        assert_eq!(server.complaint("-t 80", PATIENT), wanted);
        assert_eq!(server.received().len(), 1);
    }
}

#[test]
fn servers_that_close_early() {
    let whole = encode_configuration(&tables(RULES));
    for len in [0, 1, 20, 21, 100, whole.len() - 1] {
        let server = Server::start(vec![Turn::Says(whole[..len].to_vec())]);
        assert_eq!(
            server.complaint("", PATIENT),
            "Server closed the connection before its configuration was complete",
            "{len} bytes"
        );
    }
}

#[test]
fn servers_that_stall() {
    let whole = encode_configuration(&tables(RULES));
    // Bytes that keep coming do not give it more time.
    for bytes in [vec![], whole[..5].to_vec(), whole] {
        let server = Server::start(vec![Turn::Stalls(bytes)]);
        let begin = Instant::now();
        let complaint = server.complaint("-t 80", SHORT);
        assert!(complaint.starts_with("No configuration from PATH within 0.2 s\n"), "{complaint}");
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(server.received(), [Vec::<u8>::new()]);
    }
    let server = Server::start(vec![Turn::Hangs(tables(RULES))]);
    let wanted = "Server didn't finish with the new rules within 0.2 s";
    assert_eq!(server.complaint("-t 80", SHORT), wanted);
}

#[test]
fn no_server() {
    let server = Server::none();
    let wanted = "Couldn't connect to PATH: No such file or directory";
    assert_eq!(server.complaint("-t 80", SHORT), wanted);
    // A socket that a server has left.
    drop(UnixListener::bind(&server.path).unwrap());
    assert_eq!(server.complaint("", SHORT), "Couldn't connect to PATH: Connection refused");
    let long = Asked { path: PathBuf::from("x".repeat(200)), ..Asked::default() };
    let error = run(&long, SHORT, Ephemeral::read(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("Couldn't connect to xxx"), "{error}");
}

#[test]
fn a_server_that_is_starting_is_waited_for() {
    let server = Server::none();
    drop(UnixListener::bind(&server.path).unwrap());
    let path = server.path.clone();
    let starting = thread::spawn(move || {
        let other = path.with_extension("new");
        let listener = UnixListener::bind(&other).unwrap();
        // Long enough for the client to be refused first, as a rule.
        thread::sleep(Duration::from_millis(100));
        std::fs::rename(&other, &path).unwrap();
        let mut stream = listener.accept().unwrap().0;
        stream.write_all(&encode_configuration(&tables(""))).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let (result, out) = server.run("", PATIENT);
    result.unwrap();
    assert_eq!(out, "passt/pasta configuration (PATH)\n  HOST\n  SPLICE\n");
    starting.join().unwrap();
}

#[test]
fn usage_has_every_option() {
    let text = usage("/usr/bin/pesto");
    assert!(text.starts_with("Usage: /usr/bin/pesto [OPTION]... PATH\n"));
    for flag in FLAGS.iter() {
        assert!(text.contains(&format!("--{}", flag.long)), "{}", flag.long);
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

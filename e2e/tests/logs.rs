//! Where messages go, and what they look like there.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use e2e::hypervisor::{Client, Passt, SOON};
use e2e::{Case, SHORT, matrix};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::{Place, until};

matrix!(users:
    system_log_of_passt, system_log_of_pasta, not_to_the_system_log, traces, quiet_to_the_system_log,
    a_log_that_nobody_reads, a_log_that_goes_away, file_of_passt, file_of_pasta, file_with_debug_lines,
    file_in_the_background, rotation, no_file, mistakes,
);

/// A /dev of the rig's own, with a log, of which this is the reading end.
fn system_log(case: &Case<'_>) -> Result<UnixDatagram> {
    let script =
        "mkdir /run/rig/dev; mount -t tmpfs -o mode=755 dev /run/rig/dev; mkdir /run/rig/dev/net
for f in null zero full random urandom net/tun; do
	: > /run/rig/dev/$f; mount --bind /dev/$f /run/rig/dev/$f
done
mount --rbind /run/rig/dev /dev";
    case.rig.run(&Place::Host, SHORT, &["sh", "-euc", script])?;
    let log = UnixDatagram::bind("/dev/log")?;
    fs::set_permissions("/dev/log", fs::Permissions::from_mode(0o666))?;
    log.set_nonblocking(true)?;
    Ok(log)
}

/// The messages that are there.
fn messages(log: &UnixDatagram) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    loop {
        let mut room = [0; 4096];
        match log.recv(&mut room) {
            Ok(len) => {
                messages.push(String::from_utf8(room.get(..len).unwrap_or_default().to_vec())?)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a message with these words.
fn message(log: &UnixDatagram, words: &str) -> Result<String> {
    let mut all = Vec::new();
    let found = until(words, SHORT, || {
        all.extend(messages(log).unwrap_or_default());
        all.iter().any(|message| message.contains(words))
    });
    found.with_context(|| format!("{all:?}"))?;
    all.into_iter().find(|message| message.contains(words)).context("gone")
}

/// Priority, name, process id and text of a message.
fn parts(message: &str) -> Option<(u8, &str, u32, &str)> {
    let (priority, rest) = message.strip_prefix('<')?.split_once('>')?;
    let (name, rest) = rest.split_once('[')?;
    let (pid, text) = rest.split_once("]: ")?;
    Some((priority.parse().ok()?, name, pid.parse().ok()?, text))
}

fn at(case: &Case<'_>, name: &str) -> PathBuf {
    case.rig.tmp().join(name)
}

/// The process id in a file.
fn pid(path: &Path) -> Result<Pid> {
    Pid::from_raw(fs::read_to_string(path)?.trim_end().parse()?).context("no process id")
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Starts passt in the background.
fn daemon(case: &Case<'_>, options: &str) -> Result<(Pid, String)> {
    let (socket, file) = (at(case, "socket"), at(case, "pid"));
    let line = format!("-s {} -P {} {options}", socket.display(), file.display());
    let words: Vec<&str> = line.split_whitespace().collect();
    let outcome = case.rig.passt(case.user)?.args(&words).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    Ok((pid(&file)?, outcome.stderr))
}

fn end(case: &Case<'_>, pid: Pid) -> Result<()> {
    kill_process(pid, Signal::TERM)?;
    case.rig.wait_gone(number(pid), SHORT)
}

/// What standard error gets until passt is in the background, and what it says from there.
fn system_log_of_passt(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    // A queue of ten datagrams would lose some of them.
    let reader = log.try_clone()?;
    reader.set_nonblocking(false)?;
    let reading = std::thread::spawn(move || -> Result<Vec<String>> {
        let mut messages = Vec::new();
        loop {
            let mut room = [0; 4096];
            let len = reader.recv(&mut room)?;
            let message = String::from_utf8(room.get(..len).unwrap_or_default().to_vec())?;
            let last = message.ends_with("Client connection closed");
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    });
    let (daemon, stderr) = daemon(case, "")?;
    Client::connect(&at(case, "socket"))?.alive()?;
    let Ok(messages) = reading.join() else { bail!("the reader failed") };
    let messages = messages?;
    let mut texts = Vec::new();
    let mut pids = Vec::new();
    for message in &messages {
        let (priority, name, pid, text) = parts(message).with_context(|| message.clone())?;
        ensure!([28, 30].contains(&priority) && name == "passt", "{message}");
        texts.push(text);
        pids.push(pid);
    }
    // The limit of the queue may cost some, as nobody waits.
    let early = texts.iter().take_while(|text| !text.starts_with("accepted"));
    ensure!(early.clone().count() > 5, "{messages:?}");
    for text in early {
        ensure!(stderr.lines().any(|line| line == *text), "{text} is not in {stderr}");
    }
    let (Some(first), Some(last)) = (pids.first(), pids.last()) else { bail!("no messages") };
    // In the background it has a PID namespace of its own, where nobody else has a number.
    ensure!(texts.contains(&"accepted connection from PID 0"), "{texts:?}");
    ensure!(first != last && *last == number(daemon), "{pids:?}, daemon {daemon:?}");
    end(case, daemon)
}

/// With a command, warnings only; for a namespace, up to its end.
fn system_log_of_pasta(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    let pasta = case.pasta()?.args(&["--config-net", "-e", "--", "true"]);
    let outcome = pasta.run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    for message in messages(&log)? {
        let (priority, name, ..) = parts(&message).context("no message")?;
        ensure!(priority <= 28 && name == "pasta", "{message}");
    }
    let holder = case.rig.hold(case.user)?;
    let file = at(case, "pid");
    let pasta = case.pasta()?.args(&["-4", "-P", &file.display().to_string()]);
    let outcome = pasta.args(&[holder.pid().to_string()]).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let daemon = number(pid(&file)?);
    messages(&log)?;
    drop(holder);
    let message = message(&log, "Namespace net is gone, exiting")?;
    ensure!(
        parts(&message) == Some((30, "pasta", daemon, "Namespace net is gone, exiting")),
        "{message}"
    );
    case.rig.wait_gone(daemon, SHORT)
}

/// Whoever debugs wants standard error, and whoever names a file that.
fn not_to_the_system_log(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    let file = at(case, "log").display().to_string();
    for options in
        ["-d", "--trace", &format!("-l {file}"), &format!("-d -l {file}"), "--log-file /dev/null"]
    {
        let (daemon, _) = daemon(case, options)?;
        Client::connect(&at(case, "socket"))?.alive()?;
        end(case, daemon)?;
        let messages = messages(&log)?;
        ensure!(messages.is_empty(), "{options}: {messages:?}");
    }
    Ok(())
}

fn quiet_to_the_system_log(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    let (daemon, stderr) = daemon(case, "-q")?;
    let mut client = Client::connect(&at(case, "socket"))?;
    client.alive()?;
    client.send_raw(&[0xff; 8])?;
    client.closed()?;
    let message = message(&log, "Bad frame size from guest")?;
    let (priority, _, pid, _) = parts(&message).context("no message")?;
    ensure!(priority == 27 && pid == number(daemon) && stderr.is_empty(), "{message}, {stderr}");
    end(case, daemon)
}

/// Packets and events are told of to who asks for them, and to nobody else.
fn traces(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log");
    let of_passt = [" event: StreamListener", " from guest: ", ", ARP operation 1", " to guest: "];
    for (options, traced) in [("--trace", true), ("-d", false)] {
        let (daemon, _) = daemon(case, &format!("{options} -l {}", file.display()))?;
        Client::connect(&at(case, "socket"))?.alive()?;
        end(case, daemon)?;
        let lines = fs::read_to_string(&file)?;
        for what in of_passt {
            ensure!(lines.contains(what) == traced, "{options}, {what}: {lines}");
        }
    }
    let ping = ["--config-net", "--", "ping", "-c1", "-W2", "203.0.113.10"];
    let echo = "98 bytes, 203.0.113.2 > 203.0.113.10, ICMP type 8 code 0";
    let of_pasta = [": event: Tap", &format!(": from guest: {echo}")];
    for (options, traced) in [("--trace", true), ("-d", false)] {
        let outcome = case.pasta()?.args(&[&[options], &ping[..]].concat()).run(SHORT)?;
        ensure!(outcome.code() == Some(0), "{outcome:?}");
        for what in of_pasta {
            ensure!(outcome.stderr.contains(what) == traced, "{options}, {what}: {outcome:?}");
        }
    }
    Ok(())
}

/// Messages are lost then, and nothing else happens.
fn a_log_that_nobody_reads(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    let mut passt = Passt::start(case, "")?;
    for _ in 0..50 {
        passt.serves()?;
    }
    let waiting = messages(&log)?.len();
    let said = passt.proc.stderr().lines().count();
    ensure!(waiting > 0 && waiting < said, "{waiting} messages, {said} lines on standard error");
    Ok(())
}

fn a_log_that_goes_away(case: &Case<'_>) -> Result<()> {
    let log = system_log(case)?;
    let mut passt = Passt::start(case, "")?;
    drop(log);
    passt.serves()?;
    passt.serves()?;
    let twice = || passt.proc.stderr().matches("Client connection closed").count() == 2;
    until("both connections to be told of", SOON, twice).with_context(|| passt.proc.stderr())?;
    let said = passt.proc.stderr();
    ensure!(said.matches("The system's log is gone").count() == 1, "{said}");
    passt.proc.signal(Signal::TERM)?;
    ensure!(passt.proc.finish(SHORT)?.code() == Some(0), "status");
    Ok(())
}

/// The lines of a log file behind its header, each with its level and text.
fn entries(text: &str) -> Result<Vec<(&str, &str)>> {
    ensure!(text.ends_with('\n'), "no line break at the end: {text}");
    let mut last = 0.0;
    text.lines()
        .skip(1)
        .map(|line| {
            let (stamp, rest) = line.split_once(": ").with_context(|| line.to_owned())?;
            let (_, decimals) = stamp.split_once('.').with_context(|| line.to_owned())?;
            let seconds: f64 = stamp.parse().with_context(|| line.to_owned())?;
            ensure!(decimals.len() == 4 && seconds >= last, "{line}");
            last = seconds;
            let (level, text) = rest.split_at_checked(9).with_context(|| line.to_owned())?;
            let known = ["ERROR:   ", "WARNING: ", "info:    ", "         "].contains(&level);
            ensure!(known, "{line}");
            Ok((level, text))
        })
        .collect()
}

/// Checks the first line of a log file.
fn header(case: &Case<'_>, text: &str, name: &str, pid: Option<u32>) -> Result<()> {
    let first = text.lines().next().context("an empty file")?;
    let version = env!("CARGO_PKG_VERSION");
    let program = case.rig.installed(name).context("not installed")?;
    let start = format!("{name} {version}: {} (", program.display());
    let number = first.strip_prefix(&start).and_then(|rest| rest.strip_suffix(')'));
    let number: u32 = number.with_context(|| format!("{first}, wanted {start}"))?.parse()?;
    ensure!(pid.is_none_or(|pid| pid == number), "{first}, process {pid:?}");
    Ok(())
}

fn file_of_passt(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log");
    fs::write(&file, "of somebody before\n".repeat(5000))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    let mut passt = Passt::start(case, &format!("--log-file {}", file.display()))?;
    passt.serves()?;
    passt.said("Client connection closed")?;
    passt.proc.signal(Signal::TERM)?;
    let pid = passt.proc.pid();
    let outcome = passt.proc.finish(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let text = fs::read_to_string(&file)?;
    // setpriv(1) becomes the program.
    header(case, &text, "passt", Some(pid))?;
    let entries = entries(&text)?;
    // The same lines as on standard error, but for what comes before the options are read.
    let texts: Vec<&str> = entries.iter().map(|(_, text)| *text).collect();
    ensure!(texts.iter().eq(outcome.stderr.lines().collect::<Vec<_>>().iter()), "{texts:?}");
    ensure!(entries.contains(&("info:    ", "    host: 9a:55:9a:55:9a:55")), "{text}");
    ensure!(entries.contains(&("info:    ", "Client connection closed")), "{text}");
    Ok(())
}

fn file_of_pasta(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log");
    let pasta =
        case.pasta()?.args(&["--config-net", "-l", &file.display().to_string(), "-m", "67"]);
    let outcome = pasta.args(&["--", "true"]).run(SHORT)?;
    ensure!(outcome.code() == Some(0), "{outcome:?}");
    let mode = fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let text = fs::read_to_string(&file)?;
    header(case, &text, "pasta", None)?;
    // The terminal is the command's: warnings only, in both places.
    let entries = entries(&text)?;
    ensure!(
        !entries.is_empty() && entries.iter().all(|(level, _)| *level == "WARNING: "),
        "{text}"
    );
    ensure!(outcome.stderr.lines().eq(entries.iter().map(|(_, text)| *text)), "{outcome:?}");
    Ok(())
}

/// They have no level, and standard error has no stamps then.
fn file_with_debug_lines(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log");
    let passt = Passt::start(case, &format!("-d -l {}", file.display()))?;
    let mut client = passt.connect()?;
    client.alive()?;
    // Nobody listens there.
    let (from, to) = ("203.0.113.2:40000".parse()?, "203.0.113.1:9".parse()?);
    client.datagram(from, to, b"x")?;
    syn(&mut client, "203.0.113.2:40000", "203.0.113.1:9")?;
    let has =
        |text: &str| entries(text).is_ok_and(|all| all.iter().any(|(l, _)| *l == "         "));
    until("a debug line", SOON, || fs::read_to_string(&file).is_ok_and(|text| has(&text)))?;
    let text = fs::read_to_string(&file)?;
    let entries = entries(&text)?;
    let debug = entries.iter().find(|(level, _)| level.trim().is_empty()).context("no line")?;
    // The file comes first.
    let said = || passt.proc.stderr().lines().any(|line| line == debug.1);
    until("the same line on standard error", SOON, said).with_context(|| passt.proc.stderr())
}

/// Asks for a connection to a port.
fn syn(client: &mut Client, from: &str, to: &str) -> Result<()> {
    let (from, to): (std::net::SocketAddr, std::net::SocketAddr) = (from.parse()?, to.parse()?);
    let mut frame = Vec::new();
    let packet = client.packet(from.ip(), to.ip())?.tcp(from.port(), to.port(), 1, 65535).syn();
    packet.write(&mut frame, &[])?;
    client.send(&frame)
}

/// It gets everything, whoever is left to say it.
fn file_in_the_background(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log");
    let (daemon, stderr) = daemon(case, &format!("-l {}", file.display()))?;
    Client::connect(&at(case, "socket"))?.alive()?;
    let closed =
        || fs::read_to_string(&file).is_ok_and(|text| text.contains("Client connection closed\n"));
    until("the last line", SHORT, closed)?;
    let text = fs::read_to_string(&file)?;
    header(case, &text, "passt", None)?;
    let entries = entries(&text)?;
    let mut texts = entries.iter().map(|(_, text)| *text);
    ensure!(stderr.lines().all(|line| texts.next() == Some(line)), "{text}\n{stderr}");
    ensure!(
        texts.next().is_some_and(|text| text.starts_with("accepted connection from PID")),
        "{text}"
    );
    end(case, daemon)
}

/// The file never reaches its size, and all its lines stay whole.
fn rotation(case: &Case<'_>) -> Result<()> {
    const SIZE: u64 = 40960;
    let file = at(case, "log");
    let passt = Passt::start(case, &format!("-d -l {} --log-size {SIZE}", file.display()))?;
    let mut client = passt.connect()?;
    client.alive()?;
    let (mut largest, mut cuts, mut before) = (0, 0, 0);
    for port in 20000..24000 {
        syn(&mut client, &format!("203.0.113.2:{port}"), "203.0.113.1:9")?;
        if port % 50 == 0 {
            client.alive()?;
            let len = fs::metadata(&file)?.len();
            cuts += u32::from(len < before);
            (largest, before) = (largest.max(len), len);
        }
    }
    client.alive()?;
    ensure!(largest < SIZE && largest > SIZE / 2 && cuts > 2, "{largest} bytes, {cuts} cuts");
    let text = fs::read_to_string(&file)?;
    let (first, _) = text.split_once('\n').context("no lines")?;
    let (whole, stamp) =
        first.split_once(" - log truncated at ").with_context(|| first.to_owned())?;
    header(case, whole, "passt", Some(passt.proc.pid()))?;
    ensure!(stamp.trim_end().parse::<f64>().is_ok(), "{first}");
    entries(&text)?;
    passt.proc.signal(Signal::TERM)?;
    ensure!(passt.proc.finish(SHORT)?.code() == Some(0), "status");
    Ok(())
}

/// What cannot be turned over, nor told how full it is.
fn no_file(case: &Case<'_>) -> Result<()> {
    let pipe = at(case, "pipe");
    case.rig.run(&Place::Host, SHORT, &["mkfifo", "-m", "666", &pipe.display().to_string()])?;
    let pipe = pipe.display().to_string();
    for target in ["/dev/null", "/dev/full", &pipe] {
        let passt = Passt::start(case, &format!("-d --log-size 40960 --log-file={target}"))?;
        let mut client = passt.connect()?;
        for port in 20000..22000 {
            syn(&mut client, &format!("203.0.113.2:{port}"), "203.0.113.1:9")?;
        }
        client.alive().with_context(|| target.to_owned())?;
        drop(client);
        passt.proc.signal(Signal::TERM)?;
        let outcome = passt.proc.finish(Duration::from_secs(5))?;
        ensure!(outcome.code() == Some(0), "{target}: {:?}", outcome.code());
    }
    Ok(())
}

fn mistakes(case: &Case<'_>) -> Result<()> {
    let file = at(case, "log").display().to_string();
    for program in [case.rig.passt(case.user)?, case.pasta()?] {
        for (options, wanted) in [
            (format!("-l {file} --log-size 100"), "Invalid --log-size: 100"),
            ("--log-size 40959".to_owned(), "Invalid --log-size: 40959"),
            (format!("--log-size 12x -l {file}"), "Invalid --log-size: 12x"),
            (
                "-l /nonexist/log".to_owned(),
                "Couldn't open log file /nonexist/log: No such file or directory",
            ),
            ("-l /".to_owned(), "Couldn't open log file /: Is a directory"),
        ] {
            let words: Vec<&str> = options.split_whitespace().collect();
            for more in [&["-f"][..], &[]] {
                let outcome = program.clone().args(more).args(&words).run(SHORT)?;
                ensure!(outcome.code() == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
                ensure!(outcome.stderr == format!("{wanted}\n"), "{options}: {outcome:?}");
            }
        }
    }
    ensure!(!at(case, "log").exists(), "the file is there");
    Ok(())
}

use std::path::Path;

use super::*;

/// Tests share one process with threads: what needs a single one runs in a copy that has one.
/// `Command::pre_exec` would do, were there a program to run; a re-exec of the test binary is one.
fn alone(test: &str) -> bool {
    if std::env::var_os("SYS_PROCESS_ALONE").is_some() {
        return true;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("process::tests::{test}"), "--nocapture"])
        .env("SYS_PROCESS_ALONE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

#[test]
fn threads_forbid_a_copy() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stopped.recv());
    let error = spawn(NewNamespaces { user: false, pid: false }, |_| 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    drop(stop);
    let _ = other.join();
}

#[test]
fn statuses_are_those_of_a_shell() {
    let run = |script: &str| {
        let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let status = Child::new(child.id(), pidfd).wait().unwrap();
        let _ = child.try_wait();
        status
    };
    assert_eq!(run("exit 0"), 0);
    assert_eq!(run("exit 37"), 37);
    assert_eq!(run("kill -9 $$"), 137);
    assert_eq!(run("kill -11 $$"), 139);
}

#[test]
fn a_program_that_does_not_exist() {
    let program = Program::new(OsStr::new("no-such-program"), &["no-such-program"]).unwrap();
    assert_eq!(program.exec().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert!(Program::new(OsStr::new("a\0b"), &["a"]).is_err());
}

#[test]
fn programs_are_found_as_execvp_finds_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = std::env::temp_dir().join(format!("find-program-{}", std::process::id()));
    let (one, two) = (directory.join("one"), directory.join("two"));
    for (path, mode) in [(one.join("a"), 0o644), (two.join("a"), 0o755), (one.join("b"), 0o755)] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(one.join("c")).unwrap();
    let search = std::env::join_paths([Path::new("/nonexistent"), &one, &two]).unwrap();
    let find = |name: &str| find_in(&search, OsStr::new(name));
    // What cannot be executed is no program, nor is a directory.
    assert_eq!(find("a"), Some(two.join("a")));
    assert_eq!(find("b"), Some(one.join("b")));
    assert_eq!(find("c"), None);
    assert_eq!(find(""), None);
    assert_eq!(find("d"), None);
    assert_eq!(find(two.join("a").to_str().unwrap()), Some(two.join("a")));
    assert_eq!(find(one.join("a").to_str().unwrap()), None);
    assert!(find_program(OsStr::new("sh")).is_some());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_broken_pipe_is_what_it_was_at_the_start() {
    if std::env::var_os("SYS_PROCESS_ALONE").is_some() {
        let ignored = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
            u64::from_str_radix(mask, 16).unwrap() & 1 << (libc::SIGPIPE - 1) != 0
        };
        assert!(ignored(), "the runtime ignores it");
        crate::signal::restore_pipe().unwrap();
        assert_eq!(ignored(), std::env::var_os("PIPE_IGNORED").is_some());
        return;
    }
    let name = "process::tests::a_broken_pipe_is_what_it_was_at_the_start";
    for (trap, ignored) in [("trap '' PIPE", true), ("trap - PIPE", false)] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{trap}; exec \"$0\" --exact {name} --nocapture")]);
        command.arg(std::env::current_exe().unwrap()).env("SYS_PROCESS_ALONE", "1");
        if ignored {
            command.env("PIPE_IGNORED", "1");
        }
        let status = command.status().unwrap();
        assert!(status.success(), "{trap}: {status}");
    }
}

#[test]
fn mask_and_limit_come_back() {
    let _ = alone("mask_and_limit_come_back") && {
        let line = |name: &str| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with(name)).unwrap().to_owned()
        };
        let before = (line("SigBlk"), rustix::process::getrlimit(Resource::Nofile));
        let inherited = Inherited::take_over().unwrap();
        assert_ne!(line("SigBlk"), before.0);
        inherited.give_back().unwrap();
        assert_eq!(line("SigBlk"), before.0);
        assert_eq!(rustix::process::getrlimit(Resource::Nofile), before.1);
        assert!(Path::new("/proc/self").exists());
        true
    };
}

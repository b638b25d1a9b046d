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

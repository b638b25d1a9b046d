//! Processes in new namespaces. Without the test harness, whose threads would forbid copies of the
//! process.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use sys::process::{NewNamespaces, exit_now, share_one_heap, spawn, spawn_in};
use sys::seccomp::{self, Filter, repair};
use sys::{netns, privileges, unix, watch};

fn main() {
    if !privileges::is_administrator() {
        return eprintln!("skipped: making namespaces needs CAP_SYS_ADMIN");
    }
    a_child_waits_until_it_is_released();
    a_child_in_a_user_namespace_that_we_stay_out_of();
    filters_end_who_calls_something_else();
    memory_of_another_thread_can_be_freed_behind_a_filter();
}

fn a_child_waits_until_it_is_released() {
    let namespaces = NewNamespaces { user: true, pid: true };
    let outside = privileges::Identity::current();
    let mut child = spawn(namespaces, |gate| {
        netns::map_root_to(outside).unwrap();
        let first = std::process::id() == 1 && privileges::Identity::current().uid == 0;
        if gate.wait() && first { 7 } else { 1 }
    })
    .unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    let of = |kind: &str| std::fs::read_link(format!("/proc/{}/ns/{kind}", child.pid())).unwrap();
    for kind in ["user", "net", "mnt", "uts", "ipc"] {
        assert_ne!(of(kind), std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    }
    child.take_release().unwrap().release().unwrap();
    assert_eq!(child.wait().unwrap(), 7);
    assert!(child.take_release().is_none());
    // Without a release there is nothing to wait for.
    let mut child = spawn(namespaces, |gate| if gate.wait() { 1 } else { 9 }).unwrap();
    drop(child.take_release());
    assert_eq!(child.wait().unwrap(), 9);
}

fn a_child_in_a_user_namespace_that_we_stay_out_of() {
    let ours = std::fs::read_link("/proc/self/ns/user").unwrap();
    let mut first = spawn(NewNamespaces { user: true, pid: false }, |gate| u8::from(gate.wait()));
    let first = first.as_mut().unwrap();
    let path = format!("/proc/{}/ns/user", first.pid());
    let user = netns::open(Path::new(&path)).unwrap();
    let namespaces = NewNamespaces { user: false, pid: true };
    let mut second = spawn_in(user.as_fd(), namespaces, |gate| {
        if gate.wait() && std::process::id() == 1 { 5 } else { 1 }
    })
    .unwrap();
    let of = |kind: &str, pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    assert_eq!(of("user", second.pid()), of("user", first.pid()));
    assert_ne!(of("net", second.pid()), of("net", first.pid()));
    assert_eq!(std::fs::read_link("/proc/self/ns/user").unwrap(), ours);
    second.take_release().unwrap().release().unwrap();
    assert_eq!(second.wait().unwrap(), 5);
    let network = netns::open(Path::new("/proc/self/ns/net")).unwrap();
    let error = spawn_in(network.as_fd(), namespaces, |_| 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(22));
    drop(first.take_release());
    assert_eq!(first.wait().unwrap(), 0);
}

fn filters_end_who_calls_something_else() {
    if !seccomp::AVAILABLE {
        return eprintln!("skipped: no filters on this architecture");
    }
    let status = |table, job: &dyn Fn() -> bool| {
        let filter = Filter::new(table).unwrap();
        let namespaces = NewNamespaces { user: true, pid: true };
        let child = spawn(namespaces, |_| {
            filter.apply().unwrap();
            u8::from(job())
        })
        .unwrap();
        child.wait().unwrap()
    };
    const KILLED: u8 = 128 + 31;
    assert_eq!(status(repair::SERVING, &|| false), 0);
    assert_eq!(status(repair::SERVING, &|| std::os::unix::process::parent_id() == 0), KILLED);
    assert_eq!(status(repair::SERVING, &|| unix::connect(c"/nonexistent", None).is_ok()), KILLED);
    // Arguments count: a directory can be opened and a file cannot, a UNIX domain socket can be had and no other.
    let names = || watch::names(c"/", |_| ControlFlow::Break(())).is_ok_and(|name| name.is_some());
    assert_eq!(status(repair::SEARCHING, &names), 1);
    assert_eq!(status(repair::SEARCHING, &|| std::fs::File::open("/proc/version").is_ok()), KILLED);
    assert_eq!(status(repair::SEARCHING, &|| unix::connect(c"/nonexistent", None).is_err()), 1);
    assert_eq!(status(repair::SEARCHING, &|| UdpSocket::bind("127.0.0.1:0").is_ok()), KILLED);
    // It is made before: whether the kernel has it is a question that takes another call.
    let narrower = Filter::new(repair::SERVING).unwrap();
    assert_eq!(status(repair::SEARCHING, &|| narrower.apply().is_ok()), 1);
}

fn memory_of_another_thread_can_be_freed_behind_a_filter() {
    if !seccomp::AVAILABLE {
        return;
    }
    let filter = Filter::new(seccomp::PASTA).unwrap();
    let namespaces = NewNamespaces { user: true, pid: true };
    let child = spawn(namespaces, |_| {
        share_one_heap();
        // Too small to be mapped one by one, and together worth giving back.
        let allocate = || vec![vec![1_u8; 64 << 10]; 200];
        let memory = std::thread::spawn(allocate).join().unwrap();
        filter.apply().unwrap();
        drop(memory);
        exit_now(7)
    });
    assert_eq!(child.unwrap().wait().unwrap(), 7);
}

//! Processes: one in new namespaces for a command, and what a command must find as we found it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, setrlimit,
    waitid,
};

/// The namespaces a new process gets, besides network, mount, UTS and IPC ones of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNamespaces {
    /// A user namespace too, which then owns the others.
    pub user: bool,
    /// A PID namespace too; the process is its pid 1.
    pub pid: bool,
}

impl NewNamespaces {
    fn flags(self) -> libc::c_int {
        let mut flags =
            libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
        if self.user {
            flags |= libc::CLONE_NEWUSER;
        }
        if self.pid {
            flags |= libc::CLONE_NEWPID;
        }
        flags
    }
}

/// A process we started and will wait for.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    gate: Option<OwnedFd>,
}

/// The child's side of the wait until its parent is ready.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Gate {
    /// Waits until the parent calls [`Child::release`]. `false` if it ended without.
    #[must_use]
    pub fn wait(self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0; 1]) {
                Err(Errno::INTR) => {}
                other => return other == Ok(1),
            }
        }
    }
}

/// The parent's side of the wait: dropped unused, it ends the child.
#[derive(Debug)]
pub struct Release(OwnedFd);

impl Release {
    /// Lets the child pass its [`Gate`].
    ///
    /// # Errors
    /// `EPIPE` if it ended before.
    pub fn release(self) -> io::Result<()> {
        Ok(rustix::io::write(self.0, &[1]).map(drop)?)
    }
}

/// Starts a process in new namespaces, which runs `job` and ends with the status it returns.
///
/// # Errors
/// `EBUSY` when other threads run (a copy of the process would find their locks taken for ever);
/// those of `clone(2)`.
pub fn spawn(namespaces: NewNamespaces, job: impl FnOnce(Gate) -> u8) -> io::Result<Child> {
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    match clone(namespaces.flags())? {
        None => {
            drop(release);
            run(|| job(Gate(wait)))
        }
        Some((pid, pidfd)) => Ok(Child { pid, pidfd, gate: Some(release) }),
    }
}

/// As [`spawn`], in a user namespace that we ourselves stay out of. The new namespaces belong to it.
///
/// # Errors
/// As [`spawn`], and those of joining the user namespace.
pub fn spawn_in(
    user: BorrowedFd<'_>,
    namespaces: NewNamespaces,
    job: impl FnOnce(Gate) -> u8,
) -> io::Result<Child> {
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let (answer, question) = pipe_with(PipeFlags::CLOEXEC)?;
    // A copy of us joins, and starts a sibling of its own: a child of ours.
    let Some((_, helper)) = clone(0)? else {
        run(|| {
            let sibling = crate::netns::join_user(user)
                .and_then(|()| clone(namespaces.flags() | libc::CLONE_PARENT));
            match sibling {
                Ok(None) => {
                    drop((release, question));
                    run(|| job(Gate(wait)))
                }
                Ok(Some((pid, _))) => tell(&question, i32::try_from(pid).unwrap_or(-libc::ERANGE)),
                Err(error) => tell(&question, -error.raw_os_error().unwrap_or(libc::EINVAL)),
            }
        })
    };
    drop(question);
    let mut number = [0; 4];
    let answered = rustix::io::retry_on_intr(|| rustix::io::read(&answer, &mut number));
    Child::new(0, helper).wait()?;
    match (answered?, i32::from_ne_bytes(number)) {
        (4, number) if number > 0 => {
            let pid = Pid::from_raw(number).ok_or(Errno::SRCH)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Child { pid: number.unsigned_abs(), pidfd, gate: Some(release) })
        }
        (4, number) => Err(io::Error::from_raw_os_error(-number)),
        _ => Err(io::Error::from_raw_os_error(libc::ECHILD)),
    }
}

fn tell(question: &OwnedFd, number: i32) -> u8 {
    u8::from(rustix::io::write(question, &number.to_ne_bytes()).is_err())
}

/// Copies the process, as `fork(2)` does, and returns the copy's pid and pidfd to the original.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn clone(flags: libc::c_int) -> io::Result<Option<(u32, OwnedFd)>> {
    single_threaded()?;
    let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    let pidfd_slot: *mut RawFd = &mut pidfd;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no CLONE_VM, so the child has a copy of everything, its stack included (a null stack
    // pointer means "where it is"); this is the only thread, so no lock is held in the copy. The
    // kernel writes the pidfd to a variable that outlives the call.
    let pid = unsafe {
        if cfg!(target_arch = "s390x") {
            libc::syscall(libc::SYS_clone, none, flags, pidfd_slot, none, none)
        } else {
            libc::syscall(libc::SYS_clone, flags, none, pidfd_slot, none, none)
        }
    };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(None),
        // SAFETY: the kernel just made this descriptor, close-on-exec, for us.
        Ok(pid) => Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// Waits until threads that were joined are gone for the kernel too, `EBUSY` if others remain.
fn single_threaded() -> io::Result<()> {
    for _ in 0..1000 {
        if std::fs::read_dir("/proc/self/task")?.take(2).count() == 1 {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// Runs what a child has to do and ends it: nothing of it may reach the code of its parent.
pub(crate) fn run(job: impl FnOnce() -> u8) -> ! {
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).unwrap_or(101);
    exit_now(status)
}

/// Our process id as those count who mounted `/proc`: in a new PID namespace we are number 1 only to ourselves.
#[must_use]
pub fn id_outside() -> u32 {
    let link = std::fs::read_link("/proc/self").ok();
    let number = link.and_then(|number| number.to_str()?.parse().ok());
    number.unwrap_or_else(std::process::id)
}

/// Threads that are made from now on allocate from the heap that is there. glibc would give them others, and when
/// much of one is free again, it opens a file (`/proc/sys/vm/overcommit_memory`) to learn how to give it back:
/// whichever thread frees, and whatever it may still call.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: this takes its arguments by value, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Ends the process without running exit handlers, which are the parent's.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(status.into()) }
}

impl Child {
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, gate: None }
    }

    /// Its process id, as seen from our PID namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What lets the child pass its [`Gate`]; `None` if that was taken before.
    pub fn take_release(&mut self) -> Option<Release> {
        self.gate.take().map(Release)
    }

    /// How it ended: its exit status, 128 + n if signal n killed it, `None` while it runs.
    ///
    /// # Errors
    /// Those of `waitid(2)`.
    pub fn try_wait(&self) -> io::Result<Option<u8>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// As [`Child::try_wait`], but waits for the end.
    ///
    /// # Errors
    /// Those of `waitid(2)`.
    pub fn wait(&self) -> io::Result<u8> {
        loop {
            if let Some(status) = self.wait_with(WaitIdOptions::EXITED)? {
                return Ok(status);
            }
        }
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<u8>> {
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.as_ref().and_then(shell_status)),
            Err(Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Child {
    /// The pidfd: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn shell_status(status: &WaitIdStatus) -> Option<u8> {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => status,
        (None, Some(signal)) => 128 + signal,
        (None, None) => return None,
    };
    u8::try_from(code & 0xff).ok()
}

/// What we change for ourselves and a command must find as it was: signal mask, limit of files.
#[derive(Clone, Debug)]
pub struct Inherited {
    mask: SignalMask,
    files: Rlimit,
}

impl Inherited {
    /// Blocks the signals that end us in an orderly way until somebody reads them (`SIGTERM`,
    /// `SIGQUIT`), raises the soft limit of open files to the hard one, and remembers both.
    ///
    /// # Errors
    /// Those of `setrlimit(2)` and `sigprocmask(2)`.
    pub fn take_over() -> io::Result<Self> {
        let mask = SignalMask::block(&[libc::SIGTERM, libc::SIGQUIT])?;
        Ok(Self { mask, files: crate::fd::raise_limit()? })
    }

    /// Gives everything back, and `SIGPIPE` as [`crate::signal::restore_pipe`] does. Handlers do not
    /// survive `execve(2)` anyway.
    ///
    /// # Errors
    /// Those of `setrlimit(2)` and `sigprocmask(2)`.
    pub fn give_back(&self) -> io::Result<()> {
        setrlimit(Resource::Nofile, self.files)?;
        crate::signal::restore_pipe()?;
        self.mask.restore()
    }
}

/// A signal mask of the past.
#[derive(Clone, Copy)]
struct SignalMask(libc::sigset_t);

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask")
    }
}

impl SignalMask {
    /// Blocks `signals` and returns the mask from before.
    fn block(signals: &[libc::c_int]) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigemptyset makes the set valid for sigaddset, which is given valid numbers;
        // sigprocmask reads the one and fills the other.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(before.assume_init()))
        }
    }

    fn restore(&self) -> io::Result<()> {
        // SAFETY: the set came from the kernel; no old set is asked for.
        match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// Asks for `SIGKILL` when the thread that started us ends; `false` takes that back.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn die_with_parent(die: bool) -> io::Result<()> {
    let signal = die.then_some(rustix::process::Signal::KILL);
    Ok(rustix::process::set_parent_process_death_signal(signal)?)
}

/// Where a program is: as `execvp(3)` looks for it, in `PATH` unless `name` has a slash.
#[must_use]
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    find_in(&search, name)
}

fn find_in(search: &OsStr, name: &OsStr) -> Option<PathBuf> {
    let runs = |path: &PathBuf| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(runs);
    }
    if name.is_empty() {
        return None;
    }
    std::env::split_paths(search)
        .map(|directory| Path::new(".").join(directory).join(name))
        .find(runs)
}

/// A program to run in place of ourselves.
#[derive(Clone, Debug)]
pub struct Program {
    file: CString,
    arguments: Vec<CString>,
}

impl Program {
    /// `file` is looked up in `PATH` unless it has a slash; `arguments` include the zeroth.
    ///
    /// # Errors
    /// `InvalidInput` if anything holds a null byte.
    pub fn new<S: AsRef<OsStr>>(file: &OsStr, arguments: &[S]) -> io::Result<Self> {
        let arguments = arguments.iter().map(|argument| CString::new(argument.as_ref().as_bytes()));
        Ok(Self {
            file: CString::new(file.as_bytes())?,
            arguments: arguments.collect::<Result<_, _>>()?,
        })
    }

    /// Replaces the process image, the environment stays. Returns only if that fails.
    ///
    /// # Errors
    /// Those of `execve(2)`.
    pub fn exec(&self) -> io::Result<Infallible> {
        let mut argv: Vec<_> = self.arguments.iter().map(|argument| argument.as_ptr()).collect();
        argv.push(std::ptr::null());
        // SAFETY: file and arguments are null-terminated and alive, and so is the array's end.
        unsafe { libc::execvp(self.file.as_ptr(), argv.as_ptr()) };
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;

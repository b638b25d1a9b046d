//! The filters that a thread has, read back from the kernel: what a test or an auditor wants to see.

use std::io;
use std::mem::size_of;

use rustix::io::Errno;

/// An instruction of a filter (`struct sock_filter`, classic BPF).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// How many to skip if it does not.
    pub jump_false: u8,
    /// The constant.
    pub constant: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());

/// Requests of `ptrace(2)`, of `linux/ptrace.h`.
const DETACH: libc::c_long = 17;
const SEIZE: libc::c_long = 0x4206;
const INTERRUPT: libc::c_long = 0x4207;
const SECCOMP_GET_FILTER: libc::c_long = 0x420c;

/// All filters of the thread with this id, the oldest first: each only takes away from those before it. The
/// thread is stopped for a moment.
///
/// Takes `CAP_SYS_ADMIN` in the initial user namespace, and no filter of one's own.
///
/// # Errors
/// Those of `ptrace(2)`.
pub fn filters_of(thread: u32) -> io::Result<Vec<Vec<Instruction>>> {
    let traced = Traced::seize(thread)?;
    let mut filters = Vec::new();
    loop {
        match traced.filter(filters.len()) {
            Ok(filter) => filters.push(filter),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(filters),
            // It has none at all.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && filters.is_empty() => {
                return Ok(filters);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A thread that has been stopped, and goes on when this is dropped.
struct Traced(libc::pid_t);

impl Traced {
    fn seize(thread: u32) -> io::Result<Self> {
        let thread = libc::pid_t::try_from(thread).map_err(|_| Errno::SRCH)?;
        let nothing = std::ptr::null_mut();
        // SAFETY: neither request takes memory.
        unsafe {
            request(SEIZE, thread, 0, nothing)?;
        }
        let traced = Self(thread);
        // SAFETY: as above.
        unsafe {
            request(INTERRUPT, thread, 0, nothing)?;
        }
        // SAFETY: no memory is involved: a null pointer means that nobody asks for the status.
        let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        if stopped == -1 { Err(io::Error::last_os_error()) } else { Ok(traced) }
    }

    fn filter(&self, index: usize) -> io::Result<Vec<Instruction>> {
        // SAFETY: without a buffer, nothing but the length is told.
        let length = unsafe { request(SECCOMP_GET_FILTER, self.0, index, std::ptr::null_mut())? };
        let mut filter = vec![Instruction::default(); usize::try_from(length).unwrap_or(0)];
        // SAFETY: the filter, which cannot change, has just as many instructions as the buffer has room for,
        // and any bytes are an instruction.
        unsafe { request(SECCOMP_GET_FILTER, self.0, index, filter.as_mut_ptr().cast())? };
        Ok(filter)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // SAFETY: no memory is involved. If the thread has ended there is nothing to leave.
        let _ = unsafe { request(DETACH, self.0, 0, std::ptr::null_mut()) };
    }
}

/// # Safety
/// `data` is what the request asks for.
unsafe fn request(
    request: libc::c_long,
    thread: libc::pid_t,
    address: usize,
    data: *mut libc::c_void,
) -> io::Result<libc::c_long> {
    // SAFETY: the caller's.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, thread, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

//! Words for errors.

use std::ffi::CStr;
use std::fmt;
use std::io;

/// What errors are called where C libraries differ: the words of glibc, which other programs and people
/// look for, also in static programs, whose C library has others.
const WORDS: [(i32, &str); 28] = [
    (libc::EIO, "Input/output error"),
    (libc::ECHILD, "No child processes"),
    (libc::ENOMEM, "Cannot allocate memory"),
    (libc::EBUSY, "Device or resource busy"),
    (libc::EXDEV, "Invalid cross-device link"),
    (libc::EMFILE, "Too many open files"),
    (libc::ENOTTY, "Inappropriate ioctl for device"),
    (libc::ESPIPE, "Illegal seek"),
    (libc::ERANGE, "Numerical result out of range"),
    (libc::ENAMETOOLONG, "File name too long"),
    (libc::ELOOP, "Too many levels of symbolic links"),
    (libc::EOVERFLOW, "Value too large for defined data type"),
    (libc::EUSERS, "Too many users"),
    (libc::ENOTSOCK, "Socket operation on non-socket"),
    (libc::EMSGSIZE, "Message too long"),
    (libc::EOPNOTSUPP, "Operation not supported"),
    (libc::EADDRINUSE, "Address already in use"),
    (libc::EADDRNOTAVAIL, "Cannot assign requested address"),
    (libc::ENETUNREACH, "Network is unreachable"),
    (libc::ENETRESET, "Network dropped connection on reset"),
    (libc::ECONNABORTED, "Software caused connection abort"),
    (libc::EISCONN, "Transport endpoint is already connected"),
    (libc::ENOTCONN, "Transport endpoint is not connected"),
    (libc::ESHUTDOWN, "Cannot send after transport endpoint shutdown"),
    (libc::ETIMEDOUT, "Connection timed out"),
    (libc::EHOSTUNREACH, "No route to host"),
    (libc::EINPROGRESS, "Operation now in progress"),
    (libc::EDQUOT, "Disk quota exceeded"),
];

fn words(number: i32) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == number).map(|(_, words)| *words)
}

/// The text for an error, as other programs show it: without Rust's number behind it.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    Reason(error).to_string()
}

/// The same text, made without an allocation: for programs that may not ask for memory any more.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a>(pub &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(number) = self.0.raw_os_error() else {
            return write!(f, "{}", self.0);
        };
        if let Some(words) = words(number) {
            return f.write_str(words);
        }
        let mut text = [0; 128];
        // SAFETY: at most as many bytes as the buffer has are written to it.
        unsafe { libc::strerror_r(number, text.as_mut_ptr().cast(), text.len()) };
        // What is cut off, if anything, leaves the zero at the end in place.
        match CStr::from_bytes_until_nul(&text).map(CStr::to_str) {
            Ok(Ok(text)) if !text.is_empty() => f.write_str(text),
            _ => write!(f, "error {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_others_look_for() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(reason(&io::Error::other("own words")), "own words");
    }

    #[test]
    fn own_words_are_those_of_glibc() {
        for number in 1..140 {
            let error = io::Error::from_raw_os_error(number);
            let text = error.to_string();
            let text = text.strip_suffix(&format!(" (os error {number})")).unwrap();
            if cfg!(target_env = "gnu") || words(number).is_none() {
                assert_eq!(reason(&error), text);
            }
        }
        let in_use = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(reason(&in_use), "Address already in use");
    }
}

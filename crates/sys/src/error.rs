//! Words for errors.

use std::ffi::CStr;
use std::fmt;
use std::io;

/// The C library's text for an error, as other programs show it: without Rust's number behind it.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => match text.strip_suffix(&format!(" (os error {number})")) {
            Some(text) => text.to_owned(),
            None => text,
        },
        None => text,
    }
}

/// The same text, made without an allocation: for programs that may not ask for memory any more.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a>(pub &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(number) = self.0.raw_os_error() else {
            return write!(f, "{}", self.0);
        };
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
    fn both_ways_to_the_text_agree() {
        for number in 1..140 {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Reason(&error).to_string(), reason(&error));
        }
        assert_eq!(Reason(&io::Error::other("own words")).to_string(), "own words");
    }
}

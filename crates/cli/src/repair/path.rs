//! Paths of sockets, without an allocation.

use std::ffi::CStr;
use std::fmt::{self, Write as _};

use sys::unix::LONGEST;

/// A path that is short enough for a socket, up to a zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketPath([u8; LONGEST + 1]);

impl SocketPath {
    /// `name` in `directory`; `None` if that is too long.
    pub(super) fn within(directory: &CStr, name: &CStr) -> Option<Self> {
        let directory = directory.to_bytes();
        let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
        let mut path = [0; LONGEST + 1];
        let mut len = 0;
        for part in [directory, slash, name.to_bytes_with_nul()] {
            let end = len + part.len();
            path.get_mut(len..end)?.copy_from_slice(part);
            len = end;
        }
        Some(Self(path))
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_c_str(), f)
    }
}

/// A path for a message, which stays in its line whatever the path has in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a>(pub(super) &'a CStr);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.to_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    f.write_char(c)?;
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn names_within_directories() {
        for (directory, name, wanted) in
            [(c"/run", c"a.repair", c"/run/a.repair"), (c"/", c"b", c"/b"), (c".", c"c", c"./c")]
        {
            assert_eq!(SocketPath::within(directory, name).unwrap().as_c_str(), wanted);
        }
        let long = CString::new(vec![b'x'; 100]).unwrap();
        assert_eq!(SocketPath::within(&long, c"123456").unwrap().as_c_str().count_bytes(), 107);
        assert_eq!(SocketPath::within(&long, c"1234567"), None);
    }

    #[test]
    fn one_line_whatever_the_name() {
        let shown = Shown(c"/\xc3\xa4 b\n\x1b[2J\xff.repair").to_string();
        assert_eq!(shown, "/ä b\\n\\u{1b}[2J\u{fffd}.repair");
    }
}

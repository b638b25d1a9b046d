//! Lines in fixed room: a message must not need memory, however little there is.

use std::fmt;
use std::time::Duration;

/// Text of at most `N` bytes. What has no room is cut off, at a character.
#[derive(Debug)]
pub(super) struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    /// The text of `arguments`, with a line break at its end if there is `ended`.
    pub(super) fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; N], len: 0 };
        // It takes what it can.
        let _ = fmt::write(&mut line, arguments);
        line
    }

    /// As [`Line::new`], with a line break at the end in any case.
    pub(super) fn ended(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Self::new(arguments);
        line.len = line.len.min(N - 1);
        if let Some(last) = line.bytes.get_mut(line.len) {
            *last = b'\n';
            line.len += 1;
        }
        line
    }

    /// The text in bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut len = text.len().min(N - self.len);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let (from, to) = (text.as_bytes().get(..len), self.bytes.get_mut(self.len..self.len + len));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
            self.len += len;
        }
        // Nothing behind a gap.
        if len == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Seconds since the start with four decimals: `12.0345`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(pub(super) Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0.as_secs(), self.0.subsec_micros() / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_cut_off() {
        assert_eq!(Line::<8>::new(format_args!("{}", 1234)).text(), "1234");
        assert_eq!(Line::<8>::new(format_args!("{}{}{}", "12345", "6789", "x")).text(), "12345678");
        assert_eq!(Line::<4>::new(format_args!("aäöü")).text(), "aä");
        assert_eq!(Line::<8>::ended(format_args!("1234567")).text(), "1234567\n");
        assert_eq!(Line::<8>::ended(format_args!("12345678")).text(), "1234567\n");
        assert_eq!(Line::<8>::ended(format_args!("")).text(), "\n");
    }

    #[test]
    fn stamps() {
        assert_eq!(Stamp(Duration::from_micros(12_034_567)).to_string(), "12.0345");
        assert_eq!(Stamp(Duration::ZERO).to_string(), "0.0000");
    }
}

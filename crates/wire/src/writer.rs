//! Appending to a caller's buffer, all or nothing per piece.

/// A position in a buffer of fixed size. Every `put` writes its whole argument or nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the first byte of `buf`, whose length is the limit.
    #[must_use]
    pub const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// How many bytes still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.buf.len().saturating_sub(self.at)
    }

    /// What was written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.buf.get(..self.at).unwrap_or_default()
    }

    /// What was written, to be patched.
    pub fn written_mut(&mut self) -> &mut [u8] {
        self.buf.get_mut(..self.at).unwrap_or_default()
    }

    /// Takes back everything after the first `len` bytes; more than were written changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.at = self.at.min(len);
    }

    /// Appends bytes; `None` if they do not fit.
    #[must_use = "what does not fit is not written"]
    pub fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.buf.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// Appends one byte.
    #[must_use = "what does not fit is not written"]
    pub fn put_u8(&mut self, value: u8) -> Option<()> {
        self.put(&[value])
    }

    /// Appends 16 bits in network byte order.
    #[must_use = "what does not fit is not written"]
    pub fn put_u16(&mut self, value: u16) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Appends 32 bits in network byte order.
    #[must_use = "what does not fit is not written"]
    pub fn put_u32(&mut self, value: u32) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Appends `n` zero bytes.
    #[must_use = "what does not fit is not written"]
    pub fn zeros(&mut self, n: usize) -> Option<()> {
        let end = self.at.checked_add(n)?;
        self.buf.get_mut(self.at..end)?.fill(0);
        self.at = end;
        Some(())
    }

    /// Overwrites bytes written before, from `at` on; `None` if they reach beyond them.
    #[must_use = "what does not fit is not written"]
    pub fn patch(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        let end = at.checked_add(bytes.len())?;
        self.written_mut().get_mut(at..end)?.copy_from_slice(bytes);
        Some(())
    }

    /// Runs `f` and, if it gives up, takes back whatever it wrote.
    pub fn atomically(&mut self, f: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.at;
        let done = f(self);
        if done.is_none() {
            self.truncate(start);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_nothing() {
        let mut buf = [0xee; 6];
        let mut w = Writer::new(&mut buf);
        assert!(w.is_empty());
        assert_eq!(w.put(&[1, 2, 3]), Some(()));
        assert_eq!(w.put_u32(7), None);
        assert_eq!(w.zeros(4), None);
        assert_eq!((w.len(), w.room()), (3, 3));
        let gave_up = w.atomically(|w| {
            w.put_u16(9)?;
            w.put_u16(9)
        });
        assert_eq!((gave_up, w.len()), (None, 3));
        assert_eq!(w.patch(2, &[8, 8]), None);
        assert_eq!(w.patch(1, &[8, 9]), Some(()));
        assert_eq!(w.written(), [1, 8, 9]);
    }
}

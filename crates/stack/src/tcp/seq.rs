//! Sequence numbers (RFC 9293 3.4): arithmetic modulo 2^32, comparisons by half the space.

use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// Whether `self` comes before `other`.
    pub(crate) const fn before(self, other: Self) -> bool {
        // The difference, read as a signed number, is negative.
        self.0.wrapping_sub(other.0) > i32::MAX as u32
    }

    /// Whether `self` comes after `other`.
    pub(crate) const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The later of the two.
    pub(crate) const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    pub(crate) const fn min(self, other: Self) -> Self {
        if other.before(self) { other } else { self }
    }

    /// Bytes from `earlier` to `self`, 0 if `self` comes before it.
    pub(crate) const fn since(self, earlier: Self) -> u32 {
        if self.before(earlier) { 0 } else { self.0.wrapping_sub(earlier.0) }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, rhs: u32) -> Self {
        Self(self.0.wrapping_sub(rhs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_wrap() {
        let (a, b) = (Seq(u32::MAX - 5), Seq(10));
        assert!(a.before(b) && b.after(a) && !a.before(a));
        assert_eq!((b.since(a), a.since(b)), (16, 0));
        assert_eq!((a.max(b), a.min(b)), (b, a));
        assert_eq!((a + 16, b - 16), (b, a));
    }
}

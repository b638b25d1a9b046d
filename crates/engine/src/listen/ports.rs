//! Sets of ports.

/// Words of 64 ports each.
const WORDS: usize = 1024;

/// A set of ports, one bit each.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ports(Box<[u64; WORDS]>);

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl Ports {
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn insert(&mut self, port: u16) {
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
    }

    pub(super) fn contains(&self, port: u16) -> bool {
        self.0.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 == 1)
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= more;
        }
    }

    /// Removes those that are in `other`.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (word, less) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= !less;
        }
    }

    /// All of them, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..).zip(self.0.iter()).filter(|(_, word)| **word != 0).flat_map(|(index, &word)| {
            (0..64u16).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sets() {
        let mut ports = Ports::default();
        for port in [65535, 0, 63, 64, 8080] {
            ports.insert(port);
        }
        assert_eq!(ports.iter().collect::<Vec<_>>(), [0, 63, 64, 8080, 65535]);
        assert!(ports.contains(8080) && !ports.contains(8081));
        let mut less = Ports::default();
        less.insert(64);
        less.insert(65);
        ports.subtract(&less);
        assert_eq!(ports.iter().collect::<Vec<_>>(), [0, 63, 8080, 65535]);
        ports.extend(&less);
        assert!(ports.contains(65));
        ports.clear();
        assert_eq!(ports, Ports::default());
    }
}

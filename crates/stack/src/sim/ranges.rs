//! Sets of positions.

/// Half-open ranges, sorted, neither touching nor overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `start..end`; how many positions were new.
    pub fn insert(&mut self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        let first = self.0.partition_point(|&(_, e)| e < start);
        let mut last = first;
        let (mut low, mut high, mut known) = (start, end, 0);
        while let Some(&(s, e)) = self.0.get(last).filter(|&&(s, _)| s <= end) {
            known += e.min(end).saturating_sub(s.max(start));
            low = low.min(s);
            high = high.max(e);
            last += 1;
        }
        if last == first + 1 {
            self.0[first] = (low, high);
        } else {
            self.0.splice(first..last, [(low, high)]);
        }
        end - start - known
    }

    /// Whether all of `start..end` is in the set.
    pub fn contains(&self, start: u64, end: u64) -> bool {
        self.0.iter().any(|&(s, e)| s <= start && end <= e)
    }

    /// End of the range that `position` is in, else `position`.
    pub fn end_of(&self, position: u64) -> u64 {
        self.0.iter().find(|&&(s, e)| s <= position && position < e).map_or(position, |&(_, e)| e)
    }

    /// Forgets everything below `position`.
    pub fn forget_below(&mut self, position: u64) {
        self.0.retain(|&(_, e)| e > position);
        if let Some(first) = self.0.first_mut() {
            first.0 = first.0.max(position);
        }
    }

    /// The ranges, from low to high.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Positions in the set.
    pub fn len(&self) -> u64 {
        self.iter().map(|(s, e)| e - s).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// End of the highest range.
    pub fn highest(&self) -> Option<u64> {
        self.0.last().map(|&(_, e)| e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    #[test]
    fn as_a_bitmap_would() {
        let mut rng = Rng::new(5);
        for _ in 0..200 {
            let mut ranges = Ranges::default();
            let mut bits = [false; 64];
            for _ in 0..12 {
                let start = rng.below(60);
                let end = start + rng.below(64 - start);
                let new = (start..end).filter(|&i| !bits[i as usize]).count() as u64;
                bits[start as usize..end as usize].fill(true);
                assert_eq!(ranges.insert(start, end), new);
            }
            for i in 0..64 {
                assert_eq!(ranges.contains(i, i + 1), bits[i as usize]);
            }
            assert_eq!(ranges.len(), bits.iter().filter(|&&bit| bit).count() as u64);
            let ends: Vec<_> = ranges.iter().collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ends:?}");
        }
    }
}

//! Values by number, where a number that is used again is another one.

/// Names a value for its lifetime: an index below 2^32, and a generation below 2^28.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    index: u32,
    generation: u32,
}

impl Slot {
    /// Bits that [`to_bits`](Self::to_bits) uses.
    pub const BITS: u32 = 60;
    const INDEX_BITS: u32 = 32;
    const GENERATION_MASK: u32 = (1 << (Self::BITS - Self::INDEX_BITS)) - 1;

    /// As a number below 2^60.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << Self::INDEX_BITS | u64::from(self.index)
    }

    /// The slot that these bits stand for; what is above the lowest 60 is ignored.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the index")]
    pub fn from_bits(bits: u64) -> Self {
        let generation = (bits >> Self::INDEX_BITS) as u32 & Self::GENERATION_MASK;
        Self { index: bits as u32, generation }
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A growing array of values whose places are used again.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a value made by `make`, which is told its number. An error of `make` leaves everything as it
    /// was. `None` if all numbers are taken.
    pub fn try_insert_with<E>(
        &mut self,
        make: impl FnOnce(Slot) -> Result<T, E>,
    ) -> Option<Result<Slot, E>> {
        let index = match self.free.last() {
            Some(&index) => index,
            None => {
                let index = u32::try_from(self.entries.len()).ok()?;
                self.entries.push(Entry { generation: 0, value: None });
                self.free.push(index);
                index
            }
        };
        let entry = self.entries.get_mut(index as usize)?;
        let slot = Slot { index, generation: entry.generation };
        Some(make(slot).map(|value| {
            entry.value = Some(value);
            self.free.pop();
            slot
        }))
    }

    /// The value with this number, if it still lives.
    pub fn get(&self, slot: Slot) -> Option<&T> {
        let entry = self.entries.get(slot.index as usize)?;
        entry.value.as_ref().filter(|_| entry.generation == slot.generation)
    }

    /// The value with this number, if it still lives.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        entry.value.as_mut().filter(|_| entry.generation == slot.generation)
    }

    /// Removes a value and hands it back.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        if entry.generation != slot.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & Slot::GENERATION_MASK;
        self.free.push(slot.index);
        Some(value)
    }

    /// Every number in use with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        (0..).zip(&self.entries).filter_map(|(index, entry)| {
            let slot = Slot { index, generation: entry.generation };
            entry.value.as_ref().map(|value| (slot, value))
        })
    }

    /// Every value.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_reused_for_another_value() {
        let mut slab = Slab::default();
        let add = |slab: &mut Slab<u16>, n| slab.try_insert_with(|_| Ok::<_, ()>(n)).unwrap();
        let first = add(&mut slab, 1).unwrap();
        assert_eq!(slab.remove(first), Some(1));
        assert_eq!(slab.remove(first), None);
        let second = add(&mut slab, 2).unwrap();
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 2));
        assert_eq!(Slot::from_bits(second.to_bits() | 7 << 60), second);
        assert_eq!(slab.try_insert_with(|_| Err::<u16, _>("no")), Some(Err("no")));
        let third = add(&mut slab, 3).unwrap();
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &2), (third, &3)]);
        assert_eq!(slab.len(), 2);
        slab.values_mut().for_each(|value| *value += 10);
        assert_eq!((slab.get(second), slab.get(third)), (Some(&12), Some(&13)));
    }
}

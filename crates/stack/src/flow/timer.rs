//! A hierarchical timer wheel: one place where every flow's next deadline waits.
//!
//! A flow remembers for when it is armed, arms again only for something earlier, and on a wake-up that came
//! too early arms for what is left: deadlines that move later (an RTO on every ACK) cost nothing. Entries of
//! flows that end are cancelled where there may be many of them.
//! (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels".)

use super::FlowId;
use crate::time::Instant;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
const NIL: u32 = u32::MAX;

/// Ticks in a slot of `level`, as a power of two.
#[expect(clippy::cast_possible_truncation, reason = "levels are few")]
const fn shift(level: usize) -> u32 {
    SLOT_BITS * level as u32
}

/// Which slot of its level a position falls into.
#[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
const fn slot_of(position: u64) -> usize {
    (position % SLOTS as u64) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(tick: u64) -> u32 {
    tick as u32
}

/// Level and slot as one number.
#[expect(clippy::cast_possible_truncation, reason = "there are 256 places")]
const fn place(level: usize, slot: usize) -> u16 {
    (level * SLOTS + slot) as u16
}

#[derive(Clone, Copy, Debug)]
struct Node<I> {
    tick: u64,
    id: I,
    next: u32,
    prev: u32,
    /// Level and slot, or [`FREE`].
    place: u16,
}

/// The place of a node that is not in use.
const FREE: u16 = u16::MAX;

/// Names an entry until it has been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    index: u32,
    /// The low half of the tick: enough to tell an entry from its successors in the same place.
    tick: u32,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    slots: [u32; SLOTS],
    occupied: u64,
}

/// Deadlines of flows, named by `I`, kept in ticks of one millisecond, rounded up: nothing fires early.
#[derive(Debug)]
pub struct TimerWheel<I = FlowId> {
    levels: [Level; LEVELS],
    nodes: Vec<Node<I>>,
    free: u32,
    /// Every tick before this one has been delivered.
    now: u64,
}

impl<I: Copy + Eq> TimerWheel<I> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            levels: [Level { slots: [NIL; SLOTS], occupied: 0 }; LEVELS],
            nodes: Vec::new(),
            free: NIL,
            now: now.millis(),
        }
    }

    /// Wakes `id` at `deadline`, or at the next [`poll`](Self::poll) if that has passed.
    pub fn arm(&mut self, id: I, deadline: Instant) -> Timer {
        let tick = deadline.nanos().div_ceil(1_000_000).max(self.now);
        let node = Node { tick, id, next: NIL, prev: NIL, place: FREE };
        let index = if let Some(slot) = self.nodes.get_mut(self.free as usize) {
            let index = self.free;
            self.free = slot.next;
            *slot = node;
            index
        } else {
            // There cannot be 2^32 of them: memory ends first.
            let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
            self.nodes.push(node);
            index
        };
        self.link(index, tick);
        Timer { index, tick: low(tick) }
    }

    /// Forgets an entry of `id`, unless it has been delivered.
    pub fn cancel(&mut self, id: I, timer: Timer) {
        let waiting = self.nodes.get(timer.index as usize).is_some_and(|node| {
            node.place != FREE && node.id == id && low(node.tick) == timer.tick
        });
        if waiting {
            self.unlink(timer.index);
        }
    }

    /// Delivers one entry that is due at `now`; call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<I> {
        let now = now.millis();
        loop {
            let slot = slot_of(self.now);
            let head = self.levels[0].slots[slot];
            if let Some(node) = self.nodes.get(head as usize) {
                if self.now > now {
                    return None;
                }
                let id = node.id;
                self.unlink(head);
                return Some(id);
            }
            if self.now >= now {
                return None;
            }
            self.advance(now);
        }
    }

    /// When [`poll`](Self::poll) may next have something to deliver. Never late; early at most once per
    /// level for a far deadline.
    pub fn next(&self) -> Option<Instant> {
        (0..LEVELS).filter_map(|level| self.next_in(level)).min().map(Instant::from_millis)
    }

    /// First tick at which a slot of `level` is to be delivered (level 0) or spread (others).
    fn next_in(&self, level: usize) -> Option<u64> {
        let occupied = self.levels[level].occupied;
        if occupied == 0 {
            return None;
        }
        let shift = shift(level);
        let current = self.now >> shift;
        // The slot of the current position is due now on level 0; above, it was spread when it was
        // entered, so what stands there belongs to the next turn.
        let first = current + u64::from(level > 0);
        // Bits of the mask are slots: counted from the first position on, in the order of positions.
        #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
        let ahead = occupied.rotate_right(slot_of(first) as u32).trailing_zeros();
        Some((first + u64::from(ahead)) << shift)
    }

    /// Moves on to the next tick at which something happens, at most to `limit`.
    fn advance(&mut self, limit: u64) {
        let next = (0..LEVELS).filter_map(|level| self.next_in(level)).min().unwrap_or(limit);
        // Nothing is due at the current tick: level 0 was seen empty there.
        self.now = next.clamp(self.now + 1, limit.max(self.now + 1));
        for level in (1..LEVELS).rev() {
            let shift = shift(level);
            if self.now % (1 << shift) == 0 {
                self.spread(level, slot_of(self.now >> shift));
            }
        }
    }

    fn spread(&mut self, level: usize, slot: usize) {
        let mut index = std::mem::replace(&mut self.levels[level].slots[slot], NIL);
        self.levels[level].occupied &= !(1 << slot);
        while let Some(node) = self.nodes.get(index as usize).copied() {
            self.link(index, node.tick);
            index = node.next;
        }
    }

    fn link(&mut self, index: u32, tick: u64) {
        let tick = tick.max(self.now);
        let level = (0..LEVELS)
            .find(|&level| (tick >> shift(level)) - (self.now >> shift(level)) < SLOTS as u64)
            .unwrap_or(LEVELS - 1);
        let shift = shift(level);
        // Beyond the last level's reach: parked at its far end and linked again from there.
        let reach = (self.now >> shift) + SLOTS as u64 - 1;
        let position = (tick >> shift).min(reach);
        let slot = slot_of(position);
        let head = std::mem::replace(&mut self.levels[level].slots[slot], index);
        self.levels[level].occupied |= 1 << slot;
        if let Some(next) = self.nodes.get_mut(head as usize) {
            next.prev = index;
        }
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.next = head;
            node.prev = NIL;
            node.place = place(level, slot);
        }
    }

    /// Takes an entry out of its slot and frees it.
    fn unlink(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        let Node { next, prev, place, .. } = *node;
        node.next = std::mem::replace(&mut self.free, index);
        node.place = FREE;
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.prev = prev;
        }
        if let Some(prev) = self.nodes.get_mut(prev as usize) {
            prev.next = next;
            return;
        }
        let (level, slot) = (usize::from(place) / SLOTS, usize::from(place) % SLOTS);
        if let Some(level) = self.levels.get_mut(level) {
            level.slots[slot] = next;
            if next == NIL {
                level.occupied &= !(1 << slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(n: u64) -> FlowId {
        FlowId::from_cookie(1 << 60 | n).unwrap()
    }

    /// Against a sorted map: each entry comes at its own millisecond, however the clock jumps.
    #[test]
    fn delivers_what_a_sorted_map_would() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut now = 1_234_567;
        let mut wheel = TimerWheel::new(Instant::from_millis(now));
        let mut model: BTreeMap<(u64, u64), ()> = BTreeMap::new();
        for n in 0..20_000 {
            let span = [1, 5, 70, 5_000, 300_000, 20_000_000, 40_000_000][(next() % 7) as usize];
            let due = now + next() % span;
            let timer = wheel.arm(id(n), Instant::from_millis(due));
            if next() % 3 == 0 {
                wheel.cancel(id(n), timer);
                wheel.cancel(id(n), timer);
            } else {
                model.insert((due, n), ());
            }
            if next() % 4 != 0 {
                continue;
            }
            now = match wheel.next() {
                Some(at) if next() % 2 == 0 => at.millis().max(now),
                _ => now + next() % span,
            };
            let mut got: Vec<_> =
                std::iter::from_fn(|| wheel.poll(Instant::from_millis(now))).collect();
            let mut due: Vec<_> =
                model.keys().take_while(|(at, _)| *at <= now).map(|(_, n)| id(*n)).collect();
            model.retain(|(at, _), ()| *at > now);
            got.sort_by_key(|id| id.to_cookie());
            due.sort_by_key(|id| id.to_cookie());
            assert_eq!(got, due, "at {now}");
            if let (Some(at), Some(((first, _), ()))) = (wheel.next(), model.first_key_value()) {
                assert!(at.millis() <= *first, "next() is late: {at:?}, first is due at {first}");
            }
        }
    }

    #[test]
    fn rounds_up_and_stays_quiet_when_empty() {
        let mut wheel = TimerWheel::new(Instant::from_millis(10));
        assert_eq!(wheel.next(), None);
        wheel.arm(id(1), Instant::from_nanos(11_000_001));
        assert_eq!(wheel.poll(Instant::from_nanos(11_999_999)), None);
        assert_eq!(wheel.poll(Instant::from_millis(12)), Some(id(1)));
        assert_eq!(wheel.poll(Instant::from_millis(12)), None);
        assert_eq!(wheel.next(), None);
    }
}

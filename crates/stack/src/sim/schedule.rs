//! Virtual time: what happens next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::time::Instant;

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest; at one time, first come first served.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Events in the order of their times.
#[derive(Debug)]
pub struct Schedule<E> {
    heap: BinaryHeap<Entry<E>>,
    order: u64,
}

impl<E> Schedule<E> {
    /// An empty schedule.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(1024), order: 0 }
    }

    /// Adds `event` at `at`.
    pub fn push(&mut self, at: Instant, event: E) {
        self.order += 1;
        self.heap.push(Entry { at, order: self.order, event });
    }

    /// Time of the next event.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The next event that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<E> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.event)
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_by_arrival() {
        let mut schedule = Schedule::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            schedule.push(Instant::from_millis(at), event);
        }
        assert_eq!(schedule.pop(Instant::from_millis(0)), None);
        let all: String = std::iter::from_fn(|| schedule.pop(Instant::from_millis(9))).collect();
        assert_eq!(all, "abcd");
        assert_eq!(schedule.next(), None);
    }
}

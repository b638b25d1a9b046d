//! Bytes of the guest that we had to keep: what the host socket did not take, and what arrived behind a
//! gap.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::seq::Seq;

/// What one connection may be offered beyond the room of its socket.
///
/// Large enough for a few superframes, so that the socket is always filled to the brim (which is what
/// makes the kernel grow its buffer), small enough that copying it through us is rare.
pub(super) const QUOTA: u32 = 256 << 10;
/// What is offered to a connection without a reservation: little, but never nothing, so that the guest
/// runs into the socket's limit and the kernel wakes us when it has room again.
pub(super) const MIN_QUOTA: u32 = 4 << 10;
/// Out-of-order bytes kept per connection, and pieces of them: twice as many as there are of the smallest
/// segments that anybody sends in earnest. Each is looked at for each segment behind a gap.
const REORDER_LIMIT: usize = 1 << 20;
const REORDER_PIECES: usize = 4096;
/// Out-of-order bytes of all connections together, with what each piece takes besides.
const REORDER_POOL: usize = 64 << 20;
const PIECE: usize = 64;
/// Reservations of all connections together.
const POOL_LIMIT: usize = 256 << 20;
/// Emptied buffers kept for the next connection in need.
const SPARE_BUFFERS: usize = 32;
/// Buffers grown beyond this are given back to the allocator.
const SPARE_CAPACITY: usize = 4 * QUOTA as usize;

/// Memory for spills, shared by the connections of a worker.
#[derive(Debug, Default)]
pub(super) struct SpillPool {
    reserved: usize,
    spare: Vec<VecDeque<u8>>,
    /// What is kept behind gaps.
    held: usize,
}

impl SpillPool {
    fn reserve(&mut self) -> bool {
        let fits = self.reserved + QUOTA as usize <= POOL_LIMIT;
        if fits {
            self.reserved += QUOTA as usize;
        }
        fits
    }

    fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(QUOTA as usize);
    }

    fn take(&mut self) -> VecDeque<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn give_back(&mut self, mut buffer: VecDeque<u8>) {
        if (1..=SPARE_CAPACITY).contains(&buffer.capacity()) && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// The kept bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// In order, next for the socket.
    queue: VecDeque<u8>,
    /// Behind a gap, ascending, not overlapping.
    later: VecDeque<(Seq, Vec<u8>)>,
    later_bytes: usize,
    reserved: bool,
}

impl Spill {
    /// Bytes that wait for the socket.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Whether nothing waits for the socket.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What may be offered beyond the socket's room. `busy` connections get a reservation if there is one.
    pub(super) fn quota(&mut self, busy: bool, pool: &mut SpillPool) -> u32 {
        if !self.reserved && busy {
            self.reserved = pool.reserve();
        }
        if self.reserved { QUOTA } else { MIN_QUOTA }
    }

    /// Appends what the socket did not take.
    pub(super) fn push(&mut self, bytes: &[u8], pool: &mut SpillPool) {
        if self.queue.capacity() == 0 {
            self.queue = pool.take();
        }
        self.queue.extend(bytes);
    }

    /// What waits for the socket, in two parts.
    pub(super) fn parts(&self) -> [IoSlice<'_>; 2] {
        let (first, second) = self.queue.as_slices();
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// The socket took `n` bytes.
    pub(super) fn consume(&mut self, n: usize, pool: &mut SpillPool) {
        self.queue.drain(..n.min(self.queue.len()));
        if self.queue.is_empty() {
            pool.give_back(std::mem::take(&mut self.queue));
        }
    }

    /// Keeps bytes that stand behind a gap, as far as the limit allows; what is not kept is not reported
    /// as held either.
    pub(super) fn keep_later(&mut self, mut seq: Seq, mut bytes: &[u8], pool: &mut SpillPool) {
        let mut at = 0;
        while !bytes.is_empty()
            && self.later_bytes < REORDER_LIMIT
            && self.later.len() < REORDER_PIECES
            && pool.held < REORDER_POOL
        {
            let Some((start, held)) = self.later.get(at) else {
                return self.insert_later(at, seq, bytes, pool);
            };
            let end = *start + len32(held);
            if seq.before(*start) {
                let gap = start.since(seq) as usize;
                let (fresh, rest) = bytes.split_at(gap.min(bytes.len()));
                let next = *start;
                self.insert_later(at, seq, fresh, pool);
                bytes = rest;
                seq = next;
                at += 1;
            } else {
                let known = (end.since(seq) as usize).min(bytes.len());
                bytes = bytes.get(known..).unwrap_or_default();
                seq = seq.max(end);
                at += 1;
            }
        }
    }

    fn insert_later(&mut self, at: usize, seq: Seq, bytes: &[u8], pool: &mut SpillPool) {
        let room = REORDER_LIMIT - self.later_bytes.min(REORDER_LIMIT);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if !bytes.is_empty() {
            self.later_bytes += bytes.len();
            pool.held += bytes.len() + PIECE;
            self.later.insert(at, (seq, bytes.to_vec()));
        }
    }

    /// The next piece that starts at or before `next`, now that the gap is closed up to there.
    pub(super) fn take_ready(&mut self, next: Seq, pool: &mut SpillPool) -> Option<(Seq, Vec<u8>)> {
        if self.later.front()?.0.after(next) {
            return None;
        }
        let (seq, bytes) = self.later.pop_front()?;
        self.later_bytes -= bytes.len();
        pool.held = pool.held.saturating_sub(bytes.len() + PIECE);
        Some((seq, bytes))
    }

    /// Whether bytes behind a gap are held.
    pub(super) fn has_gap(&self) -> bool {
        !self.later.is_empty()
    }

    /// The ranges held behind the gap, for SACK (RFC 2018: the one with `recent` first), at most four.
    pub(super) fn sack_blocks(&self, recent: Seq, mut report: impl FnMut(Seq, Seq) -> bool) {
        let mut blocks = [(Seq(0), Seq(0)); 8];
        let mut count = 0;
        for (start, bytes) in &self.later {
            let end = *start + len32(bytes);
            match blocks.get_mut(..count).and_then(<[_]>::last_mut) {
                Some((_, right)) if *right == *start => *right = end,
                _ => match blocks.get_mut(count) {
                    Some(slot) => {
                        *slot = (*start, end);
                        count += 1;
                    }
                    None => break,
                },
            }
        }
        let blocks = blocks.get(..count).unwrap_or_default();
        let holds_recent =
            |(left, right): &(Seq, Seq)| !recent.before(*left) && recent.before(*right);
        for (left, right) in blocks.iter().filter(|block| holds_recent(block)) {
            report(*left, *right);
        }
        for (left, right) in blocks.iter().filter(|block| !holds_recent(block)) {
            if !report(*left, *right) {
                return;
            }
        }
    }

    /// Gives everything back: the connection is over.
    pub(super) fn release(&mut self, pool: &mut SpillPool) {
        pool.give_back(std::mem::take(&mut self.queue));
        let held = self.later_bytes + PIECE * self.later.len();
        pool.held = pool.held.saturating_sub(held);
        self.later = VecDeque::new();
        self.later_bytes = 0;
        if std::mem::take(&mut self.reserved) {
            pool.release();
        }
    }
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_keeps_order_and_returns_its_buffer() {
        let mut pool = SpillPool::default();
        let mut spill = Spill::default();
        spill.push(b"hello ", &mut pool);
        spill.push(b"world", &mut pool);
        assert_eq!(spill.len(), 11);
        spill.consume(6, &mut pool);
        let parts = spill.parts();
        assert_eq!([&parts[0][..], &parts[1][..]].concat(), b"world");
        spill.consume(5, &mut pool);
        assert!(spill.is_empty());
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn pieces_behind_a_gap_fill_in_without_overlap() {
        let mut pool = SpillPool::default();
        let mut spill = Spill::default();
        spill.keep_later(Seq(30), b"DDDDDDDDDD", &mut pool);
        spill.keep_later(Seq(10), b"BBBBBBBBBB", &mut pool);
        spill.keep_later(Seq(5), b"aaaaabbbbbbbbbbcccccccccceeeeeeeeee", &mut pool);
        let mut blocks = Vec::new();
        spill.sack_blocks(Seq(30), |l, r| {
            blocks.push((l.0, r.0));
            true
        });
        assert_eq!(blocks, [(5, 40)]);
        let mut text = Vec::new();
        let mut next = Seq(5);
        while let Some((seq, bytes)) = spill.take_ready(next, &mut pool) {
            assert_eq!(seq, next);
            next += len32(&bytes);
            text.extend(bytes);
        }
        assert_eq!(text, b"aaaaaBBBBBBBBBBccccccccccDDDDDDDDDD");
        assert_eq!((spill.later_bytes, pool.held), (0, 0));
    }

    #[test]
    fn most_recent_block_is_reported_first() {
        let mut pool = SpillPool::default();
        let mut spill = Spill::default();
        spill.keep_later(Seq(10), b"x", &mut pool);
        spill.keep_later(Seq(20), b"y", &mut pool);
        let mut blocks = Vec::new();
        spill.sack_blocks(Seq(20), |l, r| {
            blocks.push((l.0, r.0));
            true
        });
        assert_eq!(blocks, [(20, 21), (10, 11)]);
    }

    #[test]
    fn what_exceeds_the_limit_is_not_held() {
        let mut pool = SpillPool::default();
        let mut spill = Spill::default();
        let big = vec![0; REORDER_LIMIT];
        spill.keep_later(Seq(10), &big, &mut pool);
        spill.keep_later(Seq(10) + len32(&big), b"more", &mut pool);
        let mut end = Seq(0);
        spill.sack_blocks(Seq(10), |_, r| {
            end = r;
            true
        });
        assert_eq!(end, Seq(10) + len32(&big));
    }

    /// A guest that leaves a gap behind each byte would have us keep, and look through, very many pieces.
    #[test]
    fn pieces_are_bounded() {
        let mut pool = SpillPool::default();
        let mut spill = Spill::default();
        for n in 0..3 * u32::try_from(REORDER_PIECES).unwrap() {
            spill.keep_later(Seq(10 + 2 * n), b"x", &mut pool);
        }
        assert_eq!(spill.later.len(), REORDER_PIECES);
        spill.release(&mut pool);
        assert_eq!(pool.held, 0);
    }

    #[test]
    fn what_is_held_is_bounded_for_all_together() {
        let mut pool = SpillPool::default();
        let mut spills: Vec<Spill> = (0..80).map(|_| Spill::default()).collect();
        let big = vec![0; REORDER_LIMIT];
        for spill in &mut spills {
            spill.keep_later(Seq(10), &big, &mut pool);
        }
        assert!(!spills.last().unwrap().has_gap() && pool.held < REORDER_POOL + 2 * REORDER_LIMIT);
        spills[0].release(&mut pool);
        spills[1].release(&mut pool);
        spills.last_mut().unwrap().keep_later(Seq(10), b"x", &mut pool);
        assert!(spills.last().unwrap().has_gap(), "there is room again");
    }

    #[test]
    fn reservations_end_with_the_pool() {
        let mut pool = SpillPool::default();
        let mut spills: Vec<Spill> =
            (0..POOL_LIMIT / QUOTA as usize + 1).map(|_| Spill::default()).collect();
        let quotas: Vec<_> = spills.iter_mut().map(|spill| spill.quota(true, &mut pool)).collect();
        assert_eq!((quotas[0], *quotas.last().unwrap()), (QUOTA, MIN_QUOTA));
        spills[0].release(&mut pool);
        assert_eq!(spills.last_mut().unwrap().quota(true, &mut pool), QUOTA);
    }
}

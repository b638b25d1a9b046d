//! What the guest reported by SACK (RFC 2018): ranges above its cumulative ACK.

use super::seq::Seq;

/// More ranges than a guest can keep apart in practice; further ones are forgotten, which costs at most
/// a needless retransmission.
const MAX_RANGES: usize = 16;

/// Ranges of sequence numbers the guest holds, sorted and disjoint.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// Takes memory from the first loss on: most connections never see one.
    ranges: Vec<(Seq, Seq)>,
}

impl Scoreboard {
    /// The ranges, ascending.
    pub(super) fn ranges(&self) -> &[(Seq, Seq)] {
        &self.ranges
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Bytes reported.
    pub(super) fn bytes(&self) -> u32 {
        self.ranges().iter().map(|(left, right)| right.since(*left)).sum()
    }

    /// End of the last range.
    pub(super) fn highest(&self) -> Option<Seq> {
        self.ranges().last().map(|(_, right)| *right)
    }

    /// Adds a range; whether that told something new.
    pub(super) fn insert(&mut self, mut left: Seq, mut right: Seq) -> bool {
        if !left.before(right)
            || self.ranges().iter().any(|(l, r)| !left.before(*l) && !right.after(*r))
        {
            return false;
        }
        let mut kept = [(Seq(0), Seq(0)); MAX_RANGES];
        let mut len = 0;
        let mut placed = false;
        let mut keep = |range: (Seq, Seq)| {
            if let Some(slot) = kept.get_mut(len) {
                *slot = range;
                len += 1;
            }
        };
        for &(l, r) in &self.ranges {
            if r.before(left) {
                keep((l, r));
            } else if right.before(l) {
                if !placed {
                    keep((left, right));
                    placed = true;
                }
                keep((l, r));
            } else {
                left = left.min(l);
                right = right.max(r);
            }
        }
        if !placed {
            keep((left, right));
        }
        self.ranges.clear();
        self.ranges.extend_from_slice(kept.get(..len).unwrap_or_default());
        true
    }

    /// Forgets what lies before `una`.
    pub(super) fn advance(&mut self, una: Seq) {
        self.ranges.retain(|(_, right)| right.after(una));
        if let Some((left, _)) = self.ranges.first_mut() {
            *left = left.max(una);
        }
    }

    /// The first hole at or after `from`: from where to where bytes are missing. The end is `None` if no
    /// range follows.
    pub(super) fn hole(&self, mut from: Seq) -> (Seq, Option<Seq>) {
        for &(left, right) in self.ranges() {
            if from.before(left) {
                return (from, Some(left));
            }
            from = from.max(right);
        }
        (from, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(ranges: &[(u32, u32)]) -> Scoreboard {
        let mut board = Scoreboard::default();
        for &(left, right) in ranges {
            board.insert(Seq(left), Seq(right));
        }
        board
    }

    #[test]
    fn ranges_merge_and_stay_sorted() {
        let board = board(&[(30, 40), (10, 20), (50, 60), (20, 30)]);
        assert_eq!(board.ranges(), [(Seq(10), Seq(40)), (Seq(50), Seq(60))]);
        assert_eq!((board.bytes(), board.highest()), (40, Some(Seq(60))));
    }

    #[test]
    fn news_is_told_from_repetition() {
        let mut board = board(&[(10, 20)]);
        assert!(!board.insert(Seq(12), Seq(20)));
        assert!(!board.insert(Seq(20), Seq(20)));
        assert!(board.insert(Seq(15), Seq(25)));
    }

    #[test]
    fn holes_lie_between() {
        let mut board = board(&[(10, 20), (30, 40)]);
        assert_eq!(board.hole(Seq(5)), (Seq(5), Some(Seq(10))));
        assert_eq!(board.hole(Seq(10)), (Seq(20), Some(Seq(30))));
        assert_eq!(board.hole(Seq(35)), (Seq(40), None));
        board.advance(Seq(15));
        assert_eq!(board.ranges(), [(Seq(15), Seq(20)), (Seq(30), Seq(40))]);
        board.advance(Seq(40));
        assert_eq!(board.ranges(), []);
    }

    #[test]
    fn a_full_board_forgets_the_last() {
        let ranges: Vec<_> = (0..40).map(|n| (n * 10, n * 10 + 5)).collect();
        let board = board(&ranges);
        assert_eq!(board.ranges().len(), MAX_RANGES);
        assert_eq!(board.hole(Seq(0)), (Seq(5), Some(Seq(10))));
    }
}

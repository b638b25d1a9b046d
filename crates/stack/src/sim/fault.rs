//! Faults planted in the models: a suite that does not notice them proves nothing.

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The first byte of what is sent after a short write is lost: the spill's first byte.
    SpillByteLost,
    /// Some acknowledgements tell the guest a window whose right edge is left of one told before.
    EdgeMovedLeft,
    /// What was peeked once cannot be peeked again: holes stay holes.
    HoleNotPeeked,
    /// What is peeked again is not what was peeked first.
    HolePeekedWrong,
}

//! Counters, for reports and tests.

/// Counts since the start. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames read from the guest.
    pub frames_from_guest: u64,
    /// Frames the guest's link took.
    pub frames_to_guest: u64,
    /// Frames the guest's link did not take.
    pub frames_refused: u64,
    /// Frames dropped because they made no sense or are of no protocol we carry.
    pub frames_dropped: u64,
    /// TCP flows opened.
    pub tcp_opened: u64,
    /// TCP flows ended by a reset from either side.
    pub tcp_reset: u64,
    /// TCP segments sent to the guest again.
    pub tcp_retransmitted: u64,
    /// Expiries of a retransmission timeout towards the guest.
    pub tcp_timeouts: u64,
    /// Bytes that passed through a spill.
    pub tcp_spilled: u64,
    /// UDP flows opened.
    pub udp_opened: u64,
    /// Echo flows opened.
    pub ping_opened: u64,
    /// New flows refused: no socket, no room.
    pub flows_refused: u64,
}

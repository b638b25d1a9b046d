//! TCP options (RFC 9293 §3.1, RFC 7323, RFC 2018).

/// The most bytes options can take.
pub const MAX_LEN: usize = 40;
/// The most SACK blocks that fit.
pub const MAX_SACK_BLOCKS: usize = 4;
/// The largest window shift that counts (RFC 7323 §2.3); larger ones mean this one.
pub const MAX_WINDOW_SCALE: u8 = 14;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// The options of a segment that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// Maximum segment size in bytes. Only in a SYN.
    pub mss: Option<u16>,
    /// Window shift, as received: the user of it caps it at [`MAX_WINDOW_SCALE`]. Only in a SYN.
    pub window_scale: Option<u8>,
    /// Whether SACK blocks may be sent to the sender. Only in a SYN.
    pub sack_permitted: bool,
    /// Timestamp value and echo reply.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks, left edge and right edge (exclusive), the first `sack_count` are valid.
    pub sack: [(u32, u32); MAX_SACK_BLOCKS],
    /// How many blocks of `sack` are valid: 0 to 4.
    pub sack_count: u8,
}

impl TcpOptions {
    /// Reads options up to the end, an end-of-options byte, or the first malformed one. Unknown
    /// options, and known ones of a wrong length, are skipped; of repeated ones the last counts.
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            match *bytes {
                [] | [END, ..] => return options,
                [NOP, ref rest @ ..] => bytes = rest,
                [kind, len, ..] => {
                    let Some((option, rest)) = bytes.split_at_checked(usize::from(len)) else {
                        return options;
                    };
                    // A length that does not cover its own two bytes would never end.
                    let [_, _, body @ ..] = option else { return options };
                    options.take(kind, body);
                    bytes = rest;
                }
                [_] => return options,
            }
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps =
                    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
            }
            (SACK, blocks) if blocks.len() % 8 == 0 => {
                self.sack_count = 0;
                for block in blocks.chunks_exact(8) {
                    if let &[a, b, c, d, e, f, g, h] = block {
                        let left = u32::from_be_bytes([a, b, c, d]);
                        self.push_sack(left, u32::from_be_bytes([e, f, g, h]));
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds a SACK block; false if there are four already.
    pub fn push_sack(&mut self, left: u32, right: u32) -> bool {
        match self.sack.get_mut(usize::from(self.sack_count)) {
            Some(slot) => {
                *slot = (left, right);
                self.sack_count += 1;
                true
            }
            None => false,
        }
    }

    /// The valid SACK blocks.
    #[must_use]
    pub fn sack_blocks(&self) -> &[(u32, u32)] {
        self.sack.get(..usize::from(self.sack_count)).unwrap_or(&self.sack)
    }

    /// Writes the options as Linux lays them out, and returns their length: a multiple of 4, padded
    /// with NOPs in front of what they align.
    ///
    /// A SYN's: MSS; SACK-permitted with timestamps or after two NOPs; NOP, window scale. Others:
    /// NOP, NOP, timestamps; NOP, NOP, SACK with as many blocks as fit (three beside timestamps).
    pub fn emit(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut w = Writer { out, at: 0 };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            w.put(&[MSS, 4, a, b]);
        }
        if let Some((value, echo)) = self.timestamps {
            w.put(if self.sack_permitted { &[SACK_PERMITTED, 2] } else { &[NOP, NOP] });
            w.put(&[TIMESTAMPS, 10]);
            w.put(&value.to_be_bytes());
            w.put(&echo.to_be_bytes());
        } else if self.sack_permitted {
            w.put(&[NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(shift) = self.window_scale {
            w.put(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        let fit = (MAX_LEN - w.at).saturating_sub(4) / 8;
        let blocks = self.sack_blocks();
        let blocks = blocks.get(..fit).unwrap_or(blocks);
        if !blocks.is_empty() {
            // At most four blocks: 34 fits a byte.
            let len = [2u8, 10, 18, 26, 34].get(blocks.len()).map_or(34, |&len| len);
            w.put(&[NOP, NOP, SACK, len]);
            for &(left, right) in blocks {
                w.put(&left.to_be_bytes());
                w.put(&right.to_be_bytes());
            }
        }
        w.at
    }
}

struct Writer<'a> {
    out: &'a mut [u8; MAX_LEN],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(slot) = self.out.get_mut(self.at..end) {
            slot.copy_from_slice(bytes);
            self.at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(options: &TcpOptions) -> Vec<u8> {
        let mut out = [0xee; MAX_LEN];
        let len = options.emit(&mut out);
        out[..len].to_vec()
    }

    #[test]
    fn linux_layouts() {
        // SYN as seen on the wire: MSS 61440, NOP, window scale 8.
        let syn = TcpOptions { mss: Some(61440), window_scale: Some(8), ..TcpOptions::default() };
        assert_eq!(emitted(&syn), [2, 4, 0xf0, 0, 1, 3, 3, 8]);
        // What Linux sends by default in a SYN.
        let full = TcpOptions { sack_permitted: true, timestamps: Some((1, 0)), ..syn };
        assert_eq!(
            emitted(&full),
            [2, 4, 0xf0, 0, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 8]
        );
        let ts = TcpOptions { timestamps: Some((1, 2)), ..TcpOptions::default() };
        assert_eq!(emitted(&ts), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        let mut sack = TcpOptions::default();
        assert!(sack.push_sack(10, 20));
        assert_eq!(emitted(&sack), [1, 1, 5, 10, 0, 0, 0, 10, 0, 0, 0, 20]);
        assert_eq!(emitted(&TcpOptions::default()), []);
    }

    #[test]
    fn sack_blocks_that_fit() {
        let mut options = TcpOptions::default();
        for i in 0..4 {
            assert!(options.push_sack(i * 100, i * 100 + 50));
        }
        assert!(!options.push_sack(1, 2));
        assert_eq!(emitted(&options).len(), 36);
        assert_eq!(TcpOptions::parse(&emitted(&options)), options);
        options.timestamps = Some((7, 8));
        let bytes = emitted(&options);
        assert_eq!(bytes.len(), 40);
        assert_eq!(TcpOptions::parse(&bytes).sack_blocks(), &options.sack[..3]);
    }

    #[test]
    fn malformed_stops_and_wrong_lengths_are_skipped() {
        let mss = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        for tail in [&[3][..], &[3, 0, 7], &[3, 1, 7], &[3, 9, 7], &[0, 3, 3, 7], &[]] {
            let bytes = [&[2, 4, 5, 0xb4], tail].concat();
            assert_eq!(TcpOptions::parse(&bytes), mss, "{tail:?}");
        }
        // Unknown (TFO 34) and ill-sized (MSS of 3 bytes) in between.
        assert_eq!(TcpOptions::parse(&[34, 6, 1, 2, 3, 4, 2, 3, 9, 2, 4, 5, 0xb4]), mss);
        // A SACK option whose blocks are incomplete.
        assert_eq!(TcpOptions::parse(&[5, 9, 0, 0, 0, 0, 0, 0, 0]).sack_count, 0);
    }
}

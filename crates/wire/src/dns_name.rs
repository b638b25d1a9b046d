//! Domain names as DNS writes them (RFC 1035 §3.1): length-prefixed labels and an empty one at the end,
//! with or without compression (§4.1.4). Used by DHCP, DHCPv6 and router advertisements.

use crate::writer::Writer;

/// The longest name in bytes, lengths and root label included.
pub const MAX_LEN: usize = 255;
/// The longest label in bytes.
pub const MAX_LABEL: usize = 63;

/// The two high bits of a length byte that make it the first byte of a pointer.
const POINTER: u8 = 0xc0;

/// The labels of a name in text, trailing dots ignored.
fn text_labels(name: &str) -> impl Iterator<Item = &[u8]> + Clone {
    name.trim_end_matches('.').split('.').map(str::as_bytes)
}

/// How many bytes `name` takes uncompressed; `None` if it has an empty label inside, none at all, one
/// above 63 bytes, or is too long. Trailing dots do not count: the root alone is no name here.
#[must_use]
pub fn encoded_len(name: &str) -> Option<usize> {
    let mut len = 1;
    for label in text_labels(name) {
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        len += 1 + label.len();
    }
    (len <= MAX_LEN).then_some(len)
}

/// Appends `name` uncompressed; `None`, with nothing written, if it is no name (see [`encoded_len`]) or
/// does not fit.
#[must_use = "what does not fit is not written"]
pub fn write(w: &mut Writer<'_>, name: &str) -> Option<()> {
    encoded_len(name)?;
    w.atomically(|w| {
        for label in text_labels(name) {
            put_label(w, label)?;
        }
        w.put_u8(0)
    })
}

/// Appends `name`, replacing its longest suffix that stands in what was written since `origin` (whole
/// names, and nothing else) by a pointer, counted in bytes from `origin`. `None`, with nothing written,
/// if it is no name or does not fit.
#[must_use = "what does not fit is not written"]
pub fn write_compressed(w: &mut Writer<'_>, origin: usize, name: &str) -> Option<()> {
    encoded_len(name)?;
    let end = w.len();
    w.atomically(|w| {
        let mut rest = text_labels(name);
        loop {
            let area = w.written().get(origin..end).unwrap_or_default();
            let earlier = find(area, rest.clone()).and_then(|at| u16::try_from(at).ok());
            if let Some(at) = earlier.filter(|at| *at < 0x4000) {
                return w.put_u16(u16::from(POINTER) << 8 | at);
            }
            match rest.next() {
                Some(label) => put_label(w, label)?,
                None => return w.put_u8(0),
            }
        }
    })
}

fn put_label(w: &mut Writer<'_>, label: &[u8]) -> Option<()> {
    w.put_u8(u8::try_from(label.len()).ok()?)?;
    w.put(label)
}

/// Where in `area`, a sequence of names, one ends in exactly `suffix`.
fn find<'s>(area: &[u8], suffix: impl Iterator<Item = &'s [u8]> + Clone) -> Option<usize> {
    suffix.clone().next()?;
    let mut at = 0;
    loop {
        let length = *area.get(at)?;
        at += match length {
            0 => 1,
            POINTER.. => 2,
            _ if Labels::new(area, at).eq(suffix.clone()) => return Some(at),
            _ => 1 + usize::from(length),
        };
    }
}

/// The labels of one encoded name. Ends at the root label, and at anything malformed: whether the name
/// was right is told by [`Labels::end`] after the last one.
///
/// Pointers are followed only towards the front of the area, so the walk is finite.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    area: &'a [u8],
    at: usize,
    /// No pointer may lead here or beyond.
    limit: usize,
    /// Where the bytes of this name itself end, once that is known.
    end: Option<usize>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Walking,
    Root,
    Malformed,
}

impl<'a> Labels<'a> {
    /// The name that begins `at` bytes into `area`; pointers count from the start of `area`.
    #[must_use]
    pub const fn new(area: &'a [u8], at: usize) -> Self {
        Self { area, at, limit: at, end: None, state: State::Walking }
    }

    /// After the last label: where in the area the next name may begin. `None` if the name was
    /// malformed, or is not yet at its end.
    #[must_use]
    pub fn end(&self) -> Option<usize> {
        self.end.filter(|_| self.state == State::Root)
    }

    fn step(&mut self) -> Option<&'a [u8]> {
        loop {
            let length = *self.area.get(self.at)?;
            let next = self.at + 1;
            match length {
                0 => {
                    self.end = self.end.or(Some(next));
                    self.state = State::Root;
                    return None;
                }
                1..=63 => {
                    let label = self.area.get(next..next + usize::from(length))?;
                    self.at = next + usize::from(length);
                    return Some(label);
                }
                POINTER.. => {
                    let low = *self.area.get(next)?;
                    let target = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                    if target >= self.limit {
                        return None;
                    }
                    self.end = self.end.or(Some(next + 1));
                    self.limit = target;
                    self.at = target;
                }
                // RFC 1035 §4.1.4: 01 and 10 are reserved.
                _ => return None,
            }
        }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.state != State::Walking {
            return None;
        }
        let label = self.step();
        if label.is_none() && self.state == State::Walking {
            self.state = State::Malformed;
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(area: &[u8]) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let mut at = 0;
        while at < area.len() {
            let mut labels = Labels::new(area, at);
            let text: Vec<_> =
                labels.by_ref().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
            names.push(text.join("."));
            at = labels.end()?;
        }
        Some(names)
    }

    fn compress(names: &[&str]) -> Vec<u8> {
        let mut buf = [0; 512];
        let mut w = Writer::new(&mut buf);
        w.put(b"xy").unwrap();
        for name in names {
            write_compressed(&mut w, 2, name).unwrap();
        }
        w.written()[2..].to_vec()
    }

    #[test]
    fn plain() {
        let mut buf = [0; 40];
        let mut w = Writer::new(&mut buf);
        write(&mut w, "lab.example.org.").unwrap();
        assert_eq!(w.written(), b"\x03lab\x07example\x03org\0");
        for bad in ["", ".", "..", "a..b", ".a", &"x".repeat(64), &"abc.".repeat(70)] {
            assert_eq!((write(&mut w, bad), encoded_len(bad)), (None, None), "{bad}");
        }
        assert_eq!(w.len(), 17);
        assert_eq!(write(&mut w, "twenty-five.bytes.are-too-many"), None);
        assert_eq!(w.len(), 17);
        assert_eq!(encoded_len(&"x".repeat(63)), Some(65));
    }

    #[test]
    fn compression_rfc3397_example() {
        // RFC 3397 §2: "eng.apple.com." and "marketing.apple.com.".
        let bytes = compress(&["eng.apple.com.", "marketing.apple.com."]);
        assert_eq!(bytes, b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04");
    }

    #[test]
    fn compression_needs_a_whole_suffix() {
        // "ample.org" ends the text of "example.org" but not at a label.
        let bytes = compress(&["example.org", "ample.org", "example.org", "org", "a.ample.org"]);
        assert_eq!(bytes, b"\x07example\x03org\0\x05ample\xc0\x08\xc0\x00\xc0\x08\x01a\xc0\x0d");
        assert_eq!(
            decode(&bytes).unwrap(),
            ["example.org", "ample.org", "example.org", "org", "a.ample.org"]
        );
    }

    #[test]
    fn loops_and_truncation_end() {
        for bad in [
            &b"\xc0\x00"[..],
            b"\x01a\xc0\x00",
            b"\x01a\xc0\x02",
            b"\xc0",
            b"\x05abc",
            b"\x40a",
            b"\x01a",
            b"\xc0\xff",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(names in prop::collection::vec("[a-c]{1,3}(\\.[a-c]{1,3}){0,4}", 0..12)) {
            let texts: Vec<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(decode(&compress(&texts)).unwrap(), names);
        }

        #[test]
        fn arbitrary_bytes_end(area in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..310) {
            // The labels of one name cannot hold more bytes than the area.
            let total: usize = Labels::new(&area, at).map(<[u8]>::len).sum();
            prop_assert!(total <= area.len());
        }
    }
}

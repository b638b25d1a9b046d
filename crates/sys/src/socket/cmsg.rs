//! Control messages (`cmsg(3)`) in a buffer of fixed size.

/// `cmsghdr` and data are aligned to this.
const ALIGN: usize = size_of::<usize>();
const HEADER: usize = align(size_of::<libc::cmsghdr>());

const fn align(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Room for a `sock_extended_err` with an address, or all of TTL, TOS and segment size.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct Buffer([u8; 256]);

impl Buffer {
    pub(super) fn new() -> Self {
        Self([0; 256])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The messages in the first `len` bytes.
    pub(super) fn messages(&self, len: usize) -> Messages<'_> {
        Messages(self.0.get(..len).unwrap_or_default())
    }
}

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
    pub(super) data: &'a [u8],
}

impl Message<'_> {
    /// An int, or the first byte of something shorter: `IP_TOS` comes as one byte.
    pub(super) fn number(&self) -> Option<i32> {
        match self.data {
            [a, b, c, d, ..] => Some(i32::from_ne_bytes([*a, *b, *c, *d])),
            [byte, ..] => Some((*byte).into()),
            [] => None,
        }
    }
}

/// Walks over control messages.
#[derive(Clone, Debug)]
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..size_of::<libc::cmsghdr>())?;
        // SAFETY: there are as many bytes as a cmsghdr has, and it is valid whatever they are.
        let header = unsafe { header.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
        #[allow(clippy::unnecessary_cast, reason = "the width of cmsg_len depends on the libc")]
        let len = header.cmsg_len as usize;
        let data = self.0.get(HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Message { level: header.cmsg_level, kind: header.cmsg_type, data })
    }
}

/// Control messages that are to be sent.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct Outgoing {
    /// Room for an `in6_pktinfo` and a segment size.
    bytes: [u8; 2 * HEADER + 24 + ALIGN],
    len: usize,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { bytes: [0; 2 * HEADER + 24 + ALIGN], len: 0 }
    }

    /// Adds a message; what there is no room for is left out.
    pub(super) fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let end = self.len + HEADER + align(data.len());
        let Some(place) = self.bytes.get_mut(self.len..end) else { return };
        // SAFETY: all zeroes is a valid cmsghdr.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (HEADER + data.len()) as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: there is room for a cmsghdr at the start of the place, whose alignment does not matter.
        unsafe { place.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(header) };
        for (to, from) in place.iter_mut().skip(HEADER).zip(data) {
            *to = *from;
        }
        self.len = end;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(level: libc::c_int, kind: libc::c_int, value: u16) -> Outgoing {
        let mut out = Outgoing::new();
        out.push(level, kind, &value.to_ne_bytes());
        out
    }

    #[test]
    fn too_much_is_left_out() {
        let mut out = outgoing(0, 0, 1);
        let before = out.bytes().len();
        out.push(1, 1, &[0; 200]);
        assert_eq!(out.bytes().len(), before);
        out.push(1, 1, &[0; 20]);
        assert_eq!(out.bytes().len(), before + HEADER + 24);
    }

    #[test]
    fn our_layout_is_that_of_libc() {
        // SAFETY: these only compute.
        unsafe {
            assert_eq!(libc::CMSG_LEN(2) as usize, HEADER + 2);
            assert_eq!(libc::CMSG_SPACE(2) as usize, outgoing(0, 0, 1).bytes().len());
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut buffer = Buffer::new();
        let mut both = outgoing(17, 103, 1400);
        let second = both.bytes().len();
        both.push(0, 2, &7u16.to_ne_bytes());
        buffer.0[..2 * second].copy_from_slice(both.bytes());
        let all: Vec<_> = buffer.messages(2 * second).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].level, all[0].kind, all[0].data), (17, 103, &1400u16.to_ne_bytes()[..]));
        assert_eq!((all[1].level, all[1].kind), (0, 2));
        assert_eq!(buffer.messages(second - 6).count(), 1, "padding may be missing");
        assert_eq!(buffer.messages(10).count(), 0);
        assert_eq!(Messages(&[0xff; 64]).count(), 0);
    }
}

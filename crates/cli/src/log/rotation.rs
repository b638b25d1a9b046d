//! A full log file loses its oldest lines, in place: who follows it by name keeps following it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use super::line::{Line, Stamp};

/// Bytes read and written at a time: more than a note and a line.
const BLOCK: usize = 16384;
/// Bytes of a note at most.
const NOTE: usize = 4096;
/// What file systems count in. Where their blocks are larger, lines are moved instead.
const PAGE: u64 = 4096;

/// What it takes to shorten a file.
#[derive(Debug)]
pub(super) struct Rotation {
    header: String,
    size: u64,
    /// Bytes that go at once: 30 per cent, in whole pages.
    cut: u64,
    block: Box<[u8; BLOCK]>,
}

impl Rotation {
    /// For a file of at most `size` bytes that begins with `header`.
    pub(super) fn new(header: &str, size: u64) -> Self {
        // By parts, as nobody knows how large somebody's numbers are.
        let cut = (size / 10 * 3).max(1).next_multiple_of(PAGE);
        Self { header: header.to_owned(), size, cut, block: Box::new([0; BLOCK]) }
    }

    /// The size at which to rotate.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the oldest lines out of `file`, which has `len` bytes, and puts a note in their place. Returns how
    /// many bytes are left.
    pub(super) fn rotate(&mut self, file: &mut File, len: u64, now: Stamp) -> io::Result<u64> {
        sys::file::set_append(file, false)?;
        let note = Line::ended(format_args!("{} - log truncated at {now}", self.header));
        let left = match sys::file::collapse(file, self.cut) {
            Ok(()) => self.patch(file, &note).map(|()| len.saturating_sub(self.cut)),
            Err(_) => self.shift(file, &note),
        };
        let append = sys::file::set_append(file, true);
        left.and_then(|left| append.map(|()| left))
    }

    /// The file starts within a line, or behind its start: the note takes the place of that and of what follows
    /// it, up to the end of a line.
    fn patch(&mut self, file: &mut File, note: &Line<NOTE>) -> io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        let len = fill(file, &mut self.block[..])?;
        let block = self.block.get_mut(..len).unwrap_or_default();
        let note = note.bytes().strip_suffix(b"\n").unwrap_or_default();
        let Some((head, rest)) = block.split_at_mut_checked(note.len()) else { return Ok(()) };
        head.copy_from_slice(note);
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.unwrap_or_else(|| rest.len().saturating_sub(1));
        rest.iter_mut().take(end).for_each(|byte| *byte = b' ');
        if let Some(last) = rest.get_mut(end) {
            *last = b'\n';
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(block)
    }

    /// Moves the lines that stay towards the start of the file.
    fn shift(&mut self, file: &mut File, note: &Line<NOTE>) -> io::Result<u64> {
        let mut from = self.cut + note.bytes().len() as u64;
        file.seek(SeekFrom::Start(from))?;
        let len = fill(file, &mut self.block[..])?;
        let read = self.block.get(..len).unwrap_or_default();
        from += read.iter().position(|byte| *byte == b'\n').map_or(len, |end| end + 1) as u64;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(note.bytes())?;
        let mut to = note.bytes().len() as u64;
        loop {
            file.seek(SeekFrom::Start(from))?;
            let len = fill(file, &mut self.block[..])?;
            let Some(lines) = self.block.get(..len).filter(|lines| !lines.is_empty()) else {
                break;
            };
            file.seek(SeekFrom::Start(to))?;
            file.write_all(lines)?;
            from += len as u64;
            to += len as u64;
        }
        file.set_len(to)?;
        Ok(to)
    }
}

/// Reads until the block is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(room) = block.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room)? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    const HEADER: &str = "pasta 1.2: /bin/pasta (7)";

    /// A file of numbered lines, cut by `how`, as text.
    fn cut(name: &str, how: impl FnOnce(&mut Rotation, &mut File, &Line<NOTE>)) -> String {
        let path: PathBuf =
            std::env::temp_dir().join(format!("rotation-{name}-{}", std::process::id()));
        let mut file = sys::file::create_log(&path).unwrap();
        writeln!(file, "{HEADER}").unwrap();
        for number in 0..1000 {
            writeln!(file, "{number:04}: info:    a line of a usual length").unwrap();
        }
        sys::file::set_append(&file, false).unwrap();
        let note = Line::ended(format_args!("{HEADER} - log truncated at 7.0000"));
        how(&mut Rotation::new(HEADER, 40960), &mut file, &note);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        text
    }

    /// Checks that a note and the last lines are there, each whole and in order.
    fn check(text: &str) {
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().trim_end(), format!("{HEADER} - log truncated at 7.0000"));
        let numbers: Vec<usize> = lines
            .map(|line| {
                let (number, rest) = line.split_once(": ").unwrap();
                assert_eq!(rest, "info:    a line of a usual length");
                number.parse().unwrap()
            })
            .collect();
        let first = numbers[0];
        // A line has 40 bytes.
        assert!((306..312).contains(&first), "{first}");
        assert_eq!(numbers, (first..1000).collect::<Vec<_>>());
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_cut_is_a_third_in_whole_pages() {
        for (size, cut) in [(40960, 12288), (1 << 20, 315_392), (100_000, 32768)] {
            assert_eq!(Rotation::new("", size).cut, cut);
        }
        assert!(Rotation::new("", u64::MAX).cut > u64::MAX / 4);
    }

    #[test]
    fn lines_move_up() {
        check(&cut("shift", |rotation, file, note| {
            let left = rotation.shift(file, note).unwrap();
            assert_eq!(left, file.metadata().unwrap().len());
        }));
    }

    #[test]
    fn a_collapsed_file_begins_with_a_note() {
        check(&cut("patch", |rotation, file, note| {
            // As the kernel does it where the file system can.
            let mut rest = Vec::new();
            file.seek(SeekFrom::Start(rotation.cut)).unwrap();
            file.read_to_end(&mut rest).unwrap();
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&rest).unwrap();
            rotation.patch(file, note).unwrap();
        }));
    }

    #[test]
    fn whichever_way_the_file_system_knows() {
        check(&cut("rotate", |rotation, file, _| {
            let len = file.metadata().unwrap().len();
            let left = rotation.rotate(file, len, Stamp(Duration::from_secs(7))).unwrap();
            assert_eq!(left, file.metadata().unwrap().len());
            // New lines go to the end again, wherever the last one was read.
            file.seek(SeekFrom::Start(0)).unwrap();
            writeln!(file, "new").unwrap();
            let mut text = String::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("\nnew\n"));
            file.set_len(left).unwrap();
        }));
    }
}

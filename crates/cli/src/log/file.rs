//! The file of `--log-file`, which never gets longer than `--log-size` allows.
//!
//! A message is a line: seconds since the start, its level, its text. The first line tells who writes since when.
//! A file that is full loses its oldest lines; see [`super::rotation`].

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use log::Level;

use super::line::{Line, Stamp};
use super::rotation::Rotation;

/// Bytes of a line at most.
const LINE: usize = 4096;

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// Bytes that are in it, as far as they are ours.
    written: u64,
    rotation: Option<Rotation>,
    /// The last line was not written whole.
    torn: bool,
}

impl LogFile {
    /// Makes an empty file, or empties one, and begins it with `header`. It will have fewer than `size` bytes.
    pub(super) fn create(path: &Path, header: &str, size: u64) -> io::Result<Self> {
        let file = sys::file::create_log(path)?;
        // What is no file cannot be shortened, and need not be.
        let rotates = file.metadata()?.is_file();
        let rotation = rotates.then(|| Rotation::new(header, size));
        let mut log = Self { file, written: 0, rotation, torn: false };
        log.put(Line::<LINE>::ended(format_args!("{header}")).bytes());
        Ok(log)
    }

    /// Writes one line. One that there is no room for on the disk is lost.
    pub(super) fn write(&mut self, since_start: Duration, level: Level, text: &str) {
        let stamp = Stamp(since_start);
        let level = match level {
            Level::Error => "ERROR:   ",
            Level::Warn => "WARNING: ",
            Level::Info => "info:    ",
            Level::Debug | Level::Trace => "         ",
        };
        let line = Line::<LINE>::ended(format_args!("{stamp}: {level}{text}"));
        let after = self.written + line.bytes().len() as u64;
        if let Some(rotation) = self.rotation.as_mut().filter(|rotation| after >= rotation.size()) {
            match rotation.rotate(&mut self.file, self.written, stamp) {
                Ok(left) => self.written = left,
                // Rather no message than a file without bounds.
                Err(_) => return,
            }
        }
        self.put(line.bytes());
    }

    fn put(&mut self, line: &[u8]) {
        if self.torn && !matches!(self.file.write(b"\n"), Ok(1)) {
            return;
        }
        // One call: what others write to the same file does not come between.
        let written = self.file.write(line).unwrap_or(0);
        self.written += u64::from(self.torn) + written as u64;
        self.torn = written > 0 && written < line.len();
    }

    /// Makes sure that what was written outlives us.
    pub(super) fn finish(&self) {
        // A disk that fails now has nobody left to be told.
        let _ = self.file.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("log-file-{name}-{}", std::process::id()))
    }

    #[test]
    fn lines_have_a_stamp_and_a_level() {
        let path = path("lines");
        std::fs::write(&path, "of somebody before us").unwrap();
        let mut log = LogFile::create(&path, "pasta 1.2: /bin/pasta (7)", 40960).unwrap();
        log.write(Duration::from_micros(100), Level::Error, "one");
        log.write(Duration::from_millis(12_345), Level::Warn, "two");
        log.write(Duration::from_secs(70), Level::Info, "    three");
        log.write(Duration::from_secs(70), Level::Debug, "four");
        log.write(Duration::from_secs(70), Level::Trace, &"5".repeat(5000));
        log.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        let five = format!("70.0000:          {}\n", "5".repeat(LINE - 19));
        let wanted = "pasta 1.2: /bin/pasta (7)\n0.0001: ERROR:   one\n12.3450: WARNING: two\n\
                      70.0000: info:        three\n70.0000:          four\n"
            .to_owned()
            + &five;
        assert_eq!(text, wanted);
        assert_eq!(log.written, text.len() as u64);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_file_is_written_to_and_never_turned_over() {
        let mut log = LogFile::create(Path::new("/dev/null"), "pasta", 40960).unwrap();
        for _ in 0..1000 {
            log.write(Duration::ZERO, Level::Info, "to nobody at all, over and over again");
        }
        assert!(log.rotation.is_none() && log.written > 40960);
        let mut log = LogFile::create(Path::new("/dev/full"), "pasta", 40960).unwrap();
        log.write(Duration::ZERO, Level::Info, "there is no room");
        assert_eq!(log.written, 0);
        log.finish();
        assert!(LogFile::create(Path::new("/nonexistent/log"), "pasta", 40960).is_err());
    }
}

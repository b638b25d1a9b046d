//! Names that appear in a directory, without an allocation.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

/// Room for a few names.
const BUFFER: usize = 4096;

/// A directory that is being watched (`inotify(7)`).
#[derive(Debug)]
pub struct Watch(OwnedFd);

/// What [`Watch::wait`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A name appeared, or so many that the kernel lost count.
    Appeared,
    /// The directory was deleted, moved or unmounted.
    Gone,
}

impl Watch {
    /// Starts to watch: from now on, nothing is missed.
    ///
    /// # Errors
    /// Those of `inotify_init1(2)` and `inotify_add_watch(2)`, `ENOTDIR` among them.
    pub fn new(directory: &CStr) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        inotify::add_watch(&events, directory, flags | own)?;
        Ok(Self(events))
    }

    /// Waits until one of the `wanted` names appears, or appeared since the last call.
    ///
    /// # Errors
    /// None that a correct program can cause.
    pub fn wait(&self, mut wanted: impl FnMut(&CStr) -> bool) -> io::Result<News> {
        const OWN: ReadFlags = ReadFlags::DELETE_SELF
            .union(ReadFlags::MOVE_SELF)
            .union(ReadFlags::UNMOUNT)
            .union(ReadFlags::IGNORED);
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().intersects(OWN) => return Ok(News::Gone),
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    return Ok(News::Appeared);
                }
                Ok(event) if event.file_name().is_some_and(&mut wanted) => {
                    return Ok(News::Appeared);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Shows the names in a directory to `look` until that breaks with something.
///
/// # Errors
/// Those of `open(2)` and `getdents64(2)`.
pub fn names<T>(
    directory: &CStr,
    mut look: impl FnMut(&CStr) -> ControlFlow<T>,
) -> io::Result<Option<T>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        if let ControlFlow::Break(found) = look(entry?.file_name()) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    use super::*;

    fn directory(name: &str) -> (PathBuf, CString) {
        let path = std::env::temp_dir().join(format!("watch-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        (path, name)
    }

    fn is_wanted(name: &CStr) -> bool {
        name.to_bytes().ends_with(b".wanted")
    }

    #[test]
    fn wanted_names_are_told_however_they_come() {
        let (path, name) = directory("names");
        let watch = Watch::new(&name).unwrap();
        let mut seen = Vec::new();
        let mut wait = || {
            watch.wait(|name| {
                seen.push(name.to_str().unwrap().to_owned());
                is_wanted(name)
            })
        };
        fs::write(path.join("other"), "").unwrap();
        fs::write(path.join("first.wanted"), "").unwrap();
        assert_eq!(wait().unwrap(), News::Appeared);
        fs::rename(path.join("other"), path.join("second.wanted")).unwrap();
        assert_eq!(wait().unwrap(), News::Appeared);
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(wait().unwrap(), News::Gone);
        assert_eq!(seen, ["other", "first.wanted", "second.wanted"]);
    }

    #[test]
    fn all_names_are_shown() {
        let (path, name) = directory("list");
        // More than fit into the buffer at once.
        for number in 0..300 {
            fs::write(path.join(format!("{number:020}")), "").unwrap();
        }
        let mut count = 0;
        let found = names(&name, |_| {
            count += 1;
            ControlFlow::<()>::Continue(())
        });
        assert_eq!((found.unwrap(), count), (None, 302));
        let found = names(&name, |name| match name.to_bytes().ends_with(b"9") {
            true => ControlFlow::Break(name.to_owned()),
            false => ControlFlow::Continue(()),
        });
        assert!(found.unwrap().unwrap().to_bytes().ends_with(b"9"));
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(names(&name, |_| ControlFlow::Break(())).unwrap_err().raw_os_error(), Some(2));
        assert_eq!(Watch::new(&name).unwrap_err().raw_os_error(), Some(2));
    }

    #[test]
    fn files_are_not_watched() {
        let (path, _) = directory("file");
        fs::write(path.join("file"), "").unwrap();
        let file = CString::new(path.join("file").as_os_str().as_bytes()).unwrap();
        assert_eq!(Watch::new(&file).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        fs::remove_dir_all(&path).unwrap();
    }
}

//! Files that are written to for as long as we live.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};

/// Opens or creates `path` with mode 0600 and empties it. Whatever is written goes to its end; and if it is
/// no regular file, nobody ever waits for room in it.
///
/// # Errors
/// Those of `open(2)`.
pub fn create_log(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    options.custom_flags(libc::O_APPEND | libc::O_NONBLOCK).open(path)
}

/// Whether what is written goes to the end of the file, wherever we are in it.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn set_append(file: &File, append: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::APPEND, append);
    Ok(fcntl_setfl(file, flags)?)
}

/// Takes the first `len` bytes out of the file without copying the rest.
///
/// # Errors
/// Those of `fallocate(2)`: `EOPNOTSUPP` where the file system cannot do that, `EINVAL` if `len` is no
/// multiple of the size of its blocks.
pub fn collapse(file: &File, len: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, len)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn to_the_end_or_not() {
        let path = std::env::temp_dir().join(format!("file-{}", std::process::id()));
        std::fs::write(&path, "old").unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut file = create_log(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        file.write_all(b"one two").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b" three").unwrap();
        set_append(&file, false).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"ONE").unwrap();
        set_append(&file, true).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"!").unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ONE two three!");
        // What was there is gone.
        assert_eq!(create_log(&path).unwrap().metadata().unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
    }
}

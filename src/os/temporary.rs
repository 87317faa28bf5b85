//! Temporary files without a name: nobody else can open them, and they are gone with their descriptor. open(2) (O_TMPFILE),
//! mkstemp(3).

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{mkstemp, unlink};

/// A new empty file in `directory`, readable and writable by us alone, close-on-exec.
///
/// # Errors
/// The directory cannot be written to, or is on a full disk.
pub fn file(directory: &Path) -> Result<File, Errno> {
    let flags = OFlag::O_TMPFILE | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // Not every file system knows O_TMPFILE.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => named(directory),
        Err(errno) => Err(errno),
    }
}

/// How much room there is where a file is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// That we may still use.
    pub free: u64,
    /// Of the whole file system; 0 where it does not tell.
    pub all: u64,
}

/// Looks how much room there is where this file is; `None` where the system does not tell.
pub fn room(file: &File) -> Option<Room> {
    let seen = fstatvfs(file).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(seen.fragment_size());
    Some(Room { free: bytes(seen.blocks_available()), all: bytes(seen.blocks()) })
}

fn named(directory: &Path) -> Result<File, Errno> {
    let (fd, path) = mkstemp(&directory.join("fpmd-XXXXXX"))?;
    let file = File::from(fd);
    unlink(&path)?;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn the_file_has_no_name() {
        for file in [file(&std::env::temp_dir()).unwrap(), named(&std::env::temp_dir()).unwrap()] {
            file.write_all_at(b"abc", 2).unwrap();
            let meta = file.metadata().unwrap();
            assert_eq!((meta.nlink(), meta.len(), meta.mode() & 0o777), (0, 5, 0o600));
            let room = room(&file).unwrap();
            assert!(room.free <= room.all && room.all > 0, "{room:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert_eq!(file(Path::new("/nonexistent/here")).err(), Some(Errno::ENOENT));
    }
}

//! The pid file: written when fpmd serves, removed at the end if it is still ours.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ids::Pid;

/// A pid file that holds our pid. Removes itself when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    content: String,
}

/// "cannot write pid file '/run/x.pid': Permission denied".
#[derive(Debug)]
pub struct PidFileError {
    path: PathBuf,
    cause: io::Error,
}

impl PidFileError {
    /// Whether a different user would have succeeded.
    pub fn is_permission(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write pid file '{}': {}", self.path.display(), self.cause)
    }
}

impl PidFile {
    /// Writes `pid` and a newline, mode 0644 less the umask. The file is replaced by renaming, so that a reader sees
    /// either the old pid or the whole new one.
    ///
    /// # Errors
    /// Whatever the file system refuses; nothing is left behind then.
    pub fn write(path: &Path, pid: Pid) -> Result<PidFile, PidFileError> {
        let content = format!("{pid}\n");
        let draft = draft(path);
        let written = fs::write(&draft, &content).and_then(|()| fs::rename(&draft, path));
        if let Err(cause) = written {
            let _ = fs::remove_file(&draft);
            return Err(PidFileError { path: path.to_owned(), cause });
        }
        Ok(PidFile { path: path.to_owned(), content })
    }

    /// Whether it could be written, without doing so: the one that is there may be another fpmd's, which serves.
    ///
    /// # Errors
    /// Whatever the file system refuses.
    pub fn try_out(path: &Path) -> Result<(), PidFileError> {
        let failed = |cause| PidFileError { path: path.to_owned(), cause };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let draft = draft(path);
        fs::write(&draft, "").and_then(|()| fs::remove_file(&draft)).map_err(failed)
    }

    /// One that was written before, with this pid.
    pub fn of(path: &Path, pid: Pid) -> PidFile {
        PidFile { path: path.to_owned(), content: format!("{pid}\n") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another fpmd may have taken the name over since.
        if fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What it is called until it is whole.
fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::TempDir;

    fn pid(raw: i32) -> Pid {
        Pid::new(raw).unwrap()
    }

    #[test]
    fn it_is_written_whole_and_removed() {
        let dir = TempDir::new();
        let path = dir.join("x.pid");
        let file = PidFile::write(&path, pid(123)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "123\n");
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_another_took_over_stays() {
        let dir = TempDir::new();
        let path = dir.join("x.pid");
        let ours = PidFile::write(&path, pid(123)).unwrap();
        let theirs = PidFile::write(&path, pid(456)).unwrap();
        drop(ours);
        assert_eq!(fs::read_to_string(&path).unwrap(), "456\n");
        drop(theirs);
    }

    #[test]
    fn trying_it_out_leaves_what_is_there() {
        let dir = TempDir::new();
        let path = dir.join("x.pid");
        let theirs = PidFile::write(&path, pid(456)).unwrap();
        PidFile::try_out(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "456\n");
        drop(theirs);
        PidFile::try_out(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(PidFile::try_out(dir.path()).is_err());
        assert!(PidFile::try_out(&path.join("y")).is_err());
    }

    #[test]
    fn a_directory_in_its_place_is_an_error_that_leaves_nothing() {
        let dir = TempDir::new();
        let path = dir.join("x.pid");
        fs::create_dir(&path).unwrap();
        let error = PidFile::write(&path, pid(1)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write pid file '{}': ", path.display())));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

//! The PID file: opened before the socket is bound, as in the original, and written when it is known who lives.
//! One number a line, no newline at the end, mode 0644 without what the umask takes away; never removed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::message::Failure;
use crate::ids::Pid;

/// A PID file that is open and still holds what it held.
#[derive(Debug)]
pub struct PidFile(File);

impl PidFile {
    /// Creates the file, or opens a regular one that exists, through a symbolic link too.
    ///
    /// # Errors
    /// The original's three ways to fail.
    pub fn open(path: &OsStr) -> Result<PidFile, Failure> {
        let open_failed = |cause| Failure::OpenPidFile(path.into(), cause);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o644);
        match options.clone().create_new(true).open(path) {
            Ok(file) => return Ok(PidFile(file)),
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(open_failed(cause)),
            Err(_) => {}
        }
        let found = fs::metadata(path).map_err(|cause| Failure::StatPidFile(path.into(), cause))?;
        if !found.is_file() {
            return Err(Failure::PidFileNotRegular(path.into()));
        }
        options.create(true).truncate(false).open(path).map(PidFile).map_err(open_failed)
    }

    /// Replaces the content by `pids`.
    ///
    /// # Errors
    /// ftruncate(2) or write(2).
    pub fn write(mut self, pids: &[Pid]) -> io::Result<()> {
        let lines: Vec<String> = pids.iter().map(Pid::to_string).collect();
        self.0.set_len(0)?;
        self.0.write_all(lines.join("\n").as_bytes())
    }
}

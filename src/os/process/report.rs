//! How a child tells that it could not become its program: one record of fixed size through a pipe that the exec closes.
//!
//! The record is `[step, 0, 0, 0, errno]`, errno as four bytes of this machine; a write of that size is atomic.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::step::Objects;
use super::{Spawn, SpawnError, Step, StepError};

/// The parent's end of the pipe: readable as soon as there is an answer. Non-blocking.
#[derive(Debug)]
pub struct ReportPipe {
    fd: OwnedFd,
    objects: Objects,
}

/// How far a new process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Between fork and exec: ask again when the pipe is readable.
    Pending,
    /// It runs its program; or it was killed before, which its exit status tells.
    Executing,
    /// It could not; it exits with 126 or 127.
    Failed(StepError),
}

impl ReportPipe {
    /// Reads the answer if there is one; never blocks. After the first answer other than `Pending` the pipe is of no more use.
    pub fn read(&self) -> Report {
        let mut record = Record::default();
        loop {
            return match nix::unistd::read(&self.fd, &mut record) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Report::Pending,
                Ok(length) if length == record.len() => Report::Failed(self.decode(record)),
                // Nothing else can come out of this pipe, and the exit status tells whether it was a failure.
                Ok(_) | Err(_) => Report::Executing,
            };
        }
    }

    fn decode(&self, record: Record) -> StepError {
        let [step, _, _, _, errno @ ..] = record;
        let known = Step::ORDER.into_iter().find(|known| *known as u8 == step);
        self.objects.error(known.unwrap_or(Step::Execute), Errno::from_raw(i32::from_ne_bytes(errno)))
    }
}

impl AsFd for ReportPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

type Record = [u8; 8];

/// The parent's and the child's end; both vanish at an exec.
pub(super) fn pipe(spawn: &Spawn) -> Result<(ReportPipe, OwnedFd), SpawnError> {
    let (fd, child) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| SpawnError::Descriptor(errno.into()))?;
    Ok((ReportPipe { fd, objects: Objects::of(spawn) }, child))
}

/// In the child: async-signal-safe.
pub(super) fn tell(pipe: BorrowedFd<'_>, step: Step, errno: Errno) {
    let [a, b, c, d] = (errno as i32).to_ne_bytes();
    let record: Record = [step as u8, 0, 0, 0, a, b, c, d];
    // If the parent is gone there is nobody to tell; the exit code says the rest.
    let _ = nix::unistd::write(pipe, &record);
}

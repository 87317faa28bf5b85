//! Everything about a new process that needs memory, a lock or a decision, done in the parent before the fork.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::{fs, ptr};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::{libc, unistd};

use super::child::{self, Plan, Sweep};
use super::{Descriptors, OpenFiles, Output, Spawn, SpawnError};
use crate::ids::{Gid, Uid};

/// Clears O_NONBLOCK on the open file description.
pub(super) fn make_blocking(fd: BorrowedFd<'_>) -> Result<(), SpawnError> {
    let failed = |errno: Errno| SpawnError::Blocking(errno.into());
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).map_err(failed)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(failed)?;
    }
    Ok(())
}

/// The same description under a number of 3 or more, so that the child's `dup2(2)` onto 0, 1 and 2 meets no other source.
pub(super) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, SpawnError> {
    if fd.as_raw_fd() > libc::STDERR_FILENO { Ok(fd) } else { copy_above_stdio(fd.as_fd()) }
}

fn copy_above_stdio(fd: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1));
    let copy = copy.map_err(|errno| SpawnError::Descriptor(errno.into()))?;
    // SAFETY: fcntl(2) has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Not to be read: only to be executed, whoever may see the path.
pub(super) fn open_image(path: &Path) -> Result<OwnedFd, Errno> {
    let image = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    above_stdio(image).map_err(|_| Errno::EMFILE)
}

/// The sources of FD 0, 1 and 2, all numbered 3 or more.
pub(super) struct Streams<'a> {
    stdin: Source<'a>,
    stdout: Source<'a>,
    stderr: Source<'a>,
}

impl<'a> Streams<'a> {
    pub(super) fn new(descriptors: &Descriptors<'a>) -> Result<Streams<'a>, SpawnError> {
        Ok(Streams {
            stdin: Source::of(descriptors.stdin)?,
            stdout: Source::of_output(descriptors.stdout)?,
            stderr: Source::of_output(descriptors.stderr)?,
        })
    }
}

enum Source<'a> {
    Given(BorrowedFd<'a>),
    Made(OwnedFd),
}

impl<'a> Source<'a> {
    fn of(fd: BorrowedFd<'a>) -> Result<Source<'a>, SpawnError> {
        if fd.as_raw_fd() > libc::STDERR_FILENO {
            return Ok(Source::Given(fd));
        }
        copy_above_stdio(fd).map(Source::Made)
    }

    fn of_output(output: Output<'a>) -> Result<Source<'a>, SpawnError> {
        match output {
            Output::To(fd) => Source::of(fd),
            Output::Null => {
                let null = open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
                let null = null.map_err(|errno| SpawnError::Null(errno.into()))?;
                above_stdio(null).map(Source::Made)
            }
        }
    }
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Given(fd) => *fd,
            Source::Made(fd) => fd.as_fd(),
        }
    }
}

/// What the child does, in the form that its system calls take.
pub(super) fn plan<'a>(
    spawn: &'a Spawn,
    cgroup: Option<BorrowedFd<'a>>,
    streams: &'a Streams<'a>,
    report: BorrowedFd<'a>,
) -> Plan<'a> {
    Plan {
        session: spawn.session,
        cgroup,
        streams: [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()],
        sweep: Sweep::choose(),
        umask: spawn.umask.map(Mode::from_bits_truncate),
        open_files: match spawn.open_files {
            OpenFiles::Keep => None,
            OpenFiles::Restore(original) => Some((original.soft, original.hard)),
            OpenFiles::Set(limit) => Some((limit, limit)),
        },
        core_size: spawn.core_size,
        priority: spawn.priority,
        policy: spawn.policy,
        groups: spawn
            .groups
            .as_ref()
            .map(|groups| groups.iter().map(|Gid(gid)| unistd::Gid::from_raw(*gid)).collect()),
        gid: spawn.gid.map(|Gid(gid)| unistd::Gid::from_raw(gid)),
        chroot: spawn.chroot.as_deref(),
        privileges: spawn.privileges,
        image: spawn.image.as_ref().map(|image| image.as_fd()),
        uid: spawn.uid.map(|Uid(uid)| unistd::Uid::from_raw(uid)),
        directory: spawn.directory.as_deref(),
        parent: unistd::getpid(),
        parent_death: spawn.parent_death,
        program: &spawn.program,
        arguments: pointers(&spawn.arguments),
        environment: pointers(spawn.environment.entries()),
        report,
    }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

impl Sweep {
    /// The best way that this kernel has (CLOSE_RANGE_CLOEXEC: Linux 5.11).
    fn choose() -> Sweep {
        static ONE_CALL: OnceLock<bool> = OnceLock::new();
        let one_call = *ONE_CALL.get_or_init(|| child::close_range_on_exec(u32::MAX).is_ok());
        if one_call { Sweep::OneCall } else { Sweep::UpTo(highest_descriptor()) }
    }
}

/// Of this process; where there is no /proc, a number that no more than a few daemons ever reach.
fn highest_descriptor() -> i32 {
    const WITHOUT_PROC: i32 = 65_535;
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return WITHOUT_PROC };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.max().unwrap_or(WITHOUT_PROC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_never_standard_streams() {
        let file = fs::File::open("/dev/null").expect("it exists");
        let copy = copy_above_stdio(file.as_fd()).expect("a descriptor is free");
        assert!(copy.as_raw_fd() > libc::STDERR_FILENO);
        assert!(highest_descriptor() >= copy.as_raw_fd());
    }

    #[test]
    fn argument_vectors_end_with_null() {
        let texts = [c"a".to_owned(), c"b".to_owned()];
        let pointers = pointers(&texts);
        assert_eq!(pointers, [texts[0].as_ptr(), texts[1].as_ptr(), ptr::null()]);
    }
}

//! Starts a program by a plain `fork(2)` that never waits for the child (vfork, posix_spawn and `Command` block the
//! caller until the exec, tens of milliseconds when workers compete for the CPU).
//!
//! Owns what happens in the parent: everything is prepared before the fork, so that the child only makes the short
//! list of async-signal-safe calls in `process/child.rs`, in the order of [`Step::ORDER`]. A child that fails says so
//! through a pipe ([`ReportPipe`]). Ends of children are in `wait`, signals in `signal`.

mod child;
mod environment;
mod interpreter;
mod prepare;
mod report;
mod step;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::ForkResult;

use crate::ids::{Gid, Pid, SchedulingPolicy, Signal, Uid};
use crate::os::errno::Cause;
use crate::os::limits::OriginalLimit;
use crate::os::signal::Blocked;

pub use environment::EnvironmentBlock;
pub use report::{Report, ReportPipe};
pub use step::{Step, StepError};

/// What to start and as whom. Owned and reusable: made once for many workers.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// The absolute path of the program, inside `chroot`.
    pub program: CString,
    /// The program itself, by [`open_image`], for a user who may not reach its path. A binary, not a script.
    pub image: Option<Arc<OwnedFd>>,
    /// The argument vector; the first entry is the program's name for itself, usually `program` again.
    pub arguments: Vec<CString>,
    /// The whole environment.
    pub environment: EnvironmentBlock,
    /// Whether it leads a session of its own.
    pub session: Session,
    /// File mode creation mask, 0 to 0o777; `None` keeps ours.
    pub umask: Option<u32>,
    /// RLIMIT_NOFILE.
    pub open_files: OpenFiles,
    /// Soft and hard RLIMIT_CORE in bytes, `u64::MAX` is unlimited; `None` keeps ours.
    pub core_size: Option<u64>,
    /// Nice value, -20 to 19; `None` keeps ours.
    pub priority: Option<i32>,
    /// Scheduling policy; `None` keeps ours.
    pub policy: Option<SchedulingPolicy>,
    /// All supplementary groups; `None` keeps ours, empty means none.
    pub groups: Option<Vec<Gid>>,
    /// Real, effective and saved group; `None` keeps ours.
    pub gid: Option<Gid>,
    /// New root directory, which is also the working directory unless `directory` says otherwise.
    pub chroot: Option<CString>,
    /// Real, effective and saved user; `None` keeps ours.
    pub uid: Option<Uid>,
    /// What it keeps of root's powers.
    pub privileges: Privileges,
    /// Working directory inside `chroot`, entered with the new user's rights; `None` is ours, or `/` in a chroot.
    pub directory: Option<CString>,
    /// The signal that it gets when the *thread* that started it ends; programs with the setuid bit or file
    /// capabilities lose this at their exec (`prctl(2)`, PR_SET_PDEATHSIG).
    pub parent_death: Option<Signal>,
}

/// What a process keeps of root's powers, besides its user and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// What its user has.
    Keep,
    /// None, for good: all capability sets are empty (capabilities(7)), and no program that it runs can regain any
    /// (PR_SET_NO_NEW_PRIVS). Where fpmd may not empty the bounding set (it is not root), that stays.
    None,
}

/// Whether a process leads a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// `setsid(2)`: no terminal, no keyboard signals, a process group of its own.
    New,
    /// It stays in ours.
    Keep,
}

/// RLIMIT_NOFILE of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFiles {
    /// As ours is now.
    Keep,
    /// As ours was before `limits::raise_open_files`: programs that use `select(2)` break above 1024.
    Restore(OriginalLimit),
    /// Both soft and hard.
    Set(u64),
}

/// The descriptors that a process gets; any of them may be one of our own 0, 1 and 2. Everything else is closed at its exec.
#[derive(Debug)]
pub struct Descriptors<'a> {
    /// FD 0. O_NONBLOCK is cleared on its open file description, for all its users: php-cgi, libfcgi and Perl end at
    /// once on a non-blocking listening socket, and Go and flup set it on the description that they share.
    pub stdin: BorrowedFd<'a>,
    /// FD 1.
    pub stdout: Output<'a>,
    /// FD 2.
    pub stderr: Output<'a>,
    /// `cgroup.procs` of the control group that it joins.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Where a stream goes.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// `/dev/null`: the descriptor must exist, or the program's next `accept(2)` would become its FD 1 or 2.
    Null,
    /// A copy of this descriptor.
    To(BorrowedFd<'a>),
}

/// A process that exists, though it may not run its program yet.
#[derive(Debug)]
pub struct Child {
    /// Its id, valid until it is reaped.
    pub pid: Pid,
    /// Tells when the program runs, or why it does not.
    pub report: ReportPipe,
}

impl Spawn {
    /// The program `arguments[0]` with everything else as ours, except that it leads a session.
    ///
    /// # Errors
    /// No arguments, or one that contains a NUL byte.
    pub fn new<A: AsRef<OsStr>>(arguments: &[A], environment: EnvironmentBlock) -> Result<Spawn, SpawnError> {
        let arguments =
            arguments.iter().map(|a| text("argument", a.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let program = arguments.first().cloned().ok_or(SpawnError::NoProgram)?;
        Ok(Spawn {
            program,
            image: None,
            arguments,
            environment,
            session: Session::New,
            umask: None,
            open_files: OpenFiles::Keep,
            core_size: None,
            priority: None,
            policy: None,
            groups: None,
            gid: None,
            chroot: None,
            uid: None,
            privileges: Privileges::Keep,
            directory: None,
            parent_death: None,
        })
    }
}

/// A path as the kernel takes it.
///
/// # Errors
/// It contains a NUL byte.
pub fn path(path: &Path) -> Result<CString, SpawnError> {
    text("path", path.as_os_str())
}

/// Opens a program so that whoever it is run as need not be able to reach its path.
///
/// # Errors
/// There is none.
pub fn open_image(path: &Path) -> Result<Arc<OwnedFd>, Errno> {
    prepare::open_image(path).map(Arc::new)
}

fn text(what: &'static str, value: &OsStr) -> Result<CString, SpawnError> {
    CString::new(value.as_bytes())
        .map_err(|_| SpawnError::Nul { what, text: value.to_string_lossy().into_owned() })
}

/// Starts the process and returns as soon as it exists. Whether the program runs is told by [`Child::report`].
///
/// # Errors
/// No process was made: out of processes, memory or descriptors.
pub fn spawn(spawn: &Spawn, descriptors: &Descriptors<'_>) -> Result<Child, SpawnError> {
    prepare::make_blocking(descriptors.stdin)?;
    let (report, failure) = report::pipe(spawn)?;
    let streams = prepare::Streams::new(descriptors)?;
    let failure = prepare::above_stdio(failure)?;
    let plan = prepare::plan(spawn, descriptors.cgroup, &streams, failure.as_fd());
    let pid = fork(&plan)?;
    Ok(Child { pid, report })
}

/// Nothing is delivered around the fork: no handler of ours may run in the child before it has reset them all.
fn fork(plan: &child::Plan<'_>) -> Result<Pid, SpawnError> {
    let _blocked = Blocked::all();
    // SAFETY: the child calls `child::run` and nothing else, which makes async-signal-safe calls only and never returns.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => child::run(plan),
        Ok(ForkResult::Parent { child }) => {
            // A successful fork(2) gives the parent a positive number.
            #[allow(clippy::expect_used)]
            Ok(Pid::new(child.as_raw()).expect("fork gives a positive pid"))
        }
        Err(errno) => Err(SpawnError::Fork(errno.into())),
    }
}

/// Why no process was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpawnError {
    /// The argument vector is empty.
    NoProgram,
    /// A text that the kernel cannot take.
    Nul {
        /// What it is.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A name that no environment variable can have.
    VariableName(String),
    /// The listening socket cannot be made blocking.
    Blocking(Cause),
    /// No descriptor is left, or no memory for one.
    Descriptor(Cause),
    /// `/dev/null` cannot be opened.
    Null(Cause),
    /// No process is left (RLIMIT_NPROC, pids.max), or no memory for one.
    Fork(Cause),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NoProgram => f.write_str("cannot start nothing: the command is empty"),
            SpawnError::Nul { what, text } => write!(f, "cannot use {what} {text:?}: it contains a NUL byte"),
            SpawnError::VariableName(name) => {
                write!(
                    f,
                    "cannot set environment variable {name:?}: a name is not empty and has no '=' or NUL byte"
                )
            }
            SpawnError::Blocking(cause) => write!(f, "cannot make standard input blocking: {cause}"),
            SpawnError::Descriptor(cause) => {
                write!(f, "cannot make a descriptor for the new process: {cause}")
            }
            SpawnError::Null(cause) => write!(f, "cannot open '/dev/null': {cause}"),
            SpawnError::Fork(cause) => write!(f, "cannot fork: {cause}"),
        }
    }
}

impl std::error::Error for SpawnError {}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

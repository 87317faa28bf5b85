//! The child between fork and exec. Async-signal-safe calls only (`signal-safety(7)`): no memory is allocated or freed,
//! no lock is taken, nothing can panic. Everything was prepared in the parent; here it is only done, in `Step::ORDER`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Pid, Uid};

use super::{Privileges, Session, Step, report};
use crate::ids::{SchedulingPolicy, Signal};

/// What the child does, in the form that its system calls take.
pub(super) struct Plan<'a> {
    pub session: Session,
    pub cgroup: Option<BorrowedFd<'a>>,
    /// For FD 0, 1 and 2; none of them is one of those.
    pub streams: [BorrowedFd<'a>; 3],
    pub sweep: Sweep,
    pub umask: Option<Mode>,
    /// Soft and hard.
    pub open_files: Option<(rlim_t, rlim_t)>,
    pub core_size: Option<rlim_t>,
    pub priority: Option<i32>,
    pub policy: Option<SchedulingPolicy>,
    pub groups: Option<Vec<Gid>>,
    pub gid: Option<Gid>,
    pub chroot: Option<&'a CStr>,
    pub uid: Option<Uid>,
    pub privileges: Privileges,
    /// Close-on-exec; instead of `program`.
    pub image: Option<BorrowedFd<'a>>,
    pub directory: Option<&'a CStr>,
    /// Who forks.
    pub parent: Pid,
    pub parent_death: Option<Signal>,
    pub program: &'a CStr,
    /// Ends with a null pointer, as does `environment`; both point into memory that outlives the plan.
    pub arguments: Vec<*const libc::c_char>,
    pub environment: Vec<*const libc::c_char>,
    /// Numbered 3 or more.
    pub report: BorrowedFd<'a>,
}

/// How descriptors from 3 up are closed by the exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// `close_range(2)` with CLOSE_RANGE_CLOEXEC.
    OneCall,
    /// One by one up to this number, on kernels without it.
    UpTo(RawFd),
}

/// The whole life of the child up to its program.
pub(super) fn run(plan: &Plan<'_>) -> ! {
    for step in Step::ORDER {
        if let Err(errno) = take(step, plan) {
            report::tell(plan.report, step, errno);
            let code = if step == Step::Execute && errno == Errno::ENOENT { 127 } else { 126 };
            exit(code);
        }
    }
    exit(126)
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number, and runs no handler and flushes no buffer of the parent's.
    unsafe { libc::_exit(code) }
}

fn take(step: Step, plan: &Plan<'_>) -> Result<(), Errno> {
    match step {
        Step::Session => match plan.session {
            Session::New => unistd::setsid().map(drop),
            Session::Keep => Ok(()),
        },
        Step::Cgroup => plan.cgroup.map_or(Ok(()), |procs| unistd::write(procs, b"0").map(drop)),
        Step::Signals => reset_signals(),
        Step::Streams => streams(plan.streams),
        Step::CloseOnExec => close_on_exec(plan.sweep),
        Step::Umask => {
            plan.umask.map(umask);
            Ok(())
        }
        Step::OpenFiles => limit(Resource::RLIMIT_NOFILE, plan.open_files),
        Step::CoreSize => limit(Resource::RLIMIT_CORE, plan.core_size.map(|size| (size, size))),
        Step::Priority => plan.priority.map_or(Ok(()), set_priority),
        Step::Policy => plan.policy.map_or(Ok(()), set_policy),
        Step::Groups => plan.groups.as_deref().map_or(Ok(()), unistd::setgroups),
        Step::Group => plan.gid.map_or(Ok(()), |gid| unistd::setresgid(gid, gid, gid)),
        Step::Root => plan.chroot.map_or(Ok(()), unistd::chroot),
        Step::RootDirectory => plan.chroot.map_or(Ok(()), |_| unistd::chdir(c"/")),
        Step::Bounds => match plan.privileges {
            Privileges::None => empty_bounding_set(),
            Privileges::Keep => Ok(()),
        },
        Step::User => plan.uid.map_or(Ok(()), |uid| unistd::setresuid(uid, uid, uid)),
        Step::Privileges => match plan.privileges {
            Privileges::None => give_up_privileges(),
            Privileges::Keep => Ok(()),
        },
        Step::Directory => plan.directory.map_or(Ok(()), unistd::chdir),
        Step::ParentDeath => plan.parent_death.map_or(Ok(()), |signal| follow(plan.parent, signal)),
        Step::Execute => execute(plan),
    }
}

/// The highest signal number of Linux on the architectures that `ids::Signal` knows.
const LAST_SIGNAL: i32 = 64;

fn reset_signals() -> Result<(), Errno> {
    // SIG_DFL, no flags, an empty mask in the kernel's own layout: all zeroes, and longer than that on every architecture.
    const DEFAULT: [u64; 8] = [0; 8];
    const MASK_BYTES: usize = 8;
    for number in 1..=LAST_SIGNAL {
        let previous = ptr::null_mut::<u64>();
        // SAFETY: rt_sigaction(2) reads `DEFAULT` only, and SIG_DFL runs no code of ours. Not through the C library, which
        // refuses to touch signals 32 and 33, though these too may have come ignored. SIGKILL and SIGSTOP need no reset.
        let _refused =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), previous, MASK_BYTES) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

fn streams([stdin, stdout, stderr]: [BorrowedFd<'_>; 3]) -> Result<(), Errno> {
    unistd::dup2_stdin(stdin)?;
    unistd::dup2_stdout(stdout)?;
    unistd::dup2_stderr(stderr)
}

fn close_on_exec(sweep: Sweep) -> Result<(), Errno> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    match sweep {
        Sweep::OneCall => close_range_on_exec(FIRST.unsigned_abs()),
        Sweep::UpTo(last) => {
            for number in FIRST..=last {
                // SAFETY: F_SETFD changes a flag of this process's descriptor; a closed one gives EBADF, which is fine.
                let _closed = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
    }
}

/// Marks all descriptors from `first` up. By number, as the C library's wrapper is younger than our oldest systems.
pub(super) fn close_range_on_exec(first: u32) -> Result<(), Errno> {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC sets a flag on descriptors and closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

fn limit(resource: Resource, limits: Option<(rlim_t, rlim_t)>) -> Result<(), Errno> {
    limits.map_or(Ok(()), |(soft, hard)| setrlimit(resource, soft, hard))
}

fn set_priority(nice: i32) -> Result<(), Errno> {
    // SAFETY: setpriority(2) takes three numbers; zero is the calling process.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

fn set_policy(policy: SchedulingPolicy) -> Result<(), Errno> {
    let policy = match policy {
        SchedulingPolicy::Other => libc::SCHED_OTHER,
        SchedulingPolicy::Batch => libc::SCHED_BATCH,
        SchedulingPolicy::Idle => libc::SCHED_IDLE,
    };
    // `struct sched_param` of the kernel: the priority, which is zero for all of these.
    const PARAMETERS: [libc::c_int; 1] = [0];
    // SAFETY: sched_setscheduler(2) reads one number; pid zero is the caller. Not through the C library, as musl's refuses.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, PARAMETERS.as_ptr()) })
        .map(drop)
}

fn follow(parent: Pid, signal: Signal) -> Result<(), Errno> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.as_raw()) })?;
    // A parent that ended before has had no signal to send.
    if unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// The highest number that a capability can have: the sets are 64 bits wide.
const LAST_CAPABILITY: libc::c_ulong = 63;

fn empty_bounding_set() -> Result<(), Errno> {
    for capability in 0..=LAST_CAPABILITY {
        // SAFETY: PR_CAPBSET_DROP takes a number.
        let dropped = Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) });
        match dropped {
            Ok(_) => {}
            // Beyond the last one that this kernel knows; or not root, who alone may do this.
            Err(Errno::EINVAL | Errno::EPERM) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn give_up_privileges() -> Result<(), Errno> {
    // Version 3 of the header of capset(2), for ourselves; then two words each of effective, permitted, inheritable.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    const NONE: [u32; 6] = [0; 6];
    // SAFETY: capset(2) reads a header of two words and the two triples that version 3 asks for.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), NONE.as_ptr()) })?;
    let (clear, zero) = (libc::PR_CAP_AMBIENT_CLEAR_ALL, 0 as libc::c_ulong);
    // SAFETY: PR_CAP_AMBIENT takes numbers; a kernel before 4.3 has no such set and says EINVAL.
    match Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, zero, zero, zero) }) {
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    let one: libc::c_ulong = 1;
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) }).map(drop)
}

fn execute(plan: &Plan<'_>) -> Result<(), Errno> {
    let (program, arguments, environment) =
        (plan.program.as_ptr(), plan.arguments.as_ptr(), plan.environment.as_ptr());
    // SAFETY: a C string and two arrays of C strings that end with a null pointer; the parent's copies outlive the plan.
    let by_path = Errno::result(unsafe { libc::execve(program, arguments, environment) }).map(drop);
    if let (Some(image), Err(Errno::EACCES)) = (plan.image, by_path) {
        let (fd, path, flags) = (image.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH);
        // SAFETY: execveat(2) by number; an empty C string and the same arrays.
        let result = unsafe { libc::syscall(libc::SYS_execveat, fd, path, arguments, environment, flags) };
        return Errno::result(result).map(drop);
    }
    by_path
}

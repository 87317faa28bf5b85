//! What a process is doing at this moment, seen from outside and in words, for people who ask why it takes so long: its
//! state, the system call that it waits in, the file or peer behind that, the kernel function, CPU time, memory.
//!
//! Only its main thread is looked at, and it is not stopped: one look may miss what the next one finds. System calls,
//! descriptors and wchan need the right to trace the process (ptrace(2)): the same user, or root. What may not be seen
//! is `None`. proc(5), pidfd_getfd(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_long;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getpeername};

use super::activity::wait::{self, Wait};
use super::procfs::{self, CpuTimes, State, Syscall};
use crate::ids::Pid;

/// One look at a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// `S (sleeping)`, in proc(5)'s words.
    pub state: Option<&'static str>,
    /// `read(7)`: the call with its descriptor, where it has one.
    pub system_call: Option<String>,
    /// What the call waits for: a path, `socket 10.0.0.5:3306`, `pipe`.
    pub waits_on: Option<String>,
    /// The kernel function that it sleeps in.
    pub wait_channel: Option<String>,
    /// CPU time since its start.
    pub cpu: Option<CpuTimes>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
}

/// So many descriptors of a poll or an epoll are named.
const NAMED: usize = 4;

/// The first argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Descriptor,
    Other,
}

/// The calls that programs wait in, of this architecture; newer ones have no poll, select and the like of their own.
const CALLS: &[(c_long, &str, First)] = &[
    (libc::SYS_read, "read", First::Descriptor),
    (libc::SYS_readv, "readv", First::Descriptor),
    (libc::SYS_pread64, "pread64", First::Descriptor),
    (libc::SYS_preadv, "preadv", First::Descriptor),
    (libc::SYS_write, "write", First::Descriptor),
    (libc::SYS_writev, "writev", First::Descriptor),
    (libc::SYS_pwrite64, "pwrite64", First::Descriptor),
    (libc::SYS_pwritev, "pwritev", First::Descriptor),
    (libc::SYS_recvfrom, "recvfrom", First::Descriptor),
    (libc::SYS_recvmsg, "recvmsg", First::Descriptor),
    (libc::SYS_recvmmsg, "recvmmsg", First::Descriptor),
    (libc::SYS_sendto, "sendto", First::Descriptor),
    (libc::SYS_sendmsg, "sendmsg", First::Descriptor),
    (libc::SYS_sendmmsg, "sendmmsg", First::Descriptor),
    (libc::SYS_sendfile, "sendfile", First::Descriptor),
    (libc::SYS_connect, "connect", First::Descriptor),
    (libc::SYS_accept, "accept", First::Descriptor),
    (libc::SYS_accept4, "accept4", First::Descriptor),
    (libc::SYS_flock, "flock", First::Descriptor),
    (libc::SYS_fcntl, "fcntl", First::Descriptor),
    (libc::SYS_ioctl, "ioctl", First::Descriptor),
    (libc::SYS_fsync, "fsync", First::Descriptor),
    (libc::SYS_fdatasync, "fdatasync", First::Descriptor),
    (libc::SYS_ftruncate, "ftruncate", First::Descriptor),
    (libc::SYS_fallocate, "fallocate", First::Descriptor),
    (libc::SYS_getdents64, "getdents64", First::Descriptor),
    (libc::SYS_close, "close", First::Descriptor),
    (libc::SYS_openat, "openat", First::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", First::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", First::Other),
    (libc::SYS_ppoll, "ppoll", First::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", First::Other),
    (libc::SYS_pselect6, "pselect6", First::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", First::Descriptor),
    (libc::SYS_epoll_pwait, "epoll_pwait", First::Descriptor),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", First::Descriptor),
    (libc::SYS_io_uring_enter, "io_uring_enter", First::Descriptor),
    (libc::SYS_nanosleep, "nanosleep", First::Other),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", First::Other),
    (libc::SYS_futex, "futex", First::Other),
    (libc::SYS_wait4, "wait4", First::Other),
    (libc::SYS_waitid, "waitid", First::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause", First::Other),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", First::Other),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", First::Other),
    (libc::SYS_semop, "semop", First::Other),
    (libc::SYS_semtimedop, "semtimedop", First::Other),
    (libc::SYS_msgrcv, "msgrcv", First::Other),
    (libc::SYS_msgsnd, "msgsnd", First::Other),
    (libc::SYS_restart_syscall, "restart_syscall", First::Other),
];

/// Looks at a process. Takes some dozen system calls and never waits for it.
pub fn look(pid: Pid) -> Sight {
    let stat = procfs::stat(pid).ok();
    let call = procfs::syscall(pid, pid).ok();
    Sight {
        state: stat.as_ref().map(|stat| word(stat.state)),
        system_call: call.and_then(spelled),
        waits_on: call.and_then(|call| waits_on(pid, call)),
        wait_channel: procfs::wait_channel(pid).ok().flatten(),
        cpu: stat.as_ref().map(procfs::Stat::times),
        memory: stat.as_ref().map(procfs::Stat::rss),
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "R (running)",
        State::Sleeping => "S (sleeping)",
        State::DiskSleep => "D (disk sleep)",
        State::Stopped => "T (stopped)",
        State::Traced => "t (tracing stop)",
        State::Zombie => "Z (zombie)",
        State::Other => "X (ending)",
    }
}

fn spelled(call: Syscall) -> Option<String> {
    let Syscall::In { number, arguments } = call else { return None };
    Some(match CALLS.iter().find(|(known, ..)| *known == number) {
        // The kernel takes a descriptor from the low half of its register.
        Some((_, name, First::Descriptor)) => format!("{name}({})", arguments[0] as i32),
        Some((_, name, First::Other)) => format!("{name}()"),
        None => format!("system call {number}"),
    })
}

fn waits_on(pid: Pid, call: Syscall) -> Option<String> {
    let Syscall::In { number, arguments } = call else { return None };
    match wait::of(pid, call) {
        Wait::Accept(fd) | Wait::Read(fd) => describe(pid, fd),
        Wait::Poll(fds) | Wait::Epoll(fds) => describe_all(pid, fds),
        Wait::Ring => None,
        Wait::Other => {
            let (.., first) = CALLS.iter().find(|(known, ..)| *known == number)?;
            if *first == First::Descriptor { describe(pid, arguments[0] as i32) } else { None }
        }
    }
}

fn describe_all(pid: Pid, mut fds: Vec<i32>) -> Option<String> {
    fds.retain(|fd| *fd != wait::WRITE);
    let names: Vec<String> = fds.iter().take(NAMED).filter_map(|fd| describe(pid, *fd)).collect();
    let more = fds.len().saturating_sub(NAMED);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(names.join(", ")),
        (false, more) => Some(format!("{} and {more} more", names.join(", "))),
    }
}

/// What a descriptor of a process leads to.
fn describe(pid: Pid, fd: i32) -> Option<String> {
    let target = procfs::descriptor(pid, fd).ok()?;
    let text = target.to_string_lossy();
    if text.starts_with("socket:[") {
        let peer = borrow_descriptor(pid, fd).ok().and_then(|socket| peer(socket.as_fd()));
        return Some(peer.map_or_else(|| "socket".to_owned(), |peer| format!("socket {peer}")));
    }
    let is_pipe = text.starts_with("pipe:[");
    Some(if is_pipe { "pipe".to_owned() } else { text.into_owned() })
}

/// The other end of a connected socket, where it has a name.
fn peer(socket: BorrowedFd<'_>) -> Option<String> {
    let storage: SockaddrStorage = getpeername(socket.as_raw_fd()).ok()?;
    match storage.family()? {
        AddressFamily::Inet => storage.as_sockaddr_in().map(ToString::to_string),
        AddressFamily::Inet6 => storage.as_sockaddr_in6().map(|address| {
            let address = std::net::SocketAddrV6::from(*address);
            std::net::SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
        }),
        AddressFamily::Unix => {
            let address = storage.as_unix_addr()?;
            let abstracted = |name: &[u8]| format!("@{}", String::from_utf8_lossy(name));
            let path = address.path().map(|path| path.display().to_string());
            path.or_else(|| address.as_abstract().map(abstracted))
        }
        _ => None,
    }
}

/// A duplicate of another process's descriptor, to ask the kernel about it.
pub(super) fn borrow_descriptor(pid: Pid, fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open(2) takes two integers.
    let process = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let process = unsafe { OwnedFd::from_raw_fd(process as i32) };
    // SAFETY: pidfd_getfd(2) takes three integers.
    let copy = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as i32) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::os::testing::TempDir;

    fn pid(child: &Child) -> Pid {
        Pid::new(child.id() as i32).unwrap()
    }

    /// Looks until `found` is satisfied.
    fn until(child: &mut Child, found: impl Fn(&Sight) -> bool) -> Sight {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let sight = look(pid(child));
            if found(&sight) {
                child.kill().unwrap();
                child.wait().unwrap();
                return sight;
            }
            assert!(Instant::now() < deadline, "{sight:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn waits_for(child: &mut Child, what: &str) -> Sight {
        until(child, |sight| sight.waits_on.as_deref() == Some(what))
    }

    #[test]
    fn who_waits_for_a_pipe() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let sight = waits_for(&mut child, "pipe");
        assert_eq!((sight.state, sight.system_call.as_deref()), (Some("S (sleeping)"), Some("read(0)")));
        assert!(sight.cpu.is_some() && sight.memory.is_some_and(|memory| memory > 4096));
    }

    #[test]
    fn who_waits_for_a_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let mut child =
            Command::new("cat").stdin(OwnedFd::from(client)).stdout(Stdio::null()).spawn().unwrap();
        waits_for(&mut child, &format!("socket {address}"));

        let dir = TempDir::new();
        let path = dir.join("db.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let mut child =
            Command::new("cat").stdin(OwnedFd::from(client)).stdout(Stdio::null()).spawn().unwrap();
        waits_for(&mut child, &format!("socket {}", path.display()));
        drop(listener);
    }

    #[test]
    fn who_sleeps_waits_for_nothing() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let sight = until(&mut child, |sight| {
            sight.system_call.as_deref().is_some_and(|call| call.ends_with("nanosleep()"))
        });
        assert_eq!(sight.waits_on, None);
    }

    #[test]
    fn who_has_gone_is_nothing() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(look(pid(&child)), Sight::default());
    }

    #[test]
    fn calls_are_spelled() {
        let call = |number, first| Syscall::In { number, arguments: [first, 0, 0, 0, 0, 0] };
        assert_eq!(spelled(call(libc::SYS_flock, 0xffff_ffff_0000_0003)).unwrap(), "flock(3)");
        assert_eq!(spelled(call(100_000, 1)).unwrap(), "system call 100000");
        assert_eq!(spelled(Syscall::Running), None);
    }
}

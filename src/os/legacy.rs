//! The system calls of the old spawn-fcgi, in small steps, so that `spawn_fcgi` can keep the original's order of them.
//! Owns: that program's identity calls, its listening socket, and the sequence between its fork and exec. Does not own
//! any order but that one; fpmd's workers start through `os::process`. Errors are those of the system call, unwrapped.
//! fork(2), execve(2), close_range(2), socket(7), unix(7), credentials(7).

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd;

use super::errno;
use crate::ids::{Gid, Pid, Uid};

// -- who we are --

/// Whether the real user is root; the original asks for the real one, not the effective one.
pub fn started_by_root() -> bool {
    unistd::getuid().is_root()
}

/// Whether the binary has a set-user-ID or set-group-ID bit that took effect.
pub fn runs_setid() -> bool {
    unistd::getuid() != unistd::geteuid() || unistd::getgid() != unistd::getegid()
}

/// The file mode creation mask, which stays as it is.
pub fn creation_mask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

/// An entry of the user database, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: OsString,
    /// The number.
    pub uid: Uid,
    /// The primary group.
    pub gid: Gid,
}

/// The account of that name; `None` also where the database cannot be read, as getpwnam(3) answers.
pub fn account_by_name(name: &OsStr) -> Option<Account> {
    account(unistd::User::from_name(name.to_str()?))
}

/// The account of that number; `None` also where the database cannot be read.
pub fn account_by_uid(uid: Uid) -> Option<Account> {
    account(unistd::User::from_uid(unistd::Uid::from_raw(uid.0)))
}

fn account(found: nix::Result<Option<unistd::User>>) -> Option<Account> {
    let user = found.ok().flatten()?;
    Some(Account { name: user.name.into(), uid: Uid(user.uid.as_raw()), gid: Gid(user.gid.as_raw()) })
}

/// The group of that name; `None` also where the database cannot be read.
pub fn group_by_name(name: &OsStr) -> Option<Gid> {
    let group = unistd::Group::from_name(name.to_str()?).ok().flatten()?;
    Some(Gid(group.gid.as_raw()))
}

// -- giving up privileges --

/// setgid(2).
pub fn become_group(gid: Gid) -> io::Result<()> {
    Ok(unistd::setgid(unistd::Gid::from_raw(gid.0))?)
}

/// setgroups(2) with an empty list.
pub fn drop_supplementary_groups() -> io::Result<()> {
    Ok(unistd::setgroups(&[])?)
}

/// initgroups(3): `user`'s groups of the group database, and `gid`.
pub fn join_groups_of(user: &OsStr, gid: Gid) -> io::Result<()> {
    Ok(unistd::initgroups(&c_string(user)?, unistd::Gid::from_raw(gid.0))?)
}

/// chroot(2); the working directory stays where it is.
pub fn change_root(directory: &OsStr) -> io::Result<()> {
    Ok(unistd::chroot(directory)?)
}

/// setuid(2): as root it changes all three user ids for good.
pub fn become_user(uid: Uid) -> io::Result<()> {
    Ok(unistd::setuid(unistd::Uid::from_raw(uid.0))?)
}

// -- the listening socket --

/// A stream socket for `address`'s family, close-on-exec.
pub fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    stream_socket(family, SockFlag::SOCK_CLOEXEC)
}

/// A Unix stream socket, close-on-exec.
pub fn unix_socket() -> io::Result<OwnedFd> {
    stream_socket(AddressFamily::Unix, SockFlag::SOCK_CLOEXEC)
}

fn stream_socket(family: AddressFamily, flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(nix::sys::socket::socket(family, SockType::Stream, flags, None)?)
}

/// Whether somebody listens on `path`. Asks without blocking: a full queue is an owner too.
///
/// # Errors
/// Only that there is no socket to ask with; every refusal is an answer.
pub fn has_owner(path: &Path) -> io::Result<bool> {
    let socket = stream_socket(AddressFamily::Unix, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    let outcome = nix::sys::socket::connect(socket.as_raw_fd(), &unix_address(path)?);
    Ok(matches!(outcome, Ok(()) | Err(Errno::EAGAIN)))
}

/// SO_REUSEADDR.
pub fn reuse_address(socket: &OwnedFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReuseAddr, &true)?)
}

/// bind(2) to an address and port.
pub fn bind_tcp(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    Ok(nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// bind(2) to a path. An empty one makes the kernel choose an abstract name.
pub fn bind_unix(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    Ok(nix::sys::socket::bind(socket.as_raw_fd(), &unix_address(path)?)?)
}

fn unix_address(path: &Path) -> nix::Result<UnixAddr> {
    if path.as_os_str().is_empty() { Ok(UnixAddr::new_unnamed()) } else { UnixAddr::new(path) }
}

/// chown(2); `None` leaves the owner or the group.
pub fn change_owner(path: &Path, owner: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
    let owner = owner.map(|uid| unistd::Uid::from_raw(uid.0));
    let group = group.map(|gid| unistd::Gid::from_raw(gid.0));
    Ok(unistd::chown(path, owner, group)?)
}

/// listen(2) with any number: the kernel caps it, and takes a negative one for the greatest.
pub fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: listen takes a descriptor, which `socket` keeps open, and a number.
    let result = unsafe { libc::listen(socket.as_raw_fd(), backlog) };
    Errno::result(result)?;
    Ok(())
}

// -- the environment --

/// Every entry of our environment as it is: order, duplicates and entries without `=` included.
pub fn environment() -> Vec<CString> {
    let mut entries = Vec::new();
    // SAFETY: reads one pointer; nothing in this single-threaded program changes the environment meanwhile.
    let mut entry = unsafe { libc::environ } as *const *const libc::c_char;
    while !entry.is_null() {
        // SAFETY: `entry` points into the array that the kernel or libc made, at or before its null pointer.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: a pointer in that array, other than the null pointer, points to a string with a final NUL.
        entries.push(unsafe { CStr::from_ptr(text) }.to_owned());
        // SAFETY: the entry was not the null pointer, so the array goes on.
        entry = unsafe { entry.add(1) };
    }
    entries
}

/// `text` for a system call.
///
/// # Errors
/// `InvalidInput` for a NUL byte, which no argument or environment entry can hold.
pub fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

// -- SIGPIPE and SIGCHLD, which a worker has to inherit as we did --

/// Whether SIGPIPE was ignored when we were started. Rust's runtime ignores it before `main`, always.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime, because afterwards the inherited disposition is lost. One system call, no allocation.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_SIGPIPE: extern "C" fn() = note_sigpipe;

extern "C" fn note_sigpipe() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; the kernel writes the old one into `action`, which is large enough.
    let result = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: every bit pattern is a valid sigaction, and zeroes were there before the call.
    let action = unsafe { action.assume_init() };
    SIGPIPE_WAS_IGNORED.store(result == 0 && action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
}

/// Gives SIGPIPE the disposition back that this process was started with.
pub fn restore_sigpipe() -> io::Result<()> {
    let ignored = SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed);
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    set_disposition(NixSignal::SIGPIPE, handler).map(|_| ())
}

/// What SIGCHLD did before `collect_children`.
#[derive(Debug, Clone, Copy)]
pub struct ChildSignal(SigAction);

/// Makes waitpid(2) see how our children end, even where we were started with SIGCHLD ignored.
pub fn collect_children() -> io::Result<ChildSignal> {
    set_disposition(NixSignal::SIGCHLD, SigHandler::SigDfl).map(ChildSignal)
}

fn set_disposition(signal: NixSignal, handler: SigHandler) -> io::Result<SigAction> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler function is installed, only the default or "ignore".
    Ok(unsafe { sigaction(signal, &action) }?)
}

// -- fork and exec --

/// A program about to be executed.
#[derive(Debug)]
pub struct Program {
    /// The path given to execve(2), relative to the working directory then.
    pub path: CString,
    /// Its arguments, the name included.
    pub arguments: Vec<CString>,
    /// Its whole environment.
    pub environment: Vec<CString>,
}

impl Program {
    /// Replaces this process; returns only the reason why it did not.
    pub fn execute(&self) -> io::Error {
        match unistd::execve(&self.path, &self.arguments, &self.environment) {
            Err(errno) => errno.into(),
            Ok(never) => match never {},
        }
    }

    /// As the only step before exec, puts `listener` on FD 0. Everything else is inherited as it is.
    pub fn execute_in_place(&self, listener: BorrowedFd<'_>) -> io::Error {
        // The original does not look at this result either: exec follows, and the worker finds out.
        let _ = unistd::dup2_stdin(listener);
        self.execute()
    }

    /// Forks a child that becomes this program in a session of its own: FD 0 is `listener`, FD 1 and 2 are /dev/null,
    /// all others are closed. A child that cannot execute it ends with the errno as its status.
    pub fn fork_detached(&self, listener: BorrowedFd<'_>, signal: ChildSignal) -> io::Result<Pid> {
        // SAFETY: this process has one thread, so that the child may call anything, and it never returns from here.
        match unsafe { unistd::fork() }? {
            unistd::ForkResult::Parent { child } => {
                Pid::new(child.as_raw()).ok_or_else(|| io::Error::from(Errno::ESRCH))
            }
            unistd::ForkResult::Child => {
                let failure = self.detach_and_execute(listener, signal);
                exit_now(failure.raw_os_error().unwrap_or(1))
            }
        }
    }

    /// The child's steps, in the original's order.
    fn detach_and_execute(&self, listener: BorrowedFd<'_>, signal: ChildSignal) -> io::Error {
        // Results that the original ignores are ignored here: the worker starts if it can.
        let _ = unistd::dup2_stdin(listener);
        let _ = unistd::setsid();
        if let Err(cause) = redirect_output_to_null() {
            let cause = errno::said_plainly(&cause);
            complain(&format!("couldn't open and redirect stdout/stderr to '/dev/null': {cause}"));
        }
        close_from_3();
        // SAFETY: puts back what was installed before; an inherited disposition is never a function.
        let _ = unsafe { sigaction(NixSignal::SIGCHLD, &signal.0) };
        let failure = self.execute();
        complain(&format!("exec failed: {}", errno::said_plainly(&failure)));
        failure
    }
}

fn redirect_output_to_null() -> io::Result<()> {
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    Ok(())
}

/// A line on stderr from the child, which has nobody to return to.
fn complain(text: &str) {
    let line = format!("spawn-fcgi: {text}\n");
    let _ = unistd::write(io::stderr(), line.as_bytes());
}

/// Closes every descriptor but the first three, one by one where the kernel is older than 5.9.
fn close_from_3() {
    // SAFETY: closes numbers only; the child executes or ends next, and no owner of one of them runs before that.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        return;
    }
    let limit = unistd::sysconf(unistd::SysconfVar::OPEN_MAX).ok().flatten().unwrap_or(1024);
    for number in 3..i32::try_from(limit).unwrap_or(i32::MAX) {
        // SAFETY: as above; a number that is not open only gives EBADF.
        unsafe { libc::close(number) };
    }
}

/// Ends a forked child without running what the parent registered for its own end.
fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(status) }
}

/// How a child is, asked without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// It runs, or is stopped.
    Running,
    /// It ended with this status, 0 to 255.
    Exited(i32),
    /// It was ended by this signal.
    Signaled(i32),
}

/// Waits without watching anything. No signal cuts it short, as this program catches none.
pub fn wait_for(milliseconds: u16) {
    let _ = nix::poll::poll(&mut [], milliseconds);
}

/// Asks for the state of our child `pid`; a dead one is reaped.
pub fn child_state(pid: Pid) -> io::Result<ChildState> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer, into `status`. (nix's waitpid knows no real-time signals.)
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
    match Errno::result(reaped)? {
        0 => Ok(ChildState::Running),
        _ if libc::WIFEXITED(status) => Ok(ChildState::Exited(libc::WEXITSTATUS(status))),
        _ => Ok(ChildState::Signaled(libc::WTERMSIG(status))),
    }
}

// -- files --

/// Whether execve(2) would take `path` from us: a regular file with a permission for it.
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && unistd::access(path, unistd::AccessFlags::X_OK).is_ok()
}

/// A file without a name that holds `text` and can never be changed; an executed program inherits it.
pub fn sealed_file(name: &str, text: &str) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MFdFlags::MFD_ALLOW_SEALING)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        rest = &rest[unistd::write(&file, rest)?..];
    }
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn environment_is_the_one_of_the_process() {
        let ours = environment();
        for (name, value) in std::env::vars_os() {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            assert!(ours.iter().any(|e| e.as_bytes() == entry), "{name:?} is missing");
        }
    }

    #[test]
    fn a_sealed_file_is_read_again_and_again_and_never_written() {
        let file = sealed_file("test", "one = 1\n").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        for _ in 0..2 {
            let mut text = String::new();
            std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "one = 1\n");
        }
        assert_eq!(unistd::write(&file, b"x"), Err(Errno::EPERM));
    }

    #[test]
    fn a_full_queue_is_an_owner() {
        let directory = std::env::temp_dir().join(format!("fpmd-legacy-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("s");
        assert!(!has_owner(&path).unwrap(), "nothing there");
        let socket = unix_socket().unwrap();
        bind_unix(&socket, &path).unwrap();
        assert!(!has_owner(&path).unwrap(), "bound, but nobody listens");
        listen(&socket, 0).unwrap();
        let _fills_the_queue = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(has_owner(&path).unwrap(), "the queue is full");
        drop(socket);
        assert!(!has_owner(&path).unwrap(), "left behind");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

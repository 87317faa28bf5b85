//! One process as /proc tells it, see proc(5): its state, times, memory, descriptors, and what it waits for.
//!
//! Reads with one buffer on the stack and no list. A process may end between any two looks: that is [`Error::Gone`],
//! never a panic and never a number of another process. What the facts mean is `activity`'s business.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use crate::ids::Pid;
use crate::os::errno::Cause;

/// Why a process could not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// It has ended.
    Gone,
    /// We may not see this of it: that takes the same user, or root.
    Denied(Pid),
    /// The kernel's answer or text was not what proc(5) says.
    Unreadable(Pid, Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone => f.write_str("cannot look at the process: it has ended"),
            Error::Denied(pid) => write!(f, "cannot look at process {pid}: not permitted"),
            Error::Unreadable(pid, errno) => write!(f, "cannot look at process {pid}: {}", Cause(*errno)),
        }
    }
}

impl std::error::Error for Error {}

/// What the scheduler does with a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On a CPU or ready for one.
    Running,
    /// Waiting, interruptibly.
    Sleeping,
    /// Waiting where no signal reaches it, usually for a disk.
    DiskSleep,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a debugger.
    Traced,
    /// Ended and not reaped.
    Zombie,
    /// Anything else, for example being torn down.
    Other,
}

/// The fields of `/proc/PID/stat` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State of the main thread.
    pub state: State,
    /// The parent; `None` for processes that have none in our pid namespace.
    pub parent: Option<Pid>,
    /// The process group's leader; `None` where it is outside our pid namespace.
    pub group: Option<Pid>,
    /// The session's leader; `None` where it is outside our pid namespace.
    pub session: Option<Pid>,
    /// Clock ticks of user and of system time, ended and reaped children included.
    ticks: [u64; 2],
    /// Threads, at least 1 while it lives.
    pub threads: u32,
    /// Start, clock ticks since boot: with the pid it names a process for ever.
    pub start_ticks: u64,
    /// Resident pages.
    rss_pages: u64,
}

impl Stat {
    /// User and system time, that of ended children included.
    pub fn cpu(&self) -> Duration {
        self.times().total()
    }

    /// The same, one by one.
    pub fn times(&self) -> CpuTimes {
        let per_second = constant(SysconfVar::CLK_TCK, 100);
        let [user, system] = self.ticks.map(|ticks| {
            let rest = ticks % per_second * 1_000_000_000 / per_second;
            Duration::new(ticks / per_second, u32::try_from(rest).unwrap_or(0))
        });
        CpuTimes { user, system }
    }

    /// Resident set size in bytes, as exact as the kernel keeps it (some dozen pages off with many CPUs).
    pub fn rss(&self) -> u64 {
        self.rss_pages.saturating_mul(constant(SysconfVar::PAGE_SIZE, 4096))
    }
}

/// CPU time of a process, ended and reaped children included, as exact as the kernel's clock ticks: usually 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In its program.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl CpuTimes {
    /// Both.
    pub fn total(&self) -> Duration {
        self.user.saturating_add(self.system)
    }

    /// What was used since an earlier look.
    pub fn since(&self, earlier: &CpuTimes) -> CpuTimes {
        CpuTimes {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// Memory of a process that is resident, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most that it ever had.
    pub peak: u64,
}

/// Where a thread is, from `/proc/PID/task/TID/syscall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syscall {
    /// On a CPU, or ready for one.
    Running,
    /// Waiting, but not in a system call: a page fault, for example.
    Outside,
    /// Waiting in a system call.
    In {
        /// Its number on this architecture.
        number: libc::c_long,
        /// Its arguments as they are in the registers.
        arguments: [u64; 6],
    },
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// See [`Error`]. A zombie is no error.
pub fn stat(pid: Pid) -> Result<Stat, Error> {
    read(pid, &format!("/proc/{pid}/stat"), parse_stat)
}

/// Reads the memory of a process from `/proc/PID/status`; `None` for one that has none, such as a zombie.
///
/// # Errors
/// See [`Error`].
pub fn memory(pid: Pid) -> Result<Option<Memory>, Error> {
    read(pid, &format!("/proc/{pid}/status"), |text| Some(parse_memory(text)))
}

/// Bytes of memory that are the process's own: resident pages that are neither of a file nor shared memory, such as
/// opcache's. Everyone may see them, and they cost 2.5 µs of CPU; PSS of smaps_rollup, which would count a share of what is
/// shared, 110 µs for a small process and 670 for one with 100 MB, holds up its page faults meanwhile, and is not for others.
/// Since Linux 6.2 the kernel counts in batches: some hundred kilobytes more or less.
///
/// # Errors
/// See [`Error`].
pub fn private_memory(pid: Pid) -> Result<u64, Error> {
    read(pid, &format!("/proc/{pid}/statm"), |text| {
        let text = std::str::from_utf8(text).ok()?;
        let mut pages = text.split_ascii_whitespace().map(str::parse::<u64>);
        let (resident, shared) = (pages.nth(1)?.ok()?, pages.next()?.ok()?);
        Some(resident.saturating_sub(shared).saturating_mul(constant(SysconfVar::PAGE_SIZE, 4096)))
    })
}

/// The kernel function that the main thread sleeps in; `None` if it does not sleep, or if we may not see it.
///
/// # Errors
/// See [`Error`].
pub fn wait_channel(pid: Pid) -> Result<Option<String>, Error> {
    read(pid, &format!("/proc/{pid}/wchan"), |text| {
        let name = std::str::from_utf8(text).ok()?.trim();
        Some((!matches!(name, "" | "0")).then(|| name.to_owned()))
    })
}

/// What a descriptor is: the path of its file, or a word of the kernel's such as `socket:[8]`.
///
/// # Errors
/// See [`Error`]; [`Error::Gone`] also where there is no such descriptor.
pub fn descriptor(pid: Pid, fd: i32) -> Result<PathBuf, Error> {
    fs::read_link(format!("/proc/{pid}/fd/{fd}")).map_err(|error| failed(pid, &error))
}

/// Reads the state of one thread.
///
/// # Errors
/// See [`Error`].
pub fn thread_state(pid: Pid, thread: Pid) -> Result<State, Error> {
    read(pid, &format!("/proc/{pid}/task/{thread}/stat"), |text| parse_stat(text).map(|stat| stat.state))
}

/// Reads where one thread is. Needs the right to trace the process.
///
/// # Errors
/// See [`Error`].
pub fn syscall(pid: Pid, thread: Pid) -> Result<Syscall, Error> {
    read(pid, &format!("/proc/{pid}/task/{thread}/syscall"), parse_syscall)
}

/// Calls `each` with every thread's id.
///
/// # Errors
/// See [`Error`].
pub fn threads(pid: Pid, mut each: impl FnMut(Pid)) -> Result<(), Error> {
    entries(pid, &format!("/proc/{pid}/task"), |entry| {
        each_number(entry).and_then(Pid::new).map(&mut each);
        Ok(())
    })
}

/// Calls `each` with every child that one thread of the process started.
///
/// # Errors
/// See [`Error`]; [`Error::Gone`] also where the kernel does not list children (CONFIG_PROC_CHILDREN).
pub fn children(pid: Pid, thread: Pid, mut each: impl FnMut(Pid)) -> Result<(), Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"))
        .map_err(|error| failed(pid, &error))?;
    text.split_ascii_whitespace().filter_map(|word| Pid::new(word.parse().ok()?)).for_each(&mut each);
    Ok(())
}

/// Calls `each` with every descriptor that is a socket: its number and the socket's inode.
///
/// # Errors
/// See [`Error`].
pub fn sockets(pid: Pid, mut each: impl FnMut(i32, u64)) -> Result<(), Error> {
    entries(pid, &format!("/proc/{pid}/fd"), |entry| {
        let Some(number) = each_number(entry) else { return Ok(()) };
        match fs::read_link(entry.path()) {
            Ok(target) => {
                if let Some(inode) = target.to_str().and_then(socket_inode) {
                    each(number, inode);
                }
                Ok(())
            }
            // Closed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(pid, &error)),
        }
    })
}

/// Calls `each` with every descriptor that the epoll instance `epoll` of a process watches.
///
/// # Errors
/// See [`Error`].
pub fn epoll_targets(pid: Pid, epoll: i32, mut each: impl FnMut(i32)) -> Result<(), Error> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}")).map_err(|error| failed(pid, &error))?;
    text.lines().filter_map(epoll_target).for_each(&mut each);
    Ok(())
}

/// Reads one small file into a buffer on the stack and parses it.
fn read<T>(pid: Pid, path: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, Error> {
    let mut buffer = [0; 2048];
    let mut filled = 0;
    let mut file = File::open(path).map_err(|error| failed(pid, &error))?;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(pid, &error)),
        }
    }
    parse(&buffer[..filled]).ok_or(Error::Unreadable(pid, Errno::EBADMSG))
}

fn entries(
    pid: Pid,
    path: &str,
    mut each: impl FnMut(&fs::DirEntry) -> Result<(), Error>,
) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(|error| failed(pid, &error))? {
        each(&entry.map_err(|error| failed(pid, &error))?)?;
    }
    Ok(())
}

fn each_number(entry: &fs::DirEntry) -> Option<i32> {
    entry.file_name().to_str()?.parse().ok()
}

fn failed(pid: Pid, error: &io::Error) -> Error {
    match error.raw_os_error().map_or(Errno::EIO, Errno::from_raw) {
        // ESRCH: the file was open when the process ended.
        Errno::ENOENT | Errno::ESRCH => Error::Gone,
        Errno::EACCES | Errno::EPERM => Error::Denied(pid),
        errno => Error::Unreadable(pid, errno),
    }
}

/// The text of `/proc/PID/stat`; the name, which may hold spaces and parentheses, ends at the last parenthesis.
pub(super) fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace();
    let state = match fields.next()? {
        "R" => State::Running,
        "S" | "I" => State::Sleeping,
        "D" => State::DiskSleep,
        "T" => State::Stopped,
        "t" => State::Traced,
        "Z" => State::Zombie,
        _ => State::Other,
    };
    // Numbers as in proc(5), where the state is field 3; each call goes on from the field before.
    let mut last = 3;
    let mut field = |number: usize| -> Option<i64> {
        let skipped = number - last - 1;
        last = number;
        // The unsigned 64-bit fields, all limits and addresses, are none of those we read.
        fields.nth(skipped)?.parse().ok()
    };
    let pid = |number: i64| i32::try_from(number).ok().and_then(Pid::new);
    let (parent, group, session) = (field(4)?, field(5)?, field(6)?);
    let times =
        [field(14)?, field(15)?, field(16)?, field(17)?].map(|ticks| u64::try_from(ticks).unwrap_or(0));
    let (threads, start, rss) = (field(20)?, field(22)?, field(24)?);
    Some(Stat {
        state,
        parent: pid(parent),
        group: pid(group),
        session: pid(session),
        ticks: [times[0].saturating_add(times[2]), times[1].saturating_add(times[3])],
        threads: u32::try_from(threads).ok()?,
        start_ticks: u64::try_from(start).ok()?,
        rss_pages: u64::try_from(rss).unwrap_or(0),
    })
}

/// The lines `VmRSS:` and `VmHWM:`, in kibibytes.
fn parse_memory(text: &[u8]) -> Option<Memory> {
    let text = String::from_utf8_lossy(text);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { resident: value("VmRSS")?, peak: value("VmHWM")? })
}

fn parse_syscall(text: &[u8]) -> Option<Syscall> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number = match words.next()? {
        "running" => return Some(Syscall::Running),
        word => word.parse().ok()?,
    };
    if number < 0 {
        return Some(Syscall::Outside);
    }
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Syscall::In { number, arguments })
}

/// `socket:[12345]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `tfd:        0 events:       19 data: …`.
fn epoll_target(line: &str) -> Option<i32> {
    line.strip_prefix("tfd:")?.split_ascii_whitespace().next()?.parse().ok()
}

/// A constant of this machine; `otherwise` is what every Linux of today says.
fn constant(name: SysconfVar, otherwise: u64) -> u64 {
    let value = sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    value.filter(|value| *value > 0).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    use nix::sys::stat::fstat;
    use proptest::prelude::*;

    use super::*;

    const REST: &str =
        "S 2 3 4 0 -1 4194304 101 0 0 0 10 20 300 4000 20 0 7 0 158761 3133440 390 18446744073709551615 1 1";

    fn own() -> Pid {
        Pid::new(std::process::id() as i32).unwrap()
    }

    #[test]
    fn the_name_may_hold_anything() {
        for name in ["cat", "a b", "x) R 1 1 1", "((", "", "\n) Z 1"] {
            let stat = parse_stat(format!("77 ({name}) {REST}\n").as_bytes()).unwrap();
            assert_eq!(stat.state, State::Sleeping, "{name}");
            assert_eq!((stat.parent, stat.session), (Pid::new(2), Pid::new(4)));
            assert_eq!((stat.ticks, stat.threads), ([310, 4020], 7));
            assert_eq!((stat.start_ticks, stat.rss_pages), (158_761, 390));
        }
        let mut bytes = b"77 (\xff\xfe) ".to_vec();
        bytes.extend(REST.as_bytes());
        assert!(parse_stat(&bytes).is_some(), "names need not be text");
    }

    #[test]
    fn a_short_or_wrong_line_is_nothing() {
        let whole = format!("77 (cat) {REST}");
        for length in 0..whole.find(" 18446").unwrap() - 3 {
            assert_eq!(parse_stat(&whole.as_bytes()[..length]), None, "{length}");
        }
        assert_eq!(parse_stat(b"77 (cat) S x 3 4"), None);
    }

    #[test]
    fn system_calls_are_read() {
        assert_eq!(parse_syscall(b"running\n"), Some(Syscall::Running));
        assert_eq!(parse_syscall(b"-1 0x7ffc 0x7f4e\n"), Some(Syscall::Outside));
        let call = parse_syscall(b"43 0x0 0x7ff 0x10 0xffffffffffffffff 0x4 0x5 0x7ffc 0x7f4e\n");
        assert_eq!(call, Some(Syscall::In { number: 43, arguments: [0, 0x7ff, 16, u64::MAX, 4, 5] }));
        for text in ["", "\n", "43", "43 0x0", "43 0 0 0 0 0 0", "x 0x0", "99999999999999999999 0x0"] {
            assert_eq!(parse_syscall(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn links_and_epoll_lines_are_read() {
        assert_eq!(socket_inode("socket:[8]"), Some(8));
        for text in ["socket:[]", "socket:[x]", "pipe:[8]", "/tmp/socket:[8]", "socket:[8] (deleted)"] {
            assert_eq!(socket_inode(text), None, "{text}");
        }
        assert_eq!(epoll_target("tfd:        5 events:       19 data: 5  pos:0 ino:1 sdev:8"), Some(5));
        assert_eq!(epoll_target("pos:	0"), None);
        assert_eq!(epoll_target("tfd:"), None);
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parsers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_stat(&bytes), parse_syscall(&bytes), parse_memory(&bytes));
        }
    }

    #[test]
    fn we_are_who_we_are() {
        let stat = stat(own()).unwrap();
        // 0 in both: a parent or a session outside of our PID namespace.
        let raw = |pid: Option<Pid>| pid.map_or(0, Pid::as_raw);
        assert_eq!(raw(stat.parent), nix::unistd::getppid().as_raw());
        assert_eq!(raw(stat.session), nix::unistd::getsid(None).unwrap().as_raw());
        assert!(stat.rss() > 100_000, "{stat:?}");
        assert!(stat.cpu() < Duration::from_secs(86_400));
        let mut seen = 0;
        threads(own(), |_| seen += 1).unwrap();
        assert!(seen >= 2, "the test harness runs tests in threads");
    }

    #[test]
    fn our_sockets_are_found_by_number_and_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = (listener.as_raw_fd(), fstat(&listener).unwrap().st_ino);
        let mut found = false;
        sockets(own(), |fd, inode| found |= (fd, inode) == wanted).unwrap();
        assert!(found);
    }

    #[test]
    fn memory_is_told_in_bytes_and_its_peak_is_no_less() {
        let memory = memory(own()).unwrap().unwrap();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident, "{memory:?}");
        assert_eq!(
            parse_memory(b"VmHWM:\t 3 kB\nVmRSS:\t 2 kB\n"),
            Some(Memory { resident: 2048, peak: 3072 })
        );
        for text in ["", "VmHWM: 3 kB\n", "VmHWM: 3 kB\nVmRSS: x kB\n", "VmHWM: 3\nVmRSS: 2\n"] {
            assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn descriptors_have_names() {
        let (pipe, _end) = io::pipe().unwrap();
        let name = descriptor(own(), pipe.as_raw_fd()).unwrap();
        assert!(name.to_str().unwrap().starts_with("pipe:["), "{name:?}");
        assert_eq!(descriptor(own(), -1), Err(Error::Gone));
    }

    #[test]
    fn zombies_and_the_reaped_are_told_apart() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::new(child.id() as i32).unwrap();
        drop(child.stdin.take());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while stat(pid).unwrap().state != State::Zombie {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut ours = Vec::new();
        threads(own(), |thread| children(own(), thread, |child| ours.push(child)).unwrap()).unwrap();
        assert!(ours.contains(&pid));
        child.wait().unwrap();
        assert_eq!(stat(pid), Err(Error::Gone));
        assert_eq!(syscall(pid, pid), Err(Error::Gone));
        assert_eq!(sockets(pid, |_, _| ()), Err(Error::Gone));
        assert_eq!(threads(pid, |_| ()), Err(Error::Gone));
    }
}

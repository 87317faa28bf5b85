//! What a thread waits for: its system call from `/proc/PID/task/TID/syscall`, with the descriptors behind it. See accept(2),
//! poll(2), select(2), epoll(7).
//!
//! The sets of poll and select are read from the process's memory; what an io_uring holds cannot be read.

use std::io::IoSliceMut;

use libc::c_long;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use crate::ids::Pid;
use crate::os::procfs::{self, Syscall};

/// What one thread waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::os) enum Wait {
    /// A connection, in accept(2) on this descriptor.
    Accept(i32),
    /// Bytes, in read(2) or recv(2) on this descriptor.
    Read(i32),
    /// Any of these to become readable, in poll(2) or select(2). [`WRITE`] stands for those that are to become writable.
    Poll(Vec<i32>),
    /// Any of these, in epoll_wait(2).
    Epoll(Vec<i32>),
    /// Whatever an io_uring was asked for.
    Ring,
    /// Anything else, a CPU included.
    Other,
}

/// No descriptor: one that a thread wants to write to.
pub(in crate::os) const WRITE: i32 = -1;

/// The most descriptors of a poll or select that are read: more than RLIMIT_NOFILE usually allows a worker.
const MOST: usize = 4096;
/// Bytes of `struct pollfd`.
const POLLFD: usize = 8;

/// One kind of waiting, by the name of its system call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept,
    Read,
    Poll,
    Select,
    Epoll,
    Ring,
}

/// Numbers of this architecture; newer ones have no poll, select and epoll_wait of their own.
const CALLS: &[(c_long, Kind)] = &[
    (libc::SYS_accept, Kind::Accept),
    (libc::SYS_accept4, Kind::Accept),
    (libc::SYS_read, Kind::Read),
    (libc::SYS_readv, Kind::Read),
    (libc::SYS_recvfrom, Kind::Read),
    (libc::SYS_recvmsg, Kind::Read),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Kind::Poll),
    (libc::SYS_ppoll, Kind::Poll),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, Kind::Select),
    (libc::SYS_pselect6, Kind::Select),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, Kind::Epoll),
    (libc::SYS_epoll_pwait, Kind::Epoll),
    (libc::SYS_epoll_pwait2, Kind::Epoll),
    (libc::SYS_io_uring_enter, Kind::Ring),
];

/// Finds out what a thread that is in `call` waits for. What cannot be read counts as nothing to wait for, so that a
/// worker is never taken for idle by mistake.
pub(in crate::os) fn of(pid: Pid, call: Syscall) -> Wait {
    let Syscall::In { number, arguments } = call else { return Wait::Other };
    let Some((_, kind)) = CALLS.iter().find(|(known, _)| *known == number) else { return Wait::Other };
    // The kernel takes a descriptor from the low half of its register.
    let first = arguments[0] as i32;
    match kind {
        Kind::Accept => Wait::Accept(first),
        Kind::Read => Wait::Read(first),
        Kind::Poll => Wait::Poll(polled(pid, arguments[0], arguments[1])),
        Kind::Select => Wait::Poll(selected(pid, arguments[0], arguments[1], arguments[2])),
        Kind::Epoll => {
            let mut targets = Vec::new();
            // Gone or forbidden: an empty set.
            let _ = procfs::epoll_targets(pid, first, |fd| targets.push(fd));
            Wait::Epoll(targets)
        }
        Kind::Ring => Wait::Ring,
    }
}

/// The descriptors of an array of `struct pollfd`.
fn polled(pid: Pid, address: u64, count: u64) -> Vec<i32> {
    let count = usize::try_from(count).unwrap_or(MOST).min(MOST);
    let bytes = memory(pid, address, count * POLLFD);
    bytes.chunks_exact(POLLFD).filter_map(|entry| pollfd(entry.try_into().ok()?)).collect()
}

/// One entry: `None` if it is switched off, [`WRITE`] if only writing would end the wait.
fn pollfd(entry: [u8; POLLFD]) -> Option<i32> {
    let [a, b, c, d, e, f, ..] = entry;
    let fd = i32::from_ne_bytes([a, b, c, d]);
    let events = i16::from_ne_bytes([e, f]);
    let reads = events & (libc::POLLIN | libc::POLLRDNORM) != 0;
    (fd >= 0).then_some(if reads { fd } else { WRITE })
}

/// The descriptors of two `fd_set`s, that for reading and that for writing.
fn selected(pid: Pid, count: u64, reading: u64, writing: u64) -> Vec<i32> {
    let count = usize::try_from(count).unwrap_or(MOST).min(MOST);
    let set = |address| bits(&memory(pid, address, count.div_ceil(64) * 8), count);
    let mut descriptors = set(reading);
    if !set(writing).is_empty() {
        descriptors.push(WRITE);
    }
    descriptors
}

/// Numbers of the bits that are set: an `fd_set` is an array of longs.
fn bits(bytes: &[u8], count: usize) -> Vec<i32> {
    let words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
    let numbers = words.enumerate().flat_map(|(index, word)| {
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
    });
    numbers.filter(|number| *number < count).filter_map(|number| i32::try_from(number).ok()).collect()
}

/// Memory of a process; empty where it cannot be read as a whole.
fn memory(pid: Pid, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let Ok(base) = usize::try_from(address) else { return Vec::new() };
    if base == 0 || length == 0 {
        return Vec::new();
    }
    let remote = [RemoteIoVec { base, len: length }];
    let target = nix::unistd::Pid::from_raw(pid.as_raw());
    match process_vm_readv(target, &mut [IoSliceMut::new(&mut bytes)], &remote) {
        Ok(read) if read == length => bytes,
        Ok(_) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: c_long, first: [u64; 3]) -> Syscall {
        let [a, b, c] = first;
        Syscall::In { number, arguments: [a, b, c, 0, 0, 0] }
    }

    fn own() -> Pid {
        Pid::new(std::process::id() as i32).unwrap()
    }

    #[test]
    fn accept_and_read_name_their_descriptor() {
        assert_eq!(of(own(), call(libc::SYS_accept, [0, 1, 2])), Wait::Accept(0));
        assert_eq!(of(own(), call(libc::SYS_accept4, [0xffff_ffff_0000_0003, 1, 2])), Wait::Accept(3));
        assert_eq!(of(own(), call(libc::SYS_recvfrom, [5, 1, 2])), Wait::Read(5));
        assert_eq!(of(own(), call(libc::SYS_nanosleep, [0, 0, 0])), Wait::Other);
        assert_eq!(of(own(), Syscall::Running), Wait::Other);
        assert_eq!(of(own(), Syscall::Outside), Wait::Other);
    }

    #[test]
    fn a_poll_is_read_from_memory() {
        let poll = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let set =
            [poll(7, libc::POLLIN), poll(-1, libc::POLLIN), poll(8, libc::POLLOUT), poll(9, libc::POLLIN)];
        let wait = of(own(), call(libc::SYS_ppoll, [set.as_ptr() as u64, 4, 0]));
        assert_eq!(wait, Wait::Poll(vec![7, WRITE, 9]));
        assert_eq!(of(own(), call(libc::SYS_ppoll, [8, 4, 0])), Wait::Poll(vec![]), "not readable");
        let endless = call(libc::SYS_ppoll, [set.as_ptr() as u64, u64::MAX, 0]);
        assert!(matches!(of(own(), endless), Wait::Poll(_)));
    }

    #[test]
    fn a_select_is_read_from_memory() {
        let reading: [u64; 2] = [1 << 3 | 1 << 63, 1 << 1];
        let writing: [u64; 2] = [0, 0];
        let addresses = [reading.as_ptr() as u64, writing.as_ptr() as u64];
        let wait = of(own(), call(libc::SYS_pselect6, [66, addresses[0], addresses[1]]));
        assert_eq!(wait, Wait::Poll(vec![3, 63, 65]));
        let fewer = of(own(), call(libc::SYS_pselect6, [65, addresses[0], 0]));
        assert_eq!(fewer, Wait::Poll(vec![3, 63]), "bits beyond the count do not matter");
        let both = of(own(), call(libc::SYS_pselect6, [64, addresses[0], addresses[0]]));
        assert_eq!(both, Wait::Poll(vec![3, 63, WRITE]));
    }

    #[test]
    fn an_epoll_names_what_it_watches() {
        use std::os::fd::AsRawFd;
        let epoll = mio::Poll::new().unwrap();
        let (pipe, _end) = std::io::pipe().unwrap();
        let watched = pipe.as_raw_fd();
        let source = &mut mio::unix::SourceFd(&watched);
        epoll.registry().register(source, mio::Token(0), mio::Interest::READABLE).unwrap();
        let number = epoll.as_raw_fd() as u64;
        assert_eq!(of(own(), call(libc::SYS_epoll_pwait, [number, 0, 0])), Wait::Epoll(vec![watched]));
        let no_epoll = call(libc::SYS_epoll_pwait, [watched as u64, 0, 0]);
        assert_eq!(of(own(), no_epoll), Wait::Epoll(vec![]));
    }
}

//! Connected stream sockets that never wait, as the gateway needs them: accept, connect, read, write and the few questions
//! that a proxy asks about a peer. accept4(2), connect(2), recv(2), send(2), poll(2), unix(7), tcp(7).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self as sys, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, UnixAddr, sockopt,
};

use super::alarm;

/// A connected stream socket, non-blocking and close-on-exec. Dropping it closes it.
#[derive(Debug)]
pub struct Stream(OwnedFd);

/// What a peer that says nothing is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there, or has at least not closed the side on which it hears.
    There,
    /// It has closed: nobody would read an answer. A half-closed TCP connection counts too, as it cannot be told apart.
    Gone,
}

impl Stream {
    /// Takes the next connection off a non-blocking listening socket.
    ///
    /// # Errors
    /// `EAGAIN` where none waits, `EMFILE` and `ENFILE` without a descriptor left; accept(2) names errors of a connection
    /// that has died since, after which there may be others.
    pub fn accept(listener: BorrowedFd<'_>) -> Result<Stream, Errno> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let raw = sys::accept4(listener.as_raw_fd(), flags)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
        Ok(Stream(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Takes the next connection off a listening socket on which others accept as well, and which waits for them: that
    /// belongs to the socket and not to a descriptor, so that it must not be changed for us.
    ///
    /// # Errors
    /// As `accept`; `EAGAIN` too where somebody else was quicker.
    pub fn accept_beside_others(listener: BorrowedFd<'_>) -> Result<Stream, Errno> {
        let mut seen = [PollFd::new(listener, PollFlags::POLLIN)];
        if poll(&mut seen, PollTimeout::ZERO)? == 0 {
            return Err(Errno::EAGAIN);
        }
        alarm::briefly(|| Stream::accept(listener)).map_err(|errno| match errno {
            Errno::EINTR => Errno::EAGAIN,
            errno => errno,
        })
    }

    /// Connects to a listening Unix socket, at once or not at all.
    ///
    /// # Errors
    /// `EAGAIN` while its backlog is full, `ECONNREFUSED` where nobody listens, `ENAMETOOLONG` for paths beyond 107 bytes.
    pub fn connect(path: &Path) -> Result<Stream, Errno> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = sys::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        sys::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Stream(fd))
    }

    /// Reads what is there; 0 is the end.
    ///
    /// # Errors
    /// `EAGAIN` where nothing is there, `ECONNRESET` and others where the connection is broken.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        retry(|| sys::recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()))
    }

    /// Writes what there is room for, at least one byte of a non-empty slice. Never raises SIGPIPE.
    ///
    /// # Errors
    /// `EAGAIN` where there is no room, `EPIPE` or `ECONNRESET` where nobody reads any more.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        retry(|| sys::send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
    }

    /// Says that no more is coming; the peer reads its end.
    pub fn end_writing(&self) {
        // A peer that has gone needs no word.
        let _ = sys::shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    /// Whether the peer has closed. One system call; data that it left behind does not matter.
    pub fn presence(&self) -> Presence {
        let mut seen = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // nix knows no POLLRDHUP.
        // SAFETY: the pointer is to one live entry, and the call does not wait.
        if unsafe { libc::poll(&raw mut seen, 1, 0) } < 1 {
            return Presence::There;
        }
        let ended = seen.revents & (libc::POLLHUP | libc::POLLERR) != 0;
        // On a Unix socket POLLRDHUP alone is a peer that has stopped sending and still listens.
        let half = seen.revents & libc::POLLRDHUP != 0 && self.is_tcp();
        if ended || half { Presence::Gone } else { Presence::There }
    }

    /// Wants room for so many bytes that the peer has not read; the kernel's limit (`net.core.wmem_max`) caps it.
    pub fn raise_send_buffer(&self, bytes: usize) {
        let _ = sys::setsockopt(&self.0, sockopt::SndBuf, &bytes); // only a matter of speed
    }

    /// The peer's address over TCP, a v4-mapped one as IPv4; `None` over a Unix socket, and for a peer that has gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        let storage: SockaddrStorage = sys::getpeername(self.0.as_raw_fd()).ok()?;
        inet(&storage)
    }

    /// Whether it is a TCP connection.
    pub fn is_tcp(&self) -> bool {
        let named = sys::getsockname::<SockaddrStorage>(self.0.as_raw_fd());
        named.is_ok_and(|storage| inet(&storage).is_some())
    }
}

impl From<OwnedFd> for Stream {
    /// Of a connection that an earlier one was made over: non-blocking still.
    fn from(fd: OwnedFd) -> Stream {
        Stream(fd)
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> OwnedFd {
        stream.0
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes an inherited listening socket ready for `Stream::accept`: non-blocking, and as `prepare_shared_listener` does.
///
/// # Errors
/// It is no descriptor.
pub fn prepare_listener(listener: BorrowedFd<'_>) -> Result<bool, Errno> {
    make_non_blocking(listener)?;
    prepare_shared_listener(listener)
}

/// Makes an inherited listening socket ready for either way to accept: over TCP without Nagle's delay and with
/// keep-alive probes, both of which accepted connections inherit (tcp(7)). Returns whether it is TCP.
///
/// # Errors
/// It is no descriptor.
pub fn prepare_shared_listener(listener: BorrowedFd<'_>) -> Result<bool, Errno> {
    let storage: SockaddrStorage = sys::getsockname(listener.as_raw_fd())?;
    let tcp = inet(&storage).is_some();
    if tcp {
        let _ = sys::setsockopt(&listener, sockopt::TcpNoDelay, &true); // only a matter of speed
        // A web server's machine that has gone without a word would hold its connections for ever.
        let _ = sys::setsockopt(&listener, sockopt::KeepAlive, &true);
    }
    Ok(tcp)
}

/// Makes a descriptor non-blocking.
///
/// # Errors
/// It is no descriptor.
pub fn make_non_blocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(|_| ())
}

fn inet(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(match v6.ip().to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
        None => SocketAddr::V6((*v6).into()),
    })
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Has an epoll instance report a listening socket for as long as somebody waits there (epoll(7), level-triggered), which mio
/// has no way to ask for. `Registry::deregister` ends it. One that is watched already stays so.
///
/// # Errors
/// As epoll_ctl(2) has them: no memory, or too many watches.
pub fn watch_listener(
    registry: &mio::Registry,
    listener: BorrowedFd<'_>,
    token: mio::Token,
) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token.0 as u64 };
    let (epoll, fd) = (registry.as_raw_fd(), listener.as_raw_fd());
    // SAFETY: both descriptors are open while they are borrowed, and the kernel copies the event.
    let result = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The socket's inode: the same under each of its descriptors.
pub fn inode(fd: BorrowedFd<'_>) -> Option<u64> {
    nix::sys::stat::fstat(fd).ok().map(|status| status.st_ino)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn unix() -> (UnixListener, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("fpmd-stream-{}-{:p}", std::process::id(), &0));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!prepare_listener(listener.as_fd()).unwrap());
        (listener, path)
    }

    #[test]
    fn a_unix_peer_that_stops_sending_is_still_there() {
        let (listener, path) = unix();
        assert_eq!(Stream::accept(listener.as_fd()).err(), Some(Errno::EAGAIN));
        let client = Stream::connect(&path).unwrap();
        let server = Stream::accept(listener.as_fd()).unwrap();
        assert_eq!((server.presence(), server.peer()), (Presence::There, None));
        assert_eq!(client.write(b"abc"), Ok(3));
        client.end_writing();
        assert_eq!(server.presence(), Presence::There);
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer), Ok(3));
        assert_eq!(server.read(&mut buffer), Ok(0));
        drop(client);
        assert_eq!(server.presence(), Presence::Gone);
        assert_eq!(server.write(b"x"), Err(Errno::EPIPE));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_socket_that_waits_is_shared_without_waiting() {
        let (listener, path) = unix();
        let fd = listener.as_fd();
        listener.set_nonblocking(false).unwrap();
        assert_eq!(Stream::accept_beside_others(fd).err(), Some(Errno::EAGAIN));
        let client = Stream::connect(&path).unwrap();
        let server = Stream::accept_beside_others(fd).unwrap();
        client.write(b"abc").unwrap();
        assert_eq!(server.read(&mut [0; 8]), Ok(3));
        // The connection is another one's after the look that has shown it.
        assert_eq!(alarm::briefly(|| Stream::accept(fd)).err(), Some(Errno::EINTR));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_full_backlog_is_no_wait() {
        let (listener, path) = unix();
        sys::listen(&listener, sys::Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match Stream::connect(&path) {
                Ok(stream) => waiting.push(stream),
                Err(errno) => break errno,
            }
        };
        assert_eq!((refused, waiting.len()), (Errno::EAGAIN, 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Stream::connect(&path).err(), Some(Errno::ENOENT));
    }

    #[test]
    fn a_tcp_peer_has_an_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(prepare_listener(listener.as_fd()).unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = Stream::accept(listener.as_fd()).unwrap();
        assert_eq!(server.peer(), Some(client.local_addr().unwrap()));
        // One whose machine has gone does not stay for ever.
        assert_eq!(sys::getsockopt(&server.0, sockopt::KeepAlive), Ok(true));
        drop(client);
        let mut buffer = [0; 8];
        while server.read(&mut buffer) == Err(Errno::EAGAIN) {}
        assert_eq!(server.presence(), Presence::Gone);
    }
}

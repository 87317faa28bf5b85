//! Sockets as the kernel sees them, by sock_diag(7): how many connections wait at a listener, and which connections a
//! listener's workers have accepted. Needs no privilege. Which process holds a connection is told by `procfs`.
//!
//! The codec is our own: two requests and two answers of fixed form are shorter than the use of a general netlink crate,
//! which would bring three more crates into the master.

mod netlink;

use std::collections::HashSet;
use std::fmt;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::socket::{self as sys, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::stat::fstat;

use self::netlink::{Attributes, Message, Messages, u16_at, u32_at};
use super::errno::Cause;
use super::socket::{self, Listener, LocalName};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and with it `NLM_F_ROOT | NLM_F_MATCH` for a dump.
const REQUEST: u16 = 0x001;
const DUMP: u16 = 0x301;
/// `UDIAG_SHOW_NAME`, `UDIAG_SHOW_VFS`, `UDIAG_SHOW_PEER` and `UDIAG_SHOW_RQLEN`: what to tell of a Unix socket.
const SHOW_NAME: u32 = 0x01;
const SHOW_FILE: u32 = 0x02;
const SHOW_PEER: u32 = 0x04;
const SHOW_QUEUE: u32 = 0x10;
/// `UNIX_DIAG_NAME`, `UNIX_DIAG_VFS`, `UNIX_DIAG_PEER` and `UNIX_DIAG_RQLEN`: where it is told.
const NAME: u16 = 0;
const FILE: u16 = 1;
const PEER: u16 = 2;
const QUEUE: u16 = 4;
/// Bytes of `struct unix_diag_msg` and of `struct inet_diag_msg`, in front of the attributes.
const UNIX_MESSAGE: usize = 16;
const INET_MESSAGE: usize = 72;
/// `TCP_LISTEN`: the state that accepted connections never have.
const LISTEN: u32 = 10;
/// States in which a process may still hold the descriptor: established, both FIN_WAIT (php-cgi shuts its side down and
/// waits for the peer), CLOSE_WAIT, LAST_ACK, CLOSING.
const HELD: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// Why the kernel's sockets could not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    what: &'static str,
    errno: Errno,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, Cause(self.errno))
    }
}

impl std::error::Error for Error {}

/// Connections that wait at a listener, and how many may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Connections that nobody has accepted yet.
    pub pending: u32,
    /// The backlog in force. The kernel lets one more wait.
    pub limit: u32,
    /// How this was found: `sock_diag` or `TCP_INFO`.
    pub method: &'static str,
}

/// What a peer has done with what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It has not even accepted the connection.
    NotAccepted,
    /// It has not read a byte of it.
    NotRead,
    /// It has read some of it.
    Begun,
}

/// Inode numbers of accepted connections.
pub type Inodes = HashSet<u64>;

/// A netlink socket for questions about sockets. Never waits: the kernel has its answer ready when a question is sent.
#[derive(Debug)]
pub struct SockDiag {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl SockDiag {
    /// # Errors
    /// Where the kernel has no sock_diag, or the process no descriptor left.
    pub fn open() -> Result<SockDiag, Error> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let fd = sys::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(|errno| Error { what: "open a sock_diag socket", errno })?;
        Ok(SockDiag { fd, sequence: 0, buffer: vec![0; 32 * 1024].into_boxed_slice() })
    }

    /// The one in `place`, where it is opened if there is none yet; `None` if that cannot be, which may be otherwise the next
    /// time.
    pub fn opened(place: &mut Option<SockDiag>) -> Option<&mut SockDiag> {
        if place.is_none() {
            *place = SockDiag::open().ok();
        }
        place.as_mut()
    }

    /// The accept queue of `listener`; `None` for a kind of socket that has no way to tell.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn queue(&mut self, listener: &Listener) -> Result<Option<Queue>, Error> {
        self.queue_at(listener.as_fd(), listener.local_name())
    }

    /// As `queue`, of a listening socket that is known by its descriptor only.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn queue_of(&mut self, listener: BorrowedFd<'_>) -> Result<Option<Queue>, Error> {
        self.queue_at(listener, &socket::local_name(listener))
    }

    fn queue_at(&mut self, listener: BorrowedFd<'_>, name: &LocalName) -> Result<Option<Queue>, Error> {
        match name {
            LocalName::Inet(_) => tcp_queue(listener).map(Some),
            LocalName::Path(_) | LocalName::Abstract(_) => self.unix_queue(listener),
            LocalName::Other => Ok(None),
        }
    }

    /// Inodes of all connections accepted from any of `listeners` and still open somewhere. A connection that waits to be
    /// accepted has no inode yet and is not among them.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn accepted<'a>(
        &mut self,
        listeners: impl IntoIterator<Item = &'a LocalName>,
    ) -> Result<Inodes, Error> {
        let mut inodes = Inodes::new();
        let mut unix: HashSet<Vec<u8>> = HashSet::new();
        for name in listeners {
            match name {
                LocalName::Inet(local) => self.accepted_tcp(*local, &mut inodes)?,
                LocalName::Path(_) | LocalName::Abstract(_) | LocalName::Other => {
                    unix.extend(unix_name(name));
                }
            }
        }
        if !unix.is_empty() {
            let each = |message: &[u8]| inodes.extend(unix_inode(message));
            self.each_unix(!(1 << LISTEN), SHOW_NAME, &unix, each)?;
        }
        Ok(inodes)
    }

    /// How many connections of this Unix listener are open at its side, those that wait to be accepted included.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn connections(&mut self, listener: &LocalName) -> Result<usize, Error> {
        let mut count = 0;
        let names = HashSet::from_iter(unix_name(listener));
        self.each_unix(u32::MAX, SHOW_NAME | SHOW_QUEUE, &names, |message| {
            // Those that wait have no inode number and are told of by their listener only.
            let waiting = || unix_attribute(message, QUEUE).and_then(|value| u32_at(value, 0));
            count += if unix_listens(message) { waiting().unwrap_or(0) } else { 1 };
        })?;
        Ok(count as usize)
    }

    /// Whether some process of our network namespace listens on the Unix socket whose path has this inode number, on the
    /// device with these numbers. Asks the kernel alone: the listener notices nothing.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn is_listening(&mut self, inode: u64, (major, minor): (u64, u64)) -> Result<bool, Error> {
        // As the kernel itself writes device numbers: 12 and 20 bits.
        let device = (major << 20 | minor) as u32;
        let mut found = false;
        self.ask(DUMP, &unix_request(1 << LISTEN, 0, SHOW_FILE), |message| {
            let file = unix_attribute(message, FILE);
            found |= file
                .is_some_and(|file| (u32_at(file, 0), u32_at(file, 4)) == (Some(inode as u32), Some(device)));
        })?;
        Ok(found)
    }

    /// What the peer of a connected Unix stream socket has done with the last `sent` bytes that it was sent; `None` for a
    /// socket that is not connected.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn reception(&mut self, stream: BorrowedFd<'_>, sent: u64) -> Result<Option<Reception>, Error> {
        let failed = |errno| Error { what: "look at a connection", errno };
        let inode = fstat(stream).map_err(failed)?.st_ino as u32;
        let (mut peer, mut unread) = (None, None);
        self.ask(REQUEST, &unix_request(u32::MAX, inode, SHOW_PEER | SHOW_QUEUE), |message| {
            peer = unix_attribute(message, PEER).and_then(|value| u32_at(value, 0));
            // Memory of messages that the peer has not read to their end.
            unread = unix_attribute(message, QUEUE).and_then(|value| u32_at(value, 4));
        })?;
        match (peer, unread) {
            (None, _) => return Ok(None),
            (Some(_), Some(0)) => return Ok(Some(Reception::Begun)),
            // A socket that nobody has accepted has no inode yet.
            (Some(0), _) => return Ok(Some(Reception::NotAccepted)),
            (Some(inode), _) => peer = Some(inode),
        }
        let mut waiting = None;
        self.ask(REQUEST, &unix_request(u32::MAX, peer.unwrap_or(0), SHOW_QUEUE), |message| {
            waiting = unix_attribute(message, QUEUE).and_then(|value| u32_at(value, 0));
        })?;
        let all = waiting.is_some_and(|waiting| u64::from(waiting) >= sent);
        Ok(Some(if all { Reception::NotRead } else { Reception::Begun }))
    }

    /// What is to be told of every Unix socket in one of these states with one of these names.
    fn each_unix(
        &mut self,
        states: u32,
        show: u32,
        names: &HashSet<Vec<u8>>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.ask(DUMP, &unix_request(states, 0, show), |message| {
            let name = unix_attribute(message, NAME).map(without_nul);
            if name.is_some_and(|name| names.contains(name)) {
                each(message);
            }
        })
    }

    fn accepted_tcp(&mut self, local: SocketAddr, inodes: &mut Inodes) -> Result<(), Error> {
        self.ask(DUMP, &inet_request(local), |message| {
            if inet_is_local(message, local) {
                inodes.extend(inet_inode(message));
            }
        })
    }

    fn unix_queue(&mut self, listener: BorrowedFd<'_>) -> Result<Option<Queue>, Error> {
        let failed = |errno| Error { what: "look at a listening socket", errno };
        // The inode number in sockfs; sock_diag knows 32 bits of it, the kernel gives out no more.
        let inode = fstat(listener).map_err(failed)?.st_ino as u32;
        let mut queue = None;
        self.ask(REQUEST, &unix_request(u32::MAX, inode, SHOW_QUEUE), |message| {
            if let Some(value) = unix_attribute(message, QUEUE) {
                let both = (u32_at(value, 0), u32_at(value, 4));
                if let (Some(pending), Some(limit)) = both {
                    queue = Some(Queue { pending, limit, method: "sock_diag" });
                }
            }
        })?;
        Ok(queue)
    }

    /// Sends one question and hands every answer to `each`.
    fn ask(&mut self, flags: u16, request: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = netlink::message(BY_FAMILY, flags, self.sequence, request);
        let failed = |errno| Error { what: "ask sock_diag", errno };
        sys::send(self.fd.as_raw_fd(), &question, MsgFlags::empty()).map_err(failed)?;
        loop {
            let length = match sys::recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            for message in Messages(&self.buffer[..length]) {
                // What an abandoned question left behind.
                if message.sequence != self.sequence {
                    continue;
                }
                match end_of(&message) {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(errno)) => return Err(failed(errno)),
                    None => each(message.payload),
                }
                if flags == REQUEST {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether a message ends the answer, and how.
fn end_of(message: &Message<'_>) -> Option<Result<(), Errno>> {
    match message.kind {
        netlink::DONE => Some(Ok(())),
        netlink::ERROR => match u32_at(message.payload, 0).map(|code| code as i32) {
            Some(0) => Some(Ok(())),
            Some(code) => Some(Err(Errno::from_raw(code.saturating_neg()))),
            None => Some(Err(Errno::EBADMSG)),
        },
        _ => None,
    }
}

/// The accept queue of a listening TCP socket: Linux reuses two counters of `struct tcp_info` for it, see tcp(7).
fn tcp_queue(listener: BorrowedFd<'_>) -> Result<Queue, Error> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`.
    let done = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(done).map_err(|errno| Error { what: "look at a listening socket", errno })?;
    // SAFETY: all bits zero is a valid value of this structure of integers, and the kernel wrote over some of it.
    let info = unsafe { info.assume_init() };
    Ok(Queue { pending: info.tcpi_unacked, limit: info.tcpi_sacked, method: "TCP_INFO" })
}

/// `struct unix_diag_req`; an inode of 0 asks for all.
fn unix_request(states: u32, inode: u32, show: u32) -> Vec<u8> {
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    // The last two words are a cookie; all ones are `INET_DIAG_NOCOOKIE`.
    for word in [states, inode, show, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    request
}

/// `struct inet_diag_req_v2`: the kernel itself compares the local port.
fn inet_request(local: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(HELD.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    // Remote port, both addresses and the interface: any; then no cookie.
    request.extend([0; 2 + 16 + 16 + 4]);
    request.extend([0xff; 8]);
    request
}

/// A Unix socket's name as the kernel tells it.
fn unix_name(name: &LocalName) -> Option<Vec<u8>> {
    match name {
        LocalName::Path(path) => Some(path.as_os_str().as_bytes().to_vec()),
        LocalName::Abstract(name) => Some([b"\0", name.as_slice()].concat()),
        LocalName::Inet(_) | LocalName::Other => None,
    }
}

fn unix_attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut attributes = Attributes(message.get(UNIX_MESSAGE..)?);
    attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// `udiag_state` of `struct unix_diag_msg`.
fn unix_listens(message: &[u8]) -> bool {
    message.get(2).is_some_and(|state| u32::from(*state) == LISTEN)
}

fn unix_inode(message: &[u8]) -> Option<u64> {
    u32_at(message, 4).map(u64::from).filter(|inode| *inode != 0)
}

/// Paths are told with their NUL, abstract names begin with theirs.
fn without_nul(name: &[u8]) -> &[u8] {
    match name {
        [0, ..] => name,
        [path @ .., 0] => path,
        path => path,
    }
}

fn inet_inode(message: &[u8]) -> Option<u64> {
    u32_at(message, INET_MESSAGE - 4).map(u64::from).filter(|inode| *inode != 0)
}

/// Whether a connection was accepted by the listener at `local`: same port, and same address unless it listens on all.
fn inet_is_local(message: &[u8], local: SocketAddr) -> bool {
    let port = u16_at(message, 4).map(u16::from_be);
    let Some(bytes) = message.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) else {
        return false;
    };
    let address = match local {
        SocketAddr::V4(_) => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::from(bytes)),
    };
    port == Some(local.port()) && (local.ip().is_unspecified() || local.ip() == address)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::config::model::ListenAddress;
    use crate::os::testing::TempDir;

    fn adopt(fd: OwnedFd) -> Listener {
        Listener::adopt(fd, ListenAddress::Systemd("test".into())).unwrap()
    }

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    fn accepted(listener: &Listener) -> Inodes {
        SockDiag::open().unwrap().accepted([listener.local_name()]).unwrap()
    }

    #[test]
    fn queue_and_connections_of_a_path() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let std = UnixListener::bind(&path).unwrap();
        let listener = adopt(std.try_clone().unwrap().into());
        let mut diag = SockDiag::open().unwrap();
        let limit = diag.queue(&listener).unwrap().unwrap().limit;
        let clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let queue = Ok(Some(Queue { pending: 3, limit, method: "sock_diag" }));
        assert_eq!((diag.queue(&listener), diag.queue_of(std.as_fd())), (queue, queue));
        assert_eq!(accepted(&listener), Inodes::new(), "none is accepted yet");
        assert_eq!(diag.connections(listener.local_name()), Ok(3));
        let (one, _) = std.accept().unwrap();
        let (two, _) = std.accept().unwrap();
        assert_eq!(accepted(&listener), Inodes::from([inode(&one), inode(&two)]));
        drop(clients);
        assert_eq!(accepted(&listener).len(), 2, "the worker still holds them");
        drop(one);
        assert_eq!(accepted(&listener), Inodes::from([inode(&two)]));
        assert_eq!(diag.connections(listener.local_name()), Ok(2), "one has left before it was accepted");
        assert_eq!(diag.queue(&listener).unwrap().unwrap().pending, 1);
    }

    #[test]
    fn what_a_peer_has_read_is_told_to_the_byte() {
        use std::io::{Read, Write};
        let dir = TempDir::new();
        let listener = UnixListener::bind(dir.join("x.sock")).unwrap();
        let mut client = UnixStream::connect(dir.join("x.sock")).unwrap();
        let mut diag = SockDiag::open().unwrap();
        client.write_all(b"12345678").unwrap();
        let mut seen = |client: &UnixStream, sent| diag.reception(client.as_fd(), sent).unwrap();
        assert_eq!(seen(&client, 8), Some(Reception::NotAccepted));
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(seen(&client, 8), Some(Reception::NotRead));
        server.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(seen(&client, 8), Some(Reception::Begun));
        server.read_exact(&mut [0; 7]).unwrap();
        assert_eq!(seen(&client, 8), Some(Reception::Begun));
        client.write_all(b"next").unwrap();
        assert_eq!(seen(&client, 4), Some(Reception::NotRead));
        drop(server);
        assert_eq!(seen(&client, 4), Some(Reception::Begun), "it is thrown away, and not unread");
    }

    #[test]
    fn connections_of_an_abstract_name() {
        let name = format!("fpmd-diag-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let std = UnixListener::bind_addr(&address).unwrap();
        let listener = adopt(std.try_clone().unwrap().into());
        let _client = UnixStream::connect_addr(&address).unwrap();
        let (served, _) = std.accept().unwrap();
        assert_eq!(accepted(&listener), Inodes::from([inode(&served)]));
    }

    #[test]
    fn queue_and_connections_of_tcp() {
        for bound in ["127.0.0.1:0", "[::]:0", "0.0.0.0:0"] {
            let Ok(std) = TcpListener::bind(bound) else { continue };
            let listener = adopt(std.try_clone().unwrap().into());
            let port = std.local_addr().unwrap().port();
            let _one = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let two = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut diag = SockDiag::open().unwrap();
            let queue = diag.queue(&listener).unwrap().unwrap();
            assert_eq!((queue.pending, queue.method), (2, "TCP_INFO"));
            assert!(queue.limit > 0);
            let first = std.accept().unwrap().0;
            let second = std.accept().unwrap().0;
            drop(two);
            let both = Inodes::from([inode(&first), inode(&second)]);
            assert_eq!(accepted(&listener), both, "{bound}, with one half closed by its client");
            first.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(accepted(&listener), both, "{bound}, with one half closed by the worker");
        }
    }

    #[test]
    fn another_address_on_the_same_port_does_not_count() {
        let std = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = std.local_addr().unwrap().port();
        let other = adopt(TcpListener::bind(("127.0.0.1", port)).unwrap().into());
        let _client = TcpStream::connect(("127.0.0.2", port)).unwrap();
        let _served = std.accept().unwrap();
        assert_eq!(accepted(&other), Inodes::new());
        assert_eq!(accepted(&adopt(std.into())).len(), 1);
    }

    #[test]
    fn a_long_dump_is_read_to_its_end_and_the_next_question_is_answered() {
        let dir = TempDir::new();
        let path = dir.join(&"long".repeat(10));
        let std = UnixListener::bind(&path).unwrap();
        let listener = adopt(std.try_clone().unwrap().into());
        let pairs: Vec<_> =
            (0..100).map(|_| (UnixStream::connect(&path).unwrap(), std.accept().unwrap())).collect();
        let mut diag = SockDiag::open().unwrap();
        diag.buffer = vec![0; 4096].into_boxed_slice();
        for _ in 0..2 {
            assert_eq!(diag.accepted([listener.local_name()]).unwrap().len(), pairs.len());
            assert_eq!(diag.queue(&listener).unwrap().unwrap().pending, 0);
        }
    }

    #[test]
    fn short_messages_tell_nothing() {
        assert_eq!(unix_attribute(&[0; 15], NAME), None);
        assert_eq!(unix_inode(&[0; 7]), None);
        assert_eq!(inet_inode(&[0; 71]), None);
        assert!(!inet_is_local(&[0; 23], "0.0.0.0:0".parse().unwrap()));
        assert_eq!(without_nul(b"/x\0"), b"/x");
        assert_eq!(without_nul(b"\0x\0"), b"\0x\0");
    }
}

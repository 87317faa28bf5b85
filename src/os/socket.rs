//! Listening sockets: opened from a configured address, or taken over from whoever started us. See ip(7), ipv6(7), unix(7).
//!
//! Nothing here accepts connections: the workers do, on their descriptor 0. What the path of a Unix socket needs is in
//! `unix`; observing queues and connections is in `sockdiag`.

mod error;
mod kept;
mod unix;
mod withdraw;
mod written;

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self as sys, AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, sockopt};

pub use self::error::Error;
pub use self::kept::PREFIX;
use self::unix::OwnedPath;
pub use self::withdraw::Withdrawal;
pub use self::written::WrittenListener;
use crate::config::model::{ListenAddress, SocketSettings};
use crate::os::errno::Cause;

/// One listening stream socket, blocking and close-on-exec.
///
/// Dropping it closes the descriptor and leaves a Unix path behind, so that a process may end or hand over without
/// disturbing anyone; [`Listener::close`] removes the path too.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: ListenAddress,
    name: LocalName,
    path: Option<OwnedPath>,
}

/// The name that the kernel knows a socket by, as getsockname(2) tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LocalName {
    /// TCP over IPv4 or IPv6, with the real port.
    Inet(SocketAddr),
    /// A Unix socket's path as it was bound; it need not be absolute where the socket was inherited.
    Path(PathBuf),
    /// A Linux abstract name without its leading NUL.
    Abstract(Vec<u8>),
    /// Anything else that listens, such as vsock, or a Unix socket bound to no name.
    Other,
}

impl Listener {
    /// Opens `address` and listens. Settings of paths do nothing for addresses without one.
    ///
    /// # Errors
    /// One sentence that names the address; nothing is left behind.
    pub fn open(address: &ListenAddress, settings: &SocketSettings) -> Result<Listener, Error> {
        let (fd, path) = match address {
            ListenAddress::Tcp(tcp) => (bind_tcp(*tcp, address)?, None),
            ListenAddress::Port(port) => (bind_port(*port, address)?, None),
            ListenAddress::Unix(path) => {
                let fd = new_socket(AddressFamily::Unix, address)?;
                let owned = unix::bind_path(&fd, path, settings)?;
                (fd, Some(owned))
            }
            ListenAddress::Abstract(name) => (bind_abstract(name, address)?, None),
            ListenAddress::Systemd(_) => return Err(Error::Inherited { address: spell(address) }),
        };
        let listener = Listener { name: local_name(fd.as_fd()), fd, address: address.clone(), path };
        match listener.listen(settings.backlog) {
            Ok(()) => Ok(listener),
            Err(error) => {
                drop(listener.close());
                Err(error)
            }
        }
    }

    /// Takes over a descriptor that someone else opened, for example systemd: makes it blocking and close-on-exec. Its
    /// path, owner, mode and backlog stay what they are, and the path is never removed.
    ///
    /// # Errors
    /// [`Error::NotListening`] where it is not a listening stream socket.
    pub fn adopt(fd: OwnedFd, address: ListenAddress) -> Result<Listener, Error> {
        let number = fd.as_raw_fd();
        let refuse = |what| Err(Error::NotListening { fd: number, what });
        match sys::getsockopt(&fd, sockopt::SockType) {
            Ok(SockType::Stream) => {}
            Ok(SockType::Datagram) => return refuse("datagram socket"),
            Ok(_) | Err(Errno::EINVAL) => return refuse("socket of another type"),
            Err(_) => return refuse(kind_of(&fd)),
        }
        match sys::getsockopt(&fd, sockopt::AcceptConn) {
            Ok(true) => {}
            Ok(false) | Err(_) => return refuse("socket that does not listen"),
        }
        set_close_on_exec(fd.as_fd()).map_err(|errno| system("set the flags of", &address, errno))?;
        make_blocking(fd.as_fd()).map_err(|errno| system("set the flags of", &address, errno))?;
        Ok(Listener { name: local_name(fd.as_fd()), fd, address, path: None })
    }

    /// The address as the configuration names it.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The name that the kernel knows it by.
    pub fn local_name(&self) -> &LocalName {
        &self.name
    }

    /// Applies owner, group, mode, access list and backlog to the open socket, as a reload needs it. Inherited sockets
    /// and addresses without a path keep everything but the backlog. Clients can connect again to what was withdrawn.
    ///
    /// # Errors
    /// One sentence that names the address; what came before the failing step is in force.
    pub fn apply(&self, settings: &SocketSettings) -> Result<(), Error> {
        if let Some(path) = &self.path {
            path.apply(settings)?;
        }
        self.readmit()?;
        self.listen(settings.backlog)
    }

    /// The socket's inode, by which /proc names it.
    pub fn inode(&self) -> Option<u64> {
        nix::sys::stat::fstat(&self.fd).ok().map(|status| status.st_ino)
    }

    /// Whether clients that connect to the address reach this socket: false once someone has removed or replaced the path
    /// that we made.
    pub fn is_in_place(&self) -> bool {
        self.path.as_ref().is_none_or(OwnedPath::is_ours)
    }

    /// Whether a connection waits to be accepted.
    pub fn has_pending(&self) -> bool {
        let mut polled = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
    }

    /// Takes the next connection; waits for one where none is pending.
    ///
    /// # Errors
    /// As accept(2) has them.
    pub fn accept(&self) -> Result<OwnedFd, Errno> {
        let raw = sys::accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    /// Sets the socket back to blocking; see [`make_blocking`].
    ///
    /// # Errors
    /// Only if the kernel refuses what it never refuses.
    pub fn make_blocking(&self) -> Result<(), Error> {
        make_blocking(self.fd.as_fd()).map_err(|errno| system("set the flags of", &self.address, errno))
    }

    /// Closes the socket and removes its path, if that is still the socket that we made.
    ///
    /// # Errors
    /// If the path could not be removed; the socket is closed all the same.
    pub fn close(self) -> Result<(), Error> {
        match &self.path {
            Some(path) => path.remove(),
            None => Ok(()),
        }
    }

    /// The descriptor alone; a Unix path stays.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn listen(&self, backlog: u32) -> Result<(), Error> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: listen(2) reads no memory of ours, and the descriptor is open. (nix allows no backlog over 4096.)
        let done = unsafe { libc::listen(self.fd.as_raw_fd(), backlog) };
        match Errno::result(done) {
            // Whoever replaced the path while it did not listen yet took it for a stale one.
            Ok(_) if !self.is_in_place() => Err(Error::Replaced { address: spell(&self.address) }),
            Ok(_) => Ok(()),
            Err(Errno::EADDRINUSE) => Err(Error::InUse { address: spell(&self.address) }),
            Err(errno) => Err(system("listen on", &self.address, errno)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Listener {
    /// The address as the configuration writes it, with the real port where that was 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.name) {
            (ListenAddress::Tcp(tcp), LocalName::Inet(real)) if tcp.port() == 0 => real.fmt(f),
            (ListenAddress::Port(0), LocalName::Inet(real)) => real.port().fmt(f),
            _ => f.write_str(&spell(&self.address)),
        }
    }
}

/// Clears O_NONBLOCK. The flag belongs to the open file description, which all workers share with us: a worker that sets
/// it (Go, flup) would make php-cgi and libfcgi workers exit at their next start, so it is cleared before each start.
///
/// # Errors
/// Only if the kernel refuses what it never refuses.
pub fn make_blocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Claims a descriptor that this process was started with and makes it close-on-exec. Each number is claimed once, at start, before anything else is
/// opened: from then on the result owns it.
///
/// # Errors
/// [`Error::NotOpen`].
pub fn claim(number: i32) -> Result<OwnedFd, Error> {
    let closed = Error::NotOpen { fd: number };
    if number < 0 {
        return Err(closed);
    }
    // SAFETY: F_GETFD only reads flags; a number that is not open is answered by EBADF.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(closed);
    }
    // SAFETY: it is open, and by the rule above nobody else in this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match set_close_on_exec(fd.as_fd()) {
        Ok(()) => Ok(fd),
        Err(_) => Err(closed),
    }
}

/// Another descriptor of the same socket, close-on-exec.
///
/// # Errors
/// Where the process has no descriptor left.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|error| Error::System {
        verb: "duplicate",
        address: format!("descriptor {}", fd.as_raw_fd()),
        errno: Cause::from(error).0,
    })
}

/// An address as the configuration writes it.
pub fn spell(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(tcp) => tcp.to_string(),
        ListenAddress::Port(port) => port.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
        ListenAddress::Abstract(name) => format!("@{name}"),
        ListenAddress::Systemd(name) => format!("systemd:{name}"),
    }
}

fn new_socket(family: AddressFamily, address: &ListenAddress) -> Result<OwnedFd, Error> {
    sys::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| system("make a socket for", address, errno))
}

fn bind_tcp(tcp: SocketAddr, address: &ListenAddress) -> Result<OwnedFd, Error> {
    try_tcp(tcp).map_err(|(verb, errno)| match (verb, errno) {
        ("bind", Errno::EADDRINUSE) => Error::InUse { address: spell(address) },
        _ => system(verb, address, errno),
    })
}

/// A bare port: both families on one socket, or IPv4 alone where the machine has no IPv6.
fn bind_port(port: u16, address: &ListenAddress) -> Result<OwnedFd, Error> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match try_tcp(both) {
        Err((_, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => {
            bind_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), address)
        }
        Err(_) => bind_tcp(both, address),
        Ok(fd) => Ok(fd),
    }
}

/// The failing step and its errno tell the caller whether another family is worth a try.
fn try_tcp(tcp: SocketAddr) -> Result<OwnedFd, (&'static str, Errno)> {
    let family = if tcp.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = sys::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| ("make a socket for", errno))?;
    sys::setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(|errno| ("set the options of", errno))?;
    if tcp == SocketAddr::from((Ipv6Addr::UNSPECIFIED, tcp.port())) {
        // As php-fpm: `[::]` takes IPv4 too, whatever net.ipv6.bindv6only says.
        sys::setsockopt(&fd, sockopt::Ipv6V6Only, &false).map_err(|errno| ("set the options of", errno))?;
    }
    sys::bind(fd.as_raw_fd(), &SockaddrStorage::from(tcp)).map_err(|errno| ("bind", errno))?;
    Ok(fd)
}

fn bind_abstract(name: &str, address: &ListenAddress) -> Result<OwnedFd, Error> {
    let too_long = |_| Error::TooLong { address: spell(address), length: name.len() };
    let to = UnixAddr::new_abstract(name.as_bytes()).map_err(too_long)?;
    let fd = new_socket(AddressFamily::Unix, address)?;
    match sys::bind(fd.as_raw_fd(), &to) {
        Ok(()) => Ok(fd),
        Err(Errno::EADDRINUSE) => Err(Error::InUse { address: spell(address) }),
        Err(errno) => Err(system("bind", address, errno)),
    }
}

pub(super) fn local_name(fd: BorrowedFd<'_>) -> LocalName {
    let Ok(name) = sys::getsockname::<SockaddrStorage>(fd.as_raw_fd()) else { return LocalName::Other };
    if let Some(v4) = name.as_sockaddr_in() {
        return LocalName::Inet(SocketAddr::from((v4.ip(), v4.port())));
    }
    if let Some(v6) = name.as_sockaddr_in6() {
        return LocalName::Inet(SocketAddr::from((v6.ip(), v6.port())));
    }
    let Some(unix) = name.as_unix_addr() else { return LocalName::Other };
    match (unix.path(), unix.as_abstract()) {
        (Some(path), _) => LocalName::Path(Path::to_owned(path)),
        (None, Some(name)) => LocalName::Abstract(name.to_vec()),
        (None, None) => LocalName::Other,
    }
}

fn set_close_on_exec(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)
}

/// What a descriptor that is no socket is.
fn kind_of(fd: &OwnedFd) -> &'static str {
    match fd.try_clone().map(File::from).and_then(|file| file.metadata()) {
        Ok(meta) => unix::kind(meta.file_type()),
        Err(_) => "file of an unknown kind",
    }
}

fn system(verb: &'static str, address: &ListenAddress, errno: Errno) -> Error {
    Error::System { verb, address: spell(address), errno }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net::{SocketAddr as UnixName, UnixDatagram, UnixListener, UnixStream};
    use std::{fs, io};

    use super::*;
    use crate::config::model::{Group, User};
    use crate::ids::{Gid, Uid};
    use crate::os::testing::{TempDir, socket_settings};

    fn settings() -> SocketSettings {
        SocketSettings { backlog: 16, mode: 0o660, ..socket_settings() }
    }

    fn user(uid: u32) -> User {
        User { name: uid.to_string(), uid: Uid(uid), gid: None, home: None }
    }

    fn open(address: &ListenAddress) -> Result<Listener, Error> {
        Listener::open(address, &settings())
    }

    fn open_unix(path: &Path) -> Result<Listener, Error> {
        open(&ListenAddress::Unix(path.to_owned()))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(dir: &TempDir) -> Vec<String> {
        fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_unix_path_is_made_with_its_mode_and_goes_when_closed() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let listener = open_unix(&path).unwrap();
        assert_eq!(mode(&path), 0o660, "whatever the umask is");
        assert_eq!(listener.local_name(), &LocalName::Path(path.clone()));
        assert_eq!(listener.to_string(), path.display().to_string());
        let flags = fcntl(&listener, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
        assert!(!listener.has_pending());
        let client = UnixStream::connect(&path).unwrap();
        assert!(listener.has_pending());
        drop(client);
        listener.close().unwrap();
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn dropping_leaves_the_path_and_the_next_one_replaces_it() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        drop(open_unix(&path).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        let next = open_unix(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(names(&dir), ["x.sock"]);
        drop(next);
    }

    #[test]
    fn a_live_socket_is_refused_and_stays() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let first = open_unix(&path).unwrap();
        let refusal = open_unix(&path).unwrap_err();
        let expected = format!("cannot bind '{}': another process is listening on it", path.display());
        assert_eq!(refusal.to_string(), expected);
        assert!(!first.has_pending(), "its workers saw no empty connection");
        UnixStream::connect(&path).unwrap();
        drop(first);
        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(open_unix(&path), Err(Error::InUse { .. })));
    }

    #[test]
    fn a_live_socket_with_a_full_queue_is_refused() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let first =
            Listener::open(&ListenAddress::Unix(path.clone()), &SocketSettings { backlog: 0, ..settings() });
        let _client = UnixStream::connect(&path).unwrap();
        assert!(matches!(open_unix(&path), Err(Error::InUse { .. })));
        drop(first);
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        fs::write(&path, "precious").unwrap();
        let refusal = open_unix(&path).unwrap_err().to_string();
        assert!(
            refusal.ends_with("there is a regular file at that path, which fpmd does not remove"),
            "{refusal}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.join("elsewhere"), &path).unwrap();
        assert!(matches!(open_unix(&path), Err(Error::Occupied { kind: "symbolic link", .. })));
    }

    #[test]
    fn paths_up_to_107_bytes_work_and_no_longer_ones() {
        let dir = TempDir::new();
        let fill = 107 - dir.path().as_os_str().len() - 1;
        let longest = dir.join(&"x".repeat(fill));
        drop(open_unix(&longest).unwrap());
        open_unix(&longest).unwrap().close().unwrap();
        let refusal = open_unix(&dir.join(&"x".repeat(fill + 1))).unwrap_err().to_string();
        assert!(refusal.ends_with("the name has 108 bytes, a Unix socket's may have 107"), "{refusal}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = TempDir::new();
        let refusal = open_unix(&dir.join("a/b/x.sock")).unwrap_err().to_string();
        let expected = format!("the directory '{}' does not exist", dir.join("a").display());
        assert!(refusal.ends_with(&expected), "{refusal}");
        fs::write(dir.join("file"), "").unwrap();
        let refusal = open_unix(&dir.join("file/x.sock")).unwrap_err().to_string();
        assert!(refusal.ends_with("x.sock': Not a directory"), "{refusal}");
    }

    #[test]
    fn a_successor_s_path_is_not_removed() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let ours = open_unix(&path).unwrap();
        assert!(ours.is_in_place());
        fs::remove_file(&path).unwrap();
        assert!(!ours.is_in_place());
        assert!(matches!(ours.apply(&settings()), Err(Error::Replaced { .. })));
        let _theirs = UnixListener::bind(&path).unwrap();
        assert!(matches!(ours.apply(&settings()), Err(Error::Replaced { .. })));
        ours.close().unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn settings_are_applied_to_an_open_socket_and_never_through_a_link() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let listener = open_unix(&path).unwrap();
        let wanted = SocketSettings { mode: 0o600, acl_users: vec![user(33)], ..settings() };
        match listener.apply(&wanted) {
            Err(Error::Acl { cause: crate::os::acl::Error::Unsupported, .. }) => {}
            done => {
                done.unwrap();
                assert_eq!(mode(&path), 0o660, "the mask of the list");
            }
        }
        listener.apply(&SocketSettings { mode: 0o604, ..settings() }).unwrap();
        assert_eq!(mode(&path), 0o604);
        let victim = dir.join("victim");
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(matches!(listener.apply(&settings()), Err(Error::Replaced { .. })));
        assert_eq!(mode(&victim), 0o600);
    }

    #[test]
    fn owner_and_group_are_set_by_root_and_refused_to_others() {
        let dir = TempDir::new();
        let path = dir.join("x.sock");
        let group = Group { name: "34".into(), gid: Gid(34) };
        let wanted = SocketSettings { owner: Some(user(33)), group: Some(group), ..settings() };
        match Listener::open(&ListenAddress::Unix(path.clone()), &wanted) {
            Ok(_listener) => {
                let meta = fs::metadata(&path).unwrap();
                assert_eq!((meta.uid(), meta.gid()), (33, 34));
            }
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(text.starts_with("cannot change the owner of '"), "{text}");
                assert!(names(&dir).is_empty(), "nothing is left behind");
            }
        }
    }

    #[test]
    fn tcp_of_both_families_gets_a_real_port() {
        for text in ["127.0.0.1:0", "[::1]:0"] {
            let listener = match open(&ListenAddress::Tcp(text.parse().unwrap())) {
                Err(Error::System { errno: Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL, .. }) => continue,
                opened => opened.unwrap(),
            };
            let LocalName::Inet(real) = *listener.local_name() else { panic!("{listener:?}") };
            assert_ne!(real.port(), 0);
            assert_eq!(listener.to_string(), real.to_string());
            TcpStream::connect(real).unwrap();
            let refusal = open(&ListenAddress::Tcp(real)).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                format!("cannot bind '{real}': another process is listening on it")
            );
        }
    }

    #[test]
    fn a_bare_port_takes_ipv4_as_well() {
        let listener = open(&ListenAddress::Port(0)).unwrap();
        let LocalName::Inet(real) = *listener.local_name() else { panic!("{listener:?}") };
        assert_eq!(listener.to_string(), real.port().to_string());
        TcpStream::connect((Ipv4Addr::LOCALHOST, real.port())).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_says_so() {
        let refusal = open(&ListenAddress::Tcp("192.0.2.1:9000".parse().unwrap())).unwrap_err().to_string();
        let expected = "cannot bind '192.0.2.1:9000': Cannot assign requested address \
                        (no network interface of this machine has that address)";
        assert_eq!(refusal, expected);
    }

    #[test]
    fn abstract_names_listen_and_are_refused_twice() {
        let name = format!("fpmd-test-{}", std::process::id());
        let address = ListenAddress::Abstract(name.clone());
        let listener = open(&address).unwrap();
        UnixStream::connect_addr(&UnixName::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(listener.local_name(), &LocalName::Abstract(name.clone().into_bytes()));
        assert_eq!(listener.to_string(), format!("@{name}"));
        assert!(matches!(open(&address), Err(Error::InUse { .. })));
        assert!(matches!(
            open(&ListenAddress::Abstract("x".repeat(108))),
            Err(Error::TooLong { length: 108, .. })
        ));
    }

    #[test]
    fn inherited_sockets_are_made_blocking_and_close_on_exec() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let real = tcp.local_addr().unwrap();
        let watcher = tcp.try_clone().unwrap();
        fcntl(&tcp, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let adopted = Listener::adopt(OwnedFd::from(tcp), ListenAddress::Systemd("web".into())).unwrap();
        assert_eq!(adopted.local_name(), &LocalName::Inet(real));
        assert_eq!(adopted.to_string(), "systemd:web");
        let flags = OFlag::from_bits_retain(fcntl(&watcher, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "the flag is the description's, not the descriptor's");
        assert_eq!(fcntl(&adopted, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        adopted.apply(&settings()).unwrap();
    }

    #[test]
    fn other_descriptors_are_refused_with_what_they_are() {
        let refusal = |fd: OwnedFd| {
            let text = Listener::adopt(fd, ListenAddress::Port(1)).unwrap_err().to_string();
            text.split_once(": ").unwrap().1.to_owned()
        };
        let (pipe, _end) = io::pipe().unwrap();
        assert_eq!(refusal(pipe.into()), "it is a pipe, not a listening stream socket");
        let file = fs::File::open("/dev/null").unwrap();
        assert_eq!(refusal(file.into()), "it is a character device, not a listening stream socket");
        let (datagrams, _end) = UnixDatagram::pair().unwrap();
        assert_eq!(refusal(datagrams.into()), "it is a datagram socket, not a listening stream socket");
        let (stream, _end) = UnixStream::pair().unwrap();
        assert_eq!(
            refusal(stream.into()),
            "it is a socket that does not listen, not a listening stream socket"
        );
        assert_eq!(
            claim(99_999).unwrap_err().to_string(),
            "cannot take over descriptor 99999: it is not open"
        );
        assert!(claim(-1).is_err());
    }
}

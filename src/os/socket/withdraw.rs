//! A socket that nobody can connect to any more, while whoever has connected can still be accepted: the last thing before it
//! is closed, so that no connection is made that would be cut off. socket(7), SO_ATTACH_FILTER.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Error, Listener, system};
use crate::config::model::ListenAddress;
use crate::os::errno::Cause;

/// What came of an attempt to let nobody connect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// Nobody does, or the socket is another's to close.
    Done,
    /// The kernel has no way for that, or not for us: some of its versions keep it from all but root.
    Refused(Cause),
}

impl Listener {
    /// Lets nobody connect any more: a path is removed, and a TCP socket of our own takes no SYN any more, so that clients
    /// try again until it is closed. Inherited and abstract ones are left as they are.
    ///
    /// # Errors
    /// One sentence that names the address.
    pub fn withdraw(&self) -> Result<Withdrawal, Error> {
        match &self.path {
            Some(path) => path.remove().map(|()| Withdrawal::Done),
            None if self.is_filtered_by_us() => match drop_newcomers(self.fd.as_fd()) {
                Ok(()) => Ok(Withdrawal::Done),
                Err(errno @ (Errno::EPERM | Errno::ENOPROTOOPT)) => Ok(Withdrawal::Refused(errno.into())),
                Err(errno) => Err(system("turn newcomers away from", &self.address, errno)),
            },
            None => Ok(Withdrawal::Done),
        }
    }

    /// Takes newcomers again, if a stop before has ended that; a path that was removed is not made again.
    pub(super) fn readmit(&self) -> Result<(), Error> {
        if !self.is_filtered_by_us() {
            return Ok(());
        }
        take_newcomers(self.fd.as_fd()).map_err(|errno| system("listen on", &self.address, errno))
    }

    /// What came from a service manager may have a filter of its own.
    fn is_filtered_by_us(&self) -> bool {
        match &self.address {
            ListenAddress::Tcp(_) | ListenAddress::Port(_) => true,
            ListenAddress::Unix(_) | ListenAddress::Abstract(_) | ListenAddress::Systemd(_) => false,
        }
    }
}

/// Attaches a filter that lets no SYN through. Whoever is half-way in has a promise already, and its last packet passes.
fn drop_newcomers(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    const FLAGS: u32 = 13; // where they are in a TCP header
    const SYN: u32 = 0x02;
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K: how many bytes pass
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps =
        [step(LOAD_BYTE, 0, FLAGS), step(JUMP_IF_SET, 1, SYN), step(RETURN, 0, 0), step(RETURN, 0, u32::MAX)];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is as long as it says; both live until then.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(done).map(drop)
}

/// Detaches the filter, if there is one.
fn take_newcomers(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let unused: libc::c_int = 0;
    // SAFETY: the kernel reads one integer, which lives until then, and makes nothing of it.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const unused).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match Errno::result(done) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::os::socket::LocalName;
    use crate::os::testing::{TempDir, socket_settings};

    #[test]
    fn who_has_connected_is_accepted_and_nobody_else_connects_until_it_listens_again() {
        let listener =
            Listener::open(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), &socket_settings()).unwrap();
        let LocalName::Inet(address) = *listener.local_name() else { panic!("{listener:?}") };
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100));
        let _early = connect().unwrap();
        match listener.withdraw().unwrap() {
            Withdrawal::Done => assert!(connect().is_err()),
            Withdrawal::Refused(cause) => assert!(!crate::os::users::is_root(), "{cause}"),
        }
        listener.accept().unwrap();
        listener.apply(&socket_settings()).unwrap();
        let _late = connect().unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_path_is_gone_and_who_has_connected_is_accepted() {
        let directory = TempDir::new();
        let path = directory.path().join("a.sock");
        let listener = Listener::open(&ListenAddress::Unix(path.clone()), &socket_settings()).unwrap();
        let _early = UnixStream::connect(&path).unwrap();
        listener.withdraw().unwrap();
        assert!(UnixStream::connect(&path).is_err() && !listener.is_in_place());
        listener.accept().unwrap();
        listener.close().unwrap();
    }
}

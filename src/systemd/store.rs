//! The service manager's descriptor store: it keeps our listening sockets while nobody serves them, after a crash or in a
//! restart, so that clients wait instead of being refused. sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=` of
//! systemd.service(5). What the sockets are, and which of them fit, is the caller's.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use super::Notifier;
use crate::os::fdpass;

/// How many descriptors the service manager keeps for us. systemd sets it from version 254 on; fpmd.service does so for
/// older ones.
const VARIABLE: &str = "FDSTORE";

/// The way into the store; nothing is kept where there is none.
#[derive(Debug)]
pub struct Store {
    notifier: Option<Notifier>,
}

impl Store {
    /// The store that `FDSTORE` and `NOTIFY_SOCKET` announce.
    pub fn from_environment() -> Store {
        let room: u32 = env::var(VARIABLE).ok().and_then(|room| room.parse().ok()).unwrap_or(0);
        let notifier =
            Some(Notifier::from_environment()).filter(|notifier| room > 0 && notifier.is_connected());
        Store { notifier }
    }

    /// Whether what was put into it will be there for who comes after us.
    pub fn is_there(&self) -> bool {
        self.notifier.is_some()
    }

    /// Puts a descriptor into it; one that is there already is not put there again. A refusal is logged: fpmd serves all
    /// the same.
    ///
    /// Without FDPOLL=0: systemd watches it for nothing but EPOLLHUP and EPOLLERR then, so that connections do not wake it
    /// up, and a listening socket has those only when somebody has shut it down, a worker in direct mode perhaps. Such a
    /// one is of no use to a successor, and is rightly dropped.
    pub fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        let Some(notifier) = &self.notifier else { return };
        if let Err(error) = notifier.pass(&format!("FDSTORE=1\nFDNAME={name}"), fd) {
            ::log::warn!("cannot leave a socket with the service manager: {error}; a crash would close it");
        }
    }

    /// Takes it out.
    pub fn forget(&self, name: &str) {
        if let Some(notifier) = &self.notifier {
            notifier.notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
    }
}

impl Notifier {
    /// Sends a message with a descriptor beside it.
    fn pass(&self, message: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some((_, address)) = &self.target else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(address)?;
        Ok(fdpass::send(socket.as_fd(), message.as_bytes(), &[fd])?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    #[test]
    fn a_descriptor_goes_with_its_name() {
        let name = format!("fpmd-store-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let service_manager = UnixDatagram::bind_addr(&address).unwrap();
        let store = Store { notifier: Some(Notifier::to(&format!("@{name}"))) };
        let (pipe, _end) = io::pipe().unwrap();
        store.keep("fpmd-1-2", pipe.as_fd());
        let mut buffer = [0; 64];
        let received = fdpass::receive(service_manager.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"FDSTORE=1\nFDNAME=fpmd-1-2");
        assert_eq!(received.descriptors.len(), 1);
        store.forget("fpmd-1-2");
        let received = fdpass::receive(service_manager.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"FDSTOREREMOVE=1\nFDNAME=fpmd-1-2");
        assert!(received.descriptors.is_empty());
    }

    #[test]
    fn without_a_store_nothing_is_said() {
        let store = Store { notifier: None };
        let (pipe, _end) = io::pipe().unwrap();
        store.keep("fpmd-1-2", pipe.as_fd());
        store.forget("fpmd-1-2");
        assert!(!store.is_there());
    }
}

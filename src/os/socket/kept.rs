//! A listening socket that somebody else keeps open while we are not there: the name it is kept under, and how it becomes
//! ours again. Who keeps it is `systemd`'s.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::unix::OwnedPath;
use super::{Error, Listener, LocalName};
use crate::config::model::ListenAddress;

/// What all such names begin with.
pub const PREFIX: &str = "fpmd-";

impl Listener {
    /// The name to keep it under, different for every socket: for a path the inode that we made there, so that whoever
    /// takes over can tell our path from a successor's. `None` for a socket that someone else opened.
    pub fn keepsake(&self) -> Option<String> {
        match (&self.address, &self.path) {
            (ListenAddress::Systemd(_), _) => None,
            (_, Some(path)) => Some(format!("{PREFIX}{}", path.keepsake())),
            (_, None) => Some(format!("{PREFIX}{}", self.inode()?)),
        }
    }

    /// The kept socket as ours again, if it is the one of this address and clients still reach it there.
    ///
    /// # Errors
    /// The descriptor, if it is not.
    pub fn restore(fd: OwnedFd, keepsake: &str, address: &ListenAddress) -> Result<Listener, OwnedFd> {
        let name = super::local_name(fd.as_fd());
        let path = match &name {
            LocalName::Path(path) => match kept_path(path, keepsake) {
                Some(owned) => Some(owned),
                None => return Err(fd),
            },
            LocalName::Inet(_) | LocalName::Abstract(_) | LocalName::Other => None,
        };
        if !is_at(&name, address) {
            return Err(fd);
        }
        let Ok(copy) = fd.try_clone() else { return Err(fd) };
        match Listener::adopt(copy, address.clone()) {
            Ok(listener) => Ok(Listener { path, ..listener }),
            Err(_) => Err(fd),
        }
    }

    /// Nobody wants the kept socket any more: closes it, and removes its path if that is still the one we made.
    ///
    /// # Errors
    /// The path could not be removed.
    pub fn discard(fd: OwnedFd, keepsake: &str) -> Result<(), Error> {
        match super::local_name(fd.as_fd()) {
            LocalName::Path(path) => kept_path(&path, keepsake).map_or(Ok(()), |owned| owned.remove()),
            LocalName::Inet(_) | LocalName::Abstract(_) | LocalName::Other => Ok(()),
        }
    }
}

/// The path, if it is still the one that the name is about.
fn kept_path(path: &Path, keepsake: &str) -> Option<OwnedPath> {
    let owned = OwnedPath::from_keepsake(path, keepsake.strip_prefix(PREFIX)?)?;
    owned.is_ours().then_some(owned)
}

fn is_at(name: &LocalName, address: &ListenAddress) -> bool {
    match (name, address) {
        (LocalName::Path(real), ListenAddress::Unix(path)) => real == path,
        (LocalName::Inet(real), ListenAddress::Tcp(tcp)) => real == tcp,
        (LocalName::Inet(real), ListenAddress::Port(port)) => {
            let is_any = real.ip() == Ipv6Addr::UNSPECIFIED || real.ip() == Ipv4Addr::UNSPECIFIED;
            is_any && real.port() == *port
        }
        (LocalName::Abstract(real), ListenAddress::Abstract(name)) => real == name.as_bytes(),
        (LocalName::Path(_) | LocalName::Inet(_) | LocalName::Abstract(_) | LocalName::Other, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::os::socket::duplicate;
    use crate::os::testing::{TempDir, socket_settings};

    fn opened(address: &ListenAddress) -> (Listener, OwnedFd, String) {
        let listener = Listener::open(address, &socket_settings()).unwrap();
        let kept = duplicate(listener.as_fd()).unwrap();
        let keepsake = listener.keepsake().unwrap();
        (listener, kept, keepsake)
    }

    #[test]
    fn a_kept_socket_is_reached_at_its_path_again() {
        let directory = TempDir::new();
        let address = ListenAddress::Unix(directory.path().join("a.sock"));
        let (listener, kept, keepsake) = opened(&address);
        drop(listener);
        let waiting = UnixStream::connect(directory.path().join("a.sock")).unwrap();
        let other = ListenAddress::Unix(directory.path().join("b.sock"));
        let kept = Listener::restore(kept, &keepsake, &other).unwrap_err();
        let listener = Listener::restore(kept, &keepsake, &address).unwrap();
        assert!(listener.has_pending() && listener.is_in_place());
        assert_eq!(listener.keepsake(), Some(keepsake));
        drop(waiting);
        listener.close().unwrap();
        assert!(!directory.path().join("a.sock").exists());
    }

    #[test]
    fn a_path_that_is_someone_elses_by_now_is_left_alone() {
        let directory = TempDir::new();
        let path = directory.path().join("a.sock");
        let address = ListenAddress::Unix(path.clone());
        let (_listener, kept, keepsake) = opened(&address);
        // Beside it, so that the inode is another one.
        let next = std::os::unix::net::UnixListener::bind(directory.path().join("next")).unwrap();
        fs::rename(directory.path().join("next"), &path).unwrap();
        let kept = Listener::restore(kept, &keepsake, &address).unwrap_err();
        Listener::discard(kept, &keepsake).unwrap();
        assert!(path.exists());
        drop(next);
    }

    #[test]
    fn a_kept_port_is_found_by_its_number() {
        let (listener, kept, keepsake) = opened(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()));
        let LocalName::Inet(real) = *listener.local_name() else { panic!("no port") };
        drop(listener);
        let kept = Listener::restore(kept, &keepsake, &ListenAddress::Port(real.port())).unwrap_err();
        let listener = Listener::restore(kept, &keepsake, &ListenAddress::Tcp(real)).unwrap();
        assert_eq!(listener.keepsake(), Some(keepsake));
    }
}

//! The listening socket, made in the original's steps: for a path ask for an owner, remove what is there, bind, chmod, chown, listen.
//! Does not choose when: before or after chroot is `launch`'s business.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::message::Failure;
use crate::cli::spawn_fcgi::args::Endpoint;
use crate::ids::{Gid, Uid};
use crate::os::legacy;

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// The owner, if it changes.
    pub owner: Option<Uid>,
    /// The group, if it changes.
    pub group: Option<Gid>,
}

/// A socket that listens on `endpoint`.
///
/// # Errors
/// The first step that failed. A socket file that was made before that stays, as in the original, but not after chmod,
/// chown or listen failed.
pub fn listen_on(endpoint: &Endpoint, access: Access, backlog: i32) -> Result<OwnedFd, Failure> {
    match endpoint {
        Endpoint::Tcp { address, port } => {
            let address = SocketAddr::new(numeric_address(address.as_deref())?, *port);
            let socket = legacy::tcp_socket(&address).map_err(Failure::CreateSocket)?;
            legacy::reuse_address(&socket).map_err(Failure::ReuseAddress)?;
            legacy::bind_tcp(&socket, address).map_err(Failure::Bind)?;
            legacy::listen(&socket, backlog).map_err(Failure::Listen)?;
            Ok(socket)
        }
        Endpoint::Unix(path) => listen_on_path(Path::new(path), access, backlog),
    }
}

/// `-a`: an address in digits; every IPv4 address of this machine by default.
///
/// # Errors
/// Anything else: names, brackets, scopes, and forms of an IPv4 address with less than four numbers.
pub fn numeric_address(text: Option<&OsStr>) -> Result<IpAddr, Failure> {
    let Some(given) = text else { return Ok(Ipv4Addr::UNSPECIFIED.into()) };
    let text = given.to_str().unwrap_or_default();
    let v4 = text.parse::<Ipv4Addr>().map(IpAddr::from);
    v4.or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::from))
        .map_err(|_| Failure::InvalidAddress(given.into()))
}

/// Finds out without a trace whether fpmd could listen there, for a caller who still waits for the answer. `path` is where a
/// Unix socket would be.
///
/// # Errors
/// As `listen_on`, as far as it can be known.
pub fn ask_whether_free(endpoint: &Endpoint, path: Option<&Path>) -> Result<(), Failure> {
    if let Some(path) = path
        && legacy::has_owner(path).map_err(Failure::CreateSocket)?
    {
        return Err(Failure::SocketInUse);
    }
    if let Endpoint::Tcp { address, port } = endpoint {
        let address = SocketAddr::new(numeric_address(address.as_deref())?, *port);
        let socket = legacy::tcp_socket(&address).map_err(Failure::CreateSocket)?;
        legacy::reuse_address(&socket).map_err(Failure::ReuseAddress)?;
        legacy::bind_tcp(&socket, address).map_err(Failure::Bind)?;
    }
    Ok(())
}

fn listen_on_path(path: &Path, access: Access, backlog: i32) -> Result<OwnedFd, Failure> {
    remove_old_socket(path)?;
    let socket = legacy::unix_socket().map_err(Failure::CreateSocket)?;
    legacy::reuse_address(&socket).map_err(Failure::ReuseAddress)?;
    legacy::bind_unix(&socket, path).map_err(Failure::Bind)?;
    open_to(&socket, path, access, backlog).inspect_err(|_| {
        // What failed matters more than a file that stays behind.
        let _ = fs::remove_file(path);
    })?;
    Ok(socket)
}

fn remove_old_socket(path: &Path) -> Result<(), Failure> {
    if legacy::has_owner(path).map_err(Failure::CreateSocket)? {
        return Err(Failure::SocketInUse);
    }
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Failure::RemoveOldSocket(cause)),
        _ => Ok(()),
    }
}

fn open_to(socket: &OwnedFd, path: &Path, access: Access, backlog: i32) -> Result<(), Failure> {
    fs::set_permissions(path, Permissions::from_mode(access.mode)).map_err(Failure::ChangeMode)?;
    if access.owner.is_some() || access.group.is_some() {
        legacy::change_owner(path, access.owner, access.group).map_err(Failure::ChangeOwner)?;
    }
    legacy::listen(socket, backlog).map_err(Failure::Listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers() {
        let parse = |text: &str| numeric_address(Some(OsStr::new(text))).map(|a| a.to_string()).ok();
        assert_eq!(numeric_address(None).unwrap().to_string(), "0.0.0.0");
        assert_eq!(parse("127.0.0.1").as_deref(), Some("127.0.0.1"));
        assert_eq!(parse("::1").as_deref(), Some("::1"));
        for refused in ["", "localhost", "[::1]", "127.1", "127.0.0.01", "::1%lo", " 127.0.0.1", "127.0.0.1 "]
        {
            assert_eq!(parse(refused), None, "{refused:?}");
        }
    }
}

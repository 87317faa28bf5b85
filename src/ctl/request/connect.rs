//! A connection to a FastCGI socket, made within a time limit and non-blocking from then on. connect(2), unix(7).

use std::fs::File;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Cause;
use crate::cli::request::Endpoint;
use crate::os::clock;

/// Connects to `endpoint`; of a host with several addresses, to the first that answers.
pub fn connect(endpoint: &Endpoint, limit: Duration) -> Result<File, Cause> {
    let connected = match endpoint {
        Endpoint::Tcp(address) => tcp(address, limit),
        Endpoint::Unix(path) => UnixAddr::new(path).map_err(io::Error::from).and_then(|at| unix(&at, limit)),
        Endpoint::Abstract(name) => {
            UnixAddr::new_abstract(name.as_bytes()).map_err(io::Error::from).and_then(|at| unix(&at, limit))
        }
    };
    let socket = connected.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::TimedOut(limit),
        _ => Cause::Connect(error),
    })?;
    // Ours alone, so the flag disturbs nobody.
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| Cause::Connect(error.into()))?;
    Ok(File::from(socket))
}

fn tcp(address: &str, limit: Duration) -> io::Result<OwnedFd> {
    let end = clock::monotonic().after(limit);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        // connect_timeout refuses zero.
        let left = end.since(clock::monotonic()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A full queue makes connect(2) wait; SO_SNDTIMEO bounds that.
fn unix(address: &UnixAddr, limit: Duration) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, limit.subsec_micros().into()))?;
    connect_to(socket.as_raw_fd(), address)?;
    Ok(socket)
}

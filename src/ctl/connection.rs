//! One question to a running fpmd over its control socket (unix(7)), and the wait for the answer. Knows no command and
//! prints nothing.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::os::errno;
use crate::wire::control::{Command, Reply, Request, VERSION};
use crate::wire::frame::{Decoder, Fault, encode};

/// How long fpmd may take to let a connection into its queue, and to read a question, at most.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long fpmd may be silent after the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// So long between any two bytes: for what fpmd answers from what it knows.
    Silence(Duration),
    /// As long as the connection lives: a drain takes what the pool's `stop_timeout` allows, and the kernel closes the
    /// connection of an fpmd that ended.
    WhileConnected,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    socket: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Connect(Errno),
    Send(io::Error),
    Receive(io::Error),
    Silent(Duration),
    HungUp,
    Nonsense(Fault),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match &self.cause {
            Cause::Connect(errno) => {
                let advice = advice(&self.socket, *errno);
                write!(f, "cannot reach fpmd at '{socket}': {}{advice}", errno::Cause(*errno))
            }
            Cause::Send(error) => write!(f, "cannot ask fpmd at '{socket}': {}", errno::said(error)),
            Cause::Receive(error) => write!(f, "cannot hear fpmd at '{socket}': {}", errno::said(error)),
            Cause::Silent(span) => {
                write!(f, "cannot hear fpmd at '{socket}': no answer within {} s", span.as_secs_f64())
            }
            Cause::HungUp => {
                write!(
                    f,
                    "cannot hear fpmd at '{socket}': it closed the connection before its answer; did it end?"
                )
            }
            Cause::Nonsense(fault) => {
                let doubt = "is it another version, or another program?";
                write!(f, "cannot understand fpmd at '{socket}': {fault}; {doubt}")
            }
        }
    }
}

impl std::error::Error for Failure {}

fn advice(socket: &Path, errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "; is it running? Use sudo for root's fpmd, --socket for another socket",
        Errno::ECONNREFUSED if !is_socket(socket) => "; that is no socket",
        Errno::ECONNREFUSED => "; it ended and left its socket behind, start it again",
        Errno::EACCES | Errno::EPERM => {
            "; run fpmctl as root, as fpmd's own user, or (to look) as a member of its control_group"
        }
        Errno::EAGAIN => "; it accepts no connection, is it stopped or overloaded?",
        _ => "",
    }
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Asks, hands each progress sentence to `progress`, and gives the final reply.
///
/// # Errors
/// `Failure`: fpmd cannot be reached, or its answer did not come or makes no sense.
pub fn ask(
    socket: &Path,
    command: Command,
    patience: Patience,
    progress: &mut dyn FnMut(&str),
) -> Result<Reply, Failure> {
    let failed = |cause| Failure { socket: socket.to_owned(), cause };
    let mut stream = open(socket, patience).map_err(|errno| failed(Cause::Connect(errno)))?;
    send(&mut stream, command, patience).map_err(|error| failed(Cause::Send(error)))?;
    receive(&mut stream, patience, progress).map_err(failed)
}

/// `UnixStream::connect` would wait for ever where nobody accepts and the queue is full; SO_SNDTIMEO bounds it.
fn open(path: &Path, patience: Patience) -> Result<UnixStream, Errno> {
    let address = UnixAddr::new(path)?;
    let limit = match patience {
        Patience::Silence(span) => span.min(HANDSHAKE),
        Patience::WhileConnected => HANDSHAKE,
    };
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&fd, sockopt::SendTimeout, &limit)?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(UnixStream::from(fd))
}

fn send(stream: &mut UnixStream, command: Command, patience: Patience) -> io::Result<()> {
    stream.set_read_timeout(match patience {
        Patience::Silence(span) => Some(span),
        Patience::WhileConnected => None,
    })?;
    match stream.write_all(&encode(&Request { version: VERSION, command })) {
        // It may have refused us before it read the question: then the answer says why.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
        other => other,
    }
}

fn receive(
    stream: &mut UnixStream,
    patience: Patience,
    progress: &mut dyn FnMut(&str),
) -> Result<Reply, Cause> {
    let mut decoder = Decoder::<Reply>::default();
    let mut chunk = [0; 16 * 1024];
    loop {
        while let Some(reply) = decoder.message().map_err(Cause::Nonsense)? {
            match reply {
                Reply::Progress(sentence) => progress(&sentence),
                Reply::Done(_) | Reply::Refused(_) | Reply::Status(_) => return Ok(reply),
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(decoder.end().map_or_else(Cause::Nonsense, |()| Cause::HungUp)),
            Ok(length) => decoder.push(&chunk[..length]),
            Err(error) => interpret(error, patience)?,
        }
    }
}

fn interpret(error: io::Error, patience: Patience) -> Result<(), Cause> {
    match (error.kind(), patience) {
        (ErrorKind::Interrupted, _) => Ok(()),
        (ErrorKind::ConnectionReset, _) => Err(Cause::HungUp),
        (ErrorKind::WouldBlock | ErrorKind::TimedOut, Patience::Silence(span)) => Err(Cause::Silent(span)),
        _ => Err(Cause::Receive(error)),
    }
}

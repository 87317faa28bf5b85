//! Where lines end up: a stream that others share, a file, the local syslog. Each takes a line or refuses it at once;
//! none ever waits. Counting and reporting of what was refused is `writer`'s. syslog(3), unix(7).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::line::Frame;
use super::writer::Place;
use crate::config::model::LogTarget;
use crate::os::outlet::{Outlet, lead_to_one};

/// Owner writes, group reads: log lines may hold what the world should not see.
const FILE_MODE: u32 = 0o640;

/// Where the local syslog daemon listens.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Where lines end up.
#[derive(Debug)]
pub enum Sink {
    /// Standard output or error.
    Stream(Outlet),
    /// A log file, ours.
    File(File),
    /// The local syslog daemon.
    Syslog(Syslog),
}

impl Sink {
    /// Opens `target` and says how lines for it are framed.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the stream is closed. An absent syslog daemon is no error: it may come.
    pub fn open(target: &LogTarget) -> io::Result<(Sink, Frame)> {
        match target {
            LogTarget::Stderr => {
                let stderr = io::stderr();
                let frame = if is_journal(stderr.as_fd()) { Frame::Journal } else { Frame::Stream };
                Ok((Sink::Stream(Outlet::new(stderr.as_fd())?), frame))
            }
            LogTarget::Journal => Ok((Sink::Stream(Outlet::new(io::stderr().as_fd())?), Frame::Journal)),
            LogTarget::Stdout => Ok((Sink::Stream(Outlet::new(io::stdout().as_fd())?), Frame::Stream)),
            LogTarget::Syslog => Ok((Sink::Syslog(Syslog::at(SYSLOG_SOCKET)), Frame::Syslog)),
            LogTarget::File(path) => Ok((Sink::File(open_file(path)?), Frame::Stream)),
        }
    }
}

impl Sink {
    /// The log file, if that is what it is.
    pub fn file(&self) -> Option<&File> {
        match self {
            Sink::File(file) => Some(file),
            Sink::Stream(_) | Sink::Syslog(_) => None,
        }
    }
}

impl Sink {
    /// Where it leads, seen from the one before it.
    pub fn place_after(&self, before: &Sink) -> Place {
        let is_same = match (before, self) {
            (Sink::File(before), Sink::File(now)) => lead_to_one(before.as_fd(), now.as_fd()),
            (Sink::Stream(before), Sink::Stream(now)) => lead_to_one(before.as_fd(), now.as_fd()),
            // A datagram is sent as a whole.
            (Sink::File(_) | Sink::Stream(_) | Sink::Syslog(_), _) => false,
        };
        if is_same { Place::Same } else { Place::Other }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stream(outlet) => outlet.write(bytes),
            Sink::File(file) => file.write(bytes),
            Sink::Syslog(syslog) => syslog.send(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appending, so that several writers and a log rotation by copy and truncate do no harm; non-blocking, so that a FIFO
/// without a reader is an error instead of a daemon that hangs.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags.bits()).open(path)
}

/// systemd names the stream that it connected to the journal; it is ours only if stderr is still that one.
fn is_journal(stderr: BorrowedFd<'_>) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    Outlet::identity(stderr).is_ok_and(|identity| names(&named, identity))
}

fn names(journal_stream: &str, (device, inode): (u64, u64)) -> bool {
    let numbers = journal_stream.split_once(':').map(|(dev, ino)| (dev.parse(), ino.parse()));
    numbers == Some((Ok(device), Ok(inode)))
}

/// A connection to the syslog daemon that comes back by itself.
#[derive(Debug)]
pub struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Connects at the first line.
    pub fn at(path: impl Into<PathBuf>) -> Syslog {
        Syslog { path: path.into(), socket: None }
    }

    /// Sends one datagram; connects anew once, since a restarted daemon leaves a dead socket behind.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(datagram) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.socket = None,
            }
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        socket.send(datagram)?;
        self.socket = Some(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::os::testing::TempDir;

    #[test]
    fn the_journal_is_told_by_device_and_inode() {
        assert!(names("8:123", (8, 123)));
        for other in ["8:124", "9:123", "8", "", "8:", "a:b", "8:123:4"] {
            assert!(!names(other, (8, 123)), "{other}");
        }
    }

    #[test]
    fn a_file_is_appended_to_and_not_for_the_world() {
        let directory = TempDir::new();
        let path = directory.join("fpmd.log");
        std::fs::write(&path, "before\n").unwrap();
        let (mut sink, frame) = Sink::open(&LogTarget::File(path.clone())).unwrap();
        assert_eq!(frame, Frame::Stream);
        sink.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");

        let new = directory.join("new.log");
        Sink::open(&LogTarget::File(new.clone())).unwrap();
        assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn what_cannot_be_a_log_file_is_an_error_and_no_wait() {
        let directory = TempDir::new();
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Sink::open(&LogTarget::File(fifo)).is_err());
        assert!(Sink::open(&LogTarget::File(directory.join("."))).is_err());
        assert!(Sink::open(&LogTarget::File(directory.join("missing/fpmd.log"))).is_err());
    }

    #[test]
    fn a_syslog_daemon_may_come_late_restart_and_stall() {
        let directory = TempDir::new();
        let path = directory.join("log");
        let mut sink = Sink::Syslog(Syslog::at(&path));
        assert_eq!(sink.write(b"early").unwrap_err().kind(), io::ErrorKind::NotFound);

        let daemon = listen(&path);
        sink.write_all(b"first").unwrap();
        assert_eq!(received(&daemon), b"first");

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let daemon = listen(&path);
        sink.write_all(b"second").unwrap();
        assert_eq!(received(&daemon), b"second");

        let stalled = (0..100_000).find_map(|_| sink.write(b"more").err());
        assert_eq!(stalled.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    fn listen(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

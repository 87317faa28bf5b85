//! Writing to standard output or error without ever blocking, though the open file description is shared with other
//! processes, so that O_NONBLOCK must not be set on it (a shell or the tool behind a pipe would suffer).
//! Does not split, format or count lines. pipe(7), poll(2), send(2), proc_pid_fd(5).

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// A pipe that poll(2) calls writable takes this much in one write without blocking.
const SURE_TO_FIT: usize = libc::PIPE_BUF;

/// A descriptor that takes what it can at once and refuses the rest with `WouldBlock`.
#[derive(Debug)]
pub struct Outlet(Kind);

#[derive(Debug)]
enum Kind {
    /// A regular file: it takes what it is given.
    File(File),
    /// Ours alone and non-blocking: the same pipe or terminal, opened again.
    Own(File),
    /// A socket: each send says that it must not block.
    Socket(OwnedFd),
    /// Anything else: asked first, then given a bite that surely fits.
    Polled(File),
}

impl Outlet {
    /// The best non-blocking way to write to `shared`. The descriptor is duplicated (CLOEXEC) and may be closed after.
    ///
    /// # Errors
    /// `shared` is not open, or there is no room for another descriptor.
    pub fn new(shared: BorrowedFd<'_>) -> io::Result<Outlet> {
        let file = File::from(shared.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(Outlet(Kind::File(file)));
        }
        if kind.is_socket() {
            return Ok(Outlet(Kind::Socket(OwnedFd::from(file))));
        }
        if kind.is_fifo() || file.is_terminal() {
            // Fails without /proc, or where the pipe belongs to another user: then poll has to do.
            let again = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if let Ok(own) = again {
                return Ok(Outlet(Kind::Own(own)));
            }
        }
        Ok(Outlet(Kind::Polled(file)))
    }

    /// Device and inode number, which systemd writes into JOURNAL_STREAM for the stream that it connected.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn identity(shared: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
        let file = File::from(shared.try_clone_to_owned()?);
        let data = file.metadata()?;
        Ok((data.dev(), data.ino()))
    }
}

/// Whether both descriptors lead to the same file, pipe or socket, however each was opened.
pub fn lead_to_one(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    Outlet::identity(one).ok().is_some_and(|place| Outlet::identity(other).is_ok_and(|other| other == place))
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::File(file) | Kind::Own(file) | Kind::Polled(file) => file.as_fd(),
            Kind::Socket(socket) => socket.as_fd(),
        }
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::File(file) | Kind::Own(file) => file.write(bytes),
            Kind::Socket(socket) => {
                Ok(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
            }
            Kind::Polled(file) => {
                await_room(file)?;
                file.write(&bytes[..bytes.len().min(SURE_TO_FIT)])
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks and does not wait. Another writer may take the room in between: the price where no own description is to be had.
fn await_room(file: &File) -> io::Result<()> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO)? {
        0 => Err(Errno::EAGAIN.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// Writes until the peer is full, and says how much fitted.
    fn fill(outlet: &mut Outlet) -> usize {
        let mut taken = 0;
        loop {
            match outlet.write(&[b'x'; 1000]) {
                Ok(n) => taken += n,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return taken;
                }
            }
        }
    }

    fn is_blocking(fd: impl AsFd) -> bool {
        !OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK)
    }

    #[test]
    fn a_pipe_that_nobody_reads_refuses_and_stays_blocking_for_others() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(writer.as_fd()).unwrap();
        assert!(matches!(outlet.0, Kind::Own(_)));
        assert!(fill(&mut outlet) >= 4096);
        assert!(is_blocking(&writer));
        drop(reader);
        assert_eq!(outlet.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_polled_pipe_refuses_too() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet(Kind::Polled(File::from(OwnedFd::from(writer))));
        assert!(fill(&mut outlet) >= 4096);
    }

    #[test]
    fn a_socket_refuses_and_stays_blocking_for_others() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut outlet = Outlet::new(theirs.as_fd()).unwrap();
        assert!(matches!(outlet.0, Kind::Socket(_)));
        let taken = fill(&mut outlet);
        assert!(is_blocking(&theirs));
        let mut back = vec![0; taken];
        ours.read_exact(&mut back).unwrap();
        assert!(outlet.write(b"again").is_ok());
    }

    #[test]
    fn a_device_is_written_to() {
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert_eq!(Outlet::new(null.as_fd()).unwrap().write(b"gone").unwrap(), 4);
    }
}

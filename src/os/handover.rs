//! Becoming another program with the same pid: which descriptors it gets on purpose, and that no signal is lost or deadly on
//! the way. memfd_create(2), fcntl(2). How that program is told, and the way back, is `passage`'s; what is written down for it
//! is `master`'s.

mod passage;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

pub use self::passage::{Inheritance, Turn, VARIABLES, WayBack, inheritance};
use super::signal::Blocked;
use super::socket;

/// A descriptor under the number that it keeps over the exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heirloom(i32);

/// What the next program gets. Everything else is closed by the exec.
#[derive(Debug, Default)]
pub struct Estate<'a> {
    lent: Vec<BorrowedFd<'a>>,
    /// Copies made for the successor.
    copies: Vec<OwnedFd>,
}

impl Heirloom {
    /// Takes the descriptor over, close-on-exec. To be called once for each, in the program that inherits.
    ///
    /// # Errors
    /// It is not open: it was not handed over.
    pub fn claim(self) -> Result<OwnedFd, socket::Error> {
        socket::claim(self.0)
    }
}

impl<'a> Estate<'a> {
    /// Hands a descriptor over; the result is what the successor has to know of it.
    pub fn leave(&mut self, fd: BorrowedFd<'a>) -> Heirloom {
        self.lent.push(fd);
        Heirloom(fd.as_raw_fd())
    }

    /// Hands over a copy that was made for this.
    pub fn leave_copy(&mut self, fd: OwnedFd) -> Heirloom {
        let heirloom = Heirloom(fd.as_raw_fd());
        self.copies.push(fd);
        heirloom
    }

    /// Becomes `program`, under our own arguments, with `will` as what is written down and with a way back to us. Returns
    /// only if that fails: then everything is as it was, but for signals, which `_held` gives back.
    pub fn become_program(&self, program: &Path, will: BorrowedFd<'_>, _held: &Blocked) -> Errno {
        let way_back = match WayBack::open() {
            Ok(way_back) => way_back,
            Err(errno) => return errno,
        };
        let ours = [will, way_back.as_fd()];
        let lent = self.lent.iter().copied().chain(self.copies.iter().map(AsFd::as_fd));
        let result = passage::with_open(lent.chain(ours), || passage::go(program, will, &way_back));
        match result {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }
}

/// Lets in the signals that came while the predecessor became us. To be called when they are caught.
pub fn release_signals() {
    let _ = SigSet::empty().thread_set_mask();
}

/// A file in memory that holds `text` and cannot be changed any more, to be read from its beginning.
///
/// # Errors
/// No memory or descriptor is left.
pub fn written(text: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"fpmd-state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(text)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// What is written there, from its beginning: another program in this process may have read it before.
///
/// # Errors
/// It cannot be read, or is not text.
pub fn read(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut file = File::from(fd.try_clone_to_owned()?);
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// The path under which a newer version of the running program will be found: the one that it was started by if that leads
/// to it, links and all, else the real one.
///
/// # Errors
/// There is no /proc.
pub fn own_path() -> io::Result<PathBuf> {
    let real = without_deleted(fs::read_link("/proc/self/exe")?);
    // A name without a slash was looked up in PATH, which has told us nothing.
    let typed = env::args_os().next().map(PathBuf::from).filter(|typed| typed.components().count() > 1);
    let typed = typed.and_then(|typed| std::path::absolute(typed).ok());
    let leads_here = |typed: &PathBuf| fs::canonicalize(typed).is_ok_and(|target| target == real);
    Ok(typed.filter(leads_here).unwrap_or(real))
}

/// The kernel's remark on a file that was replaced, as a package does it.
fn without_deleted(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let kept = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes).to_vec();
    PathBuf::from(OsString::from_vec(kept))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::FdFlag;

    use super::*;

    #[test]
    fn what_is_written_down_is_read_from_its_beginning_again_and_again_and_cannot_be_changed() {
        let fd = written(b"{\"a\": 1}").unwrap();
        let mut copy = File::from(fd.try_clone().unwrap());
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        for _ in 0..2 {
            assert_eq!(read(fd.as_fd()).unwrap(), "{\"a\": 1}");
        }
    }

    #[test]
    fn a_program_that_was_replaced_is_looked_for_where_it_was() {
        assert_eq!(without_deleted("/usr/sbin/fpmd (deleted)".into()), Path::new("/usr/sbin/fpmd"));
        assert_eq!(without_deleted("/usr/sbin/fpmd".into()), Path::new("/usr/sbin/fpmd"));
        assert_eq!(own_path().unwrap(), env::current_exe().unwrap());
    }

    #[test]
    fn what_cannot_be_executed_changes_nothing() {
        let file = written(b"").unwrap();
        let will = written(b"").unwrap();
        let mut estate = Estate::default();
        let heirloom = estate.leave(file.as_fd());
        assert_eq!(heirloom.0, file.as_raw_fd());
        estate.leave_copy(file.try_clone().unwrap());
        let errno = estate.become_program(Path::new("/nowhere/fpmd"), will.as_fd(), &Blocked::all());
        assert_eq!(errno, Errno::ENOENT);
        for fd in [file.as_fd(), will.as_fd(), estate.copies[0].as_fd()] {
            assert_eq!(fcntl(fd, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        }
    }
}

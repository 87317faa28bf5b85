//! Unix socket paths: making, replacing a stale one, permissions, removal. See unix(7).
//!
//! The socket is bound under its real name, never renamed into place, so that getsockname(2), `ss -lx` and the accepted
//! connections in sock_diag(7) all bear the name that the administrator wrote. No client meets a half-configured socket
//! all the same: owner, mode and access list are set between bind(2) and listen(2), while a connection is still refused
//! exactly as by the stale socket before. A stale socket is moved aside and looked at again before it is removed, so that
//! two daemons that start at the same moment cannot remove each other's.

use std::fs::{self, FileType, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, major, minor};
use nix::unistd;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::config::model::SocketSettings;
use crate::ids::{Gid, Uid};
use crate::os::acl;
use crate::os::errno::Cause;
use crate::os::sockdiag::SockDiag;

/// The longest path: `sun_path` less its NUL.
const PATH_MAX_BYTES: usize = 107;

/// A path with the inode that we made there; the inode tells ours from a successor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnedPath {
    path: PathBuf,
    inode: Inode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Inode {
    device: u64,
    number: u64,
}

/// Binds `fd` to `path` with owner, mode and access list in place; the caller then calls listen(2).
///
/// # Errors
/// Every variant that is about paths; after an error the path is as it was, or free if it was stale.
pub(super) fn bind_path(fd: &OwnedFd, path: &Path, settings: &SocketSettings) -> Result<OwnedPath, Error> {
    let address = path.display().to_string();
    let length = path.as_os_str().len();
    if length > PATH_MAX_BYTES {
        return Err(Error::TooLong { address, length });
    }
    let name = UnixAddr::new(path).map_err(|errno| failed("bind", path, errno))?;
    match bind(fd.as_raw_fd(), &name) {
        Err(Errno::EADDRINUSE) => {
            clear_stale(path, &name)?;
            bind(fd.as_raw_fd(), &name).map_err(|errno| bind_error(path, errno))?;
        }
        Err(errno) => return Err(bind_error(path, errno)),
        Ok(()) => {}
    }
    let inode = inode(path).ok_or(Error::Replaced { address })?;
    let owned = OwnedPath { path: path.to_owned(), inode };
    owned.apply(settings).inspect_err(|_| drop(owned.remove()))?;
    Ok(owned)
}

impl OwnedPath {
    /// Sets owner, group, mode and access list.
    ///
    /// Works on the inode, not on the name: whoever may write to the directory cannot trick root into changing another
    /// file by putting a link in the socket's place.
    pub(super) fn apply(&self, settings: &SocketSettings) -> Result<(), Error> {
        let pinned = self.pin()?;
        let number = format!("/proc/self/fd/{}", pinned.as_raw_fd());
        let target = Path::new(&number);
        let uid = settings.owner.as_ref().map(|user| unistd::Uid::from_raw(user.uid.0));
        let gid = settings.group.as_ref().map(|group| unistd::Gid::from_raw(group.gid.0));
        if uid.is_some() || gid.is_some() {
            unistd::chown(target, uid, gid)
                .map_err(|errno| failed("change the owner of", &self.path, errno))?;
        }
        let refused = |cause| Error::Acl { address: self.path.display().to_string(), cause };
        let users: Vec<Uid> = settings.acl_users.iter().map(|user| user.uid).collect();
        let groups: Vec<Gid> = settings.acl_groups.iter().map(|group| group.gid).collect();
        if !users.is_empty() || !groups.is_empty() {
            return acl::set(target, settings.mode, &users, &groups).map_err(refused);
        }
        acl::clear(target).map_err(refused)?;
        let mode = Mode::from_bits_truncate(settings.mode & 0o777);
        fchmodat(nix::fcntl::AT_FDCWD, target, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| failed("change the mode of", &self.path, errno))
    }

    /// The inode in words that a service manager takes for a name.
    pub(super) fn keepsake(&self) -> String {
        format!("{}-{}", self.inode.device, self.inode.number)
    }

    /// The path with the inode of such words.
    pub(super) fn from_keepsake(path: &Path, keepsake: &str) -> Option<OwnedPath> {
        let (device, number) = keepsake.split_once('-')?;
        let inode = Inode { device: device.parse().ok()?, number: number.parse().ok()? };
        Some(OwnedPath { path: path.to_owned(), inode })
    }

    /// Whether the path still leads to our socket.
    pub(super) fn is_ours(&self) -> bool {
        inode(&self.path) == Some(self.inode)
    }

    /// Removes the path if it is still ours; a path that is gone or someone else's is left alone.
    pub(super) fn remove(&self) -> Result<(), Error> {
        if !self.is_ours() {
            return Ok(());
        }
        match unistd::unlink(&self.path) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path, errno)),
        }
    }

    /// A descriptor of the inode itself.
    fn pin(&self) -> Result<OwnedFd, Error> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let replaced = || Error::Replaced { address: self.path.display().to_string() };
        let pinned = match open(&self.path, flags, Mode::empty()) {
            Ok(pinned) => pinned,
            Err(Errno::ENOENT | Errno::ELOOP) => return Err(replaced()),
            Err(errno) => return Err(failed("open", &self.path, errno)),
        };
        let stat = fstat(&pinned).map_err(|errno| failed("open", &self.path, errno))?;
        let found = Inode { device: stat.st_dev, number: stat.st_ino };
        if found == self.inode { Ok(pinned) } else { Err(replaced()) }
    }
}

/// Removes a socket that nobody listens on.
fn clear_stale(path: &Path, name: &UnixAddr) -> Result<(), Error> {
    let address = || path.display().to_string();
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path, Cause::from(error).0)),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::Occupied { address: address(), kind: kind(meta.file_type()) });
    }
    if is_live(path, name, &meta)? {
        return Err(Error::InUse { address: address() });
    }
    let stale = Inode { device: meta.dev(), number: meta.ino() };
    let aside = aside(path);
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("replace the stale socket", path, Cause::from(error).0)),
    }
    if inode(&aside) == Some(stale) {
        return unistd::unlink(&aside).map_err(|errno| failed("remove the stale socket", path, errno));
    }
    // Another daemon put its own socket there between our two looks; hard links never overwrite.
    let restored = fs::hard_link(&aside, path);
    drop(fs::remove_file(&aside));
    match restored {
        Ok(()) => Err(Error::InUse { address: address() }),
        Err(error) => Err(failed("put back", path, Cause::from(error).0)),
    }
}

/// Whether a process listens on the socket at `path`.
///
/// The kernel is asked first, because a connection without a request ends some workers (Ruby's fcgi). It knows of our
/// network namespace only; where it knows of none, a connection tells.
///
/// # Errors
/// Where that cannot be told: then nothing is removed.
fn is_live(path: &Path, name: &UnixAddr, meta: &Metadata) -> Result<bool, Error> {
    let device = (major(meta.dev()), minor(meta.dev()));
    let asked = SockDiag::open().and_then(|mut diag| diag.is_listening(meta.ino(), device));
    if asked == Ok(true) {
        return Ok(true);
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|errno| failed("make a socket for", path, errno))?;
    match connect(probe.as_raw_fd(), name) {
        // EAGAIN: its queue is full. EPROTOTYPE: a datagram socket, whose owner lives.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(failed("find out who listens on", path, errno)),
    }
}

/// A name in the same directory that no one uses: short, because the path may be as long as paths can be.
fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".fpmd-stale-{}", std::process::id()))
}

fn inode(path: &Path) -> Option<Inode> {
    let meta = fs::symlink_metadata(path).ok()?;
    meta.file_type().is_socket().then(|| Inode { device: meta.dev(), number: meta.ino() })
}

fn bind_error(path: &Path, errno: Errno) -> Error {
    let address = path.display().to_string();
    match errno {
        Errno::EADDRINUSE => Error::InUse { address },
        Errno::ENOENT => match missing_directory(path) {
            Some(directory) => Error::NoDirectory { address, directory },
            None => failed("bind", path, errno),
        },
        _ => failed("bind", path, errno),
    }
}

/// The topmost directory of `path` that does not exist.
fn missing_directory(path: &Path) -> Option<PathBuf> {
    let missing = |directory: &&Path| {
        fs::metadata(directory).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    path.ancestors()
        .skip(1)
        .filter(|directory| !directory.as_os_str().is_empty())
        .filter(missing)
        .last()
        .map(Path::to_owned)
}

/// What a file is, in words that follow "a".
pub(super) fn kind(file: FileType) -> &'static str {
    match file {
        _ if file.is_file() => "regular file",
        _ if file.is_dir() => "directory",
        _ if file.is_symlink() => "symbolic link",
        _ if file.is_fifo() => "pipe",
        _ if file.is_char_device() => "character device",
        _ if file.is_block_device() => "block device",
        _ if file.is_socket() => "socket",
        _ => "file of an unknown kind",
    }
}

fn failed(verb: &'static str, path: &Path, errno: Errno) -> Error {
    Error::System { verb, address: path.display().to_string(), errno }
}

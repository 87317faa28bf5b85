//! Binds the control socket: a directory that others cannot tamper with, no stale socket in the way, permissions before the
//! first client.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;

use crate::ids::Gid;
use crate::os::{errno, users};

/// Why the control socket cannot be opened.
#[derive(Debug)]
pub enum ControlError {
    /// Another fpmd answers on it.
    InUse(PathBuf),
    /// A system call failed on this path.
    Failed {
        /// "create directory", "bind control socket" …
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Something that is not a socket has the name.
    NotASocket(PathBuf),
    /// The directory belongs to someone else, or others may write to it.
    UnsafeDirectory(PathBuf),
}

impl ControlError {
    /// Whether a different user would have succeeded.
    pub fn is_permission(&self) -> bool {
        matches!(self, ControlError::Failed { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::InUse(path) => write!(
                f,
                "cannot bind control socket '{}': another fpmd answers on it; stop that one, or give this one \
                 another control_socket",
                path.display()
            ),
            ControlError::Failed { what, path, cause } => {
                write!(f, "cannot {what} '{}': {}", path.display(), errno::said(cause))
            }
            ControlError::NotASocket(path) => write!(
                f,
                "cannot bind control socket '{}': the path exists and is not a socket; remove it or choose another \
                 control_socket",
                path.display()
            ),
            ControlError::UnsafeDirectory(path) => write!(
                f,
                "cannot use runtime directory '{}': it belongs to another user or others may write to it; choose \
                 another runtime_dir",
                path.display()
            ),
        }
    }
}

/// Binds the socket, mode 0600, or 0660 and `group`'s. A stale one is replaced. Its directory is created, with its parents,
/// if it is missing.
pub(super) fn bind(path: &Path, group: Option<Gid>) -> Result<UnixListener, ControlError> {
    let failed = |what| move |cause: io::Error| ControlError::Failed { what, path: path.to_owned(), cause };
    prepare_directory(path)?;
    remove_stale(path)?;
    // Bound under another name and renamed, so that nobody connects before the permissions are right.
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(failed("bind control socket"))?;
    let settled = permit(&draft, group).and_then(|()| fs::rename(&draft, path));
    match settled {
        Ok(()) => Ok(listener),
        Err(cause) => {
            let _ = fs::remove_file(&draft);
            Err(failed("set up control socket")(cause))
        }
    }
}

/// Gives the bound socket to another group, or to none.
pub(super) fn open_to(path: &Path, group: Option<Gid>) -> Result<(), ControlError> {
    let failed = |cause| ControlError::Failed { what: "change the group of", path: path.to_owned(), cause };
    permit(path, group).map_err(failed)
}

/// Without a group the mode says it all, whatever group the socket has.
fn permit(path: &Path, group: Option<Gid>) -> io::Result<()> {
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::chown(path, None, group.map(|group| group.0))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Creates the directory if it is missing, and refuses one in which others could have put or could exchange the socket.
fn prepare_directory(path: &Path) -> Result<(), ControlError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let failed = |cause| ControlError::Failed { what: "create directory", path: directory.to_owned(), cause };
    fs::create_dir_all(directory).map_err(failed)?;
    let metadata = fs::metadata(directory).map_err(failed)?;
    let is_sticky = metadata.mode() & 0o1000 != 0;
    let is_ours = metadata.uid() == users::own_uid().0 || metadata.uid() == 0;
    if !is_ours || (metadata.mode() & 0o022 != 0 && !is_sticky) {
        return Err(ControlError::UnsafeDirectory(directory.to_owned()));
    }
    Ok(())
}

/// Makes way: a socket that nobody answers on is removed, one that answers is left alone.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ControlError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|cause| ControlError::Failed {
                what: "remove stale control socket",
                path: path.to_owned(),
                cause,
            })
        }
        Err(cause) => Err(ControlError::Failed { what: "test control socket", path: path.to_owned(), cause }),
    }
}

//! POSIX access control lists of a Unix socket's path: named users and groups with read and write access.
//!
//! Writes the extended attribute `system.posix_acl_access` in the kernel's own format (linux/posix_acl_xattr.h), so that
//! libacl is not needed. What the entries mean is in acl(5). It does not read lists and has no default lists.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use crate::ids::{Gid, Uid};
use crate::os::errno::Cause;

/// The attribute's name, see xattr(7).
const ATTRIBUTE: &CStr = c"system.posix_acl_access";
/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`: the id of entries that name nobody.
const NOBODY: u32 = u32::MAX;
/// Read and write: what `connect(2)` asks of a socket's path.
const READ_WRITE: u16 = 6;

/// Tags of the entries (linux/posix_acl.h), in the order in which the kernel wants them.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Tag {
    UserObject = 0x01,
    User = 0x02,
    GroupObject = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

/// Why an access list could not be put on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The file system has no POSIX access lists, or is mounted without them.
    Unsupported,
    /// Any other answer of the kernel.
    Kernel(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unsupported => f.write_str("the file system does not support POSIX access lists"),
            Error::Kernel(errno) => Cause(*errno).fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        match errno {
            Errno::EOPNOTSUPP => Error::Unsupported,
            other => Error::Kernel(other),
        }
    }
}

/// Gives `path` the permission bits `mode` and, in the same step, read and write access for `users` and `groups`.
///
/// One call replaces mode and list together: no client is refused or let in by a state in between. Follows links.
///
/// # Errors
/// [`Error::Unsupported`], or the kernel's answer.
pub fn set(path: &Path, mode: u32, users: &[Uid], groups: &[Gid]) -> Result<(), Error> {
    let path = c_path(path)?;
    let list = encode(mode, users, groups);
    // SAFETY: both names are NUL-terminated and `list` is readable for the length given.
    let done =
        unsafe { libc::setxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), list.as_ptr().cast(), list.len(), 0) };
    Ok(Errno::result(done).map(drop)?)
}

/// Takes the access list off `path`, if it has one. The caller sets the mode afterwards: the bits that stay are those of
/// the list's mask. Follows links.
///
/// # Errors
/// The kernel's answer; a file system without access lists is no error.
pub fn clear(path: &Path) -> Result<(), Error> {
    let path = c_path(path)?;
    // SAFETY: both names are NUL-terminated.
    let done = unsafe { libc::removexattr(path.as_ptr(), ATTRIBUTE.as_ptr()) };
    match Errno::result(done) {
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The attribute's value. The mask allows what the group bits or any named entry allow, as setfacl(1) computes it.
fn encode(mode: u32, users: &[Uid], groups: &[Gid]) -> Vec<u8> {
    let bits = |shift: u32| ((mode >> shift) & 7) as u16;
    let mut list = VERSION.to_le_bytes().to_vec();
    let mut entry = |tag: Tag, permissions: u16, id: u32| {
        list.extend((tag as u16).to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    };
    entry(Tag::UserObject, bits(6), NOBODY);
    for id in ordered(users.iter().map(|user| user.0)) {
        entry(Tag::User, READ_WRITE, id);
    }
    entry(Tag::GroupObject, bits(3), NOBODY);
    for id in ordered(groups.iter().map(|group| group.0)) {
        entry(Tag::Group, READ_WRITE, id);
    }
    let named = if users.is_empty() && groups.is_empty() { 0 } else { READ_WRITE };
    entry(Tag::Mask, bits(3) | named, NOBODY);
    entry(Tag::Other, bits(0), NOBODY);
    list
}

/// Ascending and without repetition: an entry may name an id once.
fn ordered(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Kernel(Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;
    use crate::os::testing::TempDir;

    /// `getfacl`'s lines without comments; `None` where it is not installed.
    fn getfacl(path: &Path) -> Option<Vec<String>> {
        let output = Command::new("getfacl").args(["-n", "-p", "-c", "-E"]).arg(path).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn the_value_has_the_kernel_s_form() {
        let value = encode(0o640, &[Uid(33), Uid(5), Uid(33)], &[]);
        assert_eq!(value.len(), 4 + 6 * 8);
        assert_eq!(value[..4], [2, 0, 0, 0]);
        assert_eq!(value[4..12], [1, 0, 6, 0, 255, 255, 255, 255]);
        assert_eq!(value[12..20], [2, 0, 6, 0, 5, 0, 0, 0]);
        assert_eq!(value[20..28], [2, 0, 6, 0, 33, 0, 0, 0]);
        assert_eq!(value[28..36], [4, 0, 4, 0, 255, 255, 255, 255]);
        assert_eq!(value[36..44], [16, 0, 6, 0, 255, 255, 255, 255]);
        assert_eq!(value[44..], [32, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_list_is_set_as_getfacl_sees_it_and_taken_off_again() {
        let dir = TempDir::new();
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        match set(&file, 0o600, &[Uid(33)], &[Gid(34)]) {
            Err(Error::Unsupported) => return,
            done => done.unwrap(),
        }
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o660);
        if let Some(lines) = getfacl(&file) {
            let expected =
                ["user::rw-", "user:33:rw-", "group::---", "group:34:rw-", "mask::rw-", "other::---"];
            assert_eq!(lines, expected);
        }
        clear(&file).unwrap();
        clear(&file).unwrap();
        if let Some(lines) = getfacl(&file) {
            assert_eq!(lines.len(), 3, "{lines:?}");
        }
    }

    #[test]
    fn a_file_system_without_lists_says_so() {
        let answer = set(Path::new("/proc/self/fd"), 0o600, &[Uid(33)], &[]);
        assert_eq!(answer, Err(Error::Unsupported));
        assert_eq!(Error::Unsupported.to_string(), "the file system does not support POSIX access lists");
        assert_eq!(set(Path::new("/nowhere/x"), 0o600, &[], &[]), Err(Error::Kernel(Errno::ENOENT)));
    }
}

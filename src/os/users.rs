//! Users and groups of this system (`getpwnam_r(3)`, `getgrouplist(3)`), and who we are.
//!
//! A lookup may ask a name service and may block: it belongs to start and reload, never to the start of a worker.

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use nix::unistd;

use crate::config::model::{Group, User};
use crate::ids::{Gid, Uid};
use crate::os::errno::Cause;

/// A user by name, or by number where no user has that name; a number need not be in the user database.
///
/// # Errors
/// No such user, or the database cannot be read.
pub fn user(name_or_number: &str) -> Result<User, UserError> {
    let failed = |errno: Errno| UserError::lookup(Kind::User, name_or_number, errno);
    if let Some(entry) = unistd::User::from_name(name_or_number).map_err(failed)? {
        return Ok(known_user(entry));
    }
    let number = number(Kind::User, name_or_number)?;
    match unistd::User::from_uid(unistd::Uid::from_raw(number)).map_err(failed)? {
        Some(entry) => Ok(known_user(entry)),
        None => Ok(User { name: number.to_string(), uid: Uid(number), gid: None, home: None }),
    }
}

fn known_user(entry: unistd::User) -> User {
    User {
        name: entry.name,
        uid: Uid(entry.uid.as_raw()),
        gid: Some(Gid(entry.gid.as_raw())),
        home: Some(entry.dir).filter(|home| !home.as_os_str().is_empty()),
    }
}

/// A group by name, or by number where no group has that name; a number need not be in the group database.
///
/// # Errors
/// No such group, or the database cannot be read.
pub fn group(name_or_number: &str) -> Result<Group, UserError> {
    let failed = |errno: Errno| UserError::lookup(Kind::Group, name_or_number, errno);
    if let Some(entry) = unistd::Group::from_name(name_or_number).map_err(failed)? {
        return Ok(Group { name: entry.name, gid: Gid(entry.gid.as_raw()) });
    }
    let number = number(Kind::Group, name_or_number)?;
    let entry = unistd::Group::from_gid(unistd::Gid::from_raw(number)).map_err(failed)?;
    Ok(Group { name: entry.map_or_else(|| number.to_string(), |entry| entry.name), gid: Gid(number) })
}

/// All groups of a user as `initgroups(3)` would set them: those of the group database, and `primary`. A user that is
/// only a number has no others.
///
/// # Errors
/// The database cannot be read.
pub fn supplementary_groups(user: &User, primary: Gid) -> Result<Vec<Gid>, UserError> {
    // Only an entry of the user database has a primary group there.
    if user.gid.is_none() {
        return Ok(vec![primary]);
    }
    let unknown = |_| UserError::Unknown { kind: Kind::User, name: user.name.clone() };
    let name = CString::new(user.name.as_str()).map_err(unknown)?;
    let groups = unistd::getgrouplist(&name, unistd::Gid::from_raw(primary.0))
        .map_err(|errno| UserError::lookup(Kind::User, &user.name, errno))?;
    Ok(groups.into_iter().map(|gid| Gid(gid.as_raw())).collect())
}

/// The effective user of this process.
pub fn own_uid() -> Uid {
    Uid(unistd::geteuid().as_raw())
}

/// The effective group of this process.
pub fn own_gid() -> Gid {
    Gid(unistd::getegid().as_raw())
}

/// Whether this process runs as root, and so may change users, groups, root directory and priorities.
pub fn is_root() -> bool {
    unistd::geteuid().is_root()
}

/// All bits set is "no change" to the system calls, so it cannot be anybody's number.
fn number(kind: Kind, text: &str) -> Result<u32, UserError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number
        .filter(|&number| number != u32::MAX)
        .ok_or_else(|| UserError::Unknown { kind, name: text.to_owned() })
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `passwd`.
    User,
    /// `group`.
    Group,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::User => "user",
            Kind::Group => "group",
        })
    }
}

/// Why a user or group is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserError {
    /// There is none.
    Unknown {
        /// Where it was looked for.
        kind: Kind,
        /// As it was asked for.
        name: String,
    },
    /// The question could not be answered.
    Lookup {
        /// Where it was looked for.
        kind: Kind,
        /// As it was asked for.
        name: String,
        /// Why.
        cause: Cause,
    },
}

impl UserError {
    fn lookup(kind: Kind, name: &str, errno: Errno) -> UserError {
        UserError::Lookup { kind, name: name.to_owned(), cause: errno.into() }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown { kind, name } => write!(f, "cannot find {kind} '{name}': no such {kind}"),
            UserError::Lookup { kind, name, cause } => write!(f, "cannot look up {kind} '{name}': {cause}"),
        }
    }
}

impl std::error::Error for UserError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn root_is_known_by_name_and_number() {
        let by_name = user("root").expect("every system has root");
        assert_eq!((by_name.uid, by_name.gid), (Uid(0), Some(Gid(0))));
        assert_eq!(by_name.home.as_deref(), Some(Path::new("/root")));
        assert_eq!(user("0").expect("by number too"), by_name);
        assert_eq!(group("0").expect("by number too"), group("root").expect("every system has root"));
    }

    #[test]
    fn a_number_needs_no_entry() {
        let stranger = user("3999999999").expect("any number will do");
        assert_eq!((stranger.name.as_str(), stranger.gid, &stranger.home), ("3999999999", None, &None));
        assert_eq!(supplementary_groups(&stranger, Gid(7)).expect("nothing to look up"), [Gid(7)]);
        let nameless = group("3999999999").expect("any number will do");
        assert_eq!((nameless.name.as_str(), nameless.gid), ("3999999999", Gid(3_999_999_999)));
    }

    #[test]
    fn others_are_refused() {
        for name in ["", "nobody-of-that-name", "-1", "+5", "4294967295", "4294967296", "nul\0"] {
            assert!(user(name).is_err(), "{name:?}");
            assert!(group(name).is_err(), "{name:?}");
        }
        let error = user("no-such").expect_err("there is none");
        assert_eq!(error.to_string(), "cannot find user 'no-such': no such user");
    }

    #[test]
    fn the_primary_group_is_among_the_groups() {
        let nobody = user("nobody").expect("every system has nobody");
        let primary = nobody.gid.expect("it is in the database");
        assert!(supplementary_groups(&nobody, primary).expect("it is in the database").contains(&primary));
        assert!(
            supplementary_groups(&nobody, Gid(12345)).expect("it is in the database").contains(&Gid(12345))
        );
    }

    #[test]
    fn we_are_somebody() {
        assert_eq!(is_root(), own_uid() == Uid(0));
    }
}

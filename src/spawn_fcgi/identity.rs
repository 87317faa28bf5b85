//! `-u`, `-g`, `-U` and `-G`: from names and numbers to ids, with the original's rules. Looks up, changes nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::message::Failure;
use crate::cli::spawn_fcgi::number::{leading_number, low_bits};
use crate::ids::{Gid, Uid};
use crate::os::legacy::{account_by_name, account_by_uid, group_by_name};

/// A user and a group; `None` leaves what is there. Neither is ever root's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: Option<Uid>,
    /// The group: the one that was named, else the user's primary group.
    pub gid: Option<Gid>,
    /// The user's login name, if the user database has one: it is who supplementary groups are looked up for.
    pub login: Option<OsString>,
}

impl Identity {
    /// Looks up `user`, then `group`.
    ///
    /// # Errors
    /// An unknown name, and root.
    pub fn look_up(user: Option<&OsStr>, group: Option<&OsStr>) -> Result<Identity, Failure> {
        let mut identity = Identity { uid: None, gid: None, login: None };
        let account = match user.map(|user| (user, as_id(user))) {
            None => None,
            Some((_, Some(number))) => {
                identity.uid = Some(Uid(number));
                account_by_uid(Uid(number))
            }
            Some((name, None)) => {
                let account = account_by_name(name).ok_or_else(|| Failure::UnknownUser(name.into()))?;
                identity.uid = Some(account.uid).filter(|uid| *uid != Uid(0));
                if identity.uid.is_none() {
                    return Err(Failure::UserIsRoot);
                }
                Some(account)
            }
        };
        identity.gid = match group {
            Some(group) => Some(look_up_group(group)?),
            None => account.as_ref().map(|account| account.gid),
        };
        if identity.gid == Some(Gid(0)) {
            return Err(Failure::GroupIsRoot);
        }
        identity.login = account.map(|account| account.name);
        Ok(identity)
    }
}

fn look_up_group(group: &OsStr) -> Result<Gid, Failure> {
    match as_id(group) {
        Some(number) => Ok(Gid(number)),
        None => group_by_name(group).ok_or_else(|| Failure::UnknownGroup(group.into())),
    }
}

/// `None` is a name: 0 is one too, so that nobody becomes root by a number.
fn as_id(text: &OsStr) -> Option<u32> {
    let (number, behind) = leading_number(text.as_bytes(), 10);
    Some(low_bits(number)).filter(|&id| id != 0 && behind.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(user: &str, group: &str) -> Result<Identity, String> {
        let some = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
        Identity::look_up(some(user).as_deref(), some(group).as_deref())
            .map_err(|failure| String::from_utf8_lossy(&failure.text()).into_owned())
    }

    #[test]
    fn numbers_need_no_entry() {
        let stranger = Identity { uid: Some(Uid(3_999_999)), gid: None, login: None };
        assert_eq!(look_up("3999999", ""), Ok(stranger.clone()));
        assert_eq!(look_up("3999999", "77"), Ok(Identity { gid: Some(Gid(77)), ..stranger.clone() }));
        assert_eq!(look_up("-1", ""), Ok(Identity { uid: Some(Uid(u32::MAX)), ..stranger }));
        assert_eq!(look_up("", ""), Ok(Identity { uid: None, gid: None, login: None }));
    }

    #[test]
    fn root_is_refused_however_it_is_written() {
        assert_eq!(look_up("root", "").unwrap_err(), "I will not set uid to 0");
        assert_eq!(look_up("0", "").unwrap_err(), "can't find user name 0");
        assert_eq!(look_up("", "root").unwrap_err(), "I will not set gid to 0");
        assert_eq!(look_up("", "0").unwrap_err(), "can't find group name 0");
    }

    #[test]
    fn the_user_is_looked_up_first() {
        assert_eq!(
            look_up("no such user", "no such group").unwrap_err(),
            "can't find user name no such user"
        );
        assert_eq!(look_up("3999999", "no such group").unwrap_err(), "can't find group name no such group");
    }
}

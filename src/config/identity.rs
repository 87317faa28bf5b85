//! Users and groups of a pool: they have to exist, and only root may take another identity.

use super::error::Cause;
use super::host::Host;
use super::model::{Group, User};
use super::walk::{Item, Report, Table, number};
use crate::ids::Uid;
use toml::de::DeValue;

/// Who workers run as.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub user: Option<User>,
    pub group: Option<Group>,
    pub supplementary_groups: Option<Vec<Group>>,
}

const ROOT: Uid = Uid(0);

/// Reads `user`, `group` and `supplementary_groups`.
pub(super) fn read(report: &mut Report, table: &Table<'_>, host: &dyn Host) -> Identity {
    let identity = Identity {
        user: table.optional(report, "user", |report, item| user(report, item, host)),
        group: table.optional(report, "group", |report, item| group(report, item, host)),
        supplementary_groups: table
            .optional(report, "supplementary_groups", |report, item| groups(report, item, host)),
    };
    if host.uid() == ROOT {
        check_root(report, table, &identity);
    } else {
        check_unprivileged(report, table, &identity, host);
    }
    identity
}

fn check_root(report: &mut Report, table: &Table<'_>, identity: &Identity) {
    if table.given("user").is_none() && !table.was_meant("user") {
        let advice = "fpmd runs as root; write the user that workers run as, or user = \"root\" if they really shall be root";
        table.fail(report, "user", Cause::Missing(advice.to_owned()));
    }
    if let Some(User { name, gid: None, .. }) = &identity.user
        && table.given("group").is_none()
    {
        let advice = format!("user {name} has no entry in the user database, which would name its group");
        table.fail(report, "group", Cause::Missing(advice));
    }
}

/// php-fpm ignores these settings unless it is root; a setting that does nothing is a mistake here.
fn check_unprivileged(report: &mut Report, table: &Table<'_>, identity: &Identity, host: &dyn Host) {
    let own = host.user(&host.uid().0.to_string()).ok().flatten();
    if let Some(user) = identity.user.as_ref().filter(|user| user.uid != host.uid()) {
        let sentence =
            format!("only root can run workers as '{}'; start fpmd as root or leave it out", user.name);
        table.fail(report, "user", Cause::Value(sentence));
    }
    let own_group = own.and_then(|own| own.gid);
    if let Some(group) = identity.group.as_ref().filter(|group| Some(group.gid) != own_group) {
        let sentence = format!(
            "only root can run workers in group '{}'; start fpmd as root or leave it out",
            group.name
        );
        table.fail(report, "group", Cause::Value(sentence));
    }
    for name in ["supplementary_groups", "chroot"] {
        if table.given(name).is_some() {
            let sentence = "only root can set it; start fpmd as root or leave it out".to_owned();
            table.fail(report, name, Cause::Value(sentence));
        }
    }
}

/// The owner of a socket, which only root can give away.
pub(super) fn owner(report: &mut Report, item: &Item<'_>, host: &dyn Host) -> Option<User> {
    let user = user(report, item, host)?;
    if host.uid() == ROOT || user.uid == host.uid() {
        return Some(user);
    }
    item.refuse(
        report,
        format!("only root can give a socket to '{}'; start fpmd as root or leave it out", user.name),
    )
}

/// A user that exists.
pub(super) fn user(report: &mut Report, item: &Item<'_>, host: &dyn Host) -> Option<User> {
    let name = name(report, item)?;
    match host.user(&name) {
        Ok(Some(user)) => Some(user),
        Ok(None) => item.refuse(report, format!("there is no user '{name}'; create it or write another")),
        Err(sentence) => item.refuse(report, sentence),
    }
}

/// A group that exists.
pub(super) fn group(report: &mut Report, item: &Item<'_>, host: &dyn Host) -> Option<Group> {
    let name = name(report, item)?;
    match host.group(&name) {
        Ok(Some(group)) => Some(group),
        Ok(None) => item.refuse(report, format!("there is no group '{name}'; create it or write another")),
        Err(sentence) => item.refuse(report, sentence),
    }
}

/// An array of users that exist.
pub(super) fn users(report: &mut Report, item: &Item<'_>, host: &dyn Host) -> Option<Vec<User>> {
    let items = item.items(report, "an array of users")?;
    let found: Vec<Option<User>> = items.iter().map(|item| user(report, item, host)).collect();
    found.into_iter().collect()
}

/// An array of groups that exist.
pub(super) fn groups(report: &mut Report, item: &Item<'_>, host: &dyn Host) -> Option<Vec<Group>> {
    let items = item.items(report, "an array of groups")?;
    let found: Vec<Option<Group>> = items.iter().map(|item| group(report, item, host)).collect();
    found.into_iter().collect()
}

/// A name, or a number as text: 0 to 4294967294, as the last one is no id (chown(2) takes it for "leave it").
fn name(report: &mut Report, item: &Item<'_>) -> Option<String> {
    let (text, digits) = match item.value {
        DeValue::Integer(integer) => {
            let number = number(integer).filter(|number| *number >= 0);
            (number.map_or_else(|| integer.to_string(), |number| number.to_string()), true)
        }
        DeValue::String(_) => {
            let text = item.text(report)?;
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            (text, digits)
        }
        _ => return item.mistyped(report, "a name or a number"),
    };
    if text.is_empty() {
        return item.refuse(report, "is empty; leave it out or write a name");
    }
    if digits && !text.parse::<u32>().is_ok_and(|id| id < u32::MAX) {
        return item.refuse(report, format!("{text} is out of range; an id is 0 to 4294967294"));
    }
    Some(text)
}

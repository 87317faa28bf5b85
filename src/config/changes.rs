//! What differs between the configuration in force and a new one, and what a reload has to do about it. The table of
//! settings says how each is applied; fpmd.toml(5) says it to administrators.

use super::dump::{global_value, pm_value, pool_value};
use super::keys::{self, Applies, Key, Section};
use super::model::{Dispatch, Global, Pool};

/// What a reload has to do about a pool, the names of its changed settings in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// These can be put in force with the workers that run.
    Live(Vec<&'static str>),
    /// These need new workers.
    Generation(Vec<&'static str>),
}

/// Compares a pool's settings in force with new ones.
pub fn of_pool(old: &Pool, new: &Pool) -> Change {
    let changed = changed_pool_keys(old, new);
    let needs_workers = |key: &&&Key| match key.applies {
        Applies::Generation | Applies::Restart(_) => true,
        Applies::ByDispatch => new.dispatch == Dispatch::Direct,
        Applies::Live => false,
    };
    let names = |keys: Vec<&&'static Key>| keys.into_iter().map(|key| key.name).collect();
    let for_workers: Vec<&&'static Key> = changed.iter().filter(needs_workers).collect();
    if !for_workers.is_empty() {
        Change::Generation(names(for_workers))
    } else if !changed.is_empty() {
        Change::Live(names(changed.iter().collect()))
    } else {
        Change::None
    }
}

/// A line for each `[global]` setting that has changed and that only a restart applies.
pub fn needing_restart(old: &Global, new: &Global) -> Vec<String> {
    let mut lines = Vec::new();
    for key in keys::of(Section::Global) {
        let Applies::Restart(reason) = key.applies else { continue };
        let (before, after) = (global_value(old, key.name), global_value(new, key.name));
        if before != after {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            let (name, before, after) = (key.name, shown(before), shown(after));
            lines.push(format!(
                "global.{name} has changed from {before} to {after}: that needs a restart of fpmd, as {reason}"
            ));
        }
    }
    lines
}

fn changed_pool_keys(old: &Pool, new: &Pool) -> Vec<&'static Key> {
    let in_pool = keys::of(Section::Pool).filter(|key| {
        pool_value(old, key.name) != pool_value(new, key.name) || is_another(old, new, key.name)
    });
    let in_pm = keys::of(Section::Pm).filter(|key| pm_value(old, key.name) != pm_value(new, key.name));
    in_pool.chain(in_pm).collect()
}

/// Whether the same word means another user or group by now: the user database has changed.
fn is_another(old: &Pool, new: &Pool, name: &str) -> bool {
    match name {
        "user" => old.user != new.user,
        "group" => old.group != new.group,
        "supplementary_groups" => old.supplementary_groups != new.supplementary_groups,
        "listen_owner" => old.socket.owner != new.socket.owner,
        "listen_group" => old.socket.group != new.socket.group,
        "listen_acl_users" => old.socket.acl_users != new.socket.acl_users,
        "listen_acl_groups" => old.socket.acl_groups != new.socket.acl_groups,
        _ => false,
    }
}

//! What a worker's environment is made of. Pure: fpmd's own environment is handed in.
//!
//! In this order, a later value replacing an earlier one: nothing or fpmd's own environment (`clear_env`), `pass_env`,
//! USER and HOME of the pool's user, `env` (which holds the defaults of known workers as well).

use std::ffi::{OsStr, OsString};

use crate::config::model::Pool;
use crate::os::handover;
use crate::sorted::SortedMap;
use crate::systemd;

/// The environment of a worker of `pool`, sorted by name; `own` is fpmd's environment.
pub fn worker_environment(
    pool: &Pool,
    own: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let rules = &pool.environment;
    let is_wanted = |name: &OsStr| {
        let mut ours = handover::VARIABLES.iter().chain(&systemd::VARIABLES);
        (!rules.clear && !ours.any(|ours| name == *ours))
            || rules.pass.iter().any(|wanted| name == wanted.as_str())
    };
    let mut environment: SortedMap<OsString, OsString> = own.filter(|(name, _)| is_wanted(name)).collect();
    if let Some(user) = &pool.user {
        // A number without an entry in the user database has neither name nor home (php-fpm does the same).
        if user.gid.is_some() {
            environment.insert("USER".into(), user.name.clone().into());
        }
        if let Some(home) = &user.home {
            environment.insert("HOME".into(), home.clone().into_os_string());
        }
    }
    for (name, value) in &rules.set {
        environment.insert(name.into(), value.into());
    }
    environment.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::User;
    use crate::ids::{Gid, Uid};
    use crate::master::testing::pool;

    fn of(pool: &Pool, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let text = |text: OsString| text.into_string().unwrap();
        worker_environment(pool, own).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_cleared_environment_has_only_what_is_passed_and_set() {
        let mut pool = pool("www");
        pool.environment.clear = true;
        pool.environment.pass = vec!["PATH".into(), "MISSING".into()];
        pool.environment.set.insert("A".into(), "1".into());
        let own = [("PATH", "/bin"), ("SECRET", "x"), ("A", "0")];
        assert_eq!(of(&pool, &own), pairs(&[("A", "1"), ("PATH", "/bin")]));
    }

    #[test]
    fn an_inherited_environment_loses_what_is_meant_for_fpmd() {
        let mut pool = pool("www");
        pool.environment.clear = false;
        let own = [("PATH", "/bin"), ("NOTIFY_SOCKET", "/n"), ("LISTEN_FDS", "1"), ("WATCHDOG_USEC", "1")];
        assert_eq!(of(&pool, &own), pairs(&[("PATH", "/bin")]));
        pool.environment.pass = vec!["NOTIFY_SOCKET".into()];
        assert_eq!(of(&pool, &own), pairs(&[("NOTIFY_SOCKET", "/n"), ("PATH", "/bin")]));
    }

    #[test]
    fn a_user_of_the_database_brings_user_and_home_and_env_wins() {
        let mut pool = pool("www");
        pool.environment.clear = true;
        pool.user = Some(User {
            name: "www-data".into(),
            uid: Uid(33),
            gid: Some(Gid(33)),
            home: Some("/var/www".into()),
        });
        let mut expected = pairs(&[("HOME", "/var/www"), ("USER", "www-data")]);
        assert_eq!(of(&pool, &[("HOME", "/root"), ("USER", "root")]), expected);
        pool.environment.set.insert("HOME".into(), "/srv".into());
        expected[0].1 = "/srv".into();
        assert_eq!(of(&pool, &[]), expected);
        pool.environment.set.clear();
        pool.user = Some(User { name: "1234".into(), uid: Uid(1234), gid: None, home: None });
        assert_eq!(of(&pool, &[]), []);
    }
}

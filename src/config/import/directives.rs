//! The one table of php-fpm's directives: what each becomes, or why it has no equal. It has every directive of PHP 8.5's
//! fpm_conf.c; what is not in it is no directive.

use self::Meaning::{Flag, Nothing, Number, Path, Special, Text, Time};
use self::Scope::{Both, Global, Keyed, Listed, Pool};

/// Where a directive may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// `[global]`
    Global,
    /// A pool.
    Pool,
    /// Either.
    Both,
    /// A pool, as `name[KEY]`.
    Keyed,
    /// A pool, as `name[]`.
    Listed,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The setting of that name, a string.
    Text(&'static str),
    /// The setting of that name, an absolute path.
    Path(&'static str),
    /// The setting of that name, a whole number.
    Number(&'static str),
    /// The setting of that name, a time; 0 is left out where it is the default.
    Time(&'static str),
    /// The setting of that name, a truth.
    Flag(&'static str),
    /// Several, or with rules of its own: translated by name.
    Special,
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// A directive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directive {
    pub name: &'static str,
    pub scope: Scope,
    pub meaning: Meaning,
}

const fn entry(scope: Scope, name: &'static str, meaning: Meaning) -> Directive {
    Directive { name, scope, meaning }
}

/// Every directive, in the order of php-fpm's own tables.
#[rustfmt::skip]
pub(super) const DIRECTIVES: &[Directive] = &[
    entry(Global, "pid", Special),
    entry(Global, "error_log", Special),
    entry(Global, "syslog.facility", Nothing("fpmd logs to syslog as facility daemon")),
    entry(Global, "syslog.ident", Nothing("fpmd is fpmd in syslog, and names the pool in each line")),
    entry(Global, "log_level", Special),
    entry(Global, "log_limit", Nothing("fpmd bounds lines by itself, and breaks a longer one of a worker into several")),
    entry(Global, "log_buffering", Nothing("fpmd always writes whole lines")),
    entry(Global, "emergency_restart_threshold", Nothing("a worker that crashes is replaced by itself, and has no memory in common with the others")),
    entry(Global, "emergency_restart_interval", Nothing("a worker that crashes is replaced by itself, and has no memory in common with the others")),
    entry(Global, "process_control_timeout", Special),
    entry(Global, "process.max", Special),
    entry(Both, "process.priority", Special),
    entry(Global, "daemonize", Nothing("fpmd stays in the foreground unless it is started with --daemonize")),
    entry(Both, "rlimit_files", Special),
    entry(Both, "rlimit_core", Special),
    entry(Global, "events.mechanism", Nothing("fpmd uses epoll")),
    entry(Global, "systemd_interval", Nothing("fpmd tells systemd its state when it changes")),

    entry(Pool, "prefix", Special),
    entry(Pool, "user", Text("user")),
    entry(Pool, "group", Text("group")),
    entry(Pool, "listen", Special),
    entry(Pool, "listen.backlog", Special),
    entry(Pool, "listen.acl_users", Special),
    entry(Pool, "listen.acl_groups", Special),
    entry(Pool, "listen.owner", Special),
    entry(Pool, "listen.group", Special),
    entry(Pool, "listen.mode", Special),
    entry(Pool, "listen.allowed_clients", Special),
    entry(Pool, "listen.setfib", Nothing("routing tables are FreeBSD's")),
    entry(Pool, "process.dumpable", Nothing("fpmd looks at workers from outside, as root; rlimit_core alone decides about core files")),
    entry(Pool, "pm", Special),
    entry(Pool, "pm.max_children", Special),
    entry(Pool, "pm.start_servers", Special),
    entry(Pool, "pm.min_spare_servers", Special),
    entry(Pool, "pm.max_spare_servers", Special),
    entry(Pool, "pm.max_spawn_rate", Special),
    entry(Pool, "pm.process_idle_timeout", Special),
    entry(Pool, "pm.max_requests", Special),
    entry(Pool, "pm.status_path", Text("status_path")),
    entry(Pool, "pm.status_listen", Nothing("the status page needs no worker, so it answers on the pool's own socket even if all are busy; so does fpmctl status")),
    entry(Pool, "ping.path", Text("ping_path")),
    entry(Pool, "ping.response", Text("ping_response")),
    entry(Pool, "access.log", Special),
    entry(Pool, "access.format", Special),
    entry(Listed, "access.suppress_path", Nothing("every request is logged")),
    entry(Pool, "slowlog", Special),
    entry(Pool, "request_slowlog_timeout", Special),
    entry(Pool, "request_slowlog_trace_depth", Number("request_slowlog_trace_depth")),
    entry(Pool, "request_terminate_timeout", Time("request_terminate_timeout")),
    entry(Pool, "request_terminate_timeout_track_finished", Nothing("php-cgi has no fastcgi_finish_request()")),
    entry(Pool, "chroot", Special),
    entry(Pool, "chdir", Path("directory")),
    entry(Pool, "catch_workers_output", Flag("catch_workers_output")),
    entry(Pool, "decorate_workers_output", Flag("decorate_workers_output")),
    entry(Pool, "clear_env", Flag("clear_env")),
    entry(Pool, "security.limit_extensions", Special),
    entry(Pool, "apparmor_hat", Nothing("fpmd changes no AppArmor profile; a profile for the command's path does")),
    entry(Keyed, "env", Special),
    entry(Keyed, "php_value", Special),
    entry(Keyed, "php_flag", Special),
    entry(Keyed, "php_admin_value", Special),
    entry(Keyed, "php_admin_flag", Special),
];

/// The directive of this name.
pub(super) fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| directive.name == name)
}

impl Scope {
    /// Why a directive cannot stand where it does, with this index; `None` if it can.
    pub(super) fn fault(self, in_pool: bool, index: Option<&str>) -> Option<&'static str> {
        match (self, in_pool, index) {
            (Global | Both, false, None) | (Pool | Both, true, None) | (Listed, true, Some("")) => None,
            (Keyed, true, Some(key)) if !key.is_empty() => None,
            (Global, true, _) => Some("is for [global]"),
            (Pool | Keyed | Listed, false, _) => {
                Some("is for a pool; [www] or another name has to stand above it")
            }
            (Keyed, true, _) => Some("needs a name in brackets"),
            (Listed, true, _) => Some("needs empty brackets"),
            (Global | Both | Pool, _, Some(_)) => Some("has no brackets"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::keys::{Section, find};
    use super::*;

    #[test]
    fn every_meaning_is_a_setting() {
        for directive in DIRECTIVES {
            if let Text(name) | Path(name) | Number(name) | Time(name) | Flag(name) = directive.meaning {
                assert!(find(Section::Pool, name).is_some(), "{}: {name}", directive.name);
            }
        }
    }

    #[test]
    fn names_are_there_once() {
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            assert!(
                DIRECTIVES[index + 1..].iter().all(|other| other.name != directive.name),
                "{}",
                directive.name
            );
        }
    }
}

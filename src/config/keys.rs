//! The one table of settings. What is known, its type, range and default, what a reload applies, and what is
//! refused as not supported yet: all of it is here, and `--dump`, suggestions, man page test and resolver use it.

use std::fmt;

use self::Kind::{
    Bool, Choice, Listen, LogTarget, Mode, Name, Names, Path, Percent, Signal, Size, Strings, Table, Text,
    Time, Whole,
};
use self::Section::{Global, Pm, Pool};
use crate::ids::{MOST_PROCESSES, SchedulingPolicy};

/// The table that a setting is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// `[global]`
    Global,
    /// `[pool.NAME]`
    Pool,
    /// `[pool.NAME.pm]`
    Pm,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Global => "[global]",
            Pool => "[pool.NAME]",
            Pm => "[pool.NAME.pm]",
        })
    }
}

/// The type of a setting, with its range where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second, both included.
    Whole(i64, i64),
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// A user or group, by name or number.
    Name,
    /// An array of users or groups.
    Names,
    /// An array of strings.
    Strings,
    /// A time with a unit, or whole seconds.
    Time,
    /// A size with a unit, or bytes.
    Size,
    /// A part of one CPU such as `50%`, or several.
    Percent,
    /// Octal digits.
    Mode,
    /// A signal by name or number.
    Signal,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Where log lines go: a word or a path.
    LogTarget,
    /// An address, a port, or an array of them.
    Listen,
    /// A table of strings.
    Table,
}

impl Kind {
    /// What stands for a value in the manual page.
    pub fn word(self) -> &'static str {
        match self {
            Bool => "true|false",
            Whole(..) => "number",
            Text => "text",
            Path => "path",
            Name => "name",
            Names => "[name, ...]",
            Strings => "[text, ...]",
            Time => "time",
            Size => "size",
            Percent => "percent",
            Mode => "mode",
            Signal => "signal",
            Choice(_) => "word",
            LogTarget => "target",
            Listen => "address",
            Table => "{ NAME = text, ... }",
        }
    }
}

/// What a setting is if the file does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This TOML value.
    Value(&'static str),
    /// What these words say, found out at run time.
    Derived(&'static str),
    /// Nothing: the words say what then happens.
    Unset(&'static str),
    /// It has to be given.
    Required,
}

/// How a reload applies a changed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// At once: it concerns no worker, or those that run as well.
    Live,
    /// To new workers: those that run are exchanged.
    Generation,
    /// At once where there is a gateway; in direct mode to new workers.
    ByDispatch,
    /// Not at all: only a restart of fpmd does, for this reason.
    Restart(&'static str),
}

impl fmt::Display for Applies {
    /// The words of the manual page, after "Reload: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Applies::Live => f.write_str("at once"),
            Applies::Generation => f.write_str("to new workers"),
            Applies::ByDispatch => f.write_str("at once; in direct mode to new workers"),
            Applies::Restart(reason) => write!(f, "needs a restart, as {reason}"),
        }
    }
}

/// Whether this version has the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Supported,
    /// It is refused with "is not supported yet", so that nobody relies on it.
    NotYet,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its table.
    pub section: Section,
    /// Its name there.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// Its default.
    pub default: Default,
    /// How a reload applies it.
    pub applies: Applies,
    /// Whether this version has it.
    pub support: Support,
    /// One sentence.
    pub doc: &'static str,
}

/// A setting that works, and that a reload applies to new workers.
const fn key(section: Section, name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { section, name, kind, default, doc, applies: Applies::Generation, support: Support::Supported }
}

/// A setting that works, and that a reload applies at once.
const fn live(section: Section, name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { applies: Applies::Live, ..key(section, name, kind, default, doc) }
}

/// A setting that works, and that a reload applies at once where there is a gateway.
const fn routed(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: Default,
    doc: &'static str,
) -> Key {
    Key { applies: Applies::ByDispatch, ..key(section, name, kind, default, doc) }
}

/// This setting needs a restart, for this reason.
const fn fixed(reason: &'static str, key: Key) -> Key {
    Key { applies: Applies::Restart(reason), ..key }
}

/// A setting for a later version.
const fn later(section: Section, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        section,
        name,
        kind,
        default: Default::Unset("not supported yet"),
        doc,
        applies: Applies::Live,
        support: Support::NotYet,
    }
}

/// The largest `max_children` and `process_max`.
const MOST: i64 = MOST_PROCESSES as i64;

use self::Default::{Derived, Required, Unset, Value};

/// Every setting, in the order of `--dump` and the man page.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    live(Global, "pid_file", Path, Unset("none"), "File that holds fpmd's pid while it runs."),
    live(Global, "log", LogTarget, Value("\"stderr\""), "Where log lines go: stderr, stdout, syslog, journal, or the path of a file."),
    live(Global, "log_level", Choice(&["alert", "error", "warning", "notice", "debug"]), Value("\"notice\""), "The least important level that is logged."),
    live(Global, "log_format", Choice(&["text", "json"]), Value("\"text\""), "The form of log lines."),
    fixed("fpmd is reached by it", key(Global, "control_socket", Path, Derived("runtime_dir/fpmd.sock"), "Path of the Unix socket that fpmctl talks to.")),
    live(Global, "control_group", Name, Unset("none"), "Group whose members may read the status."),
    live(Global, "include", Strings, Value("[]"), "Files with more pools, relative to this file."),
    fixed("the sockets of workers that run are in it", key(Global, "runtime_dir", Path, Derived("/run/fpmd for root, else $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/fpmd or /tmp/fpmd-UID"), "Directory of what lives as long as fpmd does.")),
    fixed("the sockets of workers that run belong to it", key(Global, "gateway_user", Name, Derived("fpmd, else nobody, for root; fpmd's own user for others"), "User that gateways run as.")),
    live(Global, "process_max", Whole(0, MOST), Value("0"), "How many workers all pools together may have; 0 is no limit."),
    live(Global, "process_control_timeout", Time, Value("\"5s\""), "How long a worker that got its stop signal may take before SIGKILL."),
    live(Global, "reload_surge", Whole(1, MOST), Value("32"), "How many processes reloads may have beyond the workers that there should be, in all pools together."),

    routed(Pool, "listen", Listen, Required, "Where the pool listens: a path, an address with a port, a port, @NAME, systemd:NAME, or an array of them."),
    live(Pool, "listen_backlog", Whole(1, 2_147_483_647), Value("4096"), "How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn."),
    live(Pool, "listen_owner", Name, Unset("fpmd's own"), "Owner of the Unix socket."),
    live(Pool, "listen_group", Name, Unset("fpmd's own"), "Group of the Unix socket."),
    live(Pool, "listen_mode", Mode, Value("\"0660\""), "Permission bits of the Unix socket."),
    live(Pool, "listen_acl_users", Names, Value("[]"), "Users that may connect to the Unix socket, by POSIX ACL."),
    live(Pool, "listen_acl_groups", Names, Value("[]"), "Groups that may connect to the Unix socket, by POSIX ACL."),
    live(Pool, "allowed_clients", Strings, Value("[]"), "Addresses and networks that may connect over TCP; none is everyone."),
    key(Pool, "command", Strings, Required, "The worker's program, an absolute path, and its arguments."),
    key(Pool, "dispatch", Choice(&["gateway", "direct"]), Value("\"gateway\""), "Who accepts connections: fpmd's gateway, which gives each request to an idle worker, or the workers themselves."),
    later(Pool, "prefork", Choice(&["auto", "on", "off"]), "Whether workers are forked from one that has started already."),
    live(Pool, "concurrency", Whole(1, 65_535), Value("1"), "How many requests one worker serves at once."),
    key(Pool, "user", Name, Unset("fpmd's own; has to be given if that is root"), "User that workers run as."),
    key(Pool, "group", Name, Unset("the user's primary group"), "Group that workers run as."),
    key(Pool, "supplementary_groups", Names, Unset("the user's groups"), "Further groups of the workers, instead of the user's."),
    key(Pool, "chroot", Path, Unset("none"), "Directory that becomes the workers' root."),
    key(Pool, "directory", Path, Unset("fpmd's own, / with chroot"), "The workers' working directory, inside chroot."),
    key(Pool, "umask", Mode, Unset("fpmd's own"), "The workers' file mode creation mask."),
    key(Pool, "process_priority", Whole(-20, 19), Unset("fpmd's own"), "The workers' nice value."),
    key(Pool, "scheduling_policy", Choice(&SchedulingPolicy::WORDS), Unset("fpmd's own"), "How the workers share the CPUs with others; batch is for those that compute more than they wait."),
    key(Pool, "rlimit_files", Whole(16, 1_073_741_816), Unset("fpmd's own"), "How many descriptors a worker may have open."),
    key(Pool, "rlimit_core", Size, Unset("fpmd's own"), "The largest core file of a worker, or \"unlimited\"."),
    live(Pool, "memory_max", Size, Unset("no limit"), "How much memory the pool's workers may use together; the kernel kills one that needs more."),
    live(Pool, "memory_high", Size, Unset("no limit"), "With how much memory the pool's workers are slowed down and made to give some back."),
    key(Pool, "worker_memory_max", Size, Unset("no limit"), "How much memory one worker may use with what it starts; the kernel kills what needs more."),
    live(Pool, "cpu_weight", Whole(1, 10_000), Unset("100"), "The pool's part of the CPUs when they are short, against that of others."),
    live(Pool, "cpu_max", Percent, Unset("no limit"), "How much of one CPU the pool's workers may use together; 200% is two."),
    live(Pool, "pids_max", Whole(1, MOST), Unset("no limit"), "How many processes and threads the pool may have, those that workers start included."),
    key(Pool, "env", Table, Value("{}"), "Variables of the workers' environment."),
    key(Pool, "clear_env", Bool, Value("true"), "Whether workers start without fpmd's own environment."),
    key(Pool, "pass_env", Strings, Value("[]"), "Names of variables that workers get from fpmd's environment all the same."),
    key(Pool, "stop_signal", Signal, Value("\"SIGTERM\""), "Signal that asks an idle worker to end."),
    live(Pool, "stop_timeout", Time, Value("\"30s\""), "How long a busy worker may go on before it gets the stop signal all the same."),
    live(Pool, "start_timeout", Time, Value("\"10s\""), "How long a new worker may take to become ready."),
    live(Pool, "warmup_path", Text, Unset("none: a worker is ready when it is seen waiting for a request"), "URL path of a request that a new worker has to answer before it gets any other."),
    live(Pool, "status_path", Text, Unset("none"), "URL path of the status page."),
    live(Pool, "ping_path", Text, Unset("none"), "URL path of the ping page."),
    live(Pool, "ping_response", Text, Value("\"pong\""), "What the ping page says."),
    live(Pool, "access_log", Path, Unset("none"), "File that gets a line for each request."),
    live(Pool, "access_format", Text, Value(r#"'%R - %u %t "%m %r" %s'"#), "The form of that line: letters of php-fpm, or \"json\"."),
    live(Pool, "slowlog", Path, Unset("none"), "File that gets what is known of each slow request."),
    key(Pool, "catch_workers_output", Bool, Value("true"), "Whether what workers write to standard output and error is logged."),
    key(Pool, "decorate_workers_output", Bool, Value("true"), "Whether such lines get time, level, pool and pid."),
    live(Pool, "log_request_stderr", Bool, Value("false"), "Whether what workers send to FCGI_STDERR is logged, too."),
    live(Pool, "request_slowlog_timeout", Time, Value("\"0s\""), "After how long a request is slow; 0 is never."),
    later(Pool, "request_slowlog_trace_depth", Whole(1, 1000), "How many stack frames are logged."),
    live(Pool, "request_terminate_timeout", Time, Value("\"0s\""), "After how long a request is ended and its worker replaced; 0 is never."),
    live(Pool, "request_finish_timeout", Time, Derived("request_terminate_timeout"), "How long a worker may go on after the end of its answer before it is replaced; 0 is for ever."),
    live(Pool, "input_timeout", Time, Value("\"1m\""), "How long a client may take to begin a request, and how long it may be silent within one; 0 is for ever."),
    live(Pool, "queue_timeout", Time, Value("\"30s\""), "How long a request may wait for a worker before it is answered with 503; 0 is for ever."),
    live(Pool, "queue_limit", Whole(0, MOST), Value("4096"), "How many requests may wait for a worker; one more is answered with 503."),
    live(Pool, "request_buffer", Size, Value("\"128K\""), "How much of a request body is held in memory; more goes to a file."),
    live(Pool, "response_buffer", Size, Value("\"256K\""), "How much of a response is held in memory; more goes to a file."),
    live(Pool, "buffer_directory", Path, Value("\"/var/tmp\""), "Directory of those files, which have no name and are gone with their request."),

    live(Pm, "mode", Choice(&["static", "dynamic", "ondemand"]), Value("\"static\""), "How the number of workers is decided."),
    live(Pm, "max_children", Whole(1, MOST), Required, "The number of workers of a static pool, the most of others."),
    live(Pm, "start_servers", Whole(1, MOST), Derived("half way from min_spare_servers to max_spare_servers"), "How many workers a dynamic pool starts with."),
    live(Pm, "min_spare_servers", Whole(1, MOST), Required, "How many idle workers a dynamic pool has at least."),
    live(Pm, "max_spare_servers", Whole(1, MOST), Required, "How many idle workers a dynamic pool has at most."),
    live(Pm, "max_spawn_rate", Whole(1, MOST), Value("32"), "How many workers of a dynamic or ondemand pool are started a second while earlier ones still start."),
    live(Pm, "process_idle_timeout", Time, Value("\"10s\""), "After how long an idle worker that a dynamic or ondemand pool does not need is ended."),
    routed(Pm, "max_requests", Whole(0, 2_147_483_647), Value("0"), "Requests after which a worker is replaced (in direct mode: php-cgi only, which counts them); 0 is never."),
    live(Pm, "max_requests_jitter", Whole(0, 2_147_483_647), Value("0"), "Up to how many requests more than max_requests a worker serves, at random."),
    live(Pm, "max_lifetime", Time, Value("\"0s\""), "For how long a worker lives before it is replaced; 0 is for ever."),
    live(Pm, "max_lifetime_jitter", Time, Derived("a tenth of max_lifetime"), "Up to how much longer than max_lifetime a worker lives."),
    live(Pm, "max_memory", Size, Value("\"0\""), "How much memory of its own a worker may keep after a request before it is replaced; 0 is any."),
];

/// The settings of one table, in order.
pub fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// One setting.
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    of(section).find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_docs_are_sentences() {
        for (index, key) in KEYS.iter().enumerate() {
            let same = |other: &Key| (other.section, other.name) == (key.section, key.name);
            assert!(!KEYS[..index].iter().any(same), "{} {} twice", key.section, key.name);
            assert!(
                key.doc.ends_with('.') && key.doc.starts_with(char::is_uppercase)
                    || key.doc.starts_with("fpmd"),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn defaults_are_toml() {
        for key in KEYS {
            if let Value(text) = key.default {
                assert!(toml::de::DeValue::parse(text).is_ok(), "{}: {text}", key.name);
            }
        }
    }
}

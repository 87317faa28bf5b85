//! The settings that need the gateway, of a pool and of the whole. In direct mode fpmd is not in the path of requests, so
//! that each of them is a mistake there. fpmd.toml(5), POOL SETTINGS; the rules for URL paths are those of php-fpm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Cause;
use super::host::Host;
use super::identity;
use super::keys::{self, Support};
use super::listen::{self, LONGEST_UNIX};
use super::model::{Dispatch, Gateway, ListenAddress, Network, SlowLog, User};
use super::walk::{Item, Report, Table};
use crate::ids::{PoolName, Uid};
use crate::status::access::Format;

/// Settings of `[pool.NAME]` that need the gateway.
pub(super) const POOL_ONLY: [&str; 19] = [
    "allowed_clients",
    "concurrency",
    "warmup_path",
    "status_path",
    "ping_path",
    "ping_response",
    "access_log",
    "access_format",
    "slowlog",
    "log_request_stderr",
    "request_slowlog_timeout",
    "request_terminate_timeout",
    "request_finish_timeout",
    "input_timeout",
    "queue_timeout",
    "queue_limit",
    "request_buffer",
    "response_buffer",
    "buffer_directory",
];

/// Settings of `[pool.NAME.pm]` that need the gateway.
pub(super) const PM_ONLY: [&str; 1] = ["max_requests_jitter"];

/// Networks that a gateway can be told.
const MOST_CLIENTS: usize = 1000;

/// What a pool's gateway settings are judged against.
pub(super) struct Around<'a> {
    pub host: &'a dyn Host,
    pub runtime_dir: &'a Path,
    pub pool: &'a PoolName,
    /// `None` if they are wrong, which is reported.
    pub listen: Option<&'a [ListenAddress]>,
}

/// Reads `dispatch` and everything that depends on it.
pub(super) fn dispatch(
    report: &mut Report,
    table: &Table<'_>,
    pm: Option<&Table<'_>>,
    around: &Around<'_>,
) -> Dispatch {
    let is_direct = table.value(report, "dispatch", |report, item| match item.choice(report)?.as_str() {
        "direct" => Some(true),
        _ => Some(false),
    });
    if is_direct {
        refuse(report, table, &POOL_ONLY);
        if let Some(pm) = pm {
            refuse(report, pm, &PM_ONLY);
        }
        return Dispatch::Direct;
    }
    check_slot_paths(report, table, around);
    Dispatch::Gateway(Box::new(settings(report, table, pm, around)))
}

fn refuse(report: &mut Report, table: &Table<'_>, names: &[&str]) {
    let supported =
        |name: &&&str| keys::find(table.section, name).is_some_and(|key| key.support == Support::Supported);
    for name in names.iter().filter(supported).filter(|name| table.given(name).is_some()) {
        let sentence = "needs dispatch = \"gateway\": in direct mode fpmd is not in the path of requests";
        table.fail(report, name, Cause::Value(sentence.to_owned()));
    }
}

fn settings(report: &mut Report, table: &Table<'_>, pm: Option<&Table<'_>>, around: &Around<'_>) -> Gateway {
    let log = |report: &mut Report, item: &Item<'_>| log_file(report, item, around);
    let request_terminate_timeout = table.value(report, "request_terminate_timeout", time_or_never);
    let (status_path, ping_path) = pages(report, table);
    Gateway {
        allowed_clients: clients(report, table, around.listen),
        concurrency: table.value(report, "concurrency", |report, item| item.whole(report)),
        warmup_path: table.optional(report, "warmup_path", warmup_path),
        status_path,
        ping_path,
        ping_response: table.value(report, "ping_response", |report, item| {
            let text = short(report, item)?;
            if text.is_empty() {
                item.refuse(report, "is empty; write what the page says")
            } else {
                Some(text)
            }
        }),
        access_log: table.optional(report, "access_log", log),
        access_format: table.value(report, "access_format", access_format),
        slow: slow_log(report, table, request_terminate_timeout, log),
        log_request_stderr: table.value(report, "log_request_stderr", |report, item| item.flag(report)),
        request_terminate_timeout,
        request_finish_timeout: table
            .optional(report, "request_finish_timeout", time_or_never)
            .unwrap_or(request_terminate_timeout),
        input_timeout: table.value(report, "input_timeout", time_or_never),
        queue_timeout: table.value(report, "queue_timeout", time_or_never),
        queue_limit: table.value(report, "queue_limit", |report, item| item.whole(report)),
        request_buffer: table.value(report, "request_buffer", |report, item| item.size(report)),
        response_buffer: table.value(report, "response_buffer", |report, item| item.size(report)),
        buffer_directory: buffer_directory(report, table, around),
        // A table that is none is reported.
        max_requests_jitter: pm
            .map_or(0, |pm| pm.value(report, "max_requests_jitter", |report, item| item.whole(report))),
    }
}

/// Zero is never, as in php-fpm.
fn time_or_never(report: &mut Report, item: &Item<'_>) -> Option<Option<Duration>> {
    item.time(report).map(|time| (!time.is_zero()).then_some(time))
}

fn clients(report: &mut Report, table: &Table<'_>, listen: Option<&[ListenAddress]>) -> Vec<Network> {
    let clients: Vec<Network> = table.value(report, "allowed_clients", |report, item| {
        let items = item.items(report, "an array of addresses and networks such as [\"192.0.2.0/24\"]")?;
        let mut read = |item: &Item<'_>| {
            let text = item.text(report)?;
            Network::parse(&text).map_err(|sentence| item.refuse::<()>(report, sentence)).ok()
        };
        if items.len() > MOST_CLIENTS {
            let sentence = format!("has {} entries; {MOST_CLIENTS} are allowed", items.len());
            return item.refuse(report, sentence);
        }
        let networks: Vec<Option<Network>> = items.iter().map(&mut read).collect();
        networks.into_iter().collect()
    });
    let may_be_tcp = |address: &ListenAddress| match address {
        ListenAddress::Tcp(_) | ListenAddress::Port(_) | ListenAddress::Systemd(_) => true,
        ListenAddress::Unix(_) | ListenAddress::Abstract(_) => false,
    };
    if !clients.is_empty() && listen.is_some_and(|listen| !listen.iter().any(may_be_tcp)) {
        let sentence = "is for TCP, and this pool has Unix sockets only; use listen_mode, listen_acl_users and \
                        listen_acl_groups";
        table.fail(report, "allowed_clients", Cause::Value(sentence.to_owned()));
    }
    clients
}

fn pages(report: &mut Report, table: &Table<'_>) -> (Option<String>, Option<String>) {
    let status_path: Option<String> = table.optional(report, "status_path", url_path);
    let ping_path = table.optional(report, "ping_path", url_path);
    if ping_path.is_some() && ping_path == status_path {
        table.fail(report, "ping_path", Cause::Value("is the path of the status page already".to_owned()));
    }
    (status_path, ping_path)
}

/// A path with or without a query, as it would be in the first line of a request.
fn warmup_path(report: &mut Report, item: &Item<'_>) -> Option<String> {
    let text = short(report, item)?;
    let legal = |c: char| c.is_ascii_graphic() && c != '#';
    if text.starts_with('/') && text.chars().all(legal) {
        return Some(text);
    }
    let sentence =
        format!("'{text}' is not the path of a request; write one such as \"/warm.php?from=fpmd\"");
    item.refuse(report, sentence)
}

/// php-fpm's rules: begins with a slash, two characters at least, and nothing that a URL would have to escape.
fn url_path(report: &mut Report, item: &Item<'_>) -> Option<String> {
    let text = short(report, item)?;
    if !text.starts_with('/') || text.len() < 2 {
        return item
            .refuse(report, format!("'{text}' is not the path of a page; write a path such as \"/status\""));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '~');
    if !text.chars().all(legal) {
        let sentence = format!("'{text}' has more in it than letters, digits and any of / _ - . ~");
        return item.refuse(report, sentence);
    }
    Some(text)
}

/// A text of a length that a gateway can be told.
fn short(report: &mut Report, item: &Item<'_>) -> Option<String> {
    const LONGEST: usize = 4096;
    let text = item.text(report)?;
    match text.len() {
        0..=LONGEST => Some(text),
        length => item.refuse(report, format!("has {length} bytes; {LONGEST} are allowed")),
    }
}

fn access_format(report: &mut Report, item: &Item<'_>) -> Option<String> {
    let text = short(report, item)?;
    if text.is_empty() {
        return item.refuse(report, "is empty; write php-fpm's letters, or \"json\"");
    }
    match Format::parse(&text) {
        Ok(_) => Some(text),
        Err(sentence) => item.refuse(report, sentence),
    }
}

/// Both settings or neither: one alone does nothing.
fn slow_log(
    report: &mut Report,
    table: &Table<'_>,
    terminate: Option<Duration>,
    log: impl Fn(&mut Report, &Item<'_>) -> Option<PathBuf>,
) -> Option<SlowLog> {
    let path = table.optional(report, "slowlog", log);
    let after = table.value(report, "request_slowlog_timeout", time_or_never);
    match (path, after) {
        (Some(_), None) if table.given("request_slowlog_timeout").is_none() => {
            let advice =
                "slowlog says where slow requests are logged; write after how long a request is slow";
            table.fail(report, "request_slowlog_timeout", Cause::Missing(advice.to_owned()));
            None
        }
        (None, Some(_)) if table.given("slowlog").is_none() => {
            let advice = "request_slowlog_timeout says when a request is slow; write the file that is told";
            table.fail(report, "slowlog", Cause::Missing(advice.to_owned()));
            None
        }
        (Some(_), Some(after)) if terminate.is_some_and(|terminate| terminate < after) => {
            let sentence = "is longer than request_terminate_timeout, so that no request would ever be slow";
            table.fail(report, "request_slowlog_timeout", Cause::Value(sentence.to_owned()));
            None
        }
        (Some(path), Some(after)) => Some(SlowLog { path, after }),
        // Zero was written: switched off for now.
        (_, None) | (None, _) => None,
    }
}

/// A file in a directory that exists.
fn log_file(report: &mut Report, item: &Item<'_>, around: &Around<'_>) -> Option<PathBuf> {
    let path = item.path(report)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    if listen::normal(parent).starts_with(around.runtime_dir) || around.host.is_directory(None, parent) {
        return Some(path);
    }
    item.refuse(report, format!("there is no directory '{}' for it", parent.display()))
}

/// Without the usual one, what would go there is streamed; one that somebody has chosen has to be there.
fn buffer_directory(report: &mut Report, table: &Table<'_>, around: &Around<'_>) -> PathBuf {
    let path: PathBuf = table.value(report, "buffer_directory", |report, item| item.path(report));
    if table.given("buffer_directory").is_some() && !around.host.is_directory(None, &path) {
        let sentence = format!("there is no directory '{}'", path.display());
        table.fail(report, "buffer_directory", Cause::Value(sentence));
    }
    path
}

/// `RUNTIME_DIR/slots/POOL/N.sock` has to fit into the address of a Unix socket, with any number, and in a directory with a
/// longer name (`master::slots`).
fn check_slot_paths(report: &mut Report, table: &Table<'_>, around: &Around<'_>) {
    const LONGEST_ROOT: &str = "slots-4194304";
    const LONGEST_NAME: &str = "9999999.sock";
    let directory = around.runtime_dir.join(LONGEST_ROOT).join(around.pool.as_str());
    let length = directory.join(LONGEST_NAME).as_os_str().len();
    if length > LONGEST_UNIX {
        let sentence = format!(
            "the sockets of the pool's workers would be in '{}', a path of {length} bytes where {LONGEST_UNIX} are allowed; \
             shorten global.runtime_dir",
            directory.display()
        );
        table.fail(report, "dispatch", Cause::Value(sentence));
    }
}

/// Reads `gateway_user`: for root the user `fpmd` if there is one, else `nobody`; everyone else has gateways of their own.
pub(super) fn user(report: &mut Report, table: &Table<'_>, host: &dyn Host) -> Option<User> {
    let given = table.optional(report, "gateway_user", |report, item| {
        let user = identity::user(report, item, host)?;
        if user.gid.is_none() {
            let sentence =
                format!("user {} has no entry in the user database, which would name its group", user.name);
            return item.refuse(report, sentence);
        }
        if host.uid() != Uid(0) && user.uid != host.uid() {
            let sentence =
                format!("only root can run gateways as '{}'; start fpmd as root or leave it out", user.name);
            return item.refuse(report, sentence);
        }
        Some(user)
    });
    if host.uid() != Uid(0) {
        return None;
    }
    let known = |name| host.user(name).ok().flatten().filter(|user: &User| user.gid.is_some());
    given.or_else(|| known("fpmd")).or_else(|| known("nobody"))
}

/// Root needs somebody else for its gateways.
pub(super) fn check_user(report: &mut Report, table: &Table<'_>, user: Option<&User>, host: &dyn Host) {
    if host.uid() == Uid(0) && user.is_none() && table.given("gateway_user").is_none() {
        let advice = "there is neither a user fpmd nor nobody; write the user that gateways run as";
        table.fail(report, "gateway_user", Cause::Missing(advice.to_owned()));
    }
}

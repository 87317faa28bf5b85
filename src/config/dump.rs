//! `--dump`: the configuration in force as TOML, every setting with its value, in the order of the table. It loads
//! again to the same configuration.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::keys::{self, Key, Section, Support};
use super::model::{
    Config, Dispatch, Gateway, Global, Group, ListenAddress, LogFormat, LogTarget, PmMode, Pool, User,
};
use super::pool::UNIX_ONLY;
use super::values::{show_duration, show_mode, show_percent, show_size};
use crate::sorted::SortedMap;

/// The whole configuration as TOML. Settings that are not set are comments; those that are not supported yet are
/// left out.
pub fn dump(config: &Config) -> String {
    let mut out = String::from("[global]\n");
    table(&mut out, Section::Global, |name| global_value(&config.global, name));
    for (name, pool) in &config.pools {
        let name = key_text(name.as_str());
        let _ = writeln!(out, "\n[pool.{name}]");
        table(&mut out, Section::Pool, |name| pool_value(pool, name));
        let _ = writeln!(out, "\n[pool.{name}.pm]");
        table(&mut out, Section::Pm, |name| pm_value(pool, name));
    }
    out
}

fn table(out: &mut String, section: Section, value: impl Fn(&str) -> Option<String>) {
    for Key { name, default, .. } in keys::of(section).filter(|key| key.support == Support::Supported) {
        let _ = match (value(name), default) {
            (Some(value), _) => writeln!(out, "{name} = {value}"),
            (None, keys::Default::Unset(words)) => writeln!(out, "# {name} is not set: {words}"),
            (None, _) => writeln!(out, "# {name} does not apply here"),
        };
    }
}

/// A `[global]` setting as TOML; `None` if it is not set.
pub(super) fn global_value(global: &Global, name: &str) -> Option<String> {
    match name {
        "pid_file" => global.pid_file.as_deref().map(path),
        "log" => Some(match &global.log {
            LogTarget::Stderr => quote("stderr"),
            LogTarget::Stdout => quote("stdout"),
            LogTarget::Syslog => quote("syslog"),
            LogTarget::Journal => quote("journal"),
            LogTarget::File(file) => path(file),
        }),
        "log_level" => Some(quote(global.log_level.as_str())),
        "log_format" => Some(match global.log_format {
            LogFormat::Text => quote("text"),
            LogFormat::Json => quote("json"),
        }),
        "control_socket" => Some(path(&global.control_socket)),
        "control_group" => global.control_group.as_ref().map(|group| quote(&group.name)),
        // What was included is in the dump itself.
        "include" => Some("[]".to_owned()),
        "runtime_dir" => Some(path(&global.runtime_dir)),
        "gateway_user" => global.gateway_user.as_ref().map(|user| quote(&user.name)),
        "process_max" => Some(global.process_max.to_string()),
        "reload_surge" => Some(global.reload_surge.to_string()),
        "process_control_timeout" => Some(quote(&show_duration(global.process_control_timeout))),
        _ => None,
    }
}

/// A setting of a pool as TOML; `None` if it is not set or does not apply.
pub(super) fn pool_value(pool: &Pool, name: &str) -> Option<String> {
    let unix = pool.listen.iter().any(|address| matches!(address, ListenAddress::Unix(_)));
    if UNIX_ONLY.contains(&name) {
        return unix.then(|| socket_value(pool, name)).flatten();
    }
    match name {
        "listen" => Some(listen(&pool.listen)),
        "listen_backlog" => Some(pool.socket.backlog.to_string()),
        "command" => Some(array(pool.command.iter().map(|text| quote(text)))),
        "dispatch" => Some(quote(pool.dispatch.as_str())),
        "user" => pool.user.as_ref().map(|user| quote(&user.name)),
        "group" => pool.group.as_ref().map(|group| quote(&group.name)),
        "supplementary_groups" => pool.supplementary_groups.as_deref().map(groups),
        "chroot" => pool.chroot.as_deref().map(path),
        "directory" => pool.directory.as_deref().map(path),
        "umask" => pool.umask.map(|bits| quote(&show_mode(bits))),
        "process_priority" => pool.process_priority.map(|nice| nice.to_string()),
        "scheduling_policy" => pool.scheduling_policy.map(|policy| quote(policy.as_str())),
        "rlimit_files" => pool.rlimit_files.map(|files| files.to_string()),
        "rlimit_core" => pool.rlimit_core.map(|bytes| match bytes {
            u64::MAX => quote("unlimited"),
            bytes => quote(&show_size(bytes)),
        }),
        "memory_max" => pool.resources.memory_max.map(|bytes| quote(&show_size(bytes))),
        "memory_high" => pool.resources.memory_high.map(|bytes| quote(&show_size(bytes))),
        "worker_memory_max" => pool.resources.worker_memory_max.map(|bytes| quote(&show_size(bytes))),
        "cpu_weight" => pool.resources.cpu_weight.map(|weight| weight.to_string()),
        "cpu_max" => pool.resources.cpu_max.map(|percent| quote(&show_percent(percent))),
        "pids_max" => pool.resources.pids_max.map(|pids| pids.to_string()),
        "env" => Some(variables(&pool.environment.set)),
        "clear_env" => Some(pool.environment.clear.to_string()),
        "pass_env" => Some(array(pool.environment.pass.iter().map(|name| quote(name)))),
        "stop_signal" => Some(quote(&pool.stop_signal.to_string())),
        "stop_timeout" => Some(quote(&show_duration(pool.stop_timeout))),
        "start_timeout" => Some(quote(&show_duration(pool.start_timeout))),
        "catch_workers_output" => Some(pool.catch_workers_output.to_string()),
        "decorate_workers_output" => Some(pool.decorate_workers_output.to_string()),
        _ => match &pool.dispatch {
            Dispatch::Direct => None,
            Dispatch::Gateway(gateway) => gateway_value(gateway, name),
        },
    }
}

fn gateway_value(gateway: &Gateway, name: &str) -> Option<String> {
    let time = |time: Option<Duration>| Some(quote(&show_duration(time.unwrap_or_default())));
    let text = |text: &Option<String>| text.as_deref().map(quote);
    match name {
        "allowed_clients" => {
            Some(array(gateway.allowed_clients.iter().map(|client| quote(&client.to_string()))))
        }
        "concurrency" => Some(gateway.concurrency.to_string()),
        "warmup_path" => text(&gateway.warmup_path),
        "status_path" => text(&gateway.status_path),
        "ping_path" => text(&gateway.ping_path),
        "ping_response" => Some(quote(&gateway.ping_response)),
        "access_log" => gateway.access_log.as_deref().map(path),
        "access_format" => Some(quote(&gateway.access_format)),
        "slowlog" => gateway.slow.as_ref().map(|slow| path(&slow.path)),
        "log_request_stderr" => Some(gateway.log_request_stderr.to_string()),
        "request_slowlog_timeout" => time(gateway.slow.as_ref().map(|slow| slow.after)),
        "request_terminate_timeout" => time(gateway.request_terminate_timeout),
        "request_finish_timeout" => time(gateway.request_finish_timeout),
        "input_timeout" => time(gateway.input_timeout),
        "buffer_directory" => Some(path(&gateway.buffer_directory)),
        "queue_timeout" => time(gateway.queue_timeout),
        "queue_limit" => Some(gateway.queue_limit.to_string()),
        "request_buffer" => Some(quote(&show_size(gateway.request_buffer))),
        "response_buffer" => Some(quote(&show_size(gateway.response_buffer))),
        _ => None,
    }
}

fn socket_value(pool: &Pool, name: &str) -> Option<String> {
    match name {
        "listen_owner" => pool.socket.owner.as_ref().map(|user| quote(&user.name)),
        "listen_group" => pool.socket.group.as_ref().map(|group| quote(&group.name)),
        "listen_mode" => Some(quote(&show_mode(pool.socket.mode))),
        "listen_acl_users" => Some(users(&pool.socket.acl_users)),
        "listen_acl_groups" => Some(groups(&pool.socket.acl_groups)),
        _ => None,
    }
}

/// A setting of a pool's `pm` as TOML; `None` if it is not set or does not apply.
pub(super) fn pm_value(pool: &Pool, name: &str) -> Option<String> {
    match name {
        "mode" => Some(quote(pool.pm.mode.as_str())),
        "max_children" => Some(pool.pm.max_children.to_string()),
        "max_requests" => Some(pool.pm.max_requests.to_string()),
        "max_requests_jitter" => match &pool.dispatch {
            Dispatch::Direct => None,
            Dispatch::Gateway(gateway) => Some(gateway.max_requests_jitter.to_string()),
        },
        "max_lifetime" => {
            let least = pool.pm.max_lifetime.map(|lifetime| lifetime.least);
            Some(quote(&show_duration(least.unwrap_or_default())))
        }
        "max_lifetime_jitter" => pool.pm.max_lifetime.map(|lifetime| quote(&show_duration(lifetime.jitter))),
        "max_memory" => Some(quote(&show_size(pool.pm.max_memory.unwrap_or(0)))),
        _ => mode_value(pool.pm.mode, name),
    }
}

/// What only some modes have.
fn mode_value(mode: PmMode, name: &str) -> Option<String> {
    let (spares, pace) = match mode {
        PmMode::Static => (None, None),
        PmMode::Dynamic(spares) => (Some(spares), Some(spares.pace)),
        PmMode::Ondemand(pace) => (None, Some(pace)),
    };
    match name {
        "start_servers" => spares.map(|spares| spares.start_servers.to_string()),
        "min_spare_servers" => spares.map(|spares| spares.min_spare_servers.to_string()),
        "max_spare_servers" => spares.map(|spares| spares.max_spare_servers.to_string()),
        "max_spawn_rate" => pace.map(|pace| pace.max_spawn_rate.to_string()),
        "process_idle_timeout" => pace.map(|pace| quote(&show_duration(pace.process_idle_timeout))),
        _ => None,
    }
}

fn listen(addresses: &[ListenAddress]) -> String {
    let one = |address: &ListenAddress| match address {
        ListenAddress::Port(port) => port.to_string(),
        other => quote(&other.to_string()),
    };
    match addresses {
        [address] => one(address),
        addresses => array(addresses.iter().map(one)),
    }
}

fn users(users: &[User]) -> String {
    array(users.iter().map(|user| quote(&user.name)))
}

fn groups(groups: &[Group]) -> String {
    array(groups.iter().map(|group| quote(&group.name)))
}

fn variables(set: &SortedMap<String, String>) -> String {
    if set.is_empty() {
        return "{}".to_owned();
    }
    let pairs: Vec<String> =
        set.iter().map(|(name, value)| format!("{} = {}", key_text(name), quote(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<String>>().join(", "))
}

fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// A bare key where TOML allows it, else a quoted one.
pub(super) fn key_text(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quote(name) }
}

/// A TOML string: a literal one where a basic one would have to escape its quotes.
pub(super) fn quote(text: &str) -> String {
    if text.contains('"') && !text.contains(|c: char| c == '\'' || c.is_control()) {
        return format!("'{text}'");
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

//! One `[pool.NAME]` with its `pm` table, from TOML to a valid `Pool`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::error::Cause;
use super::host::Host;
use super::keys::Section;
use super::listen::{self, Sockets};
use super::model::{
    Dispatch, Environment, Gateway, KnownWorker, ListenAddress, PmMode, Pool, ProcessManagement,
    SocketSettings,
};
use super::walk::{Item, Report, Table, type_name};
use super::{gateway, identity, resources, scaling, worker};
use crate::ids::{PoolName, SchedulingPolicy};
use crate::policy::Lifetime;

/// What all pools share while they are read.
pub(super) struct Context<'a> {
    pub host: &'a dyn Host,
    pub report: Report,
    pub sockets: Sockets,
    /// fpmd makes this directory if it is not there; others have to exist.
    pub runtime_dir: PathBuf,
}

/// Reads a pool. `None` if something that it cannot be without is missing or wrong; that and every other mistake is
/// reported.
pub(super) fn resolve(context: &mut Context<'_>, name: &PoolName, table: &Table<'_>) -> Option<Pool> {
    let host = context.host;
    table.check_names(&mut context.report, &["pm"]);
    let listen = addresses(context, name, table);
    let report = &mut context.report;
    let socket = socket_settings(report, table, listen.as_deref(), host);
    let (command, chroot, directory) = program(report, table, host);
    let known_worker = command.as_deref().and_then(worker::recognise);
    let identity = identity::read(report, table, host);
    let mut environment = worker::environment(report, table);
    let known = command.is_some().then_some(known_worker);
    let pm_table = pm_table(report, table);
    let around =
        gateway::Around { host, runtime_dir: &context.runtime_dir, pool: name, listen: listen.as_deref() };
    let dispatch = gateway::dispatch(report, table, pm_table.as_ref(), &around);
    let pm = pm_table.and_then(|pm| {
        management(report, table, &pm, known.map(|known| (known, &dispatch)), &mut environment)
    });
    match &dispatch {
        Dispatch::Direct => one_worker_an_address(report, table, listen.as_deref(), pm.as_ref()),
        Dispatch::Gateway(gateway) => room_to_wait(report, table, gateway, pm.as_ref()),
    }
    Some(Pool {
        name: name.clone(),
        socket,
        dispatch,
        user: identity.user,
        group: identity.group,
        supplementary_groups: identity.supplementary_groups,
        chroot,
        directory,
        umask: table.optional(report, "umask", |report, item| item.mode(report)),
        process_priority: table.optional(report, "process_priority", |report, item| item.whole(report)),
        scheduling_policy: table.optional(report, "scheduling_policy", scheduling_policy),
        rlimit_files: table.optional(report, "rlimit_files", |report, item| item.whole(report)),
        rlimit_core: table.optional(report, "rlimit_core", |report, item| item.size_or_unlimited(report)),
        resources: resources::read(report, table),
        environment,
        stop_signal: table.value(report, "stop_signal", |report, item| item.signal(report)),
        stop_timeout: table.value(report, "stop_timeout", |report, item| item.time(report)),
        start_timeout: table.value(report, "start_timeout", |report, item| item.time(report)),
        catch_workers_output: table.value(report, "catch_workers_output", |report, item| item.flag(report)),
        decorate_workers_output: table
            .value(report, "decorate_workers_output", |report, item| item.flag(report)),
        known_worker,
        // Last, as nothing after a `?` is read: whatever is missing here is reported already.
        listen: listen?,
        command: command?,
        pm: pm?,
    })
}

/// Reads `command`, `chroot` and `directory`, the first and the last as seen from inside `chroot`.
fn program(
    report: &mut Report,
    table: &Table<'_>,
    host: &dyn Host,
) -> (Option<Vec<String>>, Option<PathBuf>, Option<PathBuf>) {
    let root = table.optional(report, "chroot", |report, item| directory(report, item, None, host));
    // A wrong chroot is reported; what would be inside it cannot be judged.
    let judge = (root.is_some() || table.given("chroot").is_none()).then_some(host);
    let command = worker::command(report, table, root.as_deref(), judge);
    let directory = table.optional(report, "directory", |report, item| match judge {
        Some(host) => directory(report, item, root.as_deref(), host),
        None => item.path(report),
    });
    let directory = directory.or_else(|| root.is_some().then(|| PathBuf::from("/")));
    (command, root, directory)
}

/// Reads the `pm` table. `known` is `None` where the command is wrong, so that nothing can be said of its requests.
fn management(
    report: &mut Report,
    table: &Table<'_>,
    pm: &Table<'_>,
    known: Option<(Option<KnownWorker>, &Dispatch)>,
    environment: &mut Environment,
) -> Option<ProcessManagement> {
    pm.check_names(report, &[]);
    let max_requests = known.map(|(known, dispatch)| match dispatch {
        Dispatch::Direct => worker::count_requests(report, table, pm, known, environment),
        Dispatch::Gateway(_) => worker::leave_counting(report, table, pm, known, environment),
    });
    // Given in the pool's own table it is misplaced, which is reported there.
    let max_children = if table.was_meant("max_children") {
        pm.optional(report, "max_children", |report, item| item.whole(report))
    } else {
        let advice = "write the number of workers, such as max_children = 4";
        pm.required(report, "max_children", advice, |report, item| item.whole(report))
    };
    let mode = scaling::read(report, pm, max_children);
    let max_lifetime = lifetime(report, pm);
    let max_memory = pm.value(report, "max_memory", |report, item| item.size(report));
    Some(ProcessManagement {
        mode: mode?,
        max_children: max_children?,
        max_requests: max_requests?,
        max_lifetime,
        max_memory: (max_memory > 0).then_some(max_memory),
    })
}

/// Zero is for ever, and then jitter does not matter.
fn lifetime(report: &mut Report, pm: &Table<'_>) -> Option<Lifetime> {
    let least: Duration = pm.value(report, "max_lifetime", |report, item| item.time(report));
    let jitter = pm.optional(report, "max_lifetime_jitter", |report, item| item.time(report));
    (!least.is_zero()).then(|| Lifetime { least, jitter: jitter.unwrap_or(least / 10) })
}

/// Without a gateway a worker accepts on its descriptor 0 alone, so an address without a worker of its own would never be
/// served.
fn one_worker_an_address(
    report: &mut Report,
    table: &Table<'_>,
    listen: Option<&[ListenAddress]>,
    pm: Option<&ProcessManagement>,
) {
    let (Some(listen), Some(pm)) = (listen, pm) else { return };
    if listen.len() > 1 && pm.mode != PmMode::Static {
        let sentence = format!(
            "several addresses need pm.mode = \"static\" or dispatch = \"gateway\": without a gateway each worker \
             accepts on one address, and a pool that is {} may have none for some",
            pm.mode.as_str()
        );
        table.fail(report, "listen", Cause::Value(sentence));
    } else if listen.len() > pm.max_children as usize {
        let sentence = format!(
            "{} addresses need at least as many workers, and pm.max_children is {}: each worker accepts on one address",
            listen.len(),
            pm.max_children
        );
        table.fail(report, "listen", Cause::Value(sentence));
    }
}

/// A pool that begins with nobody starts workers for requests that wait.
fn room_to_wait(report: &mut Report, table: &Table<'_>, gateway: &Gateway, pm: Option<&ProcessManagement>) {
    let is_ondemand = pm.is_some_and(|pm| matches!(pm.mode, PmMode::Ondemand(_)));
    if is_ondemand && gateway.queue_limit == 0 {
        let sentence = "0 leaves a pool with pm.mode = \"ondemand\" without a worker for ever: one is started for a \
                        request that waits; write at least 1";
        table.fail(report, "queue_limit", Cause::Value(sentence.to_owned()));
    }
}

fn addresses(context: &mut Context<'_>, name: &PoolName, table: &Table<'_>) -> Option<Vec<ListenAddress>> {
    let Context { report, sockets, host, runtime_dir } = context;
    let advice = format!("write where the pool listens, such as listen = \"/run/fpmd/{name}.sock\" or 9000");
    let addresses = table.required(report, "listen", &advice, |report, item| {
        listen::read(report, item, sockets, &format!("pool '{name}'"))
    })?;
    for address in &addresses {
        let ListenAddress::Unix(path) = address else { continue };
        let parent = path.parent().unwrap_or(Path::new("/"));
        if !listen::normal(parent).starts_with(&*runtime_dir) && !host.is_directory(None, parent) {
            let sentence = format!("there is no directory '{}' for the socket", parent.display());
            table.fail(report, "listen", Cause::Value(sentence));
        }
    }
    Some(addresses)
}

fn socket_settings(
    report: &mut Report,
    table: &Table<'_>,
    listen: Option<&[ListenAddress]>,
    host: &dyn Host,
) -> SocketSettings {
    let unix = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    if listen.is_some_and(|listen| !listen.iter().any(unix)) {
        for name in UNIX_ONLY {
            if table.given(name).is_some() {
                let sentence =
                    "is for Unix sockets with a path, and this pool has none; leave it out".to_owned();
                table.fail(report, name, Cause::Value(sentence));
            }
        }
    }
    SocketSettings {
        backlog: table.value(report, "listen_backlog", |report, item| item.whole(report)),
        owner: table.optional(report, "listen_owner", |report, item| identity::owner(report, item, host)),
        group: table.optional(report, "listen_group", |report, item| identity::group(report, item, host)),
        mode: table.value(report, "listen_mode", |report, item| item.mode(report)),
        acl_users: table
            .value(report, "listen_acl_users", |report, item| identity::users(report, item, host)),
        acl_groups: table
            .value(report, "listen_acl_groups", |report, item| identity::groups(report, item, host)),
    }
}

/// Settings that mean something for Unix sockets with a path only.
pub(super) const UNIX_ONLY: [&str; 5] =
    ["listen_owner", "listen_group", "listen_mode", "listen_acl_users", "listen_acl_groups"];

/// An absolute path that is a directory inside `root`.
fn directory(report: &mut Report, item: &Item<'_>, root: Option<&Path>, host: &dyn Host) -> Option<PathBuf> {
    let path = item.path(report)?;
    if host.is_directory(root, &path) {
        return Some(path);
    }
    let inside = root.map_or(String::new(), |root| format!(" inside '{}'", root.display()));
    item.refuse(report, format!("there is no directory '{}'{inside}", path.display()))
}

fn scheduling_policy(report: &mut Report, item: &Item<'_>) -> Option<SchedulingPolicy> {
    let word = item.choice(report)?;
    SchedulingPolicy::ALL.into_iter().find(|policy| policy.as_str() == word)
}

/// `[pool.NAME.pm]`, without entries where the file has none; `None` if it is not a table.
fn pm_table<'a>(report: &mut Report, table: &Table<'a>) -> Option<Table<'a>> {
    let given = table.entries.and_then(|entries| entries.get_key_value("pm"));
    let (offset, entries) = match given.map(|(name, value)| (name.span().start, value)) {
        None => (table.offset, None),
        Some((offset, value)) => match value.get_ref() {
            DeValue::Table(inner) => (offset, Some(inner)),
            other => {
                let hint = Some(format!("write [{}.pm] with mode = \"static\"", table.path));
                let cause = Cause::Type { expected: "a table", found: type_name(other), hint };
                report.add(table.source, value.span().start, &table.key("pm"), cause);
                return None;
            }
        },
    };
    Some(Table { source: table.source, section: Section::Pm, path: table.key("pm"), offset, entries })
}

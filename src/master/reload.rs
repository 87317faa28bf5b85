//! From the configuration to the supervisor: everything is read and checked before anything changes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Master;
use super::source::Source;
use crate::config::model::{Config, Dispatch, Global, KnownWorker, Pool};
use crate::config::{self, Errors, Host};
use crate::ids::{PoolName, Ticket};
use crate::log;
use crate::os::host::Resident;
use crate::os::limits;
use crate::supervise::event::{Event, Intake, PoolPlan};

/// A checked configuration and the pools of it that are to be put in force.
#[derive(Debug)]
pub struct Change {
    config: Config,
    /// `None` is all.
    scope: Option<BTreeSet<PoolName>>,
}

impl Change {
    /// All of it, at start.
    pub fn all(config: Config) -> Change {
        Change { config, scope: None }
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// Every mistake in it.
pub fn load(source: &Source) -> Result<Config, Errors> {
    let load = |host: &dyn Host| match source {
        Source::File(path) => config::load(path, host),
        Source::Text { name, text } => config::load_text(name, text, host),
    };
    load(&Resident::prepared(|host| drop(load(host))))
}

/// Reads the configuration again for a reload of these pools; none named is all.
///
/// # Errors
/// What to tell whoever asked, a line for each reason. Nothing has changed then.
pub fn prepare(master: &Master, names: &[PoolName]) -> Result<Change, String> {
    let config = load(&master.source).map_err(|errors| errors.to_string())?;
    let scope: BTreeSet<PoolName> = names.iter().cloned().collect();
    let is_known = |name: &PoolName| {
        config.pools.contains_key(name) || master.supervisor.pools().any(|view| view.name == *name)
    };
    if let Some(unknown) = scope.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = config.pools.keys().map(PoolName::as_str).collect();
        return Err(format!("no pool is named '{unknown}'; pools: {}", known.join(", ")));
    }
    Ok(Change { config, scope: (!scope.is_empty()).then_some(scope) })
}

/// Takes the settings over and gives the event that puts them in force.
pub fn adopt(master: &mut Master, change: Change, ticket: Option<Ticket>) -> Event {
    let Change { config, scope } = change;
    let in_scope = |name: &PoolName| scope.as_ref().is_none_or(|scope| scope.contains(name));
    let removed: Vec<PoolName> = master
        .supervisor
        .pools()
        .map(|view| view.name.clone())
        .filter(|name| in_scope(name) && !config.pools.contains_key(name))
        .collect();
    for name in &removed {
        master.settings.withdraw(name);
    }
    if scope.is_none() {
        adopt_global(master, config.global);
    }
    let kill_timeout = master.global.process_control_timeout;
    let mut plans = Vec::new();
    for (name, pool) in config.pools {
        if in_scope(&name) {
            plans.push(plan(&pool, kill_timeout));
            master.settings.propose(pool);
        }
    }
    if plans.is_empty() && removed.is_empty() {
        ::log::info!("no pool is configured: add one to the configuration and run 'fpmctl reload'");
    }
    Event::Configure { plans, removed, ticket }
}

/// What the supervisor has to know of a pool.
fn plan(pool: &Pool, kill_timeout: Duration) -> PoolPlan {
    let concurrency = match &pool.dispatch {
        Dispatch::Direct => 1,
        Dispatch::Gateway(gateway) => gateway.concurrency,
    };
    PoolPlan {
        name: pool.name.clone(),
        bounds: pool.pm.bounds(concurrency, limits::cpus()),
        stop_signal: pool.stop_signal,
        stop_timeout: pool.stop_timeout,
        kill_timeout,
        start_timeout: pool.start_timeout,
        recycles: pool.known_worker == Some(KnownWorker::PhpCgi) && pool.pm.max_requests > 0,
        intake: match pool.dispatch {
            Dispatch::Direct => Intake::Shared,
            Dispatch::Gateway(_) => Intake::Gateway,
        },
    }
}

/// Global settings: logging and times change now, what is tied to paths that are open stays and says so.
fn adopt_global(master: &mut Master, new: Global) {
    let old = &master.global;
    if log::Settings::from(&new) != log::Settings::from(old)
        && let Err(error) = log::reconfigure(&log::Settings::from(&new))
    {
        ::log::error!("{error}; logging goes on as before");
    }
    for key in config::changed_until_restart(old, &new) {
        ::log::warn!("global.{key} has changed: a reload does not apply it, restart fpmd");
    }
    master.global = Global {
        control_socket: old.control_socket.clone(),
        control_group: old.control_group.clone(),
        runtime_dir: old.runtime_dir.clone(),
        pid_file: old.pid_file.clone(),
        gateway_user: old.gateway_user.clone(),
        ..new
    };
}

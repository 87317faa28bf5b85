//! From the configuration to the supervisor: everything is read and checked before anything changes.

use std::time::Duration;

use super::program::Program;
use super::source::Source;
use super::{Master, commands, globals};
use crate::config::model::{Config, Dispatch, KnownWorker, Pool};
use crate::config::{self, Errors, Host, changes};
use crate::ids::{PoolName, Signal, Ticket};
use crate::os::host::Resident;
use crate::os::limits;
use crate::policy::Heed;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervise::event::{Event, Intake, PoolPlan, Readiness};
use crate::wire::control::Extent;

/// A checked configuration and what of it is to be put in force.
#[derive(Debug)]
pub struct Change {
    config: Config,
    /// `None` is all.
    scope: Option<SortedSet<PoolName>>,
    extent: Extent,
}

impl Change {
    /// All of it, at start.
    pub fn all(config: Config) -> Change {
        Change { config, scope: None, extent: Extent::Every }
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// Every mistake in it.
pub fn load(source: &Source) -> Result<Config, Errors> {
    let load = |host: &dyn Host| match source {
        Source::File(path) => config::load(path, host),
        Source::Text { name, text } => config::load_text(name, text, host).map_err(Errors::without_positions),
    };
    load(&Resident::prepared(|host| drop(load(host))))
}

/// Reads the configuration again for a reload of these pools; none named is all.
///
/// # Errors
/// What to tell whoever asked, a line for each reason. Nothing has changed then.
fn prepare(master: &Master, names: &[PoolName], extent: Extent) -> Result<Change, String> {
    let config = load(&master.source).map_err(|errors| errors.to_string())?;
    let scope: SortedSet<PoolName> = names.iter().cloned().collect();
    let is_known = |name: &PoolName| {
        config.pools.contains_key(name) || master.supervisor.pools().any(|view| view.name == *name)
    };
    if let Some(unknown) = scope.iter().find(|name| !is_known(name)) {
        return Err(commands::unknown(unknown, config.pools.keys().map(PoolName::as_str)));
    }
    let scope = (!scope.is_empty()).then_some(scope);
    if scope.is_none() {
        let refusals = changes::needing_restart(&master.global, &config.global);
        if !refusals.is_empty() {
            return Err(refusals.join("\n"));
        }
    }
    Ok(Change { config, scope, extent })
}

/// Takes the settings over and gives the event that puts them in force.
///
/// # Errors
/// A sentence: a global setting cannot be put in force, and nothing has changed.
pub fn adopt(master: &mut Master, change: Change, ticket: Option<Ticket>) -> Result<Event, String> {
    let Change { config, scope, extent } = change;
    let in_scope = |name: &PoolName| scope.as_ref().is_none_or(|scope| scope.contains(name));
    let mut is_all_amended = false;
    if scope.is_none() {
        is_all_amended = config.global.process_control_timeout != master.global.process_control_timeout;
        globals::adopt(master, config.global)?;
    }
    let removed: Vec<PoolName> = master
        .supervisor
        .pools()
        .map(|view| view.name.clone())
        .filter(|name| in_scope(name) && !config.pools.contains_key(name))
        .collect();
    for name in &removed {
        master.settings.withdraw(name);
    }
    let kill_timeout = master.global.process_control_timeout;
    let programs = match extent {
        Extent::Every => SortedMap::default(),
        Extent::Changed => {
            Program::of_all(&config.pools.values().filter(|pool| in_scope(&pool.name)).collect::<Vec<_>>())
        }
    };
    let (mut plans, mut amended, mut unchanged) = (Vec::new(), Vec::new(), 0);
    for (_, pool) in config.pools.into_iter().filter(|(name, _)| in_scope(name)) {
        let plan = plan(&pool, kill_timeout);
        match need(master, &pool, extent, programs.get(&pool.name)) {
            Need::Nothing if !is_all_amended => {
                unchanged += 1;
                continue;
            }
            Need::Nothing | Need::Amendment => {
                master.cgroups.limit(&pool.name, &pool.resources);
                amended.push(plan);
            }
            Need::Workers => plans.push(plan),
        }
        master.settings.propose(pool);
    }
    master.watch_weight();
    if plans.is_empty() && amended.is_empty() && removed.is_empty() && unchanged == 0 {
        let place = master.source.path().map(|path| format!(" in {} and what it includes", path.display()));
        let place = place.unwrap_or_default();
        ::log::info!("no pool is configured{place}: add one, see fpmd.toml(5), and run 'fpmctl reload'");
    }
    Ok(Event::Configure { plans, amended, removed, ticket })
}

impl Master {
    /// Reads the configuration again for these pools (none is all) and gives the event that puts it in force.
    ///
    /// # Errors
    /// What to tell whoever asked, a line for each reason. Nothing has changed then.
    pub(super) fn reload(
        &mut self,
        names: &[PoolName],
        extent: Extent,
        ticket: Option<Ticket>,
    ) -> Result<Event, String> {
        let change = prepare(self, names, extent)?;
        self.catch_up();
        adopt(self, change, ticket)
    }
}

/// What a pool needs for its new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// They can be put in force with the workers that run.
    Amendment,
    /// New workers.
    Workers,
}

/// What a pool needs whose command is made of these files now.
fn need(master: &Master, new: &Pool, extent: Extent, program: Option<&Program>) -> Need {
    let name = &new.name;
    let (Some(old), Some(generation)) = (master.settings.current(name), master.settings.generation(name))
    else {
        return Need::Workers;
    };
    match (extent, changes::of_pool(&old, new)) {
        (Extent::Every, _) | (Extent::Changed, changes::Change::Generation(_)) => Need::Workers,
        (Extent::Changed, change) => {
            let started_from = master.programs.get(&(name.clone(), generation));
            let is_same = started_from.is_none() || program == started_from;
            match change {
                _ if !is_same => Need::Workers,
                changes::Change::None => Need::Nothing,
                changes::Change::Live(_) | changes::Change::Generation(_) => Need::Amendment,
            }
        }
    }
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
        heed: heed(pool),
        stop_timeout: pool.stop_timeout,
        kill_timeout,
        start_timeout: pool.start_timeout,
        recycles: pool.known_worker == Some(KnownWorker::PhpCgi) && pool.pm.max_requests > 0,
        max_lifetime: pool.pm.max_lifetime,
        intake: match pool.dispatch {
            Dispatch::Direct => Intake::Shared,
            Dispatch::Gateway(_) => Intake::Gateway,
        },
        readiness: match &pool.dispatch {
            Dispatch::Gateway(gateway) if gateway.warmup_path.is_some() => Readiness::Warmed,
            Dispatch::Gateway(_) | Dispatch::Direct => Readiness::Seen,
        },
    }
}

/// php-cgi's handler of SIGTERM only notes that no further request is wanted.
fn heed(pool: &Pool) -> Heed {
    match pool.known_worker {
        Some(KnownWorker::PhpCgi) if pool.stop_signal == Signal::TERM => Heed::Finishes,
        Some(KnownWorker::PhpCgi) | None => Heed::Unknown,
    }
}

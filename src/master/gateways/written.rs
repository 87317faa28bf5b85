//! Gateways on their way to a new master: their processes, the way to talk to them, their log files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::passage::{Course, Doors, Past};
use super::process::Process;
use super::settings::Logs;
use super::{Gateway, Gateways, Handing, State, Undelivered};
use crate::config::model::{Pool, User};
use crate::event;
use crate::event::token::Token;
use crate::ids::{Generation, Moment, Pid, PoolName, WorkerId};
use crate::os::handover::{Estate, Heirloom};
use crate::os::socket::Error;
use crate::sorted::{SortedMap, SortedSet};
use crate::wire::gateway::{Facts, Load, Report};

/// Every gateway.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    pools: SortedMap<PoolName, WrittenGateway>,
    leaving: Vec<WrittenProcess>,
    handing: Vec<WrittenHanding>,
    #[serde(default)]
    past: SortedMap<PoolName, Past>,
    last: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenHanding {
    pool: PoolName,
    process: WrittenProcess,
    workers: SortedSet<WorkerId>,
    #[serde(default)]
    served: SortedMap<WorkerId, u64>,
    load: Load,
    asked: bool,
    #[serde(default)]
    course: Course,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenGateway {
    generation: Generation,
    #[serde(default)]
    doors: Doors,
    access_log: Option<Heirloom>,
    slow_log: Option<Heirloom>,
    facts: Facts,
    start_time: i64,
    state: WrittenState,
    delay: Duration,
    clients: Vec<Heirloom>,
    counts: Option<Report>,
}

#[derive(Debug, Serialize, Deserialize)]
enum WrittenState {
    Running(WrittenProcess),
    Stopping(WrittenProcess),
    Resting { until: Moment },
    Stopped,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenProcess {
    number: u64,
    pid: Pid,
    channel: Heirloom,
    since: Moment,
}

impl Gateways {
    /// Whether a gateway has still to read something that was told before: that cannot be handed over.
    pub fn is_any_behind(&self) -> bool {
        self.processes().any(|process| !process.channel.is_flushed())
    }

    /// Hands all of them over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Written {
        let mut pools = SortedMap::new();
        for (pool, gateway) in &self.pools {
            pools.insert(pool.clone(), gateway.bequeath(estate));
        }
        let leaving = self.leaving.values().map(|process| process.bequeath(estate)).collect();
        let handing = self.handing.values().map(|one| WrittenHanding {
            pool: one.pool.clone(),
            process: one.process.bequeath(estate),
            workers: one.workers.keys().copied().collect(),
            served: one.workers.clone(),
            load: one.load,
            asked: one.asked,
            course: one.course,
        });
        let handing = handing.collect();
        Written { pools, leaving, handing, past: self.past.clone(), last: self.last }
    }

    /// Takes them over. `settings` gives those of a generation.
    ///
    /// # Errors
    /// A sentence: a descriptor was not handed over.
    pub fn claim(
        written: Written,
        user: Option<User>,
        settings: impl Fn(&PoolName, Generation) -> Option<Arc<Pool>>,
    ) -> Result<Gateways, String> {
        let text = |error: Error| error.to_string();
        let mut gateways = Gateways { last: written.last, past: written.past, ..Gateways::new(user) };
        for (pool, gateway) in written.pools {
            let Some(settings) = settings(&pool, gateway.generation) else { continue };
            gateways.pools.insert(pool, Gateway::claim(gateway, settings).map_err(text)?);
        }
        for process in written.leaving {
            gateways.leaving.insert(process.number, Process::claim(process).map_err(text)?);
        }
        for WrittenHanding { pool, process, workers, served, load, asked, course } in written.handing {
            let process = Process::claim(process).map_err(text)?;
            let known = |worker| (worker, served.get(&worker).copied().unwrap_or(0));
            let workers = workers.into_iter().map(known).collect();
            let handing = Handing { pool, process, workers, load, asked, course };
            gateways.handing.insert(handing.process.number, handing);
        }
        Ok(gateways)
    }

    /// Watches what they say.
    ///
    /// # Errors
    /// No memory or watch is left.
    pub fn watch(&self, registry: &Registry) -> io::Result<()> {
        self.processes().try_for_each(|process| {
            event::watch_both_ways(registry, process.channel.as_fd(), Token::Gateway(process.number))
        })
    }

    /// Those that nobody needs any more.
    pub fn leaving(&self) -> impl Iterator<Item = u64> {
        self.leaving.keys().copied()
    }
}

impl Written {
    /// Whether there is any pool with a gateway.
    pub fn is_any(&self) -> bool {
        !self.pools.is_empty() || !self.handing.is_empty()
    }
}

impl Gateway {
    fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> WrittenGateway {
        let mut log = |file: &'a Option<File>| file.as_ref().map(|file| estate.leave(file.as_fd()));
        WrittenGateway {
            generation: self.generation,
            doors: self.doors,
            access_log: log(&self.logs.access),
            slow_log: log(&self.logs.slow),
            facts: self.facts.clone(),
            start_time: self.start_time,
            state: match &self.state {
                State::Running(process) => WrittenState::Running(process.bequeath(estate)),
                State::Stopping(process) => WrittenState::Stopping(process.bequeath(estate)),
                State::Resting { until } => WrittenState::Resting { until: *until },
                State::Stopped => WrittenState::Stopped,
            },
            delay: self.delay,
            clients: self.undelivered.clients.iter().map(|client| estate.leave(client.as_fd())).collect(),
            counts: self.undelivered.counts.clone(),
        }
    }

    fn claim(written: WrittenGateway, settings: Arc<Pool>) -> Result<Gateway, Error> {
        let file = |log: Option<Heirloom>| log.map(|log| log.claim().map(File::from)).transpose();
        Ok(Gateway {
            settings,
            generation: written.generation,
            doors: written.doors,
            logs: Logs { access: file(written.access_log)?, slow: file(written.slow_log)? },
            memory_peak: written.facts.memory_peak,
            facts: written.facts,
            start_time: written.start_time,
            state: match written.state {
                WrittenState::Running(process) => State::Running(Process::claim(process)?),
                WrittenState::Stopping(process) => State::Stopping(Process::claim(process)?),
                WrittenState::Resting { until } => State::Resting { until },
                WrittenState::Stopped => State::Stopped,
            },
            successor: None,
            undelivered: Undelivered {
                clients: written.clients.into_iter().map(Heirloom::claim).collect::<Result<_, _>>()?,
                counts: written.counts,
            },
            delay: written.delay,
        })
    }
}

impl Process {
    fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> WrittenProcess {
        let channel = estate.leave(self.channel.as_fd());
        WrittenProcess { number: self.number, pid: self.pid, channel, since: self.since }
    }

    fn claim(written: WrittenProcess) -> Result<Process, Error> {
        let WrittenProcess { number, pid, channel, since } = written;
        let channel = Channel::claim(channel.claim()?);
        Ok(Process { number, pid, channel, report: None, since, untaken: 0 })
    }
}

//! The gateways: one process for each pool that has one, kept running, told everything again when it had to be started
//! again. Owns their processes and the log files that they write; what is heard from them is for `routing` to judge.
//!
//! A gateway that dies takes the requests in it along and nothing else: the listening sockets, the slots and the workers are
//! the master's. One that is told to stop serves what it has and ends by itself, within a time.

mod channel;
mod ends;
mod hearing;
mod passage;
mod process;
mod settings;
mod succession;
mod telling;
mod written;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub use self::ends::End;
pub use self::hearing::{Role, Said};
use self::passage::Past;
pub use self::passage::{Course, Doors};
use self::process::{Process, Program};
use self::settings::Logs;
pub use self::settings::facts;
use self::succession::{Handing, Undelivered};
pub use self::telling::World;
pub use self::written::Written;
use crate::config::model::{Gateway as Options, Pool, User};
use crate::ids::{Generation, Moment, Pid, PoolName, WorkerId};
use crate::policy::backoff::{CEILING, next_delay};
use crate::sorted::SortedMap;
use crate::wire::gateway::{Facts, MAX_DESCRIPTORS, ToGateway};

/// How long a gateway may take to end that nobody needs any more.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Every gateway.
#[derive(Debug)]
pub struct Gateways {
    user: Option<User>,
    pools: SortedMap<PoolName, Gateway>,
    /// Those that were replaced, or whose pool has stopped.
    leaving: SortedMap<u64, Process>,
    /// Those that hand over to a successor.
    handing: SortedMap<u64, Handing>,
    /// What pools without one have from one that they had.
    past: SortedMap<PoolName, Past>,
    last: u64,
}

/// The gateway of one pool, over all its processes.
#[derive(Debug)]
struct Gateway {
    /// In force.
    settings: Arc<Pool>,
    generation: Generation,
    logs: Logs,
    facts: Facts,
    /// The most memory that a worker had which has ended, bytes.
    memory_peak: u64,
    /// The pool's start, seconds since the epoch.
    start_time: i64,
    state: State,
    /// Whether it accepts on the pool's sockets.
    doors: Doors,
    /// Of a newer program; it is the gateway once it serves.
    successor: Option<Process>,
    undelivered: Undelivered,
    /// The delay before the last start, while it keeps dying.
    delay: Duration,
}

#[derive(Debug)]
enum State {
    /// It serves.
    Running(Process),
    /// It serves what it has, and then ends.
    Stopping(Process),
    /// The next start waits until then.
    Resting { until: Moment },
    /// It has ended as it was told to.
    Stopped,
}

/// What is known of a gateway's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It serves.
    Running,
    /// It serves what it has.
    Stopping,
    /// There is none.
    Absent,
}

/// Looks for the program that gateways are started from.
///
/// # Errors
/// A sentence that names where it was looked for.
pub fn find_program() -> Result<(), String> {
    Program::find().map(drop)
}

/// Whether there is a program to start gateways from.
pub fn is_installed() -> bool {
    Program::find().is_ok()
}

impl Gateways {
    /// None yet. They run as `user`, or as we do.
    pub fn new(user: Option<User>) -> Gateways {
        let (pools, leaving, handing) = (SortedMap::new(), SortedMap::new(), SortedMap::new());
        Gateways { user, pools, leaving, handing, past: SortedMap::new(), last: 0 }
    }

    /// The processes of all.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.processes().map(|process| process.pid)
    }

    /// Whether any process is left.
    pub fn is_anyone_left(&self) -> bool {
        self.processes().next().is_some()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let successors = self.pools.values().filter_map(|gateway| gateway.successor.as_ref());
        let handing = self.handing.values().map(|handing| &handing.process);
        let current = self.pools.values().filter_map(Gateway::process);
        current.chain(successors).chain(handing).chain(self.leaving.values())
    }

    /// The pools that have one.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        self.pools.keys()
    }

    /// What the pool's gateway is doing.
    pub fn condition(&self, pool: &PoolName) -> Condition {
        match self.pools.get(pool).map(|gateway| &gateway.state) {
            Some(State::Running(_)) => Condition::Running,
            Some(State::Stopping(_)) => Condition::Stopping,
            Some(State::Resting { .. } | State::Stopped) | None => Condition::Absent,
        }
    }

    /// What the gateway that has this worker is doing.
    pub fn condition_for(&self, pool: &PoolName, worker: WorkerId) -> Condition {
        match self.keeper_course(pool, worker) {
            // What waits there needs its workers: nobody else serves it.
            Some(Course::RunningOut) => Condition::Stopping,
            Some(Course::Succeeded) | None if self.condition(pool) != Condition::Absent => {
                self.condition(pool)
            }
            Some(Course::Succeeded) => Condition::Running,
            None => Condition::Absent,
        }
    }

    /// Its process.
    pub fn pid(&self, pool: &PoolName) -> Option<Pid> {
        self.pools.get(pool)?.process().map(|process| process.pid)
    }

    /// The pool whose gateway this process is.
    pub fn pool_of(&self, pid: Pid) -> Option<PoolName> {
        let is_its = |gateway: &Gateway| gateway.process().is_some_and(|process| process.pid == pid);
        self.pools.iter().find(|(_, gateway)| is_its(gateway)).map(|(pool, _)| pool.clone())
    }

    /// The number of this process.
    pub fn number(&self, pid: Pid) -> Option<u64> {
        self.processes().find(|process| process.pid == pid).map(|process| process.number)
    }

    /// Whose settings are in force.
    pub fn generation(&self, pool: &PoolName) -> Option<Generation> {
        self.pools.get(pool).map(|gateway| gateway.generation)
    }

    /// A worker has ended that had so much memory at most, bytes.
    pub fn note_memory(&mut self, pool: &PoolName, peak: u64) {
        if let Some(gateway) = self.pools.get_mut(pool) {
            gateway.memory_peak = gateway.memory_peak.max(peak);
        }
    }

    /// The most memory that a worker of the pool had which has ended, bytes.
    pub fn memory_peak(&self, pool: &PoolName) -> u64 {
        self.pools.get(pool).map_or(0, |gateway| gateway.memory_peak)
    }

    /// Puts settings in force, checked as far as that can be: its log files are open and its program is there. Whether its
    /// process has to be started is the caller's to see by `condition`. A new one has these `doors`.
    ///
    /// # Errors
    /// A sentence; everything is as it was.
    pub fn adopt(
        &mut self,
        settings: &Arc<Pool>,
        options: &Options,
        generation: Generation,
        (doors, start_time): (Doors, i64),
    ) -> Result<(), String> {
        const LOGS: usize = 2;
        let most = MAX_DESCRIPTORS - LOGS;
        if settings.listen.len() > most {
            return Err(format!("a gateway listens on {most} addresses at most"));
        }
        let logs = Logs::open(options)?;
        Program::find()?;
        let settings = Arc::clone(settings);
        match self.pools.get_mut(&settings.name) {
            Some(gateway) => {
                gateway.settings = settings;
                gateway.generation = generation;
                gateway.logs = logs;
                if let State::Stopping(_) | State::Stopped = gateway.state {
                    // It was told to stop, and this one cannot be told otherwise.
                    let mut old = std::mem::replace(&mut gateway.state, AT_ONCE);
                    if let State::Stopping(process) = &mut old {
                        // The next one accepts from now on. One that cannot be told has ended.
                        let _ = process.channel.send(&ToGateway::Shut, &[]);
                    }
                    self.leave(old);
                }
            }
            None => {
                let past = self.past.remove(&settings.name).unwrap_or_default();
                let gateway = Gateway {
                    logs,
                    facts: Facts::default(),
                    memory_peak: past.memory_peak,
                    start_time: past.start_time.unwrap_or(start_time),
                    generation,
                    state: AT_ONCE,
                    doors,
                    successor: None,
                    undelivered: Undelivered { counts: past.counts, ..Undelivered::default() },
                    delay: Duration::ZERO,
                    settings: Arc::clone(&settings),
                };
                self.pools.insert(settings.name.clone(), gateway);
            }
        }
        Ok(())
    }

    /// Starts the process of a pool that has none; its number and what it logs.
    ///
    /// # Errors
    /// A sentence; it is to be tried again later.
    pub fn start(
        &mut self,
        pool: &PoolName,
        cgroups: &mut super::cgroups::Cgroups,
        log: &super::spawning::Pipe,
    ) -> Result<(u64, Pid), String> {
        let gateway = self.pools.get_mut(pool).ok_or("it has no gateway")?;
        self.last += 1;
        let process = Program::find()?.start(self.last, pool, self.user.as_ref(), log, cgroups)?;
        let started = (process.number, process.pid);
        gateway.state = State::Running(process);
        Ok(started)
    }

    /// The descriptor of a process's channel, to be watched.
    pub fn channel(&self, number: u64) -> Option<BorrowedFd<'_>> {
        self.processes().find(|process| process.number == number).map(|process| process.channel.as_fd())
    }

    /// Has the pool's gateway take no more connections and end when it has served what waits; false if there is none.
    pub fn stop(&mut self, pool: &PoolName, within: Duration) -> bool {
        self.tell(pool, &ToGateway::Stop { within });
        self.tell_handing(pool, &ToGateway::Stop { within });
        let Some(gateway) = self.pools.get_mut(pool) else { return false };
        gateway.state = match std::mem::replace(&mut gateway.state, State::Stopped) {
            State::Running(process) | State::Stopping(process) => State::Stopping(process),
            State::Resting { .. } | State::Stopped => State::Stopped,
        };
        matches!(gateway.state, State::Stopping(_))
    }

    /// The pool has no gateway any more; a process that still has something to say may say it. The numbers of those.
    pub fn close(&mut self, pool: &PoolName) -> Vec<u64> {
        // No worker is left: what still waits is refused now.
        self.stop(pool, Duration::ZERO);
        self.tell(pool, &ToGateway::Shut);
        self.past.remove(pool);
        let mut left = Vec::new();
        if let Some(gateway) = self.pools.remove(pool) {
            left.extend(self.leave(gateway.state));
            left.extend(self.leave_unwanted(gateway.successor));
        }
        let handing: Vec<u64> =
            self.handing.iter().filter(|(_, one)| one.pool == *pool).map(|(n, _)| *n).collect();
        for number in handing {
            if let Some(Handing { process, .. }) = self.handing.remove(&number) {
                left.extend(self.leave(State::Stopping(process)));
            }
        }
        left
    }

    fn leave_unwanted(&mut self, successor: Option<Process>) -> Option<u64> {
        let successor = successor?;
        successor.kill();
        self.leave(State::Stopping(successor))
    }

    fn leave(&mut self, state: State) -> Option<u64> {
        match state {
            State::Running(process) | State::Stopping(process) => {
                let number = process.number;
                self.leaving.insert(number, process);
                Some(number)
            }
            State::Resting { .. } | State::Stopped => None,
        }
    }

    /// Kills this process; what follows from its end follows.
    pub fn kill_process(&mut self, number: u64) {
        if let Some(process) = self.process_mut(number) {
            process.kill();
        }
    }

    /// Its time is up.
    pub fn kill(&mut self, number: u64) {
        if let Some(process) = self.leaving.get(&number) {
            log::warn!("gateway {} is still there after {PATIENCE:?}, sending SIGKILL", process.pid);
            process.kill();
        }
    }

    /// A start has failed: the next one waits.
    pub fn rest(&mut self, pool: &PoolName, now: Moment) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        gateway.delay = next_delay(gateway.delay, CEILING);
        gateway.state = State::Resting { until: now.after(gateway.delay) };
    }

    /// The pools whose gateway is to be started now.
    pub fn due(&self, now: Moment) -> Vec<PoolName> {
        let is_due = |gateway: &Gateway| gateway.rests_until().is_some_and(|until| until <= now);
        self.pools.iter().filter(|(_, gateway)| is_due(gateway)).map(|(pool, _)| pool.clone()).collect()
    }

    /// Until when the pool has no gateway, as they keep ending.
    pub fn rests_until(&self, pool: &PoolName) -> Option<Moment> {
        self.pools.get(pool)?.rests_until()
    }

    /// When the next one is to be started.
    pub fn next_start(&self) -> Option<Moment> {
        self.pools.values().filter_map(Gateway::rests_until).min()
    }
}

#[cfg(test)]
impl Gateways {
    /// A process that nobody needs any more, and its end of the channel.
    pub fn with_leaving(&mut self, number: u64, registry: &mio::Registry) -> std::os::fd::OwnedFd {
        let (channel, theirs) = channel::Channel::open().unwrap();
        // More than there can be: nobody is killed for it.
        let pid = Pid::new(i32::MAX).unwrap();
        let since = Moment(Duration::ZERO);
        let process = Process { number, pid, channel, report: None, since, untaken: 0 };
        crate::event::watch_both_ways(
            registry,
            process.channel.as_fd(),
            crate::event::token::Token::Gateway(number),
        )
        .unwrap();
        self.leaving.insert(number, process);
        theirs
    }
}

impl Gateway {
    fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Running(process) | State::Stopping(process) => Some(process),
            State::Resting { .. } | State::Stopped => None,
        }
    }

    fn rests_until(&self) -> Option<Moment> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Running(_) | State::Stopping(_) | State::Stopped => None,
        }
    }
}

/// No reason to wait.
const AT_ONCE: State = State::Resting { until: Moment(Duration::ZERO) };

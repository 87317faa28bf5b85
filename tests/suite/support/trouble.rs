//! What an operator, a package or fate does to a running fpmd, each so that it has happened for certain when `make`
//! returns; and which requests it may cost: those that were inside a process when it got SIGKILL, and no others.
//!
//! For static pools with gateways, under traffic: some troubles wait until requests have come.

use std::thread;
use std::time::Instant;

use fpmd::status::snapshot::PoolSnapshot;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::daemon::{Fpmd, Pool};
use super::traffic::Sample;
use super::{wait_until, workers};

/// Pieces of the warnings that belong to troubles.
pub const WARNINGS: [&str; 13] = [
    "exited on signal 9",
    "exited with code 3",
    "no such database",
    "cannot reload",
    "cannot start pool",
    "reload refused",
    "gateway",
    "closed its connection before its answer was complete",
    "end young",
    "ending young",
    "server reached pm.max_children setting",
    "after its answer, terminating",
    "after SIGTERM",
];

/// Requests of a crowd, and how long each of them takes, milliseconds.
const CROWD: (u32, u32) = (6, 300);

/// One trouble, for all pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// `fpmctl reload`.
    Reload,
    /// A reload with a configuration file that is none.
    BadFile,
    /// A reload with a program that does not start.
    BadWorker,
    /// `fpmctl upgrade`.
    Upgrade,
    /// `fpmctl scale`, up and down and back.
    Scale,
    /// Workers are replaced.
    Recycle(Reason),
    /// The access logs are rotated.
    Reopen,
    /// SIGKILL for a worker of each pool, whatever it does.
    KillWorkers,
    /// SIGKILL for a worker of each pool that has a request.
    KillBusyWorkers,
    /// SIGKILL for each pool's gateway.
    KillGateways,
}

/// Why workers are replaced with which nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `max_requests`.
    Requests,
    /// `max_lifetime`.
    Lifetime,
    /// `max_memory`.
    Memory,
    /// `process_idle_timeout`, after a crowd.
    Idle,
    /// `request_finish_timeout`, where a worker can go on after its answer.
    Finishing,
    /// `fpmctl drain`.
    Drained,
}

impl Trouble {
    /// Each once, the mild ones between the hard ones.
    pub const ALL: [Trouble; 15] = [
        Trouble::Reload,
        Trouble::Recycle(Reason::Requests),
        Trouble::BadFile,
        Trouble::KillBusyWorkers,
        Trouble::Recycle(Reason::Memory),
        Trouble::BadWorker,
        Trouble::Upgrade,
        Trouble::Recycle(Reason::Lifetime),
        Trouble::Scale,
        Trouble::KillWorkers,
        Trouble::Recycle(Reason::Finishing),
        Trouble::Recycle(Reason::Idle),
        Trouble::KillGateways,
        Trouble::Reopen,
        Trouble::Recycle(Reason::Drained),
    ];
}

/// Who was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Worker,
    Gateway,
}

/// A process that was killed, with what it may have taken along.
#[derive(Debug, Clone)]
pub struct Kill {
    /// By its place among the pools.
    pub pool: usize,
    pub victim: Victim,
    before: Instant,
    after: Instant,
}

impl Kill {
    /// Kills a process; `None` if there is none with this pid.
    pub fn make(pool: usize, victim: Victim, pid: i32) -> Option<Kill> {
        let before = Instant::now();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).ok()?;
        Some(Kill { pool, victim, before, after: Instant::now() })
    }

    /// Whether this request was in the pool when the process was killed.
    pub fn explains(&self, sample: &Sample) -> bool {
        sample.pool == self.pool && sample.began <= self.after && self.before <= sample.ended
    }
}

/// Makes troubles for pools, and remembers whom it has killed. What the pools' access logs have written before a rotation is
/// in `NAME.access.1` and so on.
pub struct Troubles {
    pools: Vec<Pool>,
    pub kills: Vec<Kill>,
    rotations: usize,
}

impl Troubles {
    /// For an fpmd that was started with these pools.
    pub fn new(pools: Vec<Pool>) -> Troubles {
        Troubles { pools, kills: Vec::new(), rotations: 0 }
    }

    /// Makes this trouble, and leaves the configuration as it was.
    #[track_caller]
    pub fn make(&mut self, trouble: Trouble, fpmd: &mut Fpmd) {
        match trouble {
            Trouble::Reload => drop(fpmd.ctl_done(&["reload"])),
            Trouble::BadFile => self.reload_bad_file(fpmd),
            Trouble::BadWorker => self.reload_bad_worker(fpmd),
            Trouble::Upgrade => drop(fpmd.ctl_done(&["upgrade"])),
            Trouble::Scale => self.scale(fpmd),
            Trouble::Recycle(Reason::Drained) => self.drain(fpmd),
            Trouble::Recycle(Reason::Finishing) => self.finish_late(fpmd),
            Trouble::Recycle(reason) => self.recycle(reason, fpmd),
            Trouble::Reopen => self.reopen(fpmd),
            Trouble::KillWorkers => self.kill_workers(fpmd),
            Trouble::KillBusyWorkers => self.kill_busy_workers(fpmd),
            Trouble::KillGateways => self.kill_gateways(fpmd),
        }
    }

    /// The kill that may have cost this request.
    pub fn explanation(&self, sample: &Sample) -> Option<&Kill> {
        self.kills.iter().find(|kill| kill.explains(sample))
    }

    fn reload_bad_file(&self, fpmd: &mut Fpmd) {
        fpmd.rig.dir.write("fpmd.toml", "[pool.php\nthis is no TOML");
        let ran = fpmd.ctl(&["reload"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        fpmd.rewrite(&self.pools);
    }

    fn reload_bad_worker(&self, fpmd: &mut Fpmd) {
        let broken = format!("{:?}", workers::shell("echo 'no such database' >&2; exit 3"));
        let pools: Vec<Pool> = self.pools.iter().map(|pool| pool.clone().key("command", &broken)).collect();
        fpmd.rewrite(&pools);
        let ran = fpmd.ctl(&["reload"]);
        assert!(ran.code == Some(1) && ran.err.contains("no such database"), "{ran:?}");
        fpmd.rewrite(&self.pools);
    }

    fn scale(&self, fpmd: &Fpmd) {
        for workers in [|usual| usual * 2, |_| 1, |usual: u32| usual] {
            for pool in &self.pools {
                fpmd.ctl_done(&["scale", pool.name(), &workers(pool.number()).to_string()]);
            }
        }
    }

    /// One worker of each pool is replaced for this reason at least; of some pool, where that is up to the traffic.
    #[track_caller]
    fn recycle(&self, reason: Reason, fpmd: &mut Fpmd) {
        let before: Vec<u64> =
            self.pools.iter().map(|pool| reason.count(&fpmd.pool(pool.name())).unwrap_or(0)).collect();
        let hasty: Vec<Pool> = self.pools.iter().map(|pool| reason.hasten(pool)).collect();
        fpmd.rewrite(&hasty);
        fpmd.ctl_done(&["reload", "--changed"]);
        if reason == Reason::Idle {
            self.crowd(fpmd);
        }
        let what = format!("a worker replaced for {reason:?}");
        let happened = |pool: &PoolSnapshot, before| reason.count(pool).is_some_and(|now| now > before);
        if reason == Reason::Idle {
            // Where all clients wait for one slow pool nobody is idle there, but then others are.
            wait_until(&what, || {
                let mut pools = self.pools.iter().zip(&before);
                pools.any(|(pool, before)| happened(&fpmd.pool(pool.name()), *before))
            });
        } else {
            for (pool, before) in self.pools.iter().zip(before) {
                fpmd.wait_pool(pool.name(), &what, |pool| happened(pool, before));
            }
        }
        fpmd.rewrite(&self.pools);
        fpmd.ctl_done(&["reload", "--changed"]);
    }

    /// More requests at once than there are workers, none of which is lost.
    #[track_caller]
    fn crowd(&self, fpmd: &Fpmd) {
        let (number, millis) = CROWD;
        let one = |pool: &Pool| {
            let (address, script) = (fpmd.address(pool.name()), workers::script_of(pool.name()));
            thread::spawn(move || address.get_from(&script, &format!("/slow/{millis}")))
        };
        let crowd: Vec<_> = self.pools.iter().flat_map(|pool| (0..number).map(move |_| one(pool))).collect();
        for request in crowd {
            let answer = request.join().unwrap().unwrap();
            assert!(!answer.head.starts_with("Status: 5") && !answer.body.is_empty(), "{answer:?}");
        }
    }

    /// A worker of each pool that can goes on after its answer, and is ended for that.
    #[track_caller]
    fn finish_late(&self, fpmd: &mut Fpmd) {
        let able = |pool: &&Pool| ["c", "perl"].contains(&pool.name());
        let hasten = |pool: &Pool| pool.clone().key("request_finish_timeout", "\"100ms\"");
        fpmd.rewrite(&self.pools.iter().map(hasten).collect::<Vec<Pool>>());
        fpmd.ctl_done(&["reload", "--changed"]);
        for pool in self.pools.iter().filter(able) {
            let pid = fpmd.address(pool.name()).get("/finish/60000").unwrap().text();
            fpmd.wait_pool(pool.name(), "the end of one that goes on", |pool| {
                !pool.workers.iter().any(|worker| worker.pid.to_string() == pid)
            });
            assert!(fpmd.log().contains(&format!("child {pid}, it went on for")), "{}", fpmd.log());
        }
        fpmd.rewrite(&self.pools);
        fpmd.ctl_done(&["reload", "--changed"]);
    }

    fn drain(&self, fpmd: &Fpmd) {
        for pool in &self.pools {
            wait_until("a drained worker", || {
                // One that was seen may have been recycled since.
                let worker = fpmd.workers(pool.name()).pop();
                worker.is_some_and(|pid| fpmd.ctl(&["drain", &pid.to_string()]).code == Some(0))
            });
        }
    }

    fn reopen(&mut self, fpmd: &Fpmd) {
        self.rotations += 1;
        let logs = self.pools.iter().map(|pool| fpmd.rig.dir.join(&format!("{}.access", pool.name())));
        let logs: Vec<_> = logs.filter(|log| log.exists()).collect();
        for log in &logs {
            std::fs::rename(log, log.with_extension(format!("access.{}", self.rotations))).unwrap();
        }
        fpmd.ctl_done(&["reopen"]);
        wait_until("the new access logs", || logs.iter().all(|log| log.exists()));
    }

    fn kill_workers(&mut self, fpmd: &Fpmd) {
        for index in 0..self.pools.len() {
            wait_until("a worker to kill", || {
                let worker = fpmd.workers(self.pools[index].name()).first().copied();
                worker.is_some_and(|pid| self.kill(index, Victim::Worker, pid))
            });
        }
    }

    /// Until a request was in a killed worker for certain: one may have ended between a look and the kill.
    fn kill_busy_workers(&mut self, fpmd: &Fpmd) {
        for index in 0..self.pools.len() {
            let name = self.pools[index].name().to_owned();
            if name == "flup-forking" {
                continue; // its requests are in children of its own, which go on
            }
            let hit = |pool: &PoolSnapshot| pool.gateway.as_ref().map_or(0, |it| it.broken + it.retried);
            let before = hit(&fpmd.pool(&name));
            let mut victim = None;
            fpmd.wait_pool(&name, "a request in a killed worker", |pool| {
                let is_there = |pid| pool.workers.iter().any(|worker| worker.pid.as_raw() == pid);
                let busy = || pool.workers.iter().find(|worker| worker.connections > Some(0));
                if victim.is_none_or(|pid| !is_there(pid)) && hit(pool) == before {
                    let pid = busy().map(|worker| worker.pid.as_raw());
                    victim = pid.filter(|pid| self.kill(index, Victim::Worker, *pid));
                }
                hit(pool) > before
            });
        }
    }

    fn kill_gateways(&mut self, fpmd: &Fpmd) {
        for index in 0..self.pools.len() {
            wait_until("a gateway to kill", || {
                let gateway = fpmd.pool(self.pools[index].name()).gateway;
                gateway.is_some_and(|gateway| self.kill(index, Victim::Gateway, gateway.pid.as_raw()))
            });
        }
    }

    /// Whether there was such a process.
    fn kill(&mut self, pool: usize, victim: Victim, pid: i32) -> bool {
        let kill = Kill::make(pool, victim, pid);
        let there = kill.is_some();
        self.kills.extend(kill);
        there
    }
}

impl Reason {
    /// The pool with settings by which this happens soon.
    fn hasten(self, pool: &Pool) -> Pool {
        let pool = pool.clone();
        match self {
            Reason::Requests => pool.pm("max_requests", "3"),
            Reason::Lifetime => pool.pm("max_lifetime", "\"300ms\""),
            Reason::Memory => pool.pm("max_memory", "\"1K\""),
            Reason::Idle => {
                // More than there are clients: where everybody is busy nobody is idle.
                let most = pool.number() * 16;
                let pool = pool.mode("dynamic").workers(most).pm("process_idle_timeout", "\"200ms\"");
                pool.pm("min_spare_servers", "1").pm("max_spare_servers", "1")
            }
            Reason::Finishing | Reason::Drained => pool,
        }
    }

    /// How many workers were replaced for it. Python's may not heed their stop signal, and then count as killed.
    fn count(self, pool: &PoolSnapshot) -> Option<u64> {
        let is_deaf = pool.name.as_str().starts_with("fl");
        let recycled = match self {
            Reason::Requests => pool.recycled_requests,
            Reason::Lifetime => pool.recycled_lifetime,
            Reason::Memory => pool.recycled_memory,
            Reason::Idle => pool.recycled_idle,
            Reason::Finishing | Reason::Drained => return None,
        };
        Some(recycled + if is_deaf { pool.killed } else { 0 })
    }
}

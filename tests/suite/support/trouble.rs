//! What an operator, a package or fate does to a running fpmd, each so that it has happened for certain when `make`
//! returns; and which requests it may cost: those that were inside a process when it got SIGKILL, and no others.

use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::daemon::{Fpmd, Pool};
use super::traffic::Sample;
use super::{wait_until, workers};

/// Pieces of the warnings that belong to troubles.
pub const WARNINGS: [&str; 8] = [
    "exited on signal 9",
    "exited with code 3",
    "no such database",
    "cannot reload",
    "cannot start pool",
    "reload refused",
    "gateway",
    "closed its connection before its answer was complete",
];

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
    /// The access logs are rotated.
    Reopen,
    /// SIGKILL for a worker of each pool.
    KillWorkers,
    /// SIGKILL for each pool's gateway.
    KillGateways,
}

impl Trouble {
    /// Each once, the mild ones between the hard ones.
    pub const ALL: [Trouble; 8] = [
        Trouble::Reload,
        Trouble::BadFile,
        Trouble::KillWorkers,
        Trouble::BadWorker,
        Trouble::Upgrade,
        Trouble::Scale,
        Trouble::KillGateways,
        Trouble::Reopen,
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
            Trouble::Reopen => self.reopen(fpmd),
            Trouble::KillWorkers => self.kill_workers(fpmd),
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
        for pool in &self.pools {
            let usual = pool.number();
            for workers in [usual * 2, 1, usual] {
                fpmd.ctl_done(&["scale", pool.name(), &workers.to_string()]);
            }
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
            // One that was seen may have been recycled since.
            wait_until("a worker to kill", || {
                let worker = fpmd.workers(self.pools[index].name()).first().copied();
                worker.is_some_and(|pid| self.kill(index, Victim::Worker, pid))
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
        let before = Instant::now();
        let killed = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        if killed {
            self.kills.push(Kill { pool, victim, before, after: Instant::now() });
        }
        killed
    }
}

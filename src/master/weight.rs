//! The memory that workers of direct pools keep: looked at now and then, judged while they are idle, since a request may need
//! more for itself. Where there is a gateway, that looks at the end of each answer instead.

use std::time::Duration;

use super::Master;
use super::run::Timer;
use crate::config::model::{Dispatch, Pool};
use crate::ids::{Pid, WorkerId};
use crate::os::{clock, procfs};
use crate::policy::Wear;
use crate::status::snapshot::Activity;
use crate::supervise::event::{Event, WorkerCommand};
use crate::supervise::{WorkerState, WorkerView};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);

impl Master {
    /// Looks from time to time, if any pool wants that: settings have changed.
    pub(super) fn watch_weight(&mut self) {
        let wanted = self.settings.newest().any(|pool| limit(pool).is_some());
        self.timers.set(Timer::Weight, wanted.then(|| clock::monotonic().after(PAUSE)));
    }

    /// Looks at all workers of the pools that have a limit and no gateway.
    pub(super) fn weigh(&mut self) {
        for (worker, pid, most) in self.limited_workers() {
            let kept = procfs::private_memory(pid).unwrap_or(0);
            if kept > most && self.look(worker, pid).activity == Activity::Idle {
                log::info!("child {pid} keeps {kept} bytes of memory, replacing it");
                let command = WorkerCommand::Recycle(Wear::Memory);
                let event = Event::Worker { worker, command, ticket: None };
                self.supervisor.handle(clock::monotonic(), event);
            }
        }
        self.watch_weight();
    }

    fn limited_workers(&self) -> Vec<(WorkerId, Pid, u64)> {
        let mut limited = Vec::new();
        for view in self.supervisor.pools() {
            let settings = self.settings.current(&view.name);
            let Some(most) = settings.as_deref().and_then(limit) else { continue };
            // A gateway weighs those that it has.
            let is_ours = |worker: &&WorkerView| self.on_slot(worker.id).is_none();
            let running =
                view.workers.iter().filter(|worker| worker.state == WorkerState::Running).filter(is_ours);
            limited.extend(running.map(|worker| (worker.id, worker.pid, most)));
        }
        limited
    }
}

fn limit(pool: &Pool) -> Option<u64> {
    match pool.dispatch {
        Dispatch::Direct => pool.pm.max_memory,
        Dispatch::Gateway(_) => None,
    }
}

//! Warm-up requests of new workers: which of them have one under way, so that a gateway that had to be started again sends
//! it again. How they are sent is the gateway's.

use super::Master;
use crate::config::model::Dispatch;
use crate::ids::{Generation, PoolName, WorkerId};
use crate::os::clock;
use crate::sorted::SortedMap;
use crate::supervise::event::Event;
use crate::wire::gateway::ToGateway;

/// Workers that have not answered yet, with their pool and generation.
pub type Warming = SortedMap<WorkerId, (PoolName, Generation)>;

impl Master {
    /// Has a new worker's gateway send it its warm-up request.
    pub(super) fn warm_up(&mut self, id: WorkerId) {
        let Some((pool, slot, _)) = self.on_slot(id) else { return };
        let Some(occupant) = self.slots.occupant(&pool, slot).copied() else { return };
        self.warming.insert(id, (pool, occupant.generation));
        self.send_warm_up(id);
    }

    /// A gateway was started: it knows nothing of what the one before it had asked.
    pub(super) fn warm_up_again(&mut self, pool: &PoolName) {
        let workers: Vec<WorkerId> =
            self.warming.iter().filter(|(_, (its, _))| its == pool).map(|(id, _)| *id).collect();
        workers.into_iter().for_each(|id| self.send_warm_up(id));
    }

    /// A worker has answered, or cannot.
    pub(super) fn on_warmed(&mut self, worker: WorkerId, result: Result<(), String>) {
        if self.warming.remove(&worker).is_some() {
            self.supervisor.handle(clock::monotonic(), Event::Warmed { worker, result });
        }
    }

    fn send_warm_up(&mut self, id: WorkerId) {
        let Some((pool, generation)) = self.warming.get(&id).cloned() else { return };
        let Some(settings) = self.settings.adopt(&pool, generation) else { return };
        let path = match &settings.dispatch {
            Dispatch::Gateway(gateway) => gateway.warmup_path.clone(),
            Dispatch::Direct => None,
        };
        match (path, self.on_slot(id)) {
            (Some(path), Some((_, slot, _))) => {
                let root = settings.directory.as_ref().map(|path| path.to_string_lossy().into_owned());
                let root = root.unwrap_or_default();
                self.gateways.tell(&pool, &ToGateway::Warm { slot, worker: id, path, root });
            }
            // The setting has gone since: nothing is asked of it any more.
            (None, _) => self.on_warmed(id, Ok(())),
            (Some(_), None) => drop(self.warming.remove(&id)),
        }
    }
}

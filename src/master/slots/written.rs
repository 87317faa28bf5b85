//! Slots on their way to a new program: sockets, workers and the lock of their directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Occupant, Root, Slot, Slots};
use crate::config::model::User;
use crate::ids::{PoolName, SlotId};
use crate::os::handover::{Estate, Heirloom};
use crate::os::socket::{Listener, WrittenListener};
use crate::sorted::SortedMap;

/// The slots of every pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    root: Option<WrittenRoot>,
    pools: SortedMap<PoolName, Vec<WrittenSlot>>,
    uses: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenRoot {
    path: PathBuf,
    lock: Heirloom,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenSlot {
    id: SlotId,
    listener: WrittenListener,
    occupant: Option<Occupant>,
    last_used: u64,
}

impl Slots {
    /// Hands all of them over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Written {
        let mut pools = SortedMap::new();
        for (pool, slots) in &self.pools {
            let slots = slots.iter().map(|(id, slot)| WrittenSlot {
                id: *id,
                listener: slot.listener.bequeath(estate),
                occupant: slot.occupant,
                last_used: slot.last_used,
            });
            pools.insert(pool.clone(), slots.collect());
        }
        let root = self.root.as_ref();
        let root =
            root.map(|root| WrittenRoot { path: root.path.clone(), lock: estate.leave(root._lock.as_fd()) });
        Written { root, pools, uses: self.uses }
    }

    /// Takes them over.
    ///
    /// # Errors
    /// A sentence: one was not handed over.
    pub fn claim(runtime_dir: &Path, user: Option<User>, written: Written) -> Result<Slots, String> {
        let mut pools = SortedMap::new();
        for (pool, slots) in written.pools {
            let mut claimed = BTreeMap::new();
            for WrittenSlot { id, listener, occupant, last_used } in slots {
                let listener = Listener::claim(listener).map_err(|error| error.to_string())?;
                claimed.insert(id, Slot { listener, occupant, last_used });
            }
            pools.insert(pool, claimed);
        }
        let root = written.root.map(Root::claim).transpose()?;
        Ok(Slots { runtime_dir: runtime_dir.to_owned(), user, root, pools, uses: written.uses })
    }
}

impl Root {
    /// The lock belongs to the open file, which is the same: to take it again is to keep it.
    fn claim(written: WrittenRoot) -> Result<Root, String> {
        let WrittenRoot { path, lock } = written;
        let directory = File::from(lock.claim().map_err(|error| error.to_string())?);
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(_lock) => Ok(Root { path, _lock }),
            Err((_, errno)) => {
                Err(format!("cannot lock directory '{}': {}", path.display(), io::Error::from(errno)))
            }
        }
    }
}

//! The pools' sockets on their way to a new program.

use serde::{Deserialize, Serialize};

use super::{Entry, ListenerId, Listeners};
use crate::ids::{Generation, PoolName};
use crate::os::handover::Estate;
use crate::os::socket::{Error, Listener, WrittenListener};
use crate::sorted::{SortedMap, SortedSet};
use crate::systemd::{Inherited, WrittenSocket};

/// Every socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    pools: SortedMap<PoolName, Vec<WrittenEntry>>,
    inherited: Vec<WrittenSocket>,
    last: ListenerId,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenEntry {
    id: ListenerId,
    listener: WrittenListener,
    wanted_by: SortedSet<Generation>,
}

impl Listeners {
    /// Hands all of them over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Written {
        let mut pools = SortedMap::new();
        for (pool, entries) in &self.pools {
            let entries = entries.iter().map(|entry| WrittenEntry {
                id: entry.id,
                listener: entry.listener.bequeath(estate),
                wanted_by: entry.wanted_by.clone(),
            });
            pools.insert(pool.clone(), entries.collect());
        }
        Written { pools, inherited: self.inherited.bequeath(estate), last: self.last }
    }

    /// Takes them over.
    ///
    /// # Errors
    /// One was not handed over.
    pub fn claim(written: Written) -> Result<Listeners, Error> {
        let mut pools = SortedMap::new();
        for (pool, entries) in written.pools {
            let claim = |WrittenEntry { id, listener, wanted_by }| {
                Ok(Entry { id, listener: Listener::claim(listener)?, wanted_by })
            };
            pools.insert(pool, entries.into_iter().map(claim).collect::<Result<_, Error>>()?);
        }
        let inherited = Inherited::claim(written.inherited)?;
        Ok(Listeners { pools, last: written.last, ..Listeners::new(inherited) })
    }
}

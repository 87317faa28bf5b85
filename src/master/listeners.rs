//! The sockets of each pool, over generations: what is open and still wanted is kept, never closed and opened again.
//!
//! A socket is closed, and its path removed, when no generation wants it any more. What came by LISTEN_FDS stays open for
//! as long as fpmd runs, so that a pool can be stopped and started.

mod written;

use std::cell::Cell;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use log::Level;
use serde::{Deserialize, Serialize};

pub use self::written::Written;
use crate::config::model::{ListenAddress, Pool, SocketSettings};
use crate::ids::{Generation, PoolName};
use crate::os::errno::Cause;
use crate::os::socket::{Error, Listener, Withdrawal};
use crate::sorted::{SortedMap, SortedSet};
use crate::systemd::{Inherited, Store};

/// The sockets of every pool.
#[derive(Debug)]
pub struct Listeners {
    pools: SortedMap<PoolName, Vec<Entry>>,
    inherited: Inherited,
    /// Where sockets outlive us.
    store: Store,
    /// What a process before us has left there, until the first configuration has taken what it wants.
    stored: Vec<(String, OwnedFd)>,
    end: End,
    last: ListenerId,
    /// Whether it was said that newcomers cannot be turned away.
    is_refusal_told: Cell<bool>,
}

/// What becomes of a socket that no pool wants any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is closed for good.
    Closed,
    /// The daemon stops, and the service manager may start another one: the socket and its path stay for that one.
    Left,
}

/// One open socket over its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ListenerId(u64);

impl ListenerId {
    /// The number, counted over the daemon's life.
    pub fn number(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Entry {
    id: ListenerId,
    listener: Listener,
    wanted_by: SortedSet<Generation>,
}

impl Listeners {
    /// No pool yet.
    pub fn new(mut inherited: Inherited) -> Listeners {
        let stored = inherited.take_stored();
        Listeners {
            pools: SortedMap::new(),
            inherited,
            store: Store::from_environment(),
            stored,
            end: End::Closed,
            last: ListenerId::default(),
            is_refusal_told: Cell::new(false),
        }
    }

    /// The first configuration is in force: what it did not want of the sockets that a process before us has left is
    /// closed.
    pub fn discard_stored(&mut self) {
        for (keepsake, fd) in self.stored.drain(..) {
            self.store.forget(&keepsake);
            if let Err(error) = Listener::discard(fd, &keepsake) {
                log::warn!("a socket of the fpmd before this one is closed, but {error}");
            }
        }
    }

    /// The daemon ends, perhaps only for a restart: from now on sockets that the service manager keeps are left to it.
    pub fn leave_to_successor(&mut self) {
        if self.store.is_there() {
            self.end = End::Left;
        }
    }

    /// Opens what this generation of the pool wants and is not open, and applies its settings to what is.
    ///
    /// # Errors
    /// A sentence for the first socket that failed; sockets that were opened for this generation are closed again, those
    /// of older generations are as they were but for settings already applied.
    pub fn open(&mut self, pool: &Pool, generation: Generation) -> Result<(), String> {
        let opened = pool.listen.iter().try_for_each(|address| self.want(pool, generation, address));
        if opened.is_err() {
            self.release(&pool.name, generation);
        }
        opened
    }

    /// Opens what this generation wants from now on, and closes what it has and no longer wants.
    ///
    /// # Errors
    /// As `open`; no socket has been closed that was open before.
    pub fn amend(&mut self, pool: &Pool, generation: Generation) -> Result<(), String> {
        let before: SortedSet<ListenerId> = self.of(&pool.name, generation).map(|(id, _)| id).collect();
        let opened = pool.listen.iter().try_for_each(|address| self.want(pool, generation, address));
        self.release_some(&pool.name, generation, |entry| match opened {
            Ok(()) => !pool.listen.contains(entry.listener.address()),
            Err(_) => !before.contains(&entry.id),
        });
        opened
    }

    fn want(&mut self, pool: &Pool, generation: Generation, address: &ListenAddress) -> Result<(), String> {
        let entries = self.pools.or_default(pool.name.clone());
        let mut is_open = false;
        for entry in entries.iter_mut().filter(|entry| entry.listener.address() == address) {
            // Someone removed the path: clients no longer reach this socket, so a new one is opened beside it.
            if entry.listener.is_in_place() {
                entry.listener.apply(&pool.socket).map_err(|error| error.to_string())?;
                entry.wanted_by.insert(generation);
                is_open = true;
            }
        }
        if is_open {
            return Ok(());
        }
        let listeners = match address {
            ListenAddress::Systemd(name) => {
                self.inherited.listeners(name).map_err(|error| error.to_string())?
            }
            ListenAddress::Tcp(_)
            | ListenAddress::Port(_)
            | ListenAddress::Unix(_)
            | ListenAddress::Abstract(_) => {
                vec![self.obtain(address, &pool.socket).map_err(|error| error.to_string())?]
            }
        };
        let entries = self.pools.or_default(pool.name.clone());
        for listener in listeners {
            self.last.0 += 1;
            let wanted_by = SortedSet::from([generation]);
            entries.push(Entry { id: self.last, listener, wanted_by });
        }
        Ok(())
    }

    /// A socket that a process before us has left, or else a new one.
    fn obtain(&mut self, address: &ListenAddress, settings: &SocketSettings) -> Result<Listener, Error> {
        let mut restored = None;
        let others = mem::take(&mut self.stored).into_iter().filter_map(|(keepsake, fd)| {
            if restored.is_some() {
                return Some((keepsake, fd));
            }
            match Listener::restore(fd, &keepsake, address) {
                Ok(listener) => {
                    restored = Some(listener);
                    None
                }
                Err(fd) => Some((keepsake, fd)),
            }
        });
        self.stored = others.collect();
        if let Some(listener) = restored {
            listener.apply(settings)?;
            return Ok(listener);
        }
        let listener = Listener::open(address, settings)?;
        if let Some(keepsake) = listener.keepsake() {
            self.store.keep(&keepsake, listener.as_fd());
        }
        Ok(listener)
    }

    /// This generation is over, or could not be started: closes what only it wanted.
    pub fn release(&mut self, pool: &PoolName, generation: Generation) {
        self.release_some(pool, generation, |_| true);
    }

    fn release_some(&mut self, pool: &PoolName, generation: Generation, which: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.pools.remove(pool) else { return };
        let mut kept = Vec::new();
        for mut entry in entries {
            if which(&entry) {
                entry.wanted_by.remove(&generation);
            }
            if entry.wanted_by.is_empty() { self.end(pool, entry.listener) } else { kept.push(entry) }
        }
        if !kept.is_empty() {
            self.pools.insert(pool.clone(), kept);
        }
    }

    /// Lets nobody connect to the pool any more; whoever has can still be accepted. At a socket that is left to a successor
    /// clients wait for that one.
    pub fn withdraw(&self, pool: &PoolName) {
        let is_left = |listener: &Listener| self.end == End::Left && listener.keepsake().is_some();
        self.withdraw_all(pool, self.all(pool).filter(|listener| !is_left(listener)));
    }

    /// Lets nobody connect any more where none of these generations listens; whoever has can still be accepted.
    pub fn withdraw_others(&self, pool: &PoolName, generations: &[Generation]) {
        let others = self.entries(pool).iter().filter(|entry| !entry.is_wanted_by_any(generations));
        self.withdraw_all(pool, others.map(|entry| &entry.listener));
    }

    fn withdraw_all<'a>(&self, pool: &PoolName, listeners: impl Iterator<Item = &'a Listener>) {
        for listener in listeners {
            match listener.withdraw() {
                Ok(Withdrawal::Done) => {}
                Ok(Withdrawal::Refused(cause)) => self.tell_refusal(pool, listener, cause),
                Err(error) => log::warn!("[pool {pool}] {error}"),
            }
        }
    }

    /// Once, as it will be so each time and nobody can do anything about it.
    fn tell_refusal(&self, pool: &PoolName, listener: &Listener, cause: Cause) {
        let level = if self.is_refusal_told.replace(true) { Level::Debug } else { Level::Info };
        log::log!(
            level,
            "[pool {pool}] who connects to '{listener}' in the moment before it is closed is reset: the kernel does not \
             let fpmd turn newcomers away ({cause})"
        );
    }

    /// The sockets that any of these generations wants.
    pub fn wanted_by(&self, pool: &PoolName, generations: &[Generation]) -> impl Iterator<Item = &Listener> {
        let wanted = self.entries(pool).iter().filter(|entry| entry.is_wanted_by_any(generations));
        wanted.map(|entry| &entry.listener)
    }

    /// Closes every socket of the pool.
    pub fn close(&mut self, pool: &PoolName) {
        for entry in self.pools.remove(pool).unwrap_or_default() {
            self.end(pool, entry.listener);
        }
    }

    fn end(&self, pool: &PoolName, listener: Listener) {
        let keepsake = match (listener.keepsake(), self.end) {
            (Some(_), End::Left) => return,
            (keepsake, End::Left | End::Closed) => keepsake,
        };
        if let Some(keepsake) = keepsake {
            self.store.forget(&keepsake);
        }
        let address = listener.to_string();
        if let Err(error) = listener.close() {
            log::warn!("[pool {pool}] socket '{address}' is closed, but {error}");
        }
    }

    /// The sockets that this generation wants, in the order of the configuration.
    pub fn of(
        &self,
        pool: &PoolName,
        generation: Generation,
    ) -> impl Iterator<Item = (ListenerId, &Listener)> {
        self.entries(pool)
            .iter()
            .filter(move |entry| entry.wanted_by.contains(&generation))
            .map(|entry| (entry.id, &entry.listener))
    }

    /// One of the pool's sockets.
    pub fn by_id(&self, pool: &PoolName, id: ListenerId) -> Option<&Listener> {
        let entries = self.pools.get(pool)?;
        entries.iter().find(|entry| entry.id == id).map(|entry| &entry.listener)
    }

    /// Every open socket of the pool with its number.
    pub fn with_ids(&self, pool: &PoolName) -> impl Iterator<Item = (ListenerId, &Listener)> {
        self.entries(pool).iter().map(|entry| (entry.id, &entry.listener))
    }

    /// Every open socket of the pool.
    pub fn all(&self, pool: &PoolName) -> impl Iterator<Item = &Listener> {
        self.entries(pool).iter().map(|entry| &entry.listener)
    }

    fn entries(&self, pool: &PoolName) -> &[Entry] {
        self.pools.get(pool).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Entry {
    fn is_wanted_by_any(&self, generations: &[Generation]) -> bool {
        generations.iter().any(|generation| self.wanted_by.contains(generation))
    }
}

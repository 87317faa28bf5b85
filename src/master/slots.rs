//! The private sockets on which workers of pools with a gateway accept: `RUNTIME_DIR/slots/POOL/N.sock` (`slots-PID` beside
//! another fpmd with the same runtime directory), one worker at a time on each, bound once and kept over that worker's death, so that a connection which waits there is served by the
//! next one. Owns who sits where and what the gateway was told of it; talks to nobody.
//!
//! Only the gateway's user (and root) can connect: the sockets are 0600 in a directory 0700, all of it that user's.

mod written;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use serde::{Deserialize, Serialize};

pub use self::written::Written;
use crate::config::model::{ListenAddress, SocketSettings, User};
use crate::ids::{Generation, Gid, Moment, Pid, PoolName, SlotId, Uid, WorkerId};
use crate::os::socket::Listener;
use crate::os::{clock, errno, users};
use crate::sorted::SortedMap;

/// Connections that may wait on a slot: as many as the gateway sends to one worker at once, and then some.
const BACKLOG: u32 = 1024;

/// The slots of every pool.
#[derive(Debug)]
pub struct Slots {
    runtime_dir: PathBuf,
    /// Whom the sockets belong to; `None` is our own user.
    user: Option<User>,
    root: Option<Root>,
    pools: SortedMap<PoolName, BTreeMap<SlotId, Slot>>,
    uses: u64,
}

/// The directory of all slots.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Held for as long as we run: nobody else may clear the directory.
    _lock: Flock<File>,
}

#[derive(Debug)]
struct Slot {
    listener: Listener,
    occupant: Option<Occupant>,
    /// When it was last vacated, by count.
    last_used: u64,
}

/// The worker on a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Which worker.
    pub worker: WorkerId,
    /// The settings that it has.
    pub generation: Generation,
    /// When it got its place; nothing of one that an fpmd started which did not note it.
    #[serde(default)]
    pub started: Option<Moment>,
    /// What the gateway knows of it.
    pub stage: Stage,
}

/// What the gateway knows of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing: it is not ready.
    Starting,
    /// It takes requests.
    Admitted { pid: Pid },
    /// It takes no more; those that it has are being served.
    Draining { pid: Pid },
    /// It has none and will get none.
    Drained,
}

/// A slot that a worker can be started on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub slot: SlotId,
    /// Whether it was made for this.
    pub is_new: bool,
}

impl Slots {
    /// None yet; touches no file before the first is needed.
    pub fn new(runtime_dir: &Path, user: Option<User>) -> Slots {
        Slots { runtime_dir: runtime_dir.to_owned(), user, root: None, pools: SortedMap::new(), uses: 0 }
    }

    /// Makes the directory of a pool's slots. What a killed fpmd left there is removed.
    ///
    /// # Errors
    /// A sentence: it cannot be made, or the gateway's user could not reach it.
    pub fn open(&mut self, pool: &PoolName) -> Result<(), String> {
        if self.pools.contains_key(pool) {
            return Ok(());
        }
        let root = match &self.root {
            Some(root) => root.path.clone(),
            None => self.open_root()?,
        };
        self.check_reachable(&root)?;
        let directory = root.join(pool.as_str());
        let failed =
            |what: &str, error| format!("cannot {what} '{}': {}", directory.display(), errno::said(&error));
        // Nobody but us makes anything here: it is what an attempt left that failed half way.
        let _ = fs::remove_dir_all(&directory);
        make_directory(&directory, 0o700).map_err(|error| failed("create directory", error))?;
        if let Some(User { uid, gid, .. }) = &self.user {
            chown(&directory, Some(uid.0), gid.map(|gid| gid.0))
                .map_err(|error| failed("change the owner of", error))?;
        }
        self.pools.insert(pool.clone(), BTreeMap::new());
        Ok(())
    }

    /// The directory of all slots, ours alone for as long as we run. What killed ones left is removed, as far as nobody
    /// holds it any more.
    fn open_root(&mut self) -> Result<PathBuf, String> {
        let directory = &self.runtime_dir;
        make_directory(directory, 0o755).map_err(|error| {
            format!("cannot create directory '{}': {}", directory.display(), errno::said(&error))
        })?;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("slots-"))
                && let Ok(Some(_ours)) = lock(&entry.path())
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let names = ["slots".to_owned(), format!("slots-{}", std::process::id())];
        for path in names.map(|name| directory.join(name)) {
            let failed =
                |error| format!("cannot use directory '{}': {}", path.display(), errno::said(&error));
            make_directory(&path, 0o711).map_err(failed)?;
            if let Some(_lock) = lock(&path).map_err(failed)? {
                for entry in fs::read_dir(&path).map_err(failed)?.flatten() {
                    let _ = fs::remove_dir_all(entry.path());
                }
                self.root = Some(Root { path: path.clone(), _lock });
                return Ok(path);
            }
        }
        Err(format!("cannot lock a directory for slots in '{}'", directory.display()))
    }

    /// The gateway's user has to get through every directory on the way.
    fn check_reachable(&self, directory: &Path) -> Result<(), String> {
        let Some(User { name, uid, gid, .. }) = &self.user else { return Ok(()) };
        let closed = directory.ancestors().find(|ancestor| !is_open_to(ancestor, *uid, *gid));
        closed.map_or(Ok(()), |closed| {
            Err(format!(
                "user {name}, whom gateways run as, cannot reach '{}': '{}' is closed to others; \
                 choose another runtime_dir or gateway_user",
                directory.display(),
                closed.display()
            ))
        })
    }

    /// A free slot for a new worker: one where a connection waits, else the one that was in use last, else a new one.
    ///
    /// # Errors
    /// A sentence: no socket can be made.
    pub fn take(
        &mut self,
        pool: &PoolName,
        generation: Generation,
        worker: WorkerId,
    ) -> Result<Taken, String> {
        let started = Some(clock::monotonic());
        let occupant = Occupant { worker, generation, started, stage: Stage::Starting };
        let slots = self.pools.get_mut(pool).ok_or("it has no slots")?;
        let free = slots.iter_mut().filter(|(_, slot)| slot.occupant.is_none());
        let best = free.max_by_key(|(_, slot)| (slot.listener.has_pending(), slot.last_used));
        if let Some((id, slot)) = best {
            slot.occupant = Some(occupant);
            return Ok(Taken { slot: *id, is_new: false });
        }
        let slot = first_free(slots.keys());
        let root = self.root.as_ref().ok_or("it has no slots")?;
        let path = root.path.join(pool.as_str()).join(format!("{}.sock", slot.0));
        let listener = Listener::open(&ListenAddress::Unix(path), &settings(self.user.as_ref()))
            .map_err(|error| error.to_string())?;
        slots.insert(slot, Slot { listener, occupant: Some(occupant), last_used: 0 });
        Ok(Taken { slot, is_new: true })
    }

    /// The worker has ended, or was never started; `None` if it was not there.
    pub fn vacate(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId) -> Option<Occupant> {
        let slot = self.pools.get_mut(pool)?.get_mut(&slot)?;
        let occupant = slot.occupant.take_if(|occupant| occupant.worker == worker)?;
        self.uses += 1;
        slot.last_used = self.uses;
        Some(occupant)
    }

    /// The worker on a slot, as the gateway knows it.
    pub fn occupant(&self, pool: &PoolName, slot: SlotId) -> Option<&Occupant> {
        self.pools.get(pool)?.get(&slot)?.occupant.as_ref()
    }

    /// What the gateway knows of the worker has changed; no effect if another is there by now.
    pub fn set_stage(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId, stage: Stage) {
        let slot = self.pools.get_mut(pool).and_then(|slots| slots.get_mut(&slot));
        if let Some(occupant) = slot.and_then(|slot| slot.occupant.as_mut())
            && occupant.worker == worker
        {
            occupant.stage = stage;
        }
    }

    /// A slot's socket.
    pub fn listener(&self, pool: &PoolName, slot: SlotId) -> Option<&Listener> {
        self.pools.get(pool)?.get(&slot).map(|slot| &slot.listener)
    }

    /// Every slot of the pool with its socket and its worker, in the order of their numbers.
    pub fn of(&self, pool: &PoolName) -> impl Iterator<Item = (SlotId, &Listener, Option<&Occupant>)> {
        let slots = self.pools.get(pool).into_iter().flatten();
        slots.map(|(id, slot)| (*id, &slot.listener, slot.occupant.as_ref()))
    }

    /// Closes free slots until no more than `wanted` slots are left, or all that are left are in use: those that were in use
    /// longest ago first. One where a connection waits stays until the gateway has heard that nobody is there.
    pub fn shrink(&mut self, pool: &PoolName, wanted: usize) -> Vec<SlotId> {
        let Some(slots) = self.pools.get_mut(pool) else { return Vec::new() };
        let mut free: Vec<(u64, SlotId)> = slots
            .iter()
            .filter(|(_, slot)| slot.occupant.is_none() && !slot.listener.has_pending())
            .map(|(id, slot)| (slot.last_used, *id))
            .collect();
        free.sort_unstable();
        free.truncate(slots.len().saturating_sub(wanted));
        for (_, id) in &free {
            if let Some(slot) = slots.remove(id) {
                close(pool, slot.listener);
            }
        }
        free.into_iter().map(|(_, id)| id).collect()
    }

    /// Closes all slots of the pool and removes its directory.
    pub fn close(&mut self, pool: &PoolName) {
        for slot in self.pools.remove(pool).unwrap_or_default().into_values() {
            close(pool, slot.listener);
        }
        if let Some(root) = &self.root {
            // Somebody may have put something there.
            let _ = fs::remove_dir(root.path.join(pool.as_str()));
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let pools: Vec<PoolName> = self.pools.keys().cloned().collect();
        pools.iter().for_each(|pool| self.close(pool));
        if let Some(root) = &self.root {
            let _ = fs::remove_dir(&root.path);
        }
    }
}

/// Holds a directory; `None` if somebody else does.
fn lock(directory: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(directory)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn settings(user: Option<&User>) -> SocketSettings {
    SocketSettings {
        backlog: BACKLOG,
        owner: user.cloned(),
        group: None,
        mode: 0o600,
        acl_users: Vec::new(),
        acl_groups: Vec::new(),
    }
}

fn close(pool: &PoolName, listener: Listener) {
    let address = listener.to_string();
    if let Err(error) = listener.close() {
        log::warn!("[pool {pool}] slot '{address}' is closed, but {error}");
    }
}

/// The smallest number that is not among these, which come in order.
fn first_free<'a>(numbers: impl Iterator<Item = &'a SlotId>) -> SlotId {
    let mut free = 0;
    for SlotId(number) in numbers {
        if *number != free {
            break;
        }
        free += 1;
    }
    SlotId(free)
}

/// Makes a directory with just these permissions, whatever our umask; one that is there has to be ours alone to write to.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path)?;
            let is_ours = metadata.uid() == users::own_uid().0 || metadata.uid() == 0;
            if metadata.is_dir() && is_ours && metadata.mode() & 0o022 == 0 {
                return Ok(());
            }
            Err(io::Error::other("it is there already, and others may write to it"))
        }
        Err(error) => Err(error),
    }
}

/// Whether this user can pass through a directory. Supplementary groups do not count: gateways have none.
fn is_open_to(directory: &Path, uid: Uid, gid: Option<Gid>) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let bit = match (metadata.uid() == uid.0, Some(metadata.gid()) == gid.map(|gid| gid.0)) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    uid == Uid(0) || metadata.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::os::testing::TempDir;

    const FIRST: Generation = Generation(1);

    fn www() -> PoolName {
        PoolName::new("www").unwrap()
    }

    fn slots(directory: &TempDir) -> Slots {
        let mut slots = Slots::new(directory.path(), None);
        slots.open(&www()).unwrap();
        slots
    }

    fn take(slots: &mut Slots, worker: u64) -> (u32, bool) {
        let Taken { slot, is_new } = slots.take(&www(), FIRST, WorkerId(worker)).unwrap();
        (slot.0, is_new)
    }

    fn paths(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.join("slots/www")).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_slot_outlives_its_worker_and_the_latest_is_taken_first() {
        let directory = TempDir::new();
        let mut slots = slots(&directory);
        assert_eq!(
            [take(&mut slots, 1), take(&mut slots, 2), take(&mut slots, 3)],
            [(0, true), (1, true), (2, true)]
        );
        let socket = directory.join("slots/www/1.sock");
        let inode = fs::metadata(&socket).unwrap().ino();
        assert_eq!(slots.vacate(&www(), SlotId(1), WorkerId(9)), None, "it is not there");
        for (slot, worker) in [(2, 3), (0, 1), (1, 2)] {
            assert!(slots.vacate(&www(), SlotId(slot), WorkerId(worker)).is_some());
        }
        assert_eq!(take(&mut slots, 4), (1, false));
        assert_eq!(take(&mut slots, 5), (0, false));
        assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    }

    #[test]
    fn a_slot_where_a_connection_waits_comes_first() {
        let directory = TempDir::new();
        let mut slots = slots(&directory);
        take(&mut slots, 1);
        take(&mut slots, 2);
        let _waiting = UnixStream::connect(directory.join("slots/www/0.sock")).unwrap();
        slots.vacate(&www(), SlotId(0), WorkerId(1));
        slots.vacate(&www(), SlotId(1), WorkerId(2));
        assert_eq!(take(&mut slots, 3), (0, false));
    }

    #[test]
    fn slots_that_nobody_needs_are_closed_the_oldest_first() {
        let directory = TempDir::new();
        let mut slots = slots(&directory);
        for worker in 1..=4 {
            take(&mut slots, worker);
        }
        for (slot, worker) in [(3, 4), (0, 1), (2, 3)] {
            slots.vacate(&www(), SlotId(slot), WorkerId(worker));
        }
        assert_eq!(slots.shrink(&www(), 2), [SlotId(3), SlotId(0)]);
        assert_eq!(paths(&directory), ["1.sock", "2.sock"]);
        assert_eq!(slots.shrink(&www(), 0), [SlotId(2)], "worker 2 keeps its own");
        assert_eq!(take(&mut slots, 5), (0, true), "numbers are used again");
        slots.close(&www());
        assert!(!directory.join("slots/www").exists());
        drop(slots);
        assert!(!directory.join("slots").exists());
    }

    #[test]
    fn what_a_killed_fpmd_left_is_cleared_and_a_living_one_is_left_alone() {
        let directory = TempDir::new();
        let mut first = slots(&directory);
        take(&mut first, 1);
        let mut second = slots(&directory);
        take(&mut second, 2);
        let beside = directory.join(&format!("slots-{}/www/0.sock", std::process::id()));
        assert!(beside.exists() && directory.join("slots/www/0.sock").exists());
        // As by SIGKILL: the locks go, the files stay.
        for killed in [&mut first, &mut second] {
            killed.root = None;
        }
        let mut third = slots(&directory);
        assert_eq!(paths(&directory), Vec::<String>::new());
        assert!(!beside.exists());
        assert_eq!(take(&mut third, 3), (0, true));
    }

    #[test]
    fn what_the_gateway_knows_is_kept_with_the_worker() {
        let directory = TempDir::new();
        let mut slots = slots(&directory);
        take(&mut slots, 1);
        slots.set_stage(&www(), SlotId(0), WorkerId(2), Stage::Drained);
        assert_eq!(slots.occupant(&www(), SlotId(0)).unwrap().stage, Stage::Starting);
        slots.set_stage(&www(), SlotId(0), WorkerId(1), Stage::Drained);
        assert_eq!(slots.occupant(&www(), SlotId(0)).unwrap().stage, Stage::Drained);
    }

    #[test]
    fn only_the_gateway_s_user_gets_in() {
        if !users::is_root() {
            return;
        }
        let directory = TempDir::new();
        let nobody = users::user("nobody").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut slots = Slots::new(directory.path(), Some(nobody.clone()));
        let refusal = slots.open(&www()).unwrap_err();
        assert!(refusal.contains("is closed to others; choose another runtime_dir"), "{refusal}");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        slots.open(&www()).unwrap();
        take(&mut slots, 1);
        let socket = directory.join("slots/www/0.sock");
        for path in [directory.join("slots/www"), socket.clone()] {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o077), (nobody.uid.0, 0), "{}", path.display());
        }
        let connects = |uid: u32| {
            let script = format!("import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect({:?})", socket);
            let mut python = std::process::Command::new("/usr/bin/python3");
            std::os::unix::process::CommandExt::uid(&mut python, uid);
            python.args(["-c", &script]).stderr(std::process::Stdio::null()).status().unwrap().success()
        };
        if Path::new("/usr/bin/python3").exists() {
            assert!(connects(nobody.uid.0), "the gateway");
            assert!(!connects(33), "a worker");
        }
    }
}

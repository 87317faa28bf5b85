//! All that a running fpmd has at one moment, by `/proc`, held against what its status says it should have: processes,
//! descriptors, sockets and files. Whatever nobody can explain is a leak. Meant for moments without traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fpmd::status::snapshot::{PoolSnapshot, Snapshot};

use super::daemon::{Fpmd, MARK};
use super::process;

/// How long things may take to become explained: a status is a moment older than what `/proc` says.
const SETTLING: Duration = Duration::from_secs(10);

/// What a descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A socket that listens on this address, as the status writes it.
    Listener(String),
    /// A connected socket, or one that is not anything yet.
    Stream,
    /// Keeps the borders of messages; a gateway and its master speak by it.
    Packets,
    /// Connectionless; what a gateway has in reserve.
    Datagrams,
    Netlink,
    Pipe,
    Epoll,
    /// A file by its path.
    File(String),
    /// A file without a name: deleted, or never named.
    Nameless(String),
}

/// How many there are of each; negative where some are missing.
type Tally = BTreeMap<Kind, i64>;

/// The kinds of all sockets of this machine, by their inode.
struct Sockets(BTreeMap<String, Kind>);

impl Sockets {
    fn read() -> Sockets {
        let mut all = BTreeMap::new();
        each_line("/proc/net/netlink", |fields| {
            all.insert(fields.last()?.to_string(), Kind::Netlink);
            Some(())
        });
        each_line("/proc/net/unix", |fields| {
            // Flags: __SO_ACCEPTCON. Type: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET.
            let kind = match (*fields.get(3)?, *fields.get(4)?) {
                ("00010000", _) => Kind::Listener(fields.get(7)?.to_string()),
                (_, "0002") => Kind::Datagrams,
                (_, "0005") => Kind::Packets,
                _ => Kind::Stream,
            };
            all.insert(fields.get(6)?.to_string(), kind);
            Some(())
        });
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            each_line(file, |fields| {
                // TCP_LISTEN.
                let listens = *fields.get(3)? == "0A";
                let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
                let kind = if listens { Kind::Listener(format!("127.0.0.1:{port}")) } else { Kind::Stream };
                all.insert(fields.get(9)?.to_string(), kind);
                Some(())
            });
        }
        Sockets(all)
    }

    fn kind(&self, target: &str) -> Kind {
        let inode = |prefix: &str| target.strip_prefix(prefix)?.strip_prefix(":[")?.strip_suffix(']');
        if let Some(inode) = inode("socket") {
            return self.0.get(inode).cloned().unwrap_or(Kind::Stream);
        }
        match target {
            "anon_inode:[eventpoll]" => Kind::Epoll,
            _ if inode("pipe").is_some() => Kind::Pipe,
            _ if target.ends_with("(deleted)") || target.starts_with("/memfd:") => {
                Kind::Nameless(target.to_owned())
            }
            _ => Kind::File(target.to_owned()),
        }
    }

    fn of(&self, pid: i32) -> Tally {
        let mut tally = Tally::new();
        process::descriptors(pid)
            .values()
            .for_each(|target| *tally.entry(self.kind(target)).or_default() += 1);
        tally
    }
}

fn each_line(file: &str, mut take: impl FnMut(&[&str]) -> Option<()>) {
    let text = fs::read_to_string(file).unwrap_or_default();
    for line in text.lines().skip(1) {
        take(&line.split_whitespace().collect::<Vec<_>>());
    }
}

/// What the master of a running fpmd had beyond its pools when nothing had happened to it yet.
pub struct Census {
    own: Tally,
    /// Names that may be in the test's directory beside those of pools.
    files: BTreeSet<PathBuf>,
}

impl Census {
    /// The first one, of a quiet fpmd. Files of these names may come.
    pub fn first(fpmd: &Fpmd, names: &[&str]) -> Census {
        let own = beyond_pools(fpmd, &fpmd.snapshot(), &Sockets::read());
        let missing: Vec<_> = own.iter().filter(|(_, count)| **count < 0).collect();
        assert!(missing.is_empty(), "the master lacks {missing:?}");
        let coming = names.iter().map(|name| fpmd.rig.dir.join(name));
        Census { own, files: files(fpmd).into_iter().chain(coming).collect() }
    }

    /// What cannot be explained, in sentences. Takes until nothing is left to say, or for a while.
    pub fn repeat(&self, fpmd: &Fpmd) -> Vec<String> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let found = self.look(fpmd);
            if found.is_empty() || Instant::now() >= deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn look(&self, fpmd: &Fpmd) -> Vec<String> {
        let (snapshot, sockets) = (fpmd.snapshot(), Sockets::read());
        let mut found = Vec::new();
        processes(fpmd, &snapshot, &mut found);
        let own = beyond_pools(fpmd, &snapshot, &sockets);
        compare("the master", &own, &self.own, &mut found);
        for pool in &snapshot.pools {
            gateway(fpmd, pool, &sockets, &mut found);
            places(fpmd, pool, &mut found);
        }
        self.names(fpmd, &snapshot, &mut found);
        found
    }

    /// Every name in the test's directory is a pool's or known.
    fn names(&self, fpmd: &Fpmd, snapshot: &Snapshot, found: &mut Vec<String>) {
        let mut wanted: BTreeSet<PathBuf> = slots(fpmd).into_values().flatten().collect();
        for pool in &snapshot.pools {
            wanted.extend(pool.listeners.iter().map(|listener| PathBuf::from(&listener.address)));
            if pool.dispatch == "gateway" && pool.state != "stopped" {
                wanted.insert(fpmd.rig.dir.join("run/slots").join(pool.name.as_str()));
            }
        }
        let now = files(fpmd);
        let strange: Vec<_> = now.difference(&self.files).filter(|path| !wanted.contains(*path)).collect();
        if !strange.is_empty() {
            found.push(format!("nobody's files: {strange:?}"));
        }
        let there = |path: &&PathBuf| path.is_absolute() && !now.contains(*path);
        let missing: Vec<_> = wanted.iter().filter(there).collect();
        if !missing.is_empty() {
            found.push(format!("files that are not there: {missing:?}"));
        }
    }
}

/// Everything of ours below the test's directory, which has no large trees.
fn files(fpmd: &Fpmd) -> BTreeSet<PathBuf> {
    let (mut all, mut folders) = (BTreeSet::new(), vec![fpmd.rig.dir.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path == fpmd.rig.dir.join("nginx") {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            all.insert(path);
        }
    }
    all
}

/// The socket files of all slots, by their pool.
fn slots(fpmd: &Fpmd) -> BTreeMap<String, Vec<PathBuf>> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(&fpmd.rig.dir.join("run/slots"))
        .map(|folder| {
            (folder.file_name().unwrap().to_string_lossy().into_owned(), entries(&folder).collect())
        })
        .collect()
}

/// The master's descriptors without those that its pools account for.
fn beyond_pools(fpmd: &Fpmd, snapshot: &Snapshot, sockets: &Sockets) -> Tally {
    let mut tally = sockets.of(fpmd.pid());
    // It is opened when it is needed first.
    if tally.get(&Kind::Netlink) == Some(&1) {
        tally.remove(&Kind::Netlink);
    }
    let mut explain = |kind: Kind, count: i64| *tally.entry(kind).or_default() -= count;
    for pool in &snapshot.pools {
        // Standard output and error.
        explain(Kind::Pipe, 2 * pool.workers.len() as i64);
        pool.listeners.iter().for_each(|listener| explain(Kind::Listener(listener.address.clone()), 1));
        if pool.gateway.is_some() {
            explain(Kind::Pipe, 1);
            explain(Kind::Packets, 1);
            logs(fpmd, pool).into_iter().for_each(|log| explain(Kind::File(log), 1));
        }
    }
    for slot in slots(fpmd).into_values().flatten() {
        explain(Kind::Listener(slot.display().to_string()), 1);
    }
    tally.retain(|_, count| *count != 0);
    tally
}

fn logs(fpmd: &Fpmd, pool: &PoolSnapshot) -> [String; 2] {
    ["access", "slow"].map(|kind| fpmd.rig.dir.join(&format!("{}.{kind}", pool.name)).display().to_string())
}

/// A gateway has nothing but what its clients, its workers and its logs account for.
fn gateway(fpmd: &Fpmd, pool: &PoolSnapshot, sockets: &Sockets, found: &mut Vec<String>) {
    let Some(gateway) = &pool.gateway else { return };
    let mut now = sockets.of(gateway.pid.as_raw());
    let mut wanted = Tally::from([
        // Its log by standard output, standard error and a third one.
        (Kind::Pipe, 3),
        (Kind::Epoll, 2),
        (Kind::Packets, 2),
        (Kind::Datagrams, 8),
    ]);
    wanted.extend(pool.listeners.iter().map(|listener| (Kind::Listener(listener.address.clone()), 1)));
    wanted.extend(logs(fpmd, pool).map(|log| (Kind::File(log), 1)));
    if now.get(&Kind::Netlink) == Some(&1) {
        now.remove(&Kind::Netlink);
    }
    let streams = now.remove(&Kind::Stream).unwrap_or_default();
    // Beside its clients at most one kept connection for each worker.
    let clients = i64::from(gateway.connections);
    if !(clients..=clients + pool.workers.len() as i64).contains(&streams) {
        let workers = pool.workers.len();
        found.push(format!(
            "{}'s gateway has {streams} connections: {clients} clients, {workers} workers",
            pool.name
        ));
    }
    compare(&format!("{}'s gateway", pool.name), &now, &wanted, found);
}

fn compare(whose: &str, now: &Tally, wanted: &Tally, found: &mut Vec<String>) {
    let kinds: BTreeSet<&Kind> = now.keys().chain(wanted.keys()).collect();
    for kind in kinds {
        let count = |tally: &Tally| tally.get(kind).copied().unwrap_or_default();
        let (now, wanted) = (count(now), count(wanted));
        if now != wanted {
            found.push(format!("descriptors of {whose}: {now} instead of {wanted} of {kind:?}"));
        }
    }
}

/// The master's family is what the status says, and nobody is dead and unburied.
fn processes(fpmd: &Fpmd, snapshot: &Snapshot, found: &mut Vec<String>) {
    let workers = snapshot.pools.iter().flat_map(|pool| &pool.workers).map(|worker| worker.pid);
    let gateways = snapshot.pools.iter().filter_map(|pool| pool.gateway.as_ref()).map(|gateway| gateway.pid);
    let known: BTreeSet<i32> = workers.chain(gateways).map(|pid| pid.as_raw()).collect();
    let family = process::descendants(fpmd.pid());
    let strange: Vec<_> = family.iter().filter(|one| one.state == 'Z' || !known.contains(&one.pid)).collect();
    if !strange.is_empty() {
        found.push(format!("processes that the status does not know: {strange:?}"));
    }
    let missing: Vec<_> = known.iter().filter(|pid| !family.iter().any(|one| one.pid == **pid)).collect();
    if !missing.is_empty() {
        found.push(format!("processes that only the status knows: {missing:?}"));
    }
    // Somebody may have got away from its parent.
    let marked = process::marked(MARK, fpmd.rig.dir.path().to_str().unwrap());
    let lost: Vec<_> =
        marked.iter().filter(|one| one.pid != fpmd.pid() && !known.contains(&one.pid)).collect();
    if !lost.is_empty() {
        found.push(format!("processes that belong to nobody: {lost:?}"));
    }
}

/// A slot for each worker, and none too many.
fn places(fpmd: &Fpmd, pool: &PoolSnapshot, found: &mut Vec<String>) {
    let slots = slots(fpmd).remove(pool.name.as_str()).unwrap_or_default().len();
    let workers = if pool.dispatch == "gateway" { pool.workers.len() } else { 0 };
    if slots < workers || (slots > workers && pool.process_manager == "static") {
        found.push(format!("{} has {slots} slots for {workers} workers", pool.name));
    }
}

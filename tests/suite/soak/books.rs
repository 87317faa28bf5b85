//! What has to add up over the whole soak: each request that a gateway has counted is a line in its access log, with the
//! same end; and no process of fpmd's needs more and more memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fpmd::ids::Pid;
use fpmd::status::snapshot::{GatewaySnapshot, Snapshot};

use super::world::World;
use crate::support::process;

/// How long the last lines may be under way.
const SETTLING: Duration = Duration::from_secs(5);

/// Ends of requests, as access logs and counters name them; the counters know no more of the others than their sum.
const COUNTED: [&str; 5] = ["timed-out", "aborted", "broken", "refused-full", "refused-late"];

/// Numbers of requests by their end, and of all.
type Counts = BTreeMap<String, u64>;

/// The books.
pub struct Books {
    /// What the access logs say, by pool, over all that were ever written.
    lines: BTreeMap<String, Counts>,
    /// How far each file is read, by its inode.
    read: BTreeMap<u64, u64>,
    /// Whatever lines and counters differed by when a gateway began to count.
    begun: BTreeMap<String, (Pid, Counts)>,
    memory: Memory,
}

impl Books {
    /// Before anybody has asked for anything.
    pub fn open(world: &World) -> Books {
        let mut books = Books {
            lines: BTreeMap::new(),
            read: BTreeMap::new(),
            begun: BTreeMap::new(),
            memory: Memory::default(),
        };
        books.balance_counts(world, &world.fpmd.snapshot(), &[]);
        books
    }

    /// What does not add up, in sentences.
    pub fn balance(&mut self, world: &mut World, snapshot: &Snapshot) -> Vec<String> {
        let recount = std::mem::take(&mut world.recount);
        let deadline = Instant::now() + SETTLING;
        let mut found = self.balance_counts(world, snapshot, &recount);
        while !found.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            found = self.balance_counts(world, &world.fpmd.snapshot(), &recount);
        }
        self.memory.note(snapshot, &mut found);
        found
    }

    fn balance_counts(&mut self, world: &World, snapshot: &Snapshot, recount: &[&str]) -> Vec<String> {
        self.read_logs(world.fpmd.rig.dir.path());
        let mut found = Vec::new();
        self.begun.retain(|name, _| snapshot.pools.iter().any(|pool| pool.name.as_str() == name));
        for pool in &snapshot.pools {
            let Some(gateway) = &pool.gateway else { continue };
            let name = pool.name.as_str();
            let counts = counts(gateway);
            let lines = self.lines.entry(name.to_owned()).or_default();
            let is_new = !self.begun.contains_key(name) || recount.contains(&name);
            if is_new {
                let before = counts.iter().map(|(end, count)| {
                    (end.clone(), lines.get(end).copied().unwrap_or_default().wrapping_sub(*count))
                });
                self.begun.insert(name.to_owned(), (gateway.pid, before.collect()));
                continue;
            }
            for (end, count) in counts {
                let all = lines.get(&end).copied().unwrap_or_default();
                let since = all.wrapping_sub(self.begun[name].1[&end]);
                if since != count {
                    found
                        .push(format!("{name}: {since} lines '{end}', but {count} are counted: {gateway:?}"));
                }
            }
        }
        found
    }

    /// Reads what is new; what was rotated is removed then.
    fn read_logs(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let Some((pool, rest)) = name.split_once(".access") else {
                if name.contains(".slow.") {
                    fs::remove_file(path).unwrap();
                }
                continue;
            };
            self.read_log(pool, &path);
            if !rest.is_empty() {
                let inode = fs::metadata(&path).unwrap().ino();
                fs::remove_file(path).unwrap();
                self.read.remove(&inode);
            }
        }
    }

    fn read_log(&mut self, pool: &str, path: &PathBuf) {
        let mut file = File::open(path).unwrap();
        let at = self.read.entry(file.metadata().unwrap().ino()).or_default();
        let mut text = String::new();
        file.seek(SeekFrom::Start(*at)).unwrap();
        file.read_to_string(&mut text).unwrap();
        // A line that is half written is read the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        *at += whole as u64;
        let counts = self.lines.entry(pool.to_owned()).or_default();
        for line in text[..whole].lines() {
            let end = line.split(' ').next().unwrap_or_default();
            *counts.entry("all".into()).or_default() += 1;
            *counts.entry(end.to_owned()).or_default() += 1;
        }
    }

    /// All that was written, in a few words.
    pub fn summary(&self) -> String {
        format!("lines: {:?}; memory: {:?}", self.lines, self.memory.0)
    }
}

fn counts(gateway: &GatewaySnapshot) -> Counts {
    let GatewaySnapshot { timed_out, aborted, broken, refused_full, refused_late, .. } = gateway;
    let numbers = [timed_out, aborted, broken, refused_full, refused_late];
    let ends = COUNTED.iter().zip(numbers).map(|(end, count)| ((*end).to_owned(), *count));
    ends.chain([("all".to_owned(), gateway.accepted_conn)]).collect()
}

/// What processes have in memory of their own, RssAnon in proc_pid_status(5), at rest: the most that was seen, kilobytes, by
/// what they are. A leak of a kilobyte a request or a reload shows within minutes.
#[derive(Debug, Default)]
struct Memory(BTreeMap<String, i64>);

/// About 1 MB is usual; a picture of everything for a status comes and goes.
const MASTER: i64 = 3 * 1024;

/// About 1 MB before the first request. 64 requests that are over are kept for the next ones, each with 16 KB at most for its
/// parameters, its body and its answer's head; the allocator may have as much again in pieces.
const GATEWAY: i64 = 1024 + 2 * 64 * 3 * 16;

impl Memory {
    fn note(&mut self, snapshot: &Snapshot, found: &mut Vec<String>) {
        let gateways = snapshot
            .pools
            .iter()
            .filter_map(|pool| Some((pool.name.as_str(), pool.gateway.as_ref()?.pid, GATEWAY)));
        for (what, pid, bound) in gateways.chain([("master", snapshot.pid, MASTER)]) {
            let Some(line) = process::status_line(pid.as_raw(), "RssAnon") else { continue };
            let kilobytes: i64 = line.split(' ').next().unwrap_or_default().parse().unwrap();
            let most = self.0.entry(what.to_owned()).or_default();
            *most = kilobytes.max(*most);
            if kilobytes > bound {
                found.push(format!("{what} has {kilobytes} kB instead of {bound} at most"));
            }
        }
    }
}

//! The fpmd that the soak torments: which pools its file names at the moment, what has been done that may cost a request,
//! and what it looks like when it is at rest.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use fpmd::status::snapshot::{PoolSnapshot, Snapshot};

use crate::support::crowd::{Failure, Target};
use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::workers;

/// How long a pool may take to come to rest on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The pool that comes and goes.
pub const GUEST: &str = "guest";

/// How a pool decides how many workers it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Static,
    Dynamic,
    Ondemand,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Static, Mode::Dynamic, Mode::Ondemand];

    /// The most workers that it may have.
    pub fn most(self) -> u32 {
        match self {
            Mode::Static => 3,
            Mode::Dynamic => 6,
            Mode::Ondemand => 5,
        }
    }
}

/// A second address that a pool listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    Path,
    Abstract,
    Tcp,
}

impl Second {
    pub const ALL: [Second; 3] = [Second::Path, Second::Abstract, Second::Tcp];

    /// In the words of the file.
    fn words(self, pool: &str) -> String {
        match self {
            Second::Path => format!("{{dir}}/{pool}-2.sock"),
            Second::Abstract => format!("@fpmd-soak-{}-{pool}", std::process::id()),
            Second::Tcp => "127.0.0.1:0".to_owned(),
        }
    }
}

/// What the configuration file says of a pool.
#[derive(Debug, Clone)]
pub struct Shape {
    pub name: &'static str,
    pub mode: Mode,
    pub dispatch: Dispatch,
    /// Beside its socket in the test's directory.
    pub second: Option<Second>,
    /// Changes that only reach new workers, each of which has another number.
    pub edition: u32,
}

impl Shape {
    fn new(name: &'static str, mode: Mode, dispatch: Dispatch) -> Shape {
        Shape { name, mode, dispatch, second: None, edition: 0 }
    }

    /// The one that comes and goes.
    pub fn guest(mode: Mode, dispatch: Dispatch) -> Shape {
        Shape::new(GUEST, mode, dispatch)
    }

    pub fn pool(&self) -> Pool {
        let Shape { name, mode, dispatch, .. } = self;
        let command = if *name == "php" { workers::php() } else { workers::c() };
        let word = format!("{mode:?}").to_lowercase();
        let edition = format!("{{ EDITION = \"{}\" }}", self.edition);
        let mut pool = Pool::new(name, &command)
            .dispatch(*dispatch)
            .mode(&word)
            .workers(mode.most())
            .key("env", &edition);
        if let Some(second) = self.second {
            pool = pool.listen(&[&format!("{{dir}}/{name}.sock"), &second.words(name)]);
        }
        match mode {
            Mode::Static => {}
            Mode::Dynamic => pool = pool.pm("min_spare_servers", "1").pm("max_spare_servers", "2"),
            Mode::Ondemand => {}
        }
        if *mode != Mode::Static {
            pool = pool.pm("process_idle_timeout", "\"300ms\"");
        }
        match dispatch {
            Dispatch::Gateway => routed(pool),
            // Where clients never cease to come, the last worker to leave is never idle.
            Dispatch::Direct => pool.key("stop_timeout", "\"2s\""),
        }
    }
}

/// Everything that only a gateway can do, with so little memory that bodies go to files.
fn routed(pool: Pool) -> Pool {
    let file = |kind: &str| format!("\"{{dir}}/{}.{kind}\"", pool.name());
    let (access, slow) = (file("access"), file("slow"));
    pool.key("access_log", &access)
        .key("access_format", "\"%x %s %r\"")
        .key("slowlog", &slow)
        .key("request_slowlog_timeout", "\"1h\"")
        .key("request_buffer", "\"8K\"")
        .key("response_buffer", "\"8K\"")
        .key("buffer_directory", "\"{dir}/buffer\"")
        .key("status_path", "\"/fpm-status\"")
        .key("ping_path", "\"/fpm-ping\"")
}

/// Something that may cost requests of a pool that were under way in this time.
#[derive(Debug, Clone)]
pub struct Excuse {
    pub pool: &'static str,
    pub from: Instant,
    pub to: Instant,
    pub why: &'static str,
    /// How many requests it may cost.
    pub most: usize,
}

impl Excuse {
    fn covers(&self, failure: &Failure) -> bool {
        failure.pool == self.pool && failure.began <= self.to && self.from <= failure.ended
    }
}

/// fpmd, and what has been done to it.
pub struct World {
    pub fpmd: Fpmd,
    pub shapes: BTreeMap<&'static str, Shape>,
    pub excuses: Vec<Excuse>,
    /// Times that logs were rotated.
    pub rotations: usize,
    /// Pools that may have another number of workers than the file says.
    pub scaled: Vec<&'static str>,
    /// Pools whose gateways have begun to count anew since the last rest.
    pub recount: Vec<&'static str>,
}

impl World {
    /// Started and ready. `expected`: pieces of warnings.
    pub fn start(expected: &[&str]) -> World {
        let shapes = [
            Shape::new("c", Mode::Static, Dispatch::Gateway),
            Shape::new("php", Mode::Dynamic, Dispatch::Gateway),
            Shape::new("direct", Mode::Static, Dispatch::Direct),
        ];
        let shapes: BTreeMap<_, _> = shapes.into_iter().map(|shape| (shape.name, shape)).collect();
        let mut rig = Rig::new().linked();
        let buffer = rig.dir.join("buffer");
        fs::create_dir(&buffer).unwrap();
        // Gateways are nobody's, where root started them.
        fs::set_permissions(&buffer, fs::Permissions::from_mode(0o777)).unwrap();
        for shape in shapes.values() {
            rig = rig.pool(shape.pool());
        }
        for piece in expected {
            rig = rig.expect(piece);
        }
        let mut fpmd = rig.start();
        fpmd.descriptors_may_change();
        World { fpmd, shapes, excuses: Vec::new(), rotations: 0, scaled: Vec::new(), recount: Vec::new() }
    }

    /// The pools that are always there, for clients.
    pub fn targets(&self) -> Vec<Target> {
        let target = |shape: &Shape| Target {
            name: shape.name.to_owned(),
            socket: self.fpmd.socket(shape.name),
            is_shielded: shape.dispatch == Dispatch::Gateway,
        };
        self.shapes.values().map(target).collect()
    }

    /// Makes the file say what `shapes` do.
    pub fn write(&mut self) {
        self.write_but(|_, pool| pool);
    }

    /// Makes the file say what `shapes` do, but for a change.
    pub fn write_but(&mut self, change: impl Fn(&str, Pool) -> Pool) {
        let pools: Vec<Pool> = self.shapes.values().map(|shape| change(shape.name, shape.pool())).collect();
        self.fpmd.rewrite(&pools);
    }

    /// Puts another value of one pool's settings in force, without new workers.
    pub fn change(&mut self, name: &str, change: impl Fn(Pool) -> Pool) {
        self.write_but(|other, pool| if other == name { change(pool) } else { pool });
        self.fpmd.ctl_done(&["reload", "--changed"]);
    }

    /// Takes back all that `change` has changed.
    pub fn change_back(&mut self) {
        self.write();
        self.fpmd.ctl_done(&["reload", "--changed"]);
    }

    /// May cost so many requests between the two.
    pub fn excuse(&mut self, pool: &'static str, from: Instant, why: &'static str, most: usize) {
        self.excuses.push(Excuse { pool, from, to: Instant::now(), why, most });
    }

    /// Holds each failure against what was done, which is forgotten then: what it has cost, and what nothing explains.
    pub fn judge(&mut self, failures: Vec<Failure>) -> (BTreeMap<&'static str, usize>, Vec<String>) {
        let mut excuses = std::mem::take(&mut self.excuses);
        let (mut costs, mut unexplained) = (BTreeMap::new(), Vec::new());
        for failure in failures {
            match excuses.iter_mut().find(|excuse| excuse.most > 0 && excuse.covers(&failure)) {
                Some(excuse) => {
                    excuse.most -= 1;
                    *costs.entry(excuse.why).or_default() += 1;
                }
                None => unexplained.push(failure.to_string()),
            }
        }
        (costs, unexplained)
    }

    /// Waits until every pool is at rest, with as many workers as it should have.
    pub fn rest(&self) -> Result<Snapshot, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.fpmd.snapshot();
            let restless = self.restless(&snapshot);
            if restless.is_empty() {
                return Ok(snapshot);
            }
            if Instant::now() >= deadline {
                return Err(format!("not at rest after {PATIENCE:?}: {restless:#?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn restless(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        if snapshot.state != "running" {
            found.push(format!("fpmd is {}", snapshot.state));
        }
        let names: Vec<&str> = snapshot.pools.iter().map(|pool| pool.name.as_str()).collect();
        if names != self.shapes.keys().copied().collect::<Vec<_>>() {
            found.push(format!("the pools are {names:?}"));
        }
        for pool in &snapshot.pools {
            if let Some(shape) = self.shapes.get(pool.name.as_str())
                && let Err(what) = is_at_rest(shape, pool)
            {
                found.push(format!("{what}: {pool:#?}"));
            }
        }
        found
    }
}

fn is_at_rest(shape: &Shape, pool: &PoolSnapshot) -> Result<(), String> {
    let (total, most) = (pool.total_processes, shape.mode.most());
    let number_is_right = match shape.mode {
        Mode::Static => total == most,
        Mode::Dynamic => (1..=2).contains(&total),
        Mode::Ondemand => total == 0,
    };
    let state = |name: &str| pool.workers.iter().filter(|worker| worker.state == name).count() as u32;
    let queued = pool.listeners.iter().filter_map(|listener| listener.queue).sum::<u32>();
    let checks = [
        (pool.state == "running", "not running"),
        (pool.max_children == most, "another number of workers than the file says"),
        (number_is_right, "too many or too few workers"),
        (pool.workers.len() as u32 == total && state("running") == total, "workers come or go"),
        (pool.idle_processes == total && pool.active_processes == 0, "workers are not idle"),
        (pool.workers.iter().all(|worker| worker.generation == pool.generation), "old workers"),
        (queued == 0, "connections wait"),
        (pool.listeners.len() == 1 + usize::from(shape.second.is_some()), "another number of sockets"),
        (pool.gateway.is_some() == (shape.dispatch == Dispatch::Gateway), "no gateway"),
        (pool.gateway.as_ref().is_none_or(|gateway| gateway.listen_queue == 0), "requests wait"),
        (pool.reason.is_none() && pool.retry_in.is_none(), "something has failed"),
    ];
    let failed = checks.into_iter().find(|(is_so, _)| !is_so);
    failed.map_or(Ok(()), |(_, what)| Err(format!("{}: {what}", pool.name)))
}

//! Control groups: limits that hold, the words for what the kernel does then, and limits that cannot be had.
//!
//! Controllers are seldom at hand where tests run. `FPMD_TEST_UML=PATH` of a User-Mode Linux kernel (Debian:
//! user-mode-linux, `/usr/bin/linux.uml`) runs these tests in a virtual machine that has them; it takes about half a
//! minute and neither KVM nor root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fpmd::status::snapshot::PoolSnapshot;

use crate::support::daemon::{Pool, Rig};
use crate::support::{as_root, wait_until, workers};

/// A group such as a service manager would delegate to fpmd; removed at the end.
struct Unit {
    path: PathBuf,
}

impl Unit {
    /// `None`, with the reason printed, where there can be none.
    fn new(test: &str) -> Option<Unit> {
        if !as_root(test) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let path = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
        });
        let path = mount.map(|mount| mount.join(format!("fpmd-suite-{}-{test}", std::process::id())));
        let made = path.filter(|path| fs::create_dir(path).is_ok());
        if made.is_none() {
            eprintln!("skipped: {test}: no control group of version 2 can be made");
        }
        made.map(|path| Unit { path })
    }

    /// As `new`, with all controllers that the limits need.
    fn with_controllers(test: &str) -> Option<Unit> {
        let unit = Unit::new(test)?;
        if unit.has_controllers() {
            return Some(unit);
        }
        eprintln!("skipped: {test}: no cpu, memory and pids controllers here; FPMD_TEST_UML brings them");
        None
    }

    fn has_controllers(&self) -> bool {
        let found = fs::read_to_string(self.path.join("cgroup.controllers")).unwrap();
        ["cpu", "memory", "pids"].iter().all(|name| found.split_whitespace().any(|word| word == *name))
    }

    /// An fpmd that is alone in it.
    fn rig(&self) -> Rig {
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.path.display());
        Rig::new().wrapper(&["/bin/sh", "-c", &join, "sh"])
    }

    /// The only group of a pool.
    fn group(&self, pool: &str) -> PathBuf {
        let ending = format!("-{pool}");
        let entries = fs::read_dir(&self.path).unwrap().flatten().map(|entry| entry.path());
        let found = entries.filter(|path| path.is_dir() && path.to_string_lossy().ends_with(&ending));
        let found: Vec<PathBuf> = found.collect();
        let [group] = &found[..] else { panic!("groups of pool {pool}: {found:?}") };
        group.clone()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let left =
            || fs::read_dir(&self.path).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
        if !std::thread::panicking() {
            assert_eq!(left(), 0, "groups are left in {}", self.path.display());
            fs::remove_dir(&self.path).unwrap();
        }
    }
}

#[track_caller]
fn content(path: &Path, file: &str) -> String {
    let path = path.join(file);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim_end()
        .to_owned()
}

/// The virtual machine's kernel does not tell what a process waits for, so that nobody is seen ready or idle there.
fn pool(command: &[String]) -> Pool {
    Pool::new("www", command).hasty().key("start_timeout", "\"2s\"")
}

fn limited() -> Pool {
    pool(&workers::c())
        .workers(2)
        .key("memory_max", "\"64M\"")
        .key("memory_high", "\"60M\"")
        .key("cpu_weight", "50")
        .key("cpu_max", "\"150%\"")
        .key("pids_max", "20")
}

#[test]
fn a_worker_that_is_killed_for_want_of_memory_is_named_and_counted() {
    let Some(unit) = Unit::with_controllers("memory") else { return };
    let limit = "killed by the kernel: out of memory, the pool's memory_max is 64M";
    let fpmd = unit
        .rig()
        .pool(limited().without("memory_high"))
        .expect(limit)
        .expect("SIGKILL")
        .expect("closed its connection")
        .start();
    let group = unit.group("www");
    assert_eq!(content(&group, "memory.max"), (64 << 20).to_string());
    // Limits and counts belong to the groups, which the next program goes on with.
    fpmd.ctl_done(&["upgrade"]);
    assert_eq!(content(&group, "memory.max"), (64 << 20).to_string());
    let address = fpmd.address("www");
    assert!(address.get("/hold/1000000").is_ok(), "{}", fpmd.log());
    assert_eq!(fpmd.pool("www").cgroup.and_then(|group| group.oom_kills), Some(0));
    // What the client sees of it is another test's subject; a GET would be tried on the other worker, too.
    let _ = address.ask("POST", "/hold/200000000", b"");
    fpmd.wait_log(limit);
    let pool = fpmd.wait_pool("www", "two workers again", |pool| {
        pool.workers.iter().filter(|worker| worker.state == "running").count() == 2
    });
    let counted = pool.cgroup.expect("a control group");
    assert_eq!((counted.oom_kills, counted.memory_max), (Some(1), Some(64 << 20)));
    assert!(counted.memory.is_some_and(|bytes| bytes > 0 && bytes < 64 << 20), "{counted:?}");
    assert!(address.get("/pid").is_ok());
    assert!(fpmd.ctl_done(&["status", "--full"]).contains("limit 64M; 1 killed for want of memory"));
    fpmd.finish();
}

#[test]
fn a_worker_with_a_limit_of_its_own_leaves_the_others_alone() {
    let Some(unit) = Unit::with_controllers("worker") else { return };
    let limit = "killed by the kernel: out of memory, its worker_memory_max is 32M";
    let expected = [limit, "SIGKILL", "closed its connection"];
    let pool = pool(&workers::c()).workers(2).key("worker_memory_max", "\"32M\"");
    let rig = expected.iter().fold(unit.rig().pool(pool), |rig, piece| rig.expect(piece));
    let fpmd = rig.start();
    let group = unit.group("www");
    let below = || fs::read_dir(&group).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    // Two workers, and where those without a limit would be.
    assert_eq!(below(), 3);
    assert_eq!(content(&group, "memory.max"), "max");
    assert_eq!(content(&group, "worker-1/memory.max"), (32 << 20).to_string());
    for kills in 1..=2 {
        let _ = fpmd.address("www").ask("POST", "/hold/100000000", b"");
        wait_until("a kill that is named", || fpmd.log().matches(limit).count() == kills);
        let replaced = |pool: &PoolSnapshot| {
            let running = pool.workers.iter().filter(|worker| worker.state == "running").count();
            running == 2 && pool.started == 2 + kills as u64
        };
        let pool = fpmd.wait_pool("www", "two workers again", replaced);
        assert_eq!(pool.cgroup.and_then(|group| group.oom_kills), Some(kills as u64));
        assert_eq!(below(), 3);
        // The next one is the next program's to name.
        fpmd.ctl_done(&["upgrade"]);
    }
    fpmd.finish();
}

#[test]
fn a_reload_changes_limits_without_new_workers() {
    let Some(unit) = Unit::with_controllers("reload") else { return };
    let mut fpmd = unit.rig().pool(limited()).start();
    let group = unit.group("www");
    let files = ["memory.max", "memory.high", "cpu.weight", "cpu.max", "pids.max"];
    let read = || files.map(|file| content(&group, file));
    assert_eq!(read(), ["67108864", "62914560", "50", "150000 100000", "20"]);
    let before = fpmd.workers("www");
    fpmd.rewrite(&[limited().key("memory_max", "\"80M\"").without("cpu_max").without("pids_max")]);
    fpmd.ctl_done(&["reload", "--changed"]);
    assert_eq!(read(), ["83886080", "62914560", "50", "max 100000", "max"]);
    assert_eq!(fpmd.workers("www"), before);
    fpmd.rewrite(&[pool(&workers::c()).workers(2)]);
    fpmd.ctl_done(&["reload"]);
    assert_eq!(read(), ["max", "max", "100", "max 100000", "max"]);
    fpmd.finish();
}

#[test]
fn too_many_processes_cannot_be_started() {
    let Some(unit) = Unit::with_controllers("pids") else { return };
    // The shell and what it starts; what is left is killed at the stop, whatever session it is in.
    let script = "(for i in 1 2 3 4 5 6 7 8 9; do setsid sleep 1000 & done); exec sleep 1000";
    let command = ["/bin/sh", "-c", script].map(str::to_owned);
    let pool = pool(&command).key("dispatch", "\"direct\"").key("pids_max", "6");
    let fpmd = unit.rig().pool(pool).expect("ork").expect("left").expect("orphan").expect("www").start();
    let group = unit.group("www");
    let refused =
        || content(&group, "pids.events").starts_with("max ") && content(&group, "pids.events") != "max 0";
    wait_until("a fork that is refused", refused);
    assert!(content(&group, "pids.current").parse::<u32>().unwrap() <= 6);
    fpmd.finish();
    assert!(!group.exists());
}

#[test]
fn a_pool_gets_no_more_of_the_cpu_than_its_part() {
    let Some(unit) = Unit::with_controllers("cpu") else { return };
    let command = ["/bin/sh", "-c", "while :; do :; done"].map(str::to_owned);
    let pool = pool(&command).key("dispatch", "\"direct\"").key("cpu_max", "\"10%\"");
    let fpmd = unit.rig().pool(pool).expect("www").start();
    let group = unit.group("www");
    let throttled = || {
        let text = content(&group, "cpu.stat");
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u32>().ok());
        count.is_some_and(|count| count > 2)
    };
    wait_until("the pool to be held back", throttled);
    fpmd.finish();
}

#[test]
fn limits_that_cannot_be_had_are_named_once_and_the_pool_runs() {
    let Some(unit) = Unit::new("without") else { return };
    if unit.has_controllers() {
        return eprintln!("skipped: every controller is here");
    }
    let fpmd = unit.rig().pool(limited()).expect("not in force").start();
    let log = fpmd.log();
    let line =
        "[pool www] memory_max, memory_high are not in force: fpmd's control group has no memory controller";
    assert_eq!(log.matches(line).count(), 1, "{log}");
    assert_eq!(log.matches("not in force").count(), 3, "{log}");
    let worker = fpmd.workers("www")[0];
    fpmd.ctl_done(&["kill", &worker.to_string()]);
    assert!(fpmd.address("www").get("/pid").is_ok());
    assert_eq!(fpmd.log().matches("not in force").count(), 3, "{}", fpmd.log());
    fpmd.finish();
}

/// Runs the tests above where they are not skipped.
#[test]
fn in_a_virtual_machine() {
    let Some(kernel) = std::env::var_os("FPMD_TEST_UML") else {
        return eprintln!("skipped: FPMD_TEST_UML names no User-Mode Linux kernel");
    };
    let dir = crate::support::dir::Dir::new();
    let fixture = workers::fixture("vm/init.sh");
    let tests = std::env::current_exe().unwrap();
    let mut machine = Command::new(kernel)
        .args(["mem=512M", "rootfstype=hostfs", "rootflags=/", "root=/dev/root", "ro", "quiet"])
        .args(["con=null", "con0=null,fd:1", "ssl=null", "cgroup_no_v1=all", "panic=-1"])
        .arg(format!("umid=fpmd{}", std::process::id()))
        .arg(format!("uml_dir={}/", dir.path().display()))
        .arg(format!("init={}", fixture.display()))
        .arg(format!("FPMD_VM_TESTS={}", tests.display()))
        .arg(format!("FPMD_VM_SCRATCH={}", env!("CARGO_TARGET_TMPDIR")))
        // Where the machine's memory is.
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.join("console")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while machine.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            machine.kill().unwrap();
            machine.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let console = String::from_utf8_lossy(&fs::read(dir.join("console")).unwrap()).into_owned();
    assert!(console.contains("tests in the virtual machine ended with 0"), "{console}");
    let skipped: Vec<&str> = console.lines().filter(|line| line.contains("skipped:")).collect();
    assert_eq!(skipped.len(), 2, "only what needs a machine without controllers, and this:\n{skipped:?}");
}

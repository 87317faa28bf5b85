//! Upgrades in place: the same process and the same workers under another program, nothing lost, nothing forgotten; and a
//! new program that cannot go on changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use fpmd::status::snapshot::PoolSnapshot;
use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Ran, Rig, fpmctl};
use crate::support::{Load, as_root, process, wait_until, workers};

/// What must be the same before and after.
pub fn gist(pool: &PoolSnapshot) -> impl PartialEq + std::fmt::Debug + use<> {
    let workers: Vec<_> = pool
        .workers
        .iter()
        .map(|worker| (worker.id, worker.pid, worker.generation, worker.state.clone()))
        .collect();
    (pool.state.clone(), pool.generation, pool.started, pool.crashed, pool.killed, pool.recycled, workers)
}

fn is_up(pool: &PoolSnapshot, workers: u32) -> bool {
    pool.idle_processes == workers && pool.workers.iter().all(|worker| worker.state == "running")
}

#[track_caller]
pub fn upgrade(fpmd: &Fpmd) {
    let pid = fpmd.pid();
    let before = fpmd.log().matches("has taken over").count();
    let said = fpmd.ctl_done(&["upgrade"]);
    assert!(said.contains("is upgraded"), "{said}");
    assert_eq!(fpmd.log().matches("has taken over").count(), before + 1);
    assert_eq!(fpmd.snapshot().pid.as_raw(), pid);
}

/// Runs fpmctl while the test goes on.
pub fn beside(fpmd: &Fpmd, arguments: &[&str]) -> thread::JoinHandle<Ran> {
    let socket = fpmd.control();
    let words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    thread::spawn(move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        fpmctl(&[&["--socket", socket.to_str().unwrap()], words.as_slice()].concat())
    })
}

#[test]
fn everything_is_as_it_was_and_goes_on_from_there_in_direct_mode() {
    everything_is_as_it_was(Dispatch::Direct);
}

#[test]
fn everything_is_as_it_was_and_goes_on_from_there_with_a_gateway() {
    everything_is_as_it_was(Dispatch::Gateway);
}

#[track_caller]
fn everything_is_as_it_was(dispatch: Dispatch) {
    let fpmd = Rig::new()
        .pool(Pool::new("www", &workers::c()).workers(2).dispatch(dispatch))
        .pool(Pool::new("idle", &workers::c()))
        .expect("SIGKILL")
        .start();
    fpmd.ctl_done(&["scale", "www", "3"]);
    fpmd.ctl_done(&["restart", "www"]);
    fpmd.ctl_done(&["stop", "idle"]);
    process::end(fpmd.workers("www")[1]);
    let before = fpmd.wait_pool("www", "another worker", |pool| pool.crashed == 1 && is_up(pool, 3));
    let inode = || fs::metadata(fpmd.socket("www")).unwrap().ino();
    let socket = inode();
    for _ in 0..3 {
        upgrade(&fpmd);
        assert_eq!(gist(&fpmd.pool("www")), gist(&before));
        assert_eq!(inode(), socket);
        assert_eq!(fpmd.pool("idle").state, "stopped");
        fpmd.address("www").get("/pid").unwrap();
    }
    assert_eq!(fpmd.snapshot().config, Some(fpmd.rig.dir.join("fpmd.toml").display().to_string()));
    // It has the same children, and does with them what it did.
    process::end(fpmd.workers("www")[0]);
    fpmd.wait_pool("www", "a replacement", |pool| pool.crashed == 2 && is_up(pool, 3));
    fpmd.ctl_done(&["start", "idle"]);
    fpmd.ctl_done(&["reload", "www"]);
    let after = fpmd.pool("www");
    assert_eq!((after.generation.0, after.total_processes), (before.generation.0 + 1, 3));
    fpmd.ctl_done(&["scale", "www", "2"]);
    fpmd.finish();
}

pub fn good(answer: std::io::Result<crate::support::fastcgi::Answer>) -> Result<(), String> {
    match answer {
        Ok(answer) if !answer.head.starts_with("Status: 5") && !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn nothing_is_lost_under_load_in_direct_mode() {
    let fpmd =
        Rig::new().pool(Pool::new("www", &workers::php()).workers(3).dispatch(Dispatch::Direct)).start();
    let address = fpmd.address("www");
    let before = fpmd.workers("www");
    let load = Load::start(4, move || good(address.get("/slow/3")));
    (0..5).for_each(|_| upgrade(&fpmd));
    let (answered, bad) = load.stop();
    assert_eq!(bad, [""; 0]);
    assert!(answered > 20, "{answered}");
    assert_eq!(fpmd.workers("www"), before);
    fpmd.finish();
}

#[test]
fn a_request_that_is_under_way_is_answered_by_the_same_worker() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::php())).start();
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/700", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    upgrade(&fpmd);
    assert_eq!(fpmd.pool("www").active_processes, 1);
    assert!(!connection.answer().unwrap().body.is_empty());
    fpmd.finish();
}

#[test]
fn whoever_waits_is_answered_by_the_new_program() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::php())).start();
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/700", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let stop = beside(&fpmd, &["stop", "www"]);
    fpmd.wait_pool("www", "stopping", |pool| pool.state == "stopping");
    upgrade(&fpmd);
    assert!(!connection.answer().unwrap().body.is_empty());
    let stopped = stop.join().unwrap();
    assert_eq!((stopped.code, stopped.out.as_str()), (Some(0), "www is stopped\n"), "{stopped:?}");
    fpmd.finish();
}

#[test]
fn the_log_goes_on_in_the_same_file_and_in_the_same_line() {
    let script = "printf 'one half, ' >&2; until [ -e \"$0.go\" ]; do sleep 0.02; done; echo 'the other' >&2; exec sleep 1000";
    let mut command = workers::shell(script);
    let rig = Rig::new();
    command.push(rig.dir.join("said").to_str().unwrap().to_owned());
    let rig = rig.pool(Pool::new("www", &command).hasty()).global("log", "\"{dir}/own.log\"");
    let fpmd = rig.expect("the other").start();
    let (log, old) = (fpmd.rig.dir.join("own.log"), fpmd.rig.dir.join("own.log.1"));
    fs::rename(&log, &old).unwrap();
    let said = fpmd.ctl_done(&["upgrade"]);
    assert!(said.contains("is upgraded"), "{said}");
    fpmd.rig.dir.write("said.go", "");
    wait_until("the whole line", || fs::read_to_string(&old).unwrap().contains("one half, the other"));
    assert!(fs::read_to_string(&old).unwrap().contains("has taken over"));
    assert!(!log.exists());
    fpmd.ctl_done(&["reopen"]);
    assert!(log.exists());
    fpmd.finish();
}

#[test]
fn a_back_off_is_kept() {
    let rig = Rig::new().pool(Pool::new("www", &workers::shell("exit 3"))).expect("[pool www]");
    let fpmd = rig.start();
    let before = fpmd.wait_pool("www", "a long back-off", |pool| pool.crashed >= 6);
    upgrade(&fpmd);
    let after = fpmd.pool("www");
    assert_eq!(after.state, "backing off", "{after:?}");
    assert!(after.crashed >= before.crashed && after.reason == before.reason, "{before:?} {after:?}");
    // Those that a program without a memory would start at once: two in no time, and one after 100 ms.
    assert!(after.crashed <= before.crashed + 1, "{before:?} {after:?}");
    fpmd.finish();
}

/// A program that is asked and refuses.
#[track_caller]
fn refused(fpmd: &Fpmd, why: &str) {
    let before = gist(&fpmd.pool("www"));
    let ran = fpmd.ctl(&["upgrade"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("cannot upgrade") && ran.err.contains(why), "{why}: {ran:?}");
    assert_eq!(gist(&fpmd.pool("www")), before);
    assert!(!fpmd.log().contains("has taken over"));
    fpmd.address("www").get("/pid").unwrap();
}

#[test]
fn a_program_that_cannot_go_on_changes_nothing() {
    let rig = Rig::new().linked().pool(Pool::new("www", &workers::c()).workers(2)).expect("cannot upgrade");
    let fpmd = rig.expect("refuses").expect("broken indeed").expect("take-over-trial").start();
    let program = |text: &str| fpmd.rig.dir.program("other", text);
    fpmd.rig.install(Path::new("/nowhere/fpmd"));
    refused(&fpmd, "No such file");
    let other = program("#!/bin/sh\necho 'broken indeed' >&2\nexit 1\n");
    fpmd.rig.install(&other);
    refused(&fpmd, "broken indeed");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&fpmd, "Permission denied");
    fpmd.rig.install(&program("#!/bin/sh\nkill -SEGV $$\n"));
    refused(&fpmd, "SIGSEGV");
    fpmd.rig.install(Path::new("/bin/true"));
    refused(&fpmd, "does not know how to take over");
    // A version that knows nothing of upgrades.
    fpmd.rig.install(Path::new("/bin/ls"));
    refused(&fpmd, "take-over-trial");
    fpmd.rig.install(Path::new(env!("CARGO_BIN_EXE_fpmd")));
    upgrade(&fpmd);
    fpmd.finish();
}

#[test]
fn a_program_that_never_answers_is_given_up() {
    let rig = Rig::new().linked().pool(Pool::new("www", &workers::c())).expect("has not answered");
    let fpmd = rig.start();
    fpmd.rig.install(&fpmd.rig.dir.program("other", "#!/bin/sh\nexec sleep 1000\n"));
    let first = beside(&fpmd, &["upgrade"]);
    fpmd.wait_log("trying");
    let second = fpmd.ctl(&["upgrade"]);
    assert!(second.err.contains("an upgrade is in progress"), "{second:?}");
    let first = first.join().unwrap();
    assert_eq!(first.code, Some(1));
    assert!(first.err.contains("has not answered"), "{first:?}");
    fpmd.address("www").get("/pid").unwrap();
    let mut fpmd = fpmd;
    fpmd.expect("an upgrade is in progress");
    fpmd.finish();
}

/// fpmd under a program that first changes what was written down, by an expression on `state`.
pub fn altered(fpmd: &Fpmd, change: &str) -> PathBuf {
    let (python, fpmd_path) = (workers::interpreter(), env!("CARGO_BIN_EXE_fpmd"));
    let text = format!(
        r#"#!{python}
import json, os, sys
note = os.environ.get("FPMD_TAKE_OVER")
number = int(note.split(":")[1]) if note else 0
state = json.loads(os.fdopen(os.dup(number)).read())
{change}
changed = os.memfd_create("changed")
os.write(changed, json.dumps(state).encode())
os.lseek(changed, 0, 0)
os.dup2(changed, number)
os.execv({fpmd_path:?}, sys.argv)
"#,
        python = python.display()
    );
    fpmd.rig.dir.program("altered", &text)
}

#[test]
fn a_state_of_the_future_is_refused() {
    let rig = Rig::new().linked().pool(Pool::new("www", &workers::c())).expect("cannot upgrade");
    let fpmd = rig.expect("refuses").expect("it is newer").expect("too old").start();
    fpmd.rig.install(&altered(&fpmd, "state['version'] += 1; state['supervisor'] = 'unheard-of'"));
    refused(&fpmd, "it is newer");
    fpmd.rig.install(&altered(&fpmd, "state['version'] = 0"));
    refused(&fpmd, "too old");
    fpmd.rig.install(&altered(&fpmd, "pass"));
    upgrade(&fpmd);
    fpmd.finish();
}

#[test]
fn a_state_of_the_version_before_is_taken_over() {
    let rig = Rig::new().linked().pool(Pool::new("www", &workers::c()).dispatch(Dispatch::Gateway));
    let fpmd = rig.start();
    let before = fpmd.pool("www");
    let change = "\
assert state['version'] == 2
state['version'] = 1
state['release'] = '0.0.9'
del state['gateways']['handing']
for pool in state['gateways']['pools'].values():
    del pool['clients'], pool['counts']";
    fpmd.rig.install(&altered(&fpmd, change));
    let said = fpmd.ctl_done(&["upgrade"]);
    assert!(said.contains("from 0.0.9 to"), "{said}");
    assert_eq!(gist(&fpmd.pool("www")), gist(&before));
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn what_is_half_done_is_waited_for_or_named() {
    let rig = Rig::new().pool(Pool::new("www", &workers::php()).workers(2)).expect("is being reloaded");
    let mut fpmd = rig.start();
    fpmd.rewrite(&[Pool::new("www", &workers::shell("sleep 2; exec /usr/bin/php-cgi")).workers(2)]);
    let reload = beside(&fpmd, &["reload"]);
    fpmd.wait_pool("www", "reloading", |pool| pool.state == "reloading");
    let ran = fpmd.ctl(&["upgrade"]);
    assert!(ran.err.contains("pool www is being reloaded"), "{ran:?}");
    assert_eq!(reload.join().unwrap().code, Some(0));
    upgrade(&fpmd);
    fpmd.finish();
}

#[test]
fn as_process_1_of_a_namespace_too() {
    if !as_root("as_process_1_of_a_namespace_too") {
        return;
    }
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|ran| ran.success()) {
        return eprintln!("skipped: no PID namespace can be made");
    }
    let rig = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).wrapper(&unshare);
    let fpmd = rig.start();
    let before = fpmd.pool("www");
    assert_eq!(fpmd.snapshot().pid.as_raw(), 1);
    let said = fpmd.ctl_done(&["upgrade"]);
    assert!(said.contains("is upgraded"), "{said}");
    assert_eq!(gist(&fpmd.pool("www")), gist(&before));
    fpmd.signal(Signal::SIGTERM);
    fpmd.finish_stopped();
}
